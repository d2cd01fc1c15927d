"""Rules, and the pure decision over them.

A policy is compiled once into one `Batch` per stage: the counters that an event of this stage touches, with all
the meters that rules and the site's own bookkeeping put on them. Judging an event is then::

    charges = policy.charges_for(event, entities)   what to ask the store
    answer  = the store's                           one round trip
    verdict = policy.decide(charges, answer)        what it means

and `policy.fallback(charges)` is the verdict when the store gives no answer.

What counts where
-----------------
A rule counts at its own stage: an event there costs 1, or its size in bytes, or its number of recipients (`COSTS`).
Metrics that are only learned afterwards (`LEARNED`, such as invalid_recipients) may be limited at any
stage: the rule then reads, and whoever learns the outcome charges.

Which action wins
-----------------
Every rule that is over its limit and in force is heard. Tags add up, the longest tarpit delay holds, and
the strictest action decides (`Action` is in that order); among equals, the rule that stands first.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from reputation.charges import Answer, Charge, Charging, Meter, Over, receipt_of
from reputation.errors import ConfigError
from reputation.events import Data, Event, OutcomeKind, Stage
from reputation.keys import Dimension, Entities, Entity, Key, Metric, composite
from reputation.verdict import DENYING, Action, Finding, Reason, Verdict
from reputation.windows import Limit, Window


class Mode(StrEnum):
    """Whether a rule acts, or only counts what it would have done."""

    SHADOW = "shadow"
    ENFORCE = "enforce"


class OnStoreFailure(StrEnum):
    """What a rule does while its counters cannot be asked."""

    ACCEPT = "accept"
    TEMPFAIL = "tempfail"


def _size(event: Event) -> int:
    assert isinstance(event, Data)
    return event.message_bytes


def _recipients(event: Event) -> int:
    return len(event.recipients) if isinstance(event, Data) else 1


def _one(_event: Event) -> int:
    return 1


COSTS: Mapping[tuple[Stage, Metric], Callable[[Event], int]] = {
    (Stage.CONNECT, Metric.CONNECTIONS): _one,
    (Stage.HELO, Metric.CONNECTIONS): _one,
    (Stage.MAIL, Metric.MESSAGES): _one,
    (Stage.RCPT, Metric.RECIPIENTS): _one,
    (Stage.RCPT, Metric.MESSAGES): _one,
    (Stage.DATA, Metric.MESSAGES): _one,
    (Stage.DATA, Metric.RECIPIENTS): _recipients,
    (Stage.DATA, Metric.BYTES): _size,
}
"""What one event costs, for each metric that is charged as mail flows."""

DISCARDING = (Stage.MAIL, Stage.RCPT, Stage.DATA)
_DISCARD_WHERE = f"there is no mail yet to be dropped; possible at {', '.join(DISCARDING)}"

LEARNED: Mapping[OutcomeKind, Metric] = {
    OutcomeKind.UNKNOWN_RECIPIENT: Metric.INVALID_RECIPIENTS,
    OutcomeKind.AUTH_FAILED: Metric.AUTH_FAILURES,
    OutcomeKind.SPAM: Metric.SPAM,
    OutcomeKind.MALWARE: Metric.MALWARE,
    OutcomeKind.BOUNCE: Metric.BOUNCES,
    OutcomeKind.COMPLAINT: Metric.COMPLAINTS,
}
"""The metric that an outcome is counted under."""

CLIENT = (Dimension.IP, Dimension.PREFIX)
SENDING = (*CLIENT, Dimension.USER, Dimension.SENDER, Dimension.SENDER_DOMAIN)
RECEIVING = (Dimension.RECIPIENT, Dimension.RECIPIENT_DOMAIN)

TRACKED: Mapping[Stage, Mapping[Metric, tuple[Dimension, ...]]] = {
    Stage.CONNECT: {Metric.CONNECTIONS: CLIENT},
    Stage.MAIL: {Metric.MESSAGES: SENDING},
    Stage.RCPT: {Metric.RECIPIENTS: SENDING, Metric.MESSAGES: RECEIVING},
    Stage.DATA: {Metric.BYTES: SENDING, Metric.MESSAGES: (Dimension.SUBJECT,)},
}
"""What the site keeps about everybody, whatever its rules: the console's and the analysts' numbers."""

TRACKED_WINDOWS = (Window(300), Window(3_600), Window(86_400))

COMPLAINED_OF = (*SENDING, Dimension.SUBJECT)
"""Whom an outcome is counted against: whoever sent, never who received."""


_AT_CONNECT = frozenset(CLIENT)
_AT_HELO = _AT_CONNECT | {Dimension.HELO}
_AT_AUTH = _AT_HELO | {Dimension.USER}
_AT_MAIL = _AT_AUTH | {Dimension.SENDER, Dimension.SENDER_DOMAIN}
KNOWN_AT: Mapping[Stage, frozenset[Dimension]] = {
    Stage.CONNECT: _AT_CONNECT,
    Stage.HELO: _AT_HELO,
    Stage.AUTH: _AT_AUTH,
    Stage.MAIL: _AT_MAIL,
    Stage.RCPT: _AT_MAIL | frozenset(RECEIVING),
    Stage.DATA: _AT_MAIL | {Dimension.SUBJECT},  # a message has many recipients, so none of its own
}
"""The dimensions that an event of each stage can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One limit, on one combination of dimensions, at one stage."""

    name: str
    stage: Stage
    key: tuple[Dimension, ...]
    count: Metric
    limits: tuple[Limit, ...]
    action: Action
    mode: Mode = Mode.ENFORCE
    charge: Charging = Charging.ACCEPTED
    on_store_failure: OnStoreFailure = OnStoreFailure.ACCEPT
    reply: str = ""
    delay_seconds: float = 5.0
    """For tarpit: how long the answer is held back."""

    def __post_init__(self) -> None:
        if not self.key or len(set(self.key)) < len(self.key):
            raise ConfigError("key: name at least one dimension, and none twice")
        if len({limit.window for limit in self.limits}) < len(self.limits) or not self.limits:
            raise ConfigError("limits: name at least one limit, and each window once")
        if self.stage is Stage.DISCONNECT:
            raise ConfigError(f"stage: the session is over at {self.stage}, no rule can act there")
        if self.action is Action.DISCARD and self.stage not in DISCARDING:
            raise ConfigError(f"action: {self.action} at stage {self.stage}: {_DISCARD_WHERE}")
        unknown = [dimension for dimension in self.key if dimension not in KNOWN_AT[self.stage]]
        if unknown:
            raise ConfigError(f"key: {unknown[0]} is not known at stage {self.stage}, so the rule would never apply")
        if self.learned or (self.stage, self.count) in COSTS:
            return
        possible = sorted(metric for stage, metric in COSTS if stage is self.stage)
        raise ConfigError(
            f"count: {self.count} cannot be counted at stage {self.stage}; "
            f"here: {', '.join([*possible, *sorted(LEARNED.values())])}"
        )

    @property
    def learned(self) -> bool:
        """Whether the metric is charged by outcomes, so that the rule itself only reads."""
        return self.count in LEARNED.values()

    @property
    def meter(self) -> Meter:
        """The rule's own count, as the store is asked for it when the event is judged."""
        if self.action not in DENYING:
            over = Over.NOTES
        else:
            over = Over.DENIES if self.mode is Mode.ENFORCE else Over.SKIPS
        charging = Charging.NEVER if self.learned else self.charge
        return Meter.limited(self.name, self.limits, charging, over)

    @property
    def learning_meter(self) -> Meter:
        """The rule's own count, as an outcome charges it."""
        windows = tuple(limit.window for limit in self.limits)
        return Meter(scope=self.name, windows=windows, charging=Charging.ALWAYS)


