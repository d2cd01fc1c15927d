"""Rules: what they ask of the store, and what the store's answer means."""

import math
from dataclasses import replace

import pytest

from reputation.bookkeeping import EVIDENCE_OF, LEARNED, SEEING, SEEN, TRACKED
from reputation.charges import Answer, Charge, Charging, Kind, Over
from reputation.counters import member_of
from reputation.errors import ConfigError
from reputation.events import Event, OutcomeKind, Stage
from reputation.facts import Lookup
from reputation.inquiry import NOTHING, Inquiry
from reputation.keys import EVIDENCE, Dimension, Entity, Key, Metric, distinct, entities_of
from reputation.policy import Policy
from reputation.rules import COSTS, Accuracy, Mode, OnStoreFailure, Rule, parse_limit
from reputation.score import KINDS
from reputation.spelling import Spelling
from reputation.stages import KNOWN_AT
from reputation.store.memory import MemoryStore
from reputation.verdict import Action, Reason, Verdict
from reputation.vocabulary import Moment
from reputation.windows import MICROSECONDS, Limit, Window
from tests.builders import EVENTS, connect, data, mail, rcpt, rule, us

ALICE = Entity("sender", "alice@example.com")


def policy_of(*rules: Rule, tracked: frozenset[Dimension] = frozenset()) -> Policy:
    """A policy that counts nothing but what the rules name."""
    return Policy(rules=rules, tracked=tracked)


def charges_for(policy: Policy, event: Event) -> tuple[Charge, ...]:
    return policy.charges_for(Moment(event, entities_of(event, Spelling()), 0.0))


def answer(charges: tuple[Charge, ...], waits: dict[str, float], counts: dict[str, int] | None = None) -> Answer:
    """What a store answers when the meters of these scopes have to wait that long; the n-th window n times as long."""

    numbers: list[int] = []
    for charge in charges:
        for meter in charge.plan.meters:
            for position in range(len(meter.windows)):
                wait = waits.get(meter.scope, 0.0) * (position + 1)
                numbers += ((counts or {}).get(meter.scope, 1), round(wait * MICROSECONDS))
        numbers += [0] * (charge.plan.size - 2 * sum(len(meter.windows) for meter in charge.plan.meters))
    allowed = not any(m.over is Over.DENIES and m.scope in waits for charge in charges for m in charge.plan.meters)
    return Answer(charges, allowed, numbers, (us(0),) * len(charges))


def verdict_of(policy: Policy, event: Event, waits: dict[str, float]) -> Verdict:
    return policy.decide(answer(charges_for(policy, event), waits))


# --- a rule cannot be built wrong


def test_a_rule_counts_what_its_stage_has() -> None:
    with pytest.raises(
        ConfigError, match=r"bytes cannot be counted at stage mail; here: messages, auth_failures, .*spam"
    ):
        rule(count=Metric.BYTES)


@pytest.mark.parametrize("key", [(), (Dimension.SENDER, Dimension.SENDER)])
def test_a_rule_names_each_dimension_once(key: tuple[Dimension, ...]) -> None:
    with pytest.raises(ConfigError, match="key: name at least one dimension, and none twice"):
        rule(key=key)


@pytest.mark.parametrize("limits", [(), ("5/1h", "9/60m")])
def test_a_rule_limits_each_window_once(limits: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="limits: name at least one limit, and each window once"):
        rule(limits=limits)


def test_two_rules_of_one_name_would_share_a_counter_and_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rule names must differ.*: twice"):
        policy_of(rule("twice"), rule("once"), rule("twice", limits=("9/1h",)))


@pytest.mark.parametrize("metric", list(Metric))
def test_every_metric_can_be_counted_somewhere(metric: Metric) -> None:
    anywhere = {*LEARNED.values(), Metric.CONCURRENT}
    event = next(event for event in EVENTS if metric in anywhere or (event.stage, metric) in COSTS)
    assert rule("r", event, key=(Dimension.IP,), count=metric).count == metric


