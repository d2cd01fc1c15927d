"""The main path: an event goes in, a verdict comes out.

    event -> entities -> charges -> store -> answer -> verdict

`Engine.judge` is that line, and takes one round trip to the store. `Engine.learn` counts what somebody found out
later, `Engine.refund` gives back what an event was charged that came to nothing, and `Engine.explain`
asks what would happen now without counting anything.

When the store gives no answer within the deadline, the verdict is what the rules that apply say for that case
(`on_store_failure`), and the first and last such moment are logged, once each. Nothing is asked twice:
a call that timed out may have been carried out.

Does not do: SMTP (the front ends), Redis (the store), any I/O of its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from reputation.charges import Answer, Charge
from reputation.clock import Clock, SystemClock
from reputation.contracts import Series, Store
from reputation.errors import StoreError, StoreUnavailable
from reputation.events import Event, Outcome
from reputation.keys import Entity, Spelling, entities_of
from reputation.metrics import Metrics
from reputation.policy import Policy
from reputation.verdict import Verdict

DEFAULT_DEADLINE_SECONDS = 0.05
ASKING = 16
"""Calls to the store that are under way at once. Further ones wait for their turn before their deadline begins."""

log = logging.getLogger("reputon.engine")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known about an entity, and what its next event would get."""

    entity: Entity
    verdict: Verdict
    series: tuple[Series, ...]


class Engine:
    """Judges events by a policy over a store of counters. Safe to share among all tasks of one event loop."""

    def __init__(
        self,
        *,
        policy: Policy,
        store: Store,
        spelling: Spelling | None = None,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
    ) -> None:
        self.policy = policy
        self.spelling = spelling or Spelling()
        self.metrics = metrics or Metrics()
        self._store = store
        self._clock = clock or SystemClock()
        self._deadline_seconds = deadline_seconds
        self._turns = asyncio.Semaphore(ASKING)
        self._watch = _StoreWatch(self.metrics, self._clock)

    async def judge(self, event: Event) -> Verdict:
        """What to do about `event`. Never raises for a store that is away."""
        started = self._clock.monotonic()
        entities = entities_of(event, self.spelling)
        charges = self.policy.charges_for(event, entities)
        answer = await self._ask(charges)
        verdict = self.policy.fallback(charges) if answer is None else self.policy.decide(charges, answer)
        self._count(event, verdict, self._clock.monotonic() - started)
        return verdict

    async def learn(self, outcome: Outcome) -> None:
        """Count feedback on an event against whoever sent it. Lost when the store is away, and counted as lost."""
        self.metrics.outcomes.labels(outcome.kind).inc()
        charges = self.policy.charges_of_outcome(outcome.kind, entities_of(outcome.event, self.spelling))
        if charges:
            await self._within_deadline("learn", partial(self._store.decide, charges))

    async def refund(self, *verdicts: Verdict) -> None:
        """Give back what these verdicts charged. Where the store is away, the charge ages out with its window."""
        for receipt in [verdict.receipt for verdict in verdicts if verdict.receipt is not None]:
            await self._within_deadline("refund", partial(self._store.refund, receipt))
            if self._watch.down:  # or each of a thousand recipients would wait for the deadline anew
                break

    async def explain(self, entity: Entity) -> Explanation:
        """What is counted about `entity`, and what one more event of it would get; charges nothing.

        Raises `StoreError` when the store does not answer: an operator wants to know.
        """
        charges = self.policy.charges_to_explain(entity)
        answer = await self._store.decide(charges) if charges else Answer(allowed=True, at_us=0, readings=())
        series = await self._store.series(entity)
        return Explanation(entity=entity, verdict=self.policy.decide(charges, answer), series=tuple(series))

    async def _ask(self, charges: Sequence[Charge]) -> Answer | None:
        if not charges:
            return Answer(allowed=True, at_us=0, readings=())
        return await self._within_deadline("decide", partial(self._store.decide, charges))

    async def _within_deadline(self, call: str, ask: Callable[[], Awaitable[T]]) -> T | None:
        """The store's answer, None when there is none in time.

        The deadline is the store's: a crowd of our own that waits for its turn is no store that is away, and
        must not pass unlimited. While the store is down nobody waits for a turn.
        """
        if self._watch.down and self._turns.locked():
            self._watch.failed(call, StoreUnavailable("the store is down, and others are asking it already"))
            return None
        try:
            async with self._turns, asyncio.timeout(self._deadline_seconds):
                result = await ask()
        except TimeoutError:
            self._watch.failed(call, StoreUnavailable(f"no answer within {self._deadline_seconds:g} s"))
        except StoreError as error:
            self._watch.failed(call, error)
        else:
            self._watch.answered()
            return result
        return None

    def _count(self, event: Event, verdict: Verdict, seconds: float) -> None:
        self.metrics.verdicts.labels(event.stage, verdict.action, verdict.reason).inc()
        self.metrics.decision_seconds.observe(seconds)
        for name in {finding.rule for finding in verdict.findings if finding.reading.over}:
            self.metrics.rule_over.labels(name, self.policy.rule(name).mode).inc()


class _StoreWatch:
    """Whether the store answers: counts each failure, logs each change of state once."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._failed_at: float | None = None
        self._failures = 0
        metrics.store_up.set(1)

    @property
    def down(self) -> bool:
        """Whether the last call failed."""
        return self._failed_at is not None

    def failed(self, call: str, error: StoreError) -> None:
        self._metrics.store_failures.labels(call, type(error).__name__).inc()
        self._failures += 1
        if self._failed_at is None:
            self._failed_at = self._clock.monotonic()
            self._metrics.store_up.set(0)
            log.warning("store down: %s; rules act as their on_store_failure says", error)

    def answered(self) -> None:
        if self._failed_at is None:
            return
        seconds = self._clock.monotonic() - self._failed_at
        log.warning("store back after %.1f s, %d calls had failed", seconds, self._failures)
        self._failed_at, self._failures = None, 0
        self._metrics.store_up.set(1)
