"""Lines of our own log, as `smtp_frontend.maillog` writes them."""

from ipaddress import ip_address

import pytest

from reputation.events import Event
from reputation.replay.records import Finished, Judged, Record, UnreadableLine
from reputation.verdict import Action, Reason, Verdict
from smtp_frontend import maillog
from tests.builders import connect, data, mail, rcpt
from tests.unit.replay.logs_for_tests import record, us

AT = us(15, 4, 13.5)
START = "2026-11-24T15:04:13.500 INFO reputon.maillog "
CLIENT = ip_address("192.0.2.1")
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
    assert record("Nov 24 15:04:14 mx reputon[7]: " + START + caplog.messages[0]) == meant


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
