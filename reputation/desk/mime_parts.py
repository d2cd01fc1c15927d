"""The parts of a message (MIME, RFC 2045 to 2047), for whoever looks for one of them. Bounded, whatever was sent.

    multipart/mixed                  parts_of yields each part when it begins,
        multipart/report             and then those that are in it
            text/plain
            message/feedback-report
            message/rfc822           a message: what is in it is parts again
        text/plain

Only heads of parts are read. Each level of nesting goes over the octets once, and there are `MAX_DEPTH` of them: the
standard library's parser looks at each line once for each level, and at each parameter once for each before it, so that
two megabytes can keep it for minutes.

Does not do: take a message for what it is not. What has no boundary, or more of anything than there may be, has no
parts.
"""

import binascii
import quopri
import re
from collections.abc import Iterator
from contextlib import suppress
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from typing import NamedTuple

MAX_PARTS = 100
MAX_DEPTH = 6
MAX_HEAD_OCTETS = 65_536
"""Of the header of a part: what lies beyond is not read."""
MAX_FIELDS = 500
MAX_TEXT = 998
"""Of one field (RFC 5322 section 2.1.1), unfolded."""
MAX_BOUNDARY = 200
"""RFC 2046 section 5.1.1 allows 70."""
PLAIN = "text/plain"

_FOLD = re.compile(rb"\n(?![ \t])")
_NO_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")


class TooManyParts(ValueError):
    """A message with more parts than anybody sends."""


class Part(NamedTuple):
    """A part, or a whole message."""

    media_type: str
    boundary: bytes
    fields: "Fields"
    body: bytes
    """As it came, with LF at the ends of its lines."""

    def inner(self) -> "Fields":
        """The fields that it consists of, or begins with: of a message or report that is in it."""
        encoded = self.body[: 2 * MAX_HEAD_OCTETS]
        match self.fields.text("content-transfer-encoding").lower():
            case "base64":
                decoded = _from_base64(encoded)
            case "quoted-printable":
                decoded = quopri.decodestring(encoded)
            case _:
                decoded = encoded
        return Fields(_cut(decoded.replace(b"\r\n", b"\n").lstrip(b"\n"))[0])


class Fields:
    """A header: its fields as they came, in their order."""

    __slots__ = ("_fields", "head")

    def __init__(self, head: bytes) -> None:
        self.head = head[:MAX_HEAD_OCTETS]
        self._fields: dict[str, list[bytes]] = {}
        for line in _FOLD.split(self.head, MAX_FIELDS)[:MAX_FIELDS]:
            name, colon, value = line.partition(b":")
            if colon:
                self._fields.setdefault(name.decode("latin-1").strip().lower(), []).append(value)

    def raw(self, name: str) -> list[bytes]:
        """All fields of a name (in lower case)."""
        return self._fields.get(name, [])

    def text(self, name: str) -> str:
        """The first field of a name, on one line and decoded; empty where there is none."""
        return next((_text(value) for value in self.raw(name)), "")

    def plain(self, name: str) -> list[str]:
        """All fields of a name, each on one line, not decoded, as far as `4 * MAX_TEXT`."""
        return [_line(value, 4 * MAX_TEXT) for value in self.raw(name)]


NO_FIELDS = Fields(b"")


def parts_of(octets: bytes) -> Iterator[Part]:
    """A message, and all that is in it, the outer before the inner; raises `TooManyParts`."""
    waiting = [(octets.replace(b"\r\n", b"\n"), PLAIN, 0)]
    for _ in range(MAX_PARTS):
        if not waiting:
            return
        text, otherwise, depth = waiting.pop()
        part = _part(text, otherwise)
        yield part
        if depth < MAX_DEPTH:
            waiting += [(inner, kind, depth + 1) for inner, kind in reversed(_inside(part))]
    if waiting:
        raise TooManyParts(f"it has more than {MAX_PARTS} parts")


def _inside(part: Part) -> list[tuple[bytes, str]]:
    """What is in a part, each with the type that it has if it names none."""
    if part.media_type.startswith("multipart/") and part.boundary:
        # RFC 2046 section 5.1.5: what is in a digest is a message
        otherwise = "message/rfc822" if part.media_type == "multipart/digest" else PLAIN
        return [(text, otherwise) for text in _split(part.body, part.boundary)]
    return [(part.body, PLAIN)] if part.media_type in ("message/rfc822", "message/global") else []


def _split(body: bytes, boundary: bytes) -> list[bytes]:
    """What stands between the delimiters. RFC 2046 section 5.1.1; the last one may be missing."""
    delimiter = re.compile(rb"\n--" + re.escape(boundary) + rb"(--)?+[ \t\r]*+(?=\n|\Z)")
    body, start, found = b"\n" + body, -1, list[bytes]()
    for match in delimiter.finditer(body):
        if start >= 0:
            found.append(body[start : match.start()])
        if match[1] or len(found) > MAX_PARTS:
            return found
        start = match.end() + 1
    return [*found, body[start:]] if start >= 0 else found


def _part(text: bytes, otherwise: str) -> Part:
    head, body = _cut(text)
    fields = Fields(head)
    told = fields.plain("content-type")
    media_type, boundary = _kind(told[0][:MAX_TEXT]) if told else (otherwise, b"")
    return Part(media_type, boundary, fields, body)


def _cut(text: bytes) -> tuple[bytes, bytes]:
    """Header and body."""
    if text.startswith(b"\n"):
        return b"", text[1:]
    head, _, body = text.partition(b"\n\n")
    return head, body


def _kind(value: str) -> tuple[str, bytes]:
    """Media type and boundary of a Content-Type; text where it is none (RFC 2045 section 5.2)."""
    message = Message()
    message["Content-Type"] = value
    try:
        boundary = str(message.get_boundary("") or "")
        return message.get_content_type(), boundary.encode("latin-1", "replace")[:MAX_BOUNDARY]
    except (ValueError, LookupError, TypeError, AttributeError):  # parameters of RFC 2231 that are none
        return PLAIN, b""


def _line(value: bytes, most: int) -> str:
    return " ".join(value[: 2 * most].decode("utf-8", "replace").split())[:most]


def _text(value: bytes) -> str:
    """A field's text, decoded where it can be (RFC 2047), without anything that is not seen."""
    text = _line(value, MAX_TEXT)
    if "=?" in text:
        with suppress(ValueError, LookupError, MessageError):  # no text in the charset that it names: as it stands
            text = str(make_header(decode_header(text)))
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:MAX_TEXT]


def _from_base64(encoded: bytes) -> bytes:
    """What can be decoded: whole groups of four, without what is no base64."""
    letters = _NO_BASE64.sub(b"", encoded)
    return binascii.a2b_base64(letters[: len(letters) // 4 * 4])
