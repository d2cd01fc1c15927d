"""``dovecot:SOCKET``, ``dovecot://HOST:PORT``: asks Dovecot's authentication service, as Postfix does.

Dovecot must offer it: ``service auth { unix_listener ... }`` or ``inet_listener``, both without TLS.

Promises: all log-ins share one connection, each with a number of its own, so a slow one holds up no other. A connection
that has ended is made anew for the next log-in; one that ends while a password is being checked is tried again once.
None is used for longer than `CONNECTION_SECONDS`: a Dovecot that is restarted or reloaded keeps its old processes, with
their old settings, for those who stay connected to them. What Dovecot calls temporary, and everything that it should
not say, is our trouble.

Does not do: mechanisms other than PLAIN, TLS to Dovecot.

Bugs: a failure is answered two seconds late, because Dovecot waits so long (its `auth_failure_delay`).
"""

import asyncio
import os
from collections.abc import Awaitable
from typing import cast
from urllib.parse import urlsplit

from reputation.errors import ConfigError, ReputonError
from reputation.spelling import canonical_address
from smtp_frontend.auth.contract import DENIED, Accepted, Verified, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.dovecot_lines import (
    MAJOR_VERSION,
    MAX_LINE_OCTETS,
    MAX_NUMBER,
    Answer,
    NonsenseError,
    Verdict,
    greeting,
    parse,
    request,
)

MAX_PENDING = 1_000
"""Log-ins under way at once; one more is our trouble."""
CONNECTION_SECONDS = 60.0


class LostError(ReputonError):
    """The connection has ended, or is of no use."""


class DovecotVerifier:
    """Checks passwords by asking Dovecot."""

    def __init__(self, url: str) -> None:
        """Connects when it is first asked; raises `ConfigError` for a URL that names no place."""
        self._path, self._host, self._port = _place(url)
        self._link: _Link | None = None
        self._connecting = asyncio.Lock()
        self._numbers = 0

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:
        """See `Verifier`."""
        try:
            try:
                answer = await self._asked(credentials, client)
            except LostError:  # it may have ended long ago, and nobody has noticed
                answer = await self._asked(credentials, client)
        except LostError as error:
            raise VerifierUnavailable(str(error)) from error
        if answer.verdict is Verdict.TROUBLE:
            raise VerifierUnavailable("a temporary failure, says Dovecot")
        if answer.verdict is Verdict.WRONG:
            return DENIED
        return Accepted(user=canonical_address(answer.user, "") or credentials.user)

    async def close(self) -> None:
        """See `Verifier`."""
        if self._link is not None:
            self._link.drop("closed")

    async def _asked(self, credentials: Credentials, client: str) -> Answer:
        link = await self._linked()
        self._numbers = self._numbers % MAX_NUMBER + 1
        return await link.ask(self._numbers, request(self._numbers, credentials, client))

    async def _linked(self) -> "_Link":
        """The connection, ready to be asked."""
        async with self._connecting:
            if self._link is not None and self._link.is_usable:
                return self._link
            old, self._link = self._link, None
            if old is not None:
                old.retire()
            self._link = await self._connected()
            return self._link

    async def _connected(self) -> "_Link":
        loop = asyncio.get_running_loop()
        attempt: Awaitable[tuple[asyncio.BaseTransport, _Link]]
        if self._path:
            attempt = loop.create_unix_connection(_Link, self._path)
        else:
            attempt = loop.create_connection(_Link, self._host, self._port)
        try:
            _, link = await attempt
        except (OSError, UnicodeError) as error:
            raise LostError(f"cannot connect: {error}") from error
        try:
            await link.ready
        except BaseException:  # cancelled, or lost: nobody else knows of it
            link.drop("given up")
            raise
        return link


def _place(url: str) -> tuple[str, str, int]:
    """(path of a socket, host, port); either the first is empty or the others are."""
    parts = urlsplit(url)
    if not parts.netloc and parts.path.startswith("/") and not parts.query:
        return parts.path, "", 0
    if parts.hostname and parts.port and not parts.path.strip("/") and "@" not in parts.netloc:
        return "", parts.hostname, parts.port
    raise ConfigError("[smtp.auth] url: write dovecot:/PATH/OF/SOCKET or dovecot://HOST:PORT")


class _Link(asyncio.Protocol):
    """One connection: who waits for which answer."""

    def __init__(self) -> None:
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when Dovecot has introduced itself; a `LostError` when that comes to nothing."""
        self._has_ended = False
        self._is_retired = False
        self._since = asyncio.get_running_loop().time()
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._pending: dict[int, asyncio.Future[Answer]] = {}
        self._offers_plain = False
        self._version = b""

    @property
    def is_usable(self) -> bool:
        """Whether it may be asked one more question."""
        return not self._has_ended and asyncio.get_running_loop().time() - self._since < CONNECTION_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(greeting(os.getpid()))

    def data_received(self, data: bytes) -> None:
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        try:
            for line in lines:
                self._heard(bytes(line))
        except NonsenseError as error:
            self.drop(str(error))
        if len(rest) > MAX_LINE_OCTETS:
            self.drop("a line without an end")

    def connection_lost(self, exc: Exception | None) -> None:
        self.drop(f"Dovecot has hung up: {exc}" if exc else "Dovecot has hung up")

    async def ask(self, number: int, line: bytes) -> Answer:
        """The answer to a request; raises `LostError`."""
        if self._has_ended:
            raise LostError("Dovecot has hung up")
        if len(self._pending) >= MAX_PENDING:
            raise VerifierUnavailable("too many log-ins at once")
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        self._transport.write(line)
        try:
            return await future
        finally:
            self._pending.pop(number, None)
            self._leave()

    def retire(self) -> None:
        """Ask no more, and hang up after the last answer."""
        self._is_retired = True
        self._leave()

    def _leave(self) -> None:
        if self._is_retired and not self._pending:
            self.drop("retired")

    def drop(self, why: str) -> None:
        """Hang up, if that is still to be done. Who waits is told."""
        self._has_ended = True
        self._transport.abort()
        for future in self._pending.values():
            if not future.done():
                future.set_exception(LostError(why))
        if not self.ready.done():
            self.ready.set_exception(LostError(why))
        if not self.ready.cancelled():
            self.ready.exception()  # looked at, also where nobody waits any more

    def _heard(self, line: bytes) -> None:
        if not self.ready.done():
            self._introduced(line)
            return
        answer = parse(line)
        if answer is None:
            return
        future = self._pending.get(answer.number)
        if future is not None and not future.done():  # else its caller has gone
            future.set_result(answer)

    def _introduced(self, line: bytes) -> None:
        """VERSION, MECH, ..., DONE: what Dovecot begins with."""
        kind, *words = line.split(b"\t")
        match kind:
            case b"VERSION":
                self._version = words[0] if words else b""
            case b"MECH":
                self._offers_plain |= words[:1] == [b"PLAIN"]
            case b"DONE" if self._version != MAJOR_VERSION:
                raise NonsenseError(f"this is not version 1 of Dovecot's protocol, but {self._version[:10]!r}")
            case b"DONE" if not self._offers_plain:
                raise NonsenseError("Dovecot does not offer PLAIN: add it to auth_mechanisms")
            case b"DONE":
                self.ready.set_result(None)
