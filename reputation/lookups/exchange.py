"""One question to DNS servers, over UDP, and over TCP where the answer is cut off.

The first server is asked; when it has not answered after a while, the next one, while the first is still listened to;
then all of them again, with more patience. Whoever answers first has answered. A server that refuses, fails or cannot
be reached is not asked again about this.

Security: each question has a socket of its own for each server, connected to it, so that the kernel drops what others
send, with a port that the kernel draws and an id that dnspython draws. What does not answer the very question is passed
over. Messages are not read beyond `MAX_UDP_OCTETS` and `MAX_TCP_OCTETS`: strangers decide how large their records are,
and reading 64 KB of them would hold up everybody.

Bugs: no cookies (RFC 7873), no DNSSEC of its own: ask a resolver on this machine or in this network.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import dns.exception
import dns.message
import dns.name
import dns.rdatatype

from reputation.lookups.answers import is_usable

UDP_PAYLOAD = 1_232
"""What is announced (RFC 6891 section 6.2.3): fits any path without fragments."""
MAX_UDP_OCTETS = 4_096
MAX_TCP_OCTETS = 16_384
TCP_SECONDS = 3.0
WAITS = (0.8, 1.6, 3.2)
"""How long each server is waited for, in the first round, the second and the last."""
_RESPONSE, _TRUNCATED = 0x80, 0x02
"""Bits of the third octet of a message: RFC 1035 section 4.1.1."""


class Server(NamedTuple):
    """A resolver that is asked."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Heard(NamedTuple):
    """What has come from a server: a message, None for word that it cannot be reached."""

    server: Server
    message: dns.message.Message | None
    is_cut: bool = False
    """Whether there is more over TCP."""


def query_of(name: str, kind: str) -> dns.message.Message:
    """A question with a fresh id. The name is one that `names.askable` has made, or empty for the root."""
    # Labels one by one: text of dnspython's has escapes, and of a name of a stranger nothing is an escape.
    labels = [label.encode("ascii") for label in name.split(".") if label]
    return dns.message.make_query(
        dns.name.Name([*labels, b""]), dns.rdatatype.from_text(kind), use_edns=0, payload=UDP_PAYLOAD
    )


class Exchange:
    """Asks one question once. `on_heard` and `on_silence` are told about each server that did or did not answer."""

    def __init__(
        self,
        name: str,
        kind: str,
        *,
        on_heard: Callable[[Server], None],
        on_silence: Callable[[Server], None],
        waits: Sequence[float] = WAITS,
    ) -> None:
        self._name = name
        self._kind = kind
        self._on_heard = on_heard
        self._on_silence = on_silence
        self._waits = waits
        self._heard: asyncio.Queue[Heard] = asyncio.Queue()
        self._sockets: dict[Server, tuple[asyncio.DatagramTransport, bytes]] = {}

    async def ask(self, servers: Sequence[Server]) -> dns.message.Message | None:
        """The message that answers, None when there is none. Takes as long as all the waits; raises nothing."""
        asked = list(servers)
        try:
            for wait in self._waits:
                for server in tuple(asked):
                    if server in asked and (message := await self._attempt(server, wait, asked)) is not None:
                        return message
        finally:
            for transport, _ in self._sockets.values():
                transport.abort()
        return None

    async def _attempt(self, server: Server, wait: float, asked: list[Server]) -> dns.message.Message | None:
        """Ask a server, listen to all that were asked; whoever is of no use is taken from `asked`."""
        if not await self._send(server):
            asked.remove(server)
            return None
        until = asyncio.get_running_loop().time() + wait
        while server in asked:
            try:
                async with asyncio.timeout_at(until):
                    heard = await self._heard.get()
            except TimeoutError:
                self._on_silence(server)
                return None
            message = await self._over_tcp(heard.server) if heard.is_cut else heard.message
            if message is not None:
                self._on_heard(heard.server)
                if is_usable(message):
                    return message
            elif not heard.is_cut:
                self._on_silence(heard.server)
            if heard.server in asked:
                asked.remove(heard.server)
        return None

    async def _send(self, server: Server) -> bool:
        """Ask a server; again in the same words from the same socket, so that a late answer counts."""
        if server not in self._sockets:
            query = query_of(self._name, self._kind)
            try:
                transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
                    lambda: _Listener(query, server, self._heard), remote_addr=(server.address, server.port)
                )
            except OSError:  # no route, no socket left
                self._on_silence(server)
                return False
            self._sockets[server] = transport, query.to_wire()
        transport, wire = self._sockets[server]
        transport.sendto(wire)
        return True

    async def _over_tcp(self, server: Server) -> dns.message.Message | None:
        query = query_of(self._name, self._kind)
        with suppress(OSError, EOFError, TimeoutError):  # as good as no answer
            async with asyncio.timeout(TCP_SECONDS):
                return _response_to(query, await _ask_over_tcp(server, query.to_wire()))
        return None


async def _ask_over_tcp(server: Server, wire: bytes) -> bytes:
    """RFC 7766 section 8: two octets say how long a message is. Empty for one that is too long."""
    reader, writer = await asyncio.open_connection(server.address, server.port)
    try:
        writer.write(len(wire).to_bytes(2, "big") + wire)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(length) if length <= MAX_TCP_OCTETS else b""
    finally:
        writer.transport.abort()


class _Listener(asyncio.DatagramProtocol):
    """What comes from one server after one question."""

    def __init__(self, query: dns.message.Message, server: Server, heard: asyncio.Queue[Heard]) -> None:
        self._query = query
        self._server = server
        self._heard = heard

    def datagram_received(self, data: bytes, _: object) -> None:
        if len(data) > MAX_UDP_OCTETS or data[:2] != self._query.id.to_bytes(2, "big"):
            return
        # What is cut off may be cut anywhere, so it is not read.
        if len(data) > 2 and data[2] & _RESPONSE and data[2] & _TRUNCATED:
            self._heard.put_nowait(Heard(self._server, None, is_cut=True))
        elif (message := _response_to(self._query, data)) is not None:
            self._heard.put_nowait(Heard(self._server, message))

    def error_received(self, _: Exception) -> None:
        """The kernel says that nobody listens there."""
        self._heard.put_nowait(Heard(self._server, None))


def _response_to(query: dns.message.Message, wire: bytes) -> dns.message.Message | None:
    """The message in `wire`, if it can be read and answers `query`."""
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException:
        return None
    return message if query.is_response(message) else None
