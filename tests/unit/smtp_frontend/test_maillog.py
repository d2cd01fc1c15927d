"""The mail log: one line each, stable keys, and nothing that a client says can forge another line."""

import ast
import logging
from pathlib import Path

import pytest

from reputation.events import Event
from reputation.keys import Entity, Metric
from reputation.log_lines import FIELDS, MAIL_LINE, MailLine
from reputation.verdict import Action, Finding, Reason, Verdict
from reputation.windows import Limit, Reading, Window
from smtp_frontend import maillog
from smtp_frontend.maillog import fields_of
from tests.builders import connect, data, helo, mail, rcpt

ACCEPT = Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE)


def over(retry_after_seconds: float = 54.32) -> Verdict:
    limit = Limit.parse("30/1m")
    reading = Reading(window=Window(60), count=30, limit=limit, retry_after_seconds=retry_after_seconds)
    finding = Finding(
        rule="sender-rate", entity=Entity("sender", "alice@example.com"), metric=Metric.MESSAGES, reading=reading
    )
    return Verdict(
        action=Action.TEMPFAIL,
        reason=Reason.OVER_LIMIT,
        rule="sender-rate",
        retry_after_seconds=retry_after_seconds,
        findings=(finding,),
        would=("a", "b"),
        tags=("c", "d"),
    )


def logged(
    caplog: pytest.LogCaptureFixture, event: Event, verdict: Verdict, held_seconds: float = 0.0
) -> logging.LogRecord:
    with caplog.at_level(logging.DEBUG, logger="reputon.maillog"):
        maillog.verdict(event, verdict, held_seconds)
    (record,) = caplog.records
    return record


def test_a_verdict_is_one_line_with_all_that_explains_it(caplog: pytest.LogCaptureFixture) -> None:
    record = logged(caplog, mail(user="alice"), over(), held_seconds=5.0)
    assert record.getMessage() == (
        "verdict stage=mail action=tempfail reason=over-limit rule=sender-rate key=sender:alice@example.com count=30 "
        "limit=30/1m retry_after=54.3 would=a,b tags=c,d held=5.0 from=<alice@example.com> client=192.0.2.1 user=alice "
        "session=s1"
    )
    assert record.levelno == logging.INFO


def test_the_entry_that_decided_is_told(caplog: pytest.LogCaptureFixture) -> None:
    banned = Verdict(action=Action.REJECT, reason=Reason.BANNED, entry="list|block|sender:a b@example.com")
    assert (
        logged(caplog, mail(), banned)
        .getMessage()
        .startswith('verdict stage=mail action=reject reason=banned entry="list|block|sender:a b@example.com" from=')
    )


@pytest.mark.parametrize(
    ("event", "envelope"),
    [
        (mail(""), "from=<>"),
        (rcpt("bob@example.net"), "from=<alice@example.com> to=<bob@example.net>"),
        (data("bob@example.net", "carol@example.net"), "from=<alice@example.com> nrcpt=2 size=1000"),
    ],
)
def test_the_envelope_is_what_is_known(caplog: pytest.LogCaptureFixture, event: Event, envelope: str) -> None:
    text = logged(caplog, event, ACCEPT).getMessage()
    assert text == f"verdict stage={event.stage} action=accept reason=no-rule {envelope} client=192.0.2.1 session=s1"


@pytest.mark.parametrize("event", [connect(), helo("client.example.com")])
def test_a_plain_acceptance_before_mail_is_for_debugging(caplog: pytest.LogCaptureFixture, event: Event) -> None:
    assert logged(caplog, event, ACCEPT).levelno == logging.DEBUG


@pytest.mark.parametrize("event", [connect(), helo("client.example.com"), mail()])
def test_a_rule_in_shadow_is_told_at_every_stage(caplog: pytest.LogCaptureFixture, event: Event) -> None:
    verdict = Verdict(action=Action.ACCEPT, reason=Reason.WITHIN_LIMITS, would=("r",))
    assert logged(caplog, event, verdict).levelno == logging.INFO


