"""The listening side: accepts clients, runs a `Session` for each, and drains at the end.

    accept -> (PROXY header, of our own load balancers) -> (TLS, where it is spoken from the first octet) -> session

The door to aiosmtpd. Its ``SMTP`` class is the asyncio protocol under each session, and from it we take the transport,
the stream reader and writer. Its command loop is replaced by our own: it has no hook before the greeting, ends commands
at a bare LF, sends the text of exceptions to the client, keeps a session open after a 421, and forgets a client that
closes its sending side early.

Connections are accepted here, and not by asyncio's own server, because a PROXY header has to be read off the socket
octet for octet: what follows it may be a TLS handshake.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_address

from aiosmtpd.smtp import SMTP

from reputation.events import ClientAddress
from reputation.lookups.names import unmapped
from smtp_frontend import answers
from smtp_frontend.crowd import Crowd
from smtp_frontend.listeners import Kind, Listener
from smtp_frontend.proxied import HEADER_SECONDS, read_header
from smtp_frontend.proxy_header import ProxyHeader, ProxyHeaderError
from smtp_frontend.reply import Reply
from smtp_frontend.session import Session
from smtp_frontend.surroundings import Surroundings
from smtp_frontend.visitor import Arrival, is_among
from smtp_frontend.wire import READ_BYTES, ClientGone, Wire

log = logging.getLogger("reputon.smtp")
logging.getLogger("mail.log").setLevel(logging.WARNING)  # aiosmtpd's own chatter

SESSION_SECONDS = 86_400.0
"""No session lives longer, whatever it does."""
PAUSE_SECONDS = 0.5
"""Until it is tried again to accept, when there is no room for one more open file."""
HANDSHAKE_SECONDS = 10.0
ACCEPTED_AT_ONCE = 64
"""Clients that are taken in before others have their turn."""


class Server:
    """The SMTP front end of one process."""

    def __init__(self, shared: Surroundings) -> None:
        self.shared = shared
        self.sessions: set[Session] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: list[tuple[asyncio.Task[None], socket.socket]] = []
        self._waiting = Crowd(shared.settings.max_sessions_per_ip)
        """Connections that are no sessions yet: of a handshake, say."""
        self.draining = False

    async def listen(self, listeners: Sequence[Listener]) -> None:
        """Begin to accept on sockets that listen already; those that are not for SMTP are passed over."""
        for listener in listeners:
            if listener.kind is not Kind.POLICY:
                listener.socket.setblocking(False)
                task = asyncio.create_task(self._accept(listener), name=f"accept {listener.name}")
                task.add_done_callback(_report)
                self._accepting.append((task, listener.socket))

    async def _accept(self, listener: Listener) -> None:
        loop = asyncio.get_running_loop()
        taken = 0
        while True:
            try:
                connection, address = await loop.sock_accept(listener.socket)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # that one has left before it was accepted
                    log.error("cannot accept a client: %s", error.strerror)  # noqa: TRY400 - not a mistake of the program
                    await asyncio.sleep(PAUSE_SECONDS)
                continue
            connection.setblocking(False)
            self.track(asyncio.create_task(self._welcome(connection, ip_address(address[0]), listener.kind)))
            taken += 1
            if taken % ACCEPTED_AT_ONCE == 0:
                await asyncio.sleep(0)

    async def _welcome(self, connection: socket.socket, peer: ClientAddress, kind: Kind) -> None:
        """What comes before the session. Who is slow in it takes a place of his own sessions."""
        peer = unmapped(peer)
        is_proxy = is_among(peer, self.shared.settings.proxy_from)
        # Only a handshake can be slow. A session counts by itself (`refusal_of`), and hears when it is one too many.
        may_be_slow = kind is Kind.SUBMISSIONS and not is_proxy
        is_too_much = len(self._tasks) > 2 * self.shared.settings.max_sessions  # sessions, and who waits for one
        if is_too_much or (may_be_slow and not self._waiting.enter(peer)):
            connection.close()
            return
        try:
            if (arrival := await self._arrival(connection, peer, kind, is_proxy=is_proxy)) is not None:
                await self._connect(connection, arrival, kind)
                return
            connection.close()
        except BaseException:
            connection.close()
            raise
        finally:
            if may_be_slow:
                self._waiting.leave(peer)

    async def _arrival(
        self, connection: socket.socket, peer: ClientAddress, kind: Kind, *, is_proxy: bool
    ) -> Arrival | None:
        """Who has come; None for a load balancer that does not say."""
        settings = self.shared.settings
        submission, tls = kind is not Kind.SMTP, kind is Kind.SUBMISSIONS
        if not is_proxy:
            has_place = is_among(peer, settings.xclient_from)
            return Arrival(client=peer, submission=submission, tls=tls, has_place=has_place)
        try:
            async with asyncio.timeout(HEADER_SECONDS):
                header: ProxyHeader = await read_header(connection)
        except (ProxyHeaderError, TimeoutError, OSError) as error:
            reason = str(error) or f"nothing came in {HEADER_SECONDS:g} s"
            log.warning("%s is in smtp.proxy_from, and a connection of it has no PROXY header: %s", peer, reason)
            return None
        if header.source in (None, peer):  # itself: version 1 has no other word for it
            return Arrival(client=peer, submission=submission, tls=tls, is_check=True, has_place=True)
        has_place = is_among(header.source, settings.xclient_from)
        return Arrival(client=header.source, submission=submission, tls=tls or header.tls, has_place=has_place)

    async def _connect(self, connection: socket.socket, arrival: Arrival, kind: Kind) -> None:
        loop = asyncio.get_running_loop()
        tls = self.shared.tls if kind is Kind.SUBMISSIONS else None  # only a rehearsal has none there
        try:
            await loop.connect_accepted_socket(
                lambda: _Protocol(self, arrival),
                connection,
                ssl=tls,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if tls else None,
            )
        except (OSError, ssl.SSLError) as error:
            log.info("no TLS with %s: %s", arrival.client, error)
            connection.close()

    def refusal_of(self, arrival: Arrival) -> Reply | None:
        """What somebody is told for whom there is no place."""
        if self.draining:
            return answers.CLOSING
        if len(self.sessions) >= self.shared.settings.max_sessions:
            return answers.TOO_MANY_SESSIONS
        if not arrival.has_place and self.shared.crowd.is_full(arrival.client):
            return answers.TOO_MANY_OF_YOURS
        return None

    def track(self, task: asyncio.Task[None]) -> None:
        """Keep a session's task until it ends."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop listening, let open transactions finish for `drain_seconds`, then end what is left."""
        self.draining = True
        accepting = [task for task, _ in self._accepting]
        for task in accepting:
            task.cancel()
        await asyncio.gather(*accepting, return_exceptions=True)
        for _, listening in self._accepting:
            listening.close()
        await asyncio.gather(*(session.stop() for session in self.sessions))
        if self._tasks:
            _, left = await asyncio.wait(self._tasks, timeout=self.shared.settings.drain_seconds)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)


