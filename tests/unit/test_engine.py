"""The main path, over a store in memory that can be told to fail."""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from reputation.charges import Answer, Charge, Charging, Receipt
from reputation.clock import ManualClock
from reputation.config import BUILT_IN
from reputation.config_files import load
from reputation.contracts import Series
from reputation.denials import MAX_SECONDS
from reputation.engine import Engine
from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.events import Event, Outcome, OutcomeKind, Rcpt
from reputation.facts import LookedUp, Lookup
from reputation.keys import EVIDENCE, Dimension, Entity, Key, Metric
from reputation.policy import Policy
from reputation.rules import Mode, OnStoreFailure, Rule
from reputation.store.memory import MemoryStore
from reputation.verdict import Action, Reason
from reputation.windows import Window
from tests.builders import auth, connect, disconnect, evidence, mail, rcpt, rule, session
from tests.clocked_store import MIDNIGHT, ClockedStore
from tests.entries_for_tests import ban, listing
from tests.known_lookups import KnownLookups

ALICE = Entity("sender", "alice@example.com")
MOMENT_SECONDS = 0.001


class TroubledStore(MemoryStore):
    """A store that fails, or hangs, for as long as it is told to; it counts how often it was asked.

    It gives no answer about the keys of the dimensions that are `away`, as a cluster of which a part is away.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trouble: StoreError | None = None
        self.hangs = False
        self.away: frozenset[str] = frozenset()
        self.asked = 0

    async def _suffer(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble is not None:
            raise self.trouble

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        await self._suffer()
        there = [index for index, charge in enumerate(charges) if charge.key.entity.dimension not in self.away]
        answer = self.decide_now([charges[index] for index in there], token=token, now_us=now_us)
        numbers, given = [], iter(answer.numbers)
        for index, charge in enumerate(charges):
            numbers += [next(given) if index in there else 0 for _ in range(charge.plan.size)]
        times = tuple(answer.at_us if index in there else 0 for index in range(len(charges)))
        missing = frozenset(range(len(charges))) - set(there)
        return answer._replace(charges=tuple(charges), numbers=numbers, times_us=times, missing=missing)

    async def refund(self, receipt: Receipt) -> None:
        await self._suffer()
        await super().refund(receipt)

    async def series(
        self, entity: Entity, metrics: Sequence[str] = tuple(Metric), *, now_us: int | None = None
    ) -> Sequence[Series]:
        await self._suffer()
        return await super().series(entity, metrics, now_us=now_us)


@pytest.fixture
def store() -> TroubledStore:
    return TroubledStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def engine_of(
    store: TroubledStore, *rules: Rule, clock: ManualClock | None = None, fallback: MemoryStore | None = None
) -> Engine:
    policy = Policy(rules=rules, tracked=frozenset({Dimension.SENDER}))
    return Engine(policy=policy, store=store, clock=clock, fallback=fallback)


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


HOURLY = rule("hourly", limits=("2/1h",))
CAREFUL = rule("careful", limits=("2/1h",), on_store_failure=OnStoreFailure.TEMPFAIL)

# --- judging


async def test_an_event_is_judged_in_one_round_trip(store: TroubledStore) -> None:
    engine = engine_of(store, HOURLY, rule("by-ip", key=(Dimension.IP,), limits=("9/1m", "99/1h")))
    verdicts = [await engine.judge(mail()) for _ in range(3)]
    assert store.asked == 3
    assert [verdict.action for verdict in verdicts] == [Action.ACCEPT, Action.ACCEPT, Action.TEMPFAIL]
    assert (verdicts[2].reason, verdicts[2].rule) == (Reason.OVER_LIMIT, "hourly")


async def test_an_event_that_nobody_counts_needs_no_store(store: TroubledStore) -> None:
    store.trouble = StoreUnavailable("away")
    engine = Engine(policy=Policy(rules=(HOURLY,), tracked=frozenset()), store=store)
    verdict = await engine.judge(connect())
    assert (verdict.action, verdict.reason, store.asked) == (Action.ACCEPT, Reason.NO_RULE, 0)


async def test_what_was_refused_is_counted_nowhere(store: TroubledStore) -> None:
    engine = engine_of(store, rule("strict", limits=("1/1h",)))
    for _ in range(5):
        await engine.judge(mail())
    assert {series.count for series in await store.series(ALICE)} == {1}


async def test_verdicts_are_counted_by_stage_action_and_reason(store: TroubledStore, clock: ManualClock) -> None:
    engine = engine_of(store, HOURLY, rule("shy", limits=("1/1h",), mode=Mode.SHADOW), clock=clock)
    for _ in range(4):
        await engine.judge(mail())
    registry = engine.metrics.registry
    accepted = {"stage": "mail", "action": "accept", "reason": "within-limits"}
    refused = {"stage": "mail", "action": "tempfail", "reason": "over-limit"}
    assert sample(registry, "reputon_verdicts_total", **accepted) == 2
    assert sample(registry, "reputon_verdicts_total", **refused) == 2
    assert sample(registry, "reputon_rule_over_total", rule="hourly", mode="enforce") == 2
    assert sample(registry, "reputon_rule_over_total", rule="shy", mode="shadow") == 3
    assert sample(registry, "reputon_decision_seconds_count") == 4


# --- giving back


async def test_what_was_charged_can_be_given_back(store: TroubledStore, clock: ManualClock) -> None:
    engine = engine_of(store, HOURLY, clock=clock)
    verdicts = [await engine.judge(mail()) for _ in range(3)]
    await engine.refund(*verdicts)
    assert await store.series(ALICE) == []
    clock.advance(MAX_SECONDS)  # as long as a refusal is remembered
    assert (await engine.judge(mail())).action is Action.ACCEPT


async def test_a_refund_that_the_store_cannot_take_is_let_go(store: TroubledStore) -> None:
    engine = engine_of(store, HOURLY)
    verdict = await engine.judge(mail())
    store.trouble = StoreUnavailable("away")
    await engine.refund(verdict)
    registry = engine.metrics.registry
    assert sample(registry, "reputon_store_failures_total", call="refund", error="StoreUnavailable") == 1


# --- learning

HARVEST = rule("harvest", rcpt(""), key=(Dimension.IP,), count=Metric.INVALID_RECIPIENTS, limits=("2/1h",))


async def test_what_is_learned_is_held_against_who_sent(store: TroubledStore) -> None:
    engine = engine_of(store, HARVEST)
    event = rcpt("nobody@example.net")
    for _ in range(2):
        assert (await engine.judge(event)).action is Action.ACCEPT
        await engine.learn(Outcome(kind=OutcomeKind.UNKNOWN_RECIPIENT, event=event))
    verdict = await engine.judge(event)
    assert (verdict.action, verdict.rule) == (Action.TEMPFAIL, "harvest")
    assert sample(engine.metrics.registry, "reputon_outcomes_total", kind="unknown-recipient") == 2


async def test_judging_alone_charges_nothing_that_is_learned(store: TroubledStore) -> None:
    engine = engine_of(store, HARVEST)
    for _ in range(5):
        assert (await engine.judge(rcpt("somebody@example.net"))).action is Action.ACCEPT


async def test_what_is_learned_while_the_store_is_away_is_lost_and_counted(store: TroubledStore) -> None:
    engine = engine_of(store, HARVEST)
    store.trouble = StoreUnavailable("away")
    await engine.learn(Outcome(kind=OutcomeKind.UNKNOWN_RECIPIENT, event=rcpt("nobody@example.net")))
    registry = engine.metrics.registry
    assert sample(registry, "reputon_store_failures_total", call="learn", error="StoreUnavailable") == 1


# --- explaining


async def test_explaining_tells_what_would_happen_and_counts_nothing(store: TroubledStore) -> None:
    engine = engine_of(store, HOURLY)
    for _ in range(2):
        await engine.judge(mail())
    for _ in range(3):
        explanation = await engine.explain(ALICE)
    assert (explanation.verdict.action, explanation.verdict.rule) == (Action.TEMPFAIL, "hourly")
    assert explanation.verdict.retry_after_seconds > 0
    assert {(series.scope, series.count) for series in explanation.series} == {("", 2), ("hourly", 2)}


async def test_explaining_what_no_rule_is_about_shows_its_counts(store: TroubledStore) -> None:
    engine = engine_of(store)
    await engine.judge(mail())
    explanation = await engine.explain(ALICE)
    assert (explanation.verdict.action, explanation.verdict.reason) == (Action.ACCEPT, Reason.NO_RULE)
    assert {series.scope for series in explanation.series} == {""}


async def test_explaining_says_so_when_the_store_is_away(store: TroubledStore) -> None:
    store.trouble = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await engine_of(store, HOURLY).explain(ALICE)


# --- trouble


@pytest.mark.parametrize("trouble", [StoreUnavailable("away"), StoreMisuse("no permission")])
@pytest.mark.parametrize(("one_rule", "action"), [(HOURLY, Action.ACCEPT), (CAREFUL, Action.TEMPFAIL)])
async def test_without_an_answer_the_rules_say_what_to_do(
    store: TroubledStore, trouble: StoreError, one_rule: Rule, action: Action
) -> None:
    engine = engine_of(store, one_rule)
    store.trouble = trouble
    verdict = await engine.judge(mail())
    assert (verdict.action, verdict.reason) == (action, Reason.STORE_UNAVAILABLE)
    assert verdict.receipt == ()
    assert store.asked == 1, "nothing is asked twice"
    registry = engine.metrics.registry
    assert sample(registry, "reputon_store_failures_total", call="decide", error=type(trouble).__name__) == 1
    assert sample(registry, "reputon_store_up") == 0


async def test_a_caller_that_gives_up_is_not_taken_for_a_store_that_fails(store: TroubledStore) -> None:
    store.hangs = True
    engine = engine_of(store, HOURLY)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(MOMENT_SECONDS):
            await engine.judge(mail())
    assert sample(engine.metrics.registry, "reputon_store_up") == 1


async def test_pitfall_25_the_first_answer_ends_the_trouble(store: TroubledStore) -> None:
    engine = engine_of(store, CAREFUL)
    store.trouble = StoreUnavailable("away")
    await engine.judge(mail())
    store.trouble = None
    verdict = await engine.judge(mail())
    assert (verdict.action, verdict.reason) == (Action.ACCEPT, Reason.WITHIN_LIMITS)
    assert sample(engine.metrics.registry, "reputon_store_up") == 1


async def test_pitfall_31_each_change_of_the_store_s_state_is_logged_once(
    store: TroubledStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(store, rule("roomy", limits=("99/1h",)), clock=clock)
    with caplog.at_level(logging.DEBUG, logger="reputon"):
        await engine.judge(mail())
        for _ in range(2):
            store.trouble = StoreUnavailable("connection refused")
            for _ in range(3):
                await engine.judge(mail())
                clock.advance(4.0)
            store.trouble = None
            for _ in range(3):
                await engine.judge(mail())
    down = "store down: connection refused; rules act as their on_store_failure says"
    back = "store back after 12.0 s, 3 calls had failed"
    assert caplog.messages == [down, back, down, back]


async def test_many_refunds_wait_for_a_store_that_is_away_together(store: TroubledStore) -> None:
    engine = engine_of(store, rule(limits=("99/1m",)))
    verdicts = [await engine.judge(mail()) for _ in range(20)]
    store.hangs, store.asked = True, 0
    refunds = asyncio.create_task(engine.refund(*verdicts))
    await asyncio.sleep(MOMENT_SECONDS)
    assert store.asked == 20, "none waits for the deadline of another"
    refunds.cancel()


async def test_the_store_is_back_when_all_of_it_is(
    store: TroubledStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(store, rule(limits=("99/1m",)), clock=clock)
    store.trouble = StoreUnavailable("away")
    await engine.judge(mail())
    store.trouble, store.whole = None, False
    for _ in range(3):
        await engine.judge(mail())
    assert [line for line in caplog.messages if line.startswith("store back")] == []
    store.whole = True
    await engine.judge(mail())
    assert [line for line in caplog.messages if line.startswith("store back")] == [
        "store back after 0.0 s, 1 calls had failed"
    ]


# --- partly away


async def test_rules_whose_keys_got_no_answer_say_what_to_do(store: TroubledStore) -> None:
    by_ip = rule("by-ip", key=(Dimension.IP,), limits=("9/1h",), on_store_failure=OnStoreFailure.TEMPFAIL)
    engine = engine_of(store, HOURLY, by_ip)
    store.away = frozenset({"ip"})
    verdict = await engine.judge(mail())
    assert (verdict.action, verdict.reason, verdict.rule) == (Action.TEMPFAIL, Reason.STORE_UNAVAILABLE, "by-ip")
    assert await store.series(ALICE) == [], "what the others charged is given back"


async def test_what_is_known_decides_when_the_missing_keys_matter_to_nobody(store: TroubledStore) -> None:
    engine = engine_of(store, rule("strict", limits=("1/1h",)), rule("by-ip", key=(Dimension.IP,), limits=("9/1h",)))
    store.away = frozenset({"ip"})
    verdicts = [await engine.judge(mail()) for _ in range(2)]
    assert [(verdict.action, verdict.rule) for verdict in verdicts] == [
        *((Action.ACCEPT, ""), (Action.TEMPFAIL, "strict")),
    ]


# --- counting locally

LOCAL = rule("local", limits=("4/1h",), action=Action.REJECT, on_store_failure=OnStoreFailure.LOCAL)


@pytest.mark.parametrize(("live", "admitted"), [(1, 4), (2, 2), (9, 1)])
async def test_a_rule_that_counts_locally_enforces_its_share(store: TroubledStore, live: int, admitted: int) -> None:
    engine = engine_of(store, LOCAL, fallback=MemoryStore())
    engine.upkeep.live = live
    store.trouble = StoreUnavailable("away")
    verdicts = [await engine.judge(mail()) for _ in range(admitted + 2)]
    assert [verdict.denied for verdict in verdicts] == [False] * admitted + [True] * 2
    assert {verdict.reason for verdict in verdicts[:admitted]} == {Reason.STORE_UNAVAILABLE}
    assert verdicts[-1].rule == "local"


async def test_a_local_refusal_is_never_a_permanent_one(store: TroubledStore) -> None:
    """The share is a guess, and our trouble is never the sender's fault."""
    engine = engine_of(store, LOCAL, fallback=MemoryStore())
    engine.upkeep.live = 9
    store.trouble = StoreUnavailable("away")
    verdicts = [await engine.judge(mail()) for _ in range(2)]
    assert verdicts[1].action in {Action.TEMPFAIL, Action.THROTTLE}


