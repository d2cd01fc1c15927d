"""The listening side: accepts clients, runs a `Session` for each, and drains at the end.

The door to aiosmtpd. Its ``SMTP`` class is the asyncio protocol under each session, and from it we take the
transport, the stream reader and writer, and (with AUTH) its mechanisms. Its command loop is replaced by
our own: it has no hook before the greeting, ends commands at a bare LF, sends the text of exceptions to the
client, keeps a session open after a 421, and forgets a client that closes its sending side early.
"""

import asyncio
import logging
import os
import ssl
from contextlib import suppress
from ipaddress import ip_address

from aiosmtpd.smtp import SMTP

from reputation.errors import ConfigError
from reputation.front_end_settings import SmtpSettings
from smtp_frontend import answers
from smtp_frontend.session import Session, Surroundings
from smtp_frontend.wire import READ_BYTES, ClientGone, Wire

log = logging.getLogger("reputon.smtp")
logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's own chatter

BACKLOG = 128
"""Clients that may wait to be accepted; asyncio accepts as many in one turn."""
SESSION_SECONDS = 86_400.0
"""No session lives longer, whatever it does."""


class Server:
    """The SMTP front end of one process."""

    def __init__(self, shared: Surroundings) -> None:
        self.shared = shared
        self.sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[asyncio.Server] = []
        self.draining = False

    async def listen(self) -> list[str]:
        """Start to listen on every configured address; returns them as HOST:PORT. Raises `ConfigError`."""
        loop = asyncio.get_running_loop()
        bound = []
        for address in self.shared.settings.listen:
            host, _, port = address.rpartition(":")
            try:
                listener = await loop.create_server(
                    lambda: _Protocol(self), host.strip("[]"), int(port), backlog=BACKLOG
                )
            except OSError as error:
                await self.close()
                # asyncio's text tells the address once more; a name that is not found has an errno of its own kind
                reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
                raise ConfigError(f"[smtp] listen: cannot listen on {address}: {reason}") from None
            self._listeners.append(listener)
            bound += [_host_port(sock.getsockname()) for sock in listener.sockets]
        return bound

    def track(self, task: asyncio.Task[None]) -> None:
        """Keep a session's task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop listening, let open transactions finish for `drain_seconds`, then end what is left."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        await asyncio.gather(*(session.stop() for session in self.sessions))
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=self.shared.settings.drain_seconds)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


class _Protocol(SMTP):
    """aiosmtpd's protocol with our session inside."""

    line_length_limit = READ_BYTES  # aiosmtpd takes the stream reader's limit from here

    def __init__(self, server: Server) -> None:
        super().__init__(object(), hostname=server.shared.hostname, timeout=SESSION_SECONDS)
        self._server = server
        self._wire: Wire | None = None

    async def _handle_client(self) -> None:
        server = self._server
        self._wire = Wire(self._reader, self._writer, server.shared.settings.command_timeout_seconds)
        task = asyncio.current_task()
        assert task is not None
        server.track(task)
        if server.draining or len(server.sessions) >= server.shared.settings.max_sessions:
            await self._turn_away(self._wire)
            return
        session = Session(server.shared, self._wire, ip_address(self._writer.get_extra_info("peername")[0]))
        server.sessions.add(session)
        metrics = server.shared.engine.metrics
        metrics.sessions.set(len(server.sessions))
        try:
            await session.run()
        finally:
            server.sessions.discard(session)
            metrics.sessions.set(len(server.sessions))

    async def _turn_away(self, wire: Wire) -> None:
        with suppress(ClientGone):
            await wire.send(answers.CLOSING if self._server.draining else answers.TOO_MANY_SESSIONS)
        await wire.close()

    def connection_lost(self, error: Exception | None) -> None:
        # Not aiosmtpd's: it cancels the session, which could be waiting for the next hop's last word.
        if self._timeout_handle is not None:
            self._timeout_handle.cancel()
        if self._wire is not None:
            self._wire.gone.set()
        asyncio.StreamReaderProtocol.connection_lost(self, error)

    def eof_received(self) -> bool | None:
        # Not aiosmtpd's: a client that has sent all it has to say still waits for our answer.
        return asyncio.StreamReaderProtocol.eof_received(self)


def _host_port(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_context(settings: SmtpSettings) -> ssl.SSLContext | None:
    """The context for STARTTLS, None where it is not configured. Raises `ConfigError`."""
    if settings.tls is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996
    try:
        context.load_cert_chain(settings.tls.certificate, settings.tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"[smtp.tls] certificate, key: cannot be used: {error}") from None
    return context
