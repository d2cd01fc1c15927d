"""The main path, over a store in memory that can be told to fail."""

import asyncio
import logging
from collections.abc import Sequence

import pytest
from prometheus_client import CollectorRegistry

from reputation.charges import Answer, Charge, Receipt
from reputation.clock import ManualClock
from reputation.contracts import Series
from reputation.engine import ASKING, Engine
from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.events import Outcome, OutcomeKind
from reputation.keys import Dimension, Entity, Metric
from reputation.policy import Mode, OnStoreFailure, Policy, Rule
from reputation.store.memory import MemoryStore
from reputation.verdict import Action, Reason
from tests.builders import connect, data, mail, rcpt, rule

ALICE = Entity("sender", "alice@example.com")
MOMENT_SECONDS = 0.001
LONG_SECONDS = 60.0


class TroubledStore(MemoryStore):
    """A store that fails, or hangs, for as long as it is told to; it counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: StoreError | None = None
        self.hangs = False
        self.asked = 0

    async def _suffer(self) -> None:
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.trouble is not None:
            raise self.trouble

    async def decide(self, charges: Sequence[Charge], *, now_us: int | None = None) -> Answer:
        await self._suffer()
        return await super().decide(charges, now_us=now_us)

    async def refund(self, receipt: Receipt) -> None:
        await self._suffer()
        await super().refund(receipt)

    async def series(self, entity: Entity, *, now_us: int | None = None) -> Sequence[Series]:
        await self._suffer()
        return await super().series(entity, now_us=now_us)


@pytest.fixture
def store() -> TroubledStore:
    return TroubledStore()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def engine_of(
    store: TroubledStore, *rules: Rule, clock: ManualClock | None = None, deadline_seconds: float = LONG_SECONDS
) -> Engine:
    policy = Policy(rules=rules, tracked=frozenset({Dimension.SENDER}))
    return Engine(policy=policy, store=store, clock=clock, deadline_seconds=deadline_seconds)


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


async def test_what_was_charged_can_be_given_back(store: TroubledStore) -> None:
    engine = engine_of(store, HOURLY)
    verdicts = [await engine.judge(mail()) for _ in range(3)]
    await engine.refund(*verdicts)
    assert await store.series(ALICE) == []
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
    assert verdict.receipt is None
    assert store.asked == 1, "nothing is asked twice"
    registry = engine.metrics.registry
    assert sample(registry, "reputon_store_failures_total", call="decide", error=type(trouble).__name__) == 1
    assert sample(registry, "reputon_store_up") == 0


async def test_a_store_that_hangs_is_given_up_at_the_deadline(store: TroubledStore) -> None:
    store.hangs = True
    engine = engine_of(store, CAREFUL, deadline_seconds=MOMENT_SECONDS)
    verdict = await engine.judge(mail())
    assert (verdict.action, verdict.reason) == (Action.TEMPFAIL, Reason.STORE_UNAVAILABLE)
    assert store.asked == 1


async def test_everything_that_waits_for_the_store_has_the_deadline(store: TroubledStore) -> None:
    engine = engine_of(store, HARVEST, deadline_seconds=MOMENT_SECONDS)
    verdict = await engine.judge(data("bob@example.net"))
    store.hangs = True
    await engine.refund(verdict)
    await engine.learn(Outcome(kind=OutcomeKind.SPAM, event=data("bob@example.net")))
    registry = engine.metrics.registry
    assert sample(registry, "reputon_store_failures_total", call="refund", error="StoreUnavailable") == 1
    assert sample(registry, "reputon_store_failures_total", call="learn", error="StoreUnavailable") == 1


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


async def test_each_change_of_the_store_s_state_is_logged_once(
    store: TroubledStore, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(store, HOURLY, clock=clock)
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


class SlowStore(MemoryStore):
    """A healthy store that does one thing at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._one = asyncio.Lock()

    async def decide(self, charges: Sequence[Charge], *, now_us: int | None = None) -> Answer:
        async with self._one:
            await asyncio.sleep(MOMENT_SECONDS)
            return await super().decide(charges, now_us=now_us)


async def test_a_crowd_that_waits_for_its_turn_is_no_store_that_is_away() -> None:
    """Hundreds of decisions at once take longer than the deadline together, and no limit may be passed for that."""
    limited = Policy(rules=(rule(limits=("30/1m",)),), tracked=frozenset())
    engine = Engine(policy=limited, store=SlowStore(), deadline_seconds=ASKING * MOMENT_SECONDS * 8)
    verdicts = await asyncio.gather(*(engine.judge(mail()) for _ in range(400)))
    assert sum(verdict.action is Action.ACCEPT for verdict in verdicts) == 30
    assert {verdict.reason for verdict in verdicts} == {Reason.WITHIN_LIMITS, Reason.OVER_LIMIT}


async def test_a_store_that_hangs_is_asked_for_one_refund_of_many(store: TroubledStore) -> None:
    engine = engine_of(store, rule(limits=("99/1m",)), deadline_seconds=MOMENT_SECONDS)
    store_answers = [await engine.judge(mail()) for _ in range(20)]
    store.hangs, store.asked = True, 0
    await engine.refund(*store_answers)
    assert store.asked == 1
