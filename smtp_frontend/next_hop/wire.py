"""One connection to a next hop, as octets: commands out, answers in, with bounds and time limits.

Why not `asyncio.StreamReader`: three questions must be answered that it cannot. Has the server said
something that nobody asked for (an answer ahead of its command, text slipped in before TLS starts)? Has it
answered before the message was complete? What did it say just before it hung up?

Promises: an answer is read whole or not at all; `command` never sends while something unread is there; a
server cannot make us keep more than `MAX_UNREAD_OCTETS` nor wait longer than the time limit for a whole
answer; `drop` sends nothing that is still buffered, so a transaction that was given up cannot complete.

Does not do: SMTP's order of commands (`smtp_frontend.next_hop.smtp` does).

Bugs: an answer that comes unasked, but after its command went out, looks like the answer to it.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable
from ipaddress import ip_address
from typing import cast

from reputation.errors import ReputonError
from smtp_frontend.reply import MAX_LINES, Reply, ReplyError, is_last_line
from smtp_frontend.time_limit import TimeLimit

MAX_LINE_OCTETS = 4_096
"""Of one line of an answer; RFC 5321 section 4.5.3.1.5 allows 512."""
MAX_UNREAD_OCTETS = 65_536
"""Of everything that has come and was not asked for yet; a server that sends more is cut off."""
CONNECT_AGAIN_SECONDS = 0.25
"""A host with several addresses: try the next one beside a slow one (RFC 8305)."""


class HopTrouble(ReputonError):
    """A next hop that does not do its part. Never leaves `next_hop`: it becomes a reply and a log line."""

    lost = False
    """Whether a new connection may do better."""


class HopUnreachable(HopTrouble):
    """There is no connection that SMTP can be spoken on."""


class HopRefuses(HopUnreachable):
    """The server is there and will not talk to us."""


class HopLost(HopTrouble):
    """This connection is of no more use: the server has hung up, or is no longer in step with us."""

    lost = True


class HopNonsense(HopTrouble):
    """What the server said is no answer, or no answer to this command."""


class HopTimeout(HopTrouble):
    """No whole answer within the time limit."""


class Wire(asyncio.Protocol):
    """The connection. Made by `connect_tcp` or `connect_unix`; used by one task at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._ended = False
        self._writable = True
        self._waiter: asyncio.Future[None] | None = None
        self._limit = TimeLimit(self._wake)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received) > MAX_UNREAD_OCTETS:
            self.drop()
        self._wake()

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the same to us, whatever the cause
        self._ended = True
        self._limit.close()
        self._wake()

    # What a client of the next hop calls.

    @property
    def unread(self) -> bool:
        """Whether the server has said something that was not read yet."""
        return bool(self._received)

    @property
    def unsent(self) -> bool:
        """Whether something that we wrote has not left yet, or never did before the server hung up."""
        return not self._writable or (not self._ended and self._transport.get_write_buffer_size() > 0)

    async def command(self, line: bytes, timeout_seconds: float) -> Reply:
        """Send one command (without CRLF) and read its answer."""
        if self._received:
            raise HopLost(f"spoke unasked: {bytes(self._received[:60])!r}")
        await self.send(line + b"\r\n", timeout_seconds)
        return await self.answer(timeout_seconds)

    async def send(self, data: bytes, timeout_seconds: float) -> None:
        """Write, and wait until there is room for more, or until the server has something to say to it."""
        if self._ended:
            raise HopLost("hung up")
        self._transport.write(data)
        if not self._writable:
            await self._room(timeout_seconds)

    async def _room(self, timeout_seconds: float) -> None:
        with self._limit.of(timeout_seconds):
            while not (self._writable or self._received or self._ended):
                await self._change("takes no more data")
        if self._ended and not self._writable and not self.unread:
            raise HopLost("hung up while we sent")

    async def answer(self, timeout_seconds: float) -> Reply:
        """Read one answer, all of its lines."""
        lines: list[bytes] = []
        with self._limit.of(timeout_seconds):
            try:
                while not lines or not is_last_line(lines[-1]):
                    if len(lines) == MAX_LINES:
                        raise HopNonsense(f"an answer of more than {MAX_LINES} lines")
                    lines.append(await self._line())
                return Reply.parse(lines)
            except ReplyError as error:
                raise HopNonsense(str(error)) from error

    async def start_tls(self, context: ssl.SSLContext, host: str, timeout_seconds: float) -> None:
        """Turn the connection into TLS, after the server's 220."""
        if self._received:  # answers from before TLS must not count after it: RFC 3207 section 6
            raise HopNonsense("spoke between STARTTLS and the handshake")
        loop = asyncio.get_running_loop()
        async with _within(timeout_seconds, "does not finish the TLS handshake"):
            transport = await loop.start_tls(
                self._transport, self, context, server_hostname=host, ssl_handshake_timeout=timeout_seconds
            )
        if transport is None:
            raise HopLost("hung up during the TLS handshake")
        self._transport = transport

    def drop(self) -> None:
        """Hang up at once. What was not sent yet is never sent."""
        self._ended = True
        self._limit.close()
        self._transport.abort()
        self._wake()

    async def _line(self) -> bytes:
        """The next line with its line end."""
        while not (size := self._received.find(b"\n") + 1) and len(self._received) <= MAX_LINE_OCTETS:
            if self._ended:
                break
            await self._change("does not answer")
        if size == 0 and len(self._received) <= MAX_LINE_OCTETS:
            raise HopLost("hung up without an answer")
        if not 0 < size <= MAX_LINE_OCTETS:
            raise HopNonsense(f"a line of more than {MAX_LINE_OCTETS} octets")
        line = bytes(self._received[:size])
        del self._received[:size]
        return line

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _change(self, what: str) -> None:
        """Wait until anything has changed. Raises `HopTimeout` when the time limit is over."""
        if self._limit.is_over:
            raise HopTimeout(f"{what} within {self._limit.seconds:g} s")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None


async def connect_tcp(host: str, port: int, timeout_seconds: float) -> Wire:
    """A connection to one of the addresses of `host`; raises `HopUnreachable`."""
    loop = asyncio.get_running_loop()
    delay = None if _is_address(host) else CONNECT_AGAIN_SECONDS  # one address: there is no other to try beside it
    return await _connected(loop.create_connection(Wire, host, port, happy_eyeballs_delay=delay), timeout_seconds)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def connect_unix(path: str, timeout_seconds: float) -> Wire:
    """A connection to a Unix-domain socket; raises `HopUnreachable`."""
    loop = asyncio.get_running_loop()
    return await _connected(loop.create_unix_connection(Wire, path), timeout_seconds)


async def _connected(attempt: Awaitable[tuple[asyncio.BaseTransport, Wire]], timeout_seconds: float) -> Wire:
    try:
        async with asyncio.timeout(timeout_seconds):
            _, wire = await attempt
    except TimeoutError as error:
        raise HopUnreachable("cannot connect: no answer") from error
    except (OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
        raise HopUnreachable(f"cannot connect: {error}") from error
    return wire


@contextlib.asynccontextmanager
async def _within(timeout_seconds: float, what: str) -> AsyncIterator[None]:
    """Bounds a conversation and translates what can go wrong in it."""
    try:
        async with asyncio.timeout(timeout_seconds):
            yield
    except TimeoutError as error:
        raise HopTimeout(f"{what} within {timeout_seconds:g} s") from error
    except ReplyError as error:
        raise HopNonsense(str(error)) from error
    except ssl.SSLError as error:
        raise HopNonsense(f"TLS: {error.reason or error}") from error
    except OSError as error:
        raise HopLost(str(error)) from error
