"""A message as those who verify it see it: the fields of its header as they came, and hashes of its body.

A field begins behind a CRLF and ends at a CRLF that no blank follows. A header with a line that is no field, or with a
bare CR or LF in it, cannot be read: other readers would see other fields in it than whoever signed it. Neither can one
that is larger than `MAX_HEADER_OCTETS` or has more than `MAX_FIELDS` fields. Then there are no fields to verify, and
the authors are those that a tolerant reader would find: nobody hides his From field by breaking the header.

A body is canonicalised (RFC 6376 section 3.4) and hashed piece by piece, so that a large one takes no memory. Pieces
are small, because whatever is done to one of them is one step that no other thread gets into; a piece is hashed outside
of the interpreter's lock. So a large body is hashed in a thread, of which there are `MAX_THREADS`, and holds nobody up.

    b"Hello  world \\r\\n\\r\\n"     relaxed -> b"Hello world\\r\\n"     simple -> b"Hello  world \\r\\n"

Promises: a body is canonicalised once for each way in which it is asked for, however many signatures ask. Who hashes
lets go of a body that is closed, or whose message is given up.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from email.utils import getaddresses
from typing import NamedTuple, TypeVar

from reputation.events import Content

MAX_HEADER_OCTETS = 131_072
MAX_FIELDS = 1_000
MAX_AUTHOR_FIELDS = 5
MAX_AUTHOR_OCTETS = 4_096
"""Of a From field: what lies beyond is not looked at."""
PIECE_OCTETS = 65_536
INLINE_OCTETS = 131_072
"""Larger bodies are hashed in a thread, smaller ones at once: some hundred microseconds."""
INLINE_HEADER_OCTETS = 16_384
"""Likewise, what is done with a header."""
MAX_THREADS = 2

_END_OF_FIELD = re.compile(rb"\r\n(?![ \t])")
_NAME = re.compile(rb"[\x21-\x39\x3b-\x7e]+[ \t]*")
_FROM = re.compile(rb"^From[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.I | re.M)
_SIGNED = re.compile(rb"^DKIM-Signature[ \t]*:", re.I | re.M)
_SEALED = re.compile(rb"^ARC-Seal[ \t]*:", re.I | re.M)
HASHES: Mapping[bytes, bytes] = {b"rsa-sha1": b"sha1", b"rsa-sha256": b"sha256", b"ed25519-sha256": b"sha256"}
"""Of an algorithm of signatures, that of its hash."""
_HASHERS = {b"sha1": hashlib.sha1, b"sha256": hashlib.sha256}

T = TypeVar("T")


class Field(NamedTuple):
    """One field of a header."""

    name: bytes
    """As it came, white space before the colon included."""
    value: bytes
    """All behind the colon, with the CRLF at its end."""

    @property
    def key(self) -> bytes:
        """The name by which it is found."""
        return self.name.rstrip(b" \t").lower()


class Way(NamedTuple):
    """How a body is hashed."""

    is_relaxed: bool
    algorithm: bytes = b"sha256"
    length: int | None = None
    """Octets of the canonical body that count (l=); None for all."""


class Digest(NamedTuple):
    """A hash of a body."""

    octets: bytes
    length: int
    """Of the whole canonical body."""


class Message:
    """A message, for as long as its content is there. `executor` has threads for large bodies."""

    def __init__(self, content: Content, executor: Executor) -> None:
        self._content = content
        self._executor = executor
        self._digests: dict[Way, Digest | asyncio.Future[Digest]] = {}
        self._is_given_up = False
        fields, self._start = _read(content)
        self.is_readable = fields is not None
        self.fields: tuple[Field, ...] = fields or ()

        self._head = content[: min(self._start, MAX_HEADER_OCTETS)]

    def named(self, name: bytes) -> list[Field]:
        """All fields of a name (in lower case), in their order."""
        return [field for field in self.fields if field.key == name]

    @property
    def seems_signed(self) -> bool:
        """Whether a header that cannot be read has signatures nevertheless."""
        return _SIGNED.search(self._head) is not None

    @property
    def seems_sealed(self) -> bool:
        """Likewise, seals of ARC."""
        return _SEALED.search(self._head) is not None

    def authors(self) -> tuple[list[str], int]:
        """The addresses of the author, or authors, and how many From fields they are in."""
        if self.is_readable:
            values = [field.value for field in self.named(b"from")]
        else:
            values = _FROM.findall(self._head)
        return _addresses_in(values), len(values)

    async def computed(self, work: Callable[[], T]) -> T:
        """What `work` on the header gives; in a thread where the header is large."""
        if self._start <= INLINE_HEADER_OCTETS:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def digest(self, way: Way) -> Digest:
        """A hash of the body. Raises `ValueError` when the content is closed meanwhile."""
        found = self._digests.get(way)
        if found is None:
            if len(self._content) - self._start <= INLINE_OCTETS:
                found = self._digests[way] = self._hashed(way)
            else:
                loop = asyncio.get_running_loop()
                found = self._digests[way] = loop.run_in_executor(self._executor, self._hashed, way)
        return found if isinstance(found, Digest) else await asyncio.shield(found)

    def give_up(self) -> None:
        """Nobody waits for hashes any more."""
        self._is_given_up = True
        for digest in self._digests.values():
            if isinstance(digest, asyncio.Future):
                digest.cancel()

    def _hashed(self, way: Way) -> Digest:
        return digest_of(self._pieces(), way)

    def _pieces(self) -> Iterator[bytes]:
        for start in range(self._start, len(self._content), PIECE_OCTETS):
            if self._is_given_up:
                raise ValueError("nobody waits for it")
            time.sleep(0)  # lets the event loop in
            yield self._content[start : start + PIECE_OCTETS]


def _read(content: Content) -> tuple[tuple[Field, ...] | None, int]:
    """The fields, None where they cannot be read, and where the body begins."""
    if content[:2] in {b"\r\n", b""}:
        return (), len(content[:2])
    end = content.find(b"\r\n\r\n", 0, MAX_HEADER_OCTETS + 4)
    if end < 0 and len(content) > MAX_HEADER_OCTETS:
        return None, len(content)
    head = content[:] if end < 0 else content[: end + 2]
    start = len(content) if end < 0 else end + 4
    bare = head.replace(b"\r\n", b"")
    if b"\r" in bare or b"\n" in bare:
        return None, start
    lines = _END_OF_FIELD.split(head.removesuffix(b"\r\n"), MAX_FIELDS)
    if len(lines) > MAX_FIELDS:
        return None, start
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            return None, start
        fields.append(Field(name, value + b"\r\n"))
    return tuple(fields), start


def digest_of(pieces: Iterator[bytes], way: Way) -> Digest:
    """The hash of a body that comes in pieces.

    >>> way = Way(is_relaxed=True)
    >>> digest_of(iter([b"a \\t b", b" \\r", b"\\n\\r\\n"]), way).octets == hashlib.sha256(b"a b\\r\\n").digest()
    True
    """
    hasher = _HASHERS[way.algorithm]()
    left = way.length
    held = length = 0
    for piece in _relaxed(pieces) if way.is_relaxed else _whole_line_ends(pieces):
        text = _without_empty_lines(piece)
        # Empty lines are held back until something follows: those at the end do not count.
        for part in (*_empty_lines(held), text) if text else ():
            length += len(part)
            hasher.update(part if left is None else part[: max(0, left)])
            left = None if left is None else left - len(part)
        held = (len(piece) - len(text)) // 2 + (0 if text else held)
    if (
        length or not way.is_relaxed
    ):  # section 3.4.3: an empty body is one CRLF, section 3.4.4: and nothing when relaxed
        length += 2
        hasher.update(b"\r\n" if left is None else b"\r\n"[: max(0, left)])
    return Digest(hasher.digest(), length)


def _empty_lines(number: int) -> Iterator[bytes]:
    whole, rest = divmod(number, PIECE_OCTETS // 2)
    for _ in range(whole):
        yield b"\r\n" * (PIECE_OCTETS // 2)
    yield b"\r\n" * rest


def _without_empty_lines(piece: bytes) -> bytes:
    """A piece without the line ends at its end."""
    text = piece.rstrip(b"\r\n")
    if len(text) + 2 * piece.count(b"\r\n", len(text)) == len(piece):
        return text
    end = len(piece)  # a bare CR or LF among them stays
    while piece.endswith(b"\r\n", 0, end):
        end -= 2
    return piece[:end]


def _whole_line_ends(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same octets, in pieces that end in the middle of no CRLF."""
    carry = b""
    for piece in pieces:
        octets = carry + piece
        carry = b"\r" if octets.endswith(b"\r") else b""
        yield octets.removesuffix(carry)
    yield carry


