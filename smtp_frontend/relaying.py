"""Whom mail may be sent to through here: not everybody to everybody, which is an open relay. No I/O.

Users who have logged in, and clients of `relay_from`, send to any domain; everybody else to `relay_domains`. A
recipient without a domain is our own postmaster (RFC 5321 section 4.5.1).

A local part that could be read as a route (``bob%elsewhere``, ``elsewhere!bob``, ``"bob@elsewhere"``) is refused to
everybody else, too: a next hop that trusts us may take it for one.
"""

from unicodedata import normalize

from reputation.front_end_settings import ANY_DOMAIN, SmtpSettings
from reputation.spelling import canonical_domain
from smtp_frontend.visitor import Visitor, is_among

_ROUTE = frozenset("%!@")


class Relaying:
    """Who may send to whom, as the configuration says."""

    def __init__(self, settings: SmtpSettings) -> None:
        names = settings.relay_domains
        self._anybody = not names or ANY_DOMAIN in names
        self._domains = frozenset(canonical_domain(name) for name in names if not name.startswith("*."))
        self._parents = tuple(f".{canonical_domain(name[2:])}" for name in names if name.startswith("*."))
        self._from = settings.relay_from

    def permits(self, visitor: Visitor, recipient: str) -> bool:
        """Whether somebody may send to `recipient`."""
        if self._anybody or visitor.facts.user or "@" not in recipient:
            return True
        if not visitor.is_unknown and is_among(visitor.facts.client, self._from):
            return True
        # A next hop may make one letter of what looks alike, such as a wide percent sign.
        return self._is_ours(recipient) and self._is_ours(normalize("NFKC", recipient))

    def _is_ours(self, recipient: str) -> bool:
        local, _, domain = recipient.rpartition("@")
        domain = canonical_domain(domain)
        return _ROUTE.isdisjoint(local) and (domain in self._domains or domain.endswith(self._parents))