@pytest.mark.parametrize(
    ("count", "limits", "error"),
    [
        ("distinct(recipient)", ("5/1h",), "count: recipient is not known at stage mail"),
        ("distinct(ip)", ("1001/1h",), r"limits: distinct\(ip\) is counted exactly up to 1000"),
        ("distinct(ip)", ("5/1h", "9/60m"), "limits: name at least one limit, and each window once"),
        (Metric.CONCURRENT, ("5/1m", "9/1h"), "limits: concurrent has one limit, a number of sessions"),
    ],
)
def test_a_rule_on_members_or_sessions_that_cannot_be_counted(count: str, limits: tuple[str, ...], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        rule(count=count, limits=limits)


def test_a_limit_of_sessions_is_a_plain_number() -> None:
    assert parse_limit(Metric.CONCURRENT, " 5 ") == Limit(5, Window(60))
    assert parse_limit(distinct(Dimension.IP), "5/1h") == Limit.parse("5/1h")
    with pytest.raises(ConfigError, match='"5/1h" is not a number of sessions'):
        parse_limit(Metric.CONCURRENT, "5/1h")


def test_everything_tracked_has_a_cost() -> None:
    assert {(stage, metric) for stage, metrics in TRACKED.items() for metric in metrics} <= COSTS.keys()


# --- what the store is asked


@pytest.mark.parametrize(
    ("action", "mode", "over"),
    [
        (Action.REJECT, Mode.ENFORCE, Over.DENIES),
        (Action.TEMPFAIL, Mode.ENFORCE, Over.DENIES),
        (Action.THROTTLE, Mode.ENFORCE, Over.DENIES),
        (Action.DISCARD, Mode.ENFORCE, Over.DENIES),
        (Action.REJECT, Mode.SHADOW, Over.SKIPS),
        (Action.TARPIT, Mode.ENFORCE, Over.NOTES),
        (Action.TAG, Mode.SHADOW, Over.NOTES),
    ],
)
def test_a_rule_s_action_and_mode_say_what_its_meter_does_when_it_is_over(
    action: Action, mode: Mode, over: Over
) -> None:
    assert rule(action=action, mode=mode).meter.over is over


def test_rules_on_one_counter_make_one_charge() -> None:
    charges = charges_for(policy_of(rule("a"), rule("b", limits=("9/1h",)), rule("c", key=(Dimension.IP,))), mail())
    assert [(str(charge.key.entity), [meter.scope for meter in charge.plan.meters]) for charge in charges] == [
        ("sender:alice@example.com", ["a", "b"]),
        ("ip:192.0.2.1", ["c"]),
    ]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.stage)
def test_no_counter_is_charged_twice_by_one_event(event: Event) -> None:
    keys = [
        *((dimension,) for dimension in Dimension),
        (Dimension.IP, Dimension.SENDER),
        (Dimension.SENDER, Dimension.IP),
    ]
    rules = [
        rule(f"rule-{number}-{metric}", event, key=key, count=metric)
        for number, key in enumerate(keys)
        for stage, metric in COSTS
        if stage is event.stage and KNOWN_AT[stage] >= set(key)
    ]
    charged = [charge.key for charge in charges_for(Policy(rules=tuple(rules)), event)]
    assert len(charged) == len(set(charged))


@pytest.mark.parametrize("event", [each for each in EVENTS if each.stage in KNOWN_AT], ids=lambda event: event.stage)
def test_the_table_of_known_dimensions_is_what_events_have(event: Event) -> None:
    spelling = Spelling(subject_key=b"secret")
    assert set(entities_of(event, spelling)) <= KNOWN_AT[event.stage]


def test_a_rule_on_what_its_stage_does_not_know_is_refused() -> None:
    with pytest.raises(ConfigError, match="key: recipient is not known at stage mail"):
        rule("never", key=(Dimension.SENDER, Dimension.RECIPIENT))


async def test_of_two_rules_that_refuse_the_longer_wait_is_told() -> None:
    policy = policy_of(rule("short", limits=("1/1m",)), rule("long", limits=("1/1h",)))
    charges = charges_for(policy, mail())
    store = MemoryStore()
    await store.decide(charges, now_us=us(0))
    verdict = policy.decide(await store.decide(charges, now_us=us(1)))
    assert verdict.rule == "short"
    assert verdict.retry_after_seconds > 3_500
    assert f"try again in {math.ceil(verdict.retry_after_seconds)} s" in verdict.reply


