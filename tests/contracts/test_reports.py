"""What every Store promises off the decision path: counts, leaderboards, sketches, live processes."""

import asyncio
import time

import pytest

from reputation.contracts import Board, Sketch, Store
from reputation.keys import Dimension, Entity, Key, Metric, distinct
from reputation.windows import Window
from tests.builders import ALICE, BOB, charge, meter, tracked, us
from tests.contracts.asking import PATIENCE_SECONDS, ask

HOUR = 3_600
MINUTES = Window(300)
TOP = Board("sender", Metric.MESSAGES, MINUTES)
BY_HOUR = Board("sender", Metric.MESSAGES, Window(HOUR))
CORRESPONDENTS = Key(ALICE.entity, distinct(Dimension.RECIPIENT))
ADDRESSES = Key(ALICE.entity, distinct(Dimension.IP))


# --- counts


async def test_counts_are_the_entities_own_in_the_order_asked(store: Store) -> None:
    keys = [Key(Entity("user", f"user-{number}"), Metric.MESSAGES) for number in range(20)]
    for number, key in enumerate(keys):
        await ask(store, 0, charge(tracked(300, HOUR), meter("r", "999/5m"), key=key, cost=number))
    assert await store.counts(keys[::-1], MINUTES, now_us=us(1)) == list(range(19, -1, -1))


async def test_counts_of_rules_are_not_the_entities_own(store: Store) -> None:
    await ask(store, 0, charge(meter("r", "9/5m")))
    await ask(store, 0, charge(tracked(300, HOUR), key=BOB, cost=3))
    assert await store.counts([ALICE, BOB, Key(Entity("user", "nobody"), Metric.SPAM)], MINUTES, now_us=us(1)) == [
        *(0, 3, 0)
    ]
    assert await store.counts([BOB], Window(60), now_us=us(1)) == [0]


async def test_counts_are_those_of_now_and_leave_no_trace(store: Store) -> None:
    await ask(store, 0, charge(tracked(300, HOUR), cost=3))
    for at, minutes, hour in ((329, 3, 3), (330, 0, 3), (3_900, 0, 0), (1, 3, 3)):
        assert await store.counts([ALICE], MINUTES, now_us=us(at)) == [minutes]
        assert await store.counts([ALICE], Window(HOUR), now_us=us(at)) == [hour]


async def test_no_keys_have_no_counts(store: Store) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await store.counts([], MINUTES) == []


async def test_counts_by_the_store_s_clock(store: Store) -> None:
    await store.decide([charge(tracked(300), cost=2)])
    assert await store.counts([ALICE], MINUTES) == [2]


# --- leaderboards


async def test_a_board_has_the_most_of_each_in_a_stretch_of_time(store: Store) -> None:
    await store.offer(TOP, {"a": 5, "b": 3, "d": 1}, now_us=us(0))
    await store.offer(TOP, {"a": 4, "c": 9}, now_us=us(299))
    for at in (0, 200, 299.999_999):
        assert await store.board(TOP, 3, at_us=us(at)) == [("c", 9), ("a", 5), ("b", 3)]
    assert await store.board(TOP, 1, at_us=us(0)) == [("c", 9)]
    assert len(await store.board(TOP, 99, at_us=us(0))) == 4
    assert await store.board(TOP, 0, at_us=us(0)) == []


async def test_stretches_are_apart(store: Store) -> None:
    await store.offer(TOP, {"a": 5}, now_us=us(0))
    await store.offer(TOP, {"a": 2, "b": 1}, now_us=us(300))
    assert await store.board(TOP, 9, at_us=us(299)) == [("a", 5)]
    assert await store.board(TOP, 9, at_us=us(300)) == [("a", 2), ("b", 1)]
    assert await store.board(TOP, 9, at_us=us(600)) == []
    assert await store.board(TOP, 9, at_us=us(-1)) == []


async def test_boards_are_apart(store: Store) -> None:
    boards = [
        *(TOP, BY_HOUR, Board("sender", Metric.MESSAGES, Window(86_400))),
        *(Board("sender", Metric.BYTES, MINUTES), Board("user", Metric.MESSAGES, MINUTES)),
    ]
    for number, board in enumerate(boards):
        await store.offer(board, {f"only-{number}": 1}, now_us=us(0))
    for number, board in enumerate(boards):
        assert await store.board(board, 9, at_us=us(1)) == [(f"only-{number}", 1)]


