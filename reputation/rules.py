"""One rule: a limit on one combination of dimensions, at one stage; and what may be counted where.

What counts where
-----------------
A rule counts at its own stage: an event there costs 1, or its size in bytes, or its number of recipients (`COSTS`).
Metrics that are only learned afterwards (`LEARNED`, such as invalid_recipients) may be limited at any
stage: the rule then reads, and whoever learns the outcome charges. ``distinct(DIMENSION)`` counts different
values, at any stage that knows the dimension; ``concurrent`` counts sessions that are open now.

A rule without limits counts nothing: it acts on every event that its condition is about.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reputation.bookkeeping import LEARNED
from reputation.charges import Charging, Kind, Meter, Over
from reputation.conditions import Condition
from reputation.errors import ConfigError, LimitError
from reputation.events import Data, Event, Stage
from reputation.facts import Lookup
from reputation.inquiry import JUDGED, Inquiry
from reputation.keys import Dimension, Metric, counted_dimension
from reputation.stages import KNOWN_AT
from reputation.verdict import DENYING, REFUSING, Action, Finding, Reason
from reputation.windows import Limit, Window

LEASE = Window(60)
"""How long a session counts as open after its process was last heard of."""
MAX_DISTINCT = 1_000
"""Different values that a limit can count exactly; each is remembered."""


class Mode(StrEnum):
    """Whether a rule acts, or only counts what it would have done."""

    SHADOW = "shadow"
    ENFORCE = "enforce"


class OnStoreFailure(StrEnum):
    """What a rule does while its counters cannot be asked."""

    ACCEPT = "accept"
    TEMPFAIL = "tempfail"
    LOCAL = "local"
    """Count in this process alone, against the limit divided by the number of live processes."""


class Accuracy(StrEnum):
    """How a limit counts: never too little (`reputation.windows`), or all but exactly (`reputation.moments`)."""

    STRICT = "strict"
    INTERPOLATED = "interpolated"


def _size(event: Event) -> int:
    assert isinstance(event, Data)
    return event.message_bytes


def _recipients(event: Event) -> int:
    return len(event.recipients) if isinstance(event, Data) else 1


def one(_event: Event) -> int:
    """The cost of most events."""
    return 1


COSTS: Mapping[tuple[Stage, str], Callable[[Event], int]] = {
    (Stage.CONNECT, Metric.CONNECTIONS): one,
    (Stage.HELO, Metric.CONNECTIONS): one,
    (Stage.MAIL, Metric.MESSAGES): one,
    (Stage.RCPT, Metric.RECIPIENTS): one,
    (Stage.RCPT, Metric.MESSAGES): one,
    (Stage.DATA, Metric.MESSAGES): one,
    (Stage.DATA, Metric.RECIPIENTS): _recipients,
    (Stage.DATA, Metric.BYTES): _size,
}
"""What one event costs, for each metric that is charged as mail flows."""

LOOKED_UP: Mapping[Dimension | None, Lookup] = {
    Dimension.RDNS_DOMAIN: Lookup.IPREV,
    Dimension.SPF_DOMAIN: Lookup.SPF,
    Dimension.DKIM_DOMAIN: Lookup.DKIM,
}
"""Dimensions that look-ups find out."""
HOLDABLE = frozenset({Dimension.IP, Dimension.PREFIX, Dimension.USER, Dimension.SPF_DOMAIN})
"""Of whom one must be in what a rule bans: what nobody else can pretend to be. A sender's address can be forged, and a
recipient has done nothing."""
DISCARDING = (Stage.MAIL, Stage.RCPT, Stage.DATA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One limit, or one condition. Raises `ConfigError` that names the key at fault."""

    name: str
    stage: Stage
    key: tuple[Dimension, ...] = ()
    count: str = ""
    """A `Metric`, or ``distinct(DIMENSION)``."""
    limits: tuple[Limit, ...] = ()
    """Empty, with key and count, for a rule that acts whenever its condition holds."""
    action: Action
    mode: Mode = Mode.ENFORCE
    charge: Charging = Charging.ACCEPTED
    accuracy: Accuracy = Accuracy.STRICT
    on_store_failure: OnStoreFailure = OnStoreFailure.ACCEPT
    when: str = ""
    """Which events the rule is about, as a condition (`reputation.conditions`); empty for all of its stage."""
    reply: str = ""
    delay_seconds: float = 5.0
    """For tarpit: how long the answer is held back."""
    service: str = ""
    """The class of service that the message is put in, of what is let pass."""
    subject_prefix: str = ""
    """For tag: what goes before the subject."""
    hold_seconds: float = 0.0
    """How long whoever is refused is banned from then on, on the whole fleet; 0: not at all."""
    adaptive: float = 1.0
    """How many times as much, or as little, the reputation of the counted may make of the limits; 1: nothing."""
    condition: Condition | None = field(init=False, repr=False, compare=False)
    """`when`, compiled."""

    def __post_init__(self) -> None:
        if self.stage is Stage.DISCONNECT:
            raise ConfigError(f"stage: the session is over at {self.stage}, no rule can act there")
        if self.action is Action.DISCARD and self.stage not in DISCARDING:
            raise ConfigError(
                f"action: {self.action} at stage {self.stage}: there is no message yet; use mail, rcpt or data"
            )
        if self.key or self.count or self.limits:
            self._check_limits()
        elif not self.when:
            raise ConfigError("limits: a rule needs key, count and limits, or a condition (when) to act on")
        self._check_options()
        object.__setattr__(self, "condition", Condition(self.when, self.stage) if self.when else None)

    def _check_limits(self) -> None:
        if not self.key or len(set(self.key)) < len(self.key):
            raise ConfigError("key: name at least one dimension, and none twice")
        if not self.count:
            raise ConfigError("count: say what is counted, such as messages")
        if len({limit.window for limit in self.limits}) < len(self.limits) or not self.limits:
            raise ConfigError("limits: name at least one limit, and each window once")
        unknown = [dimension for dimension in self.key if dimension not in KNOWN_AT[self.stage]]
        if unknown:
            raise ConfigError(f"key: {unknown[0]} is not known at stage {self.stage}, so the rule would never apply")
        self._check_count()

    def _check_options(self) -> None:
        if not self.limited and self.action is Action.THROTTLE:
            raise ConfigError("action: throttle waits until there is room, so it needs limits; use tarpit or tempfail")
        if self.service and self.action in DENYING:
            raise ConfigError(f"service: {self.action} lets nothing pass; use accept, tag or tarpit")
        if self.hold_seconds and (self.action not in REFUSING or not self.limited):
            raise ConfigError("hold_seconds: only for limits whose action is tempfail, reject or discard")
        if self.hold_seconds and HOLDABLE.isdisjoint(self.key):
            known = ", ".join(sorted(HOLDABLE))
            raise ConfigError(
                f"hold_seconds: name one of {known} in the key; what anybody can write must not ban others"
            )
        if self.adaptive > 1 and (len(self.key) != 1 or self.key[0] not in JUDGED):
            raise ConfigError(f"adaptive: only for a key of one of {', '.join(JUDGED)}")

    def _check_count(self) -> None:
        if (of := counted_dimension(self.count)) is not None:
            if of not in KNOWN_AT[self.stage]:
                raise ConfigError(f"count: {of} is not known at stage {self.stage}")
            if max(limit.count for limit in self.limits) > MAX_DISTINCT:
                raise ConfigError(f"limits: {self.count} is counted exactly up to {MAX_DISTINCT}")
            return
        if self.count == Metric.CONCURRENT:
            if len(self.limits) > 1:
                raise ConfigError("limits: concurrent has one limit, a number of sessions")
            return
        if self.learned or (self.stage, self.count) in COSTS:
            return
        possible = sorted(metric for stage, metric in COSTS if stage is self.stage)
        raise ConfigError(
            f"count: {self.count} cannot be counted at stage {self.stage}; "
            f"here: {', '.join([*possible, *sorted(LEARNED.values()), Metric.CONCURRENT, 'distinct(DIMENSION)'])}"
        )

    @property
    def limited(self) -> bool:
        """Whether the rule counts; one that does not acts whenever its condition holds."""
        return bool(self.limits)

    @property
    def lookups(self) -> frozenset[Lookup]:
        """What has to be looked up before an event is held against the rule."""
        asked = frozenset() if self.condition is None else self.condition.lookups
        of = counted_dimension(self.count)
        return asked | {LOOKED_UP[dimension] for dimension in (*self.key, of) if dimension in LOOKED_UP}

    @property
    def inquiry(self) -> Inquiry:
        """What the store has to be asked before an event is held against the rule."""
        asked = Inquiry() if self.condition is None else self.condition.inquiry
        return asked | Inquiry(scores=frozenset(self.key)) if self.adaptive > 1 else asked

    @property
    def kind(self) -> Kind:
        """How the store counts it."""
        if counted_dimension(self.count) is not None:
            return Kind.DISTINCT
        if self.count == Metric.CONCURRENT:
            return Kind.LEASES
        return Kind.MOMENTS if self.accuracy is Accuracy.INTERPOLATED else Kind.RINGS

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
        return Meter(scope=self.name, windows=self.meter.windows, charging=Charging.ALWAYS)


