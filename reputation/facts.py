"""What is found out about an event besides what it says itself: values, and the words for what can be asked.

Look-ups ask the world (`reputation.contracts.Lookups`): whose network the client is in, its reverse name, DNS lists,
SPF. An answer that did not come in time is the fact "temperror", never a reason of its own to refuse anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Lookup(StrEnum):
    """What can be looked up in the DNS. Networks lie in a table in memory and cost nothing."""

    IPREV = "iprev"
    """The client's reverse name, confirmed forward: RFC 8601 section 2.7.3."""
    DNSBL = "dnsbl"
    """The DNS lists that the client is on: RFC 5782."""
    SPF = "spf"
    """Whether the client may send for the sender's domain, of the HELO name for bounces: RFC 7208."""


TEMPERROR = "temperror"
PASS = "pass"  # noqa: S105 - the word of RFC 8601, no password


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Whose network a client is in; empty where no table says so."""

    asn: int = 0
    """Number of the autonomous system, 0 when unknown."""
    country: str = ""
    """ISO 3166-1 alpha-2 code, upper case."""
    prefix: str = ""
    """The network that the table has it in, such as 192.0.2.0/22."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LookedUp:
    """What look-ups found about an event; empty values for what was not asked."""

    network: Network = field(default_factory=Network)
    iprev: str = ""
    """pass, fail, permerror or temperror (RFC 8601 section 2.7.3)."""
    rdns: str = ""
    """The confirmed name, lower case without a final dot; only with a pass."""
    dnsbl: tuple[str, ...] = ()
    """The lists that the client is on, as they are configured."""
    dnsbl_temperror: tuple[str, ...] = ()
    """Lists that gave no answer."""
    spf: str = ""
    """none, neutral, pass, fail, softfail, temperror or permerror (RFC 7208 section 2.6)."""

    @property
    def failed(self) -> frozenset[Lookup]:
        """What had no answer."""
        found = {Lookup.IPREV: self.iprev == TEMPERROR, Lookup.SPF: self.spf == TEMPERROR}
        return frozenset(
            lookup for lookup, failed in {**found, Lookup.DNSBL: bool(self.dnsbl_temperror)}.items() if failed
        )


NO_NETWORK = Network()
NOTHING_LOOKED_UP = LookedUp(network=NO_NETWORK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What is to be expected of somebody (`reputation.standing`)."""

    score: float
    """0 (good) to 1 (bad)."""
    confidence: float
    """0 (nothing is known) to nearly 1."""
    active_now: float
    repeat_offender: float
    base: float
    """The share of bad mail at this site: the score of whoever is unknown."""
    volume: float
    """Messages that the score rests on, as far as they have not faded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the store was asked about an event before it was judged."""

    scores: Mapping[str, Score] = field(default_factory=dict)
    """By dimension, and of the "message"."""
    counts: Mapping[tuple[str, str, str], int] = field(default_factory=dict)
    """(window, dimension, metric), such as ("last_1h", "ip", "messages")."""
    ages: Mapping[str, float] = field(default_factory=dict)
    """Days since an entity was first seen, by its dimension: 0 for who is new, infinite where the store did not say."""
    told: bool = True
    """Whether the store has answered; what it has not told is not known to be otherwise either."""
    first_time: bool = False
    """Whether this sender has not written to this recipient before, as far as is remembered."""


NOTHING_KNOWN = Known()
