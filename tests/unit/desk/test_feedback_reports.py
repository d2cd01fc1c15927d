"""Feedback reports (RFC 5965), as providers send them, and as nobody should."""

import base64
import quopri
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from reputation.desk.documents import OutcomeReport
from reputation.desk.feedback_reports import report_in
from reputation.desk.report_parts import MAX_PARTS
from reputation.desk.reports import outcome_of
from reputation.errors import ConfigError


def report(
    feedback_type: str = "abuse",
    *,
    source: str = "192.0.2.99",
    sender: str = "<news@sender.example>",
    more: str = "",
    original: str = "message/rfc822",
    message_id: str = "<fbl-1@provider.example>",
) -> bytes:
    text = f"""\
From: <abuse@provider.example>
To: <fbl@sender.example>
Subject: FW: A very good offer
Message-ID: {message_id if source == "192.0.2.99" else f"<{source}@provider.example>"}
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
\tboundary="part"

--part
Content-Type: text/plain; charset="US-ASCII"

A user of ours did not want this.

--part
Content-Type: message/feedback-report

Feedback-Type: {feedback_type}
User-Agent: Provider/1.0
Version: 1
Source-IP: {source}
Original-Mail-From: {sender}
Original-Rcpt-To: <user@provider.example>
{more}Received-Date: Tue, 24 Nov 2026 12:00:00 +0000

--part
Content-Type: {original}

From: "News" <News@Sender.Example>
To: user@provider.example
Subject: =?utf-8?q?A_very_g=C3=B6od_offer?=

Buy now.
--part--
"""
    return text.replace("\n", "\r\n").encode()


REPORT = report()
MULTIPART = b"Content-Type: multipart/report; boundary=x\r\n\r\n"
SUBJECT = b"=?utf-8?q?A_very_g=C3=B6od_offer?="
AUTHOR = b'"News" <News@Sender.Example>'


def test_a_report_tells_who_and_what() -> None:
    assert report_in(REPORT) == OutcomeReport(
        kind="complaint",
        client="192.0.2.99",
        sender="news@sender.example",
        recipient="user@provider.example",
        author="News@Sender.Example",
        subject="A very göod offer",
        key=report_in(REPORT).key,
    )
    assert outcome_of(report_in(REPORT)).is_client_known


@pytest.mark.parametrize(
    ("feedback_type", "kind"),
    [("abuse", "complaint"), ("FRAUD", "fraud"), ("virus", "malware"), ("other", "abusive"), ("not-spam", "ham")],
)
def test_each_type_is_an_outcome(feedback_type: str, kind: str) -> None:
    assert report_in(report(feedback_type)).kind == kind


@pytest.mark.parametrize("feedback_type", ["auth-failure", "opt-out", "", "x" * 500])
def test_other_types_say_nothing_of_unwanted_mail(feedback_type: str) -> None:
    with pytest.raises(ConfigError, match="Feedback-Type"):
        report_in(report(feedback_type))


@pytest.mark.parametrize(
    ("result", "sender_proven", "author_proven"),
    [
        ("", False, False),
        ("mx; spf=pass smtp.mailfrom=news@sender.example", True, False),
        ("mx; spf=pass smtp.mailfrom=bounce.sender.example", True, False),
        ("mx; spf=fail smtp.mailfrom=news@sender.example", False, False),
        ("mx; spf=pass smtp.mailfrom=evil.example", False, False),
        ("mx; dkim=pass header.d=sender.example", False, True),
        ("mx; dkim=pass header.i=@mail.sender.example; spf=softfail smtp.mailfrom=sender.example", False, True),
        ("mx; dmarc=pass header.from=sender.example", False, True),
        ("mx; dkim=pass header.d=evil.example header.d=sender.example.evil.example", False, False),
        ("mx; dkim=fail header.d=sender.example", False, False),
        ("mx 1; spf=pass (it may) smtp.mailfrom=news@sender.example; DKIM = pass header.d=Sender.Example", True, True),
        ('mx; spf=pass smtp.mailfrom="odd name"@sender.example', True, False),
        ('mx; spf=pass smtp.mailfrom="odd name@sender.example"', True, False),
        ('mx; spf=pass smtp.mailfrom="; dkim=pass header.d=sender.example "@evil.example', False, False),
        ('mx; spf=pass smtp.mailfrom="x@sender.example"@evil.example', False, False),
        ("mx; spf=fail (spf=pass smtp.mailfrom=sender.example; dkim=pass header.d=sender.example)", False, False),
        ("mx; spf=fail (; dkim=pass header.d=sender.example (; dmarc=pass) header.from=sender.example)", False, False),
        ("mx; x-spf=pass smtp.mailfrom=sender.example; dkim=passed header.d=sender.example", False, False),
        ("mx; spf=pass x-smtp.mailfrom=sender.example; dkim=pass policy.header.d=sender.example", False, False),
        ("spf=pass smtp.mailfrom=sender.example", True, False),
    ],
)
def test_names_are_blamed_when_they_are_proven(result: str, sender_proven: bool, author_proven: bool) -> None:
    read = report_in(report(more=f"Authentication-Results: {result}\n" if result else ""))
    assert (read.sender_proven, read.author_proven) == (sender_proven, author_proven)