def parse_limit(count: str, text: str) -> Limit:
    """A limit as it is written in a rule: COUNT/TIME, or for concurrent a plain number of sessions.

    >>> parse_limit("concurrent", "5").count, str(parse_limit("messages", "30/1m"))
    (5, '30/1m')
    """
    if count != Metric.CONCURRENT:
        return Limit.parse(text)
    if not text.strip().isdecimal():
        raise LimitError(f'"{text}" is not a number of sessions: write a number, such as "5"')
    return Limit(int(text), LEASE)


DEFAULT_REPLY = "{entity}: {limit} {metric} reached ({reason}, {rule}), try again in {retry_after} s"
REPLY_FIELDS = frozenset({"entity", "limit", "count", "metric", "reason", "rule", "retry_after"})
"""What a rule's `reply` may name in braces."""


def rendered(rule: Rule, finding: Finding, wait_seconds: float) -> str:
    """What the client is told of a refusal by a limit."""
    reading = finding.reading
    return (rule.reply or DEFAULT_REPLY).format(
        entity=finding.entity,
        limit=finding.limit,
        count=reading.count,
        metric=finding.metric,
        reason=Reason.OVER_LIMIT,
        rule=rule.name,
        retry_after=math.ceil(wait_seconds),
    )


DEFAULT_MATCHED_REPLY = "Refused by policy ({reason}, {rule})"
MATCHED_REPLY_FIELDS = frozenset({"reason", "rule"})
"""What the `reply` of a rule without limits may name in braces."""


def rendered_match(rule: Rule) -> str:
    """What the client is told of a refusal by a rule without limits."""
    return (rule.reply or DEFAULT_MATCHED_REPLY).format(reason=Reason.MATCHED, rule=rule.name)
