"""How many sessions one client has at once."""

from ipaddress import ip_address

from smtp_frontend.crowd import Crowd


def test_one_more_than_the_most_is_turned_away_and_others_are_not() -> None:
    crowd = Crowd(2)
    bob, eve = ip_address("192.0.2.1"), ip_address("192.0.2.2")
    assert [crowd.enter(bob) for _ in range(3)] == [True, True, False]
    assert crowd.enter(eve)
    crowd.leave(bob)
    assert crowd.enter(bob)
    assert not crowd.enter(bob)


def test_a_network_of_ipv6_is_one_client() -> None:
    crowd = Crowd(1)
    assert crowd.enter(ip_address("2001:db8::1"))
    assert not crowd.enter(ip_address("2001:db8::ffff"))
    assert crowd.enter(ip_address("2001:db8:0:1::1"))


def test_nothing_is_kept_of_those_who_have_left() -> None:
    crowd = Crowd(5)
    clients = [ip_address(f"192.0.2.{number}") for number in range(50)]
    for client in clients:
        crowd.enter(client)
    assert len(crowd) == 50
    for client in clients:
        crowd.leave(client)
    assert not len(crowd)
