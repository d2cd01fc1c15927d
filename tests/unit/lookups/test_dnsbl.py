"""DNS lists, against a real server."""

import logging
from ipaddress import ip_address

import dns.rcode
import pytest

from reputation.clock import ManualClock
from reputation.errors import ConfigError
from reputation.lookups.answers import MOST_SECONDS
from reputation.lookups.dnsbl import UNASKED, Dnsbl, zone_of, zones_of
from reputation.lookups.names import listed_name
from reputation.lookups.resolver import Resolver
from tests.dns_server import DnsServer

V6 = "2001:db8::7"
ZONE = """
7.2.0.192.any.example. 300 A 127.0.0.2
8.2.0.192.any.example. 300 A 127.255.255.254
9.2.0.192.any.example. 300 A 198.51.100.1
10.2.0.192.any.example. 300 A 127.255.255.252
10.2.0.192.any.example. 300 A 127.0.0.4
12.2.0.192.any.example. 300 A 127.1.2.3
7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.any.example. 300 A 127.0.0.2
7.2.0.192.some.example. 300 A 127.0.0.10
8.2.0.192.some.example. 300 A 127.0.0.2
9.2.0.192.some.example. 300 A 127.0.0.2
9.2.0.192.some.example. 300 A 127.0.0.5
10.2.0.192.some.example. 300 A 127.255.255.252
11.2.0.192.some.example. 300 A 127.0.0.12
"""
ANY, SOME = zones_of(["any.example", "some.example=127.0.0.4-11,127.0.1.2"])


@pytest.fixture
def lists(server: DnsServer, resolver: Resolver) -> Dnsbl:
    server.load(ZONE)
    return Dnsbl([ANY, SOME], resolver)


@pytest.mark.parametrize(
    ("client", "zone", "word"),
    [
        pytest.param("192.0.2.7", "any.example", "listed", id="listed"),
        pytest.param("192.0.2.8", "any.example", "temperror", id="refused"),
        pytest.param("192.0.2.9", "any.example", "clear", id="an invented address"),
        pytest.param("192.0.2.10", "any.example", "listed", id="listed all the same"),
        pytest.param("192.0.2.11", "any.example", "clear", id="no such name"),
        pytest.param("192.0.2.12", "any.example", "listed", id="any code"),
        pytest.param(V6, "any.example", "listed", id="IPv6"),
        pytest.param("192.0.2.7", "some.example", "listed", id="a code that counts"),
        pytest.param("192.0.2.8", "some.example", "clear", id="a code that does not"),
        pytest.param("192.0.2.9", "some.example", "listed", id="one of both"),
        pytest.param("192.0.2.10", "some.example", "temperror", id="refused, with codes"),
        pytest.param("192.0.2.11", "some.example", "clear", id="just outside"),
    ],
)
async def test_standing(lists: Dnsbl, client: str, zone: str, word: str) -> None:
    assert (await lists.standing_of(ip_address(client), zone, 0.0))[0] == word


async def test_an_outage_is_a_temperror(server: DnsServer, lists: Dnsbl) -> None:
    server.rcode = dns.rcode.SERVFAIL
    assert (await lists.standing_of(ip_address("192.0.2.7"), "any.example", 0.0))[0] == "temperror"


@pytest.mark.parametrize(
    "client",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.0.1",
        "169.254.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
    ],
)
async def test_addresses_of_this_site_are_not_asked_about(server: DnsServer, lists: Dnsbl, client: str) -> None:
    assert await lists.standing_of(ip_address(client), "any.example", 7.0) == ("clear", "", 7.0 + MOST_SECONDS)
    assert server.questions == 0


@pytest.mark.parametrize("client", ["172.32.0.1", "100.128.0.1", "192.0.2.1", "2001:db8::1", "::2"])
def test_others_are(client: str) -> None:
    assert not any(ip_address(client) in network for network in UNASKED)


async def test_a_list_that_refuses_us_is_told_once(
    server: DnsServer, lists: Dnsbl, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="reputon.lookups")
    for client in ("192.0.2.8", "192.0.2.8", "192.0.2.7", "192.0.2.11"):
        await lists.standing_of(ip_address(client), "any.example", 0.0)
    assert caplog.messages == [
        "the list any.example refuses to answer us: too many questions, or through a public resolver",
        "the list any.example answers again",
    ]


def test_names_of_addresses() -> None:
    assert listed_name(ip_address("192.0.2.99"), "z.example") == "99.2.0.192.z.example"
    # RFC 5782 section 2.4 has this one.
    assert listed_name(ip_address("2001:db8:1:2:3:4:567:89ab"), "ugly.example.com") == (
        "b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.8.b.d.0.1.0.0.2.ugly.example.com"
    )


@pytest.mark.parametrize(
    "codes",
    [
        "",
        "127.0.0",
        "127.0.0.256",
        "127.0.0.2-256",
        "127.0.0.9-4",
        "127.0.0.[2..11]",
        "10.0.0.1",
        "127.0.0.2,",
        "127.0.0.2-",
    ],
)
def test_what_is_no_code_is_a_mistake(codes: str) -> None:
    with pytest.raises(ConfigError, match=r"dnsbl.*zen\.example\.org=127\.0\.0\.2"):
        zone_of(f"zen.example.org={codes}")


def test_a_list_that_is_named_twice_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="twice"):
        zones_of(["zen.example.org", "Zen.example.org=127.0.0.2"])