def _relaxed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """White space within lines is one blank, and at their ends nothing: section 3.4.4."""
    carry = b""
    for piece in pieces:
        joined = _blanks_joined(carry + piece)
        kept = joined.removesuffix(b"\r").removesuffix(b" ")  # about the rest the next piece decides
        carry = joined[len(kept) :]
        yield kept.replace(b" \r\n", b"\r\n")
    yield carry.removesuffix(b" ")


def _blanks_joined(piece: bytes) -> bytes:
    # Three times as fast as a regular expression, and nothing at all to do for base64.
    if b"\t" in piece:
        piece = piece.replace(b"\t", b" ")
    while b"  " in piece:
        piece = piece.replace(b"  ", b" ")
    return piece


def _addresses_in(values: list[bytes]) -> list[str]:
    """The addresses in From fields (RFC 5322 section 3.6.2), as they stand there.

    Read before anything is decoded: a name that is decoded could look like an address.
    """
    texts = [value[:MAX_AUTHOR_OCTETS].decode("utf-8", "surrogateescape") for value in values[:MAX_AUTHOR_FIELDS]]
    try:
        addresses = [address for _, address in getaddresses([" ".join(text.split()) for text in texts])]
    except (ValueError, IndexError, RecursionError):  # comments in comments in comments
        return []
    return [address for address in addresses if "@" in address]
