"""Opinions: what rules without limits say, which of them decides, and how they join what the counters say."""

import pytest

from reputation.charges import Answer
from reputation.events import Stage
from reputation.keys import Entity, Metric
from reputation.opinions import Opinion, opinion_of, refusal_among, with_opinions
from reputation.rules import Mode, Rule
from reputation.verdict import DENYING, Action, Finding, Reason, Verdict
from reputation.windows import Limit, Reading
from tests.builders import MIDNIGHT_US

LIMIT = Limit.parse("5/1h")
FINDING = Finding(
    rule="hourly",
    entity=Entity("ip", "192.0.2.1"),
    metric=Metric.MESSAGES,
    reading=Reading(window=LIMIT.window, count=1),
)
ANSWER = Answer(times_us=(MIDNIGHT_US,))
WITHIN = Verdict(action=Action.ACCEPT, reason=Reason.WITHIN_LIMITS, findings=(FINDING,), answer=ANSWER)
SLOWED = Verdict(
    action=Action.TARPIT,
    reason=Reason.OVER_LIMIT,
    rule="hourly",
    delay_seconds=4.0,
    tags=("hourly",),
    service="dirty",
    fired=("hourly",),
    would=("shy-limit",),
    findings=(FINDING,),
    answer=ANSWER,
)


def matching(name: str, action: Action, mode: Mode = Mode.ENFORCE, **more: object) -> Rule:
    return Rule(name=name, stage=Stage.MAIL, when="!tls", action=action, mode=mode, **more)  # type: ignore[arg-type]  # what a test passes on


def said(name: str, action: Action, mode: Mode = Mode.ENFORCE, **more: object) -> Opinion:
    return opinion_of(matching(name, action, mode, **more))


# --- of one rule


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.THROTTLE])
def test_a_rule_says_its_action_and_that_it_matched(action: Action) -> None:
    name, mode, verdict = said("odd", action)
    assert (name, mode) == ("odd", Mode.ENFORCE)
    assert (verdict.action, verdict.reason, verdict.rule) == (action, Reason.MATCHED, "odd")
    assert verdict.tags == (("odd",) if action is Action.TAG else ())
    assert verdict.delay_seconds == (5.0 if action is Action.TARPIT else 0.0)
    assert bool(verdict.reply) is (action in (Action.TEMPFAIL, Action.REJECT))


def test_a_refusal_says_why_in_the_rule_s_words_or_in_ours() -> None:
    assert said("odd", Action.REJECT).verdict.reply == "Refused by policy (matched, odd)"
    own = said("odd", Action.TEMPFAIL, reply="451 4.7.1 {rule} says no: {reason}")
    assert own.verdict.reply == "451 4.7.1 odd says no: matched"


def test_a_rule_names_the_class_of_service_and_the_delay() -> None:
    assert said("odd", Action.ACCEPT, service="vip").verdict.service == "vip"
    assert said("odd", Action.TARPIT, delay_seconds=9.0).verdict.delay_seconds == 9.0


# --- which one refuses


def test_the_strictest_refusal_decides_and_among_equals_the_first() -> None:
    opinions = [
        said(name, action) for name, action in (("a", Action.TEMPFAIL), ("b", Action.REJECT), ("c", Action.REJECT))
    ]
    refusal = refusal_among(opinions)
    assert refusal is not None and refusal.rule == "b"
    refusal = refusal_among([opinions[0], said("d", Action.DISCARD), said("e", Action.TEMPFAIL)])
    assert refusal is not None and refusal.rule == "d"
    refusal = refusal_among([said("f", Action.TEMPFAIL), said("e", Action.TEMPFAIL)])
    assert refusal is not None and refusal.rule == "f"


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.THROTTLE])
def test_what_lets_pass_refuses_nothing_nor_does_a_shadow(action: Action) -> None:
    assert (refusal_among([said("odd", action)]) is not None) is (action in DENYING)
    assert refusal_among([said("odd", action, Mode.SHADOW)]) is None
    assert refusal_among([]) is None


# --- together with the counters


def test_without_opinions_the_verdict_is_the_counters() -> None:
    assert with_opinions(WITHIN, []) is WITHIN


def test_what_is_milder_goes_along() -> None:
    verdict = with_opinions(SLOWED, [said("one", Action.TAG), said("two", Action.TAG), said("slow", Action.TARPIT)])
    assert (verdict.action, verdict.reason, verdict.rule) == (Action.TARPIT, Reason.OVER_LIMIT, "hourly")
    assert verdict.tags == ("hourly", "one", "two")
    assert verdict.delay_seconds == 5.0, "the longest"
    assert verdict.fired == ("hourly", "one", "two", "slow")
    assert verdict.would == ("shy-limit",)


