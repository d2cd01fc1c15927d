"""Header fields of a message in transit: those that we read, add and take out. No I/O.

We add ``Received`` (RFC 5321 section 4.4) and ``X-Reputon`` (why it was let through), and take out any
``X-Reputon`` that came with the message, so that what a later hop reads there is ours.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.header import decode_header, make_header
from email.utils import format_datetime
from itertools import islice

from reputation.events import Session
from reputation.verdict import Verdict

VERDICT_FIELD = "X-Reputon"
MAX_HOPS = 100
"""RFC 5321 section 6.3: a message with that many Received fields goes round in circles."""
MAX_FIELDS_BYTES = 2**20
"""Of the whole header block: what is looked through while others wait."""
MAX_SUBJECT_LENGTH = 1_000
MAX_RAW_SUBJECT = 4 * MAX_SUBJECT_LENGTH
MAX_KEY_LENGTH = 900
"""Escaped, an id of 200 characters can have ten times as many; a line has room for 998."""

_VERDICT_FIELD = re.compile(rb"^X-Reputon(?:-[A-Za-z0-9-]*)?[ \t]*:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.I | re.M)
_RECEIVED_FIELD = re.compile(rb"^Received[ \t]*:", re.I | re.M)
_SUBJECT_FIELD = re.compile(rb"^Subject[ \t]*:([^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)", re.I | re.M)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A message in two pieces."""

    fields: bytes
    """The header block, each field with its CRLF; without the blank line."""
    rest: bytes
    """The blank line, when there is one, and the body."""

    @property
    def hops(self) -> int:
        """How many servers say that they have handled it; counted up to `MAX_HOPS`."""
        return sum(1 for _ in islice(_RECEIVED_FIELD.finditer(self.fields), MAX_HOPS))

    @property
    def subject(self) -> str:
        """The first Subject, decoded (RFC 2047); empty when there is none."""
        match = _SUBJECT_FIELD.search(self.fields)
        if match is None:
            return ""
        raw = " ".join(match[1][:MAX_RAW_SUBJECT].decode("utf-8", "surrogateescape").split())[:MAX_SUBJECT_LENGTH]
        try:
            return str(make_header(decode_header(raw)))
        except (LookupError, ValueError, MessageError):  # unknown charset, broken encoding: as it stands
            return raw

    def without_verdict(self) -> bytes:
        """The header block without fields that only we may set."""
        return _VERDICT_FIELD.sub(b"", self.fields)


def split(content: bytes) -> Split:
    """Cut a message after its header block."""
    if content.startswith(b"\r\n"):
        return Split(fields=b"", rest=content)
    if content.startswith((b" ", b"\t")):  # no field: below ours it would be the end of ours (RFC 5322 section 2.2.3)
        return Split(fields=b"", rest=b"\r\n" + content)
    end = content.find(b"\r\n\r\n")
    if end < 0:
        return Split(fields=content, rest=b"")
    return Split(fields=content[: end + 2], rest=content[end + 2 :])


def received(session: Session, *, hostname: str, protocol: str, id: str, recipient: str, at: datetime) -> bytes:
    """The trace field; `recipient` is empty when there are several, so that none learns of another.

    A recipient that is not ASCII is left out: escaped he would be somebody else, and could be too long for a line.
    """
    client = str(session.client)
    literal = f"[IPv6:{client}]" if session.client.version == 6 else f"[{client}]"
    to = f"\r\n\tfor <{ascii_only(recipient)}>" if recipient and recipient.isascii() else ""
    return (
        f"Received: from {session.helo or 'unknown'} ({literal})\r\n"
        f"\tby {hostname} (reputon) with {protocol} id {id}{to};\r\n"
        f"\t{format_datetime(at)}\r\n"
    ).encode("ascii", "backslashreplace")


def verdict_field(verdict: Verdict, tags: tuple[str, ...], id: str) -> bytes:
    """The field that says why the message was let through, in the words of the log line."""
    words = [f"{VERDICT_FIELD}: {verdict.action}", f"reason={verdict.reason}"]
    if (finding := verdict.deciding) is not None:
        words += [
            f"rule={finding.rule}",
            f"key={ascii_only(str(finding.entity))[:MAX_KEY_LENGTH]}",
            f"count={finding.reading.count}",
            f"limit={finding.limit}",
        ]
    if verdict.entry:
        words.append(f"entry={ascii_only(verdict.entry)[:MAX_KEY_LENGTH]}")
    if tags:
        words.append(f"tags={','.join(tags)}")
    words.append(f"id={id}")
    # RFC 5322 section 2.1.1: folded, so that no line grows beyond 998 octets.
    return ("\r\n\t".join(words) + "\r\n").encode("ascii", "backslashreplace")


def ascii_only(text: str) -> str:
    """`text` for a reply line or a header field: printable ASCII, other characters as escapes."""
    return "".join(c if c.isprintable() else "?" for c in text).encode("ascii", "backslashreplace").decode("ascii")
