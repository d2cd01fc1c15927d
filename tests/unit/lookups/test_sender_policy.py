"""SPF, against a real server: each word, the limits, and who is asked about."""

from ipaddress import ip_address

import dns.rcode
import pytest

from reputation.lookups.resolver import Resolver
from reputation.lookups.sender_policy import MAX_RECORD_OCTETS, Found, Identity, identity_of, policy_of
from tests.dns_server import DnsServer

ZONE = (
    """
pass.example. 300 TXT "v=spf1 ip4:192.0.2.7 -all"
pass.example. 300 TXT "something=else"
softfail.example. 300 TXT "v=spf1 ~all"
neutral.example. 300 TXT "v=spf1 ?all"
silent.example. 300 TXT "v=spf1 ip4:198.51.100.1"
nothing.example. 300 TXT "no policy"
two.example. 300 TXT "v=spf1 -all"
two.example. 300 TXT "v=spf1 +all"
broken.example. 300 TXT "v=spf1 moo -all"
latin.example. 300 TXT "v=spf1 exists:b\\252cher.example -all"
include.example. 300 TXT "v=spf1 include:pass.example -all"
includesnothing.example. 300 TXT "v=spf1 include:nothing.example -all"
includeself.example. 300 TXT "v=spf1 include:ring.example -all"
ring.example. 300 TXT "v=spf1 include:includeself.example -all"
redirect.example. 300 TXT "v=spf1 redirect=pass.example"
redirectnowhere.example. 300 TXT "v=spf1 redirect=nowhere.example"
split.example. 300 TXT "v=spf1 ip4:192." "0.2.7 -all"
a.example. 300 TXT "v=spf1 a -all"
a.example. 300 A 192.0.2.7
net.example. 300 TXT "v=spf1 a:a.example/24 -all"
six.example. 300 TXT "v=spf1 ip6:2001:db8::/32 -all"
mx.example. 300 TXT "v=spf1 mx -all"
mx.example. 300 MX 10 one.mx.example.
mx.example. 300 MX 20 two.mx.example.
one.mx.example. 300 A 192.0.2.1
two.mx.example. 300 A 192.0.2.7
two.mx.example. 300 AAAA 2001:db8::7
nullmx.example. 300 TXT "v=spf1 mx -all"
nullmx.example. 300 MX 0 .
ptr.example. 300 TXT "v=spf1 ptr -all"
7.2.0.192.in-addr.arpa. 300 PTR mail.ptr.example.
7.2.0.192.in-addr.arpa. 300 PTR gone.ptr.example.
mail.ptr.example. 300 A 192.0.2.7
exists.example. 300 TXT "v=spf1 exists:%{ir}.%{v}.list.exists.example -all"
7.2.0.192.in-addr.list.exists.example. 300 A 127.0.0.2
local.example. 300 TXT "v=spf1 exists:%{l}.users.local.example -all"
alice.users.local.example. 300 A 127.0.0.2
helo.example. 300 TXT "v=spf1 exists:%{h}.known.helo.example -all"
mx.host.example.known.helo.example. 300 A 127.0.0.2
mx.host.example. 300 TXT "v=spf1 ip4:192.0.2.7 -all"
explained.example. 300 TXT "v=spf1 -all exp=why.explained.example"
why.explained.example. 300 TXT "because"
alias.example. 300 CNAME pass.example.
xn--bcher-kva.example. 300 TXT "v=spf1 +all"
macro.example. 300 TXT "v=spf1 exists:%{l99999999999999999999} -all"
void2.example. 300 TXT "v=spf1 a:v1.example a:v2.example +all"
void3.example. 300 TXT "v=spf1 a:v1.example a:v2.example a:v3.example +all"
ten.example. 300 TXT "v=spf1 TEN +all"
eleven.example. 300 TXT "v=spf1 TEN a:h0.example +all"
""".replace("TEN", " ".join(f"a:h{number}.example" for number in range(10)))
    + "".join(f"h{number}.example. 300 A 198.51.100.{number}\n" for number in range(10))
)
MANY_MX = 'many.example. 300 TXT "v=spf1 mx -all"\n' + "".join(
    f"many.example. 300 MX 10 m{number}.example.\n" for number in range(11)
)


async def check(resolver: Resolver, sender: str, client: str = "192.0.2.7", helo: str = "mx.host.example") -> Found:
    identity = identity_of(sender, helo)
    assert identity is not None
    return await policy_of(resolver, ip_address(client), identity, 0.0)


