"""Delivery status notifications: whose mail came back for good. RFC 3464 (the report), RFC 6522 (its shape). No I/O.

    Content-Type: multipart/report; report-type=delivery-status; boundary="b"

    --b                                         text for people
    --b
    Content-Type: message/delivery-status

    Reporting-MTA: dns; mx.example.org          fields about the message

    Final-Recipient: rfc822; bob@example.org    fields about one recipient; and so on
    Action: failed
    Status: 5.1.1
    --b--                                       the message, or its header

What such a report says is what anybody can write: whoever uses it must know of the message from elsewhere.

Promises: never raises; looks at `MAX_LOOKED_AT` octets and `MAX_RECIPIENTS` groups of fields, at once each.

Bugs: a report that is itself encoded (base64, quoted-printable) is passed over; RFC 3464 section 2.1 wants it plain.
Reports of other kinds, as qmail writes them, say nothing to us.
"""

import re
from collections.abc import Iterator
from email.message import Message

from reputation.events import Content
from smtp_frontend.commands import MAX_DOMAIN, MAX_LOCAL_PART
from smtp_frontend.headers import Split, split

MAX_LOOKED_AT = 256 * 1024
MAX_RECIPIENTS = 10
MAX_PARTS = 10
"""The report is the second one (RFC 6522 section 3)."""

REPORTS = frozenset({"message/delivery-status", "message/global-delivery-status"})  # RFC 3464, RFC 6533

_ADDRESS = re.compile(r"<?([^\s<>@\"]+@[^\s<>@\"]+)>?")
_PERMANENT = re.compile(r"5\.(?:1\.[0-9]{1,3}|2\.[01]|4\.4)(?:[ \t(;].*)?", re.DOTALL)
"""There is no such mailbox or host (RFC 3463). That somebody refuses the mail, 5.7, says nothing of the addresses; and
it may have been us."""


def failed_recipients(content_type: str, content: Content, hostname: str = "") -> tuple[str, ...]:
    """Who will never get the message that came back; each once, and as its sender wrote them where that is told.

    `content_type` is the text of that field of the message, `content` all of it. Empty for any other message. What
    `hostname` has refused, ourselves, is passed over.
    """
    type, boundary = _multipart(content_type)
    if type != "multipart/report" or not boundary:
        return ()
    failed = []
    for part in _parts(split(content[:MAX_LOOKED_AT]).rest, boundary):
        if _multipart(part.texts().get("content-type", ""))[0] in REPORTS:
            # The first group is about the message: RFC 3464 section 2.1.
            _, *groups = bytes(part.rest).removeprefix(b"\r\n").split(b"\r\n\r\n", MAX_RECIPIENTS + 1)
            failed += [recipient for group in groups[:MAX_RECIPIENTS] if (recipient := _failed(group, hostname))]
            break
    return tuple(dict.fromkeys(failed))


def _multipart(content_type: str) -> tuple[str, bytes]:
    """(type, boundary) of a Content-Type; a delivery report's type is multipart/report."""
    field = Message()
    field["Content-Type"] = content_type.encode("ascii", "replace").decode("ascii")
    try:
        type, kind, boundary = field.get_content_type(), field.get_param("report-type"), field.get_param("boundary")
    except (TypeError, ValueError):  # continuations (RFC 2231) in disorder
        return "", b""
    if type == "multipart/report" and str(kind).lower() != "delivery-status":
        return "", b""
    return type, boundary.encode("ascii", "replace") if isinstance(boundary, str) else b""


def _parts(body: bytes | memoryview, boundary: bytes) -> Iterator[Split]:
    """The first parts of a multipart body: RFC 2046 section 5.1.1."""
    delimiter = re.compile(rb"(?:^|\r\n)--" + re.escape(boundary) + rb"(?:--)?[ \t]*(?=\r\n|$)")
    for part in delimiter.split(bytes(body), MAX_PARTS)[1 : MAX_PARTS + 1]:
        yield split(part.removeprefix(b"\r\n"))


def _failed(group: bytes, hostname: str) -> str:
    """The recipient of a group of fields; empty where it is about no permanent failure, or about one of our own."""
    fields = Split(fields=group, rest=b"").texts()
    _, _, remote = fields.get("remote-mta", "").partition(";")
    if hostname and remote.strip().lower().rstrip(".") == hostname.lower():
        return ""
    if fields.get("action", "").lower() != "failed" or not _PERMANENT.fullmatch(fields.get("status", "")):
        return ""
    return _recipient(fields.get("original-recipient", "")) or _recipient(fields.get("final-recipient", ""))


def _recipient(text: str) -> str:
    """``rfc822; bob@example.org``."""
    type, _, address = text.partition(";")
    match = _ADDRESS.fullmatch(address.strip())
    if type.strip().lower() not in {"rfc822", "utf-8"} or match is None or not match[1].isprintable():
        return ""
    return match[1] if len(match[1]) <= MAX_LOCAL_PART + 1 + MAX_DOMAIN else ""