@pytest.mark.parametrize("event", [connect(), helo("client.example.com"), mail()])
def test_a_class_of_service_is_told_at_every_stage(caplog: pytest.LogCaptureFixture, event: Event) -> None:
    record = logged(caplog, event, Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE, tags=("a",), service="dirty"))
    assert record.levelno == logging.INFO
    assert "tags=a service=dirty" in record.getMessage()


def test_a_message_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="reputon.maillog"):
        maillog.message(result="delivered", id="s.1", discarded="", reply="250-2.0.0 a\r\n250 2.0.0 b")
    assert caplog.messages == ['message result=delivered id=s.1 reply="250-2.0.0 a\\r\\n250 2.0.0 b"']


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("<alice@example.com>", "<alice@example.com>"),
        ("<änne@example.com>", "<änne@example.com>"),
        ("a b", '"a b"'),
        ("a=b", '"a=b"'),
        ('say "hi"', '"say \\"hi\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("x\r\nverdict stage=mail", '"x\\r\\nverdict stage=mail"'),
        ("\x1b[31m", '"\\x1b[31m"'),
        ("\u2028\u202e", '"\\u2028\\u202e"'),
        ("\udcff", '"\\udcff"'),
        (0, "0"),
    ],
)
def test_a_value_is_one_word_whatever_a_client_chose(value: object, written: str) -> None:
    assert fields_of({"key": value}) == f"key={written}"


def test_what_is_empty_is_left_out() -> None:
    assert fields_of({"a": "", "b": None, "c": 0, "d": "x"}) == "c=0 d=x"


# Fields, for who writes them another way


def fields_logged(record: logging.LogRecord) -> dict[str, object]:
    line: MailLine = getattr(record, MAIL_LINE)
    return dict(line.fields)


@pytest.mark.parametrize(
    "event", [connect(), helo("client.example.com"), mail(), rcpt("bob@example.net"), data("bob@example.net")]
)
def test_every_field_of_a_verdict_has_a_name_in_json(caplog: pytest.LogCaptureFixture, event: Event) -> None:
    assert set(fields_logged(logged(caplog, event, over()))) <= set(FIELDS)


def test_every_field_of_a_message_has_a_name_in_json() -> None:
    """By the code of those who say what became of one."""
    said = set()
    for path in Path(maillog.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "maillog.message":
                literals = [each.value.keys for each in node.keywords if isinstance(each.value, ast.Dict)]
                said |= {key.value for keys in literals for key in keys if isinstance(key, ast.Constant)}
                said |= {each.arg for each in node.keywords if each.arg is not None}
    assert {"result", "from", "nrcpt", "queue"} <= said
    assert said <= set(FIELDS)


def test_the_queue_id_of_the_mail_server_that_asks_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="reputon.maillog"):
        maillog.verdict(mail(), ACCEPT, queue_id="4XyZ a")
    assert ' queue="4XyZ a" client=' in caplog.text


@pytest.mark.parametrize(("verdict", "succeeded"), [(ACCEPT, True), (over(), False)])
def test_who_was_refused_has_failed(caplog: pytest.LogCaptureFixture, verdict: Verdict, succeeded: bool) -> None:
    line: MailLine = getattr(logged(caplog, mail(), verdict), MAIL_LINE)
    assert (line.kind, line.succeeded) == ("verdict", succeeded)


@pytest.mark.parametrize(("result", "succeeded"), [("delivered", True), ("passed", True), ("not-delivered", False)])
def test_a_message_that_did_not_arrive_has_failed(
    caplog: pytest.LogCaptureFixture, result: str, succeeded: bool
) -> None:
    with caplog.at_level(logging.INFO, logger="reputon.maillog"):
        maillog.message(result=result)
    line: MailLine = getattr(caplog.records[0], MAIL_LINE)
    assert (line.kind, line.summary, line.succeeded) == ("message", result, succeeded)
