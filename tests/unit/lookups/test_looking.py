"""What is found out about events, all together: against a real server, with deadlines, and whatever clients write."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import dns.rcode
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reputation.clock import ManualClock
from reputation.config import LookupSettings
from reputation.contracts import Lookups
from reputation.errors import ConfigError
from reputation.events import Connect, Data, Event, Helo, Mail, Rcpt, Session
from reputation.facts import LookedUp, Lookup, Network
from reputation.lookups import looking as module
from reputation.lookups import resolver
from reputation.lookups.looking import Looking, check_lookups, open_lookups
from reputation.lookups.places import Share
from reputation.metrics import Metrics
from tests.dns_server import DnsServer, dns_server
from tests.unit.lookups.conftest import IMPATIENT, PATIENT
from tests.unit.lookups.test_resolver import until

EVERYTHING = frozenset(Lookup)
ZONE = """
7.2.0.192.in-addr.arpa. 600 PTR mail.example.org.
mail.example.org. 300 A 192.0.2.7
mail.example.org. 300 TXT "v=spf1 a -all"
7.2.0.192.black.example. 300 A 127.0.0.2
7.2.0.192.grey.example. 300 A 127.0.0.1
example.org. 100 TXT "v=spf1 ip4:192.0.2.7 -all"
local.example. 300 TXT "v=spf1 exists:%{l}.users.local.example -all"
alice.users.local.example. 300 A 127.0.0.2
"""
LISTS = ("black.example", "grey.example=127.0.0.9", "white.example")
HERE = Network(asn=64_500, country="AE", prefix="192.0.2.0/24")
SPF = LookedUp(network=HERE, spf="pass", spf_identity="alice@example.org")
FOUND = replace(SPF, iprev="pass", rdns="mail.example.org", dnsbl=("black.example",))


def session(client: str = "192.0.2.7", helo: str = "mail.example.org") -> Session:
    return Session(id="s", client=ip_address(client), helo=helo)


def mail(sender: str = "alice@example.org", client: str = "192.0.2.7", helo: str = "mail.example.org") -> Mail:
    return Mail(session=session(client, helo), sender=sender)


def settings_for(server: DnsServer, **others: object) -> LookupSettings:
    named = {"nameservers": [str(server.address)], "dnsbl": LISTS, "deadline_seconds": 20.0, **others}
    return LookupSettings.model_validate(named)


@pytest_asyncio.fixture
async def lookups(server: DnsServer, clock: ManualClock, metrics: Metrics) -> AsyncIterator[Lookups]:
    """Look-ups with a deadline that no busy machine misses."""
    server.load(ZONE)
    lookups = open_lookups(settings_for(server), metrics, clock=clock, waits=PATIENT)
    yield lookups
    await lookups.close()


@pytest_asyncio.fixture
async def pressed(server: DnsServer, clock: ManualClock) -> AsyncIterator[Lookups]:
    """Look-ups with a deadline that is soon over."""
    server.load(ZONE)
    lookups = open_lookups(settings_for(server, deadline_seconds=0.1), clock=clock, waits=PATIENT)
    yield lookups
    await lookups.close()


async def test_everything_together(lookups: Lookups) -> None:
    assert await lookups.look_up(mail(), EVERYTHING, HERE) == FOUND


async def test_only_what_is_wanted_is_asked_about(server: DnsServer, lookups: Lookups) -> None:
    assert await lookups.look_up(mail(), frozenset(), HERE) == LookedUp(network=HERE)
    assert server.questions == 0
    assert await lookups.look_up(mail(), frozenset({Lookup.SPF}), HERE) == SPF
    assert server.asked == {("example.org", "TXT"): 1}


@pytest.mark.parametrize(
    ("event", "spf"),
    [
        (Connect(session=session()), ""),
        (Helo(session=session()), ""),
        (mail(), "pass"),
        (mail(""), "pass"),
        (mail("", helo="[192.0.2.7]"), "none"),
        (mail("alice@localhost"), "none"),
        (Rcpt(session=session(), sender="alice@example.org", recipient="bob@example.net"), "pass"),
        (Data(session=session(), sender="alice@example.org", recipients=("bob@example.net",), message_bytes=1), "pass"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Connect | Helo | Mail | Rcpt | Data) else str(value),
)
async def test_the_sender_is_checked_as_soon_as_there_is_one(lookups: Lookups, event: Event, spf: str) -> None:
    assert (await lookups.look_up(event, EVERYTHING, HERE)).spf == spf


async def test_an_ipv4_client_on_a_socket_for_both_is_an_ipv4_client(lookups: Lookups) -> None:
    assert await lookups.look_up(mail(client="::ffff:192.0.2.7"), EVERYTHING, HERE) == FOUND


# What is remembered


async def test_what_is_remembered_needs_no_turn_of_the_loop(lookups: Lookups, server: DnsServer) -> None:
    await lookups.look_up(mail(), EVERYTHING, HERE)
    asked = server.questions
    waiting = lookups.look_up(mail(), EVERYTHING, HERE)
    with pytest.raises(StopIteration) as done:
        waiting.__await__().send(None)
    assert done.value.value == FOUND
    assert server.questions == asked


async def test_facts_end_with_the_answers_that_they_rest_on(
    lookups: Lookups, server: DnsServer, clock: ManualClock
) -> None:
    await lookups.look_up(mail(), EVERYTHING, HERE)
    clock.advance(99.0)
    await lookups.look_up(mail(), EVERYTHING, HERE)
    assert server.asked["example.org", "TXT"] == 1
    clock.advance(2.0)
    server.load(ZONE.replace("ip4:192.0.2.7", "ip4:192.0.2.8"))
    assert (await lookups.look_up(mail(), EVERYTHING, HERE)).spf == "fail"
    assert server.asked["7.2.0.192.in-addr.arpa", "PTR"] == 1


async def test_a_failure_is_not_asked_about_again_at_once(
    lookups: Lookups, server: DnsServer, clock: ManualClock
) -> None:
    server.rcode = dns.rcode.SERVFAIL
    lists = ("black.example", "grey.example", "white.example")
    failed = replace(SPF, iprev="temperror", dnsbl_temperror=lists, spf="temperror")
    assert await lookups.look_up(mail(), EVERYTHING, HERE) == failed
    asked = server.questions
    server.rcode = dns.rcode.NOERROR
    assert await lookups.look_up(mail(), EVERYTHING, HERE) == failed
    assert server.questions == asked
    clock.advance(5.1)
    assert await lookups.look_up(mail(), EVERYTHING, HERE) == FOUND


async def test_what_holds_for_one_sender_does_not_hold_for_another(lookups: Lookups) -> None:
    wanted = frozenset({Lookup.SPF})
    senders = ["alice@local.example", "bob@local.example"] * 2
    together = await asyncio.gather(*(lookups.look_up(mail(sender), wanted, HERE) for sender in senders))
    assert [found.spf for found in together] == ["pass", "fail"] * 2
    assert [(await lookups.look_up(mail(sender), wanted, HERE)).spf for sender in senders] == ["pass", "fail"] * 2


async def test_what_holds_for_a_domain_is_shared_by_its_senders(lookups: Lookups, server: DnsServer) -> None:
    wanted = frozenset({Lookup.SPF})
    await lookups.look_up(mail("alice@example.org"), wanted, HERE)
    waiting = lookups.look_up(mail("bob@example.org", helo="other.example"), wanted, HERE)
    with pytest.raises(StopIteration):
        waiting.__await__().send(None)


# The deadline


async def test_what_does_not_come_in_time_is_a_temperror_and_the_rest_is_not(
    server: DnsServer, pressed: Lookups
) -> None:
    server.silent_about = {"7.2.0.192.white.example", "mail.example.org"}
    async with asyncio.timeout(10.0):
        found = await pressed.look_up(mail(), EVERYTHING, HERE)
    assert found == replace(SPF, iprev="temperror", dnsbl=("black.example",), dnsbl_temperror=("white.example",))


async def test_what_comes_late_is_there_for_the_next_event(server: DnsServer, pressed: Lookups) -> None:
    assert isinstance(pressed, Looking)
    server.gate = asyncio.Event()
    first = await pressed.look_up(mail(), EVERYTHING, HERE)
    assert (first.iprev, first.dnsbl, first.spf) == ("temperror", (), "temperror")
    server.gate.set()
    await until(lambda: not pressed.under_way)
    asked = server.questions
    assert await pressed.look_up(mail(), EVERYTHING, HERE) == FOUND
    assert server.questions == asked


async def test_without_any_answer_everything_is_a_temperror(server: DnsServer, clock: ManualClock) -> None:
    server.is_silent = True
    lookups = open_lookups(settings_for(server), clock=clock, waits=IMPATIENT)
    found = await lookups.look_up(mail(), EVERYTHING, HERE)
    assert (found.iprev, found.spf, len(found.dnsbl_temperror)) == ("temperror", "temperror", 3)
    await lookups.close()


async def test_who_stops_waiting_stops_nobody_else(server: DnsServer, lookups: Lookups) -> None:
    server.gate = asyncio.Event()
    first, second = (asyncio.create_task(lookups.look_up(mail(), EVERYTHING, HERE)) for _ in range(2))
    await until(lambda: server.questions >= 5)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.gate.set()
    assert await second == FOUND
    assert max(server.asked.values()) == 1


async def test_many_events_about_the_same_ask_once(server: DnsServer, lookups: Lookups) -> None:
    found = await asyncio.gather(*(lookups.look_up(mail(), EVERYTHING, HERE) for _ in range(30)))
    assert all(each == FOUND for each in found)
    assert max(server.asked.values()) == 1


async def test_facts_under_way_are_bounded(
    server: DnsServer, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    for lookup, places in ((Lookup.IPREV, 1), (Lookup.DNSBL, 3), (Lookup.SPF, 1)):
        monkeypatch.setitem(module.SHARES, lookup, Share(places, places))
    server.gate = asyncio.Event()
    first = asyncio.create_task(lookups.look_up(mail(), EVERYTHING, HERE))
    await until(lambda: server.questions >= 2)
    second = await lookups.look_up(mail(client="192.0.2.8"), EVERYTHING, HERE)
    assert (second.iprev, second.spf, len(second.dnsbl_temperror)) == ("temperror", "temperror", 3)
    server.gate.set()
    assert await first == FOUND


async def test_facts_of_one_kind_do_not_take_the_places_of_another(
    server: DnsServer, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.SHARES, "spf", Share(1, 1))
    server.silent_about = {"evil.example"}
    slow = asyncio.create_task(lookups.look_up(mail("a@evil.example", "203.0.113.5"), frozenset({Lookup.SPF}), HERE))
    await until(lambda: server.questions)
    found = await lookups.look_up(mail(), EVERYTHING, HERE)
    assert (found.spf, found.iprev, found.dnsbl, found.dnsbl_temperror) == (
        "temperror", "pass", ("black.example",), ()
    )  # fmt: skip
    await lookups.close()
    await slow


@pytest.mark.parametrize(
    ("near", "far"),
    [("203.0.113.{}", "203.0.114.1"), ("2001:db8:1:{}::1", "2001:db8:2::1")],
    ids=["a /24", "a /48"],
)
async def test_clients_of_one_network_have_a_share_of_what_is_under_way(
    server: DnsServer, lookups: Lookups, near: str, far: str
) -> None:
    assert isinstance(lookups, Looking)
    spf = frozenset({Lookup.SPF})
    domains = [f"evil{number}.example" for number in range(30)]
    server.silent_about = set(domains)
    events = [mail(f"a@{domain}", near.format(number)) for number, domain in enumerate(domains)]
    slow = [asyncio.create_task(lookups.look_up(event, spf, HERE)) for event in events]
    await until(lambda: server.questions >= 20)
    assert lookups.under_way == 20
    assert (await lookups.look_up(mail(client=near.format(99)), spf, HERE)).spf == "temperror"
    assert (await lookups.look_up(mail(client=far), spf, HERE)).spf == "fail"
    assert (await lookups.look_up(mail(client=near.format(98)), frozenset({Lookup.DNSBL}), HERE)).dnsbl_temperror == ()
    await lookups.close()
    await asyncio.gather(*slow)


async def test_places_of_facts_are_given_back(lookups: Lookups) -> None:
    for number in range(50):
        found = await lookups.look_up(mail(f"a@d{number}.example"), frozenset({Lookup.SPF}), HERE)
        assert found.spf == "none"


async def test_each_list_has_its_share_of_the_clients_of_a_network(lookups: Lookups) -> None:
    events = [mail(client=f"192.0.2.{number}") for number in range(10, 25)]
    found = await asyncio.gather(*(lookups.look_up(event, frozenset({Lookup.DNSBL}), HERE) for event in events))
    assert {each.dnsbl_temperror for each in found} == {()}


async def test_lists_and_reverse_names_are_asked_though_all_questions_of_policies_are_taken(
    lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(resolver.SHARES, Lookup.SPF, Share(0, 0))
    assert await lookups.look_up(mail(), EVERYTHING, HERE) == replace(FOUND, spf="temperror")


async def test_a_stranger_whose_name_servers_are_silent_takes_no_answer_from_others(
    server: DnsServer, lookups: Lookups
) -> None:
    assert isinstance(lookups, Looking)
    names = [(number, f"s{number}.d{domain}.evil.example") for domain in range(60) for number in range(10)]
    exchanges = [f"{name.partition('.')[2]}. 300 MX {number} {name}." for number, name in names]
    policies = [f'd{domain}.evil.example. 300 TXT "v=spf1 mx -all"' for domain in range(60)]
    server.load("\n".join([ZONE, *exchanges, *policies]))
    server.silent_about = {name for _, name in names}
    attack = [
        asyncio.create_task(lookups.look_up(mail(f"a@d{domain}.evil.example", f"203.{domain}.113.5"), EVERYTHING, HERE))
        for domain in range(60)
    ]
    await until(lambda: sum(1 for name, kind in server.asked if name in server.silent_about) >= 20)
    assert await lookups.look_up(mail(), EVERYTHING, HERE) == FOUND
    await until(lambda: lookups.under_way <= 20)
    assert sum(1 for name, _ in server.asked if name in server.silent_about) == 20
    await lookups.close()
    await asyncio.gather(*attack)


async def test_whoever_waits_when_it_ends_gets_temperrors(server: DnsServer, lookups: Lookups) -> None:
    server.gate = asyncio.Event()
    waiting = asyncio.create_task(lookups.look_up(mail(), EVERYTHING, HERE))
    await until(lambda: server.questions >= 5)
    await lookups.close()
    assert (await waiting).iprev == "temperror"
    assert (await lookups.look_up(mail(), EVERYTHING, HERE)).spf == "temperror"


async def test_a_bug_costs_a_fact_and_no_event(
    lookups: Lookups, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(module, "iprev_of", broken)
    found = await lookups.look_up(mail(), EVERYTHING, HERE)
    assert (found.iprev, found.spf) == ("temperror", "pass")
    assert "a look-up has failed: iprev" in caplog.text


async def test_what_was_found_is_counted(lookups: Lookups, metrics: Metrics) -> None:
    for _ in range(2):
        await lookups.look_up(mail(), EVERYTHING, HERE)

    def count(lookup: str, result: str) -> float | None:
        return metrics.registry.get_sample_value("reputon_lookups_total", {"lookup": lookup, "result": result})

    assert (count("iprev", "pass"), count("spf", "pass")) == (2, 2)
    assert (count("dnsbl", "listed"), count("dnsbl", "clear")) == (2, 4)
    assert (count("dns", "found"), count("dns", "nxdomain")) == (5, 1)
    seconds = metrics.registry.get_sample_value("reputon_lookup_seconds_count", {"lookup": "dnsbl"})
    assert seconds == 3


# Whatever clients write

texts = (
    st.text(max_size=300)
    | st.text('a.-@[]:"\\ %{}\0\udce9', max_size=300)
    | st.sampled_from(
        ["a." * 2_600, "x" * 5_000, "\u00fc" * 5_000, "@" * 300, "%{l}" * 100, "xn--" * 60, "\ud800", "a\r\nb"]
    )
)
senders = texts | st.builds("{}@{}".format, texts, texts)
clients = st.ip_addresses()


async def test_whatever_a_client_writes_nothing_raises(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="reputon.lookups")
    async with dns_server(ZONE) as server:
        lookups = open_lookups(settings_for(server), clock=ManualClock(), waits=PATIENT)
        loop = asyncio.get_running_loop()

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(client=clients, helo=texts, sender=senders)
        def looked_up(client: object, helo: str, sender: str) -> None:
            event = mail(sender, str(client), helo)
            found = asyncio.run_coroutine_threadsafe(lookups.look_up(event, EVERYTHING, Network()), loop).result(60.0)
            assert found.iprev == "permerror" and found.spf in {"none", "permerror", "fail", "pass"}

        await asyncio.to_thread(looked_up)
        await lookups.close()
    assert caplog.messages == []


records = st.text("v=spf1 +-~?:/%{}lsdhirpvot0123456789.allmxaptrinclude_redirectexists", max_size=200)


async def test_whatever_a_record_says_nothing_raises(caplog: pytest.LogCaptureFixture) -> None:
    async with dns_server() as server:
        clock = ManualClock()
        lookups = open_lookups(settings_for(server), clock=clock, waits=PATIENT)
        loop = asyncio.get_running_loop()

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(record=records)
        def looked_up(record: str) -> None:
            server.load(f'fuzz.example. 1 TXT "v=spf1 {record}"\nfuzz.example. 1 MX 0 fuzz.example.')
            clock.advance(4_000.0)
            waiting = lookups.look_up(mail("alice@fuzz.example"), frozenset({Lookup.SPF}), Network())
            assert asyncio.run_coroutine_threadsafe(waiting, loop).result(60.0).spf != "temperror"

        await asyncio.to_thread(looked_up)
        await lookups.close()
    assert caplog.messages == []


# Settings


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nameservers": ["dns.example.org"]}, "nameservers"),
        ({"dnsbl": ["zen.example.org=127.0.0.999"]}, "dnsbl"),
        ({"asn_table": "/nowhere/asn.dat"}, "asn_table"),
    ],
)
def test_what_cannot_be_used_is_a_mistake(wrong: dict[str, object], said: str) -> None:
    for check in (check_lookups, open_lookups):
        with pytest.raises(ConfigError, match=said):
            check(LookupSettings.model_validate(wrong))


async def test_networks_come_out_of_the_table(tmp_path: Path) -> None:
    file = tmp_path / "asn.dat"
    file.write_text("192.0.2.0/24\t64500\n")
    chosen = LookupSettings(asn_table=str(file), nameservers=("192.0.2.53",))
    check_lookups(chosen)
    lookups = open_lookups(chosen)
    assert lookups.network(ip_address("::ffff:192.0.2.7")) == Network(asn=64_500, prefix="192.0.2.0/24")
    assert lookups.network(ip_address("198.51.100.1")) == Network()
    assert open_lookups(LookupSettings(nameservers=("192.0.2.53",))).network(ip_address("192.0.2.7")) == Network()
    await lookups.close()
