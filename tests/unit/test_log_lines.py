"""Lines of the log: one JSON object each, whatever a client chose, and the names of the Elastic Common Schema."""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

import pytest

from reputation.log_lines import FIELDS, MAIL_LINE, JsonLines, MailLine, text_lines

AT = 1_795_532_653.123
"""2026-11-24 15:04:13.123 UTC."""


def record_of(message: str, *arguments: object, name: str = "reputon.smtp", **more: Any) -> logging.LogRecord:
    record = logging.LogRecord(name, logging.WARNING, "file.py", 1, message, arguments, more.get("exc_info"))
    record.created, record.msecs, record.process = AT, AT % 1 * 1_000, 4711
    return record


def mail_line(fields: Mapping[str, object], *, succeeded: bool = False) -> logging.LogRecord:
    record = record_of("verdict %s", "stage=mail", name="reputon.maillog")
    setattr(record, MAIL_LINE, MailLine(kind="verdict", summary="mail tempfail", succeeded=succeeded, fields=fields))
    return record


def written(record: logging.LogRecord) -> dict[str, Any]:
    line = JsonLines().format(record)
    assert line.isascii()
    assert line.isprintable()  # so it is one line for everybody
    values: dict[str, Any] = json.loads(line)
    return values


def test_any_line_has_a_time_a_level_a_message_and_who_says_it() -> None:
    assert written(record_of("store down: %s", "no answer")) == {
        "@timestamp": "2026-11-24T15:04:13.123Z",
        "log.level": "warning",
        "message": "store down: no answer",
        "ecs.version": "8.11.0",
        "log.logger": "reputon.smtp",
        "service.name": "reputon",
        "process.pid": 4711,
    }


def test_a_line_of_the_mail_log_has_its_fields_by_their_names_in_the_schema() -> None:
    fields = {"stage": "mail", "action": "tempfail", "reason": "over-limit", "rule": "sender-rate", "count": 30}
    more = {"retry_after": "54.3", "would": "a,b", "tags": "", "entry": None, "from": "<alice@example.com>"}
    values = written(mail_line(fields | more | {"client": "192.0.2.1"}))
    assert values["message"] == "mail tempfail"
    told = {name: value for name, value in values.items() if name.split(".")[0] in {"event", "rule", "source", "email"}}
    assert told == {
        "event.dataset": "reputon.verdict",
        "event.outcome": "failure",
        "event.action": "tempfail",
        "event.reason": "over-limit",
        "rule.name": "sender-rate",
        "source.ip": "192.0.2.1",
        "email.from.address": ["alice@example.com"],
    }
    assert {name: value for name, value in values.items() if name.startswith("reputon.")} == {
        "reputon.stage": "mail",
        "reputon.count": 30,
        "reputon.retry_after_seconds": 54.3,
        "reputon.would": ["a", "b"],
    }


def test_what_got_through_is_a_success() -> None:
    assert written(mail_line({}, succeeded=True))["event.outcome"] == "success"


def test_the_null_sender_is_told_and_a_field_that_is_new_has_a_name_of_ours() -> None:
    values = written(mail_line({"weather": "fine", "from": "<>"}))
    assert values["email.from.address"] == [""]
    assert values["reputon.weather"] == "fine"


@pytest.mark.parametrize(
    ("value", "read"),
    [
        ('"}\r\n{"log.level": "info"', '"}\r\n{"log.level": "info"'),
        ("\x00\x1b[31m\x7f", "\x00\x1b[31m\x7f"),
        ("\u2028\u202e\x85", "\u2028\u202e\x85"),
        ("änne\U0001f600", "änne\U0001f600"),
        ("\udcff\ud800", "\\udcff\\ud800"),
    ],
)
def test_whatever_a_client_chose_is_one_value_of_one_line(value: str, read: str) -> None:
    assert written(mail_line({"reply": value}))["reputon.reply"] == read
    assert written(mail_line({"from": f"<{value}>"}))["email.from.address"] == [read]
    assert written(record_of("%s", value))["message"] == read


@pytest.mark.parametrize("text", ["many", "nan", "inf"])
def test_what_is_no_number_is_told_as_it_is(text: str) -> None:
    assert written(mail_line({"score": text}))["reputon.score"] == text


def test_an_exception_has_its_traceback_in_the_object() -> None:
    try:
        raise ValueError("bad\nthing")
    except ValueError:
        values = written(record_of("error in a session", exc_info=sys.exc_info()))
    assert (values["error.type"], values["error.message"]) == ("ValueError", "bad\nthing")
    assert values["error.stack_trace"].startswith("Traceback (most recent call last):\n")
    assert values["message"] == "error in a session"


def test_text_is_a_time_a_level_a_name_and_the_message() -> None:
    line = text_lines().format(record_of("store down: %s", "no answer"))
    assert line.partition(" ")[2] == "WARNING reputon.smtp store down: no answer"
    assert line[19:23] == ".123"


def test_no_two_fields_of_one_line_have_the_same_name() -> None:
    names = [field.name for key, field in FIELDS.items() if key != "result"]  # of a message; `action` is of a verdict
    assert len(set(names)) == len(names)
