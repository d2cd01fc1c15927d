"""Conditions: what they see, what is wrong with them, and which rules they leave out."""

import logging
import math
from dataclasses import replace
from datetime import datetime
from typing import ClassVar

import pytest

from reputation.charges import Charge
from reputation.clock import ManualClock
from reputation.conditions import Condition
from reputation.engine import Engine
from reputation.errors import ConfigError
from reputation.events import Connect, Event, Stage
from reputation.facts import (
    NOTHING_KNOWN,
    NOTHING_LOOKED_UP,
    Filtered,
    Known,
    LookedUp,
    Lookup,
    Network,
    Score,
    Signature,
)
from reputation.inquiry import Inquiry
from reputation.keys import Dimension, Metric, entities_of
from reputation.policy import MAX_BATCHES, Policy
from reputation.spelling import Spelling
from reputation.store.memory import MemoryStore
from reputation.verdict import Action
from reputation.vocabulary import FACTS, Moment
from tests.builders import EVENTS, connect, data, helo, mail, rcpt, rule, session

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
        (
            'nobody == ""',
            'when: there is no "nobody"; at stage mail there are: age, asn, class, country, declared_bytes',
        ),
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
    charges = policy.charges_for(Moment(event, entities_of(event, Spelling()), NIGHT))
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
        Policy(rules=(rule("r", when=when),)).charges_for(Moment(mail(), entities_of(mail(), Spelling()), NIGHT))
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


# --- what was found out


def found(
    event: Event,
    *,
    looked_up: LookedUp = NOTHING_LOOKED_UP,
    known: Known = NOTHING_KNOWN,
    lists: frozenset[str] = frozenset(),
) -> Moment:
    """A moment of which look-ups, the store and the register have said this."""
    return Moment(event, entities_of(event, Spelling(), looked_up), NIGHT, looked_up, known, lists)


LOOKED_UP = LookedUp(
    network=Network(asn=64_500, country="DE"),
    iprev="pass",
    rdns="mx.example.org",
    dnsbl=("zen.example.org",),
    dnsbl_temperror=("slow.example.org",),
    spf="softfail",
)


@pytest.mark.parametrize(
    ("text", "lookups"),
    [
        ('asn == 64500 && country == "DE" && asn in [1, 64500]', set()),
        ('iprev == "pass" && rdns.endsWith(".example.org")', {Lookup.IPREV}),
        ('"zen.example.org" in dnsbl && size(dnsbl) == 1', {Lookup.DNSBL}),
        ('size(dnsbl_temperror) == 1 && iprev != "fail"', {Lookup.DNSBL, Lookup.IPREV}),
        ('spf == "softfail" || spf == "fail"', {Lookup.SPF}),
        ('user == "iprev" || !tls', set()),
    ],
)
def test_a_condition_says_what_it_wants_looked_up_and_sees_it(text: str, lookups: set[Lookup]) -> None:
    condition = Condition(text, Stage.MAIL)
    assert condition.lookups == lookups
    assert condition.holds(found(mail(), looked_up=LOOKED_UP))


ABOUT_A_MESSAGE = LookedUp(
    signatures=(Signature(result="fail", domain="example.net"), Signature(result="pass", domain="example.org")),
    dkim="pass",
    dmarc="fail",
    dmarc_policy="quarantine",
    arc="pass",
    arc_domain="lists.example",
    filtered=Filtered(verdict="malware", action="reject", score=15.5, symbols=("A", "B"), malware="Eicar-Test"),
)


@pytest.mark.parametrize(
    ("text", "lookups"),
    [
        ('dkim == "pass" && dkim_domains == ["example.org"]', {Lookup.DKIM}),
        ('!("example.net" in dkim_domains) && dkim_domains.exists(d, d.endsWith(".org"))', {Lookup.DKIM}),
        ('dmarc != "pass" && dmarc_policy in ["quarantine", "reject"]', {Lookup.DMARC}),
        ('arc == "pass" && arc_domain == "lists.example"', {Lookup.ARC}),
        ('filter_verdict == "malware" && malware.startsWith("Eicar")', {Lookup.FILTER}),
        ('filter_score > 15.0 && filter_action == "reject" && "B" in filter_symbols', {Lookup.FILTER}),
        ('dkim == "pass" || spf == "pass" || filter_score > 1.0', {Lookup.DKIM, Lookup.SPF, Lookup.FILTER}),
    ],
)
def test_what_is_found_about_a_message(text: str, lookups: set[Lookup]) -> None:
    condition = Condition(text, Stage.DATA)
    assert condition.lookups == lookups
    assert condition.holds(found(data("bob@example.net"), looked_up=ABOUT_A_MESSAGE))
    assert not condition.holds(found(data("bob@example.net"))) or "!=" in text or "!(" in text


@pytest.mark.parametrize("is_early", [True, False])
def test_who_speaks_too_early_is_known_from_the_beginning(is_early: bool) -> None:
    event = Connect(session=replace(session(), early=is_early))
    assert Condition("early", Stage.CONNECT).holds(found(event)) is is_early
    assert Condition("early", Stage.MAIL).lookups == set()


@pytest.mark.parametrize(
    "text", ['asn == 0 && country == "" && iprev == "" && rdns == "" && spf == "" && size(dnsbl) == 0', "lists == []"]
)
def test_what_was_not_found_is_empty(text: str) -> None:
    assert Condition(text, Stage.MAIL).holds(found(mail()))