def test_a_rule_whose_entity_is_unknown_does_not_apply() -> None:
    policy = policy_of(rule("users", key=(Dimension.USER,)), rule("pairs", key=(Dimension.SENDER, Dimension.USER)))
    assert charges_for(policy, mail()) == ()
    assert [charge.plan.meters[0].scope for charge in charges_for(policy, mail(user="alice"))] == ["users", "pairs"]


def test_a_rule_applies_at_its_stage_alone() -> None:
    policy = policy_of(rule("mails"))
    assert charges_for(policy, rcpt("bob@example.net")) == charges_for(policy, connect()) == ()


def test_what_an_event_costs() -> None:
    event = data("bob@example.net", "carol@example.net", message_bytes=5_000)
    metrics = (Metric.MESSAGES, Metric.RECIPIENTS, Metric.BYTES)
    policy = policy_of(*(rule(f"r-{metric}", event, count=metric) for metric in metrics))
    assert [charge.cost for charge in charges_for(policy, event)] == [1, 2, 5_000]


def test_pitfall_18_a_recipient_costs_one_each_time_it_is_named() -> None:
    event = rcpt("bob@example.net")
    policy = policy_of(rule("r", event, count=Metric.RECIPIENTS))
    assert [charge.cost for charge in charges_for(policy, event)] == [1]


def test_the_site_s_own_counts_have_no_limit_and_stop_nothing() -> None:
    charges = charges_for(policy_of(tracked=frozenset(Dimension)), connect())
    assert {str(charge.key.entity) for charge in charges} == {"ip:192.0.2.1", "prefix:192.0.2.0/24"}
    for charge in charges:
        [own] = charge.plan.meters
        assert (own.scope, own.limits, own.over) == ("", (), Over.NOTES)


def test_only_tracked_dimensions_are_counted_without_a_rule() -> None:
    charges = charges_for(policy_of(tracked=frozenset({Dimension.PREFIX})), connect())
    assert [charge.key.entity.dimension for charge in charges] == ["prefix"]


# --- members, sessions, accuracy, evidence


def test_a_rule_on_members_has_a_key_of_its_own_and_names_the_member_in_short() -> None:
    count = distinct(Dimension.IP)
    policy = policy_of(rule("ips", count=count, limits=("3/1h",)), rule("more", count=count, limits=("9/24h",)))
    charges = charges_for(policy, mail())
    assert [charge.key for charge in charges] == [Key(ALICE, count, "ips"), Key(ALICE, count, "more")]
    assert {charge.plan.kind for charge in charges} == {Kind.DISTINCT}
    assert {(charge.member, charge.cost) for charge in charges} == {(member_of(Entity("ip", "192.0.2.1")), 1)}
    assert len(charges[0].member) == 16


def test_a_rule_on_members_applies_where_the_member_is_known() -> None:
    policy = policy_of(rule("users", count=distinct(Dimension.USER), limits=("3/1h",)))
    assert charges_for(policy, mail()) == ()
    [known] = charges_for(policy, mail(user="alice"))
    assert known.member == member_of(Entity("user", "alice"))


def test_a_rule_on_sessions_takes_a_lease_for_the_session() -> None:
    sessions = rule("open", connect(), key=(Dimension.IP,), count=Metric.CONCURRENT, limits=("5/1m",))
    [charge] = charges_for(policy_of(sessions), connect())
    assert charge.key == Key(Entity("ip", "192.0.2.1"), Metric.CONCURRENT, "open")
    assert (charge.plan.kind, charge.member, charge.plan.meters[0].limits) == (
        *(Kind.LEASES, connect().session.id, (Limit.parse("5/1m"),)),
    )


@pytest.mark.parametrize("accuracy", Accuracy)
def test_an_interpolated_rule_has_a_key_of_its_own(accuracy: Accuracy) -> None:
    [charge] = charges_for(policy_of(rule(accuracy=accuracy)), mail())
    entity = Entity("sender", "alice@example.com")
    assert (charge.plan.kind, charge.key) == {
        Accuracy.STRICT: (Kind.RINGS, Key(entity, Metric.MESSAGES)),
        Accuracy.INTERPOLATED: (Kind.MOMENTS, Key(entity, Metric.MESSAGES, "sender-messages")),
    }[accuracy]
    assert rule().accuracy is Accuracy.STRICT


