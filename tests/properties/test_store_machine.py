"""The stores on real servers, the one in memory and a naive log of events give the same answers, step for step.

One random history after the other: decisions over several keys of all kinds and changing plans, tokens, refunds, looks
at the series, and a clock that jumps forth and back. All windows last a minute or longer, so that no key expires by the
server's own clock while a history runs.

On a cluster each key is atomic by itself: when one refuses, the others are refunded behind the decision's back.
The log lives through exactly that, so a clock that goes back after a refusal is no different there.
"""

import asyncio
import copy
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from reputation.charges import Answer, Charge, Charging, Kind, Meter, Over, Plan, Receipt, receipt_of
from reputation.contracts import Series
from reputation.keys import Entity, Key, Metric
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.windows import MICROSECONDS, Limit, Window
from tests.builders import MIDNIGHT_US
from tests.contracts.asking import settled
from tests.properties.naive import Log

T = TypeVar("T")

ENTITIES = [Entity("user", "alice"), Entity("user", "bob")]
RINGS = [Key(entity, metric) for entity in ENTITIES for metric in (Metric.MESSAGES, Metric.BYTES)]
MOMENTS = [Key(entity, Metric.MESSAGES, "a-rule") for entity in ENTITIES]
MEMBERS = [Key(entity, "distinct(ip)", "a-rule") for entity in ENTITIES]
SESSIONS = [Key(entity, Metric.CONCURRENT, "a-rule") for entity in ENTITIES]
SEEN = [Key(entity, "seen") for entity in ENTITIES]
WINDOWS = [Window(seconds) for seconds in (60, 300, 400, 3_600, 86_400)]
SCOPES = ["", "a-rule", "other"]
HUGE = 2**40

