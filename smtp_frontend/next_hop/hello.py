"""From nothing to a connection that is ready for MAIL: connect, greeting, EHLO or LHLO, STARTTLS, XCLIENT.

Promises: whatever goes wrong here is `HopUnreachable`, and the connection is gone. A greeting or EHLO that
refuses us is our trouble and not the sender's, whatever its code. With ``starttls=may`` a failed handshake is
followed by one new connection in clear text (RFC 7435 section 4): no TLS is not worse than no mail. A server that does
not offer XCLIENT gets the mail without it; one that offers and refuses it gets none.

After XCLIENT we say EHLO as the client did, since that is the name that a server's rules look at and that stands in its
Received field. A server that finds no sense in it (501) hears ours.

Does not do: AUTH, client certificates, DANE, MTA-STS.

Bugs: a server whose handshake always fails costs two connections each time. One that turns a client away at XCLIENT or
at this EHLO, and not at RCPT, has his mail deferred until he gives up (Postfix with ``smtpd_delay_reject = no``). A
client that said HELO is told of in PROTO only: we say EHLO.
"""

import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from smtp_frontend.next_hop.address import HopAddress, StartTls
from smtp_frontend.next_hop.wire import HopRefuses, HopTrouble, HopUnreachable, Wire, connect_tcp, connect_unix
from smtp_frontend.next_hop.xclient import Introduction, commands
from smtp_frontend.reply import Reply

LOG = logging.getLogger("reputon.next_hop")

Extensions = Mapping[str, str]
"""What the server offered in its answer to EHLO: keywords in capitals, and the parameters of each."""
SYNTAX_ERROR = 501


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """A connection that MAIL can be said on."""

    wire: Wire
    offered: Extensions
    told: bool
    """Whether the server has heard whom we speak for."""


async def introduce(peer: Peer, client: Introduction | None = None) -> Ready:
    """A connection that is ready for MAIL, for `client` where the server wants to know; raises `HopUnreachable`."""
    try:
        return await _introduce(peer, peer.tls, client)
    except _HandshakeFailed as failed:
        LOG.warning("%s: %s; trying again without TLS", peer.url, failed)
        return await _introduce(peer, None, client)


async def _introduce(peer: Peer, tls: ssl.SSLContext | None, client: Introduction | None) -> Ready:
    wire = await _connect(peer)
    try:
        _accepted(await wire.answer(peer.timeout_seconds), "greeting")
        offered = await _hello(wire, peer)
        if tls is not None:
            offered = await _secure(wire, peer, tls, offered)
        told = commands(client, offered.get("XCLIENT", "")) if client is not None else []
        if client is not None and told:
            offered = await _speak_for(wire, peer, told, client.hello or peer.hostname)
    except HopTrouble as trouble:
        wire.drop()
        if isinstance(trouble, HopUnreachable):
            raise
        raise HopUnreachable(str(trouble)) from trouble
    except BaseException:  # cancelled: nobody else knows of this connection
        wire.drop()
        raise
    return Ready(wire=wire, offered=offered, told=bool(told))


async def _connect(peer: Peer) -> Wire:
    if peer.address.path:
        return await connect_unix(peer.address.path, peer.timeout_seconds)
    return await connect_tcp(peer.address.host, peer.address.port, peer.timeout_seconds)


async def _hello(wire: Wire, peer: Peer) -> Extensions:
    """EHLO, or HELO where a server does not know EHLO (RFC 5321 section 3.2); LHLO for LMTP."""
    reply = await _say_hello(wire, peer, peer.hostname)
    if reply.permanent and not peer.lmtp:
        name = peer.hostname.encode("ascii")
        _accepted(await wire.command(b"HELO " + name, peer.timeout_seconds), "HELO")
        return {}
    return _extensions(reply, peer)


async def _say_hello(wire: Wire, peer: Peer, name: str) -> Reply:
    return await wire.command(f"{_verb(peer)} {name}".encode("ascii"), peer.timeout_seconds)


def _extensions(reply: Reply, peer: Peer) -> Extensions:
    _accepted(reply, _verb(peer))
    lines = (line.partition(" ") for line in reply.text_lines[1:])
    return {keyword.upper(): parameters for keyword, _, parameters in lines}


def _verb(peer: Peer) -> str:
    return "LHLO" if peer.lmtp else "EHLO"


async def _speak_for(wire: Wire, peer: Peer, told: list[bytes], name: str) -> Extensions:
    """XCLIENT, and EHLO anew: what is offered may depend on who asks.

    The server is there. When it does not go along, that may be because of this client, and is no reason for others to
    think that it is away: all trouble is `HopRefuses`.
    """
    try:
        for command in told:
            _accepted(await wire.command(command, peer.timeout_seconds), "XCLIENT")
        reply = await _say_hello(wire, peer, name)
        if reply.code == SYNTAX_ERROR:
            reply = await _say_hello(wire, peer, peer.hostname)
        return _extensions(reply, peer)
    except HopRefuses:
        raise
    except HopTrouble as trouble:
        raise HopRefuses(f"{trouble} (after XCLIENT)") from trouble


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
