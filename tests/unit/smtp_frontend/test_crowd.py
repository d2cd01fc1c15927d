"""How many sessions one client has at once."""

import asyncio
from ipaddress import ip_address

import pytest

from smtp_frontend.crowd import Crowd, Turns


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


def test_the_log_is_told_once_that_somebody_has_too_many(caplog: pytest.LogCaptureFixture) -> None:
    crowd, bob = Crowd(1), ip_address("192.0.2.1")
    assert not crowd.is_full(bob)
    crowd.enter(bob)
    assert [crowd.is_full(bob) for _ in range(3)] == [True] * 3
    assert len(caplog.records) == 1
    crowd.leave(bob)
    crowd.enter(bob)
    assert crowd.is_full(bob)
    assert len(caplog.records) == 2


async def test_turns_are_waited_for_and_others_need_not_wait() -> None:
    turns, bob, eve = Turns(2, 10.0), ip_address("192.0.2.1"), ip_address("192.0.2.2")
    inside: list[str] = []
    gate = asyncio.Event()

    async def come(who: str) -> None:
        async with turns.place(eve if who == "eve" else bob):
            inside.append(who)
            await gate.wait()

    coming = [asyncio.create_task(come(who)) for who in ("bob 1", "bob 2", "bob 3", "eve")]
    for _ in range(5):
        await asyncio.sleep(0)
    assert sorted(inside) == ["bob 1", "bob 2", "eve"]
    gate.set()
    await asyncio.gather(*coming)
    assert len(inside) == 4
    assert len(turns) == 0


async def test_a_turn_that_does_not_come_in_time_is_none() -> None:
    turns, bob = Turns(1, 0.01), ip_address("192.0.2.1")
    async with turns.place(bob):
        with pytest.raises(TimeoutError):
            async with turns.place(bob):
                pass
    assert len(turns) == 0
