"""From nothing to a connection that is ready for MAIL: connect, greeting, EHLO or LHLO, STARTTLS.

Promises: whatever goes wrong here is `HopUnreachable`, and the connection is gone. A greeting or EHLO that
refuses us is our trouble and not the sender's, whatever its code. With ``starttls=may`` a failed handshake is
followed by one new connection in clear text (RFC 7435 section 4): no TLS is not worse than no mail.

Does not do: AUTH, client certificates, DANE, MTA-STS.

Bugs: a server whose handshake always fails costs two connections each time.
"""

import logging
import ssl
from dataclasses import dataclass

from smtp_frontend.next_hop.address import HopAddress, StartTls
from smtp_frontend.next_hop.wire import HopRefuses, HopTrouble, HopUnreachable, Wire, connect_tcp, connect_unix
from smtp_frontend.reply import Reply

LOG = logging.getLogger("reputon.next_hop")

Extensions = frozenset[str]
"""Keywords that the server offered in its answer to EHLO, in capitals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The server, and how we introduce ourselves. Made once from the configuration."""

    url: str
    address: HopAddress
    hostname: str
    timeout_seconds: float
    tls: ssl.SSLContext | None
    """None for starttls=no."""

    @property
    def lmtp(self) -> bool:
        """Whether it speaks LMTP (RFC 2033)."""
        return self.address.scheme == "lmtp"


class _HandshakeFailed(Exception):
    """TLS was tried, is not required, and did not come about."""


def tls_context(policy: StartTls) -> ssl.SSLContext | None:
    """What `policy` asks of a server's certificate: proof of its name, or nothing."""
    if policy is StartTls.NO:
        return None
    context = ssl.create_default_context()
    if policy is StartTls.MAY:  # RFC 7435: unauthenticated encryption is better than none
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def introduce(peer: Peer) -> tuple[Wire, Extensions]:
    """A connection that is ready for MAIL, and what the server offers on it; raises `HopUnreachable`."""
    try:
        return await _introduce(peer, peer.tls)
    except _HandshakeFailed as failed:
        LOG.warning("%s: %s; trying again without TLS", peer.url, failed)
        return await _introduce(peer, None)


async def _introduce(peer: Peer, tls: ssl.SSLContext | None) -> tuple[Wire, Extensions]:
    wire = await _connect(peer)
    try:
        _accepted(await wire.answer(peer.timeout_seconds), "greeting")
        extensions = await _hello(wire, peer)
        if tls is not None:
            extensions = await _secure(wire, peer, tls, extensions)
    except HopTrouble as trouble:
        wire.drop()
        if isinstance(trouble, HopUnreachable):
            raise
        raise HopUnreachable(str(trouble)) from trouble
    except BaseException:  # cancelled: nobody else knows of this connection
        wire.drop()
        raise
    return wire, extensions


async def _connect(peer: Peer) -> Wire:
    if peer.address.path:
        return await connect_unix(peer.address.path, peer.timeout_seconds)
    return await connect_tcp(peer.address.host, peer.address.port, peer.timeout_seconds)


async def _hello(wire: Wire, peer: Peer) -> Extensions:
    """EHLO, or HELO where a server does not know EHLO (RFC 5321 section 3.2); LHLO for LMTP."""
    name = peer.hostname.encode("ascii")
    reply = await wire.command((b"LHLO " if peer.lmtp else b"EHLO ") + name, peer.timeout_seconds)
    if reply.permanent and not peer.lmtp:
        _accepted(await wire.command(b"HELO " + name, peer.timeout_seconds), "HELO")
        return frozenset()
    _accepted(reply, "LHLO" if peer.lmtp else "EHLO")
    return frozenset(line.split(" ", 1)[0].upper() for line in reply.text_lines[1:])


async def _secure(wire: Wire, peer: Peer, tls: ssl.SSLContext, offered: Extensions) -> Extensions:
    """STARTTLS as far as the policy asks for it; what was offered before it is forgotten (RFC 3207 section 4.2)."""
    required = peer.address.starttls is StartTls.REQUIRE
    if "STARTTLS" not in offered and not required:
        return offered
    reply = await wire.command(b"STARTTLS", peer.timeout_seconds)
    if not reply.positive and not required:
        return offered
    _accepted(reply, "STARTTLS")
    try:
        await wire.start_tls(tls, peer.address.host, peer.timeout_seconds)
    except HopTrouble as trouble:
        if required:
            raise
        raise _HandshakeFailed(str(trouble)) from trouble
    return await _hello(wire, peer)


def _accepted(reply: Reply, what: str) -> None:
    if not reply.positive:
        raise HopRefuses(f"refuses us at {what}: {reply.one_line}")
