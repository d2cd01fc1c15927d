"""Which dimensions an event of each stage can have."""

from collections.abc import Mapping

from reputation.events import Stage
from reputation.keys import Dimension

_ORDER = (
    (Stage.CONNECT, (Dimension.IP, Dimension.PREFIX, Dimension.ASN, Dimension.COUNTRY, Dimension.RDNS_DOMAIN)),
    (Stage.HELO, (Dimension.HELO,)),
    (Stage.AUTH, (Dimension.USER,)),
    (Stage.MAIL, (Dimension.SENDER, Dimension.SENDER_DOMAIN, Dimension.CLASS, Dimension.SPF_DOMAIN)),
    (Stage.RCPT, (Dimension.RECIPIENT, Dimension.RECIPIENT_DOMAIN)),
    (Stage.DATA, (Dimension.AUTHOR, Dimension.AUTHOR_DOMAIN, Dimension.SUBJECT, Dimension.DKIM_DOMAIN)),
)
ONLY_AT_RCPT = frozenset({Dimension.RECIPIENT, Dimension.RECIPIENT_DOMAIN})
"""A message may have many recipients, so DATA has none of its own."""


def _known_at() -> dict[Stage, frozenset[Dimension]]:
    known: frozenset[Dimension] = frozenset()
    table = {}
    for stage, dimensions in _ORDER:
        known |= frozenset(dimensions)
        table[stage] = known if stage is Stage.RCPT else known - ONLY_AT_RCPT
    return table


KNOWN_AT: Mapping[Stage, frozenset[Dimension]] = _known_at()
"""The dimensions that an event of each stage can have."""
assert frozenset().union(*KNOWN_AT.values()) == set(Dimension)