class _NoHooks:
    """A handler that aiosmtpd need not look through."""

    def __dir__(self) -> list[str]:
        return []


_NO_HOOKS = _NoHooks()


class _Protocol(SMTP):
    """aiosmtpd's protocol with our session inside."""

    line_length_limit = READ_BYTES  # aiosmtpd takes the stream reader's limit from here

    def __init__(self, server: Server, arrival: Arrival) -> None:
        super().__init__(_NO_HOOKS, hostname=server.shared.hostname, timeout=SESSION_SECONDS)
        self._server = server
        self._arrival = arrival
        self._wire: Wire | None = None

    def __dir__(self) -> list[str]:
        # aiosmtpd looks through all members of each connection for commands and mechanisms; here it need not find any.
        return []

    async def _handle_client(self) -> None:
        server, settings = self._server, self._server.shared.settings
        self._wire = Wire(self._reader, self._writer, settings.command_timeout_seconds, spool=server.shared.spool)
        task = asyncio.current_task()
        assert task is not None
        server.track(task)
        if refusal := server.refusal_of(self._arrival):
            await self._turn_away(self._wire, refusal)
            return
        session = Session(server.shared, self._wire, self._arrival)
        server.sessions.add(session)
        metrics = server.shared.engine.metrics
        metrics.sessions.set(len(server.sessions))
        try:
            await session.run()
        finally:
            server.sessions.discard(session)
            metrics.sessions.set(len(server.sessions))

    async def _turn_away(self, wire: Wire, refusal: Reply) -> None:
        with suppress(ClientGone):
            await wire.send(refusal)
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


def _report(task: asyncio.Task[None]) -> None:
    """Accepting ends when it is told to. If it ends otherwise, nobody is heard any more: that must not be silent."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s has ended", task.get_name(), exc_info=error)
