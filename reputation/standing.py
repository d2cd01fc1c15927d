"""Standing: what is to be expected of an entity, or of a message, by the evidence; between 0 (good) and 1 (bad).

The idea
--------
How likely is the next message bad? Of an address with a history, its own ratio says it. Of one without, its network
does, and of an unknown network the provider's. So each level begins with the opinion of the next broader one, and that
opinion, the *prior*, weighs as much as `PRIOR_LONG` messages of its own::

    posterior = (bad + 2 * prior) / (good + bad + 2)

The broadest level begins with the site's base rate. An example, with a base rate of 0.2::

                       good   bad    prior   posterior
    asn:64500            90    10    0.2     (10 + 0.4) / 102    0.10
    prefix:192.0.2.0/24   0    20    0.10    (20 + 0.2) / 22     0.92
    ip:192.0.2.7          0     0    0.92    unknown, but not to its neighbours
    ip:192.0.2.9         60     0    0.92    1.84 / 62           0.03: its own history outweighs them

Evidence has two horizons. At each level the long sums are heard first, as above, and then the short ones in the same
way, with what came out as their prior, which weighs `PRIOR_SHORT`. So who was good for months and sends spam today is
bad within a few messages, and is good again some days after it has ended. Besides, each horizon is judged alone:
`active_now` by the short sums, `repeat_offender` by the long ones.

A message comes from a client, has a sender, an author (its From field) and a subject. Each is a `Hierarchy` of levels
that is judged by itself, and says how far it moves the odds away from the base rate. A message's score is their sum,
which is naive Bayes with weights::

    log odds = base + sum of weight * (log odds of the hierarchy - base)

Client and sender weigh less because many use the same relay, list or free mail domain; the same subject has hardly ever
come from both kinds. What is unknown says nothing, so a message of which nothing at all is known has the base rate.

Confidence says how much evidence there was, from 0 (none) to nearly 1, whatever it said. The own evidence of a level
has the share ``n / (n + 2)``; the rest is inherited from the broader level, and counts half at each step: of the
network of an unknown address no certainty follows about the address. A message is as unknown as all of its hierarchies
are together, ``1 - product of (1 - confidence)``.

The numbers were chosen on the first half of a stream of real mail: `benchmarks.reputation` says what was tried and what
came of it. The weights of kinds other than ham and spam are judgements, no such stream has them.

Bugs: hierarchies are added as if they were independent, so several that know the same thing exaggerate: the score ranks
well, and is not the share of bad messages. A broader level counts what its narrower ones did, again. Of whoever sends
one message a day, a single bad one says a lot until tomorrow: the confidence, which goes by the long sums, tells.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from reputation.keys import Entity
from reputation.score import KINDS, Evidence, EvidenceKind

PRIOR_LONG = 2.0
"""How many messages the opinion of the broader level weighs, against the long sums."""
PRIOR_SHORT = 0.5
"""How many messages all that weighs against the short sums: today's news are heard soon."""
INHERITED = 0.5
"""How much of the confidence in a level is left one level further down."""
_FARTHEST = 1e-6
"""Odds are no farther from certainty than this."""

KIND_WEIGHTS: Mapping[EvidenceKind, float] = {
    EvidenceKind.HAM: -1.0,
    EvidenceKind.SPAM: 1.0,
    EvidenceKind.MALWARE: 2.0,
    EvidenceKind.INVALID_RECIPIENTS: 0.2,  # people mistype; a harvest comes in hundreds
    EvidenceKind.FRAUD: 2.0,
    EvidenceKind.ABUSIVE: 1.0,
    EvidenceKind.BOUNCES: 0.2,  # old addresses are in every list
    EvidenceKind.COMPLAINTS: 1.0,
    EvidenceKind.TRAPS: 2.0,  # nobody writes to them in good faith
}
"""How many messages one outcome of a kind counts for: good ones below zero, bad ones above."""
assert KIND_WEIGHTS.keys() == set(KINDS)


class Hierarchy(StrEnum):
    """What a message is judged by."""

    CLIENT = "client"
    SENDER = "sender"
    AUTHOR = "author"
    SUBJECT = "subject"


LEVELS: Mapping[Hierarchy, tuple[str, ...]] = {
    Hierarchy.CLIENT: ("asn", "prefix", "ip", "ip+class"),
    Hierarchy.SENDER: ("sender_domain", "sender"),
    Hierarchy.AUTHOR: ("author_domain", "author", "author_domain+class"),
    Hierarchy.SUBJECT: ("subject",),
}
"""The dimensions of a hierarchy, the broadest first. Those that are not known are left out.

The class is that of the message (list mail or not): a relay may be good in one and bad in the other.
"""
WEIGHTS: Mapping[Hierarchy, float] = {
    Hierarchy.CLIENT: 0.7,
    Hierarchy.SENDER: 0.7,
    Hierarchy.AUTHOR: 1.0,
    Hierarchy.SUBJECT: 1.5,
}
assert LEVELS.keys() == WEIGHTS.keys() == set(Hierarchy)