def test_different_values_are_estimated_of_who_is_tracked() -> None:
    event = mail(user="alice")
    user, address = Entity("user", "alice"), Entity("ip", "192.0.2.1")
    entities = entities_of(event, Spelling())
    assert list(policy_of(tracked=frozenset(Dimension)).sketched(event, entities)) == [
        (Key(user, distinct(Dimension.IP)), address)
    ]
    assert list(policy_of().sketched(event, entities)) == []
    guess = rcpt("guess@example.net")
    assert list(policy_of(tracked=frozenset(Dimension)).sketched(guess, entities_of(guess, Spelling()))) == []
    assert list(policy_of(tracked=frozenset(Dimension)).sketched(mail(), entities_of(mail(), Spelling()))) == []


# --- outcomes


def test_a_rule_on_something_learned_only_reads_and_its_outcome_charges() -> None:
    learned = rule("harvest", key=(Dimension.IP,), count=Metric.INVALID_RECIPIENTS, limits=("5/1h",))
    policy = policy_of(learned)
    [judged] = charges_for(policy, mail())
    [counted] = policy.charges_of_outcome(OutcomeKind.UNKNOWN_RECIPIENT, entities_of(mail(), Spelling()))
    assert judged.key == counted.key == Key(Entity("ip", "192.0.2.1"), Metric.INVALID_RECIPIENTS)
    assert judged.plan.meters[0].charging is Charging.NEVER
    assert counted.plan.meters[0].charging is Charging.ALWAYS
    assert (judged.plan.meters[0].scope, judged.plan.meters[0].windows) == (
        counted.plan.meters[0].scope,
        counted.plan.meters[0].windows,
    )


def test_an_interpolated_rule_on_something_learned_is_charged_where_it_is_read() -> None:
    learned = rule(
        "harvest",
        key=(Dimension.IP,),
        count=Metric.INVALID_RECIPIENTS,
        limits=("5/1h",),
        accuracy=Accuracy.INTERPOLATED,
    )
    policy = policy_of(learned)
    [judged] = charges_for(policy, mail())
    [counted] = policy.charges_of_outcome(OutcomeKind.UNKNOWN_RECIPIENT, entities_of(mail(), Spelling()))
    assert judged.key == counted.key == Key(Entity("ip", "192.0.2.1"), Metric.INVALID_RECIPIENTS, "harvest")
    assert (judged.plan.kind, counted.plan.kind) == (Kind.MOMENTS, Kind.MOMENTS)
    assert counted.plan.meters[0].charging is Charging.ALWAYS


def test_an_interpolated_rule_costs_what_a_strict_one_costs() -> None:
    octets = rule("octets", data("bob@example.net"), count=Metric.BYTES, accuracy=Accuracy.INTERPOLATED)
    [charge] = charges_for(policy_of(octets), data("bob@example.net", message_bytes=2_000))
    assert charge.cost == 2_000


def test_more_windows_than_a_counter_has_room_for_are_refused() -> None:
    many = [rule(f"rule-{number}", limits=("9/24h", "9/48h")) for number in range(100)]
    with pytest.raises(ConfigError, match="sender messages: too many windows in one counter"):
        policy_of(*many)
    policy_of(*(replace(each, accuracy=Accuracy.INTERPOLATED) for each in many))


def test_an_outcome_counts_against_who_sent_and_never_against_who_received() -> None:
    policy = policy_of(tracked=frozenset(Dimension))
    event = rcpt("bob@example.net")
    for kind in OutcomeKind:
        charges = policy.charges_of_outcome(kind, entities_of(event, Spelling()))
        dimensions = {charge.key.entity.dimension for charge in charges}
        assert {"ip", "sender"} <= dimensions
        assert not {"recipient", "recipient_domain"} & dimensions
        counted = {str(charge.key.metric) for charge in charges if charge.plan.kind is Kind.RINGS}
        assert counted == ({LEARNED[kind]} if kind in LEARNED else set())
        weighed = {(charge.key.metric, charge.member, charge.cost) for charge in charges} - {
            (charge.key.metric, charge.member, charge.cost) for charge in charges if charge.plan.kind is Kind.RINGS
        }
        position = str(KINDS.index(EVIDENCE_OF[kind])) if kind in EVIDENCE_OF else ""
        assert weighed == ({(EVIDENCE, position, 1_000)} if kind in EVIDENCE_OF else set())
        assert counted or weighed