async def test_without_a_store_of_its_own_a_rule_that_counts_locally_accepts(store: TroubledStore) -> None:
    engine = engine_of(store, LOCAL)
    store.trouble = StoreUnavailable("away")
    assert {(await engine.judge(mail())).action for _ in range(9)} == {Action.ACCEPT}


async def test_a_rule_that_wants_a_tempfail_is_heard_before_one_that_counts_locally(store: TroubledStore) -> None:
    engine = engine_of(store, LOCAL, CAREFUL, fallback=MemoryStore())
    store.trouble = StoreUnavailable("away")
    assert (await engine.judge(mail())).rule == "careful"


async def test_local_counts_end_with_the_trouble(store: TroubledStore) -> None:
    engine = engine_of(store, LOCAL, fallback=MemoryStore())
    engine.upkeep.live = 9
    store.trouble = StoreUnavailable("away")
    for _ in range(3):
        await engine.judge(mail())
    store.trouble = None
    assert (await engine.judge(mail())).action is Action.ACCEPT


# --- refusals from memory


async def test_a_flood_of_refusals_costs_few_round_trips(store: TroubledStore, clock: ManualClock) -> None:
    engine = engine_of(store, HOURLY, clock=clock)
    verdicts = [await engine.judge(mail()) for _ in range(100)]
    assert store.asked == 3, "two that were admitted, one that was refused"
    assert {(verdict.action, verdict.rule, verdict.reason) for verdict in verdicts[2:]} == {
        *((Action.TEMPFAIL, "hourly", Reason.OVER_LIMIT),)
    }
    assert verdicts[-1].receipt == ()


