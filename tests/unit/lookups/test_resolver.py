"""Questions and answers against a real server on loopback."""

import asyncio
import logging
import random
import socket
from pathlib import Path

import dns.rcode
import pytest

from reputation.clock import ManualClock
from reputation.errors import ConfigError
from reputation.facts import Lookup
from reputation.lookups import exchange, outage
from reputation.lookups import resolver as module
from reputation.lookups.answers import MAX_RECORDS, Answer
from reputation.lookups.exchange import Server
from reputation.lookups.outage import NEUTRAL
from reputation.lookups.places import Share
from reputation.lookups.resolver import Resolver, server_of, servers_of
from reputation.metrics import Metrics
from tests.dns_server import NEGATIVE_SECONDS, DnsServer, dns_server
from tests.unit.lookups.conftest import IMPATIENT, PATIENT

ZONE = """
mail.example.org. 300 A 192.0.2.7
mail.example.org. 300 AAAA 2001:db8::7
alias.example.org. 20 CNAME mail.example.org.
loop.example.org. 300 CNAME pool.example.org.
pool.example.org. 300 CNAME loop.example.org.
dangling.example.org. 300 CNAME nowhere.example.org.
example.org. 300 MX 10 mail.example.org.
example.org. 300 MX 20 .
example.org. 300 TXT "v=spf1 " "-all"
7.2.0.192.in-addr.arpa. 300 PTR Mail.Example.ORG.
8.2.0.192.in-addr.arpa. 300 PTR odd\\.dot.example.org.
8.2.0.192.in-addr.arpa. 300 PTR spa\\032ce.example.org.
short.example.org. 1 A 192.0.2.1
long.example.org. 999999 A 192.0.2.2
"""
MANY = "".join(f"many.example.org. 300 A 10.{number // 256}.{number % 256}.1\n" for number in range(400))
ROOT_SOA = (NEUTRAL[0] or ".", NEUTRAL[1])
"""The neutral question, as the server calls it."""
HUGE = "".join(f'huge.example.org. 300 TXT "{"x" * 200}{number}"\n' for number in range(200))


async def until(condition: object, seconds: float = 10.0) -> None:
    """Wait until a function says so."""
    assert callable(condition)
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("name", "kind", "status", "records"),
    [
        ("mail.example.org", "A", "found", ("192.0.2.7",)),
        ("MAIL.example.org.", "AAAA", "found", ("2001:db8::7",)),
        ("alias.example.org", "A", "found", ("192.0.2.7",)),
        ("example.org", "MX", "found", ((10, "mail.example.org"),)),
        ("example.org", "TXT", "found", (b"v=spf1 -all",)),
        ("7.2.0.192.in-addr.arpa", "PTR", "found", ("mail.example.org",)),
        ("8.2.0.192.in-addr.arpa", "PTR", "found", ()),
        ("example.org", "A", "nodata", ()),
        ("org", "A", "nodata", ()),
        ("nowhere.example.org", "A", "nxdomain", ()),
        ("dangling.example.org", "A", "nxdomain", ()),
        ("loop.example.org", "A", "temperror", ()),
    ],
)
async def test_answers(
    server: DnsServer, resolver: Resolver, name: str, kind: str, status: str, records: tuple[object, ...]
) -> None:
    server.load(ZONE)
    answer = await resolver.ask(name, kind)
    assert (answer.status, answer.records) == (status, records)


@pytest.mark.parametrize(
    "name", ["", ".", "a..b", "x" * 64, "a." * 200 + "b", "b\u00fccher.example", "a b.example", "a\udce9.example", "\0"]
)
async def test_what_is_no_name_is_not_asked_about(server: DnsServer, resolver: Resolver, name: str) -> None:
    assert (await resolver.ask(name, "A")).status == "nxdomain"
    assert server.questions == 0


async def test_a_backslash_in_a_name_is_no_escape(server: DnsServer, resolver: Resolver) -> None:
    server.load(r"a\\046b.example. 300 A 192.0.2.1" + "\n" + r"a\.b.example. 300 A 192.0.2.2")
    assert (await resolver.ask(r"a\046b.example", "A")).records == ("192.0.2.1",)


async def test_only_so_many_records_are_looked_at(server: DnsServer, resolver: Resolver) -> None:
    server.load(MANY)
    assert len((await resolver.ask("many.example.org", "A")).records) == MAX_RECORDS


# What goes wrong


