"""The live stream and small notes on Redis or Valkey, and how an entity is erased there.

The stream is one key, of the server's own kind for that: each line has the id that the server gave it. A note is a text
with an expiry, under a hash of its name.

Erasing looks at every key of every server that holds a slot, in pieces (SCAN) that take it some tenths of a
millisecond each: keys that an entity shares with others, and leaderboards, cannot be named without. The server picks
out what has the beginning of an id somewhere in its name; what that is about is read here, and compared in full, so no
key of a similar name is lost.

On a cluster keys move: one that leaves a server before it was looked for there may come to another one after. So all
are gone through twice, by the same servers: whatever moves once in that time stays where it is in one of the two.

Bugs: several entities whose joined name was too long to be a key (`reputation.spelling.shortened`) are kept under a
hash of it, and are not found when one of them is erased; nor is it among the different values (``distinct``) that were
counted about others. Both expire. A server that is new in its cluster, and holds no whole slot yet, is not asked.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence

import hiredis

from reputation.contracts import MAX_KEPT_TEXT, MAX_STREAMED, STREAM_SECONDS, Streamed
from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.keys import Entity, is_about, parts_of
from reputation.store import functions
from reputation.store.address import StoreUrl
from reputation.store.connection import Reply, packed
from reputation.store.node import Node, error_of
from reputation.store.redis_reports import RedisReports

Part = tuple[int, bytes]
"""What goes to one server in one call: the slot it is about, and the command."""
PIECE_SECONDS = 2.0
"""The longest wait for one piece."""
LOOKED_AT_ONCE = 1_000
"""Keys of a piece, about."""
MAX_PIECES = 1_000_000
MAX_ROUNDS = 10
SOUGHT_LETTERS = 32
"""Of an id: all of a long one that is one letter again and again would keep a server for tens of milliseconds."""

_GLOB = re.compile(r"([\\*?\[\]^])")
_ABOUT = re.compile(rb"\{([a-z_+]+):([^{}]*)\}:")
_BOARD = re.compile(rb"\{top:([a-z_+]+):[^{}]*\}:board:\d+")


class RedisNotes(RedisReports):
    """Fulfils `StreamStore`, `NoteStore` and `forget`, for a store that can send commands."""

    def __init__(self, url: StoreUrl, prefix: str) -> None:
        super().__init__(url, prefix)
        self._stream = f"{prefix}:{{stream}}:verdicts"

    async def _sent_patiently(self, parts: Sequence[Part]) -> list[Reply]:
        """The replies to some commands for which no mail waits; raises the first that is an error."""
        raise NotImplementedError

    async def _holders(self) -> frozenset[Node]:
        """All servers that hold a slot, found out anew. Raises `StoreUnavailable` where one is nobody's."""
        raise NotImplementedError

    async def _command(self, *words: functions.Word) -> Reply:
        """The reply to one command, whose second word is its key."""
        (reply,) = await self._sent_patiently(((functions.slot_of(str(words[1])), packed(*words)),))
        return reply

    # The stream

    async def publish(self, texts: Sequence[str]) -> None:
        if texts:
            await self._ask(functions.PUBLISH, [self._stream], MAX_STREAMED, STREAM_SECONDS, *texts)

    async def published(self, after: str, n: int) -> Sequence[Streamed]:
        return _streamed(await self._command("XRANGE", self._stream, f"({after}", "+", "COUNT", n))

    async def last_published(self, n: int, *, before: str = "") -> Sequence[Streamed]:
        newest = f"({before}" if before else "+"
        return _streamed(await self._command("XREVRANGE", self._stream, newest, "-", "COUNT", n))

    async def unpublish(self, ids: Sequence[str]) -> int:
        return int(await self._command("XDEL", self._stream, *ids)) if ids else 0

    # Notes

    async def keep(self, name: str, text: str, lifetime_seconds: float) -> str | None:
        data, milliseconds = text.encode("utf-8", "surrogatepass"), max(1, int(lifetime_seconds * 1_000))
        if len(data) > MAX_KEPT_TEXT:
            raise StoreMisuse(f"a note has at most {MAX_KEPT_TEXT} octets")
        return _text(await self._command("SET", self._note(name), data, "NX", "GET", "PX", milliseconds))

    async def kept(self, name: str) -> str | None:
        return _text(await self._command("GET", self._note(name)))

    async def drop(self, name: str) -> None:
        await self._command("UNLINK", self._note(name))

    def _note(self, name: str) -> str:
        hashed = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        return f"{self._prefix}:{{note:{hashed}}}:text"

    # Erasing

    async def forget(self, entity: Entity) -> int:
        erased, calm, holders = 0, 0, await self._holders()
        for _ in range(MAX_ROUNDS):
            erased += await self._erased_on_all(holders, entity)
            before, holders = holders, await self._holders()
            calm = calm + 1 if holders == before else 0
            if calm == (2 if self._url.kind == "cluster" else 1):
                return erased
        raise StoreUnavailable("servers come and go while an entity is erased: try again later")

    async def _erased_on_all(self, holders: frozenset[Node], entity: Entity) -> int:
        """How many keys were erased in one round."""
        sought = max((part.id for part in parts_of(entity)), key=len)[:SOUGHT_LETTERS]
        own = f"{_plain(self._prefix)}:{{*{_plain(sought)}*}}:*"
        boards = f"{_plain(self._prefix)}:{{top:{_plain(entity.dimension)}:*}}:board:*"
        start, id = len(self._prefix.encode()) + 1, _bytes(entity.id)

        def from_keys(key: bytes) -> bytes | None:
            known = entity_of(key[start:])
            return packed("UNLINK", key) if known is not None and is_about(known, entity) else None

        def from_board(key: bytes) -> bytes | None:
            board = _BOARD.fullmatch(key, start)
            return packed("ZREM", key, id) if board and board[1].decode() == entity.dimension else None

        erased = 0
        for pattern, command_for in ((own, from_keys), (boards, from_board)):
            told = await asyncio.gather(*(self._erased_on(node, _bytes(pattern), command_for) for node in holders))
            for number in told:
                if isinstance(number, StoreError):
                    raise number
                erased += number
        return erased

    async def _erased_on(
        self, node: Node, pattern: bytes, command_for: Callable[[bytes], bytes | None]
    ) -> int | StoreError:
        """Go through all keys of a server, and send what a key has coming; how many replies said that it was there."""
        erased, cursor = 0, b"0"
        try:
            for _ in range(MAX_PIECES):
                cursor, keys = await _piece(node, cursor, pattern)
                parts = [(_slot_of(key), command) for key in keys if (command := command_for(key)) is not None]
                erased += sum(await self._sent_patiently(parts))
                if cursor == b"0":
                    return erased
        except StoreError as error:
            return error
        except (TypeError, ValueError) as error:
            return StoreUnavailable(f"{node.address}: the server talks nonsense: {error}")
        return StoreUnavailable(f"{node.address}: there is no end of its keys")


