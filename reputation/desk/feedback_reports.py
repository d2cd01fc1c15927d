"""Feedback reports as they arrive by mail (ARF, RFC 5965), as reports that an engine learns.

    multipart/report; report-type=feedback-report
        text/plain                    for people
        message/feedback-report       Feedback-Type, Source-IP, Original-Mail-From, ...
        message/rfc822                the message that it is about, or text/rfc822-headers

What is read: the type, who sent the message (``Source-IP``, ``Original-Mail-From``), to whom, and From and Subject of
the message itself. A sender can be forged, so he is blamed only if the report's ``Authentication-Results`` says that
SPF passes for his domain; the author only if DKIM or DMARC passes for his. Otherwise it is about the address that it
came from.

A report that comes twice is known by its Message-ID, or else by what it says.

Does not do: reports of failed authentication (RFC 6591), which say nothing of unwanted mail.

Bugs: ``Incidents`` is not read: a report is one report. Text that was redacted (RFC 6590) is taken as it stands.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from email.errors import MessageError
from email.header import decode_header, make_header
from email.message import Message
from email.utils import parseaddr

from reputation.desk.documents import OutcomeReport
from reputation.errors import ConfigError
from reputation.events import OutcomeKind
from reputation.spelling import organisational_domain

KINDS: Mapping[str, OutcomeKind] = {
    "abuse": OutcomeKind.COMPLAINT,
    "fraud": OutcomeKind.FRAUD,
    "virus": OutcomeKind.MALWARE,
    "other": OutcomeKind.ABUSIVE,
    "not-spam": OutcomeKind.HAM,
}
"""Feedback-Type (RFC 5965 section 7.3, RFC 6430 for not-spam) -> what it is an outcome of."""
MEDIA_TYPES = ("multipart/report", "message/rfc822")
"""What a report is sent as."""
MAX_PARTS = 100
MAX_TEXT = 998
"""Of one field (RFC 5322 section 2.1.1)."""

_FEEDBACK = "message/feedback-report"
_ORIGINAL = ("message/rfc822", "message/global", "text/rfc822-headers")
_RESULT = re.compile(r"\b(spf|dkim|dmarc)\s*=\s*pass\b([^;]*)", re.IGNORECASE)
_DOMAINS: Mapping[str, re.Pattern[str]] = {
    "spf": re.compile(r"smtp\.mailfrom\s*=\s*\"?(?:[^\s@;\"]*@)?([^\s;\"]+)", re.IGNORECASE),
    "dkim": re.compile(r"header\.[di]\s*=\s*\"?[^\s@;\"]*?@?([^\s@;\"]+)", re.IGNORECASE),
    "dmarc": re.compile(r"header\.from\s*=\s*\"?(?:[^\s@;\"]*@)?([^\s;\"]+)", re.IGNORECASE),
}
"""Where a result names the domain that it is about (RFC 8601 section 2.7)."""


def report_in(octets: bytes) -> OutcomeReport:
    """The report in a message; raises `ConfigError` for what is none, with what is missing."""
    try:
        parts = list(_parts(message_from_bytes(octets)))
        return _report(parts, octets)
    except (MessageError, RecursionError, LookupError, ValueError, AttributeError, TypeError) as error:
        raise ConfigError(f"no feedback report (RFC 5965): it cannot be read: {type(error).__name__}") from None


def _parts(message: Message) -> Iterator[Message]:
    for number, part in enumerate(message.walk()):
        if number >= MAX_PARTS:
            raise ConfigError(f"no feedback report (RFC 5965): it has more than {MAX_PARTS} parts")
        yield part


def _report(parts: list[Message], octets: bytes) -> OutcomeReport:
    feedback = next((part for part in parts if part.get_content_type() == _FEEDBACK), None)
    if feedback is None:
        raise ConfigError(f"no feedback report (RFC 5965): there is no part of type {_FEEDBACK}")
    fields = _inner(feedback)
    kind = _kind(_field(fields, "Feedback-Type"))
    original = _original(parts, feedback)
    sender, author = _address(_field(fields, "Original-Mail-From")), _address(_field(original, "From"))
    proven = dict(_proven(fields.get_all("Authentication-Results", [])))
    client = _field(fields, "Source-IP").strip("[]").removeprefix("IPv6:")
    if not (client or sender or author):
        raise ConfigError("the report names nobody: no Source-IP, no Original-Mail-From, no message with a From")
    return OutcomeReport(
        kind=kind,
        client=client,
        sender=sender,
        recipient=_address(_field(fields, "Original-Rcpt-To")),
        author=author,
        subject=_field(original, "Subject"),
        sender_proven=_is_of(sender, proven, "spf"),
        author_proven=_is_of(author, proven, "dkim", "dmarc"),
        key=_key(parts[0], octets),
    )


def _kind(word: str) -> OutcomeKind:
    if not word:
        raise ConfigError("no feedback report (RFC 5965): it has no Feedback-Type")
    if word.lower() not in KINDS:
        raise ConfigError(f'Feedback-Type: "{word:.40}" says nothing of unwanted mail: {", ".join(KINDS)} do')
    return KINDS[word.lower()]


def _inner(part: Message) -> Message:
    """The fields of a part that has nothing but fields."""
    inner = part.get_payload()
    if isinstance(inner, list) and inner and isinstance(inner[0], Message):
        return inner[0]
    octets = part.get_payload(decode=True)
    return message_from_bytes(octets if isinstance(octets, bytes) else b"")


def _original(parts: list[Message], feedback: Message) -> Message:
    """The header of the message that the report is about; empty where it is not there."""
    behind = parts[parts.index(feedback) + 1 :]
    original = next((part for part in behind if part.get_content_type() in _ORIGINAL), None)
    return Message() if original is None else _inner(original)


def _field(message: Message, name: str) -> str:
    """The first field of that name, on one line and decoded; empty where there is none."""
    raw = message.get(name)
    if raw is None:
        return ""
    try:
        text = str(make_header(decode_header(str(raw))))
    except (ValueError, LookupError, MessageError):  # no text in the charset that it names
        text = str(raw)
    line = " ".join(text.encode("utf-8", "replace").decode().split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:MAX_TEXT]


def _address(text: str) -> str:
    """The address in a field; "" for a null sender, and for none."""
    found = parseaddr(text)[1]
    return found if "@" in found else ""


def _proven(results: list[object]) -> Iterator[tuple[tuple[str, str], bool]]:
    """(method, organisational domain) of whatever passes."""
    for result in results:
        for method, rest in _RESULT.findall(str(result)):
            if (domain := _DOMAINS[method.lower()].search(rest)) is not None:
                yield (method.lower(), organisational_domain(domain[1].lower().rstrip("."))), True


def _is_of(address: str, proven: Mapping[tuple[str, str], bool], *methods: str) -> bool:
    domain = organisational_domain(address.rpartition("@")[2].lower())
    return bool(address) and any((method, domain) in proven for method in methods)


def _key(message: Message, octets: bytes) -> str:
    """What a report is known by when it comes again."""
    known = _field(message, "Message-ID").encode() or octets
    return f"arf:{hashlib.blake2b(known, digest_size=16).hexdigest()}"