async def test_truncated_answers_come_over_tcp(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    server.is_truncating = True
    assert (await resolver.ask("mail.example.org", "A")).records == ("192.0.2.7",)
    assert server.asked_over_tcp == {("mail.example.org", "A"): 1}


async def test_a_huge_answer_is_not_read(server: DnsServer, resolver: Resolver) -> None:
    server.load(HUGE)
    assert (await resolver.ask("huge.example.org", "TXT")).status == "temperror"
    assert server.asked_over_tcp.total() == 1


async def test_an_answer_with_another_id_is_passed_over(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    server.has_wrong_id = True
    assert (await resolver.ask("mail.example.org", "A")).records == ("192.0.2.7",)


async def test_noise_is_passed_over(clock: ManualClock, metrics: Metrics) -> None:
    numbers = random.Random(7)

    class Noise(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
            assert isinstance(self.transport, asyncio.DatagramTransport)
            head = data[:2] + bytes([0x81, 0x80])
            for size in (0, 1, 20, 200, 5_000):
                self.transport.sendto(numbers.randbytes(size), client)
                self.transport.sendto(head + numbers.randbytes(size), client)
            self.transport.sendto(head + data[4:] + numbers.randbytes(9), client)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Noise, local_addr=("127.0.0.1", 0))
    address = Server(*transport.get_extra_info("sockname"))
    resolver = Resolver([address], most_cached=100, clock=clock, metrics=metrics, waits=IMPATIENT)
    assert (await resolver.ask("mail.example.org", "A")).status in {"temperror", "nodata"}
    await resolver.close()
    transport.abort()


@pytest.mark.parametrize("rcode", [dns.rcode.SERVFAIL, dns.rcode.REFUSED, dns.rcode.FORMERR, dns.rcode.YXDOMAIN])
async def test_a_failure_is_a_temperror_and_is_not_asked_about_again_at_once(
    server: DnsServer, resolver: Resolver, clock: ManualClock, rcode: dns.rcode.Rcode
) -> None:
    server.load(ZONE)
    server.rcode = rcode
    for _ in range(3):
        assert (await resolver.ask("mail.example.org", "A")).status == "temperror"
    assert server.questions == 1
    server.rcode = dns.rcode.NOERROR
    clock.advance(5.1)
    assert (await resolver.ask("mail.example.org", "A")).status == "found"


async def test_a_silent_server_is_asked_again_and_then_given_up(server: DnsServer, hasty: Resolver) -> None:
    server.is_silent = True
    for _ in range(2):
        assert (await hasty.ask("mail.example.org", "A")).status == "temperror"
    assert server.questions == len(IMPATIENT)


async def test_the_next_server_is_asked_and_the_silent_one_comes_last_from_then_on(
    server: DnsServer, clock: ManualClock, metrics: Metrics
) -> None:
    server.load(ZONE)
    async with dns_server() as silent:
        silent.is_silent = True
        addresses = [silent.address, server.address]
        resolver = Resolver(addresses, most_cached=100, clock=clock, metrics=metrics, waits=(0.2, *PATIENT))
        assert (await resolver.ask("mail.example.org", "A")).status == "found"
        assert (silences := silent.questions) >= 1
        assert (await resolver.ask("mail.example.org", "AAAA")).status == "found"
        assert silent.questions == silences
        clock.advance(outage.SHUNNED_SECONDS + 1)
        assert (await resolver.ask("example.org", "MX")).status == "found"
        assert silent.questions > silences
        await resolver.close()


@pytest.mark.parametrize("trouble", ["refuses", "is not there"])
async def test_a_server_that_cannot_help_is_passed_over_at_once(
    server: DnsServer, clock: ManualClock, metrics: Metrics, trouble: str
) -> None:
    server.load(ZONE)
    async with dns_server() as other:
        other.rcode = dns.rcode.REFUSED
        address = other.address
        if trouble == "is not there":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
                taken.bind(("127.0.0.1", 0))
                address = Server("127.0.0.1", taken.getsockname()[1])
        resolver = Resolver([address, server.address], most_cached=100, clock=clock, metrics=metrics, waits=(60.0,))
        async with asyncio.timeout(9.0):  # and not the minute that a silent one would have
            assert (await resolver.ask("mail.example.org", "A")).status == "found"
        await resolver.close()


async def test_without_servers_everything_is_a_temperror(clock: ManualClock, metrics: Metrics) -> None:
    resolver = Resolver([], most_cached=100, clock=clock, metrics=metrics)
    assert (await resolver.ask("mail.example.org", "A")).status == "temperror"


# What is remembered


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("mail.example.org", 300),
        ("alias.example.org", 20),
        ("short.example.org", 5),
        ("long.example.org", 3_600),
        ("nowhere.example.org", NEGATIVE_SECONDS),
        ("example.org", NEGATIVE_SECONDS),
    ],
)
async def test_an_answer_holds_for_its_time(
    server: DnsServer, resolver: Resolver, clock: ManualClock, name: str, seconds: int
) -> None:
    server.load(ZONE)
    first = await resolver.ask(name, "A")
    clock.advance(seconds - 0.1)
    assert await resolver.ask(name, "A") == first
    assert server.questions == 1
    clock.advance(0.2)
    await resolver.ask(name, "A")
    assert server.questions == 2


