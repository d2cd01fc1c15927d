"""Actions in their order, and how a finding reads."""

from reputation.keys import Entity, Metric
from reputation.verdict import DENYING, Action, Finding, Reason, Verdict
from reputation.windows import Limit, Reading


def test_actions_stand_in_the_order_of_what_they_cost_the_sender() -> None:
    assert [str(action) for action in sorted(Action, key=lambda action: action.severity)] == [
        *("accept", "tag", "tarpit", "throttle", "tempfail", "discard", "reject")
    ]


def test_what_denies_is_stricter_than_what_does_not() -> None:
    mildest_denial = min(action.severity for action in DENYING)
    assert all((action in DENYING) is (action.severity >= mildest_denial) for action in Action)
    assert [Verdict(action=action, reason=Reason.OVER_LIMIT).denied for action in (Action.TARPIT, Action.THROTTLE)] == [
        False,
        True,
    ]


def test_a_finding_reads_as_a_line() -> None:
    limit = Limit.parse("100/1h")
    finding = Finding(
        rule="sender-hour",
        entity=Entity("sender", "alice@example.com"),
        metric=Metric.MESSAGES,
        reading=Reading(window=limit.window, count=100, limit=limit),
    )
    assert str(finding) == "sender-hour sender:alice@example.com messages 100 of 100/1h"
    assert Verdict(action=Action.ACCEPT, reason=Reason.WITHIN_LIMITS, findings=(finding,)).deciding == finding
    assert Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE).deciding is None
