"""Lines of Postfix. They are written after what Postfix 3.7 prints; `tests.mta` reads what a real one prints."""

from ipaddress import ip_address

import pytest

from reputation.replay.records import (
    Connected,
    Expired,
    Fate,
    Left,
    LoginFailed,
    Queued,
    Record,
    Refused,
    Removed,
    Secured,
    Taken,
    Turned,
    UnreadableLine,
    Went,
)
from tests.unit.replay.logs_for_tests import record, us

AT = us(15, 4, 13)
CLIENT = ip_address("192.0.2.7")
ID = "mx 4F1A2B"
LONG = "mx 3Pt2mN2VXxznjll"
REJECT = "NOQUEUE: reject: RCPT from mail.example.com[192.0.2.7]: "
ENVELOPE = "from=<a@example.com> to=<b@example.net> proto=ESMTP helo=<mail.example.com>"


def refused(what: Turned, recipient: str = "b@example.net", id: str = "") -> Refused:
    return Refused(AT, "mx 8", id, CLIENT, what, "a@example.com", recipient)


@pytest.mark.parametrize(
    ("program", "text", "meant"),
    [
        ("smtpd", "connect from mail.example.com[192.0.2.7]", Connected(AT, "mx 8", CLIENT)),
        ("submission/smtpd", "connect from mail.example.com[192.0.2.7]:4711", Connected(AT, "mx 8", CLIENT)),
        ("smtpd", "connect from unknown[2001:db8::1]", Connected(AT, "mx 8", ip_address("2001:db8::1"))),
        ("smtpd", "connect from unknown[unknown]", Connected(AT, "mx 8", None)),
        ("smtpd", "disconnect from mail.example.com[192.0.2.7] ehlo=1 quit=1 commands=2", Left(AT, "mx 8")),
        (
            "smtpd",
            "Anonymous TLS connection established from mail.example.com[192.0.2.7]: TLSv1.3 with cipher X",
            Secured(AT, "mx 8"),
        ),
        ("smtpd", "4F1A2B: client=mail.example.com[192.0.2.7]", Taken(AT, "mx 8", ID, CLIENT)),
        ("smtpd", "3Pt2mN2VXxznjll: client=mail.example.com[192.0.2.7]", Taken(AT, "mx 8", LONG, CLIENT)),
        (
            "smtps/smtpd",
            "4F1A2B: client=unknown[192.0.2.7]:993, sasl_method=PLAIN, sasl_username=Änne Müller",
            Taken(AT, "mx 8", ID, CLIENT, user="Änne Müller"),
        ),
        (
            "smtpd",
            "4F1A2C: client=localhost[127.0.0.1], orig_queue_id=4F1A2B, orig_client=mail.example.com[192.0.2.7]",
            Taken(AT, "mx 8", "mx 4F1A2C", ip_address("127.0.0.1"), earlier_id=ID, earlier_client=CLIENT),
        ),
        ("smtpd", "NOQUEUE: client=mail.example.com[192.0.2.7]", None),
        ("smtpd", f"{REJECT}550 5.1.1 <b@example.net>: User unknown; {ENVELOPE}", refused(Turned.UNKNOWN_RECIPIENT)),
        ("smtpd", f"{REJECT}550 <b@example.net>: User unknown; {ENVELOPE}", refused(Turned.UNKNOWN_RECIPIENT)),
        ("smtpd", f"{REJECT}450 4.1.1 <b@example.net>: unverified address; {ENVELOPE}", refused(Turned.RECIPIENT)),
        ("smtpd", f"{REJECT}554 5.7.1 <b@example.net>: Relay access denied; {ENVELOPE}", refused(Turned.RECIPIENT)),
        ("smtpd", f"{REJECT}450 4.2.0 <b@example.net>: Greylisted; {ENVELOPE}", refused(Turned.RECIPIENT)),
        (
            "smtpd",
            f"4F1A2B: reject: RCPT from unknown[192.0.2.7]: 550 5.1.1 <b@example.net>: Unknown; {ENVELOPE}",
            refused(Turned.UNKNOWN_RECIPIENT, id=ID),
        ),
        (
            "smtpd",
            (
                "NOQUEUE: reject: MAIL from unknown[192.0.2.7]: 552 5.3.4 Message size exceeds fixed limit; "
                "from=<a@example.com> proto=ESMTP helo=<x>"
            ),
            refused(Turned.SENDER, ""),
        ),
        (
            "smtpd",
            f"{REJECT}550 5.7.1 <b@example.net>: no; from=<x@y> to=<z@y> proto=SMTP: really; {ENVELOPE}",
            refused(Turned.RECIPIENT),
        ),
        ("smtpd", "NOQUEUE: reject: CONNECT from x[192.0.2.7]: 554 5.7.1 <x[192.0.2.7]>: no; proto=SMTP", None),
        (
            "cleanup",
            (
                "4F1A2B: milter-reject: END-OF-MESSAGE from x[192.0.2.7]: 5.7.1 Spam; "
                "from=<a@example.com> to=<b@example.net> proto=ESMTP helo=<x>"
            ),
            Refused(AT, "", ID, None, Turned.MESSAGE, "a@example.com"),
        ),
        (
            "cleanup",
            (
                "4F1A2B: reject: header Subject: free money from x[192.0.2.7]; from=<a@example.com> to=<b@example.net> "
                "proto=ESMTP helo=<x>: 5.7.1 message content rejected"
            ),
            Refused(AT, "", ID, None, Turned.MESSAGE, "a@example.com"),
        ),
        ("cleanup", "4F1A2B: message-id=<1@example.com>", None),
        (
            "postscreen",
            (
                "NOQUEUE: reject: RCPT from [192.0.2.7]:4711: 550 5.7.1 Service unavailable; client [192.0.2.7] "
                "blocked using zen.example.org; from=<a@example.com>, to=<b@example.net>, proto=ESMTP, helo=<x>"
            ),
            Refused(AT, "mx [192.0.2.7]:4711", "", CLIENT, Turned.RECIPIENT, "a@example.com", "b@example.net"),
        ),
        ("postscreen", "CONNECT from [192.0.2.7]:4711 to [198.51.100.1]:25", None),
        (
            "qmgr",
            "4F1A2B: from=<a@example.com>, size=305, nrcpt=2 (queue active)",
            Queued(AT, ID, "a@example.com", 305, 2),
        ),
        ("qmgr", "4F1A2B: from=<>, size=305, nrcpt=1 (queue active)", Queued(AT, ID, "", 305, 1)),
        ("qmgr", "4F1A2B: from=<a@example.com>, status=expired, returned to sender", Expired(AT, ID)),
        ("qmgr", "4F1A2B: removed", Removed(AT, ID)),
        (
            "smtp",
            (
                "4F1A2B: to=<b@example.net>, relay=mx.example.net[198.51.100.1]:25, conn_use=2, delay=1, "
                "delays=0/0/0/1, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 12)"
            ),
            Went(AT, ID, "b@example.net", "b@example.net", Fate.SENT),
        ),
        (
            "local",
            (
                "4F1A2B: to=<root@example.net>, orig_to=<team@example.net>, relay=local, delay=1, "
                'dsn=5.1.1, status=bounced (unknown user: "root")'
            ),
            Went(AT, ID, "root@example.net", "team@example.net", Fate.BOUNCED),
        ),
        (
            "smtp",
            "4F1A2B: to=<b@example.net>, relay=none, delay=1, delays=0/0/0/1, dsn=4.4.1, status=deferred (timed out)",
            Went(AT, ID, "b@example.net", "b@example.net", Fate.DEFERRED),
        ),
        (
            "smtp",
            "4F1A2B: to=<b@example.net>, relay=x, delay=1, delays=0/0/0/1, dsn=2.0.0, status=deliverable (250 ok)",
            None,
        ),
        (
            "smtpd",
            "warning: unknown[192.0.2.7]: SASL PLAIN authentication failed: authentication failure, sasl_username=foo",
            LoginFailed(AT, "mx 8", CLIENT, "foo"),
        ),
        (
            "smtpd",
            "warning: unknown[192.0.2.7]: SASL LOGIN authentication failed: UGFzc3dvcmQ6",
            LoginFailed(AT, "mx 8", CLIENT, ""),
        ),
        ("smtpd", "warning: hostname mail.example.com does not resolve to address 192.0.2.7", None),
        ("smtpd", "lost connection after RCPT from unknown[192.0.2.7]", None),
        ("anvil", "statistics: max connection rate 1/60s", None),
        ("pickup", "4F1A2B: uid=0 from=<root>", None),
    ],
)
def test_what_a_line_says(program: str, text: str, meant: Record | None) -> None:
    assert record(f"Nov 24 15:04:13 mx postfix/{program}[8]: {text}") == meant
    assert record(f"2026-11-24T15:04:13+00:00 mx postfix-in/{program}[8]: {text}") == meant


