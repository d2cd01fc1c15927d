"""The reverse name of a client, confirmed forward, against a real server."""

import asyncio
from ipaddress import ip_address

import dns.rcode
import pytest

from reputation.clock import ManualClock
from reputation.lookups.iprev import MAX_NAMES, iprev_of
from reputation.lookups.resolver import Resolver
from tests.dns_server import NEGATIVE_SECONDS, DnsServer
from tests.unit.lookups.test_resolver import until

ZONE = """
7.2.0.192.in-addr.arpa. 600 PTR Mail.Example.ORG.
mail.example.org. 300 A 192.0.2.7
8.2.0.192.in-addr.arpa. 600 PTR liar.example.org.
liar.example.org. 300 A 192.0.2.1
9.2.0.192.in-addr.arpa. 600 PTR nowhere.example.org.
10.2.0.192.in-addr.arpa. 600 PTR z.example.org.
10.2.0.192.in-addr.arpa. 600 PTR liar.example.org.
10.2.0.192.in-addr.arpa. 600 PTR b.example.org.
z.example.org. 300 A 192.0.2.10
b.example.org. 300 A 192.0.2.1
b.example.org. 300 A 192.0.2.10
11.2.0.192.in-addr.arpa. 600 PTR odd\\032name.example.org.
odd\\032name.example.org. 300 A 192.0.2.11
12.2.0.192.in-addr.arpa. 600 CNAME 12.sub.2.0.192.in-addr.arpa.
12.sub.2.0.192.in-addr.arpa. 600 PTR twelve.example.org.
twelve.example.org. 300 CNAME other.example.org.
other.example.org. 300 A 192.0.2.12
13.2.0.192.in-addr.arpa. 600 TXT "no name"
7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 600 PTR six.example.org.
six.example.org. 300 AAAA 2001:db8::7
"""
MANY = "".join(f"7.2.0.192.in-addr.arpa. 600 PTR n{number:02}.example.org.\n" for number in range(50))


@pytest.mark.parametrize(
    ("client", "word", "name"),
    [
        pytest.param("192.0.2.7", "pass", "mail.example.org", id="confirmed"),
        pytest.param("192.0.2.8", "fail", "", id="another address"),
        pytest.param("192.0.2.9", "fail", "", id="no address"),
        pytest.param("192.0.2.10", "pass", "b.example.org", id="the first of two"),
        pytest.param("192.0.2.11", "fail", "", id="no host name"),
        pytest.param("192.0.2.12", "pass", "twelve.example.org", id="delegated by RFC 2317"),
        pytest.param("192.0.2.13", "permerror", "", id="no PTR record"),
        pytest.param("192.0.2.99", "permerror", "", id="no such name"),
        pytest.param("2001:db8::7", "pass", "six.example.org", id="IPv6"),
        pytest.param("2001:db8::8", "permerror", "", id="no such name of IPv6"),
    ],
)
async def test_iprev(server: DnsServer, resolver: Resolver, client: str, word: str, name: str) -> None:
    server.load(ZONE)
    assert (await iprev_of(resolver, ip_address(client)))[:2] == (word, name)


@pytest.mark.parametrize("failing", ["7.2.0.192.in-addr.arpa", "Mail.Example.ORG"])
async def test_a_failure_of_the_dns_is_a_temperror(server: DnsServer, resolver: Resolver, failing: str) -> None:
    server.load(ZONE)
    server.rcodes = {failing: dns.rcode.SERVFAIL, failing.lower(): dns.rcode.SERVFAIL}
    assert (await iprev_of(resolver, ip_address("192.0.2.7")))[0] == "temperror"


async def test_a_confirmed_name_is_a_pass_even_if_another_gives_no_answer(
    server: DnsServer, resolver: Resolver
) -> None:
    server.load(ZONE)
    server.rcodes = {"liar.example.org": dns.rcode.SERVFAIL, "b.example.org": dns.rcode.SERVFAIL}
    assert (await iprev_of(resolver, ip_address("192.0.2.10")))[:2] == ("pass", "z.example.org")


async def test_only_so_many_names_are_tried(server: DnsServer, resolver: Resolver) -> None:
    server.load(MANY)
    assert (await iprev_of(resolver, ip_address("192.0.2.7")))[0] == "fail"
    assert server.questions == 1 + MAX_NAMES


async def test_it_holds_as_long_as_the_answers(server: DnsServer, resolver: Resolver, clock: ManualClock) -> None:
    server.load(ZONE)
    assert (await iprev_of(resolver, ip_address("192.0.2.7")))[2] == clock.monotonic() + 300
    assert (await iprev_of(resolver, ip_address("192.0.2.9")))[2] == clock.monotonic() + NEGATIVE_SECONDS


async def test_the_names_of_a_client_are_asked_about_a_few_at_once(server: DnsServer, resolver: Resolver) -> None:
    names = [f"n{number}.evil{number}.example" for number in range(10)]
    server.load("".join(f"7.2.0.192.in-addr.arpa. 300 PTR {name}.\n" for name in names))
    server.silent_about = set(names)
    waiting = asyncio.create_task(iprev_of(resolver, ip_address("192.0.2.7")))
    await until(lambda: server.questions >= 6)
    assert resolver.under_way == 5
    await resolver.close()
    assert (await waiting)[0] == "temperror"