def test_what_the_message_says_of_itself_proves_nothing() -> None:
    forged = b"Authentication-Results: mx; spf=pass smtp.mailfrom=sender.example; dmarc=pass header.from=sender.example"
    read = report_in(REPORT.replace(b"From: " + AUTHOR, forged + b"\r\nFrom: " + AUTHOR))
    assert (read.author, read.sender_proven, read.author_proven) == ("News@Sender.Example", False, False)


def test_a_report_within_another_message_is_told_so() -> None:
    head = b"Subject: Fwd\r\nContent-Type: multipart/mixed; boundary=list\r\n\r\n--list\r\n"
    with pytest.raises(ConfigError, match="no part of type message/feedback-report in a multipart/report"):
        report_in(head + b"Content-Type: message/rfc822\r\n\r\n" + REPORT + b"\r\n--list--\r\n")


@pytest.mark.parametrize(
    ("encoding", "encode"), [("base64", base64.encodebytes), ("Quoted-Printable", quopri.encodestring)]
)
def test_parts_may_be_encoded(encoding: str, encode: Callable[[bytes], bytes]) -> None:
    told = f"Content-Type: {{}}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    changed = REPORT
    for kind in ("message/feedback-report", "message/rfc822"):
        plain = f"Content-Type: {kind}\r\n\r\n".encode()
        before, _, behind = changed.partition(plain)
        text, end, rest = behind.partition(b"\r\n--part")
        changed = before + told.format(kind).encode() + encode(text) + end + rest
    read = report_in(changed)
    assert (read.kind, read.client, read.subject) == ("complaint", "192.0.2.99", "A very göod offer")


def test_what_was_redacted_is_nobody() -> None:
    """RFC 6590: local parts in place of which there is a hash."""
    hashed = "<mJ0VXjC2wT5bEmHSlY3q=@provider.example>"
    redacted = REPORT.replace(b"<user@provider.example>", hashed.encode())
    assert report_in(redacted).recipient == hashed.strip("<>")
    assert report_in(REPORT.replace(b"<user@provider.example>", b"[redacted]")).recipient == ""


def test_a_header_alone_will_do() -> None:
    read = report_in(report(original="text/rfc822-headers"))
    assert (read.author, read.subject) == ("News@Sender.Example", "A very göod offer")


def test_without_the_message_it_is_about_who_sent_it() -> None:
    cut = REPORT[: REPORT.rindex(b"--part\r\nContent-Type: message/rfc822")] + b"--part--\r\n"
    read = report_in(cut)
    assert (read.client, read.author, read.subject) == ("192.0.2.99", "", "")


def test_addresses_of_other_kinds() -> None:
    assert report_in(report(source="[IPv6:2001:db8::7]")).client == "2001:db8::7"
    assert report_in(report(sender="<>")).sender == ""