def test_a_guessed_recipient_is_no_evidence_against_a_sender_who_may_be_made_up_as_well() -> None:
    policy = policy_of(tracked=frozenset(Dimension))
    entities = entities_of(mail(user="alice"), Spelling())
    charges = policy.charges_of_outcome(OutcomeKind.UNKNOWN_RECIPIENT, entities)
    weighed = {charge.key.entity.dimension for charge in charges if charge.plan.kind is Kind.EVIDENCE}
    assert weighed == {"ip", "prefix", "user"}


# --- what the answer means


def test_without_a_rule_everything_is_accepted() -> None:
    verdict = verdict_of(policy_of(tracked=frozenset(Dimension)), mail(), {})
    assert (verdict.action, verdict.reason, verdict.findings) == (Action.ACCEPT, Reason.NO_RULE, ())
    assert len(verdict.receipt) == 4, "the client, its network, the sender and its domain"


def test_within_limits_the_fullest_reading_comes_first() -> None:
    policy = policy_of(rule("empty", limits=("100/1h",)), rule("full", limits=("10/1h",)))
    charges = charges_for(policy, mail())
    verdict = policy.decide(answer(charges, {}, {"empty": 20, "full": 9}))
    assert (verdict.action, verdict.reason) == (Action.ACCEPT, Reason.WITHIN_LIMITS)
    assert [finding.rule for finding in verdict.findings] == ["full", "empty"]


def test_pitfall_33_a_denial_says_rule_reason_reading_and_when_to_come_back() -> None:
    policy = policy_of(rule("hourly", limits=("5/1m", "100/1h")), rule("other", limits=("9/24h",)))
    verdict = verdict_of(policy, mail(), {"hourly": 30.2})
    assert (verdict.action, verdict.reason, verdict.rule) == (Action.TEMPFAIL, Reason.OVER_LIMIT, "hourly")
    assert verdict.retry_after_seconds == 60.4, "the longer of its two windows"
    assert verdict.deciding is not None
    assert verdict.deciding.reading.limit == Limit.parse("100/1h")
    assert {finding.rule for finding in verdict.findings} == {"hourly", "other"}
    assert len(verdict.findings) == 3
    assert verdict.reply == (
        "sender:alice@example.com: 100/1h messages reached (over-limit, hourly), try again in 61 s"
    )


def test_pitfall_35_a_denial_leaves_nothing_to_give_back() -> None:
    assert verdict_of(policy_of(rule()), mail(), {"sender-messages": 1.0}).receipt == ()


def test_a_rule_s_own_reply_is_filled_in() -> None:
    reply = "450 4.7.1 {entity} {limit} {count} {metric} {reason} {rule} {retry_after}"
    verdict = verdict_of(policy_of(rule("r", reply=reply)), mail(), {"r": 0.000_001})
    assert verdict.reply == "450 4.7.1 sender:alice@example.com 1/1m 1 messages over-limit r 1"


def test_the_strictest_action_wins_and_among_equals_the_first_rule() -> None:
    policy = policy_of(
        rule("slow", action=Action.TARPIT),
        rule("later", action=Action.TEMPFAIL),
        rule("never", action=Action.REJECT),
        rule("never-either", action=Action.REJECT),
    )
    over = {"slow": 1.0, "later": 1.0, "never": 1.0, "never-either": 1.0}
    assert verdict_of(policy, mail(), over).rule == "never"
    del over["never"]
    assert verdict_of(policy, mail(), over).rule == "never-either"
    del over["never-either"]
    assert (verdict_of(policy, mail(), over).rule, verdict_of(policy, mail(), over).action) == (
        "later",
        Action.TEMPFAIL,
    )


