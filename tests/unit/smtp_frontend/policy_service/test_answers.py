"""Verdicts as actions: the same codes as our own front end, in words that Postfix cannot take for others."""

import pytest

from reputation.events import Stage
from reputation.keys import Entity, Metric
from reputation.verdict import Action, Finding, Reason, Verdict
from reputation.windows import Limit, Reading, Window
from smtp_frontend.policy_service import answers
from smtp_frontend.policy_service.protocol import encoded
from smtp_frontend.policy_service.requests import State


def given(action: Action, reply: str = "No", reason: Reason = Reason.OVER_LIMIT) -> Verdict:
    return Verdict(action=action, reason=reason, reply=reply, rule="r")


@pytest.mark.parametrize(
    ("stage", "state", "verdict", "action"),
    [
        (Stage.RCPT, State.RCPT, given(Action.TEMPFAIL), "DEFER_IF_PERMIT 4.7.1 No"),
        (Stage.MAIL, State.RCPT, given(Action.THROTTLE), "DEFER_IF_PERMIT 4.7.1 No"),
        (Stage.HELO, State.RCPT, given(Action.TEMPFAIL), "DEFER_IF_PERMIT 4.7.1 No"),
        (Stage.CONNECT, State.RCPT, given(Action.TEMPFAIL), "421 4.7.0 No"),
        (Stage.CONNECT, State.CONNECT, given(Action.REJECT), "554 5.7.1 No"),
        (Stage.RCPT, State.RCPT, given(Action.TEMPFAIL, "452 4.2.1 Full"), "452 4.2.1 Full"),
        (Stage.RCPT, State.RCPT, given(Action.TEMPFAIL, "421 4.7.0 Go"), "421 4.7.0 Go"),
        (Stage.RCPT, State.RCPT, given(Action.REJECT), "550 5.7.1 No"),
        (Stage.RCPT, State.RCPT, given(Action.REJECT, "550 5.1.1 User unknown"), "550 5.1.1 User unknown"),
        (Stage.DATA, State.END_OF_MESSAGE, given(Action.TEMPFAIL), "451 4.7.1 No"),
        (Stage.MAIL, State.END_OF_MESSAGE, given(Action.TEMPFAIL), "451 4.7.1 No"),
        (Stage.AUTH, State.RCPT, given(Action.REJECT), "550 5.7.1 No"),
        (Stage.AUTH, State.RCPT, given(Action.TEMPFAIL), "DEFER_IF_PERMIT 4.7.1 No"),
        (Stage.RCPT, State.RCPT, given(Action.ACCEPT), None),
        (Stage.RCPT, State.RCPT, given(Action.TAG), None),
        (Stage.RCPT, State.RCPT, given(Action.TARPIT), None),
        (Stage.RCPT, State.RCPT, given(Action.DISCARD), None),
    ],
)
def test_a_verdict_is_an_action(stage: Stage, state: State, verdict: Verdict, action: str | None) -> None:
    assert answers.refusal(stage, verdict, state) == action


@pytest.mark.parametrize(
    "reply", ["OK", "action=OK\n\naction=OK", "REDIRECT a@b", "550 5.7.1", "451", "\r\n", "€", " "]
)
@pytest.mark.parametrize("action", [Action.TEMPFAIL, Action.REJECT])
def test_the_text_of_a_rule_is_no_action(reply: str, action: Action) -> None:
    refusal = answers.refusal(Stage.RCPT, given(action, reply), State.RCPT)
    assert refusal is not None
    word = "DEFER_IF_PERMIT 4." if action is Action.TEMPFAIL else "550 5."
    assert refusal.startswith((word, f"{reply[:3]} "))
    assert encoded(refusal).count(b"\n") == 2


def test_our_own_trouble_tells_nothing() -> None:
    refusal = answers.refusal(Stage.RCPT, given(Action.TEMPFAIL, "secret", Reason.STORE_UNAVAILABLE), State.RCPT)
    assert refusal == "DEFER_IF_PERMIT 4.3.0 Temporary local problem, please try again later"
    assert answers.TROUBLE["DEFER_IF_PERMIT"] == refusal
    assert answers.TROUBLE["DUNNO"] == answers.DUNNO


def test_our_field_is_one_line() -> None:
    action = answers.prepended(given(Action.TAG), ("a", "b"), "s1.1", "bulk")
    assert action == "PREPEND X-Reputon: tag reason=over-limit tags=a,b service=bulk id=s1.1"


def test_our_field_in_mail_of_users_tells_nobody_their_counts() -> None:
    reading = Reading(window=Window(60), count=30, limit=Limit.parse("30/1m"), retry_after_seconds=5.0)
    finding = Finding(rule="r", entity=Entity("user", "alice"), metric=Metric.MESSAGES, reading=reading)
    verdict = Verdict(action=Action.TAG, reason=Reason.OVER_LIMIT, rule="r", findings=(finding,))
    assert "key=user:alice" in answers.prepended(verdict, ("a",), "s1.1", "")
    assert answers.prepended(verdict, ("a",), "s1.1", "", private=True).endswith("reason=over-limit tags=a id=s1.1")


def test_a_field_that_would_be_too_long_is_cut_between_words() -> None:
    action = answers.prepended(given(Action.TAG), tuple(f"tag{number}" for number in range(500)), "s1.1", "")
    assert action == "PREPEND X-Reputon: tag reason=over-limit"
    long = answers.prepended(given(Action.TAG), ("x" * 900,), "y" * 100, "")
    assert long.endswith("x" * 900) and len(long) <= len("PREPEND ") + answers.MAX_FIELD_LENGTH