async def test_nothing_is_remembered_for_long_where_nobody_says_how_long(
    server: DnsServer, resolver: Resolver, clock: ManualClock
) -> None:
    server.has_soa = False
    for _ in range(2):
        assert (await resolver.ask("nowhere.example.org", "A")).status == "nxdomain"
        clock.advance(5.1)
    assert server.questions == 2


async def test_what_is_remembered_is_bounded(server: DnsServer, clock: ManualClock, metrics: Metrics) -> None:
    resolver = Resolver([server.address], most_cached=100, clock=clock, metrics=metrics, waits=PATIENT)
    for number in range(120):
        await resolver.ask(f"n{number}.example.org", "A")
    assert resolver.weight == 100
    await resolver.ask("n119.example.org", "A")
    assert server.questions == 120
    await resolver.ask("n0.example.org", "A")
    assert server.questions == 121
    server.load(MANY)
    await resolver.ask("many.example.org", "A")
    assert resolver.weight <= 100
    await resolver.close()


# Who waits


async def test_a_question_goes_out_once(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    answers = await asyncio.gather(*(resolver.ask("mail.example.org", "A") for _ in range(50)))
    assert set(answers) == {answers[0]} and answers[0].status == "found"
    assert server.questions == 1


async def test_who_stops_waiting_stops_nobody_else(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    server.gate = asyncio.Event()
    first, second = (asyncio.create_task(resolver.ask("mail.example.org", "A")) for _ in range(2))
    await until(lambda: server.questions)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    server.gate.set()
    assert (await second).status == "found"
    assert server.questions == 1


async def test_an_answer_for_which_nobody_waits_is_remembered(server: DnsServer, resolver: Resolver) -> None:
    server.load(ZONE)
    server.gate = asyncio.Event()
    alone = asyncio.create_task(resolver.ask("mail.example.org", "A"))
    await until(lambda: server.questions)
    alone.cancel()
    server.gate.set()
    await until(lambda: not resolver.under_way)
    assert (await resolver.ask("mail.example.org", "A")).status == "found"
    assert server.questions == 1


async def test_questions_under_way_are_bounded(
    server: DnsServer, resolver: Resolver, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.SHARES, Lookup.SPF, Share(3, 3))
    server.gate = asyncio.Event()
    waiting = [asyncio.create_task(resolver.ask(f"n{number}.example.org", "A")) for number in range(3)]
    await until(lambda: server.questions == 3)
    assert (await resolver.ask("n3.example.org", "A")).status == "temperror"
    assert metrics.registry.get_sample_value("reputon_lookups_total", {"lookup": "dns", "result": "refused"}) == 1
    server.gate.set()
    assert {answer.status for answer in await asyncio.gather(*waiting)} == {"nxdomain"}
    assert (await resolver.ask("n3.example.org", "A")).status == "nxdomain"


async def test_questions_of_one_purpose_do_not_take_the_places_of_another(
    server: DnsServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.SHARES, Lookup.SPF, Share(3, 3))
    server.load(ZONE)
    server.silent_about = {f"n{number}.example" for number in range(3)}
    waiting = [asyncio.create_task(resolver.ask(name, "A", Lookup.SPF)) for name in server.silent_about]
    await until(lambda: server.questions == 3)
    assert (await resolver.ask("mail.example.org", "A", Lookup.SPF)).status == "temperror"
    for lookup in (Lookup.DNSBL, Lookup.IPREV):
        assert (await resolver.ask(f"{lookup}.example.org", "A", lookup)).status == "nxdomain"
    await resolver.close()
    await asyncio.gather(*waiting)


@pytest.mark.parametrize(
    ("pattern", "elsewhere", "lookup"),
    [
        pytest.param("s{}.evil.example", "mail.example.org", Lookup.SPF, id="policies"),
        pytest.param("s.d{}.evil.example", "mail.example.org", Lookup.IPREV, id="names of clients"),
        pytest.param("[s{}.evil.example", "[s.example.org", Lookup.SPF, id="like address literals"),
        pytest.param("{}.2.0.192.in-addr.arpa", "1.3.0.192.in-addr.arpa", Lookup.IPREV, id="reverse names"),
    ],
)
async def test_a_silent_domain_has_only_a_few_questions_open(
    server: DnsServer, resolver: Resolver, pattern: str, elsewhere: str, lookup: Lookup
) -> None:
    names = [pattern.format(number) for number in range(40)]
    server.silent_about = set(names)
    waiting = [asyncio.create_task(resolver.ask(name, "A", lookup)) for name in names]
    await until(lambda: server.questions >= 20)
    assert resolver.under_way == 20
    assert (await resolver.ask(elsewhere, "A", lookup)).status == "nxdomain"
    await resolver.close()
    await asyncio.gather(*waiting)


async def test_a_list_has_more_questions_open_and_leaves_some_to_other_lists(
    server: DnsServer, resolver: Resolver
) -> None:
    names = [f"{number}.2.0.192.list.example" for number in range(120)]
    server.silent_about = set(names)
    waiting = [asyncio.create_task(resolver.ask(name, "A", Lookup.DNSBL)) for name in names]
    await until(lambda: server.questions >= 100)
    assert resolver.under_way == 100
    assert (await resolver.ask("1.2.0.192.other.example", "A", Lookup.DNSBL)).status == "nxdomain"
    await resolver.close()
    await asyncio.gather(*waiting)


async def test_places_are_given_back(server: DnsServer, resolver: Resolver) -> None:
    for number in range(50):
        assert (await resolver.ask(f"n{number}.evil.example", "A")).status == "nxdomain"


async def test_of_many_questions_a_few_are_asked_at_once(server: DnsServer, resolver: Resolver) -> None:
    server.gate = asyncio.Event()
    questions = [(f"n{number}.example.org", "A") for number in range(12)]
    waiting = asyncio.create_task(resolver.ask_all(questions, Lookup.SPF))
    await until(lambda: server.questions >= 5)
    assert resolver.under_way == 5
    server.gate.set()
    assert [answer.status for answer in await waiting] == ["nxdomain"] * 12


async def test_whoever_waits_when_it_ends_gets_a_temperror(server: DnsServer, resolver: Resolver) -> None:
    server.is_silent = True
    waiting = asyncio.create_task(resolver.ask("mail.example.org", "A"))
    await until(lambda: server.questions)
    await resolver.close()
    assert (await waiting).status == "temperror"
    assert resolver.under_way == 0


# Outages


async def test_an_outage_is_said_once_and_costs_nobody_his_deadline(
    server: DnsServer, hasty: Resolver, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="reputon.lookups")
    server.load(ZONE)
    server.is_silent = True
    for number in range(6):
        await hasty.ask(f"n{number}.example.org", "A")
        clock.advance(1.0)
    await until(lambda: caplog.messages)
    assert caplog.messages == [f"the DNS does not answer, look-ups are temperrors: {server.address}"]
    server.asked.clear()
    answers = await asyncio.gather(*(hasty.ask(f"m{number}.example.org", "A") for number in range(50)))
    assert {answer.status for answer in answers} == {"temperror"}
    del server.asked[ROOT_SOA]
    assert list(server.asked.values()) == [len(IMPATIENT)]  # one question to see
    server.is_silent = False
    assert (await hasty.ask("mail.example.org", "A")).status == "found"
    assert caplog.messages[1:] == [f"the DNS answers again: {server.address}"]
    assert {
        answer.status for answer in await asyncio.gather(*(hasty.ask(f"m{n}.example.org", "A") for n in range(1, 9)))
    } == {"nxdomain"}


async def test_one_domain_that_is_away_is_no_outage(
    server: DnsServer, hasty: Resolver, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    server.load(ZONE)
    for number in range(10):
        name = f"n{number}.example.org"
        server.silent_about.add(name)
        assert (await hasty.ask(name, "A")).status == "temperror"
        assert (await hasty.ask(f"there{number}.example.org", "A")).status == "nxdomain"
        clock.advance(1.0)
    assert caplog.messages == []


async def _outage(server: DnsServer, resolver: Resolver, clock: ManualClock, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is answered, until that is noticed."""
    server.is_silent = True
    for number in range(4):
        await resolver.ask(f"away{number}.example", "A")
        clock.advance(1.0)
    await until(lambda: caplog.messages)
    await until(lambda: not resolver.under_way)
    server.is_silent = False


async def test_silence_about_names_of_strangers_is_no_outage(
    server: DnsServer, hasty: Resolver, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    server.load(ZONE)
    server.silent_about = {f"mx.evil{number}.example" for number in range(12)}
    for name in sorted(server.silent_about):
        assert (await hasty.ask(name, "A")).status == "temperror"
        clock.advance(1.0)
    await until(lambda: server.asked[ROOT_SOA])
    assert caplog.messages == []
    assert server.asked[ROOT_SOA] <= 4  # and not one for each silence
    slow = asyncio.create_task(hasty.ask("mx.evil0.example", "AAAA"))
    answers = await asyncio.gather(*(hasty.ask(f"n{n}.example.org", "A", Lookup.DNSBL) for n in range(9)))
    assert {answer.status for answer in answers} == {"nxdomain"}
    assert (await slow).status == "temperror"


async def test_in_an_outage_one_may_see_whether_it_is_over_whatever_else_is_open(
    server: DnsServer, clock: ManualClock, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    server.load(ZONE)
    waits = [0.05, 0.05]
    resolver = Resolver([server.address], most_cached=100, clock=clock, metrics=metrics, waits=waits)
    server.silent_about = {"mx.evil.example"}
    waits[:] = [60.0]
    slow = asyncio.create_task(resolver.ask("mx.evil.example", "A"))
    await until(lambda: server.questions)
    waits[:] = [0.05, 0.05]
    server.is_silent = True
    for number in range(4):
        await resolver.ask(f"away{number}.example", "A")
        clock.advance(1.0)
    await until(lambda: caplog.messages)
    server.is_silent = False
    assert not slow.done()
    waits[:] = PATIENT
    assert (await resolver.ask("mail.example.org", "A", Lookup.DNSBL)).status == "found"
    await resolver.close()
    await slow


async def test_an_outage_ends_though_a_stranger_asks_about_silence(
    server: DnsServer, clock: ManualClock, metrics: Metrics, caplog: pytest.LogCaptureFixture
) -> None:
    server.load(ZONE)
    waits = [*IMPATIENT]
    resolver = Resolver([server.address], most_cached=100, clock=clock, metrics=metrics, waits=waits)
    await _outage(server, resolver, clock, caplog)
    server.silent_about = {"mx.evil.example"}
    waits[:] = PATIENT
    slow = asyncio.create_task(resolver.ask("mx.evil.example", "A"))
    await until(lambda: "the DNS answers again" in caplog.text)
    assert not slow.done()
    assert (await resolver.ask("mail.example.org", "A", Lookup.DNSBL)).status == "found"
    await resolver.close()
    await slow


async def test_a_burst_that_is_not_answered_at_once_is_no_outage(
    server: DnsServer, hasty: Resolver, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    server.load(ZONE)
    server.silent_about = {f"n{number}.example.org" for number in range(20)}
    await asyncio.gather(*(hasty.ask(name, "A") for name in server.silent_about))
    clock.advance(60.0)
    assert (await hasty.ask("mail.example.org", "A")).status == "found"
    assert caplog.messages == []


# Settings


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("192.0.2.53", Server("192.0.2.53", 53)),
        ("192.0.2.53:5353", Server("192.0.2.53", 5353)),
        ("2001:db8::53", Server("2001:db8::53", 53)),
        ("[2001:db8::53]", Server("2001:db8::53", 53)),
        ("[2001:db8::53]:5353", Server("2001:db8::53", 5353)),
        ("fe80::1%eth0", Server("fe80::1%eth0", 53)),
    ],
)
def test_servers(text: str, server: Server) -> None:
    assert server_of(text) == server


@pytest.mark.parametrize(
    "text", ["", "dns.example.org", "192.0.2.53:", "192.0.2.53:0", "192.0.2.53:65536", "192.0.2.53:x", "[192.0.2.53",
             "1.2.3", ":53", "[]:53", "192.0.2.53:\u0665"]
)  # fmt: skip
def test_what_is_no_server_is_a_mistake(text: str) -> None:
    with pytest.raises(ConfigError, match="nameservers"):
        server_of(text)


def test_the_servers_of_the_machine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search example.org\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions edns0\n")
    assert servers_of([], str(file)) == (Server("192.0.2.53", 53), Server("2001:db8::53", 53))
    assert servers_of(["192.0.2.1"], str(file)) == (Server("192.0.2.1", 53),)
    assert servers_of([], str(tmp_path / "none")) == ()
    assert "names no DNS server" in caplog.text


def test_each_question_has_an_id_of_its_own() -> None:
    ids = {exchange.query_of("mail.example.org", "A").id for _ in range(200)}
    assert len(ids) > 150


def test_a_large_answer_weighs_more() -> None:
    assert Answer("found", ("192.0.2.1",)).weight == 1
    assert Answer("found", (b"x" * 5_000,)).weight > 15
    assert Answer("found", ((10, "x" * 250), (20, "y" * 250))).weight == 3