async def test_a_remembered_refusal_counts_down_and_is_asked_about_after_a_second(
    store: TroubledStore, clock: ManualClock
) -> None:
    engine = engine_of(store, HOURLY, clock=clock)
    told = [await engine.judge(mail()) for _ in range(3)][-1].retry_after_seconds
    clock.advance(0.5)
    assert (await engine.judge(mail())).retry_after_seconds == pytest.approx(told - 0.5, abs=0.001)
    clock.advance(0.5)
    store.asked = 0
    await engine.judge(mail())
    assert store.asked == 1


async def test_nobody_is_refused_from_memory_who_would_be_admitted(store: TroubledStore, clock: ManualClock) -> None:
    engine = engine_of(store, HOURLY, clock=clock)
    for _ in range(3):
        await engine.judge(mail())
    assert (await engine.judge(mail("bob@example.com"))).action is Action.ACCEPT
    assert (await engine.judge(rcpt("carol@example.net"))).action is Action.ACCEPT


async def test_attempts_that_count_are_never_refused_from_memory(store: TroubledStore) -> None:
    engine = engine_of(store, rule("attempts", limits=("1/1h",), charge=Charging.ALWAYS))
    for _ in range(5):
        await engine.judge(mail())
    assert store.asked == 5
    assert {series.count for series in await store.series(ALICE) if series.scope} == {5}