def test_what_is_stricter_decides_and_loses_nothing_of_the_counters() -> None:
    counted = Verdict(
        action=Action.TAG,
        reason=Reason.OVER_LIMIT,
        rule="hourly",
        tags=("hourly",),
        fired=("hourly",),
        findings=(FINDING,),
        answer=ANSWER,
        local=True,
    )
    verdict = with_opinions(counted, [said("slow", Action.TARPIT, delay_seconds=7.0)])
    assert (verdict.action, verdict.reason, verdict.rule) == (Action.TARPIT, Reason.MATCHED, "slow")
    assert (verdict.delay_seconds, verdict.tags, verdict.fired) == (7.0, ("hourly",), ("hourly", "slow"))
    assert (verdict.findings, verdict.answer, verdict.local) == ((FINDING,), ANSWER, True), (
        "so that it can be given back"
    )


def test_the_counters_decide_among_equals() -> None:
    assert with_opinions(SLOWED, [said("slow", Action.TARPIT)]).rule == "hourly"


def test_of_opinions_that_are_as_strict_the_first_decides() -> None:
    assert (
        with_opinions(WITHIN, [said("a", Action.TAG), said("b", Action.TARPIT), said("c", Action.TARPIT)]).rule == "b"
    )


def test_the_longest_delay_holds_whichever_it_is() -> None:
    assert with_opinions(SLOWED, [said("slow", Action.TARPIT, delay_seconds=1.0)]).delay_seconds == 4.0


def test_the_class_of_service_is_the_counters_or_else_the_first() -> None:
    opinions = [
        said("none", Action.TAG),
        said("first", Action.ACCEPT, service="vip"),
        said("b", Action.TAG, service="uce"),
    ]
    assert with_opinions(SLOWED, opinions).service == "dirty"
    assert with_opinions(WITHIN, opinions).service == "vip"
    assert with_opinions(WITHIN, opinions[:1]).service == ""


@pytest.mark.parametrize("action", [action for action in Action if action is not Action.THROTTLE])
def test_a_shadow_only_says_what_it_would_have_done(action: Action) -> None:
    verdict = with_opinions(WITHIN, [said("shy", action, Mode.SHADOW)])
    assert (verdict.action, verdict.reason, verdict.rule) == (Action.ACCEPT, Reason.WITHIN_LIMITS, "")
    assert (verdict.would, verdict.fired) == (("shy",), ())
    assert (verdict.tags, verdict.delay_seconds, verdict.service, verdict.reply) == ((), 0.0, "", "")


def test_a_shadow_s_class_of_service_is_nobody_s() -> None:
    assert with_opinions(WITHIN, [said("shy", Action.ACCEPT, Mode.SHADOW, service="vip")]).service == ""


def test_who_is_accepted_by_a_rule_is_told_by_which() -> None:
    verdict = with_opinions(WITHIN, [said("good", Action.ACCEPT, service="vip"), said("too", Action.ACCEPT)])
    assert (verdict.action, verdict.reason, verdict.rule) == (Action.ACCEPT, Reason.MATCHED, "good")
    assert verdict.fired == ("good", "too")
    assert verdict.findings == (FINDING,)


def test_that_the_store_was_away_is_not_hidden_by_a_rule_that_accepts() -> None:
    away = Verdict(action=Action.ACCEPT, reason=Reason.STORE_UNAVAILABLE)
    verdict = with_opinions(away, [said("good", Action.ACCEPT, service="vip")])
    assert (verdict.reason, verdict.service, verdict.fired) == (Reason.STORE_UNAVAILABLE, "vip", ("good",))


def test_a_limit_that_accepts_stays_the_one_that_decided() -> None:
    """A rule over its limit whose action is accept, which puts mail in a class of service."""
    counted = Verdict(action=Action.ACCEPT, reason=Reason.OVER_LIMIT, rule="bulk", service="bulk", fired=("bulk",))
    assert with_opinions(counted, [said("good", Action.ACCEPT)]).rule == "bulk"


def test_a_refusal_joined_with_all_opinions_tells_of_each_once() -> None:
    """What a policy in Python refuses may have tags, too."""
    refusal = Verdict(action=Action.REJECT, reason=Reason.MATCHED, rule="python", tags=("seen",))
    opinions = [
        Opinion("python", Mode.ENFORCE, refusal),
        said("t", Action.TAG),
        said("shy", Action.REJECT, Mode.SHADOW),
    ]
    decided = refusal_among(opinions)
    assert decided is refusal
    verdict = with_opinions(refusal, opinions)
    assert (verdict.rule, verdict.fired, verdict.would) == ("python", ("python", "t"), ("shy",))
    assert verdict.tags == ("seen", "t")
    assert verdict.receipt == (), "nothing was asked, nothing is charged"
