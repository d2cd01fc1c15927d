"""Whom a session is with: the peer of the connection, or somebody for whom that peer speaks (PROXY protocol, XCLIENT).

A load balancer of `smtp.proxy_from` says so before anything else (`Arrival`). A peer of `smtp.xclient_from` is one of
our own proxies. Nothing that it does is counted until it has said whose session it is, or has said MAIL for itself: the
connections of all its clients would be its own otherwise, and rules would turn it away. After XCLIENT the session is
that of another client, with an id of its own, and is judged from the beginning.

What counts for trust is who has connected, to us or to our load balancer, never an address that XCLIENT has named.
"""

import secrets
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

from reputation.events import ClientAddress, Session, Stage
from reputation.verdict import Verdict
from smtp_frontend.commands import XclientCommand


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """How somebody has come: to which door, and from where."""

    client: ClientAddress
    """Who has connected: to us, or to the load balancer that says so."""
    submission: bool = False
    """Whether this is where users send: they log in first (RFC 6409)."""
    tls: bool = False
    """Encrypted already: TLS from the first octet, or by the load balancer."""
    is_check: bool = False
    """A load balancer that speaks for nobody: it looks whether we are there."""
    has_place: bool = False
    """Whether it is one of our own proxies, of which any number of connections may come."""


@dataclass(slots=True, kw_only=True)
class Visitor:
    """Who is on the other side, and what was decided about him before there was mail."""

    peer: ClientAddress
    trusted: bool
    """Whether the peer may say XCLIENT."""
    facts: Session
    submission: bool = False
    is_check: bool = False
    is_unknown: bool = False
    """A proxy speaks for somebody whose address it does not know. The facts name its own, whose rights are not his."""
    esmtp: bool = False
    refused: bool = False
    """At the connect: he may only say QUIT."""
    helo_named: str = ""
    """The HELO of somebody for whom a proxy speaks; the proxy's own says nothing about him."""
    proxied: bool = False
    """Whether the peer has said for whom it speaks."""
    judged: bool = False
    """Whether the engine was asked about this connection, and is to hear of its end."""
    verdicts: dict[Stage, Verdict] = field(default_factory=dict)
    """Of this connection, and of the last HELO."""

    @property
    def put_off(self) -> bool:
        """Whether nothing is decided yet, because a proxy has not said for whom it speaks."""
        return (self.trusted or self.is_check) and not self.proxied and not self.judged

    def learned(self, **facts: object) -> None:
        """More is known about him: fields of `Session`."""
        self.facts = replace(self.facts, **facts)  # type: ignore[arg-type] # fields of the session, by their names

    def speaks_for(self, command: XclientCommand) -> "Visitor":
        """Who is on the other side from now on.

        An address begins anew: what was said of another one's HELO and login is over, or his rights would be inherited.
        Without an address the rest is added to what was said before, since a command has room for 512 octets only.
        """
        user, helo = (None, None) if command.names_client else (self.facts.user, self.helo_named)
        client = (command.client or self.peer) if command.names_client else self.facts.client
        facts = Session(id=_new_id(), client=client, user=_first(command.user, user), tls=self.facts.tls)
        return Visitor(
            peer=self.peer,
            trusted=self.trusted,
            facts=facts,
            submission=self.submission,
            is_unknown=command.client is None if command.names_client else self.is_unknown or not self.proxied,
            helo_named=_first(command.helo, helo),
            proxied=True,
        )


def arrived(arrival: Arrival, xclient_from: tuple[str, ...]) -> Visitor:
    """Somebody who has connected."""
    return Visitor(
        peer=arrival.client,
        trusted=is_among(arrival.client, xclient_from),
        facts=Session(id=_new_id(), client=arrival.client, tls=arrival.tls),
        submission=arrival.submission,
        is_check=arrival.is_check,
        is_unknown=arrival.is_check,
    )


def is_among(client: ClientAddress, networks: tuple[str, ...]) -> bool:
    """Whether an address is in one of some networks."""
    return bool(networks) and any(client in network for network in _networks(networks))


@lru_cache(maxsize=16)
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(map(ip_network, texts))


def _new_id() -> str:
    return secrets.token_hex(6)


def _first(*texts: str | None) -> str:
    return next((text for text in texts if text is not None), "")