async def test_longer_boards_are_cut_by_the_hour(store: Store) -> None:
    day = Board("sender", Metric.MESSAGES, Window(86_400))
    await store.offer(day, {"a": 5}, now_us=us(0))
    assert await store.board(day, 9, at_us=us(HOUR - 1)) == [("a", 5)]
    assert await store.board(day, 9, at_us=us(HOUR)) == []


async def test_the_board_of_now_has_the_stretch_before_too(store: Store) -> None:
    """Or at the turn of a stretch it would be empty. Each of both gives so many candidates."""
    now = time.time_ns() // 1_000
    hour_us = BY_HOUR.stretch_us
    await store.offer(BY_HOUR, {"long-ago": 9_000}, now_us=now - 2 * hour_us)
    await store.offer(BY_HOUR, {"before": 700, "both": 600, "less": 1}, now_us=now - hour_us)
    await store.offer(BY_HOUR, {"both": 2, "now": 1})
    candidates = await store.board(BY_HOUR, 2)
    assert candidates[0][0] == "both"
    assert {id for id, _ in candidates} == {"both", "now", "before"}


async def test_a_board_holds_the_thousand_largest(store: Store) -> None:
    counts = {f"user-{number}": number for number in range(1, 1_301)}
    names = list(counts)
    for some in (names[::2], names[1::2]):
        await store.offer(TOP, {name: counts[name] for name in some}, now_us=us(0))
    rows = await store.board(TOP, 5_000, at_us=us(0))
    assert rows == [(f"user-{number}", number) for number in range(1_300, 300, -1)]


async def test_a_board_tells_counts_that_are_exact(store: Store) -> None:
    await store.offer(TOP, {"a": 2**48, "b": 2**48 - 1}, now_us=us(0))
    assert await store.board(TOP, 9, at_us=us(0)) == [("a", 2**48), ("b", 2**48 - 1)]


async def test_an_offer_of_nothing_is_none(store: Store) -> None:
    await store.offer(TOP, {}, now_us=us(0))
    assert await store.board(TOP, 9, at_us=us(0)) == []


# --- sketches


async def test_a_sketch_tells_different_members_of_the_last_hours(store: Store) -> None:
    await store.saw(CORRESPONDENTS, ["a", "b", "a"], now_us=us(10))
    await store.saw(CORRESPONDENTS, ["b", "c"], now_us=us(HOUR))
    for at, last_hour, last_day in (
        *((20, 2, 2), (HOUR, 3, 3), (2 * HOUR, 2, 3), (3 * HOUR, 0, 3)),
        *((25 * HOUR - 1, 0, 3), (25 * HOUR, 0, 2), (26 * HOUR, 0, 0)),
    ):
        assert await store.sketches([CORRESPONDENTS], now_us=us(at)) == [Sketch(CORRESPONDENTS, last_hour, last_day)]


async def test_sketches_come_in_the_order_asked(store: Store) -> None:
    await store.saw(ADDRESSES, ["192.0.2.1"], now_us=us(0))
    await store.saw(CORRESPONDENTS, ["a", "b"], now_us=us(0))
    nobody = Key(ALICE.entity, distinct(Dimension.COUNTRY))
    assert await store.sketches([CORRESPONDENTS, nobody, ADDRESSES], now_us=us(1)) == [
        *(Sketch(CORRESPONDENTS, 2, 2), Sketch(nobody, 0, 0), Sketch(ADDRESSES, 1, 1))
    ]
    assert await store.sketches([], now_us=us(1)) == []


async def test_a_sketch_of_many_is_about_right(store: Store) -> None:
    for start in range(0, 5_000, 500):
        await store.saw(CORRESPONDENTS, [f"member-{number}" for number in range(start, start + 500)])
    [sketch] = await store.sketches([CORRESPONDENTS])
    assert sketch.last_day == pytest.approx(5_000, rel=0.03)


# --- live processes


async def test_every_process_that_beats_is_live(store: Store) -> None:
    assert [await store.beat(process, 60) for process in ("a", "b", "a", "c", "b")] == [1, 2, 2, 3, 3]


async def test_a_process_that_says_farewell_is_live_no_more(store: Store) -> None:
    for process in ("a", "b"):
        await store.beat(process, 60)
    assert await store.beat("a", 0) == 1
    assert await store.beat("c", 60) == 2


async def test_a_process_that_beats_no_more_is_live_no_more_and_takes_nobody_with_it(store: Store) -> None:
    await store.beat("lives", 60)
    assert await store.beat("dies", 0.001) == 2
    await asyncio.sleep(0.01)  # whoever asks in the meantime says that he lives, and may hide what happens to others
    assert await store.beat("asks", 60) == 2
    assert await store.beat("lives", 60) == 2
