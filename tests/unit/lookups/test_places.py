"""Places: who gets one, and that they come back."""

from hypothesis import given
from hypothesis import strategies as st

from reputation.lookups.places import Places, Share

SHARES = {"spf": Share(5, 2), "iprev": Share(3, 3)}


def test_one_purpose_has_no_place_of_another() -> None:
    places: Places[int] = Places(SHARES)
    assert [places.take("spf", group) for group in range(6)] == [True] * 5 + [False]
    assert places.take("iprev", 0)


def test_a_group_has_its_share_of_each_purpose() -> None:
    places: Places[str] = Places(SHARES)
    assert [places.take("spf", "a") for _ in range(3)] == [True, True, False]
    assert places.take("spf", "b") and places.take("iprev", "a")
    places.free("spf", "a")
    assert [places.take("spf", "a") for _ in range(2)] == [True, False]


@given(st.lists(st.tuples(st.sampled_from(sorted(SHARES)), st.integers(0, 3), st.booleans())))
def test_counting_is_exact_and_nothing_is_left_when_all_are_given_back(steps: list[tuple[str, int, bool]]) -> None:
    places: Places[int] = Places(SHARES)
    held: list[tuple[str, int]] = []
    for purpose, group, is_taking in steps:
        if is_taking:
            share, alike = SHARES[purpose], held.count((purpose, group))
            is_room = sum(one == purpose for one, _ in held) < share.most and alike < share.most_alike
            assert places.take(purpose, group) == is_room
            held += [(purpose, group)] * is_room
        elif (purpose, group) in held:
            held.remove((purpose, group))
            places.free(purpose, group)
    for purpose, group in held:
        places.free(purpose, group)
    fresh: Places[int] = Places(SHARES)
    assert (places._taken, places._alike) == (fresh._taken, {})