def test_tags_add_up_and_the_longest_delay_holds() -> None:
    policy = policy_of(
        rule("tag-one", action=Action.TAG),
        rule("tag-two", action=Action.TAG),
        rule("tag-off", action=Action.TAG),
        rule("slow", action=Action.TARPIT, delay_seconds=3.0),
        rule("slower", action=Action.TARPIT, delay_seconds=7.0),
    )
    verdict = verdict_of(policy, mail(), {"tag-one": 1.0, "tag-two": 1.0, "slow": 1.0, "slower": 1.0})
    assert verdict.action is Action.TARPIT
    assert verdict.tags == ("tag-one", "tag-two")
    assert verdict.delay_seconds == 7.0
    assert not verdict.denied
    assert len(verdict.receipt) == 1, "tagged and delayed mail is accepted, and counts"


def test_a_rule_in_shadow_only_says_what_it_would_have_done() -> None:
    policy = policy_of(rule("shy", action=Action.REJECT, mode=Mode.SHADOW), rule("calm", limits=("100/1h",)))
    verdict = verdict_of(policy, mail(), {"shy": 5.0})
    assert (verdict.action, verdict.reason, verdict.would) == (Action.ACCEPT, Reason.WITHIN_LIMITS, ("shy",))
    assert verdict.reply == ""
    assert verdict.retry_after_seconds == 0


def test_a_rule_in_shadow_does_not_hide_one_in_force() -> None:
    policy = policy_of(rule("shy", action=Action.REJECT, mode=Mode.SHADOW), rule("real"))
    verdict = verdict_of(policy, mail(), {"shy": 5.0, "real": 1.0})
    assert (verdict.action, verdict.rule, verdict.would) == (Action.TEMPFAIL, "real", ("shy",))


# --- no answer


def test_without_an_answer_mail_is_accepted_unless_a_rule_that_applies_says_otherwise() -> None:
    careful = rule("careful", on_store_failure=OnStoreFailure.TEMPFAIL, key=(Dimension.USER,))
    policy = policy_of(rule("open"), careful)
    anonymous = policy.fallback(charges_for(policy, mail()))
    known = policy.fallback(charges_for(policy, mail(user="alice")))
    assert (anonymous.action, anonymous.reason, anonymous.rule) == (Action.ACCEPT, Reason.STORE_UNAVAILABLE, "")
    assert (known.action, known.reason, known.rule) == (Action.TEMPFAIL, Reason.STORE_UNAVAILABLE, "careful")


def test_our_trouble_is_never_a_permanent_refusal() -> None:
    strict = rule("strict", action=Action.REJECT, on_store_failure=OnStoreFailure.TEMPFAIL)
    policy = policy_of(strict)
    assert policy.fallback(charges_for(policy, mail())).action is Action.TEMPFAIL


def test_a_rule_in_shadow_stops_nothing_even_without_an_answer() -> None:
    policy = policy_of(rule("shy", mode=Mode.SHADOW, on_store_failure=OnStoreFailure.TEMPFAIL))
    assert policy.fallback(charges_for(policy, mail())).action is Action.ACCEPT


def test_what_is_known_of_some_keys_decides_without_the_missing_ones() -> None:
    policy = policy_of(rule("senders"), rule("ips", key=(Dimension.IP,), limits=("9/1h",)))
    charges = charges_for(policy, mail())
    both = answer(charges, {"ips": 5.0})
    assert policy.decide(both).rule == "ips"
    position = next(index for index, charge in enumerate(charges) if charge.key.entity.dimension == "ip")
    partly = policy.decide(both._replace(missing=frozenset({position}), allowed=True))
    assert (partly.action, [finding.rule for finding in partly.findings]) == (Action.ACCEPT, ["senders"])


LOCAL = OnStoreFailure.LOCAL


@pytest.mark.parametrize(("live", "share"), [(1, 30), (2, 15), (4, 7), (31, 1), (0, 30)])
def test_a_rule_that_counts_locally_has_its_share_of_the_limit(live: int, share: int) -> None:
    policy = policy_of(rule("local", limits=("30/1m",), on_store_failure=LOCAL), rule("open", limits=("9/1h",)))
    [charge] = policy.local_charges(charges_for(policy, mail()), live)
    [meter] = charge.plan.meters
    assert (charge.key, meter.scope, meter.limits) == (
        Key(ALICE, Metric.MESSAGES),
        "local",
        (Limit(share, Window(60)),),
    )


def test_without_such_a_rule_nothing_is_counted_locally() -> None:
    policy = policy_of(rule("open"), tracked=frozenset(Dimension))
    assert policy.local_charges(charges_for(policy, mail()), 1) == ()