def test_a_condition_sees_which_lists_the_event_is_on() -> None:
    condition = Condition('"vip" in lists && !("block" in lists)', Stage.MAIL)
    assert condition.holds(found(mail(), lists=frozenset({"vip", "other"})))
    assert not condition.holds(found(mail(), lists=frozenset({"other"})))


KNOWN = Known(
    scores={"ip": Score(score=0.95, confidence=0.9, active_now=0.99, repeat_offender=0.4, base=0.2, volume=30.0)},
    counts={("last_1h", "ip", "spam"): 7},
    ages={"sender": 2.5, "ip": math.inf},
    first_time=True,
)


@pytest.mark.parametrize(
    "text",
    [
        "reputation.ip.score > 0.9 && reputation.ip.confidence > 0.8 && reputation.ip.active_now > 0.98",
        "reputation.ip.repeat_offender < 0.5 && reputation.ip.base < 0.3 && reputation.ip.volume > 20.0",
        "reputation.ip.volume / 2.0 > 10.0",
        "last_1h.ip.spam == 7 && last_5m.ip.spam == 0",
        "last_1h.ip.spam > last_1h.sender.messages",
        "age.sender > 2.0 && age.sender < 3.0 && age.sender < 3",
        "!(age.ip < 1.0)",
        "age.sender_domain > 1000.0",
        'reputation.ip.score > 0.9 && sender == "alice@example.com"',
    ],
)
def test_a_condition_sees_what_the_store_knows(text: str) -> None:
    assert Condition(text, Stage.MAIL).holds(found(mail(), known=KNOWN))


def test_first_time_is_a_name_of_its_own_at_rcpt() -> None:
    condition = Condition('first_time && recipient == "bob@example.net"', Stage.RCPT)
    assert condition.inquiry == Inquiry(first_time=True)
    assert condition.holds(found(rcpt("bob@example.net"), known=KNOWN))
    assert not condition.holds(found(rcpt("bob@example.net")))
    with pytest.raises(ConfigError, match="when: first_time is not known at stage mail, but at rcpt"):
        Condition("first_time", Stage.MAIL)
    assert not Condition('sender == "first_time"', Stage.RCPT).inquiry


def test_a_condition_asks_for_what_it_names_and_for_nothing_else() -> None:
    condition = Condition("reputation.ip.score > 0.9 || last_1h.ip.spam > 3 || age.sender < 1.0", Stage.MAIL)
    assert condition.inquiry == Inquiry(
        scores=frozenset({"ip"}), counts=frozenset({("last_1h", "ip", "spam")}), ages=frozenset({"sender"})
    )
    assert not Condition("hour < 6", Stage.MAIL).inquiry


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("reputation.ip.score > 1 / 0.5", "when: No such overload"),
        ("reputation.ip > 0.5", "when: write reputation with 2 names behind it"),
        ("last_1h.ip.spam > 0.5 * 2", "when: Unsupported operation: float * int"),
        ("reputation.ip.score", "when: this is no yes or no, but float"),
        ('reputation["ip"].score > 0.5', "when: write reputation with 2 names behind it"),
        ("reputations.ip.score > 0.5", 'when: there is no "reputations"'),
    ],
)
def test_a_mistake_about_names_with_dots_is_found_when_the_rule_is_made(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        Condition(text, Stage.MAIL)
    assert str(raised.value).startswith(message)


def test_a_name_that_is_bound_may_begin_as_one_of_ours() -> None:
    assert holds('["a@example.com", "alice@example.com"].exists(agent, agent == sender)', mail())


# --- the header

LETTER = replace(
    data("bob@example.net"),
    author="alice@mail.example.com",
    header={"list-id": "<dev.example.org>", "from": "Alice <alice@mail.example.com>", "x-mailer": "The header of mail"},
)


@pytest.mark.parametrize(
    "text",
    [
        'header["list-id"] == "<dev.example.org>"',
        "header['list-id'].contains(\"dev\")",
        'header[ "list-id" ] != "" && header["x-mailer"].startsWith("The") && header["nothing"] == ""',
        'header["x-mailer"].contains("The header of")',
        'author == "alice@mail.example.com" && author_domain == "example.com" && class == "list"',
        '["The header"].exists(x, header["x-mailer"].startsWith(x))',
    ],
)
def test_a_condition_sees_fields_of_the_header(text: str) -> None:
    assert holds(text, LETTER)


@pytest.mark.parametrize(
    "text",
    [
        'header["List-Id"] != ""',
        "header[subject] != ''",
        "size(header) > 3",
        'header["list-id"] != "" && "x" in header',
        'header.from != ""',
    ],
)
def test_fields_are_named_by_themselves_in_lower_case(text: str) -> None:
    with pytest.raises(ConfigError, match="when: ask for a field of the header by its name in lower case, such as"):
        Condition(text, Stage.DATA)


def test_the_header_is_known_at_data() -> None:
    with pytest.raises(ConfigError, match="when: header is not known at stage rcpt, but at data"):
        Condition('header["from"] != ""', Stage.RCPT)


def test_of_a_header_only_what_is_named_is_read() -> None:
    """Decoding takes its time."""

    class Told(dict[str, str]):
        asked: ClassVar[list[str]] = []

        def get(self, key: str, default: str = "") -> str:  # type: ignore[override]  # as it is called
            self.asked.append(key)
            return super().get(key, default)

    event = replace(data("bob@example.net"), header=Told(subject="x"))
    entities = entities_of(event, Spelling())
    Told.asked.clear()
    assert Condition('header["list-id"] == ""', Stage.DATA).holds(Moment(event, entities, NIGHT))
    assert Told.asked == ["list-id"]
