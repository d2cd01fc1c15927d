"""What the live stream tells of a verdict."""

import json
from dataclasses import fields

import pytest

from reputation.contracts import Streamed
from reputation.desk.documents import VerdictLine
from reputation.desk.watching import line_of
from reputation.events import Event
from reputation.facts import LookedUp, Network
from reputation.keys import entities_of
from reputation.spelling import Spelling
from reputation.verdict import Action, Reason, Verdict
from reputation.verdict_lines import is_worth_telling, spelled, told
from tests.builders import auth, connect, data, mail, rcpt

PASSED = Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE)


def line(event: Event, verdict: Verdict = PASSED) -> VerdictLine:
    text = spelled(told(event, entities_of(event, Spelling()), verdict, 12.3456), "a.example/7")
    read = line_of(Streamed("1-0", text))
    assert read is not None
    assert json.loads(text).keys() <= {each.name for each in fields(VerdictLine)}, "every name is one of the document's"
    return read


def test_a_line_has_who_and_what() -> None:
    refused = Verdict(
        action=Action.TEMPFAIL,
        reason=Reason.OVER_LIMIT,
        rule="daily",
        fired=("daily",),
        would=("strict",),
        retry_after_seconds=5.25,
        looked_up=LookedUp(network=Network(asn=64500, country="DE")),
    )
    told_line = line(rcpt("bob@example.net"), refused)
    assert (told_line.action, told_line.rule, told_line.would) == ("tempfail", "daily", ("strict",))
    assert (told_line.asn, told_line.country, told_line.at, told_line.node) == (64500, "DE", 12.346, "a.example/7")
    assert told_line.recipient_count == 1
    assert f"sender:{told_line.sender}" in told_line.entities


@pytest.mark.parametrize(
    ("event", "worth"),
    [(connect(), False), (mail(), False), (rcpt("bob@example.net"), False), (data("bob@example.net"), True)],
)
def test_what_passes_is_told_once_a_message(event: Event, worth: bool) -> None:
    assert is_worth_telling(event, PASSED) is worth


@pytest.mark.parametrize(
    "verdict",
    [
        Verdict(action=Action.REJECT, reason=Reason.BANNED),
        Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE, would=("r",)),
        Verdict(action=Action.ACCEPT, reason=Reason.STORE_UNAVAILABLE),
    ],
)
def test_whatever_a_rule_has_a_part_in_is_told(verdict: Verdict) -> None:
    assert is_worth_telling(connect(), verdict)


def test_a_log_in_has_its_login() -> None:
    assert line(auth("alice", success=False)).user


def test_neither_subject_nor_content_is_told() -> None:
    text = spelled(told(data("bob@example.net", subject="secret plans"), {}, PASSED, 1.0), "a")
    assert "secret" not in text


@pytest.mark.parametrize("text", ["", "[]", "null", "{}", '{"at": 1}', "[" * 100_000])
def test_what_cannot_be_read_is_passed_over(text: str) -> None:
    assert line_of(Streamed("1-0", text)) is None


def test_names_of_a_later_release_are_passed_over() -> None:
    text = '{"at": 1, "node": "a", "stage": "mail", "action": "accept", "reason": "ok", "new": [1], "id": "9"}'
    read = line_of(Streamed("1-0", text))
    assert read is not None
    assert read.id == "1-0"
