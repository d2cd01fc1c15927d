"""Limits that follow reputation: how far, from when on, and that they come back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.adaptive import MIN_VOLUME, STEPS, _plan, adapted, factor_of
from reputation.bookkeeping import TRACKING
from reputation.charges import Charge, Charging, Kind, Meter, Over, Plan
from reputation.facts import Score
from reputation.keys import EVIDENCE, Dimension, Entity, Key, Metric, distinct
from reputation.rules import MAX_DISTINCT
from reputation.score import KINDS, Evidence, EvidenceKind, decayed
from reputation.standing import standing_of
from reputation.store.memory import MemoryStore
from reputation.windows import MAX_LIMIT_COUNT, Limit
from tests.builders import evidence, meter, us

DAY = 86_400.0
SENDER = Entity("sender", "alice@example.com")
BASE = 0.2
HUNDRED = Plan((*TRACKING, meter("adaptive", "100/1h")))


def score(value: float, volume: float, base: float = BASE) -> Score:
    return Score(score=value, confidence=1.0, active_now=value, repeat_offender=value, base=base, volume=volume)


def score_of(sums: list[float], base: float = BASE) -> Score:
    """By evidence: all short sums, then all long ones."""
    standing = standing_of([(SENDER, Evidence.of([round(1_000 * value) for value in sums]))], base)
    [level] = standing.levels
    return Score(
        score=standing.score,
        confidence=standing.confidence,
        active_now=standing.active_now,
        repeat_offender=standing.repeat_offender,
        base=base,
        volume=level.long.total,
    )


def after(kind: EvidenceKind, amount: float, days: float = 0.0) -> Score:
    """The score of so much evidence, so many days later."""
    sums = [0.0] * 2 * len(KINDS)
    for horizon in range(2):
        sums[KINDS.index(kind) + horizon * len(KINDS)] = amount
    return score_of(decayed(sums, days * DAY))


def limit_of(found: Score, bound: float = 3.0, plan: Plan = HUNDRED) -> int:
    """What comes of the first limit of the last meter."""
    [charge] = adapted([Charge(Key(SENDER, Metric.MESSAGES), plan)], {"adaptive": bound}, {"sender": found})
    return charge.plan.meters[-1].limits[0].count


# --- the factor


@pytest.mark.parametrize(
    ("found", "limit"),
    [
        (score(BASE, 0), 100),
        (after(EvidenceKind.HAM, 500), 280),
        (after(EvidenceKind.HAM, 500, days=365), 100),
        (after(EvidenceKind.SPAM, 180), 38),
        (after(EvidenceKind.SPAM, 1e6), 33),
        (after(EvidenceKind.SPAM, 20), 100),
        (after(EvidenceKind.HAM, 1e6), 300),
        (score(BASE, 1e6), 100),
        (score(0.5, 1e6), 50),
        (score(0.0244, 1e6), 300),
    ],
    ids=str,
)
def test_what_reputation_makes_of_a_limit_of_a_hundred(found: Score, limit: int) -> None:
    """Four of these are the example of the module's text."""
    assert limit_of(found) == limit


scores = st.builds(
    score,
    st.floats(0, 1),
    st.one_of(st.floats(0, 1e9), st.just(math.nextafter(MIN_VOLUME, 99))),
    st.floats(0.001, 0.999),
)
bounds = st.floats(1.0, 10.0)


@given(scores, bounds)
def test_a_factor_stays_within_its_bound(found: Score, bound: float) -> None:
    assert 1 / bound * (1 - 1e-9) <= factor_of(found, bound) <= bound * (1 + 1e-9)


@given(scores, st.integers(1, 10**6), bounds)
def test_a_limit_stays_within_the_bound_and_admits_somebody(found: Score, count: int, bound: float) -> None:
    plan = Plan((meter("adaptive", f"{count}/1h"),))
    assert max(1, round(count / bound)) <= limit_of(found, bound, plan) <= round(count * bound)


@given(st.floats(0, 1), st.floats(0, MIN_VOLUME), bounds)
def test_few_messages_move_no_limit(value: float, volume: float, bound: float) -> None:
    assert factor_of(score(value, volume), bound) == 1.0


@given(st.floats(0.001, 0.999), st.floats(0, 1e6), bounds)
def test_who_is_as_everybody_has_the_limit_of_everybody(base: float, volume: float, bound: float) -> None:
    assert factor_of(score(base, volume, base), bound) == 1.0


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6), bounds)
def test_the_better_never_has_less(one: float, other: float, volume: float, bound: float) -> None:
    better, worse = sorted((one, other))
    assert factor_of(score(better, volume), bound) >= factor_of(score(worse, volume), bound)


def test_there_are_few_different_factors() -> None:
    factors = {factor_of(score(value / 1_000, 30.0 * 2**volume), 3.0) for value in range(1_001) for volume in range(12)}
    assert len(factors) <= 2 * STEPS + 1


# --- one-sided feedback


def test_pitfall_03_spam_alone_shrinks_a_limit_no_further_than_the_bound_and_it_comes_back() -> None:
    over_time = [limit_of(after(EvidenceKind.SPAM, 180, days)) for days in range(0, 181, 10)]
    assert over_time[0] == 38
    assert over_time == sorted(over_time), "the blame only fades"
    assert over_time[-1] == 100
    assert limit_of(after(EvidenceKind.SPAM, 180, days=90)) > 70, "most of it is over in a season"
    assert min(limit_of(after(EvidenceKind.SPAM, amount)) for amount in (180, 1_800, 18_000, 1e9)) == 33


