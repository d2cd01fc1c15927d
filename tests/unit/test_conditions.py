"""Conditions: what they see, what is wrong with them, and which rules they leave out."""

import logging
from datetime import datetime

import pytest

from reputation.charges import Charge
from reputation.clock import ManualClock
from reputation.conditions import FACTS, Condition, Moment
from reputation.engine import Engine
from reputation.errors import ConfigError
from reputation.events import Event, Stage
from reputation.keys import Dimension, Metric, Spelling, entities_of
from reputation.policy import MAX_BATCHES, Policy
from reputation.store.memory import MemoryStore
from reputation.verdict import Action
from tests.builders import EVENTS, connect, data, helo, mail, rcpt, rule

NIGHT = datetime(2026, 11, 24, 3, 30).timestamp()  # noqa: DTZ001 - by the local clock, as the facts


def holds(text: str, event: Event, now: float = NIGHT) -> bool:
    return Condition(text, event.stage).holds(Moment(event, entities_of(event, Spelling()), now))


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ('ip == "192.0.2.1" && prefix == "192.0.2.0/24"', connect()),
        ('ip == "2001:db8::7" && prefix == "2001:db8::/48"', connect("2001:db8::7")),
        ("!tls && hour == 3 && weekday == 2", connect()),
        ('helo == "mail.example.com"', helo("MAIL.example.com.")),
        ('user == "" && class == "inbound"', mail()),
        ('user == "alice" && class == "submission"', mail(user="Alice")),
        ('class == "bounce" && sender == "" && sender_domain == ""', mail("")),
        ('sender == "alice@mx.example.com" && sender_domain == "example.com"', mail("Alice+news@mx.EXAMPLE.com")),
        ("declared_bytes == 0", mail()),
        ('recipient == "bob@example.net" && recipient_domain == "example.net"', rcpt("Bob@example.net")),
        ("recipients == 2 && message_bytes > 1000", data("b@example.net", "c@example.net", message_bytes=1_001)),
        ('subject.startsWith("Offer")', data("b@example.net", subject="Offer 17")),
        ('sender_domain in ["example.com", "example.org"]', mail()),
        ('["example.com", "example.org"].exists(x, x == sender_domain)', mail()),
        ('sender.matches("^a.*@") && size(sender) == 17', mail()),
        ("hour < 6 || hour >= 22", connect()),
    ],
)
def test_a_condition_sees_what_is_known(text: str, event: Event) -> None:
    assert holds(text, event)
    assert not holds(f"!({text})", event)


