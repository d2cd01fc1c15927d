"""What a client has sent and we have not used yet: bytes in, command lines and messages out. No I/O.

A line ends in CRLF and nothing else does (RFC 5321 section 2.3.8). The end of a message is CRLF "." CRLF and
nothing else is (section 4.1.1.4). Everything that two mail servers could read differently, which is
what SMTP smuggling lives on, is refused:

* a command that ends in a bare LF, or has a CR inside, is a `BadLine` of its own;
* a message with a bare CR or a bare LF anywhere is taken in whole and then reported as `bare_newlines`;
* so is one with a line that is a lone dot to a server that drops NULs, as `hidden_end`.

Bounded: a command line of more than `MAX_LINE_LENGTH` octets is dropped up to its end and reported once; a
message of more than `max_bytes` is dropped as it comes, so that its end is still found.

A message is looked at once, piece by piece as it comes off the wire. A piece ends where its last octets could be the
beginning of the end of the message: those wait for what follows, so no CRLF is parted from its dot, nor CR from LF,
and however the octets are cut, what comes out is the same::

    feed --> buffer --pieces--> checked, dots taken off (RFC 5321 section 4.5.2) --> collected --take--> a file
                                                                                         |
                                                                                     Message.content

How often a message is in memory: once, and twice for the moment in which its end is found; of one that is taken as it
comes (`smtp_frontend.spool` takes whatever is larger than a bound) no more than was not taken yet.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from mmap import mmap

from reputation.events import Content

MAX_LINE_LENGTH = 2_048
"""RFC 5321 section 4.5.3.1.4 asks for 512 octets, and extensions for more."""

_END = b"\r\n.\r\n"
_BEGINNINGS = tuple(_END[:size] for size in range(len(_END) - 1, 0, -1))
_HIDDEN_END = re.compile(rb"\r\n(?:\x00+\.\x00*|\.\x00+)\r\n")


class BadLine(Exception):
    """A line that is no command. The argument is the text for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it was sent, with the dots taken off."""

    content: Content
    """A large one is a file in memory, to be closed when nobody needs it any more."""
    size: int
    """Octets that came, also where they were too many to keep."""
    too_big: bool = False
    bare_newlines: bool = False
    hidden_end: bool = False
    unspooled: bool = False
    """Whether it was dropped because there was no place to keep it in: our trouble."""

    def close(self) -> None:
        """Let go of the content, and of the room on the disk. What somebody still looks into is freed after him."""
        if isinstance(self.content, mmap):
            with suppress(BufferError):  # somebody has a part of it; it is closed when he has not
                self.content.close()


class Inbox:
    """Collects what comes off the wire."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = False
        self._searched = 0
        # Of the message that is coming in:
        self._collected = bytearray()
        self._size = 0
        self._unspooled = False
        self._bare_newlines = False
        self._hidden_end = False
        self._line_of_nuls = b""

    def feed(self, data: bytes) -> None:
        """Take in what has been read."""
        self._buffer += data

    def clear(self) -> None:
        """Forget everything that was not used. RFC 3207 section 4.2: nothing survives from before TLS."""
        self._buffer.clear()
        self._searched = 0

    def __len__(self) -> int:
        return len(self._buffer) + len(self._collected)

    def line(self, max_length: int = MAX_LINE_LENGTH) -> bytes | None:
        """The next command line without its CRLF; None when it is not complete. Raises `BadLine`."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._skipping or len(self._buffer) > max_length:
                self._skipping = True
                self.clear()
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._searched = 0
        if self._skipping or len(line) > max_length:
            self._skipping = False
            raise BadLine("Line too long")
        if not line.endswith(b"\r\n"):
            raise BadLine("Line ends in a bare LF, send CRLF")
        if b"\r" in line[:-2] or b"\0" in line:
            raise BadLine("CR or NUL inside a command")
        return line[:-2]

    def begin_message(self) -> None:
        """From here on a message comes in. The CRLF of the DATA command counts as the one before its first line."""
        self._buffer[:0] = b"\r\n"
        self._searched = 0
        self._collected.clear()
        self._size = -len(b"\r\n")
        self._unspooled = self._bare_newlines = self._hidden_end = False
        self._line_of_nuls = b""

    @property
    def collected(self) -> int:
        """Octets of the message that is coming in that `take` would give."""
        return len(self._collected)

    def take(self) -> bytes:
        """What has come of the message and was not taken yet. The content that `message` gives begins behind it."""
        taken = bytes(self._collected)
        self._collected.clear()
        return taken

    def give_up(self) -> None:
        """Keep nothing of the message that is coming in. Its end is still found, and it is reported as `unspooled`."""
        self._unspooled = True
        self._collected.clear()

    def message(self, max_bytes: int) -> Message | None:
        """The message, once its end has come; None before. What follows it stays for `line`."""
        buffer = self._buffer
        end = buffer.find(_END)
        size = len(buffer) - _beginning_of_end(buffer) if end < 0 else end + len(b"\r\n")
        if size:
            self._look_at(buffer[:size], max_bytes)
            del buffer[:size]
        if end < 0:
            return None
        del buffer[: len(b".\r\n")]
        if self._size > max_bytes:
            return Message(content=b"", size=self._size, too_big=True)
        return Message(
            content=self.take(),
            size=self._size,
            bare_newlines=self._bare_newlines,
            hidden_end=self._hidden_end,
            unspooled=self._unspooled,
        )

    def _look_at(self, piece: bytearray, max_bytes: int) -> None:
        """Check the next piece of the message, and keep it without its dots."""
        first = self._size < 0
        self._size += len(piece)
        if self._size > max_bytes:
            self._collected.clear()
            return
        # Of a CR without LF, or a LF without CR, there is one more than two for each pair.
        if len(piece) - len(piece.translate(None, b"\r\n")) != 2 * piece.count(b"\r\n"):
            self._bare_newlines = True
        if self._line_of_nuls or b"\0" in piece:
            text = self._line_of_nuls + piece
            self._hidden_end = self._hidden_end or _HIDDEN_END.search(text) is not None
            self._line_of_nuls = _line_of_nuls(text)
        if self._unspooled:
            return
        undotted = piece.replace(b"\r\n.", b"\r\n")
        if first:
            self._collected = undotted[len(b"\r\n") :]  # without the CRLF of the DATA command
        else:
            self._collected += undotted


def _beginning_of_end(buffer: bytearray) -> int:
    """How many of the last octets may belong to an end that is still on its way."""
    for beginning in _BEGINNINGS:
        if buffer.endswith(beginning):
            return len(beginning)
    return 0


def _line_of_nuls(text: bytes) -> bytes:
    """The line that `text` breaks off in, if it may become a hidden end: with its CRLF, and each run of NULs as one.

    >>> _line_of_nuls(b"a\\r\\n\\0\\0\\0."), _line_of_nuls(b"a\\r\\n\\0a")
    (b'\\r\\n\\x00.', b'')
    """
    start = text.rfind(b"\r\n")
    line = text[start + len(b"\r\n") :]
    dots = line.count(b".")
    if start < 0 or dots > 1 or line.count(b"\0") + dots != len(line):
        return b""
    return b"\r\n" + re.sub(rb"\x00+", b"\0", line)
