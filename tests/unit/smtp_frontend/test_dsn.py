"""Delivery reports: who failed for good, whatever the report looks like."""

import time
import tracemalloc
from mmap import mmap

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtp_frontend.dsn import MAX_LOOKED_AT, MAX_RECIPIENTS, failed_recipients

TYPE = 'multipart/report; report-type=delivery-status; boundary="4XyZ.1/mx.example.org"'

POSTFIX = """\
Return-Path: <>
Received: by mx.example.org (Postfix)
\tid 4XyZ1; Mon,  7 Jan 2030 10:00:00 +0000 (UTC)
Date: Mon,  7 Jan 2030 10:00:00 +0000 (UTC)
From: MAILER-DAEMON@mx.example.org (Mail Delivery System)
Subject: Undelivered Mail Returned to Sender
To: alice@example.com
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="4XyZ.1/mx.example.org"
Message-Id: <20300107100000.4XyZ1@mx.example.org>

This is a MIME-encapsulated message.

--4XyZ.1/mx.example.org
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

This is the mail system at host mx.example.org.

Final-Recipient: rfc822; not-a-field@example.org
Action: failed
Status: 5.1.1

                   The mail system

<gone@example.org>: host mail.example.org[192.0.2.25] said: 550 5.1.1 User
    unknown (in reply to RCPT TO command)

--4XyZ.1/mx.example.org
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.org
X-Postfix-Queue-ID: 4XyZ1
X-Postfix-Sender: rfc822; alice@example.com
Arrival-Date: Mon,  7 Jan 2030 09:59:58 +0000 (UTC)

Final-Recipient: rfc822; gone@example.org
Original-Recipient: rfc822;Gone+list@example.org
Action: failed
Status: 5.1.1
Remote-MTA: dns; mail.example.org
Diagnostic-Code: smtp; 550 5.1.1 User
    unknown

Final-Recipient: rfc822; slow@example.org
Action: delayed
Status: 4.4.1
Diagnostic-Code: X-Postfix; connect to mail.example.org[192.0.2.25]:25:
    Connection timed out

Final-Recipient: rfc822; full@example.org
Action: failed
Status: 5.2.2

Final-Recipient: rfc822; tried-for-days@example.org
Action: failed
Status: 4.4.1

Final-Recipient: rfc822; here@example.org
Action: relayed
Status: 2.0.0

--4XyZ.1/mx.example.org
Content-Description: Undelivered Message
Content-Type: message/rfc822

Return-Path: <alice@example.com>
Subject: hello

Final-Recipient: rfc822; not-of-the-report@example.org
Action: failed
Status: 5.1.1

--4XyZ.1/mx.example.org--
""".replace("\n", "\r\n").encode()


def report(
    *groups: str, head: str = "Content-Type: message/delivery-status", type: str = TYPE, hostname: str = ""
) -> tuple[str, ...]:
    """What is read of a report with these groups of fields."""
    fields = "\r\n\r\n".join(("Reporting-MTA: dns; mx.example.org", *groups))
    delimiter = "--4XyZ.1/mx.example.org"
    body = f"Subject: x\r\n\r\n{delimiter}\r\n\r\ntext\r\n{delimiter}\r\n{head}\r\n\r\n{fields}\r\n{delimiter}--\r\n"
    return failed_recipients(type, body.encode("utf-8", "surrogateescape"), hostname)


def group(recipient: str = "rfc822; bob@example.org", action: str = "failed", status: str = "5.1.1") -> str:
    return f"Final-Recipient: {recipient}\r\nAction: {action}\r\nStatus: {status}"


def test_a_report_as_postfix_writes_it() -> None:
    assert failed_recipients(TYPE, POSTFIX) == ("Gone+list@example.org",)


@pytest.mark.parametrize(
    "type",
    [
        "",
        "text/plain",
        "multipart/report",
        "multipart/report; boundary=x",
        "multipart/report; report-type=delivery-status",
        'multipart/report; report-type=disposition-notification; boundary="4XyZ.1/mx.example.org"',
        'multipart/mixed; report-type=delivery-status; boundary="4XyZ.1/mx.example.org"',
        'multipart/report; report-type=delivery-status; boundary="another"',
        'multipart/report; report-type=delivery-status; boundary=""',
        ";;;",
        "\udcff\r\n",
    ],
)
def test_what_is_no_delivery_report(type: str) -> None:
    assert failed_recipients(type, POSTFIX) == ()


@pytest.mark.parametrize(
    "type",
    [
        'MULTIPART/Report; Report-Type=Delivery-Status; BOUNDARY="4XyZ.1/mx.example.org"',
        'multipart/report; boundary="4XyZ.1/mx.example.org"; charset=utf-8; report-type="delivery-status"',
    ],
)
def test_a_type_is_read_whatever_its_case_and_order(type: str) -> None:
    assert report(group(), type=type) == ("bob@example.org",)