async def test_rules_that_are_over_are_counted_for_refusals_from_memory_too(store: TroubledStore) -> None:
    engine = engine_of(store, HOURLY)
    for _ in range(10):
        await engine.judge(mail())
    assert sample(engine.metrics.registry, "reputon_rule_over_total", rule="hourly", mode="enforce") == 8


# --- what is tried again


async def test_what_is_asked_twice_is_charged_once(store: TroubledStore) -> None:
    engine = engine_of(store, rule("strict", limits=("1/1h",)))
    event = replace(mail(), token="message")
    assert {(await engine.judge(event)).action for _ in range(3)} == {Action.ACCEPT}
    assert {series.count for series in await store.series(ALICE)} == {1}
    assert (await engine.judge(replace(event, token="other"))).action is Action.TEMPFAIL
    assert (await engine.judge(event)).action is Action.ACCEPT, "no refusal is remembered against it"


# --- sessions

OPEN = rule("open", connect(), key=(Dimension.IP,), count=Metric.CONCURRENT, limits=("1/1m",))


async def test_a_session_gives_its_lease_back_when_it_ends(store: TroubledStore) -> None:
    engine = engine_of(store, OPEN)
    first, second = connect(), replace(connect(), session=replace(session(), id="s2"))
    assert (await engine.judge(first)).action is Action.ACCEPT
    assert (await engine.judge(second)).action is Action.TEMPFAIL
    await engine.judge(disconnect())
    assert (await engine.judge(second)).action is Action.ACCEPT


