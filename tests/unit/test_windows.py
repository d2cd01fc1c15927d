"""Limits and windows as text, and the ring bucket by bucket. The promises in general: tests/properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.errors import LimitError
from reputation.windows import MAX_LIMIT_COUNT, MAX_WINDOW_SECONDS, Limit, Reading, Ring, Window

S = 1_000_000


@pytest.mark.parametrize(
    ("text", "count", "seconds"),
    [
        ("100/1h", 100, 3_600),
        ("100/h", 100, 3_600),
        ("30/min", 30, 60),
        ("30 / 5 m", 30, 300),
        (" 1/1s ", 1, 1),
        ("10000/24h", 10_000, 86_400),
        ("10000/1d", 10_000, 86_400),
        ("5/2w", 5, 1_209_600),
        (f"{MAX_LIMIT_COUNT}/400d", MAX_LIMIT_COUNT, MAX_WINDOW_SECONDS),
    ],
)
def test_a_limit_is_read(text: str, count: int, seconds: int) -> None:
    assert Limit.parse(text) == Limit(count, Window(seconds))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "100/",
        "/1h",
        "-1/1h",
        "1.5/1h",
        "100/1y",
        "100/1h/2",
        "ten/1h",
        "100 per hour",
        "\N{FULLWIDTH DIGIT ONE}/1h",
        "1" * 19 + "/1h",
    ],
)
def test_what_is_no_limit_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(LimitError, match=r"write COUNT/TIME, such as \"30/1m\""):
        Limit.parse(text)


@pytest.mark.parametrize("text", ["0/1h", f"{MAX_LIMIT_COUNT + 1}/1h"])
def test_a_limit_that_admits_nothing_or_anything_is_refused(text: str) -> None:
    with pytest.raises(LimitError, match="admits nothing or anything"):
        Limit.parse(text)


@pytest.mark.parametrize("text", ["5/0h", "5/401d", "5/999999999w"])
def test_a_window_that_cannot_be_counted_is_refused(text: str) -> None:
    with pytest.raises(LimitError, match="cannot be counted"):
        Limit.parse(text)


@given(st.integers(1, MAX_LIMIT_COUNT), st.integers(1, MAX_WINDOW_SECONDS))
def test_a_limit_prints_what_reads_as_itself(count: int, seconds: int) -> None:
    limit = Limit(count, Window(seconds))
    assert Limit.parse(str(limit)) == limit


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [(1, "1s"), (90, "90s"), (60, "1m"), (3_600, "1h"), (86_400, "24h"), (172_800, "2d"), (604_800, "7d")],
)
def test_a_window_prints_in_its_largest_unit(seconds: int, printed: str) -> None:
    assert str(Window(seconds)) == printed


@given(st.integers(1, MAX_WINDOW_SECONDS).map(Window))
def test_the_buckets_cover_the_window_and_hardly_more(window: Window) -> None:
    assert 0 <= window.buckets * window.bucket_us - window.seconds * S < window.buckets


@given(st.integers(1, MAX_WINDOW_SECONDS).map(Window))
def test_a_key_outlives_its_last_bucket(window: Window) -> None:
    """The store keeps a key for the window and a tenth: no count is forgotten before it has aged out."""
    assert (window.buckets + 1) * window.bucket_us <= window.seconds * S * 11 // 10 + window.buckets + 1


def test_an_old_ring_that_is_advanced_far_is_empty() -> None:
    ring = Ring(Window(60))
    ring.advance(0)
    ring.charge(5)
    ring.advance(10**15)
    assert (ring.total, ring.cells) == (0, [0] * 11)


def test_the_worked_example_of_the_module() -> None:
    """W = 60 s, now = 100 s: buckets 6 to 16 count, which is 36 s to now."""
    ring = Ring(Window(60))
    for second, cost in ((35, 1), (36, 10), (99, 100)):
        ring.advance(second * S)
        ring.charge(cost)
    ring.advance(100 * S)
    assert ring.last == 16
    assert ring.total == 110
    buckets = list(ring.series())
    assert (buckets[0], buckets[-1]) == ((36.0, 10), (96.0, 100))


def test_room_comes_when_enough_of_the_oldest_buckets_have_left() -> None:
    ring = Ring(Window(60))
    for second in (0, 6, 12):
        ring.advance(second * S)
        ring.charge(2)
    assert ring.retry_after_us(cost=1, limit=7, now_us=12 * S) == 0
    assert ring.retry_after_us(cost=2, limit=7, now_us=12 * S) == (66 - 12) * S
    assert ring.retry_after_us(cost=4, limit=7, now_us=12 * S) == (72 - 12) * S
    assert ring.retry_after_us(cost=7, limit=7, now_us=12 * S) == (78 - 12) * S
    assert ring.retry_after_us(cost=8, limit=7, now_us=12 * S) == (78 - 12) * S, "never fits: until it is empty"


def test_pitfall_04_a_limit_per_second_is_used_to_nine_tenths() -> None:
    """A clock in whole seconds would lose half of it and more; buckets of 0.1 s lose one in eleven."""
    ring, admitted = Ring(Window(1)), 0
    for tenth in range(220):
        ring.advance(tenth * S // 10)
        if ring.retry_after_us(cost=1, limit=10, now_us=tenth * S // 10) == 0:
            ring.charge(1)
            admitted += 1
    assert admitted == 200


def test_a_copy_goes_on_alone() -> None:
    ring = Ring(Window(60))
    ring.advance(5 * S)
    ring.charge(1)
    twin = ring.copy()
    twin.advance(50 * S)
    twin.charge(1)
    assert (ring.last, ring.total, twin.last, twin.total) == (0, 1, 8, 2)


def test_a_reading_is_over_when_it_has_to_wait() -> None:
    limit = Limit.parse("5/1m")
    free = Reading(window=limit.window, count=2, limit=limit)
    full = Reading(window=limit.window, count=5, limit=limit, retry_after_seconds=0.000_001)
    above = Reading(window=limit.window, count=9, limit=limit)
    assert (free.over, free.remaining) == (False, 3)
    assert (full.over, full.remaining) == (True, 0)
    assert above.remaining == 0
    assert Reading(window=limit.window, count=9).remaining is None
