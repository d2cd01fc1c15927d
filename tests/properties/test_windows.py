"""Sliding windows, held against a plain list of timestamps.

`Log` is the naive truth: who was admitted when. Everything that `reputation.windows` promises is a sentence
about that list.
"""

import asyncio
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from reputation.charges import Answer, Charging, Over
from reputation.store.memory import MemoryStore
from reputation.windows import MAX_WINDOW_SECONDS, MICROSECONDS, Limit, Ring, Window
from tests.builders import MIDNIGHT_US, charge, meter

windows = st.one_of(
    st.sampled_from([1, 7, 60, 299, 300, 301, 400, 3_600, 86_399, 86_400, 86_401]), st.integers(1, MAX_WINDOW_SECONDS)
).map(Window)


@st.composite
def steps(draw: st.DrawFn, window: Window) -> int:
    """Microseconds to the next event: bursts, whole buckets to the microsecond, and long pauses."""
    width = window.bucket_us
    whole = draw(st.sampled_from([0, 0, 0, 1, 1, 2, window.buckets - 1, window.buckets, window.buckets + 1]))
    return max(0, whole * width + draw(st.one_of(st.integers(-1, 1), st.integers(0, width))))


@st.composite
def histories(draw: st.DrawFn) -> tuple[Limit, list[tuple[int, int]]]:
    """A limit, and events as (moment in microseconds, cost), in the order of time."""
    window = draw(windows)
    limit = Limit(draw(st.integers(1, 8)), window)
    now = MIDNIGHT_US + draw(st.integers(0, window.bucket_us))
    events = []
    for step, cost in draw(st.lists(st.tuples(steps(window), st.integers(0, 4)), max_size=40)):
        now += step
        events.append((now, cost))
    return limit, events


@dataclass
class Log:
    """Every admitted event, for ever."""

    admitted: list[tuple[int, int]] = field(default_factory=list)

    def within(self, length_us: int, until_us: int) -> int:
        """Units in the half-open stretch of that length that ends with, and includes, `until_us`."""
        return sum(cost for at, cost in self.admitted if until_us - length_us < at <= until_us)


def judged(limit: Limit, events: list[tuple[int, int]]) -> list[tuple[int, int, Answer]]:
    """What the memory store says of each event."""

    async def run() -> list[tuple[int, int, Answer]]:
        store = MemoryStore()
        one_rule = meter("r", str(limit))
        return [(at, cost, await store.decide([charge(one_rule, cost=cost)], now_us=at)) for at, cost in events]

    return asyncio.run(run())


@given(histories())
def test_no_rolling_window_ever_admits_more_than_the_limit(history: tuple[Limit, list[tuple[int, int]]]) -> None:
    limit, events = history
    log = Log([(at, cost) for at, cost, answer in judged(limit, events) if answer.allowed])
    for at, _ in log.admitted:  # a window is fullest when it ends with an event
        assert log.within(limit.window.seconds * MICROSECONDS, at) <= limit.count


@given(histories())
def test_what_is_refused_was_over_the_limit_within_one_bucket_more_than_the_window(
    history: tuple[Limit, list[tuple[int, int]]],
) -> None:
    limit, events = history
    window_and_a_bucket = (limit.window.buckets + 1) * limit.window.bucket_us
    log = Log()
    for at, cost, answer in judged(limit, events):
        if answer.allowed:
            log.admitted.append((at, cost))
        else:
            assert log.within(window_and_a_bucket, at) + cost > limit.count


@given(histories())
def test_a_count_is_never_below_the_truth_nor_above_that_of_one_bucket_more(
    history: tuple[Limit, list[tuple[int, int]]],
) -> None:
    limit, events = history
    log = Log()
    for at, cost, answer in judged(limit, events):
        if answer.allowed:
            log.admitted.append((at, cost))
        counted = answer.readings[0][0][0].count
        assert log.within(limit.window.seconds * MICROSECONDS, at) <= counted
        assert counted <= log.within((limit.window.buckets + 1) * limit.window.bucket_us, at)


@given(histories())
def test_retry_after_is_the_first_moment_that_has_room(history: tuple[Limit, list[tuple[int, int]]]) -> None:
    limit, events = history

    async def run() -> None:
        store = MemoryStore()
        charged = meter("r", str(limit))
        read = meter("r", str(limit), charging=Charging.NEVER, over=Over.DENIES)
        for at, cost in events:
            answer = await store.decide([charge(charged, cost=cost)], now_us=at)
            wait_us = round(answer.readings[0][0][0].retry_after_seconds * MICROSECONDS)
            assert (wait_us == 0) is answer.allowed
            if answer.allowed or cost > limit.count:
                continue
            assert (await store.decide([charge(read, cost=cost)], now_us=at + wait_us)).allowed
            assert not (await store.decide([charge(read, cost=cost)], now_us=at + wait_us - 1)).allowed

    asyncio.run(run())


moments = st.integers(MIDNIGHT_US, MIDNIGHT_US + 200_000_000)


@given(st.lists(st.tuples(moments, st.integers(0, 5), st.booleans()), max_size=40))
def test_a_ring_s_total_is_the_sum_of_its_cells_whatever_the_clock_does(
    happenings: list[tuple[int, int, bool]],
) -> None:
    ring = Ring(Window(60))
    for at, cost, refunds in happenings:
        youngest = ring.last
        ring.advance(at)
        assert ring.last >= youngest, "never goes back"
        if refunds:
            ring.refund(cost, at)
        else:
            ring.charge(cost)
        assert ring.total == sum(ring.cells)
        assert min(ring.cells) >= 0
        assert sum(count for _, count in ring.series()) == ring.total


@given(histories(), st.data())
def test_what_was_given_back_in_full_leaves_the_counts_of_those_who_stayed(
    history: tuple[Limit, list[tuple[int, int]]], data: st.DataObject
) -> None:
    """Refunds in any order leave the same ring as if their events had never been."""
    limit, events = history
    stays = data.draw(st.lists(st.booleans(), min_size=len(events), max_size=len(events)))
    ring, never_there = Ring(limit.window), Ring(limit.window)
    for (at, cost), stayed in zip(events, stays, strict=True):
        ring.advance(at)
        never_there.advance(at)
        ring.charge(cost)
        if stayed:
            never_there.charge(cost)
    gone = [event for event, stayed in zip(events, stays, strict=True) if not stayed]
    for at, cost in data.draw(st.permutations(gone)):
        ring.refund(cost, at)
    assert (ring.cells, ring.total) == (never_there.cells, never_there.total)


@given(histories(), st.lists(st.integers(-90, 0), min_size=40, max_size=40))
def test_a_clock_that_goes_back_never_lets_more_through(
    history: tuple[Limit, list[tuple[int, int]]], back_seconds: list[int]
) -> None:
    """The store is told times that jump back now and then; what it admitted, it admitted at the latest of them."""
    limit, events = history
    told = [(at + back * MICROSECONDS, cost) for (at, cost), back in zip(events, back_seconds, strict=False)]
    log, latest = Log(), 0
    for at, cost, answer in judged(limit, told):
        if answer.allowed and cost:  # what costs nothing leaves nothing behind, not even its time
            latest = max(latest, at)
            log.admitted.append((latest, cost))
            assert log.within(limit.window.seconds * MICROSECONDS, latest) <= limit.count