@pytest.mark.parametrize(
    ("domain", "word"),
    [
        ("pass", "pass"),
        ("softfail", "softfail"),
        ("neutral", "neutral"),
        ("silent", "neutral"),
        ("nothing", "none"),
        ("nowhere", "none"),
        ("two", "permerror"),
        ("broken", "permerror"),
        ("latin", "permerror"),
        ("include", "pass"),
        ("includesnothing", "permerror"),
        ("includeself", "permerror"),
        ("redirect", "pass"),
        ("redirectnowhere", "permerror"),
        ("split", "pass"),
        ("a", "pass"),
        ("net", "pass"),
        ("six", "fail"),
        ("mx", "pass"),
        ("nullmx", "fail"),
        ("ptr", "pass"),
        ("exists", "pass"),
        ("explained", "fail"),
        ("alias", "pass"),
        ("macro", "fail"),
        ("void2", "pass"),
        ("void3", "permerror"),
        ("ten", "pass"),
        ("eleven", "permerror"),
    ],
)
async def test_words(server: DnsServer, resolver: Resolver, domain: str, word: str) -> None:
    server.load(ZONE)
    assert (await check(resolver, f"alice@{domain}.example")).word == word
    assert not server.asked["why.explained.example", "TXT"]


@pytest.mark.parametrize(
    ("sender", "client", "word"),
    [
        ("alice@pass.example", "192.0.2.8", "fail"),
        ("alice@include.example", "192.0.2.8", "fail"),
        ("alice@net.example", "192.0.2.200", "pass"),
        ("alice@six.example", "2001:db8::9", "pass"),
        ("alice@mx.example", "2001:db8::7", "pass"),
        ("alice@mx.example", "192.0.2.8", "fail"),
        ("alice@ptr.example", "192.0.2.8", "fail"),
        ("alice@local.example", "192.0.2.7", "pass"),
        ("bob@local.example", "192.0.2.7", "fail"),
        ("\udce9@local.example", "192.0.2.7", "fail"),
        ("ali\0ce@local.example", "192.0.2.7", "fail"),
        ('"a@b"@pass.example', "192.0.2.7", "pass"),
        ("alice@helo.example", "192.0.2.7", "pass"),
        ("alice@B\u00fccher.example", "192.0.2.7", "pass"),
        ("@pass.example", "192.0.2.7", "pass"),
    ],
)
async def test_clients_and_senders(server: DnsServer, resolver: Resolver, sender: str, client: str, word: str) -> None:
    server.load(ZONE)
    assert (await check(resolver, sender, client)).word == word