def test_the_same_report_has_the_same_key() -> None:
    other = report(message_id="<fbl-2@provider.example>")
    assert report_in(REPORT).key == report_in(REPORT.replace(b"From: <abuse@", b"Received: x\r\nFrom: <abuse@")).key
    assert report_in(REPORT).key != report_in(other).key
    assert report_in(REPORT).key == report_in(REPORT.replace(b"\r\n", b"\n")).key
    without = REPORT.replace(b"Message-ID: <fbl-1@provider.example>\r\n", b"")
    assert report_in(without).key == report_in(without).key != report_in(REPORT).key


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"hello",
        b"Content-Type: multipart/report; report-type=feedback-report\r\n\r\nno boundary",
        b"Content-Type: multipart/report; boundary*0*=nonsense''%ff; boundary*1=y\r\n\r\n--y\r\n",
        REPORT.replace(b"message/feedback-report", b"message/delivery-status"),
        REPORT.replace(b"Feedback-Type: abuse\r\n", b""),
        REPORT[: REPORT.index(b"Feedback-Type")],
        REPORT.replace(b"\r\n", b""),
        b"\xff" * 10_000,
        b"\r\n" * 10_000,
        MULTIPART + b"--x\r\n\r\n\r\n" * (MAX_PARTS + 10) + b"--x--",
    ],
)
def test_what_is_no_report_is_told_so(octets: bytes) -> None:
    with pytest.raises(ConfigError):
        report_in(octets)


MEGABYTES = 3_000_000


@pytest.mark.parametrize(
    "octets",
    [
        pytest.param(
            b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(3_000))
            + b"-\n" * MEGABYTES,
            id="nested",
        ),
        pytest.param(b"Content-Type: message/rfc822\n\n" * (MEGABYTES // 30), id="nested messages"),
        pytest.param(MULTIPART + b"--xy\n" * (MEGABYTES // 5), id="almost delimiters"),
        pytest.param(MULTIPART + b"--x\n\n" * (MEGABYTES // 5), id="parts"),
        pytest.param(MULTIPART + b"\n--x" + b" " * MEGABYTES + b"y", id="long delimiter"),
        pytest.param(b'Content-Type: multipart/report; boundary="x' + b';a="' * (MEGABYTES // 4), id="parameters"),
        pytest.param(b"a:b\n" * (MEGABYTES // 4), id="fields"),
        pytest.param(b"Content-Type:" + b"\n a" * (MEGABYTES // 3), id="folds"),
        pytest.param(report(more="Authentication-Results: " + "(" * MEGABYTES + "\n"), id="comments"),
        pytest.param(report(more="Authentication-Results: x;" + '"\\' * MEGABYTES + "\n"), id="quotes"),
        pytest.param(report(more="Authentication-Results: x; spf" + "\t" * MEGABYTES + "\n"), id="blanks"),
        pytest.param(REPORT.replace(SUBJECT, b"=?a?q?x" * (MEGABYTES // 7)), id="words"),
        pytest.param(REPORT.replace(AUTHOR, b"(" * MEGABYTES), id="author"),
        pytest.param(REPORT.replace(b"Buy now.", b"\n" * 3 * MEGABYTES), id="a large message"),
    ],
)
def test_whatever_is_sent_is_read_in_no_time(octets: bytes) -> None:
    begun = time.process_time()
    with suppress(ConfigError):
        report_in(octets)
    assert time.process_time() - begun < 2, "tens of milliseconds, on a machine with nothing else to do"


@pytest.mark.parametrize(
    "field",
    [
        "Source-IP: <script>\n",
        "Original-Mail-From: <\x00@\x1b[31m>\n",
        "Authentication-Results: " + "spf=pass smtp.mailfrom=" * 2_000 + "\n",
        "Original-Rcpt-To: " + "<" * 5_000 + "\n",
        "X: =?utf-8?b?////?=\n",
    ],
)
def test_hostile_fields_do_no_harm(field: str) -> None:
    begun = time.process_time()
    read = report_in(report(more=field))
    assert read.kind == "complaint"
    assert read.subject.isprintable()
    assert time.process_time() - begun < 5


def test_a_subject_in_no_charset_is_shown_as_it_came() -> None:
    odd = REPORT.replace(b"=?utf-8?q?A_very_g=C3=B6od_offer?=", b"=?nonsense?q?A_very?=")
    assert report_in(odd).subject == "=?nonsense?q?A_very?="