async def test_a_refund_leaves_the_lease_of_a_session(store: TroubledStore) -> None:
    engine = engine_of(store, OPEN)
    await engine.refund(await engine.judge(connect()))
    second = replace(connect(), session=replace(session(), id="s2"))
    assert (await engine.judge(second)).action is Action.TEMPFAIL


# --- the most


async def test_the_top_is_counted_anew(store: TroubledStore) -> None:
    engine = engine_of(store)
    for name, count in (("alice", 3), ("bob", 5), ("carol", 1)):
        for _ in range(count):
            await engine.judge(mail(f"{name}@example.com"))
    await engine.upkeep.offer()
    await engine.judge(mail("carol@example.com"))
    top = await engine.top("sender", Metric.MESSAGES, Window(300), 2)
    assert [(entity.id, count) for entity, count in top] == [("bob@example.com", 5), ("alice@example.com", 3)]
    everybody = await engine.top("sender", Metric.MESSAGES, Window(300), 9)
    assert (everybody[-1][0].id, everybody[-1][1]) == ("carol@example.com", 2), "more than was offered"


async def test_the_top_of_a_past_moment(store: TroubledStore) -> None:
    engine, before = engine_of(store), time.time()
    await engine.judge(mail())
    await engine.upkeep.offer()
    window, now = Window(300), time.time()
    around = [await engine.top("sender", Metric.MESSAGES, window, 2, at=at) for at in (before, now)]
    assert [(ALICE, 1)] in around, "at most one of them is in another stretch"
    assert await engine.top("sender", Metric.MESSAGES, window, 2, at=now - 7_200) == []


# --- rules without limits


def about(when: str, event: Event, *, name: str = "odd", action: Action = Action.REJECT, **more: object) -> Rule:
    return rule(name, event, key=(), count="", limits=(), when=when, action=action, **more)


def whole_engine(*rules: Rule, found: LookedUp | None = None) -> tuple[Engine, ClockedStore, KnownLookups]:
    """An engine that counts everything, with look-ups."""
    store, lookups = ClockedStore(ManualClock(MIDNIGHT)), KnownLookups(found)
    return Engine(policy=Policy(rules=rules), store=store, clock=store.clock, lookups=lookups), store, lookups


async def test_what_a_rule_without_limits_refuses_is_charged_nowhere() -> None:
    engine, store, _ = whole_engine(about('sender_domain == "odd.example"', mail()), HOURLY)
    for _ in range(5):
        verdict = await engine.judge(mail("alice@odd.example"))
        assert (verdict.action, verdict.reason, verdict.rule) == (Action.REJECT, Reason.MATCHED, "odd")
        assert (verdict.fired, verdict.receipt) == (("odd",), ())
    assert (store.asked, store._states) == ([], {})
    assert (await engine.judge(mail())).action is Action.ACCEPT


async def test_what_lets_pass_goes_along_with_what_is_counted() -> None:
    tags = about("!tls", mail(), name="plain", action=Action.TAG, service="dirty")
    engine, _, _ = whole_engine(tags, HOURLY)
    verdicts = [await engine.judge(mail()) for _ in range(3)]
    assert [verdict.action for verdict in verdicts] == [Action.TAG, Action.TAG, Action.TEMPFAIL]
    assert [verdict.tags for verdict in verdicts] == [("plain",)] * 3
    assert [verdict.service for verdict in verdicts] == ["dirty"] * 3
    assert verdicts[0].findings[0].reading.count == 1
    await engine.refund(*verdicts)
    engine.use(engine.policy)  # forgets the refusal that is remembered
    assert (await engine.judge(mail())).action is Action.TAG, "what was tagged was charged, and given back"


