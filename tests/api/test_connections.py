"""Places for connections: so many at once, and so many of one network."""

import pytest

from api.connections import Places


def test_a_network_has_its_places_and_not_those_of_all() -> None:
    places = Places(10, most_of_network=2)
    taken = [places.take(client) for client in ("2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1")]
    assert taken[2] is None
    assert None not in (taken[0], taken[1], taken[3])
    assert places.taken == 3


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", ""])
def test_who_is_on_this_machine_is_bounded_by_the_number_of_all(client: str) -> None:
    places = Places(10, most_of_network=2)
    assert [places.take(client) is None for _ in range(12)] == [False] * 10 + [True] * 2


def test_behind_a_proxy_of_ours_nobody_is_told_apart() -> None:
    places = Places(10, most_of_network=None)
    assert [places.take("192.0.2.7") is None for _ in range(11)] == [False] * 10 + [True]


def test_what_is_given_back_can_be_taken_again() -> None:
    places = Places(10, most_of_network=1)
    place = places.take("192.0.2.7")
    assert place is not None
    assert places.take("192.0.2.7") is None
    places.give_back(place)
    assert places.take("192.0.2.7") is not None
    assert places.taken == 1
