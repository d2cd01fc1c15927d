"""What facts from outside cost this process: remembered ones, and those that the DNS is asked for.

    python -m benchmarks.lookups [--json] [--quick]

An event wants the reverse name, two DNS lists and SPF. *Remembered* is the usual case, as long as TTLs last: the same
look-up again and again. *Asked* is the worst: each event comes from another client and for another domain, so six
questions go to a DNS server; that is on loopback, in Python and in this process, so its own time is taken off, as
measured by itself. *Networks* are looked up in a table of random prefixes.

A *message* has 2 kB and one signature with a 2048-bit RSA key; key and policy are remembered. A *large* one has 50 MB
and is hashed in a thread; *held up* is the longest that the event loop had to wait meanwhile.
"""

import asyncio
import random
import statistics
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path

from benchmarks.report import Report, main
from reputation.config import LookupSettings
from reputation.contracts import Lookups
from reputation.events import ClientAddress, Data, Mail, Session
from reputation.facts import Lookup, Network
from reputation.lookups.asn import AsnTable
from reputation.lookups.exchange import query_of
from reputation.lookups.looking import open_lookups
from reputation.lookups.names import listed_name, reverse_name
from tests.dns_server import DnsServer, dns_server
from tests.signing import MESSAGE, key_record, rsa_key, sealed, signed, text_record

EVERYTHING = frozenset(Lookup)
LISTS = ("black.example", "white.example")
QUESTIONS = 6
"""PTR, A, two lists, SPF record, and an address that it names."""


def measure(report: Report) -> None:
    """The benchmark."""
    asyncio.run(_dns(report))
    asyncio.run(_messages(report))
    _networks(report)


def _client(number: int) -> IPv4Address:
    return IPv4Address(0x0B000000 + number)


def _zone(clients: int) -> str:
    lines = []
    for number in range(clients):
        client = _client(number)
        lines.append(f"{reverse_name(client)}. 3600 PTR mail.d{number}.example.")
        lines.append(f"mail.d{number}.example. 3600 A {client}")
        lines.append(f'd{number}.example. 3600 TXT "v=spf1 ip4:192.0.2.0/24 a:out.d{number}.example ~all"')
        lines.append(f"out.d{number}.example. 3600 A 192.0.2.1")
        lines.append(f"{listed_name(client, LISTS[0])}. 3600 A 127.0.0.2")
    return "\n".join(lines)


def _mail(number: int) -> Mail:
    session = Session(id="s", client=_client(number), helo=f"mail.d{number}.example")
    return Mail(session=session, sender=f"alice@d{number}.example")


async def _dns(report: Report) -> None:
    clients, again = (20, 200) if report.quick else (2_000, 20_000)
    async with dns_server(_zone(clients)) as server:
        settings = LookupSettings(nameservers=(str(server.address),), dnsbl=LISTS, deadline_seconds=30.0)
        lookups = open_lookups(settings)
        asked = await _asked(lookups, clients) - QUESTIONS * await _of_server(server, clients)
        report.add("us_asked", asked, "us of this process for an event that nothing is known about")
        report.add("questions_asked", server.questions / clients, "questions for such an event")
        remembered = [await _remembered(lookups, again) for _ in range(3 if report.quick else 9)]
        report.add("us_remembered", statistics.median(remembered), "us of this process for an event like another")
        await lookups.close()


async def _asked(lookups: Lookups, clients: int) -> float:
    begin = time.process_time()
    for number in range(clients):
        found = await lookups.look_up(_mail(number), EVERYTHING, Network())
        assert (found.iprev, found.spf, found.dnsbl) == ("pass", "softfail", LISTS[:1])
    return (time.process_time() - begin) / clients * 1e6


async def _of_server(server: DnsServer, clients: int) -> float:
    """What the server takes for one answer, without its socket."""
    before = server.asked.copy()
    queries = [query_of(f"mail.d{number % clients}.example", "A").to_wire() for number in range(clients)]
    begin = time.process_time()
    for query in queries:
        await server.reply(query, is_tcp=False)
    taken = (time.process_time() - begin) / clients * 1e6
    server.asked = before
    return taken


