"""The real engine over counters in memory, at the log's time. All that a replay asks of them goes through here.

What takes the memory of a replay are counters: one for each value of each key that a rule counts, for as long as its
longest window. So nothing is counted that neither a rule nor a condition looks at, and there are at most
`MAX_COUNTERS`, of one to two kB each: less than a gigabyte. Beyond that those go that were not asked about for the
longest time, and `forgotten` says how many: a sender who comes back after that begins at nothing, so a rule may have
hit more than is told.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from reputation.charges import Answer, Charge, Charging, Plan
from reputation.clock import Clock
from reputation.engine import Engine
from reputation.events import Event, Outcome, OutcomeKind
from reputation.inquiry import COUNTED
from reputation.keys import Dimension, Entities, Key, Metric, entities_of
from reputation.policy import Policy
from reputation.rules import LEASE
from reputation.spelling import Spelling
from reputation.store.memory import MemoryStore
from reputation.verdict import Verdict
from reputation.windows import MICROSECONDS, Window

RENEW_US = LEASE.seconds * MICROSECONDS // 3
MAX_COUNTERS = 500_000
FORGOTTEN_AT_ONCE = 20
"""The part of them that goes when there are more: one in so many."""

LookedAt = Mapping[tuple[str, str], Collection[Window]]
"""The windows of a dimension and metric that conditions look at."""


class _LogClock:
    """Fulfils `Clock`: what the log says that it is."""

    def __init__(self) -> None:
        self.at_us = 0

    def now(self) -> float:
        return self.at_us / MICROSECONDS

    def monotonic(self) -> float:
        return self.at_us / MICROSECONDS


class _LogStore(MemoryStore):
    """The memory store by the log's clock, which counts only what somebody looks at."""

    def __init__(self, clock: _LogClock, looked_at: LookedAt) -> None:
        super().__init__(most_keys=2 * MAX_COUNTERS)
        self._log_clock = clock
        self._looked_at = looked_at
        self._plans: dict[tuple[str, str, str], Plan] = {}
        self.forgotten = 0

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        wanted = [charge._replace(plan=plan) for charge in charges if (plan := self._needed(charge)).meters]
        answer = self.decide_now(wanted, token=token, now_us=now_us or self._log_clock.at_us)
        states = self._states
        for key, *_ in wanted:
            if (state := states.pop(key, None)) is not None:
                states[key] = state  # the last is who was asked about last
        if len(states) > MAX_COUNTERS:
            for key in list(islice(states, -(-MAX_COUNTERS // FORGOTTEN_AT_ONCE))):
                del states[key]
                self.forgotten += 1
        return answer

    def _needed(self, charge: Charge) -> Plan:
        """The plan without the windows of the entity's own meter that nobody looks at; of no meters for nothing."""
        key, plan = charge.key, charge.plan
        place = (plan.text, key.entity.dimension, key.metric)
        found = self._plans.get(place)
        if found is None:
            found = self._plans[place] = _without(plan, self._looked_at.get(place[1:], ()))
        return found

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        return await super().renew(key, members, window, now_us=now_us or self._log_clock.at_us)


def _without(plan: Plan, looked_at: Collection[Window]) -> Plan:
    meters = []
    for meter in plan.meters:
        if meter.scope or meter.charging is Charging.NEVER:
            meters.append(meter)
        elif windows := tuple(window for window in meter.windows if window in looked_at):
            meters.append(replace(meter, windows=windows))
    return Plan(tuple(meters), plan.kind)


class Judging:
    """Asks the engine as a front end does, at times of the log."""

    def __init__(self, policy: Policy, spelling: Spelling) -> None:
        self._clock = _LogClock()
        clock: Clock = self._clock
        looked_at: dict[tuple[str, str], set[Window]] = {}
        for when, dimension, metric in {it for inquiry in policy.inquiries.values() for it in inquiry.counts}:
            looked_at.setdefault((dimension, metric), set()).add(COUNTED[when])
        # What is counted besides rules takes most of the time, and only conditions look at it.
        tracked = policy.tracked & {Dimension(dimension) for dimension, _ in looked_at}
        self._policy = replace(policy, tracked=tracked)
        self._store = _LogStore(self._clock, looked_at)
        self._engine = Engine(policy=self._policy, store=self._store, spelling=spelling, clock=clock)
        self._has_leases = any(rule.count == Metric.CONCURRENT for rule in policy.rules)

    @property
    def forgotten(self) -> int:
        """Counters that had to be forgotten while they still counted."""
        return self._store.forgotten

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