def test_pitfall_03_ham_alone_never_lets_more_than_the_bound_pass_and_is_forgotten() -> None:
    over_time = [limit_of(after(EvidenceKind.HAM, 10_000, days)) for days in range(0, 400, 10)]
    assert over_time[0] == max(over_time) <= 300
    assert over_time == sorted(over_time, reverse=True)
    assert over_time[-1] == 100


async def test_pitfall_03_the_store_s_own_decay_gives_the_limit_back() -> None:
    store, key = MemoryStore(), Key(SENDER, EVIDENCE)
    for _ in range(180):
        await store.decide([evidence(EvidenceKind.SPAM, key=key)], now_us=us(0))

    async def limit_after(days: float) -> int:
        answer = await store.decide([evidence(key=key)], now_us=us(days * DAY))
        return limit_of(score_of([number / 1_000 for number in answer.numbers]))

    assert [await limit_after(days) for days in (0, 179)] == [38, 100]


# --- which limits


def adapted_plan(plan: Plan, found: Score, bounds_of: dict[str, float]) -> Plan:
    return adapted([Charge(Key(SENDER, Metric.MESSAGES), plan)], bounds_of, {"sender": found})[0].plan


BAD = after(EvidenceKind.SPAM, 1e6)


def test_only_limits_of_adaptive_rules_move_each_by_its_own_bound() -> None:
    plan = Plan((*TRACKING, meter("fixed", "100/1h"), meter("mild", "100/1h", "1000/24h"), meter("wild", "100/1h")))
    own, fixed, mild, wild = adapted_plan(plan, BAD, {"mild": 2.0, "wild": 10.0}).meters
    assert (own, fixed) == plan.meters[:2]
    assert [str(limit) for limit in mild.limits] == ["50/1h", "500/24h"]
    assert [str(limit) for limit in wild.limits] == ["10/1h"]


def test_all_else_of_a_meter_stays() -> None:
    shy = meter("adaptive", "100/1h", charging=Charging.ALWAYS, over=Over.SKIPS)
    [changed] = adapted_plan(Plan((shy,), Kind.MOMENTS), BAD, {"adaptive": 3.0}).meters
    assert (changed.scope, changed.windows, changed.charging, changed.over) == (
        *("adaptive", shy.windows, Charging.ALWAYS, Over.SKIPS),
    )
    assert adapted_plan(Plan((shy,), Kind.MOMENTS), BAD, {"adaptive": 3.0}).kind is Kind.MOMENTS


def test_whose_score_is_not_known_keeps_the_limit() -> None:
    charges = (
        Charge(Key(SENDER, Metric.MESSAGES), HUNDRED),
        Charge(Key(Entity("ip", "192.0.2.1"), "messages"), HUNDRED),
    )
    mine, other = adapted(charges, {"adaptive": 3.0}, {"sender": BAD})
    assert mine.plan != HUNDRED
    assert other is charges[1]
    assert adapted(charges, {"adaptive": 3.0}, {}) == charges


def test_the_amount_and_the_key_stay() -> None:
    charge = Charge(Key(SENDER, Metric.BYTES), HUNDRED, 5_000, "member")
    [changed] = adapted([charge], {"adaptive": 3.0}, {"sender": BAD})
    assert changed._replace(plan=HUNDRED) == charge


def test_who_has_no_history_costs_no_new_plan() -> None:
    charge = Charge(Key(SENDER, Metric.MESSAGES), HUNDRED)
    assert adapted([charge], {"adaptive": 3.0}, {"sender": score(BASE, 0)})[0].plan is HUNDRED


def test_a_plan_is_made_once() -> None:
    _plan.cache_clear()
    plans = [adapted_plan(HUNDRED, BAD, {"adaptive": 3.0}) for _ in range(5)]
    assert all(plan is plans[0] for plan in plans)
    assert _plan.cache_info().misses == 1


def test_different_values_are_counted_exactly_so_far_and_no_further() -> None:
    good = after(EvidenceKind.HAM, 1e6)
    many = Plan((Meter.limited("adaptive", [Limit.parse("600/1h")], Charging.ACCEPTED, Over.DENIES),), Kind.DISTINCT)
    [charge] = adapted(
        [Charge(Key(SENDER, distinct(Dimension.RECIPIENT), "adaptive"), many)], {"adaptive": 3.0}, {"sender": good}
    )
    assert charge.plan.meters[0].limits == (Limit.parse(f"{MAX_DISTINCT}/1h"),)
    assert limit_of(good, plan=Plan((meter("adaptive", "600/1h"),))) == 1_800


def test_the_smallest_limit_admits_somebody_all_the_same() -> None:
    assert limit_of(BAD, bound=10.0, plan=Plan((meter("adaptive", "1/1h"),))) == 1


def test_the_largest_limit_that_there_is_grows_no_further() -> None:
    plan = Plan((meter("adaptive", f"{MAX_LIMIT_COUNT}/1h"),))
    assert limit_of(after(EvidenceKind.HAM, 1e6), plan=plan) == MAX_LIMIT_COUNT
