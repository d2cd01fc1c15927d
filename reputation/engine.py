"""The main path: an event goes in, a verdict comes out.

    event -> entities -> (the register: refused, exempt?) -> charges -> store -> answer -> verdict

`Engine.judge` is that line, and takes one round trip to the store; what operators have put down is in memory
(`reputation.registrar`), so that whoever is banned costs none. `Engine.learn` counts what somebody found out
later, `Engine.refund` gives back what an event was charged that came to nothing, and `Engine.explain`
asks what would happen now without counting anything. `Engine.upkeep` and `Engine.registrar` run beside them.

When the store gives no answer within its deadline, or only about some keys, the verdict is what the rules that apply
say for that case (`on_store_failure`): accept, tempfail, or count in this process against its share of the limit. The
first and the last such moment are logged, once each. Nothing is asked twice: a call that timed out may have been
carried out.

Does not do: SMTP (the front ends), Redis (the store), any I/O of its own.
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from reputation.charges import Answer, Charge, Kind
from reputation.clock import Clock, SystemClock
from reputation.contracts import Board, Series, Store
from reputation.denials import Denials
from reputation.entries import DEFAULT_NEVER_BAN, Entry, Target
from reputation.errors import StoreError, StoreUnavailable
from reputation.events import Disconnect, Event, Outcome
from reputation.keys import Entities, Entity, Key, Spelling, entities_of
from reputation.metrics import Metrics
from reputation.overrides import overridden
from reputation.policy import Policy
from reputation.register import Standing
from reputation.registrar import Registrar
from reputation.upkeep import Upkeep
from reputation.verdict import Action, Reason, Verdict
from reputation.windows import Window

TOP_CANDIDATES = 5
"""Candidates that are counted anew for each row that was asked for."""

log = logging.getLogger("reputon.engine")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known about an entity, and what its next event would get."""

    entity: Entity
    verdict: Verdict
    series: tuple[Series, ...]
    entries: tuple[Entry, ...] = ()
    """Of the register: about the entity, the networks around it, and its domain."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Rule -> which events it is about, of those that are not about all; asked as if it were about the next one."""


