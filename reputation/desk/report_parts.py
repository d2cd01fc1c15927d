"""The parts of a ``multipart/report`` (RFC 6522), and the header fields of each. Pure, in linear time.

The parser of the standard library takes a time that grows with the square of the parameters of a field, and with the
product of lines and nested boundaries, and what is in a report was written by strangers. So here a body is split once,
at the delimiters of the outermost boundary, and nothing is looked for within a part but the header that it begins with.

Limits: `MAX_FIELDS` of each header are read, `MAX_FIELD_OCTETS` of each field; more than `MAX_PARTS` parts are none.
An encoded part is decoded if it has no more than `MAX_ENCODED_OCTETS`; else it has no fields.

Does not do: parts within parts; parameters in pieces (RFC 2231).
"""

import binascii
import re
from typing import NamedTuple

from reputation.desk.field_tokens import Unreadable, pairs_of, segments_of, unquoted
from reputation.errors import ConfigError

MAX_PARTS = 20
MAX_FIELDS = 200
MAX_FIELD_OCTETS = 4_096
MAX_ENCODED_OCTETS = 65_536
MAX_BOUNDARY = 200
"""RFC 2046 section 5.1.1 allows 70."""
REPORT = "multipart/report"

_FIELD_END = re.compile(rb"\n(?![ \t])")
_GAPS = str.maketrans({"\n": "", "\r": " ", "\t": " "})
"""Unfolding (RFC 5322 section 2.2.3) takes the ends of lines out. A space beyond ASCII separates nothing."""


class Header:
    """The fields of a header, by their names in lower case."""

    __slots__ = ("_fields",)

    def __init__(self, octets: bytes) -> None:
        self._fields: dict[bytes, list[bytes]] = {}
        for line in _FIELD_END.split(octets, MAX_FIELDS)[:MAX_FIELDS]:
            name, colon, value = line.partition(b":")
            if colon and len(name) < MAX_FIELD_OCTETS:
                self._fields.setdefault(name.strip().lower(), []).append(value[: MAX_FIELD_OCTETS + 1])

    def first(self, name: str) -> str:
        """The first field of that name, cut where it is too long; empty where there is none."""
        return next((_line(value[:MAX_FIELD_OCTETS]) for value in self._of(name)), "")

    def whole(self, name: str, most: int = 1) -> list[str]:
        """The first `most` fields of that name, without those that are too long: the end of one may turn it round."""
        return [_line(value) for value in self._of(name)[:most] if len(value) <= MAX_FIELD_OCTETS]

    def _of(self, name: str) -> list[bytes]:
        return self._fields.get(name.lower().encode(), [])


class Part(NamedTuple):
    """A part, or the message itself."""

    header: Header
    body: bytes
    """With LF at the ends of lines."""

    @property
    def media_type(self) -> str:
        """In lower case, without parameters."""
        return self.header.first("Content-Type").partition(";")[0].partition("(")[0].strip().lower()

    @property
    def boundary(self) -> bytes:
        """What separates its parts; empty where it names nothing that could."""
        boundary = _parameter(self.header.first("Content-Type"), "boundary").rstrip(" ").encode("utf-8", "replace")
        return boundary if len(boundary) <= MAX_BOUNDARY else b""

    def inner(self) -> Header:
        """The fields that it consists of, or begins with."""
        return Header(_cut(_decoded(self).lstrip(b"\n"))[0])


def part_of(octets: bytes) -> Part:
    """A message, or one of the parts that `parts_in` finds."""
    head, body = _cut(octets.replace(b"\r\n", b"\n"))
    return Part(Header(head), body)


def parts_in(message: Part) -> list[Part]:
    """The parts of a report, none where it is no report; raises `ConfigError` for too many."""
    if message.media_type != REPORT or not message.boundary:
        return []
    return [part_of(text) for text in _split(message.body, message.boundary)]


def _split(body: bytes, boundary: bytes) -> list[bytes]:
    """What stands behind each delimiter line (RFC 2046 section 5.1.1). The last delimiter may be missing."""
    body, mark, found = b"\n" + body, b"\n--" + boundary, list[bytes]()
    start, at = -1, body.find(mark)
    while at >= 0:
        line_end = body.find(b"\n", at + 1)
        line_end = len(body) if line_end < 0 else line_end
        rest = body[at + len(mark) : line_end].rstrip(b" \t\r")
        if rest in (b"", b"--"):
            if start >= 0:
                found.append(body[start:at])
            if len(found) > MAX_PARTS:
                raise ConfigError(f"no feedback report (RFC 5965): it has more than {MAX_PARTS} parts")
            if rest:
                return found
            start = line_end + 1
        at = body.find(mark, line_end)
    return [*found, body[start:]] if start >= 0 else found


def _cut(text: bytes) -> tuple[bytes, bytes]:
    """Header and body."""
    if text.startswith(b"\n"):
        return b"", text[1:]
    head, _, body = text.partition(b"\n\n")
    return head, body


def _parameter(content_type: str, wanted: str) -> str:
    """A parameter of a Content-Type (RFC 2045 section 5.1); empty where there is none."""
    try:
        segments = segments_of(content_type)[1:]
    except Unreadable:
        return ""
    for segment in segments:
        try:
            name, value = next(pairs_of(segment), ("", ""))
        except Unreadable:
            continue
        if name == wanted:
            return unquoted(value)
    return ""


def _decoded(part: Part) -> bytes:
    """RFC 5965 section 2 wants it plain, and some encode it."""
    encoding = part.header.first("Content-Transfer-Encoding").strip().lower()
    if encoding not in ("base64", "quoted-printable"):
        return part.body
    if len(part.body) > MAX_ENCODED_OCTETS:
        return b""
    try:
        decoded = binascii.a2b_base64(part.body) if encoding == "base64" else binascii.a2b_qp(part.body)
    except binascii.Error:
        return b""
    return decoded.replace(b"\r\n", b"\n")


def _line(value: bytes) -> str:
    """A field's value on one line, with question marks for what cannot be seen."""
    text = value.decode("utf-8", "replace").translate(_GAPS).strip(" ")
    return text if text.isprintable() else "".join(letter if letter.isprintable() else "?" for letter in text)