counts = st.one_of(st.integers(1, 6), st.just(HUGE))
costs = st.one_of(st.integers(0, 4), st.integers(0, 4), st.sampled_from([250, 65_530, 2**32 - 3, HUGE // 3]))
names = st.sampled_from("abcde")
tokens = st.sampled_from(["", "", "", "first", "second", "third"])
step_seconds = st.one_of(
    st.just(0.0),
    st.floats(0, 20),
    st.sampled_from([6.0, 30.0, 60.0, 66.0, 300.0, 3_600.0]),
    st.floats(0, 100_000),
    st.floats(-100, 0),
    st.sampled_from([-4_000.0, -90_000.0]),
)


@st.composite
def meters(draw: st.DrawFn, scope: str) -> Meter:
    windows = tuple(draw(st.lists(st.sampled_from(WINDOWS), min_size=1, max_size=3, unique=True)))
    limited = draw(st.booleans())
    return Meter(
        scope=scope,
        windows=windows,
        limits=tuple(Limit(draw(counts), window) for window in windows) if limited else (),
        charging=draw(st.sampled_from(Charging)),
        over=draw(st.sampled_from(Over)),
    )


@st.composite
def charges_of_rings(draw: st.DrawFn) -> Charge:
    scopes = draw(st.lists(st.sampled_from(SCOPES), min_size=1, max_size=3, unique=True))
    plan = Plan(tuple(draw(meters(scope)) for scope in scopes))
    return Charge(draw(st.sampled_from(RINGS)), plan, draw(costs))


@st.composite
def charges_of_moments(draw: st.DrawFn) -> Charge:
    """One rule; its windows are always the same, because it remembers as long as the longest of them."""
    limits = [Limit(draw(counts), Window(seconds)) for seconds in (60, 3_600)]
    meter = Meter.limited("a-rule", limits, draw(st.sampled_from(Charging)), draw(st.sampled_from(Over)))
    return Charge(draw(st.sampled_from(MOMENTS)), Plan((meter,), Kind.MOMENTS), draw(costs))


@st.composite
def charges_of_members(draw: st.DrawFn) -> Charge:
    """One rule that refuses; its plan is always the same, because it remembers as long as its longest window."""
    limits = [Limit(3, Window(60)), Limit(4, Window(3_600))]
    meter = Meter.limited("a-rule", limits, draw(st.sampled_from([Charging.ACCEPTED, Charging.NEVER])), Over.DENIES)
    return Charge(draw(st.sampled_from(MEMBERS)), Plan((meter,), Kind.DISTINCT), 1, draw(names))


@st.composite
def charges_of_leases(draw: st.DrawFn) -> Charge:
    limit = Limit(draw(st.integers(1, 4)), Window(60))
    charging = draw(st.sampled_from([Charging.ACCEPTED, Charging.NEVER]))
    meter = Meter.limited("a-rule", [limit], charging, draw(st.sampled_from([Over.DENIES, Over.SKIPS])))
    return Charge(draw(st.sampled_from(SESSIONS)), Plan((meter,), Kind.LEASES), 1, draw(names))


@st.composite
def charges_of_seen(draw: st.DrawFn) -> Charge:
    """With any token, cost and member, which make no difference."""
    window, charging, over = (
        draw(st.sampled_from(WINDOWS)),
        draw(st.sampled_from(Charging)),
        draw(st.sampled_from(Over)),
    )
    meter = Meter(scope=draw(st.sampled_from(SCOPES)), windows=(window,), charging=charging, over=over)
    return Charge(draw(st.sampled_from(SEEN)), Plan((meter,), Kind.SEEN), draw(costs), draw(st.sampled_from(["", "a"])))


charges = st.lists(
    st.one_of(charges_of_rings(), charges_of_moments(), charges_of_members(), charges_of_leases(), charges_of_seen()),
    min_size=1,
    max_size=4,
    unique_by=lambda charge: charge.key,
).map(tuple)


class StoresAgree(RuleBasedStateMachine):
    """A history that all stores live through."""

    url: str
    clustered: bool
    _histories = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.memory, self.log = MemoryStore(), Log()
        self.shared = RedisStore(self.url, prefix=f"h{next(self._histories)}", deadline_seconds=10.0)
        self.now_us = MIDNIGHT_US
        self.receipts: list[Receipt] = []

    def wait_for(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @rule(asked=charges, token=tokens, step=step_seconds)
    def decide(self, asked: tuple[Charge, ...], token: str, step: float) -> None:
        self.now_us += round(step * MICROSECONDS)
        before = copy.deepcopy(self.memory) if self.clustered else self.memory
        expected = self.memory.decide_now(asked, token=token, now_us=self.now_us)
        answer = self.wait_for(self.shared.decide(asked, token=token, now_us=self.now_us))
        self.wait_for(settled(self.shared))
        assert _plain(answer) == _plain(expected)
        if self.clustered and not expected.allowed:
            self.memory = before
            self.live_through_one_by_one(asked, token)
        else:
            self.log.check(expected, self.now_us)
        if receipt := receipt_of(expected):
            self.receipts.append(receipt)

    def live_through_one_by_one(self, asked: tuple[Charge, ...], token: str) -> None:
        """Decide about each key alone, and give back what those charged that would have allowed."""
        for charge in asked:
            alone = self.memory.decide_now((charge,), token=token, now_us=self.now_us)
            self.log.check(alone, self.now_us)
            self.give_back(receipt_of(alone))

    def give_back(self, receipt: Receipt) -> None:
        self.wait_for(self.memory.refund(receipt))
        for given in receipt:
            self.log.refund(given)

    @precondition(lambda self: self.receipts)
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        receipt = data.draw(st.sampled_from(self.receipts))
        self.give_back(receipt)
        self.wait_for(self.shared.refund(receipt))

    @rule(key=st.sampled_from(SESSIONS), members=st.lists(names, min_size=1, unique=True), step=step_seconds)
    def renew(self, key: Key, members: list[str], step: float) -> None:
        self.now_us += round(step * MICROSECONDS)
        counter = self.log.counters.get(key)
        held = [name for name in members if counter and counter.members.get(name, 0) > self.now_us]
        for name in held:
            assert counter is not None
            counter.members[name] = self.now_us + 60 * MICROSECONDS
        for store in (self.memory, self.shared):
            assert self.wait_for(store.renew(key, members, Window(60), now_us=self.now_us)) == len(held)

    @rule(entity=st.sampled_from(ENTITIES), step=step_seconds)
    def look_at_the_series(self, entity: Entity, step: float) -> None:
        now_us = self.now_us + round(step * MICROSECONDS)
        expected = self.wait_for(self.memory.series(entity, now_us=now_us))
        shared = self.wait_for(self.shared.series(entity, now_us=now_us))
        assert sorted(shared, key=_place) == sorted(expected, key=_place)
        for series in expected:
            one = Charge(series.key, Plan((Meter(scope=series.scope, windows=(series.window,)),)))
            assert series.count == self.log.count(one, series.scope, series.window, now_us)

    @rule(window=st.sampled_from(WINDOWS), step=step_seconds)
    def count(self, window: Window, step: float) -> None:
        now_us = self.now_us + round(step * MICROSECONDS)
        expected = [self.log.count(Charge(key, Plan()), "", window, now_us) for key in RINGS]
        for store in (self.memory, self.shared):
            assert self.wait_for(store.counts(RINGS, window, now_us=now_us)) == expected

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.wait_for(self.shared.close())
            self.runner.close()


def _place(series: Series) -> tuple[Key, str, Window]:
    return series.key, series.scope, series.window


def _plain(answer: Answer) -> Answer:
    return answer._replace(numbers=list(answer.numbers), times_us=tuple(answer.times_us))


@pytest.mark.parametrize(("server", "examples"), [("valkey", 130), ("valkey_cluster_9", 90)])
def test_all_stores_answer_alike(server: str, examples: int, request: pytest.FixtureRequest) -> None:
    running = request.getfixturevalue(server)
    StoresAgree.clustered = server != "valkey"
    StoresAgree.url = running.url if StoresAgree.clustered else running.unix_url
    run_state_machine_as_test(
        StoresAgree,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