async def test_rules_without_limits_are_counted_by_mode() -> None:
    engine, _, _ = whole_engine(
        about("!tls", mail()),
        about("hour < 25", mail(), name="shy", mode=Mode.SHADOW),
        about("tls", mail(), name="not"),
    )
    for _ in range(3):
        await engine.judge(mail())
    registry = engine.metrics.registry
    assert sample(registry, "reputon_rule_over_total", rule="odd", mode="enforce") == 3
    assert sample(registry, "reputon_rule_over_total", rule="shy", mode="shadow") == 3
    for mode in Mode:
        assert sample(registry, "reputon_rule_over_total", rule="not", mode=mode) == 0
    assert sample(registry, "reputon_rule_over_total", rule="shy", mode="enforce") == 0
    assert sample(registry, "reputon_verdicts_total", stage="mail", action="reject", reason="matched") == 3


async def test_whoever_is_exempt_meets_no_rule_without_limits_and_nothing_is_looked_up_for_him() -> None:
    engine, _, lookups = whole_engine(about('iprev == "fail"', mail()), found=LookedUp(iprev="fail"))
    assert (await engine.judge(mail())).denied
    await engine.registrar.put(listing("allow", "sender:alice@example.com"))
    lookups.asked.clear()
    assert (await engine.judge(mail())).reason is Reason.ALLOWLISTED
    assert lookups.asked == []


# --- what is looked up

NAMED = LookedUp(iprev="pass", rdns="mx7.mail.example")


async def test_a_name_that_only_a_look_up_finds_can_be_banned() -> None:
    engine, store, lookups = whole_engine(about('iprev == "fail"', mail()), found=NAMED)
    await engine.registrar.put(ban("rdns_domain:mail.example"))
    verdict = await engine.judge(mail())
    assert (verdict.action, verdict.reason, verdict.entry) == (
        Action.REJECT,
        Reason.BANNED,
        "ban|rdns_domain:mail.example",
    )
    assert store.asked == []
    assert [wanted for _, wanted in lookups.asked] == [{Lookup.IPREV}]
    await engine.registrar.lift("ban|rdns_domain:mail.example", author="bob", reason="over")
    assert not (await engine.judge(mail())).denied


async def test_a_name_that_only_a_look_up_finds_can_be_exempt() -> None:
    engine, _, _ = whole_engine(about('iprev == "pass"', mail()), found=NAMED)
    assert (await engine.judge(mail())).denied
    await engine.registrar.put(listing("allow", "rdns_domain:mail.example"))
    verdict = await engine.judge(mail())
    assert (verdict.reason, verdict.entry) == (Reason.ALLOWLISTED, "list|allow|rdns_domain:mail.example")


async def test_a_rule_sees_the_lists_that_a_found_name_is_on() -> None:
    engine, _, _ = whole_engine(about('iprev == "pass" && "odd" in lists', mail()), found=NAMED)
    assert not (await engine.judge(mail())).denied
    await engine.registrar.put(listing("odd", "rdns_domain:mail.example"))
    assert (await engine.judge(mail())).rule == "odd"


async def test_the_network_of_a_client_is_counted_and_can_be_limited() -> None:
    by_provider = rule("provider", key=(Dimension.ASN,), limits=("2/1h",))
    engine, store, _ = whole_engine(by_provider)
    verdicts = [await engine.judge(mail(f"{n}@example.com", client=f"192.0.2.{n}")) for n in range(1, 4)]
    assert [verdict.denied for verdict in verdicts] == [False, False, True], "none of them alone, all of them together"
    counts = {row.count for row in await store.series(Entity("country", "DE"), now_us=store._now_us())}
    assert counts == {2}


# --- reputation

BAD_CLIENT = about(
    "reputation.ip.score > 0.9 && reputation.ip.confidence > 0.8", connect(), action=Action.REJECT, name="bad-client"
)


async def learn(engine: Engine, kind: OutcomeKind, event: Event, times: int) -> None:
    for _ in range(times):
        await engine.learn(Outcome(kind=kind, event=event))


async def test_whoever_sends_spam_is_refused_at_the_door_until_it_has_faded() -> None:
    engine, store, _ = whole_engine(BAD_CLIENT)
    assert not (await engine.judge(connect())).denied
    await learn(engine, OutcomeKind.SPAM, mail(), 30)
    store.asked.clear()
    verdict = await engine.judge(connect())
    assert (verdict.action, verdict.reason, verdict.rule) == (Action.REJECT, Reason.MATCHED, "bad-client")
    assert len(store.asked) == 1, "what it is known for, and nothing is counted"
    assert not (await engine.judge(connect("198.51.100.1"))).denied
    store.clock.advance(180 * 86_400)
    assert not (await engine.judge(connect())).denied