@pytest.mark.parametrize(
    ("program", "text"),
    [
        ("smtpd", "connect from mail.exam"),
        ("smtpd", "4F1A2B: client=mail.exam"),
        ("smtpd", "NOQUEUE: reject: RCPT from mail.exam"),
        ("qmgr", "4F1A2B: from=<a@example.com>, size=305, nr"),
        ("smtp", "4F1A2B: to=<b@example.net>, relay=mx.example.net[198.51.100.1]:25, conn_u"),
        ("smtp", "4F 1A: to=<b@example.net>, relay=x, delay=1, delays=0/0/0/1, dsn=2.0.0, status=sent (x)"),
    ],
)
def test_a_line_that_is_cut_is_said_to_be_unreadable(program: str, text: str) -> None:
    with pytest.raises(UnreadableLine):
        record(f"Nov 24 15:04:13 mx postfix/{program}[8]: {text}")


def test_other_programs_are_passed_over() -> None:
    assert record("Nov 24 15:04:13 mx dovecot: imap-login: Login: user=<a>") is None
    assert record("Nov 24 15:04:13 mx last message repeated 2 times") is None
    assert record("Nov 24 15:04:13 mx smtpd[8]: connect from mail.example.com[192.0.2.7]") is None


def test_a_priority_of_the_wire_is_passed_over() -> None:
    line = "<22>Nov 24 15:04:13 mx postfix/smtpd[8]: connect from mail.example.com[192.0.2.7]"
    assert record(line) == Connected(AT, "mx 8", CLIENT)