async def _piece(node: Node, cursor: bytes, pattern: bytes) -> tuple[bytes, list[bytes]]:
    """Some keys of a server that fit, and where to go on."""
    words = ("SCAN", cursor, "MATCH", pattern, "COUNT", str(LOOKED_AT_ONCE))
    (reply,) = await node.ask(words, timeout_seconds=PIECE_SECONDS)
    if isinstance(reply, hiredis.ReplyError):
        raise error_of(str(node.address), str(reply))
    cursor, keys = reply
    return cursor, keys


def entity_of(key: bytes) -> Entity | None:
    """The entity that a key, without the site's prefix, is about; None for a key of another kind.

    >>> entity_of(b"{ip+sender:192.0.2.7,alice@example.com}:messages:daily")
    Entity(dimension='ip+sender', id='192.0.2.7,alice@example.com')
    """
    match = _ABOUT.match(key)
    try:
        return Entity(match[1].decode(), match[2].decode("utf-8", "surrogatepass")) if match else None
    except UnicodeDecodeError:  # nothing that we have written
        return None


def _slot_of(key: bytes) -> int:
    return functions.slot_of_tag(key[key.index(b"{") + 1 : key.index(b"}")])


def _plain(text: str) -> str:
    """Text that stands for itself in a pattern of the server's."""
    return _GLOB.sub(r"\\\1", text)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _streamed(rows: Reply) -> Sequence[Streamed]:
    return [Streamed(id.decode(), fields[1].decode("utf-8", "replace")) for id, fields in rows or ()]


def _text(reply: Reply) -> str | None:
    return None if reply is None else reply.decode("utf-8", "replace")
