"""The store on a real server and the store in memory give the same answers, step for step.

One random history after the other: decisions over several keys and changing plans, refunds, looks at the series,
and a clock that jumps forth and back. All windows last a minute or longer, so that no key expires by the
server's own clock while a history runs.
"""

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from reputation.charges import Charge, Charging, Meter, Over, Receipt, receipt_of
from reputation.keys import Entity, Key, Metric
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.windows import MICROSECONDS, Limit, Window
from tests.builders import MIDNIGHT_US
from tests.servers import RedisServer

T = TypeVar("T")

ENTITIES = [Entity("user", "alice"), Entity("user", "bob")]
KEYS = [Key(entity, metric) for entity in ENTITIES for metric in (Metric.MESSAGES, Metric.BYTES)]
WINDOWS = [Window(seconds) for seconds in (60, 300, 400, 3_600, 86_400)]
SCOPES = ["", "a-rule", "other"]
HUGE = 2**40

counts = st.one_of(st.integers(1, 6), st.just(HUGE))
costs = st.one_of(st.integers(0, 4), st.integers(0, 4), st.just(HUGE // 3))
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
def charges(draw: st.DrawFn) -> tuple[Charge, ...]:
    keys = draw(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3, unique=True))
    made = []
    for key in keys:
        scopes = draw(st.lists(st.sampled_from(SCOPES), min_size=1, max_size=3, unique=True))
        each = tuple(draw(meters(scope)) for scope in scopes)
        made.append(Charge(key=key, cost=draw(costs), meters=each))
    return tuple(made)


class StoresAgree(RuleBasedStateMachine):
    """A history that both stores live through."""

    url: str
    _histories = itertools.count()

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.memory = MemoryStore()
        self.shared = RedisStore(self.url, prefix=f"h{next(self._histories)}", timeout_seconds=10.0)
        self.now_us = MIDNIGHT_US
        self.receipts: list[Receipt] = []

    def wait_for(self, call: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(call)

    @rule(asked=charges(), step=step_seconds)
    def decide(self, asked: tuple[Charge, ...], step: float) -> None:
        self.now_us += round(step * MICROSECONDS)
        expected = self.wait_for(self.memory.decide(asked, now_us=self.now_us))
        assert self.wait_for(self.shared.decide(asked, now_us=self.now_us)) == expected
        if receipt := receipt_of(asked, expected):
            self.receipts.append(receipt)

    @precondition(lambda self: self.receipts)
    @rule(data=st.data())
    def refund(self, data: st.DataObject) -> None:
        receipt = data.draw(st.sampled_from(self.receipts))
        self.wait_for(self.memory.refund(receipt))
        self.wait_for(self.shared.refund(receipt))

    @rule(entity=st.sampled_from(ENTITIES), step=step_seconds)
    def look_at_the_series(self, entity: Entity, step: float) -> None:
        now_us = self.now_us + round(step * MICROSECONDS)
        expected = self.wait_for(self.memory.series(entity, now_us=now_us))
        assert self.wait_for(self.shared.series(entity, now_us=now_us)) == expected

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.wait_for(self.shared.close())
            self.runner.close()


def test_the_store_on_a_server_answers_as_the_one_in_memory(valkey: RedisServer) -> None:
    StoresAgree.url = valkey.unix_url
    run_state_machine_as_test(
        StoresAgree,
        settings=settings(
            max_examples=150, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )
