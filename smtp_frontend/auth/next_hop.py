"""``smtp://HOST:PORT``, ``smtps://HOST:PORT``: asks another mail server, by logging in to it as the user.

====================================  ==========================================================================
``smtps://HOST[:PORT]``               TLS from the first octet, port 465 where none is given
``smtp://HOST[:PORT]?tls=starttls``   STARTTLS first, port 587
``smtp://HOST[:PORT]``                without TLS, to this machine only: 127.0.0.1, ::1, localhost
``&ca=FILE``, ``?ca=FILE``            the authority to trust, instead of the system's
====================================  ==========================================================================

Promises: no password goes over a network but by TLS with a certificate that proves the host's name. Each log-in has a
connection of its own, at most `MAX_CONNECTIONS` at once. Only what is clearly about the user (`ABOUT_USER`) denies;
everything else, a server that offers no AUTH PLAIN among it, is our trouble.

Does not do: telling that server for whom we ask: it sees all failures come from this machine, and must not lock it out.

Bugs: two spellings that are one user there (aliases, ``alice+x``) are two users here.
"""

import asyncio
import base64
import contextlib
import ssl
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlsplit

from reputation.errors import ConfigError
from smtp_frontend.auth.contract import DENIED, Accepted, Verified, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.next_hop.address import is_loopback
from smtp_frontend.next_hop.wire import HopTrouble, Wire, connect_tcp
from smtp_frontend.reply import Reply

MAX_CONNECTIONS = 50
MAX_COMMAND_OCTETS = 510
"""A longer AUTH goes without an initial response: RFC 4954 section 4."""
QUIT_SECONDS = 1.0

ACCEPTED = 235
ABOUT_USER = frozenset({525, 535})
"""Account disabled (RFC 5248 section 2.4), credentials invalid (RFC 4954 section 6)."""
ENHANCED_ABOUT_USER = frozenset({"5.7.8", "5.7.13"})
"""The same, of servers that have another code with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HopPeer:
    """The server, and how it is spoken to. Made once from the settings."""

    host: str
    port: int
    hostname: str
    """Ours, for EHLO."""
    timeout_seconds: float
    """For each answer."""
    tls: ssl.SSLContext | None = None
    tls_at_once: bool = False
    """Whether TLS begins before the greeting; else by STARTTLS."""

    @classmethod
    def parse(cls, url: str, *, hostname: str, timeout_seconds: float) -> "HopPeer":
        """Read a URL; raises `ConfigError`."""
        parts = urlsplit(url)
        at_once = parts.scheme == "smtps"
        options = _options(parts)
        starttls = options.get("tls") == "starttls"
        if not parts.hostname or parts.path.strip("/") or "@" in parts.netloc or (at_once and "tls" in options):
            raise ConfigError(
                "[smtp.auth] url: write smtps://HOST:PORT, smtp://HOST:PORT?tls=starttls or smtp://[::1]:PORT"
            )
        if not (at_once or starttls) and not is_loopback(parts.hostname):
            raise ConfigError(f"[smtp.auth] url: passwords go by TLS only: write smtp://{parts.netloc}?tls=starttls")
        return cls(
            host=parts.hostname,
            port=parts.port or (465 if at_once else 587 if starttls else 25),
            hostname=hostname,
            timeout_seconds=timeout_seconds,
            tls=_context(options.get("ca", "")) if at_once or starttls else None,
            tls_at_once=at_once,
        )


def _options(parts: SplitResult) -> dict[str, str]:
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    if set(options) - {"tls", "ca"} or options.get("tls", "starttls") != "starttls":
        raise ConfigError("[smtp.auth] url: the options are ?tls=starttls and ca=FILE")
    return options


def _context(ca: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"[smtp.auth] url: ca={ca}: cannot be used: {error}") from None


class HopVerifier:
    """Checks passwords by logging in elsewhere."""

    def __init__(self, peer: HopPeer) -> None:
        self._peer = peer
        self._room = asyncio.Semaphore(MAX_CONNECTIONS)

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:  # noqa: ARG002 - see "Does not do"
        """See `Verifier`."""
        async with self._room:
            try:
                return await self._logged_in(credentials)
            except HopTrouble as trouble:
                raise VerifierUnavailable(str(trouble)) from trouble

    async def close(self) -> None:
        """See `Verifier`. Nothing is kept between two log-ins."""

    async def _logged_in(self, credentials: Credentials) -> Verified:
        peer = self._peer
        wire = await connect_tcp(peer.host, peer.port, peer.timeout_seconds)
        try:
            await self._introduce(wire)
            reply = await self._authenticate(wire, credentials)
            with contextlib.suppress(HopTrouble):  # it is over either way
                await wire.command(b"QUIT", min(QUIT_SECONDS, peer.timeout_seconds))
        finally:
            wire.drop()
        if reply.code == ACCEPTED:
            return Accepted(user=credentials.user)
        if reply.code in ABOUT_USER or reply.enhanced in ENHANCED_ABOUT_USER:
            return DENIED
        raise VerifierUnavailable(f"answers AUTH with {reply.one_line}")

    async def _introduce(self, wire: Wire) -> None:
        """Greeting, TLS, EHLO: up to where AUTH may come."""
        peer = self._peer
        if peer.tls is not None and peer.tls_at_once:
            await wire.start_tls(peer.tls, peer.host, peer.timeout_seconds)
        _expect(await wire.answer(peer.timeout_seconds), "the greeting")
        offered = await self._hello(wire)
        if peer.tls is not None and not peer.tls_at_once:
            _expect(await self._command(wire, b"STARTTLS"), "STARTTLS")
            await wire.start_tls(peer.tls, peer.host, peer.timeout_seconds)
            offered = await self._hello(wire)  # RFC 3207 section 4.2: what was offered before does not count
        if not any(_offers_plain(line) for line in offered):
            raise VerifierUnavailable("does not offer AUTH PLAIN")

    async def _hello(self, wire: Wire) -> tuple[str, ...]:
        reply = await self._command(wire, b"EHLO " + self._peer.hostname.encode("ascii"))
        _expect(reply, "EHLO")
        return reply.text_lines[1:]

    async def _authenticate(self, wire: Wire, credentials: Credentials) -> Reply:
        message = base64.b64encode(f"\0{credentials.login}\0{credentials.password}".encode())
        at_once = b"AUTH PLAIN " + message
        if len(at_once) <= MAX_COMMAND_OCTETS:
            return await self._command(wire, at_once)
        reply = await self._command(wire, b"AUTH PLAIN")
        return await self._command(wire, message) if reply.intermediate else reply

    async def _command(self, wire: Wire, line: bytes) -> Reply:
        return await wire.command(line, self._peer.timeout_seconds)


def _expect(reply: Reply, what: str) -> None:
    if not reply.positive:
        raise VerifierUnavailable(f"answers {what} with {reply.one_line}")


def _offers_plain(line: str) -> bool:
    keyword, *mechanisms = line.upper().replace("=", " ", 1).split(" ")  # AUTH=PLAIN: as it was before RFC 2554
    return keyword == "AUTH" and "PLAIN" in mechanisms
