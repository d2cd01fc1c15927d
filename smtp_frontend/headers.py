"""Header fields of a message in transit: those that we read, add and take out. No I/O.

We add ``Received`` (RFC 5321 section 4.4) and ``X-Reputon`` (why it was let through), and take out any
``X-Reputon`` that came with the message, so that what a later hop reads there is ours.

A field begins behind a CRLF and nowhere else, and ends at a CRLF that no blank follows. A line that is no field is
passed over, and the fields below it are read: some readers do, and a rule must not be blind to what they show.

Bugs: of a header with more than `MAX_FIELDS` fields only Subject is found behind them; a text of more than
`MAX_TEXT_LENGTH` characters is read as far as that.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.errors import MessageError
from email.header import decode_header, make_header
from email.utils import format_datetime, parseaddr
from functools import lru_cache
from itertools import islice

from reputation.events import Content, Session
from reputation.verdict import Verdict

VERDICT_FIELD = "X-Reputon"
MAX_HOPS = 100
"""RFC 5321 section 6.3: a message with that many Received fields goes round in circles."""
MAX_FIELDS_BYTES = 2**20
"""Of the whole header block: what is looked through while others wait."""
MAX_FIELDS = 1_000
"""Fields that are looked at; mail that went a long way has some hundred."""
MAX_NAME_LENGTH = 100
MAX_TEXT_LENGTH = 1_000
MAX_RAW_TEXT = 4 * MAX_TEXT_LENGTH
MAX_LINE_LENGTH = 998
"""RFC 5322 section 2.1.1."""
MAX_KEY_LENGTH = 900
"""Escaped, an id of 200 characters can have ten times as many; a line has room for 998."""

_VERDICT_FIELD = re.compile(rb"^X-Reputon(?:-[A-Za-z0-9-]*)?[ \t]*:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*", re.I | re.M)
_RECEIVED_FIELD = re.compile(rb"^Received[ \t]*:", re.I | re.M)
_END_OF_FIELD = re.compile(rb"\r\n(?![ \t])")
_NAME = re.compile(rb"([\x21-\x39\x3b-\x7e]{1,%d})[ \t]*" % MAX_NAME_LENGTH)
_TOKEN = re.compile(rf"[\x21-\x39\x3b-\x7e]{{1,{MAX_NAME_LENGTH}}}")
_PLAIN_AUTHOR = re.compile(
    rb" ?(?:[A-Za-z][A-Za-z0-9]*(?: [A-Za-z0-9]+)* )?<([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*@[A-Za-z0-9.-]+)>"
)
"""What needs no parser: words, and an address between angle brackets."""
_SUBJECT_FIELD = re.compile(rb"^Subject[ \t]*:([^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*)", re.I | re.M)


class Texts(Mapping[str, str]):
    """Lower-case name -> text of a field: unfolded, and decoded where it can be (RFC 2047).

    Octets that are no UTF-8 stay as lone surrogates. A text is made when it is first asked for: of fifty fields rules
    look at two or three, and decoding takes its time.
    """

    __slots__ = ("_bodies", "_from")

    def __init__(self, bodies: dict[str, str | bytes]) -> None:
        self._bodies = bodies
        self._from = bodies.get("from", b"")

    @property
    def author(self) -> str:
        """The address of the first author (RFC 5322 section 3.6.2), empty when there is none.

        Read before anything is decoded: a name that is decoded could look like an address, and like two authors.
        """
        raw = self._from if isinstance(self._from, bytes) else b""
        if len(raw) <= MAX_TEXT_LENGTH and (plain := _PLAIN_AUTHOR.fullmatch(raw)):
            return plain[1].decode("ascii")
        try:
            _, address = parseaddr(" ".join(raw.decode("utf-8", "surrogateescape").split())[:MAX_TEXT_LENGTH])
        except (ValueError, IndexError, RecursionError):  # comments in comments in comments
            return ""
        return address if "@" in address else ""

    def __getitem__(self, name: str) -> str:
        body = self._bodies[name]
        if isinstance(body, bytes):
            body = self._bodies[name] = _text(body)
        return body

    def __contains__(self, name: object) -> bool:
        return name in self._bodies

    def __iter__(self) -> Iterator[str]:
        return iter(self._bodies)

    def __len__(self) -> int:
        return len(self._bodies)


def _text(raw: bytes) -> str:
    """The text of a field's body."""
    text = " ".join(raw.decode("utf-8", "surrogateescape").split())[:MAX_TEXT_LENGTH]
    if "=?" not in text:
        return text
    try:
        return str(make_header(decode_header(text)))[:MAX_TEXT_LENGTH]
    except (LookupError, ValueError, MessageError):  # unknown charset, broken encoding: as it stands
        return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A message in two pieces."""

    fields: bytes
    """The header block, each field with its CRLF; without the blank line. Or nothing but a blank line, which parts our
    own fields from a message that begins with a blank."""
    rest: bytes | memoryview
    """The blank line, when there is one, and the body."""

    @property
    def hops(self) -> int:
        """How many servers say that they have handled it; counted up to `MAX_HOPS`."""
        return sum(1 for _ in islice(_RECEIVED_FIELD.finditer(self.fields), MAX_HOPS))

    def texts(self) -> "Texts":
        """The first field of each name."""
        bodies: dict[str, str | bytes] = {}
        for field in _END_OF_FIELD.split(self.fields, MAX_FIELDS)[:MAX_FIELDS]:
            name, colon, body = field.partition(b":")
            if colon and (match := _NAME.fullmatch(name)):
                bodies.setdefault(match[1].decode("ascii").lower(), body[:MAX_RAW_TEXT])
        if "subject" not in bodies and (late := _SUBJECT_FIELD.search(self.fields)):
            bodies["subject"] = late[1][:MAX_RAW_TEXT]
        return Texts(bodies)

    def without_verdict(self) -> bytes:
        """The header block without fields that only we may set."""
        return _VERDICT_FIELD.sub(b"", self.fields)


def with_subject_prefix(fields: bytes, prefix: str) -> bytes:
    """A header block whose subject begins with `prefix` and a blank; once, however often a message comes by."""
    wanted = prefix.strip().encode("ascii", "replace")
    if not wanted:
        return fields
    found = _SUBJECT_FIELD.search(fields)
    if found is None:
        return b"Subject: " + wanted + b"\r\n" + fields
    if found[1].strip().startswith(wanted):
        return fields
    start = found.start(1)
    return b"".join((fields[:start], b" ", wanted, b" ", fields[start:].lstrip(b" \t")))


def without(fields: bytes, names: Iterable[str]) -> bytes:
    """A header block without the fields of these names; what is no name is passed over."""
    wanted = [re.escape(name.encode("ascii")) for name in names if _TOKEN.fullmatch(name)]
    if not wanted:
        return fields
    return re.sub(
        rb"^(?:%b)[ \t]*:[^\r\n]*\r\n(?:[ \t][^\r\n]*\r\n)*" % b"|".join(wanted), b"", fields, flags=re.I | re.M
    )


def added(name: str, value: str) -> bytes:
    """A field that somebody else wants on top, as one line; nothing where it cannot be one."""
    line = f"{name}: {ascii_only(value)}"
    if not _TOKEN.fullmatch(name) or len(line) > MAX_LINE_LENGTH:
        return b""
    return line.encode("ascii") + b"\r\n"


def split(content: Content) -> Split:
    """Cut a message after its header block. That is copied, the rest is not.

    Of a block that is too large, `MAX_FIELDS_BYTES` and one octet more count as its fields: enough to see that it is.
    """
    if content[:1] in (b" ", b"\t"):  # no field: below ours it would be the end of ours (RFC 5322 section 2.2.3)
        return Split(fields=b"\r\n", rest=memoryview(content))
    end = -2 if content[:2] == b"\r\n" else content.find(b"\r\n\r\n", 0, MAX_FIELDS_BYTES + 2)
    size = end + 2 if end != -1 else MAX_FIELDS_BYTES + 1
    return Split(fields=content[:size], rest=memoryview(content)[size:])


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
        f"\t{_date(at.replace(microsecond=0))}\r\n"
    ).encode("ascii", "backslashreplace")


@lru_cache(maxsize=8)
def _date(at: datetime) -> str:
    """A moment as it stands in a header; many messages come in a second."""
    return format_datetime(at)


def verdict_field(
    verdict: Verdict, tags: tuple[str, ...], id: str, service: str = "", *, filtered: str = "", private: bool = False
) -> bytes:
    """The field that says why the message was let through, and for what service, in the words of the log line.

    A `private` one, of mail of our own users, tells those whom they write to nothing of their counts.
    """
    words = [f"{VERDICT_FIELD}: {verdict.action}", f"reason={verdict.reason}"]
    if (finding := verdict.deciding) is not None and not private:
        words += [
            f"rule={finding.rule}",
            f"key={ascii_only(str(finding.entity))[:MAX_KEY_LENGTH]}",
            f"count={finding.reading.count}",
            f"limit={finding.limit}",
        ]
    if verdict.entry and not private:
        words.append(f"entry={ascii_only(verdict.entry)[:MAX_KEY_LENGTH]}")
    if tags:
        words.append(f"tags={','.join(tags)}")
    if service:
        words.append(f"service={ascii_only(service)[:MAX_KEY_LENGTH]}")
    if filtered:
        words.append(f"filter={ascii_only(filtered)}")
    words.append(f"id={id}")
    # RFC 5322 section 2.1.1: folded, so that no line grows beyond 998 octets.
    return ("\r\n\t".join(words) + "\r\n").encode("ascii", "backslashreplace")


def ascii_only(text: str) -> str:
    """`text` for a reply line or a header field: printable ASCII, other characters as escapes."""
    return "".join(c if c.isprintable() else "?" for c in text).encode("ascii", "backslashreplace").decode("ascii")
