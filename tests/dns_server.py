"""A DNS server on loopback, over UDP and TCP, that answers out of the text of a zone; and that misbehaves on request.

It runs in the test's own event loop. Its zone is the whole DNS: a name that is not in it does not exist, and the SOA of
the root says for how long. CNAMEs are followed, as a resolver would.

    async with dns_server('''mail.example.org. 300 A 192.0.2.7''') as server:
        resolver = Resolver([server.address], ...)
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.zone

from reputation.lookups.exchange import Server

NEGATIVE_SECONDS = 60
ROOT = f". 86400 SOA ns.root. host.root. 1 3600 600 86400 {NEGATIVE_SECONDS}\n. 86400 NS ns.root.\n"
TRIES = 20
MAX_UDP = 512


class DnsServer:
    """What it is told to do, and what it was asked."""

    def __init__(self, zone: str) -> None:
        self.address = Server("", 0)
        self.asked: Counter[tuple[str, str]] = Counter()
        """(name, kind) -> questions over UDP."""
        self.asked_over_tcp: Counter[tuple[str, str]] = Counter()
        self.is_silent = False
        self.is_truncating = False
        self.has_wrong_id = False
        """Whether each answer comes after one with another id that says something else."""
        self.has_soa = True
        self.rcode = dns.rcode.NOERROR
        """What all questions get, if it is no NOERROR."""
        self.rcodes: dict[str, dns.rcode.Rcode] = {}
        """What questions about some names get."""
        self.silent_about: set[str] = set()
        self.gate: asyncio.Event | None = None
        """Answers wait until it is set."""
        self.load(zone)

    def load(self, zone: str) -> None:
        """Serve another zone."""
        self._zone = dns.zone.from_text(ROOT + zone, origin=".", relativize=False, check_origin=True)
        # A name exists, too, where only something below it does: RFC 8020.
        self._names = {each for name in self._zone.nodes for each in _with_parents(name)}

    @property
    def questions(self) -> int:
        """All that came over UDP."""
        return self.asked.total()

    async def reply(self, wire: bytes, *, is_tcp: bool) -> list[bytes]:
        """The messages that answer one."""
        query = dns.message.from_wire(wire)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        (self.asked_over_tcp if is_tcp else self.asked)[name, kind] += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.is_silent or name in self.silent_about:
            return []
        response = dns.message.make_response(query, recursion_available=True)
        if (rcode := self.rcodes.get(name, self.rcode)) != dns.rcode.NOERROR:
            response.set_rcode(rcode)
            return [response.to_wire()]
        self._answer(response, question.name, question.rdtype)
        messages = [response.to_wire(max_size=65_535)]
        if not is_tcp and (self.is_truncating or len(messages[0]) > MAX_UDP):
            response.answer.clear()
            response.flags |= dns.flags.TC
            messages = [response.to_wire()]
        return [self._forged(query), *messages] if self.has_wrong_id and not is_tcp else messages

    def _answer(self, response: dns.message.Message, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> None:
        for _ in range(20):
            if (found := self._zone.get_rrset(name, kind)) is not None:
                response.answer.append(found)
                return
            if (alias := self._zone.get_rrset(name, dns.rdatatype.CNAME)) is None:
                break
            response.answer.append(alias)
            name = alias[0].target
        if name not in self._names:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if self.has_soa:
            response.authority.append(self._zone.find_rrset(dns.name.root, dns.rdatatype.SOA))

    def _forged(self, query: dns.message.Message) -> bytes:
        forged = dns.message.make_response(query)
        forged.id = query.id ^ 0x5555
        forged.set_rcode(dns.rcode.NXDOMAIN)
        return forged.to_wire()


def _with_parents(name: dns.name.Name) -> Iterator[dns.name.Name]:
    yield name
    while name != dns.name.root:
        name = name.parent()
        yield name


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, client: tuple[str, int]) -> None:
        task = asyncio.create_task(self._answer(data, client))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, data: bytes, client: tuple[str, int]) -> None:
        for message in await self._server.reply(data, is_tcp=False):
            self._transport.sendto(message, client)

    async def close(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._transport.abort()


@asynccontextmanager
async def dns_server(zone: str = "") -> AsyncIterator[DnsServer]:
    """A server for as long as the block runs."""
    server = DnsServer(zone)

    async def over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            length = int.from_bytes(await reader.readexactly(2), "big")
            for message in await server.reply(await reader.readexactly(length), is_tcp=True):
                writer.write(len(message).to_bytes(2, "big") + message)
            await reader.read()  # the client hangs up
        except (OSError, EOFError):
            pass
        finally:
            writer.transport.abort()

    tcp, udp = await _listening(server, over_tcp)
    server.address = Server("127.0.0.1", tcp.sockets[0].getsockname()[1])
    try:
        yield server
    finally:
        await udp.close()
        tcp.close()
        await tcp.wait_closed()


async def _listening(server: DnsServer, over_tcp: object) -> tuple[asyncio.Server, _Udp]:
    """The same port for both: one that is free for UDP may be taken for TCP."""
    loop = asyncio.get_running_loop()
    for attempt in range(TRIES):
        transport, udp = await loop.create_datagram_endpoint(lambda: _Udp(server), local_addr=("127.0.0.1", 0))
        port = transport.get_extra_info("sockname")[1]
        try:
            return await asyncio.start_server(over_tcp, "127.0.0.1", port), udp  # type: ignore[arg-type] # a callback
        except OSError:
            await udp.close()
            if attempt == TRIES - 1:
                raise
    raise AssertionError("not reached")
