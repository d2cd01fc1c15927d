"""What the DNS has said, in our own words, out of a message of its.

An answer is the records of the kind that was asked for, at the end of the chain of CNAMEs, or one of three words why
there are none: the name does not exist, it has no such records, or nothing could be found out (temperror).

How long it holds: the least TTL on the way; without records the time that the zone's SOA gives to that (RFC 2308
section 5); a failure `FAILED_SECONDS`, so that what is broken is not asked about again and again. All within
`LEAST_SECONDS` and `MOST_SECONDS`.

Of a great many records only the first `MAX_RECORDS` are looked at. Names that no host can have are left out.
"""

from collections.abc import Callable, Mapping
from itertools import islice
from typing import Final, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdatatype
import dns.rrset

from reputation.lookups.names import host_name

FOUND: Final = "found"
NXDOMAIN: Final = "nxdomain"
NODATA: Final = "nodata"
TEMPERROR: Final = "temperror"

LEAST_SECONDS = 5.0
MOST_SECONDS = 3_600.0
FAILED_SECONDS = 5.0
MAX_RECORDS = 256
WEIGHED_OCTETS = 256
"""An answer counts once more for each of these that its texts have."""

Record = str | bytes | tuple[int, str]
"""An address or a name as text; the octets of a TXT record, joined; preference and name of an MX record."""


class Answer(NamedTuple):
    """What became of one question."""

    status: str
    """found, nxdomain, nodata or temperror."""
    records: tuple[Record, ...] = ()
    expires: float = 0.0
    """Until when it holds, seconds of the resolver's clock."""

    @property
    def weight(self) -> int:
        """How much of a cache it takes."""
        size = sum(len(one[1]) + 8 if isinstance(one, tuple) else len(one) for one in self.records)
        return 1 + size // WEIGHED_OCTETS

    @property
    def plain(self) -> tuple[str, tuple[Record, ...], float]:
        """The same as a plain tuple, of which a cache is made."""
        return self.status, self.records, self.expires

    def texts(self) -> list[str]:
        """The records that are addresses or names."""
        return [record for record in self.records if isinstance(record, str)]


# Of dnspython's classes of records each has attributes of its own, which its types do not tell apart.
_READ: Mapping[str, Callable[..., Record | None]] = {
    "A": lambda record: str(record.address),
    "AAAA": lambda record: str(record.address),
    "PTR": lambda record: host_name(record.target.to_text()) or None,
    "MX": lambda record: (record.preference, name) if (name := host_name(record.exchange.to_text())) else None,
    "TXT": lambda record: b"".join(record.strings),
}
KINDS = frozenset(_READ)
"""What can be asked for."""


def failed(now: float) -> Answer:
    """Nothing could be found out."""
    return Answer(TEMPERROR, (), now + FAILED_SECONDS)


def answer_of(message: dns.message.Message, kind: str, now: float) -> Answer:
    """The answer in a message; a message that makes no sense is a failure."""
    if not isinstance(message, dns.message.QueryMessage):
        return failed(now)
    try:
        chain = message.resolve_chaining()
    except dns.exception.DNSException:  # a chain that is too long, or does not fit what was asked
        return failed(now)
    expires = now + min(MOST_SECONDS, max(LEAST_SECONDS, chain.minimum_ttl))
    if chain.answer is not None:
        return Answer(FOUND, _records(chain.answer, kind), expires)
    if not any(rrset.rdtype == dns.rdatatype.SOA for rrset in message.authority):
        expires = now + LEAST_SECONDS  # RFC 2308 section 5: nothing says how long that holds
    return Answer(NXDOMAIN if message.rcode() == dns.rcode.NXDOMAIN else NODATA, (), expires)


def _records(rrset: dns.rrset.RRset, kind: str) -> tuple[Record, ...]:
    read = (_READ[kind](record) for record in islice(rrset, MAX_RECORDS))
    return tuple(record for record in read if record is not None)


def is_usable(message: dns.message.Message) -> bool:
    """Whether a server has an answer, and not only troubles of its own."""
    return message.rcode() in {dns.rcode.NOERROR, dns.rcode.NXDOMAIN}
