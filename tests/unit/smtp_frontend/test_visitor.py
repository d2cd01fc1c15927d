"""Who is on the other side: the peer, or somebody for whom it speaks."""

from ipaddress import ip_address

import pytest

from smtp_frontend.commands import parse_xclient
from smtp_frontend.visitor import Arrival, Visitor, arrived

PROXIES = ("192.0.2.0/28", "2001:db8::1", "203.0.113.9")


def proxy(*commands: str) -> Visitor:
    """A proxy that has said these one after another."""
    visitor = arrived(Arrival(client=ip_address("192.0.2.1")), PROXIES)
    visitor.learned(helo="proxy.example.net", tls=True)
    for command in commands:
        visitor = visitor.speaks_for(parse_xclient(command.encode()))
    return visitor


@pytest.mark.parametrize(
    ("peer", "trusted"),
    [
        ("192.0.2.15", True),
        ("192.0.2.16", False),
        ("203.0.113.9", True),
        ("203.0.113.8", False),
        ("2001:db8::1", True),
        ("2001:db8::2", False),
        ("::ffff:192.0.2.1", False),
    ],
)
def test_who_is_trusted(peer: str, trusted: bool) -> None:
    visitor = arrived(Arrival(client=ip_address(peer)), PROXIES)
    assert (visitor.trusted, visitor.put_off) == (trusted, trusted)
    assert not arrived(Arrival(client=ip_address(peer)), ()).trusted


def test_the_session_is_another_clients_then() -> None:
    before, after = proxy(), proxy("ADDR=198.51.100.7 HELO=client.example.com LOGIN=alice")
    assert (str(after.facts.client), after.facts.user, after.helo_named) == (
        "198.51.100.7",
        "alice",
        "client.example.com",
    )
    assert after.facts.id != before.facts.id
    assert after.facts.helo == ""
    assert after.facts.tls
    assert not after.put_off


def test_trust_is_in_the_peer_and_not_in_an_address_that_was_named() -> None:
    assert proxy("ADDR=198.51.100.7").trusted
    stranger = arrived(Arrival(client=ip_address("198.51.100.7")), PROXIES)
    assert not stranger.speaks_for(parse_xclient(b"ADDR=192.0.2.1")).trusted


def test_what_has_no_room_in_one_command_is_added_by_another() -> None:
    visitor = proxy("NAME=x ADDR=198.51.100.7", "HELO=client.example.com", "LOGIN=alice")
    assert (str(visitor.facts.client), visitor.helo_named, visitor.facts.user) == (
        "198.51.100.7",
        "client.example.com",
        "alice",
    )


def test_the_next_client_inherits_nothing() -> None:
    visitor = proxy("ADDR=198.51.100.7 HELO=client.example.com LOGIN=alice", "ADDR=198.51.100.8")
    assert (str(visitor.facts.client), visitor.helo_named, visitor.facts.user) == ("198.51.100.8", "", "")


def test_a_login_can_be_taken_back() -> None:
    assert proxy("ADDR=198.51.100.7 LOGIN=alice", "LOGIN=[UNAVAILABLE]").facts.user == ""


@pytest.mark.parametrize(
    "commands", [("LOGIN=alice",), ("ADDR=[UNAVAILABLE]",), ("ADDR=198.51.100.7", "ADDR=[UNAVAILABLE]")]
)
def test_whoever_is_not_known_is_the_peer(commands: tuple[str, ...]) -> None:
    assert proxy(*commands).facts.client == ip_address("192.0.2.1")
