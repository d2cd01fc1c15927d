"""Evidence: how much good and bad has been seen of an entity, and how it fades.

For each kind of outcome two sums are kept, over two horizons: what is "active now" has a short half-life of a day,
a "repeat offender" shows in the long one of thirty days. Both fade by half in their half-life, continuously::

    after t seconds    sum * 0.5 ** (t / half_life)

so one spam message a day for a long time comes to a short sum of 2 and a long sum of 43. A sum is a number of
messages (or whatever the outcome was about), not a rate: a burst of a hundred shows as a hundred at once, where an
average over time would hardly move.

What is kept of an entity is forgotten when less than half a message is left of it: a single outcome after thirty days,
a hundred after some seven half-lives, nothing later than `LONGEST_SECONDS`. Whoever makes names up fills no store for
half a year.

The kinds are those of RFC 7073's assertions for the application "email-id", and what a mail operator hears besides.

Does not do: the reputation itself; that reads these sums.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

SHORT_HALF_LIFE_SECONDS = 86_400.0
LONG_HALF_LIFE_SECONDS = 30 * 86_400.0
LONGEST_SECONDS = 180 * 86_400.0


class EvidenceKind(StrEnum):
    """What was seen, in the order in which the store keeps it; new kinds go to the end, within its size."""

    HAM = "ham"
    SPAM = "spam"
    MALWARE = "malware"
    INVALID_RECIPIENTS = "invalid-recipients"
    FRAUD = "fraud"
    ABUSIVE = "abusive"
    BOUNCES = "bounces"
    COMPLAINTS = "complaints"
    TRAPS = "traps"


KINDS = tuple(EvidenceKind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The decayed sums of one entity, as of the moment they were read."""

    short: dict[EvidenceKind, float]
    long: dict[EvidenceKind, float]

    @classmethod
    def of(cls, thousandths: Sequence[int]) -> "Evidence":
        """From what the store answers: all short sums, then all long ones, in thousandths."""
        if not any(thousandths):
            return NO_EVIDENCE
        sums = [number / 1_000 for number in thousandths]
        return cls(
            short=dict(zip(KINDS, sums[: len(KINDS)], strict=True)),
            long=dict(zip(KINDS, sums[len(KINDS) :], strict=True)),
        )


NO_EVIDENCE = Evidence(short={}, long={})
"""Nothing good or bad has been seen, which is so of most."""


def kept_seconds(largest: float) -> float:
    """How long evidence is kept after its last outcome, by the largest of the long sums.

    >>> kept_seconds(1.0) / 86_400, kept_seconds(4.0) / 86_400, kept_seconds(1e6) / 86_400
    (30.0, 90.0, 180.0)
    """
    return min(LONGEST_SECONDS, LONG_HALF_LIFE_SECONDS * (1.0 + math.log2(max(1.0, largest))))


def decayed(sums: Sequence[float], seconds: float) -> list[float]:
    """The sums after some time: the first half fades by the short half-life, the second by the long one.

    >>> [round(value, 3) for value in decayed([8.0, 8.0], 86_400.0)]
    [4.0, 7.817]
    """
    half = len(sums) // 2
    short = 0.5 ** (seconds / SHORT_HALF_LIFE_SECONDS)
    long = 0.5 ** (seconds / LONG_HALF_LIFE_SECONDS)
    return [value * (short if position < half else long) for position, value in enumerate(sums)]
