"""A set of rules, compiled, and the pure decision over them.

A policy is compiled once into one batch of counters per stage: the keys that an event of this stage touches, with all
the meters that rules and the site's own bookkeeping put on them. Judging an event is then::

    moment  = the event, and what was found out about it (`inquiries`, `lookups` say what has to be)
    opinions = policy.opinions_on(moment)    of rules without limits; one that refuses ends it here
    charges = policy.charges_for(moment)     what to ask the store
    answer  = the store's                    one round trip
    verdict = policy.decide(answer)          what it means, and with_opinions(verdict, opinions)

and `policy.fallback(charges)` is the verdict for charges that the store gave no answer about.

Which action wins
-----------------
Every rule that is over its limit and in force is heard. Tags add up, the longest tarpit delay holds, and
the strictest action decides (`Action` is in that order); among equals, the rule that stands first. The class of service
is that of the first one that names any.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reputation.bookkeeping import (
    EVIDENCE_OF,
    LEARNED,
    SEEING,
    SEEN,
    SITE,
    SKETCHED,
    WEIGHED,
    WEIGHED_OF_ALL,
    WEIGHING,
    WEIGHT,
)
from reputation.charges import Answer, Charge, Charging, Kind, Meter, Plan
from reputation.conditions import Failures
from reputation.counters import Batch, Counter, batch, judging, learning, member_of
from reputation.events import Event, OutcomeKind, Stage
from reputation.facts import Lookup
from reputation.findings import Fullest, Seen, findings_of, fullness
from reputation.inquiries import Inquiries
from reputation.inquiry import Inquiry, contact_of
from reputation.keys import EVIDENCE, Dimension, Entities, Entity, Key, Metric, composite, distinct
from reputation.opinions import Opinion, PolicyFunction, check_names, looked_up_at, opinion_of
from reputation.rules import COSTS, Mode, OnStoreFailure, Rule, one, rendered
from reputation.score import KINDS
from reputation.verdict import DENYING, Action, Finding, Reason, Verdict
from reputation.vocabulary import Moment
from reputation.windows import Limit

MAX_BATCHES = 1_024
OF_THE_SITE = (OutcomeKind.HAM, OutcomeKind.SPAM, OutcomeKind.MALWARE)
"""What says how much of all mail is bad. Who harvests or bounces has sent no mail to speak of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Rules, and what is counted besides."""

    rules: tuple[Rule, ...] = ()
    tracked: frozenset[Dimension] = frozenset(Dimension)
    """Dimensions that are counted whether or not a rule names them."""
    functions: tuple[PolicyFunction, ...] = ()
    """Policies in Python."""
    always: Mapping[Stage, frozenset[Lookup]] = field(default_factory=dict)
    """What is found out at a stage whether or not a rule asks for it."""
    lookups: Mapping[Stage, frozenset[Lookup]] = field(init=False, repr=False, compare=False)
    """What has to be looked up at each stage."""
    inquiries: Mapping[Stage, Inquiry] = field(init=False, repr=False, compare=False)
    """What the store has to be asked before an event of each stage is judged."""
    asking: frozenset[Stage] = field(init=False, repr=False, compare=False)
    """Stages at which something has to be found out first."""
    speaking: frozenset[Stage] = field(init=False, repr=False, compare=False)
    """Stages at which there can be opinions."""
    adaptive: Mapping[str, float] = field(init=False, repr=False, compare=False)
    """Of rules whose limits follow reputation, how far."""
    named: Mapping[str, Rule] = field(init=False, repr=False, compare=False)
    _conditional: Mapping[Stage, tuple[Rule, ...]] = field(init=False, repr=False, compare=False)
    _matching: Mapping[Stage, tuple[Rule, ...]] = field(init=False, repr=False, compare=False)
    """Those without limits."""
    _judging: dict[tuple[Stage, tuple[bool, ...]], Batch] = field(init=False, repr=False, compare=False)
    """By stage, and by which of its conditional rules are met; made when it is first needed."""
    _asked: Inquiries = field(init=False, repr=False, compare=False)
    exempt: "Policy" = field(init=False, repr=False, compare=False)
    """The same without its rules, for those whom none applies to: they are counted all the same."""
    failures: tuple[tuple[str, Failures], ...] = field(init=False, repr=False, compare=False)
    """Of rules with a condition, how often it could not be answered."""
    _learning: Mapping[Metric, tuple[Counter, ...]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        all_: tuple[Rule | PolicyFunction, ...] = (*self.rules, *self.functions)
        check_names(all_)
        limits = [rule for rule in self.rules if rule.limited and rule.condition]
        asked = Inquiries(self.rules, self.functions)
        self._set(
            named={rule.name: rule for rule in self.rules},
            exempt=replace(self, rules=(), functions=()) if all_ else self,
            lookups={stage: looked_up_at(stage, all_) | self.always.get(stage, frozenset()) for stage in Stage},
            asking=frozenset(each.stage for each in all_ if each.lookups or each.inquiry) | self.always.keys(),
            speaking=frozenset(it.stage for it in all_ if not (isinstance(it, Rule) and it.limited)),
            inquiries=asked.everything,
            adaptive={rule.name: rule.adaptive for rule in self.rules if rule.adaptive > 1},
            failures=tuple((rule.name, rule.condition.failures) for rule in self.rules if rule.condition is not None),
            _conditional={stage: tuple(rule for rule in limits if rule.stage is stage) for stage in Stage},
            _matching={s: tuple(it for it in self.rules if it.stage is s and not it.limited) for s in Stage},
            _asked=asked,
            _judging={},
            _learning={metric: tuple(learning(metric, self.rules, self.tracked)) for metric in LEARNED.values()},
        )
        for stage in Stage:  # the largest batches, which have all rules: whether they are possible is known now
            self._batch(stage, (True,) * len(self._conditional[stage]))

    def _set(self, **values: object) -> None:
        """What is made of the rules once; the policy is frozen from then on."""
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _batch(self, stage: Stage, met: tuple[bool, ...]) -> Batch:
        """The counters of a stage where these of its conditions are met."""
        found = self._judging.get((stage, met))
        if found is None:
            if len(self._judging) >= MAX_BATCHES:
                self._judging.clear()
            left_out = [rule for rule, is_met in zip(self._conditional[stage], met, strict=True) if not is_met]
            rules = [rule for rule in self.rules if rule not in left_out]
            counters = judging(stage, rules, self.tracked)
            found = self._judging[stage, met] = batch(tuple(counters))
        return found

    def inquiry_for(self, event: Event, entities: Entities) -> Inquiry:
        """What the store has to be asked about an event before it is judged."""
        return self._asked.about(event, entities)

    def sketched(self, event: Event, entities: Entities) -> Iterator[tuple[Key, Entity]]:
        """Whose different values are estimated, and which value the event adds."""
        for dimension, counted in SKETCHED.get(event.stage, {}).items():
            entity = entities.get(dimension) if dimension in self.tracked else None
            for of in counted if entity is not None else ():
                if entity is not None and (member := entities.get(of)) is not None:
                    yield Key(entity, distinct(of)), member

    def opinions_on(self, moment: Moment) -> tuple[Opinion, ...]:
        """Of rules without limits whose conditions hold."""
        matching = self._matching[moment.event.stage]
        if not matching:
            return ()
        return tuple(opinion_of(rule) for rule in matching if rule.condition and rule.condition.holds(moment))

    def charges_for(self, moment: Moment) -> tuple[Charge, ...]:
        """What the store is asked when the event of a moment is judged."""
        charges = self._counted(moment)
        is_contact = moment.event.stage is Stage.RCPT and Dimension.USER in self.tracked
        if is_contact and (contact := contact_of(moment.entities)) is not None:
            charges.append(Charge(Key(contact, SEEN), SEEING))
        return tuple(charges)

    def _counted(self, moment: Moment) -> list[Charge]:
        event, entities, charges = moment.event, moment.entities, list[Charge]()
        conditional = self._conditional[event.stage]
        met: tuple[bool, ...] = ()
        if conditional:
            met = tuple(rule.condition is not None and rule.condition.holds(moment) for rule in conditional)
        plain, others = self._batch(event.stage, met)
        for dimension, metric, plan in plain:
            if (entity := entities.get(dimension)) is not None:
                charges.append(Charge(Key(entity, metric), plan))
        for dimensions, metric, plan, scope, cost, of in others:
            if (entity := composite(entities, dimensions)) is None:
                continue
            if plan.of_units:
                charges.append(Charge(Key(entity, metric, scope), plan, cost(event)))
            elif plan.kind is Kind.LEASES and event.session.has_end:
                charges.append(Charge(Key(entity, metric, scope), plan, 1, event.session.id))
            elif of is not None and (member := entities.get(of)) is not None:
                charges.append(Charge(Key(entity, metric, scope), plan, 1, member_of(member)))
        return charges

    def charges_of_outcome(self, kind: OutcomeKind, entities: Entities) -> tuple[Charge, ...]:
        """What the store is told when an outcome is learned."""
        counted = [
            Charge(Key(entity, counter.metric, counter.scope), counter.plan)
            for counter in (self._learning[LEARNED[kind]] if kind in LEARNED else ())
            if (entity := composite(entities, counter.dimensions)) is not None
        ]
        position = str(KINDS.index(EVIDENCE_OF[kind])) if kind in EVIDENCE_OF else ""
        weighed = [
            Charge(Key(entity, EVIDENCE), WEIGHING, WEIGHT, position)
            for dimensions in WEIGHED.get(kind, WEIGHED_OF_ALL)
            if position and self.tracked.issuperset(dimensions)
            if (entity := composite(entities, dimensions)) is not None
        ]
        site = [Charge(Key(SITE, EVIDENCE), WEIGHING, WEIGHT, position)] if kind in OF_THE_SITE else []
        return (*counted, *weighed, *site)

    def charges_to_explain(self, entity: Entity) -> tuple[Charge, ...]:
        """What the store is asked to tell how `entity` stands with each rule about it; nothing is charged."""
        shared: dict[str, list[Meter]] = {}
        alone = []
        for rule in self.rules:
            if "+".join(rule.key) != entity.dimension or not rule.limited:
                continue
            meter = replace(rule.meter, charging=Charging.NEVER)
            if rule.kind is Kind.RINGS:
                shared.setdefault(rule.count, []).append(meter)
            else:  # as somebody new would be counted
                plan = Plan((meter,), rule.kind)
                alone.append(Charge(Key(entity, rule.count, rule.name), plan, 1, "somebody-new"))
        return (*(Charge(Key(entity, metric), Plan(tuple(meters))) for metric, meters in shared.items()), *alone)

    def decide(self, answer: Answer) -> Verdict:
        """What the store's answer means."""
        over: list[Seen] = []
        seen: list[Seen] = []
        position = 0
        for index, charge in enumerate(answer.charges):
            start, position = position, position + charge.plan.size
            if not charge.plan.scoped or index in answer.missing:
                continue
            for meter in charge.plan.meters:
                if meter.scope:
                    seen.append((charge, meter, start))
                    if answer.is_over(start, meter):
                        over.append((charge, meter, start))
                start += 2 * len(meter.windows)
        if not over:
            return self._within(answer, seen)
        findings = [finding for each in seen for finding in findings_of(answer, *each)]
        return self._verdict([(self.named[it[1].scope], findings_of(answer, *it)) for it in over], findings, answer)

    def _within(self, answer: Answer, seen: Sequence[Seen]) -> Verdict:
        return Verdict(
            action=Action.ACCEPT,
            reason=Reason.WITHIN_LIMITS if seen else Reason.NO_RULE,
            findings=Fullest(answer, seen) if seen else (),
            answer=answer,
        )

    def _verdict(
        self, over: Sequence[tuple[Rule, list[Finding]]], findings: Sequence[Finding], answer: Answer
    ) -> Verdict:
        acting = [(rule, found) for rule, found in over if rule.mode is Mode.ENFORCE]
        acting.sort(key=lambda pair: self.rules.index(pair[0]))
        would = tuple(rule.name for rule, _ in over if rule.mode is Mode.SHADOW)
        if not acting:
            return Verdict(
                action=Action.ACCEPT,
                reason=Reason.WITHIN_LIMITS,
                would=would,
                findings=tuple(sorted(findings, key=fullness, reverse=True)),
                answer=answer,
            )
        service = next((rule.service for rule, _ in acting if rule.service), "")
        rule, found = min(acting, key=lambda pair: -pair[0].action.severity)
        first = tuple(sorted(found, key=lambda finding: -finding.reading.retry_after_seconds))
        # Whoever comes back must not meet the next rule: the longest wait of all that refuse.
        heard = [found for other, found in acting if other is rule or other.action in DENYING]
        wait = max(finding.reading.retry_after_seconds for found in heard for finding in found)
        return Verdict(
            action=rule.action,
            reason=Reason.OVER_LIMIT,
            rule=rule.name,
            reply=rendered(rule, first[0], wait),
            retry_after_seconds=wait,
            delay_seconds=max((r.delay_seconds for r, _ in acting if r.action is Action.TARPIT), default=0.0),
            tags=tuple(r.name for r, _ in acting if r.action is Action.TAG),
            subject_prefixes=tuple(r.subject_prefix for r, _ in acting if r.subject_prefix),
            service=service,
            fired=tuple(r.name for r, _ in acting),
            would=would,
            findings=(*first, *(finding for finding in findings if finding.rule != rule.name)),
            answer=answer,
        )

    def refusal(self, finding: Finding) -> Verdict:
        """What its rule says to somebody whom it would refuse again, for as long as the finding has to wait."""
        rule, wait = self.named[finding.rule], finding.reading.retry_after_seconds
        return Verdict(
            action=rule.action,
            reason=Reason.OVER_LIMIT,
            rule=rule.name,
            reply=rendered(rule, finding, wait),
            retry_after_seconds=wait,
            fired=(rule.name,),
            findings=(finding,),
        )

    def fallback(self, charges: Iterable[Charge]) -> Verdict:
        """The verdict about charges that the store gave no answer about: what their rules say for that case."""
        for rule in self._applying(charges):
            if rule.mode is Mode.ENFORCE and rule.on_store_failure is OnStoreFailure.TEMPFAIL:
                return Verdict(action=Action.TEMPFAIL, reason=Reason.STORE_UNAVAILABLE, rule=rule.name)
        return Verdict(action=Action.ACCEPT, reason=Reason.STORE_UNAVAILABLE)

    def local_charges(self, charges: Iterable[Charge], live: int) -> tuple[Charge, ...]:
        """Of these charges, those of rules that count locally meanwhile, with limits for one of `live` processes."""
        local = []
        for charge in charges:
            meters = tuple(
                replace(meter, limits=tuple(_share(limit, live) for limit in meter.limits))
                for meter in charge.plan.meters
                if meter.scope and self.named[meter.scope].on_store_failure is OnStoreFailure.LOCAL
            )
            if meters:
                local.append(charge._replace(plan=Plan(meters, charge.plan.kind)))
        return tuple(local)

    def _applying(self, charges: Iterable[Charge]) -> list[Rule]:
        return [self.named[meter.scope] for charge in charges for meter in charge.plan.meters if meter.scope]

    def rule(self, name: str) -> Rule:
        """The rule of that name; KeyError when there is none."""
        return self.named[name]

    def is_cacheable(self, name: str) -> bool:
        """Whether a refusal by this rule may be repeated for a moment without asking (`reputation.denials`)."""
        rule = self.named[name]
        of_units = rule.kind in (Kind.RINGS, Kind.MOMENTS) and COSTS.get((rule.stage, rule.count), one) is one
        return of_units and rule.charge is Charging.ACCEPTED and rule.action in (Action.TEMPFAIL, Action.THROTTLE)


def _share(limit: Limit, live: int) -> Limit:
    """One process' part of a limit, at least one: `live` of them together stay about at the limit."""
    return Limit(max(1, limit.count // max(1, live)), limit.window)
