"""One server of the store, and the connection to it that is kept alive.

A node connects when it is first needed, and again whenever the connection is lost, on its own, with growing and
jittered pauses, whatever the callers do. Meanwhile callers are refused at once. A connection counts as made when
the server has let us in, and has answered a PING: a server that hangs, is still loading, or only accepts
connections is not there yet. The functions are loaded on the way in.
"""

import asyncio
import logging
import random
from collections.abc import Callable

import hiredis

from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.store import functions
from reputation.store.address import Address, StoreUrl
from reputation.store.connection import Call, Connection, Reply, packed

CONNECT_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 2.0

log = logging.getLogger("reputon.store")


class Node:
    """A server, by its address."""

    def __init__(self, address: Address, url: StoreUrl, on_lost: Callable[["Node"], None] | None = None) -> None:
        self.address = address
        self._url = url
        self._on_lost = on_lost
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._failed: StoreError | None = None
        self._closed = False
        self._pause = 0.0
        self._connected_at = 0.0
        self.connects = 0
        """How often a connection was tried; a test holds it against storms."""

    def send(self, command: bytes, call: Call, position: int) -> None:
        """Send a packed command. Raises `StoreError` when it cannot be sent now; then it was not."""
        if self._connection is None:
            self._start_connecting()
            raise again(self._failed) or StoreUnavailable(f"{self.address}: not connected yet")
        try:
            self._connection.send(command, call, position)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{self.address}: {error}") from None

    @property
    def connected(self) -> bool:
        """Whether there is a connection now."""
        return self._connection is not None

    def connect_soon(self) -> None:
        """Connect, so that the first caller need not wait for it."""
        if not self.connected and not self._closed:
            self._start_connecting()

    @property
    def answers(self) -> bool:
        """Whether there is a connection, and nobody on it has waited too long."""
        return self._connection is not None and not self._connection.overdue

    async def ready(self, deadline: float) -> None:
        """Wait for the first connection. Returns at once when there is one, raises at once when the last try failed."""
        if self.connected:
            return
        self._start_connecting()
        loop = asyncio.get_running_loop()
        while not self.connected:
            if self._failed is not None or loop.time() >= deadline:
                raise again(self._failed) or StoreUnavailable(f"{self.address}: not connected yet")
            await asyncio.sleep(0.001)

    async def ask(self, *commands: tuple[str | bytes, ...], timeout_seconds: float = CONNECT_SECONDS) -> list[Reply]:
        """Replies to some commands, connecting first where that is needed; for administration."""
        await self.ready(asyncio.get_running_loop().time() + timeout_seconds)
        assert self._connection is not None
        return await self._connection.ask([packed(*command) for command in commands], timeout_seconds)

    def close(self) -> None:
        """Let go for good."""
        self._closed = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    def _start_connecting(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.address}: closed")
        if self._connecting is None or self._connecting.done():
            self._connecting = asyncio.create_task(self._keep_connecting(), name=f"connect {self.address}")

    async def _keep_connecting(self) -> None:
        while True:
            # Jitter, so that a fleet does not come back as one: each process waits half to one and a half times.
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            self._pause = min(max(self._pause * 2, FIRST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)
            try:
                connection = await self._connect()
            except StoreError as error:
                self._failed = error
            except Exception as error:  # the top of a job that must not end: nobody would connect any more
                self._failed = StoreUnavailable(f"{self.address}: {error}")
                log.exception("%s", self.address)
            else:
                self._connection, self._failed = connection, None
                self._connected_at = asyncio.get_running_loop().time()
                return

    async def _connect(self) -> Connection:
        self.connects += 1
        connection = await self._opened()
        try:
            await self._enter(connection)
        except BaseException as error:  # cancellation, too: the connection must not be left behind
            lost = connection.lost
            connection.close()
            if lost and isinstance(error, StoreUnavailable):
                raise StoreUnavailable(f"{self.address}: {hinted(f'{lost} before it let us in', self._url)}") from error
            raise
        if connection.lost:  # it has answered, and then failed in the same breath
            raise StoreUnavailable(f"{self.address}: {connection.lost}")
        return connection

    async def _opened(self) -> Connection:
        loop = asyncio.get_running_loop()
        address, tls = self.address, self._url.tls
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                if address.port:
                    hostname = address.host if tls and tls.check_hostname else None
                    _, connection = await loop.create_connection(
                        lambda: Connection(self._lost), address.host, address.port, ssl=tls, server_hostname=hostname
                    )
                else:
                    _, connection = await loop.create_unix_connection(lambda: Connection(self._lost), address.host)
        except (OSError, OverflowError, ValueError) as error:  # the latter for a host or a port that cannot be
            raise StoreUnavailable(
                f"{address}: cannot connect: {hinted(str(error) or 'no answer', self._url)}"
            ) from error
        return connection

    async def _enter(self, connection: Connection) -> None:
        """Log in, choose the database, load the functions, and see that the server answers.

        First the log-in alone: a server that has not let us in hangs up on a command as long as the functions.
        """
        url = self._url
        commands = []
        if url.username or url.password:
            commands.append(packed("AUTH", *([url.username] if url.username else []), url.password))
        if url.database:
            commands.append(packed("SELECT", url.database))
        for step in ([*commands, packed("PING")], [LOAD_FUNCTIONS, MAY_CALL]):
            replies = await connection.ask(step, CONNECT_SECONDS)
            for command, reply in zip(step, replies, strict=True):
                if isinstance(reply, hiredis.ReplyError) and not harmless(command, str(reply)):
                    raise error_of(f"{self.address}", str(reply))
        loaded, called = map(str, replies)
        if loaded.startswith("NOPERM") and FUNCTION_MISSING in called:  # and who may load them has not
            raise error_of(f"{self.address}", loaded)

    def _lost(self, connection: Connection) -> None:
        if connection is not self._connection:
            return
        self._connection = None
        self._failed = StoreUnavailable(f"{self.address}: {connection.lost}")
        if asyncio.get_running_loop().time() - self._connected_at > LONGEST_PAUSE_SECONDS:
            self._pause = 0.0  # it was a good one: the next is tried at once
        if not self._closed:
            self._start_connecting()
            if self._on_lost is not None:
                self._on_lost(self)


FUNCTION_MISSING = "Function not found"
LOAD_FUNCTIONS = packed("FUNCTION", "LOAD", functions.SOURCE)
MAY_CALL = functions.command(functions.COUNTS, (), "0", "")
"""A call about no key: whether functions may be called at all is found out on the way in, not by the first mail."""


def harmless(command: bytes, error: str) -> bool:
    """Whether a refusal may be passed over on the way in.

    Of FUNCTION LOAD: the server has the functions, gets them from its primary, or an administrator loads them.
    Of the first call: what is for now only (a replica, no memory left) concerns the calls that come.
    """
    if command is LOAD_FUNCTIONS:
        return "already exists" in error or error.startswith(("NOPERM", "READONLY"))
    return command is MAY_CALL and not error.startswith(("NOPERM", "ERR unknown command"))


PERMISSIONS = (
    "~PREFIX:* &PREFIX:* +@read +@write +fcall +function|load +ping +info +time +publish +subscribe +select +asking "
    "+cluster|slots"
)
"""What our user may do, as rules of an ACL; docs/configuration.md says the same."""
USE_CLUSTER = "the server is part of a cluster: use redis+cluster://"

_PASSING = (
    *("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "MOVED", "ASK", "NOREPLICAS"),
    "ERR max number of clients reached",
)
_HINTS = {
    "NOPERM": f"the user lacks a permission; it needs: {PERMISSIONS}",
    "NOAUTH": "the server wants a password: redis://USER:PASSWORD@HOST:PORT",
    "WRONGPASS": "user or password are wrong",
    "OOM": "the server is out of memory: raise maxmemory",
    "CROSSSLOT": USE_CLUSTER,
    "ERR This instance has cluster support disabled": "the server is no part of a cluster: use redis://",
    "ERR unknown command": "the server is too old, or the command is disabled: use Redis 7.0 or Valkey 8, or later",
}
_PLAIN_HINTS = {"before it let us in": "if that port speaks TLS: rediss://"}
_TLS_HINTS = {
    "mismatch": "the certificate is for another name: write that one in the URL",
    "CERTIFICATE_VERIFY_FAILED": "?ca=FILE names the authority to trust",
    "before it let us in": "if it wants a certificate of ours: ?cert=FILE&key=FILE",
    "WRONG_VERSION_NUMBER": "if that port speaks no TLS: redis://",
    "no answer": "if that port speaks no TLS: redis://",
}
"""Words in the trouble -> what may help; the first that fits."""
_QUOTED = ", with args beginning with"
"""From here on an error reply repeats the command, and so perhaps a password."""


def hinted(trouble: str, url: StoreUrl) -> str:
    """Why there is no connection, with what may help."""
    hints = _PLAIN_HINTS if url.tls is None else _TLS_HINTS
    hint = next((hint for words, hint in hints.items() if words in trouble), "")
    return f"{trouble} ({hint})" if hint and url.addresses[0].port else trouble


def again(error: StoreError | None) -> StoreError | None:
    """An error to be raised for one more caller: one and the same would collect the traceback of each of them."""
    return None if error is None else type(error)(*error.args)


def error_of(what: str, reply: str) -> StoreError:
    """Our error for an error reply, with what to do about it."""
    reply = reply.partition(_QUOTED)[0]
    if reply.startswith(_PASSING):
        return StoreUnavailable(f"{what}: {reply}")
    hint = next((hint for beginning, hint in _HINTS.items() if reply.startswith(beginning)), "")
    return StoreMisuse(f"{what}: {reply}" + (f" ({hint})" if hint else ""))


async def name_of(node: Node, *, alone: bool, timeout_seconds: float) -> str:
    """Name and version of a server. Raises `StoreError`, too, for one that is not what it is used as.

    One that has no functions does not come to this: see `error_of`.
    """
    (reply,) = await node.ask(("INFO", "server", "replication"), timeout_seconds=timeout_seconds)
    if isinstance(reply, hiredis.ReplyError):
        raise error_of(str(node.address), str(reply))
    info = dict(line.split(":", 1) for line in reply.decode().splitlines() if ":" in line)
    if alone and "cluster" in (info.get("redis_mode"), info.get("server_mode")):
        raise StoreMisuse(f"{node.address}: {USE_CLUSTER}")
    if alone and info.get("role") == "slave":
        raise StoreUnavailable(f"{node.address}: the server is a replica: counting needs its primary")
    version = info.get("valkey_version")
    return f"Valkey {version}" if version else f"Redis {info['redis_version']}"