@pytest.mark.parametrize(
    ("recipient", "read"),
    [
        ("rfc822; bob@example.org", "bob@example.org"),
        ("RFC822;<bob@example.org>", "bob@example.org"),
        ("utf-8; bücher@example.org", "bücher@example.org"),
        ("rfc822;\r\n bob@example.org", "bob@example.org"),
        ("x400; /C=de/", ""),
        ("bob@example.org", ""),
        ("rfc822; bob", ""),
        ("rfc822; b ob@example.org", ""),
        ("rfc822; a@b@example.org", ""),
        ("rfc822; bob@exam\x07ple.org", ""),
        ("rfc822; bob@example.org\udcff", ""),
        (f"rfc822; {'x' * 600}@example.org", ""),
    ],
)
def test_who_the_recipient_is(recipient: str, read: str) -> None:
    assert report(group(recipient)) == ((read,) if read else ())


@pytest.mark.parametrize(
    ("action", "status", "counts"),
    [
        ("failed", "5.1.1", True),
        ("Failed", "5.1.10 (refused)", True),
        ("Failed", "5.7.1 (refused)", False),
        ("failed", "5.2.2", False),
        ("failed", "4.4.7", False),
        ("failed", "5", False),
        ("failed", "", False),
        ("delayed", "5.1.1", False),
        ("delayed", "4.4.1", False),
        ("delivered", "2.0.0", False),
        ("expanded", "5.0.0", False),
        ("", "5.1.1", False),
    ],
)
def test_what_is_a_failure_for_good(action: str, status: str, counts: bool) -> None:
    assert report(group(action=action, status=status)) == (("bob@example.org",) if counts else ())


def test_the_fields_about_the_message_are_about_nobody() -> None:
    assert report(head=f"Content-Type: message/delivery-status\r\n\r\n{group()}\r\nX: y") == ()


def test_each_recipient_is_told_once() -> None:
    assert report(group(), group(status="5.2.2"), group("rfc822; eve@example.org")) == (
        "bob@example.org",
        "eve@example.org",
    )


def test_a_report_in_utf_8_is_one() -> None:
    assert report(group(), head="content-type: MESSAGE/global-delivery-status; x=y") == ("bob@example.org",)


def test_of_very_many_recipients_the_first_are_read() -> None:
    groups = [group(f"rfc822; u{number}@example.org") for number in range(3 * MAX_RECIPIENTS)]
    assert report(*groups) == tuple(f"u{number}@example.org" for number in range(MAX_RECIPIENTS))


def test_what_is_too_far_down_is_not_looked_at() -> None:
    assert report(f"X: {'x' * MAX_LOOKED_AT}", group()) == ()


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n--4XyZ.1/mx.example.org" * 20_000,
        b"\r\n" * 200_000,
        b"--" * 200_000,
        b"\r\n--4XyZ.1/mx.example.org\r\nContent-Type: message/delivery-status" + b"\r\n\r\nAction: failed" * 30_000,
        b"\r\n--4XyZ.1/mx.example.org" + b" \t" * 200_000,
    ],
)
def test_a_huge_report_takes_no_time(body: bytes) -> None:
    started = time.perf_counter()
    assert failed_recipients(TYPE, b"Subject: x\r\n" + body) == ()
    assert time.perf_counter() - started < 1.0


PIECES = [b"--4XyZ.1/mx.example.org", b"\r\n", b"\r\n\r\n", b"Content-Type: message/delivery-status", b"Action: failed"]
PIECES += [b"Status: 5.1.1", b"Final-Recipient: rfc822; bob@example.org", b"\xff", b"=?", b" ", b":"]


@given(
    st.sampled_from([TYPE, "multipart/report; report-type*=utf-8''x; boundary*0=a; boundary*2=b"])
    | st.text(max_size=40),
    st.lists(st.sampled_from(PIECES) | st.binary(max_size=5), max_size=30).map(b"".join),
)
@example("multipart/report; report-type=delivery-status; boundary*=nonsense''%ff", b"")
@example("multipart/report; report-type*=''x", b"")
def test_no_report_is_too_strange_to_be_read(type: str, content: bytes) -> None:
    assert isinstance(failed_recipients(type, content), tuple)
    assert isinstance(failed_recipients(f"multipart/report; report-type=delivery-status; {type}", content), tuple)


def test_a_large_report_is_read_out_of_its_file_and_not_copied() -> None:
    octets = POSTFIX + b"x" * 2**24
    with mmap(-1, len(octets)) as file:
        file.write(octets)
        tracemalloc.start()
        try:
            assert failed_recipients(TYPE, file) == failed_recipients(TYPE, POSTFIX) != ()
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 10 * MAX_LOOKED_AT


def test_what_we_have_refused_ourselves_is_passed_over() -> None:
    ours = group() + "\r\nRemote-MTA: dns; MX.example.net."
    assert report(ours) == report(ours, hostname="mx2.example.net") == ("bob@example.org",)
    assert report(ours, hostname="mx.example.net") == ()
