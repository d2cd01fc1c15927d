"""Ratings: what RFC 7073 asserts of somebody, as shares between 0.0 and 1.0, out of the evidence about him.

For each of the five assertions only what supports it, and what is good, is heard, and goes through the levels around
the subject as all evidence together does for a score (`reputation.standing`)::

    rating = (supporting + 2 * the broader level's rating) / (good + supporting + 2)      then lately's in the same way

==================  =================================================
assertion           what supports it
==================  =================================================
abusive             abusive
fraud               fraud
invalid-recipients  invalid-recipients; heard of clients only
malware             malware
spam                spam, complaints, traps: nobody had asked for it
==================  =================================================

The scale is linear (RFC 7073 section 3.1), so one outcome is one message: none counts twofold, as it does in a score.
The broadest level begins with what the whole site has seen, and that with nothing: a rating is 0.0 as long as no level
holds anything in its support. An example, of a site that has seen 20 % spam:

    prefix:192.0.2.0/24   50 spam, 0 good    0.97
    ip:192.0.2.7          nothing            0.97, confidence 0.48, sample size 2: by its neighbours
    ip:192.0.2.8          nothing around it either    0.0, confidence 0.0, sample size 0: nothing known

The sample size is the number of outcomes that the rating was made of: the subject's own, and of the broader level's as
many as its rating weighs, which is two at most. It is 0 only where nothing is known of anybody around, and then the
rating says nothing either. As evidence fades, so do sample size and confidence.

Does not do: bounces. They may be mailboxes that were full, which is no assertion.

Bugs: a good message speaks against every assertion, also at a site where nobody looks for fraud. What is bad in another
way does not: of whoever sends spam by the thousand and one virus, the malware is rated by that virus, with the
confidence of one message.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reputation.bookkeeping import EVIDENCE_OF, WEIGHED, WEIGHED_OF_ALL
from reputation.keys import Dimension, Entity
from reputation.score import KINDS, SHORT_HALF_LIFE_SECONDS, Evidence, EvidenceKind
from reputation.standing import PRIOR_LONG, base_rate, standing_of


class Assertion(StrEnum):
    """What the application "email-id" asserts. RFC 7073 section 3.1."""

    ABUSIVE = "abusive"
    FRAUD = "fraud"
    INVALID_RECIPIENTS = "invalid-recipients"
    MALWARE = "malware"
    SPAM = "spam"


SUPPORT: Mapping[Assertion, frozenset[EvidenceKind]] = {
    Assertion.ABUSIVE: frozenset({EvidenceKind.ABUSIVE}),
    Assertion.FRAUD: frozenset({EvidenceKind.FRAUD}),
    Assertion.INVALID_RECIPIENTS: frozenset({EvidenceKind.INVALID_RECIPIENTS}),
    Assertion.MALWARE: frozenset({EvidenceKind.MALWARE}),
    Assertion.SPAM: frozenset({EvidenceKind.SPAM, EvidenceKind.COMPLAINTS, EvidenceKind.TRAPS}),
}
"""What supports an assertion."""
assert SUPPORT.keys() == set(Assertion)

_WEIGHTS: Mapping[Assertion, Mapping[EvidenceKind, float]] = {
    assertion: {kind: -1.0 if kind is EvidenceKind.HAM else float(kind in support) for kind in KINDS}
    for assertion, support in SUPPORT.items()
}

FORGOTTEN = 0.5
"""Of less than so many outcomes nothing is known any more; it is then that a store forgets (`reputation.score`)."""
SHORTEST_SECONDS = 60
"""How long a rating holds of which next to nothing is known: the next message may change it all."""
LONGEST_SECONDS = int(SHORT_HALF_LIFE_SECONDS * -math.log2(0.99))
"""How long one holds that is certain: until what counts for today has faded by a hundredth, some 20 minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rating:
    """How far an assertion is true of somebody. All but the size are shares."""

    rating: float
    """0.0: nothing supports it; 1.0: everything does."""
    normal: float | None
    """What is to be expected of him by the long sums alone; of whom nothing is known, by those of all mail. None where
    no evidence is kept that could tell."""
    confidence: float
    sample_size: int
    """Outcomes; 0: nothing is known."""


NOT_HEARD = Rating(rating=0.0, normal=None, confidence=0.0, sample_size=0)
"""Of what no evidence is kept."""


def rating_of(assertion: Assertion, levels: Sequence[tuple[Entity, Evidence]], site: Evidence) -> Rating:
    """How far `assertion` is true of the last of `levels`, of which each contains the next; `site` is of all mail."""
    if not levels or not is_heard(assertion, levels[-1][0]):
        return NOT_HEARD
    weights = _WEIGHTS[assertion]
    base = base_rate(site, weights, without_any=0.0)
    standing = standing_of(levels, base, weights)
    size = 0.0
    for level in standing.levels:
        size = level.long.total + min(PRIOR_LONG, size)
    if size < FORGOTTEN:
        return Rating(rating=0.0, normal=base, confidence=0.0, sample_size=0)
    return Rating(
        rating=standing.score,
        normal=standing.repeat_offender,
        confidence=standing.confidence,
        sample_size=math.ceil(size),
    )


def is_heard(assertion: Assertion, entity: Entity) -> bool:
    """Whether evidence that supports the assertion is kept of such entities at all.

    >>> is_heard(Assertion.INVALID_RECIPIENTS, Entity("ip", "192.0.2.7"))
    True
    >>> is_heard(Assertion.INVALID_RECIPIENTS, Entity("sender", "alice@example.com"))
    False
    """
    outcomes = (outcome for outcome, kind in EVIDENCE_OF.items() if kind in SUPPORT[assertion])
    return any((Dimension(entity.dimension),) in WEIGHED.get(outcome, WEIGHED_OF_ALL) for outcome in outcomes)


def valid_seconds(ratings: Iterable[Rating]) -> int:
    """How long some ratings hold together; shorter where little is known (RFC 7071 section 5). What no evidence is kept
    for does not change."""
    least = min((each.confidence for each in ratings if each.normal is not None), default=1.0)
    return max(SHORTEST_SECONDS, int(LONGEST_SECONDS * least))