Batch = tuple[tuple[tuple[Dimension, ...], Metric, tuple[Meter, ...]], ...]
"""(dimensions of the key, metric, meters) of every counter that one stage touches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """A set of rules, compiled."""

    rules: tuple[Rule, ...] = ()
    tracked: frozenset[Dimension] = frozenset(Dimension)
    """Dimensions that are counted whether or not a rule names them."""
    _named: Mapping[str, Rule] = field(init=False, repr=False, compare=False)
    _judging: Mapping[Stage, Batch] = field(init=False, repr=False, compare=False)
    _learning: Mapping[Metric, Batch] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = [rule.name for rule in self.rules]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ConfigError(f"rule names must differ, because each names a counter: {', '.join(doubled)}")
        object.__setattr__(self, "_named", {rule.name: rule for rule in self.rules})
        object.__setattr__(self, "_judging", {stage: self._judging_batch(stage) for stage in Stage})
        object.__setattr__(self, "_learning", {metric: self._learning_batch(metric) for metric in LEARNED.values()})

    def _judging_batch(self, stage: Stage) -> Batch:
        own = [
            ((dimension,), metric, Meter(windows=TRACKED_WINDOWS))
            for metric, dimensions in TRACKED.get(stage, {}).items()
            for dimension in dimensions
            if dimension in self.tracked
        ]
        ruled = [(rule.key, rule.count, rule.meter) for rule in self.rules if rule.stage is stage]
        return _grouped([*own, *ruled])

    def _learning_batch(self, metric: Metric) -> Batch:
        own = [
            ((dimension,), metric, Meter(windows=TRACKED_WINDOWS, charging=Charging.ALWAYS))
            for dimension in COMPLAINED_OF
            if dimension in self.tracked
        ]
        ruled = [(rule.key, metric, rule.learning_meter) for rule in self.rules if rule.count is metric]
        return _grouped([*own, *ruled])

    def charges_for(self, event: Event, entities: Entities) -> tuple[Charge, ...]:
        """What the store is asked when `event` is judged."""
        return tuple(
            Charge(key=Key(entity, metric), cost=cost(event), meters=meters)
            for dimensions, metric, meters in self._judging[event.stage]
            if (entity := composite(entities, dimensions)) is not None
            for cost in (COSTS.get((event.stage, metric), _one),)
        )

    def charges_of_outcome(self, kind: OutcomeKind, entities: Entities) -> tuple[Charge, ...]:
        """What the store is told when an outcome is learned."""
        metric = LEARNED[kind]
        return tuple(
            Charge(key=Key(entity, metric), cost=1, meters=meters)
            for dimensions, metric, meters in self._learning[metric]
            if (entity := composite(entities, dimensions)) is not None
        )

    def charges_to_explain(self, entity: Entity) -> tuple[Charge, ...]:
        """What the store is asked to tell how `entity` stands with each rule about it; nothing is charged."""
        rules = [rule for rule in self.rules if "+".join(rule.key) == entity.dimension]
        by_metric: dict[Metric, list[Meter]] = {}
        for rule in rules:
            by_metric.setdefault(rule.count, []).append(replace(rule.meter, charging=Charging.NEVER))
        return tuple(
            Charge(key=Key(entity, metric), cost=1, meters=tuple(meters)) for metric, meters in by_metric.items()
        )

    def decide(self, charges: Sequence[Charge], answer: Answer) -> Verdict:
        """What the store's answer means."""
        over: list[tuple[Rule, list[Finding]]] = []
        findings: list[Finding] = []
        for charge, readings in zip(charges, answer.readings, strict=True):
            for meter, values in zip(charge.meters, readings, strict=True):
                if not meter.scope:
                    continue
                found = [
                    Finding(rule=meter.scope, entity=charge.key.entity, metric=charge.key.metric, reading=reading)
                    for reading in values
                ]
                findings.extend(found)
                if any(reading.over for reading in values):
                    over.append((self._named[meter.scope], found))
        return self._verdict(over, findings, receipt_source=(charges, answer))

    def _verdict(
        self,
        over: Sequence[tuple[Rule, list[Finding]]],
        findings: Sequence[Finding],
        receipt_source: tuple[Sequence[Charge], Answer],
    ) -> Verdict:
        would = tuple(rule.name for rule, _ in over if rule.mode is Mode.SHADOW)
        acting = [(rule, found) for rule, found in over if rule.mode is Mode.ENFORCE]
        receipt = receipt_of(*receipt_source)
        if not acting:
            reason = Reason.WITHIN_LIMITS if findings else Reason.NO_RULE
            first = tuple(sorted(findings, key=_fullness, reverse=True))
            return Verdict(action=Action.ACCEPT, reason=reason, would=would, findings=first, receipt=receipt)
        rule, found = min(acting, key=lambda pair: (-pair[0].action.severity, self.rules.index(pair[0])))
        first = tuple(sorted(found, key=lambda finding: -finding.reading.retry_after_seconds))
        # Whoever comes back must not meet the next rule: the longest wait of all that refuse.
        heard = [found for other, found in acting if other is rule or other.action in DENYING]
        wait = max(finding.reading.retry_after_seconds for found in heard for finding in found)
        return Verdict(
            action=rule.action,
            reason=Reason.OVER_LIMIT,
            rule=rule.name,
            reply=_rendered(rule, first[0], wait),
            retry_after_seconds=wait,
            delay_seconds=max((r.delay_seconds for r, _ in acting if r.action is Action.TARPIT), default=0.0),
            tags=tuple(r.name for r, _ in acting if r.action is Action.TAG),
            would=would,
            findings=(*first, *(finding for finding in findings if finding.rule != rule.name)),
            receipt=receipt,
        )

    def fallback(self, charges: Iterable[Charge]) -> Verdict:
        """The verdict when the store gives no answer: what the rules that apply say for that case."""
        applying = [self._named[meter.scope] for charge in charges for meter in charge.meters if meter.scope]
        for rule in applying:
            if rule.mode is Mode.ENFORCE and rule.on_store_failure is OnStoreFailure.TEMPFAIL:
                return Verdict(action=Action.TEMPFAIL, reason=Reason.STORE_UNAVAILABLE, rule=rule.name)
        return Verdict(action=Action.ACCEPT, reason=Reason.STORE_UNAVAILABLE)

    def rule(self, name: str) -> Rule:
        """The rule of that name; KeyError when there is none."""
        return self._named[name]


def _grouped(parts: Iterable[tuple[tuple[Dimension, ...], Metric, Meter]]) -> Batch:
    grouped: dict[tuple[tuple[Dimension, ...], Metric], list[Meter]] = {}
    for dimensions, metric, meter in parts:
        grouped.setdefault((dimensions, metric), []).append(meter)
    return tuple((dimensions, metric, tuple(meters)) for (dimensions, metric), meters in grouped.items())


DEFAULT_REPLY = "{entity}: {limit} {metric} reached ({reason}, {rule}), try again in {retry_after} s"
REPLY_FIELDS = frozenset({"entity", "limit", "count", "metric", "reason", "rule", "retry_after"})
"""What a rule's `reply` may name in braces."""


def _rendered(rule: Rule, finding: Finding, wait_seconds: float) -> str:
    reading = finding.reading
    return (rule.reply or DEFAULT_REPLY).format(
        entity=finding.entity,
        limit=reading.limit,
        count=reading.count,
        metric=finding.metric,
        reason=Reason.OVER_LIMIT,
        rule=rule.name,
        retry_after=math.ceil(wait_seconds),
    )


def _fullness(finding: Finding) -> float:
    reading = finding.reading
    return reading.count / reading.limit.count if reading.limit else 0.0
