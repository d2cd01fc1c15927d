"""Limits that follow reputation: more room for who is known as good, less for who is known as bad. Pure.

How far reputation moves a limit is bounded, needs a volume, and fades with the evidence that it rests on::

    moved   how far the odds are from the site's, in powers of ten:        1 ten times better, -1 ten times worse
    weight  how much is known:  (volume - 20) / volume, nothing below 20 messages
    factor  bound ** (moved * weight), between 1 / bound and bound

    rule 100/1h with adaptive = 3, a site with a fifth of bad mail
        a new sender                                          100
        500 good messages (score 0.0008)                      280
        the same a year later, when 0.1 of them is left       100
        180 messages of spam                                   38     and never less than 33

So neither praise nor blame alone runs away with a limit: good mail cannot buy more than the bound, and blame fades by
half in thirty days. The factor goes in steps, so that there are few plans.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from reputation.charges import Charge, Kind, Plan
from reputation.facts import Score
from reputation.rules import MAX_DISTINCT
from reputation.standing import log_odds
from reputation.windows import MAX_LIMIT_COUNT, Limit

MIN_VOLUME = 20.0
"""Messages that say nothing yet."""
FULL_EFFECT = math.log(10.0)
STEPS = 16
CACHED_PLANS = 4_096


def factor_of(score: Score, bound: float) -> float:
    """What a limit is multiplied by, from 1 / `bound` to `bound`.

    >>> new = Score(score=0.2, confidence=0.0, active_now=0.2, repeat_offender=0.2, base=0.2, volume=0.0)
    >>> bad = Score(score=0.99, confidence=0.98, active_now=0.99, repeat_offender=0.99, base=0.2, volume=180.0)
    >>> factor_of(new, 3.0), round(factor_of(bad, 3.0), 2)
    (1.0, 0.38)
    """
    if score.volume <= MIN_VOLUME:
        return 1.0
    moved = (log_odds(score.base) - log_odds(score.score)) / FULL_EFFECT
    weight = (score.volume - MIN_VOLUME) / score.volume
    step = round(STEPS * max(-1.0, min(1.0, moved)) * weight)
    return float(bound ** (step / STEPS))


def adapted(charges: Sequence[Charge], bounds: Mapping[str, float], scores: Mapping[str, Score]) -> tuple[Charge, ...]:
    """The charges with the limits that reputation makes of those of adaptive rules, `bounds` by their names."""
    changed = []
    for charge in charges:
        score = scores.get(charge.key.entity.dimension)
        if score is not None and charge.plan.scoped:
            names = [meter.scope for meter in charge.plan.meters if meter.scope in bounds]
            factors = tuple((name, factor) for name in names if (factor := factor_of(score, bounds[name])) != 1.0)
            charge = charge._replace(plan=_plan(charge.plan, factors)) if factors else charge  # noqa: PLW2901 - the same one, or another
        changed.append(charge)
    return tuple(changed)


@lru_cache(maxsize=CACHED_PLANS)
def _plan(plan: Plan, factors: tuple[tuple[str, float], ...]) -> Plan:
    by_name = dict(factors)
    meters = [
        replace(meter, limits=tuple(_scaled(limit, by_name[meter.scope], plan.kind) for limit in meter.limits))
        if meter.scope in by_name
        else meter
        for meter in plan.meters
    ]
    return Plan(tuple(meters), plan.kind)


def _scaled(limit: Limit, factor: float, kind: Kind) -> Limit:
    most = MAX_DISTINCT if kind is Kind.DISTINCT else MAX_LIMIT_COUNT
    return Limit(min(max(1, round(limit.count * factor)), most), limit.window)
