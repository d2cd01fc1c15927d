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

Promises: whatever is in it, the time that it takes is that of its length, and its length is bounded.

Does not do: reports of failed authentication (RFC 6591), which say nothing of unwanted mail; reports within other
messages.

Bugs: ``Incidents`` is not read: a report is one report. Text that was redacted (RFC 6590) is taken as it stands. A
subject in a charset that is not in `_CHARSETS` is shown as it came.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from email.errors import MessageError
from email.header import decode_header, make_header

from reputation.desk.authentication_results_read import MAX_DOMAIN, passed
from reputation.desk.documents import OutcomeReport
from reputation.desk.field_tokens import ADDRESSES, Token, Unreadable, tokens_of
from reputation.desk.report_parts import REPORT, Header, Part, part_of, parts_in
from reputation.errors import ConfigError
from reputation.events import OutcomeKind
from reputation.spelling import canonical_domain, organisational_domain

KINDS: Mapping[str, OutcomeKind] = {
    "abuse": OutcomeKind.COMPLAINT,
    "fraud": OutcomeKind.FRAUD,
    "virus": OutcomeKind.MALWARE,
    "other": OutcomeKind.ABUSIVE,
    "not-spam": OutcomeKind.HAM,
}
"""Feedback-Type (RFC 5965 section 7.3, RFC 6430 for not-spam) -> what it is an outcome of."""
OF_REPORTS = "arf:"
"""What the keys of feedback reports begin with."""
MEDIA_TYPES = (REPORT, "message/rfc822")
"""What a report is sent as."""
MAX_REPORT_OCTETS = 2**20
MAX_TEXT = 998
"""Of one field (RFC 5322 section 2.1.1)."""
MAX_RESULTS = 10
"""Of fields that are called Authentication-Results: what comes after them is not read."""

_FEEDBACK = "message/feedback-report"
_ORIGINAL = ("message/rfc822", "message/global", "text/rfc822-headers")
_WORD_CHARSET = re.compile(r"=\?([^?* ]*+)")
_CHARSETS = re.compile(
    r"utf-?8|us-ascii|iso-8859-\d\d?|iso-2022-(?:jp|kr)|windows-\d{3,4}|cp\d{3,4}|koi8-[ru]|gb2312|gbk|gb18030|big5"
    r"|shift_jis|euc-(?:jp|kr)",
    re.IGNORECASE | re.ASCII,
)
"""In which a subject is read. The interpreter remembers each name that it did not know for ever."""


def report_in(octets: bytes) -> OutcomeReport:
    """The report in a message of at most 1 MiB; raises `ConfigError` for what is none, with what is missing."""
    if len(octets) > MAX_REPORT_OCTETS:
        raise ConfigError(f"no feedback report (RFC 5965): it has more than {MAX_REPORT_OCTETS} octets")
    message = part_of(octets)
    parts = parts_in(message)
    place = next((place for place, part in enumerate(parts) if part.media_type == _FEEDBACK), None)
    if place is None:
        raise ConfigError(f"no feedback report (RFC 5965): there is no part of type {_FEEDBACK} in a {REPORT}")
    report = _report(parts[place].inner(), _original(parts[place + 1 :]))
    return replace(report, key=_key(message.header, report))


def _report(fields: Header, original: Header) -> OutcomeReport:
    kind = _kind(_text(fields.first("Feedback-Type")))
    sender, author = _address(fields, "Original-Mail-From"), _address(original, "From")
    proven = frozenset(_proven(fields.whole("Authentication-Results", MAX_RESULTS)))
    client = _text(fields.first("Source-IP")).strip("[]").removeprefix("IPv6:")
    if not (client or sender or author):
        raise ConfigError("the report names nobody: no Source-IP, no Original-Mail-From, no message with a From")
    return OutcomeReport(
        kind=kind,
        client=client,
        sender=sender,
        recipient=_address(fields, "Original-Rcpt-To"),
        author=author,
        subject=_decoded(original.first("Subject")),
        sender_proven=_is_of(sender, proven, "spf"),
        author_proven=_is_of(author, proven, "dkim", "dmarc"),
    )


def _kind(word: str) -> OutcomeKind:
    if not word:
        raise ConfigError("no feedback report (RFC 5965): it has no Feedback-Type")
    if word.lower() not in KINDS:
        raise ConfigError(f'Feedback-Type: "{word:.40}" says nothing of unwanted mail: {", ".join(KINDS)} do')
    return KINDS[word.lower()]


def _original(behind: Sequence[Part]) -> Header:
    """The header of the message that the report is about; empty where it is not there."""
    return next((part.inner() for part in behind if part.media_type in _ORIGINAL), Header(b""))


def _text(value: str) -> str:
    """On one line, without anything that is not seen."""
    line = " ".join(value[: 2 * MAX_TEXT].encode("utf-8", "replace").decode().split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:MAX_TEXT]


def _decoded(value: str) -> str:
    """A text with its encoded words (RFC 2047) read; as it came, where one of them cannot be."""
    text = _text(value)
    charsets = set(_WORD_CHARSET.findall(text))
    if not charsets or not all(_CHARSETS.fullmatch(name) for name in charsets):
        return text
    try:
        return _text(str(make_header(decode_header(text))))
    except (ValueError, LookupError, MessageError):  # no text in the charset that it names
        return text


def _address(header: Header, name: str) -> str:
    """The first address in a field; "" for a null sender, and for none.

    Encoded words are left as they are: RFC 2047 section 5 has none in an address.
    """
    text = next(iter(header.whole(name)), "")
    try:
        address = _first_of(list(tokens_of(text, ADDRESSES)))
    except Unreadable:  # a name with a lone quotation mark, say: the address still stands at the end
        address = text.rpartition("<")[2].partition(">")[0].strip()
    if address.startswith("@"):
        address = address.partition(":")[2]  # behind a route: RFC 5322 section 4.4
    local, _, domain = address.rpartition("@")
    return address if local and domain and len(address) <= MAX_TEXT and " " not in domain else ""


def _first_of(tokens: Sequence[Token]) -> str:
    """What stands in the first angle brackets, or before the first comma without a gap."""
    words = [token.text for token in tokens]
    if "<" in words:
        inner = words[words.index("<") + 1 :]
        return "".join(inner[: inner.index(">")]) if ">" in inner else ""
    end = words.index(",") if "," in words else len(words)
    return "" if any(token.is_apart for token in tokens[1:end]) else "".join(words[:end])


def _proven(results: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(method, organisational domain) of whatever passes."""
    for result in results:
        for method, domain in passed(result):
            yield method, organisational_domain(canonical_domain(domain))


def _is_of(address: str, proven: frozenset[tuple[str, str]], *methods: str) -> bool:
    domain = address.rpartition("@")[2]
    if not domain or len(domain) > MAX_DOMAIN:
        return False
    whose = organisational_domain(canonical_domain(domain))
    return any((method, whose) in proven for method in methods)


def _key(header: Header, report: OutcomeReport) -> str:
    """What a report is known by when it comes again: its Message-ID is no secret, so it is what it says besides."""
    known = f"{_text(header.first('Message-ID'))}\n{report}".encode("utf-8", "surrogatepass")
    return f"{OF_REPORTS}{hashlib.blake2b(known, digest_size=16).hexdigest()}"
