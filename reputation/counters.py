"""What is counted: which keys an event of each stage touches, and with which meters.

A *counter* is such a key before it is known whose. The counters of a stage are put together once, from the rules and
from the site's own bookkeeping, and used for every event.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from reputation.charges import Charging, Kind, Meter, Plan
from reputation.errors import ConfigError
from reputation.events import Event, OutcomeKind, Stage
from reputation.keys import EVIDENCE, Dimension, Metric, counted_dimension
from reputation.rules import COSTS, Rule, one
from reputation.score import EvidenceKind
from reputation.windows import Window

CLIENT = (Dimension.IP, Dimension.PREFIX)
SENDING = (*CLIENT, Dimension.USER, Dimension.SENDER, Dimension.SENDER_DOMAIN)
RECEIVING = (Dimension.RECIPIENT, Dimension.RECIPIENT_DOMAIN)

TRACKED: Mapping[Stage, Mapping[str, tuple[Dimension, ...]]] = {
    Stage.CONNECT: {Metric.CONNECTIONS: CLIENT},
    Stage.MAIL: {Metric.MESSAGES: SENDING},
    Stage.RCPT: {Metric.RECIPIENTS: SENDING, Metric.MESSAGES: RECEIVING},
    Stage.DATA: {Metric.BYTES: SENDING, Metric.MESSAGES: (Dimension.SUBJECT,)},
}
"""What the site keeps about everybody, whatever its rules: the console's and the analysts' numbers."""

SKETCHED: Mapping[Stage, Mapping[Dimension, tuple[Dimension, ...]]] = {
    Stage.MAIL: {Dimension.USER: (Dimension.IP, Dimension.ASN, Dimension.COUNTRY)},
    Stage.RCPT: {Dimension.USER: (Dimension.RECIPIENT,)},
    Stage.DATA: {Dimension.USER: (Dimension.SUBJECT,)},
}
"""Of whom different values are estimated, for reports: of which dimensions. Only of users, who have logged in: anybody
can name recipients and senders that there are none of."""

TRACKED_WINDOWS = (Window(300), Window(3_600), Window(86_400))
TRACKING = (Meter(windows=TRACKED_WINDOWS),)

EVIDENCE_OF: Mapping[OutcomeKind, EvidenceKind] = {
    OutcomeKind.HAM: EvidenceKind.HAM,
    OutcomeKind.SPAM: EvidenceKind.SPAM,
    OutcomeKind.MALWARE: EvidenceKind.MALWARE,
    OutcomeKind.UNKNOWN_RECIPIENT: EvidenceKind.INVALID_RECIPIENTS,
    OutcomeKind.BOUNCE: EvidenceKind.BOUNCES,
    OutcomeKind.COMPLAINT: EvidenceKind.COMPLAINTS,
}
"""What an outcome is evidence of. A failed log-in is none: it says nothing of anybody's mail."""
WEIGHED: Mapping[OutcomeKind, tuple[Dimension, ...]] = {OutcomeKind.UNKNOWN_RECIPIENT: (*CLIENT, Dimension.USER)}
"""Of whom an outcome is evidence, where that is not everybody it is counted against: whoever guesses recipients makes
senders up as well, a new one each time."""
WEIGHT = 1_000
"""Thousandths that one outcome adds to a sum of evidence."""

WEIGHING = Plan(kind=Kind.EVIDENCE)

MAX_CELLS = 5_000
"""Numbers in one key: more would cost each decision a millisecond."""

COMPLAINED_OF = (*SENDING, Dimension.SUBJECT)
"""Whom an outcome is counted against: whoever sent, never who received."""


class Counter(NamedTuple):
    """One key that a stage touches, before it is known whose."""

    dimensions: tuple[Dimension, ...]
    metric: str
    plan: Plan
    scope: str = ""
    """The rule whose key it is alone: only rings are shared among rules."""
    cost: Callable[[Event], int] = one
    of: Dimension | None = None
    """Whose different values are counted."""


Batch = tuple[tuple[tuple[Dimension, str, Plan], ...], tuple[Counter, ...]]
"""The counters of a stage: first those that most are, of one dimension and with a cost of one; then the others."""


def batch(counters: Sequence[Counter]) -> Batch:
    """Put the counters of a stage together; raises `ConfigError` for one that is too large."""
    for each in counters:
        windows = [window for meter in each.plan.meters for window in meter.windows]
        if each.plan.kind is Kind.RINGS and sum(window.buckets + 2 for window in windows) > MAX_CELLS:
            raise ConfigError(
                f"{'+'.join(each.dimensions)} {each.metric}: too many windows in one counter; "
                f"fewer rules or fewer limits would do"
            )
    plain = [
        each for each in counters if len(each.dimensions) == 1 and each.plan.kind is Kind.RINGS and each.cost is one
    ]
    others = [each for each in counters if each not in plain]
    return tuple((each.dimensions[0], each.metric, each.plan) for each in plain), tuple(others)


def judging(
    stage: Stage, rules: Sequence[Rule], tracked: frozenset[Dimension], evidence: Sequence[Dimension]
) -> Iterator[Counter]:
    """The counters of a stage: what is tracked, what rules count, whose evidence is read along."""
    rings: dict[tuple[tuple[Dimension, ...], str], list[Meter]] = {}
    for metric, dimensions in TRACKED.get(stage, {}).items():
        for dimension in dimensions:
            if dimension in tracked:
                rings[(dimension,), metric] = list(TRACKING)
    for rule in rules:
        if rule.stage is stage and rule.kind is Kind.RINGS:
            rings.setdefault((rule.key, rule.count), []).append(rule.meter)
    for (key, metric), meters in rings.items():
        cost = COSTS.get((stage, metric), one)
        yield Counter(key, metric, Plan(tuple(meters)), cost=cost)
    for rule in rules:
        if rule.stage is stage and rule.kind is not Kind.RINGS:
            of = counted_dimension(rule.count)
            cost = COSTS.get((stage, rule.count), one)
            yield Counter(rule.key, rule.count, Plan((rule.meter,), rule.kind), rule.name, cost, of)
    for dimension in evidence:
        yield Counter((dimension,), EVIDENCE, WEIGHING)


def learning(metric: Metric, rules: Sequence[Rule], tracked: frozenset[Dimension]) -> Iterator[Counter]:
    """The counters that an outcome is charged to."""
    meters: dict[tuple[Dimension, ...], list[Meter]] = {}
    for dimension in COMPLAINED_OF:
        if dimension in tracked:
            meters[(dimension,)] = [Meter(windows=TRACKED_WINDOWS, charging=Charging.ALWAYS)]
    for rule in rules:
        if rule.count == metric and rule.kind is Kind.RINGS:
            meters.setdefault(rule.key, []).append(rule.learning_meter)
        elif rule.count == metric:
            yield Counter(rule.key, metric, Plan((rule.learning_meter,), rule.kind), rule.name)
    for key, wanted in meters.items():
        yield Counter(key, metric, Plan(tuple(wanted)))