async def _remembered(lookups: Lookups, times: int) -> float:
    event, network = _mail(1), Network()
    begin = time.process_time()
    for _ in range(times):
        await lookups.look_up(event, EVERYTHING, network)
    return (time.process_time() - begin) / times * 1e6


async def _messages(report: Report) -> None:
    again, lines = (20, 10_000) if report.quick else (1_000, 650_000)
    key = rsa_key(2_048)
    zone = key_record("s1", "example.org", key.record) + key_record("s1", "lists.example", key.record)
    async with dns_server(zone + text_record("_dmarc.example.org", "v=DMARC1; p=reject")) as server:
        settings = LookupSettings(nameservers=(str(server.address),), deadline_seconds=30.0)
        lookups = open_lookups(settings)
        content = signed(MESSAGE + b"a line of some text, as people write it\r\n" * 40, key)
        for name, wanted in (("dkim", Lookup.DKIM), ("dmarc", Lookup.DMARC), ("arc", Lookup.ARC)):
            event = _data(sealed(content, key) if wanted is Lookup.ARC else content)
            taken = statistics.median([await _verified(lookups, event, wanted, again) for _ in range(5)])
            report.add(f"us_{name}", taken, f"us of this process for {name.upper()} of a message of 2 kB")
        large = _data(
            signed(
                MESSAGE + b"TWFueSBoYW5kcyBtYWtlIGxpZ2h0IHdvcmsuIE1hbnkgaGFuZHMgbWFrZSBsaWdodCB3b3JrLg==\r\n" * lines,
                key,
            )
        )
        held_up, taken = await _held_up(lookups, large)
        report.add("large_seconds", taken, f"for DKIM of a message of {len(large.content):,} octets")
        report.add("ms_held_up", held_up * 1e3, "ms at most that the event loop waited meanwhile")
        await lookups.close()


def _data(content: bytes) -> Data:
    session = Session(id="s", client=_client(1), helo="mail.example.org")
    return Data(
        session=session,
        sender="alice@example.org",
        recipients=("bob@example.net",),
        message_bytes=len(content),
        author="alice@example.org",
        content=content,
    )


async def _verified(lookups: Lookups, event: Data, wanted: Lookup, times: int) -> float:
    network = Network()
    begin = 0.0
    for number in range(times + 1):
        found = await lookups.look_up(event, frozenset({wanted}), network)
        assert getattr(found, wanted.value) == "pass"
        if not number:  # by now everything is remembered
            begin = time.process_time()
    return (time.process_time() - begin) / times * 1e6


async def _held_up(lookups: Lookups, event: Data) -> tuple[float, float]:
    """The longest pause of the event loop while a message is verified, and how long that takes, in seconds."""
    pauses = [0.0]

    async def watch() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            pauses.append(now - before)
            before = now

    watching = asyncio.create_task(watch())
    await asyncio.sleep(0)
    begin = time.perf_counter()
    found = await lookups.look_up(event, frozenset({Lookup.DKIM}), Network())
    taken = time.perf_counter() - begin
    watching.cancel()
    assert found.dkim == "pass"
    return max(pauses), taken


def _networks(report: Report) -> None:
    prefixes, clients = (1_000, 1_000) if report.quick else (500_000, 100_000)
    numbers = random.Random(1)
    lines = sorted(
        {f"{IPv4Address(numbers.getrandbits(24) << 8)}/24\t{numbers.randrange(1, 400_000)}" for _ in range(prefixes)}
    )
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "asn.dat"
        file.write_text("\n".join(lines) + "\n")
        begin = time.perf_counter()
        table = AsnTable.load(file)
        report.add("table_seconds", time.perf_counter() - begin, f"to load {prefixes:,} prefixes")
    some: list[ClientAddress] = [IPv4Address(numbers.getrandbits(32)) for _ in range(clients)]
    for name, asked in (("new", some), ("known", some[:1] * clients)):
        begin = time.process_time()
        for client in asked:
            table.network(client)
        report.add(f"us_network_{name}", (time.process_time() - begin) / clients * 1e6, "us of this process")


if __name__ == "__main__":
    main("lookups", measure)