async def test_without_the_store_nobody_has_a_bad_reputation() -> None:
    engine, store, _ = whole_engine(BAD_CLIENT)
    await learn(engine, OutcomeKind.SPAM, mail(), 30)
    store.trouble = StoreUnavailable("away")
    verdict = await engine.judge(connect())
    assert (verdict.action, verdict.reason) == (Action.ACCEPT, Reason.STORE_UNAVAILABLE)
    assert sample(engine.metrics.registry, "reputon_store_failures_total", call="read", error="StoreUnavailable") == 1


async def test_limits_follow_reputation() -> None:
    adaptive = rule("adaptive", key=(Dimension.SENDER,), limits=("9/1h",), adaptive=3.0)
    engine, _, _ = whole_engine(adaptive)
    await learn(engine, OutcomeKind.SPAM, mail("bad@bad.example", client="198.51.100.1"), 1_000)
    await learn(engine, OutcomeKind.HAM, mail("good@good.example", client="203.0.113.1"), 1_000)
    admitted = {}
    for sender in ("bad@bad.example", "good@good.example", "new@new.example"):
        verdicts = [await engine.judge(mail(sender)) for _ in range(30)]
        admitted[sender] = sum(not verdict.denied for verdict in verdicts)
    assert admitted == {"bad@bad.example": 3, "good@good.example": 27, "new@new.example": 9}


async def test_pitfall_26_a_burst_is_heard_after_months_of_good_mail() -> None:
    """A hundred spam in an hour are one in thirty of all that was ever seen, and the score says what is going on."""
    engine, store, _ = whole_engine(BAD_CLIENT)

    async def scores() -> tuple[float, float]:
        standing = (await engine.explain(Entity("ip", "192.0.2.1"))).reputation
        assert standing is not None
        return standing.score, standing.active_now

    for _ in range(90):
        store.clock.advance(86_400)
        await learn(engine, OutcomeKind.HAM, mail(), 30)
    assert max(await scores()) < 0.05
    for _ in range(100):
        store.clock.advance(36)
        await learn(engine, OutcomeKind.SPAM, mail(), 1)
    assert min(await scores()) > 0.5
    for _ in range(10):
        store.clock.advance(86_400)
        await learn(engine, OutcomeKind.HAM, mail(), 30)
    assert max(await scores()) < 0.05, "and what has ended is not held against him for as long"


async def test_pitfall_21_failed_log_ins_are_evidence_against_nobody_and_hold_no_user(tmp_path: Path) -> None:
    """With all rules that come with reputon, in force."""
    file = tmp_path / "reputon.toml"
    file.write_text(f"include = {list(BUILT_IN)}\n[keys]\nsubject_key = 'secret'\n", encoding="utf-8")
    rules = [replace(rule, mode=Mode.ENFORCE) for rule in load(file).policy().rules]
    engine, store, _ = whole_engine(*rules)
    for number in range(300):
        failed = replace(auth("alice", success=False), session=session(f"198.51.100.{number % 200}"))
        await engine.judge(failed)
        await engine.learn(Outcome(kind=OutcomeKind.AUTH_FAILED, event=failed))
    assert evidence_in(store) == set()
    blamed = {key.entity.dimension for key in store._states if key.metric == Metric.AUTH_FAILURES}
    assert blamed == {Dimension.IP, Dimension.PREFIX, Dimension.ASN, Dimension.COUNTRY}, "where they came from"
    assert engine.registrar.register.entries == ()
    hers = session("203.0.113.5", user="alice")
    for event in (
        replace(auth("alice", success=True), session=hers),
        replace(mail(), session=hers),
        replace(rcpt("bob@example.net"), session=hers),
    ):
        verdict = await engine.judge(event)
        assert (verdict.action, verdict.delay_seconds) == (Action.ACCEPT, 0.0)


def evidence_in(store: ClockedStore) -> set[str]:
    return {str(key.entity) for key in store._states if key.metric == EVIDENCE}