class Engine:
    """Judges events by a policy over a store of counters. Safe to share among all tasks of one event loop.

    `fallback` is the store of this process alone, for rules that count locally while the shared one is away.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        store: Store,
        fallback: Store | None = None,
        spelling: Spelling | None = None,
        metrics: Metrics | None = None,
        clock: Clock | None = None,
        never_ban: Sequence[Target] = DEFAULT_NEVER_BAN,
    ) -> None:
        self.policy = policy
        self.spelling = spelling or Spelling()
        self.metrics = metrics or Metrics()
        self.upkeep = Upkeep(store, self.metrics, fallback)
        self._store = store
        self._fallback = fallback
        self._clock = clock or SystemClock()
        self._denials = Denials()
        self.registrar = Registrar(
            store, policy, self.metrics, self._clock, never_ban=never_ban, on_new_limits=self._denials.clear
        )
        self._watch = _StoreWatch(self.metrics, self._clock)

    def use(self, policy: Policy) -> None:
        """Judge by another policy from now on; what is under way is still judged by the one that it began with."""
        self.policy = policy
        self._denials.clear()
        self.registrar.use(policy)

    async def judge(self, event: Event) -> Verdict:
        """What to do about `event`. Never raises for a store that is away."""
        started, policy = self._clock.monotonic(), self.policy
        entities = entities_of(event, self.spelling)
        standing = self.registrar.register.standing(entities, event.session.client, self.registrar.time_at(started))
        verdict = standing.refusal_at(event.stage)
        if verdict is None:
            verdict = await self._counted(policy, event, entities, standing, started)
        if not verdict.denied:
            self.upkeep.saw(policy.sketched(event, entities))
        if isinstance(event, Disconnect):
            await self._release(event)
        self.metrics.count(event.stage, verdict.action, verdict.reason, self._clock.monotonic() - started)
        for name in {finding.rule for finding in verdict.findings if finding.reading.over}:
            self.metrics.rule_over.labels(name, policy.rule(name).mode).inc()
        return verdict

    async def _counted(
        self, policy: Policy, event: Event, entities: Entities, standing: Standing, now: float
    ) -> Verdict:
        """The verdict by what is counted; whoever is exempt from rules is counted all the same."""
        if standing.allow is not None:
            verdict = await self._decided(policy, event, policy.exempt.charges_for(event, entities))
            return replace(verdict, reason=Reason.ALLOWLISTED, entry=standing.allow.id)
        charges = self._overridden(policy.charges_for(event, entities, self._clock.now()), now)
        self._report_conditions(policy)
        recalled = None if _token(event) else self._denials.recall(charges, now)
        return await self._decided(policy, event, charges) if recalled is None else policy.refusal(recalled)

    def _report_conditions(self, policy: Policy) -> None:
        """Tell of conditions that could not be answered; their rules do not apply."""
        for name, failures in policy.failures:
            if failures.count > failures.told:
                if not failures.told:
                    log.warning("rule %s is passed over, its condition cannot be answered: %s", name, failures.last)
                self.metrics.condition_failures.labels(name).inc(failures.count - failures.told)
                failures.told = failures.count

    def _overridden(self, charges: tuple[Charge, ...], now: float) -> tuple[Charge, ...]:
        register = self.registrar.register
        return overridden(charges, register, self.registrar.time_at(now)) if register.has_overrides else charges

    async def _decided(self, policy: Policy, event: Event, charges: Sequence[Charge]) -> Verdict:
        """Ask the store, and remember what is worth it."""
        answer = await self._asked("decide", self._store.decide(charges, token=_token(event))) if charges else Answer()
        if answer is None:
            return await self._without(policy, event, charges)
        verdict = policy.decide(answer)
        if verdict.denied and policy.is_cacheable(verdict.rule) and verdict.deciding is not None:
            self._denials.remember(verdict.deciding, self._clock.monotonic())
        if answer.missing:
            missing = [charges[index] for index in sorted(answer.missing)]
            self._watch.failed("decide", StoreUnavailable(f"no answer about {len(missing)} of {len(charges)} counters"))
            verdict = await self._completed(policy, event, verdict, missing)
        self.upkeep.note(answer)
        self.upkeep.leases.hold(event.session.id, answer)
        return verdict

    async def _without(self, policy: Policy, event: Event, charges: Sequence[Charge]) -> Verdict:
        """The verdict about charges that the store said nothing about."""
        verdict = policy.fallback(charges)
        local = policy.local_charges(charges, self.upkeep.live) if self._fallback is not None else ()
        if not local or self._fallback is None or verdict.denied:
            return verdict
        answer = await self._fallback.decide(local)
        if self.upkeep.local_leases is not None:
            self.upkeep.local_leases.hold(event.session.id, answer)
        counted = policy.decide(answer)
        if counted.action in (Action.REJECT, Action.DISCARD):  # the share is a guess: nothing is refused for good
            counted = replace(counted, action=Action.TEMPFAIL, reply="")
        return counted if counted.denied else replace(verdict, answer=answer, local=True)

    async def _completed(self, policy: Policy, event: Event, verdict: Verdict, missing: Sequence[Charge]) -> Verdict:
        """A verdict about some keys, with what the rules of the missing ones say.

        What an accepting verdict has charged locally, besides, is not given back: it ages out.
        """
        fallback = await self._without(policy, event, missing)
        if fallback.action.severity <= verdict.action.severity:
            unheard = verdict.action is Action.ACCEPT and any(charge.plan.scoped for charge in missing)
            return replace(verdict, reason=Reason.STORE_UNAVAILABLE) if unheard else verdict
        if fallback.denied:
            await self.refund(verdict)
        return fallback

    async def _release(self, event: Disconnect) -> None:
        if leases := self.upkeep.leases.let_go(event.session.id):
            await self._asked("release", self._store.refund(leases))
        if self._fallback is not None and self.upkeep.local_leases is not None:
            await self._fallback.refund(self.upkeep.local_leases.let_go(event.session.id))

    async def learn(self, outcome: Outcome) -> None:
        """Count feedback on an event against whoever sent it. Lost when the store is away, and counted as lost."""
        self.metrics.outcomes.labels(outcome.kind).inc()
        entities = entities_of(outcome.event, self.spelling)
        charges = self._overridden(self.policy.charges_of_outcome(outcome.kind, entities), self._clock.monotonic())
        if charges and (answer := await self._asked("learn", self._store.decide(charges))) is not None:
            self.upkeep.note(answer)

    async def refund(self, *verdicts: Verdict) -> None:
        """Give back what these verdicts charged. Where the store is away, the charge ages out with its window.

        Leases stay: they end with the session.
        """
        calls = []
        for verdict in verdicts:
            store = self._fallback if verdict.local and self._fallback is not None else self._store
            receipt = tuple(given for given in verdict.receipt if given.charge.plan.kind is not Kind.LEASES)
            if receipt:
                calls.append(self._asked("refund", store.refund(receipt)))
        # All at once, or each of a thousand recipients would wait for the deadline anew.
        await asyncio.gather(*calls)

    async def explain(self, entity: Entity) -> Explanation:
        """What is counted about `entity`, and what one more event of it would get; charges nothing.

        Raises `StoreError` when the store does not answer: an operator wants to know.
        """
        register, policy, now = self.registrar.register, self.policy, self._clock.monotonic()
        charges = self._overridden(policy.charges_to_explain(entity), now)
        answer = await self._store.decide(charges) if charges else Answer()
        return Explanation(
            entity=entity,
            verdict=register.standing_of(entity, self.registrar.time_at(now)).applied(policy.decide(answer)),
            series=tuple(await self._store.series(entity)),
            entries=register.about(entity, self.registrar.time_at(now)),
            conditions={rule.name: rule.when for rule in policy.rules if rule.when},
        )

    async def top(
        self, dimension: str, metric: str, window: Window, n: int, *, at: float | None = None
    ) -> list[tuple[Entity, int]]:
        """Who has the most of `metric` in `window`, the most first.

        Of now, counted exactly, or of a time of the last two days: `at`, in seconds since the epoch. The count of
        then is the most within the stretch of the board that it falls into. Raises `StoreError` when the store does
        not answer.
        """
        board = Board(dimension, metric, window)
        if at is not None:
            rows = await self._store.board(board, n, at_us=int(at * 1_000_000))
            return [(Entity(dimension, id), count) for id, count in rows]
        candidates = [Entity(dimension, id) for id, _ in await self._store.board(board, TOP_CANDIDATES * n)]
        counts = await self._store.counts([Key(entity, metric) for entity in candidates], window)
        ranked = sorted(zip(candidates, counts, strict=True), key=lambda row: row[1], reverse=True)
        return [(entity, count) for entity, count in ranked[:n] if count]

    async def _asked(self, call: str, awaitable: Awaitable[T]) -> T | None:
        """The store's answer, or None when there was none."""
        try:
            result = await awaitable
        except StoreError as error:
            self._watch.failed(call, error)
            return None
        if self._watch.down and self._store.whole:
            self._watch.answered()
        return result


def _token(event: Event) -> str:
    return getattr(event, "token", "")


class _StoreWatch:
    """Whether the store answers: counts each failure, logs each change of state once.

    While one server of a cluster is away the store is down, however often the others answer.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._failed_at: float | None = None
        self._failures = 0
        metrics.store_up.set(1)

    @property
    def down(self) -> bool:
        """Whether a call has failed since the store was whole."""
        return self._failed_at is not None

    def failed(self, call: str, error: StoreError) -> None:
        self._metrics.store_failures.labels(call, type(error).__name__).inc()
        self._failures += 1
        if self._failed_at is None:
            self._failed_at = self._clock.monotonic()
            self._metrics.store_up.set(0)
            log.warning("store down: %s; rules act as their on_store_failure says", error)

    def answered(self) -> None:
        assert self._failed_at is not None
        seconds = self._clock.monotonic() - self._failed_at
        log.warning("store back after %.1f s, %d calls had failed", seconds, self._failures)
        self._failed_at, self._failures = None, 0
        self._metrics.store_up.set(1)