@pytest.mark.parametrize(
    ("one_rule", "cacheable"),
    [
        (rule("r"), True),
        (rule("r", charge=Charging.ALWAYS), False),
        (rule("r", action=Action.TARPIT), False),
        (rule("r", count=distinct(Dimension.IP)), False),
        (rule("r", count=Metric.CONCURRENT), False),
        (rule("r", count=Metric.SPAM), True),
    ],
)
def test_only_refusals_that_charge_nothing_may_be_repeated_from_memory(one_rule: Rule, cacheable: bool) -> None:
    assert policy_of(one_rule).is_cacheable("r") is cacheable


# --- explaining


def test_explaining_asks_about_members_and_sessions_as_somebody_new_would() -> None:
    policy = policy_of(rule("ips", count=distinct(Dimension.IP)), rule("open", count=Metric.CONCURRENT))
    charges = policy.charges_to_explain(ALICE)
    assert [(charge.key.scope, charge.plan.kind) for charge in charges] == [
        *(("ips", Kind.DISTINCT), ("open", Kind.LEASES)),
    ]
    assert {meter.charging for charge in charges for meter in charge.plan.meters} == {Charging.NEVER}


def test_explaining_asks_every_rule_about_the_entity_and_charges_nothing() -> None:
    pair = (Dimension.IP, Dimension.SENDER)
    policy = policy_of(
        rule("mails"),
        rule("sizes", data(), count=Metric.BYTES),
        rule("pairs", key=pair),
        rule("ips", key=(Dimension.IP,)),
    )
    charges = policy.charges_to_explain(ALICE)
    assert {meter.scope for charge in charges for meter in charge.plan.meters} == {"mails", "sizes"}
    assert {meter.charging for charge in charges for meter in charge.plan.meters} == {Charging.NEVER}
    both = policy.charges_to_explain(Entity("ip+sender", "192.0.2.1,alice@example.com"))
    assert [charge.plan.meters[0].scope for charge in both] == ["pairs"]
    assert policy.charges_to_explain(Entity("country", "de")) == ()


def test_a_rule_is_found_by_its_name() -> None:
    policy = policy_of(rule("known"))
    assert policy.rule("known").stage is Stage.MAIL
    with pytest.raises(KeyError):
        policy.rule("unknown")


# --- rules without limits


def about(when: str, *, name: str = "odd", action: Action = Action.REJECT, **more: object) -> Rule:
    return rule(name, None, key=(), count="", limits=(), when=when, action=action, **more)


def test_a_rule_without_limits_counts_nothing_and_says_what_it_thinks() -> None:
    policy = policy_of(about('sender_domain == "odd.example"'), about("!tls", name="shy", mode=Mode.SHADOW))
    events: tuple[Event, ...] = (mail(), mail("x@odd.example"), connect())
    said = []
    for event in events:
        opinions = policy.opinions_on(Moment(event, entities_of(event, Spelling()), 0.0))
        said.append([(opinion.name, opinion.mode) for opinion in opinions])
        assert charges_for(policy, event) == ()
    assert said == [[("shy", Mode.SHADOW)], [("odd", Mode.ENFORCE), ("shy", Mode.SHADOW)], []]


def test_whoever_is_exempt_meets_neither_limits_nor_opinions() -> None:
    policy = policy_of(about("!tls"), rule())
    moment = Moment(mail(), entities_of(mail(), Spelling()), 0.0)
    assert policy.exempt.opinions_on(moment) == ()
    assert policy.exempt.charges_for(moment) == ()
    assert not any(policy.exempt.inquiries.values()) and not any(policy.exempt.lookups.values())


def test_a_rule_without_limits_needs_a_condition() -> None:
    with pytest.raises(ConfigError, match="limits: a rule needs key, count and limits, or a condition"):
        about("")


def test_explaining_asks_nothing_for_rules_without_limits() -> None:
    assert policy_of(about("!tls")).charges_to_explain(ALICE) == ()


# --- what has to be found out


