"""What is counted: which keys an event of each stage touches, and with which meters.

A *counter* is such a key before it is known whose. The counters of a stage are put together once, from the rules and
from the site's own bookkeeping, and used for every event.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from reputation.bookkeeping import COMPLAINED_OF, TRACKED, TRACKED_WINDOWS, TRACKING
from reputation.charges import Charging, Kind, Meter, Plan
from reputation.errors import ConfigError
from reputation.events import Event, Stage
from reputation.keys import Dimension, Entity, Metric, counted_dimension
from reputation.rules import COSTS, Rule, one

MAX_CELLS = 5_000
"""Numbers in one key: more would cost each decision a millisecond."""


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


def judging(stage: Stage, rules: Sequence[Rule], tracked: frozenset[Dimension]) -> Iterator[Counter]:
    """The counters of a stage: what is tracked, and what rules count."""
    rings: dict[tuple[tuple[Dimension, ...], str], list[Meter]] = {}
    for metric, dimensions in TRACKED.get(stage, {}).items():
        for dimension in dimensions:
            if dimension in tracked:
                rings[(dimension,), metric] = list(TRACKING)
    limits = [rule for rule in rules if rule.stage is stage and rule.limited]
    for rule in limits:
        if rule.kind is Kind.RINGS:
            rings.setdefault((rule.key, rule.count), []).append(rule.meter)
    for (key, metric), meters in rings.items():
        cost = COSTS.get((stage, metric), one)
        yield Counter(key, metric, Plan(tuple(meters)), cost=cost)
    for rule in limits:
        if rule.kind is not Kind.RINGS:
            of = counted_dimension(rule.count)
            cost = COSTS.get((stage, rule.count), one)
            yield Counter(rule.key, rule.count, Plan((rule.meter,), rule.kind), rule.name, cost, of)


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


def member_of(entity: Entity) -> str:
    """A short name for one of many: eight bytes of BLAKE2b over the id."""
    return hashlib.blake2b(entity.id.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
