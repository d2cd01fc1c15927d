"""What a client has sent and we have not used yet: bytes in, command lines and messages out. No I/O.

A line ends in CRLF and nothing else does (RFC 5321 section 2.3.8). The end of a message is CRLF "." CRLF and
nothing else is (section 4.1.1.4). Everything that two mail servers could read differently, which is
what SMTP smuggling lives on, is refused:

* a command that ends in a bare LF, or has a CR inside, is a `BadLine` of its own;
* a message with a bare CR or a bare LF anywhere is taken in whole and then reported as `bare_newlines`;
* so is one with a line that is a lone dot to a server that drops NULs, as `hidden_end`.

Bounded: a command line of more than `MAX_LINE_LENGTH` octets is dropped up to its end and reported once; a
message of more than `max_bytes` is dropped as it comes, so that its end is still found.

How often a message is in memory: once while it comes in, three times for the moment in which the dots
are taken off (RFC 5321 section 4.5.2), once after.
"""

import re
from dataclasses import dataclass

MAX_LINE_LENGTH = 2_048
"""RFC 5321 section 4.5.3.1.4 asks for 512 octets, and extensions for more."""

_END = b"\r\n.\r\n"
_HIDDEN_END = re.compile(rb"\r\n(?:\x00+\.\x00*|\.\x00+)\r\n")


class BadLine(Exception):
    """A line that is no command. The argument is the text for the client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message as it was sent, with the dots taken off."""

    content: bytes
    size: int
    """Octets that came, also where they were too many to keep."""
    too_big: bool = False
    bare_newlines: bool = False
    hidden_end: bool = False


class Inbox:
    """Collects what comes off the wire."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = False
        self._searched = 0
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Take in what has been read."""
        self._buffer += data

    def clear(self) -> None:
        """Forget everything that was not used. RFC 3207 section 4.2: nothing survives from before TLS."""
        self._buffer.clear()
        self._searched = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def line(self) -> bytes | None:
        """The next command line without its CRLF; None when it is not complete. Raises `BadLine`."""
        end = self._buffer.find(b"\n", self._searched)
        if end < 0:
            self._searched = len(self._buffer)
            if self._skipping or len(self._buffer) > MAX_LINE_LENGTH:
                self._skipping = True
                self.clear()
            return None
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        self._searched = 0
        if self._skipping or len(line) > MAX_LINE_LENGTH:
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
        self._size = -2

    def message(self, max_bytes: int) -> Message | None:
        """The message, once its end has come; None before. What follows it stays for `line`."""
        end = self._buffer.find(_END, self._searched)
        # Of what has come, a last dot and CR may belong to an end that is still on its way.
        too_big = self._size + (len(self._buffer) - len(b".\r") if end < 0 else end + 2) > max_bytes
        if end < 0:
            if too_big:  # keep what could be the beginning of the end
                self._size += len(self._buffer) - len(_END) + 1
                del self._buffer[: -len(_END) + 1]
            self._searched = max(0, len(self._buffer) - len(_END) + 1)
            return None
        raw = self._buffer[: end + 2]
        del self._buffer[: end + len(_END)]
        self._searched = 0
        size = self._size + len(raw)
        if too_big:
            return Message(content=b"", size=size, too_big=True)
        newlines = raw.count(b"\r\n")
        bare = raw.count(b"\n") != newlines or raw.count(b"\r") != newlines
        content = bytes(raw.replace(b"\r\n.", b"\r\n")[2:])
        hidden = b"\0" in raw and _HIDDEN_END.search(raw) is not None
        return Message(content=content, size=size, bare_newlines=bare, hidden_end=hidden)
