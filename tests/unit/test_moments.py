"""When units came: exact for the youngest, and about right for the others."""

from bisect import bisect_right
from random import Random

import pytest

from reputation.moments import KEPT_STRETCHES, MERGED_AT_ONCE, Moments
from reputation.windows import MICROSECONDS, Window

HOUR = Window(3_600)


def lived(moments: list[int], cost: int = 1) -> Moments:
    found = Moments()
    for moment in moments:
        found.charge(cost, moment, [HOUR])
    return found


def arrivals(count: int, seed: int = 1) -> list[int]:
    """Bursts, within an hour."""
    random = Random(seed)
    starts = [random.randrange(3_600 * MICROSECONDS) for _ in range(max(1, count // 20))]
    return sorted(random.choice(starts) + random.randrange(2 * MICROSECONDS) for _ in range(count))


def test_two_units_are_one_stretch_and_nothing_is_lost() -> None:
    assert lived([10, 20, 30, 40, 50]).stretches == [(10, 20, 2), (30, 40, 2), (50, 50, 1)]


def test_units_of_one_moment_are_one_stretch() -> None:
    assert lived([10, 10, 10], cost=5).stretches == [(10, 10, 15)]


@pytest.mark.parametrize("cost", [1, 2])
def test_as_many_as_are_kept_apart_are_exact(cost: int) -> None:
    came = arrivals(2 * KEPT_STRETCHES // cost)
    found = lived(came, cost)
    for now in range(came[-1], came[-1] + HOUR.seconds * MICROSECONDS, 50 * MICROSECONDS):
        left = len(came) - bisect_right(came, now - HOUR.seconds * MICROSECONDS)
        assert found.count(HOUR, now) == cost * left
        for limit in (1, 100, 900):
            wait = found.retry_after_us(cost, limit, HOUR, now)
            if limit >= cost:
                assert exact_wait(came, cost, limit, now) == wait


def exact_wait(came: list[int], cost: int, limit: int, now: int) -> int:
    inside = [moment for moment in came if moment > now - HOUR.seconds * MICROSECONDS]
    excess = cost * len(inside) + cost - limit
    return inside[-(-excess // cost) - 1] + HOUR.seconds * MICROSECONDS - now if excess > 0 else 0


def test_beyond_that_the_number_is_right_and_the_moments_nearly() -> None:
    came = arrivals(10 * KEPT_STRETCHES)
    found = lived(came)
    assert KEPT_STRETCHES <= len(found.stretches) <= KEPT_STRETCHES + MERGED_AT_ONCE
    assert found.count(HOUR, came[-1]) == len(came)
    for now in range(came[-1], came[-1] + HOUR.seconds * MICROSECONDS, 50 * MICROSECONDS):
        left = len(came) - bisect_right(came, now - HOUR.seconds * MICROSECONDS)
        assert abs(found.count(HOUR, now) - left) <= len(came) // 100


def test_the_shortest_window_stays_exact_while_older_units_are_merged() -> None:
    minute, random, came, found = Window(60), Random(2), [], Moments()
    moment = 0
    for _ in range(20_000):
        moment += round(random.expovariate(1 / 1.5) * MICROSECONDS) if random.random() < 0.2 else 1_000
        came.append(moment)
        found.charge(1, moment, [minute, Window(86_400)])
        inside = len(came) - bisect_right(came, moment - 60 * MICROSECONDS)
        assert inside > KEPT_STRETCHES or found.count(minute, moment) == inside
    assert found.count(Window(86_400), moment) == 20_000


def test_a_wait_is_never_nothing_while_there_is_no_room() -> None:
    """A window that begins at a unit of a stretch to the microsecond, where dividing is a hair too low."""
    found = Moments()
    found.latest, found.longest_us, found.stretches = 22, 60 * MICROSECONDS, [(0, 22, 23)]
    now = 15 + 60 * MICROSECONDS
    assert found.count(Window(60), now) >= 7
    assert found.retry_after_us(1, found.count(Window(60), now), Window(60), now) >= 1


def test_what_has_left_the_longest_window_is_forgotten() -> None:
    found = lived([0, 1, 3_600 * MICROSECONDS, 3_600 * MICROSECONDS + 1])
    assert found.stretches == [(3_600 * MICROSECONDS, 3_600 * MICROSECONDS + 1, 2)]


@pytest.mark.parametrize(
    ("at", "left"), [(10, [(20, 20, 1)]), (20, [(10, 10, 1)]), (15, [(20, 20, 1)]), (9, [(10, 20, 2)])]
)
def test_of_two_units_the_other_one_stays(at: int, left: list[tuple[int, int, int]]) -> None:
    found = lived([10, 20])
    found.refund(1, at)
    assert found.stretches == left


def test_giving_back_twice_takes_nobody_else_s_unit_of_a_pair() -> None:
    found = lived([10, 20])
    found.refund(5, 20)
    assert found.stretches == [(10, 10, 1)]


def test_more_than_is_there_cannot_be_given_back() -> None:
    found = lived([10], cost=3)
    found.refund(5, 10)
    assert found.stretches == []
    found.refund(5, 10)
    assert found.count(HOUR, 10) == 0
