"""The real engine over counters in memory, at the log's time. All that a replay asks of them goes through here."""

from collections.abc import Sequence
from dataclasses import replace

from reputation.charges import Answer, Charge
from reputation.clock import Clock
from reputation.engine import Engine
from reputation.events import Event, Outcome, OutcomeKind
from reputation.keys import Dimension, Entities, Key, Metric, entities_of
from reputation.policy import Policy
from reputation.rules import LEASE
from reputation.spelling import Spelling
from reputation.store.memory import MemoryStore
from reputation.verdict import Verdict
from reputation.windows import MICROSECONDS, Window

RENEW_US = LEASE.seconds * MICROSECONDS // 3


class _LogClock:
    """Fulfils `Clock`: what the log says that it is."""

    def __init__(self) -> None:
        self.at_us = 0

    def now(self) -> float:
        return self.at_us / MICROSECONDS

    def monotonic(self) -> float:
        return self.at_us / MICROSECONDS


class _LogStore(MemoryStore):
    """The memory store by the log's clock."""

    def __init__(self, clock: _LogClock) -> None:
        super().__init__()
        self._log_clock = clock

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        return self.decide_now(charges, token=token, now_us=now_us or self._log_clock.at_us)

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        return await super().renew(key, members, window, now_us=now_us or self._log_clock.at_us)


class Judging:
    """Asks the engine as a front end does, at times of the log."""

    def __init__(self, policy: Policy, spelling: Spelling) -> None:
        self._clock = _LogClock()
        clock: Clock = self._clock
        looked_at = {name for inquiry in policy.inquiries.values() for _, name, _ in inquiry.counts}
        # What is counted besides rules takes most of the time, and only conditions look at it.
        self._policy = replace(policy, tracked=policy.tracked & frozenset(map(Dimension, looked_at)))
        self._engine = Engine(policy=self._policy, store=_LogStore(self._clock), spelling=spelling, clock=clock)
        self._has_leases = any(rule.count == Metric.CONCURRENT for rule in policy.rules)

    def entities(self, event: Event) -> Entities:
        """Whom an event is about."""
        return entities_of(event, self._engine.spelling)

    async def judge(self, event: Event, at_us: int) -> Verdict:
        """What the policy says to an event at that time."""
        if self._has_leases:
            await self._renew(at_us)
        self._clock.at_us = at_us
        verdict = await self._engine.judge(event)
        if verdict.denied:
            self._engine.use(self._policy)  # refusals are not remembered, so that every rule is heard each time
        return verdict

    async def _renew(self, at_us: int) -> None:
        """Keep the leases of open sessions up to that time, as the process does that has the sessions."""
        clock = self._clock
        while clock.at_us and clock.at_us + RENEW_US <= at_us:
            clock.at_us += RENEW_US
            await self._engine.upkeep.leases.renew()

    async def learn(self, kind: OutcomeKind, event: Event, at_us: int) -> None:
        """Count an outcome."""
        self._clock.at_us = at_us
        await self._engine.learn(Outcome(kind=kind, event=event))

    async def give_back(self, *verdicts: Verdict) -> None:
        """Give back what was charged."""
        await self._engine.refund(*verdicts)