@dataclass(frozen=True, slots=True)
class Tally:
    """Good and bad of one horizon, in messages."""

    good: float
    bad: float

    @classmethod
    def of(cls, sums: Mapping[EvidenceKind, float], weights: Mapping[EvidenceKind, float] = KIND_WEIGHTS) -> "Tally":
        """By the weights of the kinds.

        >>> Tally.of({EvidenceKind.HAM: 3.0, EvidenceKind.SPAM: 1.0, EvidenceKind.TRAPS: 0.5})
        Tally(good=3.0, bad=2.0)
        """
        if not sums:
            return NOTHING
        weighed = [weights[kind] * value for kind, value in sums.items()]
        return cls(-sum(one for one in weighed if one < 0), sum(one for one in weighed if one > 0))

    @property
    def total(self) -> float:
        return self.good + self.bad

    def posterior(self, prior: float, strength: float) -> float:
        """The expected share of bad ones, if `prior` was expected as firmly as after `strength` messages.

        >>> Tally(0.0, 0.0).posterior(0.3, 2.0), Tally(6.0, 0.0).posterior(0.3, 2.0)
        (0.3, 0.075)
        """
        return (self.bad + strength * prior) / (self.total + strength)


NOTHING = Tally(0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One step from the broad to the narrow: what went into it and what came out."""

    entity: Entity
    long: Tally
    short: Tally
    prior: float
    """What the broader level came to, or the base rate."""
    posterior: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is to be expected of the narrowest of some levels; of the site's base rate where there are none."""

    score: float
    """0 (good) to 1 (bad)."""
    confidence: float
    active_now: float
    """The score by the short sums alone."""
    repeat_offender: float
    """The score by the long sums alone."""
    base: float
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStanding:
    """What is to be expected of a message, and of each thing that it was judged by."""

    score: float
    confidence: float
    active_now: float
    repeat_offender: float
    base: float
    parts: Mapping[Hierarchy, Standing]
    """Of those hierarchies of which anything is known."""


def base_rate(
    site: Evidence, weights: Mapping[EvidenceKind, float] = KIND_WEIGHTS, *, without_any: float = 0.5
) -> float:
    """The share of bad mail at this site, out of the evidence of all its mail; `without_any` when there was none.

    >>> base_rate(Evidence(short={}, long={EvidenceKind.HAM: 7.0, EvidenceKind.SPAM: 1.0}))
    0.2
    """
    return Tally.of(site.long, weights).posterior(without_any, 2.0)


def standing_of(
    known: Sequence[tuple[Entity, Evidence]], base: float, weights: Mapping[EvidenceKind, float] = KIND_WEIGHTS
) -> Standing:
    """The standing of the last of some entities, of which each contains the next.

    `base` lies from 0 to 1. `weights` has all kinds: those that are asked about above zero, what speaks against them
    below, the others zero.
    """
    levels: list[Level] = []
    prior, confidence, active_now, repeat_offender = base, 0.0, base, base
    for entity, evidence in known:
        long, short = Tally.of(evidence.long, weights), Tally.of(evidence.short, weights)
        posterior = short.posterior(long.posterior(prior, PRIOR_LONG), PRIOR_SHORT)
        confidence = (long.total + PRIOR_LONG * INHERITED * confidence) / (long.total + PRIOR_LONG)
        levels.append(
            Level(entity=entity, long=long, short=short, prior=prior, posterior=posterior, confidence=confidence)
        )
        prior = posterior
        active_now = short.posterior(active_now, PRIOR_SHORT)
        repeat_offender = long.posterior(repeat_offender, PRIOR_LONG)
    return Standing(
        score=prior,
        confidence=confidence,
        active_now=active_now,
        repeat_offender=repeat_offender,
        base=base,
        levels=tuple(levels),
    )


def standing_of_message(known: Mapping[Entity, Evidence], base: float) -> MessageStanding:
    """The standing of a message, out of the evidence of its entities; those of other dimensions are not looked at.

    `base` lies between 0 and 1 and is neither.
    """
    by_dimension = {entity.dimension: (entity, evidence) for entity, evidence in known.items()}
    parts = {}
    for hierarchy, dimensions in LEVELS.items():
        levels = [by_dimension[dimension] for dimension in dimensions if dimension in by_dimension]
        if levels:
            parts[hierarchy] = standing_of(levels, base)
    return MessageStanding(
        score=joined([(WEIGHTS[name], part.score) for name, part in parts.items()], base),
        confidence=1.0 - math.prod(1.0 - part.confidence for part in parts.values()),
        active_now=joined([(WEIGHTS[name], part.active_now) for name, part in parts.items()], base),
        repeat_offender=joined([(WEIGHTS[name], part.repeat_offender) for name, part in parts.items()], base),
        base=base,
        parts=parts,
    )


def joined(weighed: Iterable[tuple[float, float]], base: float) -> float:
    """One score out of (weight, score), by how far each moves the log odds away from the base rate.

    >>> joined([], 0.2), joined([(1.0, 0.2), (1.0, 0.7)], 0.2), round(joined([(1.0, 0.8), (1.0, 0.8)], 0.5), 3)
    (0.2, 0.7, 0.941)
    """
    begin = log_odds(base)
    total = begin + sum(weight * (log_odds(score) - begin) for weight, score in weighed)
    return 1.0 / (1.0 + math.exp(-total))


def log_odds(share: float) -> float:
    """The logarithm of the odds of a share, no farther from 0 than some certainty."""
    share = min(max(share, _FARTHEST), 1.0 - _FARTHEST)
    return math.log(share / (1.0 - share))
