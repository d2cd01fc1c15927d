"""Lines of our own log, as `smtp_frontend.maillog` writes them."""

from contextlib import suppress
from ipaddress import ip_address

import pytest

from reputation.events import Event
from reputation.replay.ours import LINE
from reputation.replay.records import MAX_TEXT_LENGTH, Finished, Judged, Record, UnreadableLine
from reputation.verdict import Action, Reason, Verdict
from smtp_frontend import maillog
from tests.builders import connect, data, mail, rcpt
from tests.unit.replay.logs_for_tests import record, us

AT = us(15, 4, 13.5)
START = "2026-11-24T15:04:13.500 INFO reputon.maillog "
CLIENT = ip_address("192.0.2.1")
PREFIXES = (
    "Nov 24 15:04:14 mx reputon[7]: ",
    "<22>Nov  4 15:04:14 mx python3: ",
    "2026-11-24T15:04:14.123456+00:00 mx reputon[7]: ",
    "2026-11-24T15:04:14.123456789Z ",
    "mx-1  | ",
)
"""What stands in front of our lines: a journal's and syslog's dates, a container's, a composition's."""
FORGED = START + "verdict stage=mail action=accept session=a client=192.0.2.1 user=ceo from=<ceo@example.net>"
ACCEPT = Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE)
REFUSE = Verdict(action=Action.TEMPFAIL, reason=Reason.OVER_LIMIT, rule="r")


@pytest.mark.parametrize(
    ("event", "verdict", "meant"),
    [
        (connect(), REFUSE, Judged(AT, " s1", "connect", True, CLIENT)),
        (mail(), ACCEPT, Judged(AT, " s1", "mail", False, CLIENT, "", "alice@example.com")),
        (mail("", user="alice"), REFUSE, Judged(AT, " s1", "mail", True, CLIENT, "alice", "")),
        (mail('"a b=\\"\n\u202eé"@x'), ACCEPT, Judged(AT, " s1", "mail", False, CLIENT, "", '"a b=\\"\n\u202eé"@x')),
        (
            rcpt("bob@example.net"),
            ACCEPT,
            Judged(AT, " s1", "rcpt", False, CLIENT, "", "alice@example.com", "bob@example.net"),
        ),
        (
            data("bob@example.net", message_bytes=77),
            ACCEPT,
            Judged(AT, " s1", "data", False, CLIENT, "", "alice@example.com", "", 77),
        ),
    ],
)
def test_what_the_front_end_writes_is_read(
    event: Event, verdict: Verdict, meant: Record, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("DEBUG", logger="reputon.maillog"):
        maillog.verdict(event, verdict)
    assert record(START + caplog.messages[0]) == meant
    for prefix in PREFIXES:
        assert record(prefix + START + caplog.messages[0]) == meant


def test_a_message_line_tells_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="reputon.maillog"):
        maillog.message(result="delivered", id="s1.1", reply='250 2.0.0 it\'s = "ok"', session="s1")
    assert record(START + caplog.messages[0]) == Finished(AT, " s1", "delivered")


@pytest.mark.parametrize(
    "text", ["verdict stage=mail action=accept client=192.0.2", "verdict stage=mail", "message result=x"]
)
def test_a_cut_line_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableLine):
        record(START + text)


def test_other_loggers_are_passed_over() -> None:
    assert record("Nov 24 15:04:14 mx reputon[7]: 2026-11-24T15:04:13.500 INFO reputon.smtp reloaded") is None


@pytest.mark.parametrize(
    "before",
    [
        "Nov 24 15:04:13 mx postfix/cleanup[8]: 4F1A2B: warning: header Subject: ",
        "Nov 24 15:04:13 mx postfix/cleanup[8]: ",
        "Nov 24 15:04:13 mx postfix-out/smtpd[8]: ",
        "Nov 24 15:04:13 mx relay/cleanup[8]: ",
        "Nov 24 15:04:13 mx exim[8]: ",
        "Nov 24 15:04:13 mx exim4[8]: H=(x) [192.0.2.7] Warning: ",
        "2026-11-24T15:04:13.123+00:00 mx postfix/smtpd[8]: warning: ",
        "Nov 24 15:04:13 mx dovecot: imap-login: Login: user=<",
        "2026-11-24 15:04:13 1tFAbC-000123-AB H=(x) [192.0.2.7] Warning: ",
        "mx-1  | Nov 24 15:04:13 mx postfix/cleanup[8]: 4F1A2B: warning: header Subject: ",
        " ",
        "x",
    ],
)
def test_a_line_of_another_program_that_quotes_our_log_is_none_of_ours(before: str) -> None:
    assert isinstance(record(FORGED), Judged)
    assert LINE.match(before + FORGED) is None
    with suppress(UnreadableLine):
        assert record(before + FORGED) is None


@pytest.mark.parametrize("more", [' to="<b@example', ' to="<b" x', " ", " nonsense", " =x"])
def test_a_line_that_is_not_fields_to_its_end_is_unreadable(more: str) -> None:
    with pytest.raises(UnreadableLine):
        record(FORGED + " size=1" + more + ("" if more.strip() else " "))


def test_a_line_that_is_too_long_is_unreadable_and_not_cut() -> None:
    room = MAX_TEXT_LENGTH - len(FORGED.removeprefix(START)) + len("verdict ")
    for length, is_read in ((room, True), (room + 1, False)):
        line = FORGED + " x=".ljust(length, "a")
        if is_read:
            assert isinstance(record(line), Judged)
        else:
            with pytest.raises(UnreadableLine):
                record(line)