async def test_the_null_sender_is_checked_by_the_name_of_the_host(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    assert (await check(resolver, "")).word == "pass"
    assert (await check(resolver, "", "192.0.2.8")).word == "fail"
    assert server.asked == {("mx.host.example", "TXT"): 1}


@pytest.mark.parametrize(
    ("sender", "helo"),
    [
        ("", ""),
        ("", "[192.0.2.7]"),
        ("", "localhost"),
        ("", "a..example"),
        ("alice", "mx.host.example"),
        ("alice@", "mx.host.example"),
        ("alice@localhost", "mx.host.example"),
        ("alice@[192.0.2.7]", "mx.host.example"),
        ("alice@a b.example", "mx.host.example"),
        ("alice@" + "x" * 64 + ".example", "mx.host.example"),
        ("alice@" + "x." * 5_000 + "example", "mx.host.example"),
        ("alice@\udce9.example", "mx.host.example"),
    ],
)
def test_where_nobody_can_be_asked_about(sender: str, helo: str) -> None:
    assert identity_of(sender, helo) is None


def test_a_name_of_a_host_that_is_none_is_unknown_to_records() -> None:
    assert identity_of("alice@pass.example", "a b") == Identity("pass.example", "alice", "unknown")
    identity = identity_of("x" * 500 + "@pass.example", "")
    assert identity is not None and len(identity.local) == 64


@pytest.mark.parametrize(
    ("name", "word"), [("h0.example", "temperror"), ("ten.example", "temperror"), ("h9.example", "temperror")]
)
async def test_a_failure_of_the_dns_is_a_temperror(server: DnsServer, resolver: Resolver, name: str, word: str) -> None:
    server.load(ZONE)
    server.rcodes[name] = dns.rcode.SERVFAIL
    assert (await check(resolver, "alice@ten.example")).word == word


@pytest.mark.parametrize("name", ["7.2.0.192.in-addr.arpa", "mail.ptr.example"])
async def test_a_reverse_name_that_gives_no_answer_does_not_match(
    server: DnsServer, resolver: Resolver, name: str
) -> None:
    server.load(ZONE)
    server.rcodes[name] = dns.rcode.SERVFAIL
    assert (await check(resolver, "alice@ptr.example")).word == "fail"


async def test_nobody_makes_an_error_of_a_policy_by_reverse_names_without_addresses(
    server: DnsServer, resolver: Resolver
) -> None:
    server.load(ZONE + "".join(f"7.2.0.192.in-addr.arpa. 300 PTR gone{number}.example.\n" for number in range(8)))
    server.rcodes["mail.ptr.example"] = dns.rcode.NXDOMAIN
    assert (await check(resolver, "alice@ptr.example")).word == "fail"


async def test_only_ten_reverse_names_are_tried(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE + "".join(f"7.2.0.192.in-addr.arpa. 300 PTR n{number}.example.\n" for number in range(40)))
    await check(resolver, "alice@ptr.example")
    assert server.questions == 12


async def test_more_than_ten_exchanges_are_an_error_and_are_not_asked_about(
    server: DnsServer, resolver: Resolver
) -> None:
    server.load(MANY_MX)
    assert (await check(resolver, "alice@many.example")).word == "permerror"
    assert server.questions == 2


def _amplified(*terms: int) -> str:
    """A policy with one "mx" term for each number, that has so many exchanges of a third party."""
    lines = [
        f'amplified.example. 300 TXT "v=spf1 {" ".join(f"mx:m{term}.evil.example" for term in range(len(terms)))} -all"'
    ]
    for term, exchanges in enumerate(terms):
        for number in range(exchanges):
            lines.append(f"m{term}.evil.example. 300 MX 10 h{number}-{term}.victim.example.")
            lines.append(f"h{number}-{term}.victim.example. 300 A 203.0.113.1")
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("terms", "word", "asked"),
    [
        ((10, 10), "fail", 20),
        ((10, 10, 1), "permerror", 20),
        ((7, 7, 7), "permerror", 14),
        ((10,) * 10, "permerror", 20),
    ],
    ids=str,
)
async def test_a_policy_puts_few_questions_to_a_third_party(
    server: DnsServer, resolver: Resolver, terms: tuple[int, ...], word: str, asked: int
) -> None:
    server.load(_amplified(*terms))
    assert (await check(resolver, "alice@amplified.example")).word == word
    assert sum(times for (name, _), times in server.asked.items() if name.endswith(".victim.example")) == asked


async def test_the_same_exchanges_count_once(server: DnsServer, resolver: Resolver) -> None:
    terms = " ".join(f"mx:m{term}.example" for term in range(4))
    exchanges = [f"m{term}.example. 300 MX 10 h{number}.example." for term in range(4) for number in range(10)]
    server.load("\n".join([ZONE, f'same.example. 300 TXT "v=spf1 {terms} -all"', *exchanges]))
    assert (await check(resolver, "alice@same.example")).word == "fail"


async def test_reverse_names_make_no_error_of_a_policy_with_many_exchanges(
    server: DnsServer, resolver: Resolver
) -> None:
    reverse = [f"7.2.0.192.in-addr.arpa. 300 PTR n{number}.client.example." for number in range(10)]
    server.load("\n".join([_amplified(10, 10).replace("v=spf1 ", "v=spf1 ptr "), *reverse]))
    assert (await check(resolver, "alice@amplified.example")).word == "fail"


async def test_the_exchanges_are_asked_about_together(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    await check(resolver, "alice@mx.example")
    assert server.asked.keys() == {
        ("mx.example", "TXT"),
        ("mx.example", "MX"),
        ("one.mx.example", "A"),
        ("two.mx.example", "A"),
    }


@pytest.mark.parametrize("long", [" a:" + "x." * 300 + "example", " ip4:198.51.100.1" * (MAX_RECORD_OCTETS // 16)])
async def test_records_and_terms_are_bounded(server: DnsServer, resolver: Resolver, long: str) -> None:
    text = f"v=spf1{long} -all"
    server.load("long.example. 300 TXT " + " ".join(f'"{text[at : at + 250]}"' for at in range(0, len(text), 250)))
    assert (await check(resolver, "alice@long.example")).word == "permerror"


async def test_what_holds_for_one_sender_only_is_told_apart(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    personal = {
        name: (await check(resolver, f"alice@{name}.example")).is_personal
        for name in ("pass", "local", "helo", "exists")
    }
    assert personal == {"pass": False, "local": True, "helo": True, "exists": False}


async def test_it_holds_as_long_as_the_answers(server: DnsServer, resolver: Resolver) -> None:
    server.load('short.example. 77 TXT "v=spf1 a -all"\nshort.example. 33 A 192.0.2.7')
    assert (await check(resolver, "alice@short.example")).expires == 1_033.0