def test_a_stage_wants_what_its_own_rules_want() -> None:
    bad = "reputation.sender.score > 0.9"
    policy = policy_of(
        about(f'{bad} && spf == "fail"'),
        about("last_1h.ip.spam > 3", name="b", mode=Mode.SHADOW),
        rule("names", connect(), key=(Dimension.RDNS_DOMAIN,), count=Metric.CONNECTIONS),
        rule("limited", rcpt("b@example.net"), count=Metric.RECIPIENTS, when="first_time && age.ip < 1.0"),
        rule("adaptive", data(), key=(Dimension.USER,), adaptive=2.0),
    )
    assert policy.inquiries == {
        Stage.CONNECT: NOTHING,
        Stage.HELO: NOTHING,
        Stage.AUTH: NOTHING,
        Stage.MAIL: Inquiry(scores=frozenset({"sender"}), counts=frozenset({("last_1h", "ip", "spam")})),
        Stage.RCPT: Inquiry(ages=frozenset({"ip"}), first_time=True),
        Stage.DATA: Inquiry(scores=frozenset({"user"})),
        Stage.DISCONNECT: NOTHING,
    }
    assert {stage: set(wanted) for stage, wanted in policy.lookups.items() if wanted} == {
        Stage.MAIL: {Lookup.SPF},
        Stage.CONNECT: {Lookup.IPREV},
    }
    assert policy.adaptive == {"adaptive": 2.0}


def test_contacts_of_users_are_remembered_and_of_nobody_else() -> None:
    policy = policy_of(tracked=frozenset({Dimension.USER}))
    event = rcpt("bob@example.net")
    written = replace(event, session=replace(event.session, user="alice"))
    contacts = [charge for charge in charges_for(policy, written) if charge.key.metric == SEEN]
    assert [(str(charge.key.entity), charge.plan) for charge in contacts] == [
        ("sender+recipient:alice@example.com,bob@example.net", SEEING),
    ]
    assert charges_for(policy, event) == ()
    assert charges_for(policy_of(), written) == ()
    assert [charge.key for charge in policy.exempt.charges_for(_moment(written))] == [
        charge.key for charge in charges_for(policy, written)
    ]


def _moment(event: Event) -> Moment:
    return Moment(event, entities_of(event, Spelling()), 0.0)


def test_what_the_site_keeps_has_a_kind_for_each_purpose() -> None:
    assert (SEEING.kind, SEEING.meters[0].charging) == (Kind.SEEN, Charging.ACCEPTED)


# --- the class of service


def test_the_class_of_service_is_that_of_the_first_rule_that_names_one() -> None:
    """In the order of the rules, whatever they count."""
    policy = policy_of(
        rule("none", action=Action.TAG),
        rule("pair", key=(Dimension.SENDER, Dimension.IP), action=Action.TAG, service="dirty"),
        rule("plain", action=Action.TAG, service="bulk", limits=("9/1h",)),
    )
    over = {"none": 1.0, "pair": 1.0, "plain": 1.0}
    verdict = verdict_of(policy, mail(), over)
    assert (verdict.service, verdict.rule) == ("dirty", "none")
    assert verdict.tags == verdict.fired == ("none", "pair", "plain")
    assert verdict_of(policy, mail(), {"plain": 1.0}).service == "bulk"
    assert verdict_of(policy, mail(), {}).service == ""


def test_a_rule_that_accepts_what_is_over_puts_it_in_its_class() -> None:
    policy = policy_of(rule("bulk", action=Action.ACCEPT, service="bulk"))
    verdict = verdict_of(policy, mail(), {"bulk": 1.0})
    assert (verdict.action, verdict.reason, verdict.rule, verdict.service) == (
        *(Action.ACCEPT, Reason.OVER_LIMIT, "bulk", "bulk"),
    )
    assert len(verdict.receipt) == 1, "it is accepted, and counts"


def test_a_session_whose_end_nobody_tells_is_not_counted_as_open() -> None:
    """It would count for as long as a lease is renewed: a mail server that asks has sessions one after the other."""
    busy = rule("busy", connect(), key=(Dimension.IP,), count=Metric.CONCURRENT, limits=("5/1m",), action=Action.TARPIT)
    policy, told = policy_of(busy), connect()
    untold = replace(told, session=replace(told.session, has_end=False))
    assert [charge.plan.kind for charge in charges_for(policy, told)] == [Kind.LEASES]
    assert charges_for(policy, untold) == ()
