"""The message on its way out: line ends, dots, and the paths of the envelope. Pure.

A message travels as parts that are cut anywhere, and is never looked at line by line in Python::

    parts --whole_lines--> blocks that never end between CR and LF --stuffed--> wire blocks

Of a part that is a file in memory no more than a block is copied at once.

Why a bare CR or LF is refused and not repaired: servers disagree on whether ``<LF>.<LF>`` ends a message.
Where the next hop thinks so and we do not, what follows it is taken for commands (SMTP smuggling). With CR
and LF only in pairs, and each dot after a pair doubled, the end of data stands exactly once, at the end.

Bugs: NUL and other control characters in the message are passed on as they are.
"""

import re
from collections.abc import Iterable, Iterator

from smtp_frontend.next_hop.contract import Part

BLOCK_OCTETS = 65_536
"""Messages are handled in blocks of about this size, whatever the size of the parts."""
MAX_PATH_OCTETS = 512
"""Twice what RFC 5321 section 4.5.3.1.3 asks for: VERP and SRS make long ones."""
CRLF = b"\r\n"

_PATH = re.compile(
    r"""(?: [^\x00-\x20\x7f-\x9f\ud800-\udfff<>"\\]
          | "(?: [^\x00-\x1f\x7f-\x9f\ud800-\udfff"\\] | \\[\x20-\x7e] )*"   # RFC 5321 section 4.1.2 Quoted-string
        )*""",
    re.VERBOSE,
)


class BareLineEnding(Exception):
    """The message holds a CR or LF that is not part of a CRLF."""


def is_path(address: str) -> bool:
    """Whether `address` can stand between angle brackets and be nothing but one address ("" is the null path).

    >>> is_path('"a b>c"@example.com'), is_path("a> SIZE=1"), is_path("a@b.example\\r\\nRSET")
    (True, False, False)
    """
    return _PATH.fullmatch(address) is not None and len(address.encode()) <= MAX_PATH_OCTETS


def whole_lines(parts: Iterable[Part], block_octets: int = BLOCK_OCTETS) -> Iterator[bytes]:
    """The message in blocks of about `block_octets`, none ending between CR and LF, the last one in CRLF.

    Nothing comes out for an empty message. Raises `BareLineEnding` in place of the block that holds it.
    """
    ended, held = True, b""
    for block in _blocks(parts, block_octets):
        whole = held + block if held else block
        held = b"\r" if whole.endswith(b"\r") else b""
        whole = whole.removesuffix(b"\r")
        if not whole.count(CRLF) == whole.count(b"\r") == whole.count(b"\n"):
            raise BareLineEnding
        if whole:
            ended = whole.endswith(CRLF)
            yield whole
    if held:
        raise BareLineEnding
    if not ended:
        yield CRLF


def stuffed(parts: Iterable[Part], block_octets: int = BLOCK_OCTETS) -> Iterator[bytes]:
    """The message as it follows DATA, with its dots doubled and the final dot: RFC 5321 section 4.5.2.

    >>> b"".join(stuffed([b".a\\r", b"\\n.b"]))
    b'..a\\r\\n..b\\r\\n.\\r\\n'
    """
    at_line_start = True
    for block in whole_lines(parts, block_octets):
        dotted = block.replace(b"\r\n.", b"\r\n..")
        yield b"." + dotted if at_line_start and block.startswith(b".") else dotted
        at_line_start = block.endswith(CRLF)
    yield b".\r\n"


def _blocks(parts: Iterable[Part], block_octets: int) -> Iterator[bytes]:
    """The same octets, small parts joined and large ones cut."""
    waiting = bytearray()
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), block_octets):
            piece = view[start : start + block_octets]
            if len(piece) == block_octets and not waiting:
                yield bytes(piece)
                continue
            waiting += piece
            if len(waiting) >= block_octets:
                yield bytes(waiting)
                waiting.clear()
    if waiting:
        yield bytes(waiting)
