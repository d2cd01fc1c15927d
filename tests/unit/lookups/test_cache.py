"""What is remembered ends by itself, and is never more than its bound."""

from hypothesis import given
from hypothesis import strategies as st

from reputation.lookups.cache import Cache


def test_an_entry_ends() -> None:
    cache: Cache[str] = Cache(10)
    cache.put("a", "one", expires=5.0)
    assert cache.get("a", 4.9) == "one"
    assert cache.get("a", 5.0) is None
    assert (len(cache), cache.weight) == (0, 0)


def test_the_oldest_leaves_first() -> None:
    cache: Cache[int] = Cache(3)
    for number in range(4):
        cache.put(number, number, expires=9.0)
    assert [cache.get(number, 0.0) for number in range(4)] == [None, 1, 2, 3]


def test_a_large_one_pushes_several_out_and_one_that_is_too_large_is_not_kept() -> None:
    cache: Cache[int] = Cache(3)
    for number in range(3):
        cache.put(number, number, expires=9.0)
    cache.put("large", 9, expires=9.0, weight=2)
    assert [cache.get(key, 0.0) for key in (0, 1, 2, "large")] == [None, None, 2, 9]
    cache.put("huge", 9, expires=9.0, weight=4)
    assert [cache.get(key, 0.0) for key in (2, "large", "huge")] == [2, 9, None]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.floats(0, 10)), max_size=40), st.integers(1, 10))
def test_the_weight_is_that_of_what_is_there(puts: list[tuple[int, int, float]], most: int) -> None:
    cache: Cache[int] = Cache(most)
    weights: dict[int, int] = {}
    for key, weight, expires in puts:
        cache.put(key, key, expires=expires, weight=weight)
        weights[key] = weight
    assert cache.weight <= most
    there = [key for key in weights if cache.get(key, -1.0) is not None]
    assert cache.weight == sum(weights[key] for key in there)
    assert len(cache) == len(there)
