"""The main path: an event goes in, a verdict comes out.

    event -> entities -> (the register: refused, exempt?) -> moment -> charges -> store -> answer -> verdict

`Engine.judge` is that line, and takes one round trip to the store; what operators have put down is in memory
(`reputation.registrar`), so that whoever is banned costs none. Where the rules of a stage look at reputation, counts or
the DNS, that is found out before (`reputation.briefing`). `Engine.learn` counts what somebody found out
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
from collections.abc import Awaitable, Sequence
from dataclasses import replace
from typing import TypeVar

from reputation.adaptive import adapted
from reputation.blame import blamed
from reputation.briefing import Briefing
from reputation.charges import Answer, Charge, Kind
from reputation.clock import Clock, SystemClock
from reputation.contracts import Board, Lookups, NoLookups, Store
from reputation.denials import Denials
from reputation.entries import DEFAULT_NEVER_BAN, Ban, Target
from reputation.errors import StoreError, StoreUnavailable
from reputation.events import Disconnect, Event, Outcome
from reputation.explanation import Explanation, reputation_of
from reputation.facts import NOTHING_LOOKED_UP, LookedUp
from reputation.holds import Holds, words_of_hold
from reputation.inquiry import score_of
from reputation.keys import Entities, Entity, Key, entities_of
from reputation.metrics import Metrics
from reputation.opinions import refusal_among, softened, with_opinions
from reputation.overrides import overridden
from reputation.policy import Policy
from reputation.register import Standing
from reputation.registrar import Registrar
from reputation.remarks import FORGET
from reputation.rules import Mode
from reputation.spelling import Spelling
from reputation.store_watch import StoreWatch
from reputation.tallies import RuleTally
from reputation.upkeep import Upkeep
from reputation.verdict import Action, Reason, Verdict
from reputation.vocabulary import Moment
from reputation.windows import Window

TOP_CANDIDATES = 5
"""Candidates that are counted anew for each row that was asked for."""

log = logging.getLogger("reputon.engine")

T = TypeVar("T")


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
        lookups: Lookups | None = None,
        never_ban: Sequence[Target] = DEFAULT_NEVER_BAN,
    ) -> None:
        self.policy = policy
        self.spelling = spelling or Spelling()
        self.metrics = metrics or Metrics()
        self.upkeep = Upkeep(store, self.metrics, fallback)
        self.store, self._fallback = store, fallback  # the shared counters, and those of this process alone
        self._clock = clock or SystemClock()
        self._briefing = Briefing(lookups or NoLookups(), self._read, self.spelling, self.metrics, self._clock)
        self._denials = Denials()
        self.registrar = Registrar(
            store, policy, self.metrics, self._clock, never_ban=never_ban, on_new_limits=self._denials.clear
        )
        self.registrar.listeners.add(FORGET, self.upkeep.forget)
        self._holds, self._watch = Holds(self.registrar, self.metrics), StoreWatch(self.metrics, self._clock)

    @property
    def now(self) -> float:
        """The store's time, in seconds since the epoch, as it was last heard."""
        return self.registrar.time_at(self._clock.monotonic())

    @property
    def lookups(self) -> Lookups:
        """Facts from outside."""
        return self._briefing.lookups

    def use(self, policy: Policy) -> None:
        """Judge by another policy from now on; what is under way is still judged by the one that it began with."""
        self.policy = policy
        self._denials.clear()
        self._briefing.begin_anew()
        self.registrar.use(policy)

    async def judge(self, event: Event, looked_up: LookedUp = NOTHING_LOOKED_UP) -> Verdict:
        """What to do about `event`. Never raises for a store that is away.

        `looked_up` is what was found out when it was judged before: nobody is asked about the same thing twice.
        """
        started, policy = self._clock.monotonic(), self.policy
        looked_up = looked_up if looked_up.is_complete else self._briefing.network(event)
        entities = entities_of(event, self.spelling, looked_up)
        standing = self._standing(event, entities, started)
        verdict = self._banned(policy, event, standing)
        if verdict is None:
            moment = Moment(event, entities, self._clock.now(), looked_up)
            verdict = await self._judged(policy, moment, standing, started)
        if not verdict.denied:
            self.upkeep.saw(policy.sketched(event, entities))
        if isinstance(event, Disconnect):
            await self._release(event)
        self._count(event, verdict, self._clock.monotonic() - started)
        self.upkeep.stream.note(event, entities, verdict, self.registrar.time_at(started))
        return verdict

    def _banned(self, policy: Policy, event: Event, standing: Standing) -> Verdict | None:
        """The refusal of whoever is banned; one whom a rule holds hears what the rule says."""
        refusal = standing.refusal_at(event.stage)
        held = (
            refusal is not None and isinstance(standing.ban, Ban) and words_of_hold(policy, standing.ban, event.stage)
        )
        return replace(refusal, reply=held) if refusal is not None and held else refusal

    def _standing(self, event: Event, entities: Entities, now: float) -> Standing:
        register = self.registrar.register
        return register.standing(entities, event.session.client, self.registrar.time_at(now))

    def _count(self, event: Event, verdict: Verdict, seconds: float) -> None:
        self.metrics.count(event.stage, verdict.action, verdict.reason, seconds)
        self.upkeep.tallies.note(verdict)
        for name in verdict.fired:
            self.metrics.rule_over.labels(name, Mode.ENFORCE).inc()
        for name in verdict.would:
            self.metrics.rule_over.labels(name, Mode.SHADOW).inc()

    async def _judged(self, policy: Policy, moment: Moment, standing: Standing, now: float) -> Verdict:
        """The verdict by rules; whoever is exempt from them is counted all the same."""
        event, entities = moment.event, moment.entities
        if standing.allow is None and event.stage in policy.asking:
            moment = await self._briefing.completed(policy, moment)
        if moment.entities is not entities:  # a name that was found may be banned, or on a list
            standing = self._standing(event, moment.entities, now)
            if (banned := self._banned(policy, event, standing)) is not None:
                return banned
        if standing.allow is not None:
            verdict = await self._decided(policy, event, policy.exempt.charges_for(moment))
            return replace(verdict, reason=Reason.ALLOWLISTED, entry=standing.allow.id)
        if not self.registrar.lists.complete:
            moment = moment._replace(lists=None)
        elif standing.lists:
            moment = moment._replace(lists=standing.lists)
        opinions = await self._briefing.opinions(policy, moment) if event.stage in policy.speaking else ()
        verdict = refusal_among(opinions) or await self._counted(policy, moment, now)
        verdict = with_opinions(verdict, opinions)
        verdict = softened(verdict, policy.named.get(verdict.rule), moment.looked_up)
        self._report_conditions(policy)
        if verdict.denied:
            await self._holds.consider(policy, verdict, self.registrar.time_at(now))
        return verdict

    async def _counted(self, policy: Policy, moment: Moment, now: float) -> Verdict:
        """The verdict by what is counted."""
        event, charges = moment.event, policy.charges_for(moment)
        if policy.adaptive:
            charges = adapted(charges, policy.adaptive, moment.known.scores)
        charges = self._overridden(charges, now)
        recalled = None if _token(event) else self._denials.recall(charges, now)
        if recalled is not None:
            return policy.refusal(recalled)
        return await self._decided(policy, event, charges)

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
        answer = await self._asked("decide", self.store.decide(charges, token=_token(event))) if charges else Answer()
        if answer is None:
            return await self._without(policy, event, charges)
        verdict = policy.decide(answer)
        is_current = policy is self.policy  # what another one refused must not be heard under this one
        if verdict.denied and is_current and policy.is_cacheable(verdict.rule) and verdict.deciding is not None:
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
        return replace(counted, local=True) if counted.denied else replace(verdict, answer=answer, local=True)

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
            await self._asked("release", self.store.refund(leases))
        if self._fallback is not None and self.upkeep.local_leases is not None:
            await self._fallback.refund(self.upkeep.local_leases.let_go(event.session.id))

    async def learn(self, outcome: Outcome) -> Answer | None:
        """Count feedback on an event against whoever sent it; what the store answered, None where it did not. Then it
        is lost, and counted as lost; where some servers did not answer (`missing`), their part is."""
        self.metrics.outcomes.labels(outcome.kind).inc()
        entities = await blamed(outcome, self.spelling, self._briefing.network(outcome.event), self._read)
        charges = self._overridden(self.policy.charges_of_outcome(outcome.kind, entities), self._clock.monotonic())
        if not charges:
            return Answer()
        answer = await self._asked("learn", self.store.decide(charges, token=outcome.token))
        if answer is not None:
            self.upkeep.note(answer)
        return answer

    async def _read(self, charges: Sequence[Charge]) -> Answer | None:
        return await self._asked("read", self.store.decide(charges))

    async def refund(self, *verdicts: Verdict) -> None:
        """Give back what these verdicts charged. Where the store is away, the charge ages out with its window.

        Leases stay: they end with the session.
        """
        calls = []
        for verdict in verdicts:
            store = self._fallback if verdict.local and self._fallback is not None else self.store
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
        reputation = await reputation_of(entity, self.store, self._briefing.lookups)
        scores = {entity.dimension: score_of(entity.dimension, reputation)} if reputation is not None else {}
        charges = self._overridden(adapted(policy.charges_to_explain(entity), policy.adaptive, scores), now)
        answer = await self.store.decide(charges) if charges else Answer()
        return Explanation(
            entity=entity,
            verdict=register.standing_of(entity, self.registrar.time_at(now)).applied(policy.decide(answer)),
            series=tuple(await self.store.series(entity)),
            reputation=reputation,
            entries=register.about(entity, self.registrar.time_at(now)),
            conditions={rule.name: rule.when for rule in policy.rules if rule.when},
        )

    async def tallies(self) -> list[RuleTally]:
        """How often each rule in force has fired, and would have, on the whole fleet. Raises `StoreError`."""
        names = [rule.name for rule in self.policy.rules] + [function.name for function in self.policy.functions]
        return await self.upkeep.tallies.of(names)

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
            rows = await self.store.board(board, n, at_us=int(at * 1_000_000))
            return [(Entity(dimension, id), count) for id, count in rows]
        candidates = [Entity(dimension, id) for id, _ in await self.store.board(board, TOP_CANDIDATES * n)]
        counts = await self.store.counts([Key(entity, metric) for entity in candidates], window)
        ranked = sorted(zip(candidates, counts, strict=True), key=lambda row: row[1], reverse=True)
        return [(entity, count) for entity, count in ranked[:n] if count]

    async def _asked(self, call: str, awaitable: Awaitable[T]) -> T | None:
        """The store's answer, or None when there was none."""
        try:
            result = await awaitable
        except StoreError as error:
            self._watch.failed(call, error)
            return None
        if self._watch.down and self.store.whole:
            self._watch.answered()
        return result


def _token(event: Event) -> str:
    return getattr(event, "token", "")
