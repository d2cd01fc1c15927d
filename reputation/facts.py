"""What is found out about an event besides what it says itself: values, and the words for what can be asked.

Look-ups ask the world (`reputation.contracts.Lookups`): whose network the client is in, its reverse name, DNS lists,
SPF; of a message its signatures (DKIM, ARC), its author's domain (DMARC) and content filters. An answer that did not
come in time is the fact "temperror", never a reason of its own to refuse anybody.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Lookup(StrEnum):
    """What can be found out, from the DNS and by filters. Networks lie in a table in memory and cost nothing."""

    IPREV = "iprev"
    """The client's reverse name, confirmed forward: RFC 8601 section 2.7.3."""
    DNSBL = "dnsbl"
    """The DNS lists that the client is on: RFC 5782."""
    SPF = "spf"
    """Whether the client may send for the sender's domain, of the HELO name for bounces: RFC 7208."""
    DKIM = "dkim"
    """The message's signatures: RFC 6376."""
    DMARC = "dmarc"
    """Whether SPF or DKIM speaks for the author's domain, and what it wants otherwise: RFC 7489. Asks for both."""
    ARC = "arc"
    """What servers before us have found, as far as their chain of seals holds: RFC 8617."""
    FILTER = "filter"
    """What content filters say about the message."""


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
class Signature:
    """One DKIM signature of a message, and whether it holds."""

    result: str
    """none, pass, fail, policy, neutral, temperror or permerror (RFC 8601 section 2.7.1)."""
    domain: str = ""
    """Who signed (d=), lower case."""
    selector: str = ""
    identity: str = ""
    """On whose behalf (i=), empty when it does not say."""
    mark: str = ""
    """The first eight characters of the signature (b=), which tell it from others (RFC 6008)."""


class Judgement(StrEnum):
    """What a content filter makes of a message, the worst last."""

    HAM = "ham"
    """Nothing speaks against it."""
    UNSURE = "unsure"
    """Something does, and not enough: rspamd's greylist, and what no other word fits."""
    DEFER = "defer"
    """It should come again later: rspamd's "soft reject"."""
    SPAM = "spam"
    MALWARE = "malware"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filtered:
    """What one content filter, or all of them together, said about a message."""

    verdict: str = ""
    """A `Judgement`, or temperror; empty when none was asked (too large, none configured)."""
    score: float = 0.0
    """As the filter counts; 0 from filters that do not."""
    action: str = ""
    """The filter's own word, such as rspamd's "add header"."""
    symbols: tuple[str, ...] = ()
    """The names of its tests that hit."""
    malware: str = ""
    """The name of what a scanner has found."""
    headers: tuple[tuple[str, str], ...] = ()
    """Fields that the filter wants at the top of the message, in order; ASCII, one line each."""
    removed: tuple[str, ...] = ()
    """Names of fields that it wants gone."""
    reply: str = ""
    """Text for the client, when it wants the message refused."""
    learns: bool = False
    """Whether the verdict is evidence (`[[filter]] learn`)."""
    failed_closed: bool = False
    """Whether a filter whose `on_failure` is tempfail gave no answer."""


NOT_FILTERED = Filtered()


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
    spf_identity: str = ""
    """What SPF was asked about: an address, or ``postmaster@HELO`` for bounces."""
    signatures: tuple[Signature, ...] = ()
    """DKIM, in the order of the header."""
    dkim: str = ""
    """The best of their results: pass when one holds; none without signatures."""
    dmarc: str = ""
    """none, pass, fail, temperror or permerror (RFC 7489 section 11.2)."""
    dmarc_policy: str = ""
    """What the author's domain wants done with what fails: none, quarantine or reject; empty without a record."""
    dmarc_domain: str = ""
    """The author's domain that was asked about."""
    arc: str = ""
    """none, pass or fail (RFC 8617 section 4.4), or temperror."""
    arc_domain: str = ""
    """Who has sealed last, lower case; only with a pass."""
    filtered: Filtered = NOT_FILTERED
    is_complete: bool = False
    """Whether all that was wanted has been asked: about the same event nobody is asked again."""

    @property
    def dkim_domains(self) -> tuple[str, ...]:
        """Whose signatures hold, in the order of the header."""
        return tuple(dict.fromkeys(each.domain for each in self.signatures if each.result == PASS))

    @property
    def failed(self) -> frozenset[Lookup]:
        """What had no answer."""
        failed = {
            Lookup.IPREV: self.iprev == TEMPERROR,
            Lookup.DNSBL: bool(self.dnsbl_temperror),
            Lookup.SPF: self.spf == TEMPERROR,
            Lookup.DKIM: self.dkim == TEMPERROR or any(each.result == TEMPERROR for each in self.signatures),
            Lookup.DMARC: self.dmarc == TEMPERROR,
            Lookup.ARC: self.arc == TEMPERROR,
            Lookup.FILTER: self.filtered.verdict == TEMPERROR,
        }
        return frozenset(lookup for lookup, has_failed in failed.items() if has_failed)


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
