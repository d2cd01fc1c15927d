"""aiosmtpd as it comes, as a process: no benchmark, but what `benchmarks.smtp` compares with.

    python -m benchmarks.bare_smtp sink
    python -m benchmarks.bare_smtp relay HOST:PORT

prints ``ready smtp 127.0.0.1:PORT``, and ends at SIGTERM.

The **sink** says 250 to everything and keeps nothing. The **relay** does what a relay must, in the way the front end
does it, and no more: one connection to the next hop for each session, made when it is first needed and kept; MAIL goes
out together with the first RCPT (RFC 2920), each further RCPT, and the message, while the client waits; each answer of
the next hop is the client's, and has a time limit; a Received field goes on top (RFC 5321 section 4.4). What it does
not have is what is measured: rules, a store, a log, checks of what comes in beyond aiosmtpd's own, spooling.
"""

import asyncio
import gc
import signal
import sys
from contextlib import suppress
from email.utils import formatdate

from aiosmtpd.smtp import SMTP, Envelope, Session

HOP_SECONDS = 60.0
LAST_WORD_SECONDS = 1.0
TROUBLE = "451 4.4.1 Try again later"


class Hop:
    """One connection to the next hop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connected(cls, host: str, port: int) -> "Hop":
        """A connection that is ready for MAIL."""
        async with asyncio.timeout(HOP_SECONDS):
            hop = cls(*await asyncio.open_connection(host, port))
        await hop.answer()
        await hop.ask(b"EHLO mx.example.net\r\n")
        return hop

    async def ask(self, octets: bytes, seconds: float = HOP_SECONDS) -> str:
        """Send, and the (first) answer."""
        self._writer.write(octets)
        async with asyncio.timeout(seconds):
            await self._writer.drain()
        return await self.answer(seconds)

    async def answer(self, seconds: float = HOP_SECONDS) -> str:
        """The next answer; of several lines the last one."""
        async with asyncio.timeout(seconds):
            while (line := await self._reader.readline())[3:4] == b"-":
                pass
        if not line.endswith(b"\n"):
            raise ConnectionResetError("the next hop has hung up")
        return line.decode("ascii", "replace").rstrip()

    async def close(self) -> None:
        """QUIT, and hang up as soon as it is answered, or is not."""
        with suppress(OSError):  # TimeoutError is one
            await self.ask(b"QUIT\r\n", LAST_WORD_SECONDS)
        self._writer.close()


class Sink:
    """Takes all mail."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802 - aiosmtpd's hook
        return "250 2.0.0 OK"


class Relay:
    """Passes all mail on."""

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's hook
        self,
        server: "Protocol",
        session: Session,  # noqa: ARG002 - aiosmtpd's hook
        envelope: Envelope,
        address: str,
        options: list[str],  # noqa: ARG002 - aiosmtpd's hook
    ) -> str:
        command = f"RCPT TO:<{address}>\r\n"
        try:
            if not server.begun:
                answer = await server.ask(f"MAIL FROM:<{envelope.mail_from}>\r\n{command}")
                server.begun = answer.startswith("2")
                to_recipient = await server.answer()
                answer = to_recipient if server.begun else answer
            else:
                answer = await server.ask(command)
        except OSError:
            return server.trouble()
        if answer.startswith("2"):
            envelope.rcpt_tos.append(address)
        return answer

    async def handle_DATA(self, server: "Protocol", session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's hook
        assert session.peer is not None and isinstance(envelope.content, bytes)
        received = (
            f"Received: from {session.host_name} ([{session.peer[0]}])\r\n\tby mx.example.net;\r\n\t{formatdate()}\r\n"
        )
        text = b"\r\n" + received.encode() + envelope.content
        try:
            answer = await server.ask("DATA\r\n")
            if answer.startswith("3"):
                answer = await server.ask(text.replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n")
        except OSError:
            return server.trouble()
        server.begun = False
        return answer

    async def handle_RSET(self, server: "Protocol", session: Session, envelope: Envelope) -> str:  # noqa: ARG002, N802 - aiosmtpd's hook
        if server.begun:
            server.begun = False
            with suppress(OSError):
                await server.ask("RSET\r\n")
        return "250 2.0.0 OK"


class Protocol(SMTP):
    """A session that may have a connection to the next hop."""

    next_hop = ("", 0)
    closing: set[asyncio.Task[None]] = set()  # noqa: RUF012 - of all sessions, so that they are not lost
    begun = False
    """Whether the next hop has said yes to MAIL."""
    _hop: Hop | None = None

    async def ask(self, command: str | bytes) -> str:
        """The next hop's answer, on a new connection where there is none."""
        if self._hop is None:
            self._hop = await Hop.connected(*self.next_hop)
        return await self._hop.ask(command if isinstance(command, bytes) else command.encode())

    async def answer(self) -> str:
        """The next hop's next answer."""
        assert self._hop is not None
        return await self._hop.answer()

    def trouble(self) -> str:
        """The next hop is not what it should be: it is left."""
        self.begun = False
        self._leave()
        return TROUBLE

    def connection_lost(self, error: Exception | None) -> None:
        self._leave()
        super().connection_lost(error)

    def _leave(self) -> None:
        if self._hop is not None:
            task = asyncio.ensure_future(self._hop.close())
            self.closing.add(task)
            task.add_done_callback(self.closing.discard)
            self._hop = None


async def serve(handler: Sink | Relay) -> None:
    """Until SIGTERM."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    server = await loop.create_server(
        lambda: Protocol(handler, hostname="mx.example.net", enable_SMTPUTF8=True), "127.0.0.1", 0, backlog=1_024
    )
    gc.collect()
    gc.freeze()  # as the front end does
    print(f"ready smtp 127.0.0.1:{server.sockets[0].getsockname()[1]}", "ready", sep="\n", flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    kind, *where = sys.argv[1:]
    if where:
        host, _, port = where[0].rpartition(":")
        Protocol.next_hop = (host, int(port))
    asyncio.run(serve(Relay() if kind == "relay" else Sink()))