async def test_pitfall_27_a_score_does_not_feed_on_its_own_refusals() -> None:
    engine, store, _ = whole_engine(BAD_CLIENT, HOURLY)
    await learn(engine, OutcomeKind.SPAM, mail(), 30)
    known = Key(Entity("ip", "192.0.2.1"), EVIDENCE)
    before = store.decide_now([evidence(key=known)], now_us=store._now_us()).numbers
    for _ in range(50):
        assert (await engine.judge(connect())).denied
        await engine.judge(mail())
    assert store.decide_now([evidence(key=known)], now_us=store._now_us()).numbers == before


async def test_pitfall_35_our_own_refusals_are_evidence_against_nobody() -> None:
    refusing = (
        about('sender_domain == "odd.example"', mail()),
        rule("hourly", limits=("1/1h",), action=Action.REJECT),
        rule("held", key=(Dimension.IP,), limits=("3/1h",), action=Action.REJECT, hold_seconds=60.0),
    )
    engine, store, _ = whole_engine(*refusing)
    await engine.registrar.put(ban("sender:eve@example.com"))
    events = [mail("x@odd.example"), mail("eve@example.com"), *(mail(f"{n}@example.com") for n in range(5)), mail()]
    verdicts = [await engine.judge(event) for event in events * 3]
    assert {verdict.reason for verdict in verdicts if verdict.denied} == {
        *(Reason.MATCHED, Reason.BANNED, Reason.OVER_LIMIT),
    }
    assert evidence_in(store) == set()
    learned = {Metric.SPAM, Metric.BOUNCES, Metric.INVALID_RECIPIENTS, Metric.COMPLAINTS, Metric.MALWARE}
    assert not {key.metric for key in store._states} & learned


# --- messages that came back

SUSPENDING = rule("suspending", key=(Dimension.SENDER,), count=Metric.BOUNCES, limits=("20/24h",), action=Action.REJECT)
REPORT = replace(rcpt("alice@example.com", sender=""), session=session("203.0.113.9"))


def written(recipient: str, *, user: str = "alice") -> Rcpt:
    return replace(rcpt(recipient), session=replace(session(), user=user))


async def came_back(engine: Engine, sender: str, recipient: str, times: int = 1) -> None:
    for _ in range(times):
        await engine.learn(Outcome(kind=OutcomeKind.BOUNCE, event=REPORT, returned=(sender, recipient)))


async def test_a_message_that_came_back_counts_against_whoever_sent_it() -> None:
    engine, store, _ = whole_engine(SUSPENDING)
    await engine.judge(written("Bob+x@example.net"))
    await came_back(engine, "Alice@example.com", "bob@EXAMPLE.net")
    assert evidence_in(store) == {"sender:alice@example.com", "sender_domain:example.com"}
    counted = {str(key.entity) for key in store._states if key.metric == Metric.BOUNCES}
    assert counted == {"sender:alice@example.com", "sender_domain:example.com"}, "and nobody whom the report names"


@pytest.mark.parametrize(
    ("user", "returned"),
    [
        ("alice", ("alice@example.com", "nobody@example.net")),
        ("alice", ("eve@example.com", "bob@example.net")),
        ("", ("alice@example.com", "bob@example.net")),
        ("alice", ("", "bob@example.net")),
        ("alice", ("alice@example.com", "")),
    ],
    ids=["another recipient", "another sender", "nobody had logged in", "no sender", "no recipient"],
)
async def test_a_report_that_anybody_could_have_made_up_counts_against_nobody(
    user: str, returned: tuple[str, str]
) -> None:
    engine, store, _ = whole_engine(SUSPENDING)
    await engine.judge(written("bob@example.net", user=user))
    await came_back(engine, *returned)
    assert evidence_in(store) == set()


async def test_without_the_store_a_report_counts_against_nobody() -> None:
    engine, store, _ = whole_engine(SUSPENDING)
    await engine.judge(written("bob@example.net"))
    store.away = frozenset({"sender+recipient"})
    await came_back(engine, "alice@example.com", "bob@example.net")
    store.trouble = StoreUnavailable("away")
    await came_back(engine, "alice@example.com", "bob@example.net")
    assert evidence_in(store) == set()


async def test_pitfall_30_one_bounce_of_one_message_suspends_nobody() -> None:
    by_score = about("reputation.sender.score > 0.9 && reputation.sender.confidence > 0.8", mail(), name="by-score")
    engine, _, _ = whole_engine(SUSPENDING, by_score)
    await engine.judge(written("bob@example.net"))
    await came_back(engine, "alice@example.com", "bob@example.net")
    assert not (await engine.judge(mail(user="alice"))).denied
    for number in range(20):
        await engine.judge(written(f"{number}@example.net"))
        await came_back(engine, "alice@example.com", f"{number}@example.net")
    assert (await engine.judge(mail(user="alice"))).rule == "suspending"