@pytest.mark.parametrize("event", EVENTS[:-1], ids=lambda event: event.stage)
def test_every_fact_has_the_type_of_its_example(event: Event) -> None:
    moment = Moment(event, entities_of(event, Spelling()), NIGHT)
    for fact in FACTS.values():
        if event.stage in fact.stages:
            assert type(fact.value(moment)) is type(fact.example)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sender ==", "when: Failed to parse expression 'sender =='"),
        ('nobody == ""', 'when: there is no "nobody"; at stage mail there are: class, declared_bytes, helo, hour, ip'),
        ('recipient == ""', "when: recipient is not known at stage mail, but at rcpt"),
        ("sender", "when: this is no yes or no, but str: compare it with something"),
        ("sender > 5", "when: No such overload"),
        ("sender + 5 == sender", "when: Unsupported operation: string + int"),
        ('sender.matches("[")', "when: Function 'matches' error: '[' not a valid regex"),
        ('lower(sender) == ""', 'when: there is no function "lower"; there are: contains, double'),
        ('sender == "a" || shout(sender)', 'when: there is no function "shout"'),
    ],
)
def test_a_mistake_is_found_when_the_rule_is_made(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        rule(when=text)
    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


def test_an_event_of_no_session_has_no_condition() -> None:
    assert all(Stage.DISCONNECT not in fact.stages for fact in FACTS.values())


# --- rules with conditions


def charged(policy: Policy, event: Event) -> set[str]:
    """The rules that are asked about an event."""
    charges = policy.charges_for(event, entities_of(event, Spelling()), NIGHT)
    return {meter.scope for charge in charges for meter in charge.plan.meters if meter.scope}


def test_only_rules_whose_condition_holds_are_asked() -> None:
    policy = Policy(
        rules=(
            rule("all"),
            rule("users", when='class == "submission"'),
            rule("others", when='class != "submission"', limits=("9/1h",)),
            rule("night", when="hour < 6", key=(Dimension.IP,)),
        )
    )
    assert charged(policy, mail()) == {"all", "others", "night"}
    assert charged(policy, mail(user="alice")) == {"all", "users", "night"}
    assert charged(policy, rcpt("b@example.net")) == set()


def test_what_the_site_keeps_is_counted_whatever_holds() -> None:
    without, all_of_them = (
        Policy(rules=(rule("r", when=when),)).charges_for(mail(), entities_of(mail(), Spelling()), NIGHT)
        for when in ("hour > 6", "hour < 6")
    )

    def own(charges: tuple[Charge, ...]) -> list[object]:
        return [(charge.key, charge.plan.meters[0]) for charge in charges]

    assert own(without) == own(all_of_them)


def test_any_mixture_of_conditions_is_possible() -> None:
    """As many batches as were met are remembered, up to a bound."""
    rules = [rule(f"r{bit}", when=f'sender.contains("<{bit}>")', limits=(f"{bit + 1}/1m",)) for bit in range(11)]
    policy = Policy(rules=tuple(rules), tracked=frozenset())
    for number in range(2**11):
        bits = {bit for bit in range(11) if number >> bit & 1}
        sender = "".join(f"<{bit}>" for bit in sorted(bits)) + "@example.com"
        assert charged(policy, mail(sender)) == {f"r{bit}" for bit in bits}
    assert len(policy._judging) <= MAX_BATCHES


async def test_a_condition_that_cannot_be_answered_leaves_its_rule_out(caplog: pytest.LogCaptureFixture) -> None:
    """The hundredth part of a size is none where nothing was announced. It is logged once, and counted."""
    one_rule = rule("big", when="declared_bytes == 0 || 100 / declared_bytes < 1", limits=("1/1h",))
    broken = rule("odd", when='sender == "a@example.com" || 100 / declared_bytes < 1', limits=("1/1h",))
    engine = Engine(policy=Policy(rules=(one_rule, broken)), store=MemoryStore(), clock=ManualClock(NIGHT))
    with caplog.at_level(logging.WARNING, "reputon.engine"):
        verdicts = [await engine.judge(mail("b@example.com")) for _ in range(3)]
    assert [verdict.rule for verdict in verdicts] == ["", "big", "big"]
    assert [record.message for record in caplog.records] == [
        "rule odd is passed over, its condition cannot be answered: division by zero in CEL expression"
    ]
    assert engine.metrics.registry.get_sample_value("reputon_condition_failures_total", {"rule": "odd"}) == 3


async def test_a_refusal_is_not_remembered_for_events_that_the_rule_is_not_about() -> None:
    limited = rule("big", key=(Dimension.IP,), when='sender != "boss@example.com"', limits=("1/1h",))
    engine = Engine(policy=Policy(rules=(limited,)), store=MemoryStore())
    await engine.judge(mail())
    assert (await engine.judge(mail())).action is Action.TEMPFAIL
    assert (await engine.judge(mail("boss@example.com"))).action is Action.ACCEPT
    assert (await engine.judge(mail())).action is Action.TEMPFAIL


def test_a_learned_count_is_charged_whatever_holds_and_read_where_it_does() -> None:
    learned = rule("harvest", key=(Dimension.IP,), count=Metric.INVALID_RECIPIENTS, limits=("5/1h",), when="hour > 6")
    assert charged(Policy(rules=(learned,)), mail()) == set()
