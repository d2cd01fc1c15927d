"""What a decision asks of the store, and what the store answers.

A decision is a list of **charges**, one per counter. Each charge carries **meters**: one is the entity's own
(scope ``""``, no limit: what the console shows), the others belong to one rule each and are named
after it. Two rules therefore never share or disturb each other's counts, whatever their numbers.

The store looks at all meters, decides once, and charges all of them or none::

    decision allowed = no meter that DENIES is over its limit

    meter            charged when
    ACCEPTED, DENIES the decision is allowed
    ACCEPTED, SKIPS  the decision is allowed and this meter is not over (a rule in shadow mode counts
                     exactly what it would have let pass, and never refuses anybody)
    ACCEPTED, NOTES  the decision is allowed (rules that tag or tarpit what is over)
    ALWAYS           every time: attempts count too
    NEVER            never: the meter is only read
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from reputation.keys import Key
from reputation.windows import Limit, Reading, Window


class Charging(StrEnum):
    """When a meter is charged."""

    ACCEPTED = "accepted"
    ALWAYS = "always"
    NEVER = "never"


class Over(StrEnum):
    """What a meter does when it is over its limit."""

    DENIES = "denies"
    SKIPS = "skips"
    NOTES = "notes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """One named count of a key, over one or several windows."""

    scope: str = ""
    """The rule that the count belongs to; empty for the entity's own."""
    windows: tuple[Window, ...]
    limits: tuple[Limit, ...] = ()
    """Empty, or one for each window."""
    charging: Charging = Charging.ACCEPTED
    over: Over = Over.NOTES

    @classmethod
    def limited(cls, scope: str, limits: Sequence[Limit], charging: Charging, over: Over) -> "Meter":
        """A meter with a limit on each of its windows."""
        windows = tuple(limit.window for limit in limits)
        return cls(scope=scope, windows=windows, limits=tuple(limits), charging=charging, over=over)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """`cost` units, to be put on the meters of one key."""

    key: Key
    cost: int
    meters: tuple[Meter, ...]


Readings = tuple[tuple[Reading, ...], ...]
"""One tuple of readings per meter of a charge, one reading per window of the meter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the store decided."""

    allowed: bool
    at_us: int
    """The store's time of the decision, microseconds since the epoch."""
    readings: tuple[Readings, ...]
    """One entry per charge, in their order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What was charged, so that it can be given back."""

    charges: tuple[Charge, ...]
    at_us: int


def receipt_of(charges: Sequence[Charge], answer: Answer) -> Receipt | None:
    """What can be given back of an allowed decision: the ACCEPTED meters that were charged."""
    if not answer.allowed:
        return None
    kept = []
    for charge, readings in zip(charges, answer.readings, strict=True):
        meters = tuple(
            meter
            for meter, values in zip(charge.meters, readings, strict=True)
            if meter.charging is Charging.ACCEPTED
            and not (meter.over is Over.SKIPS and any(value.over for value in values))
        )
        if meters:
            kept.append(Charge(key=charge.key, cost=charge.cost, meters=meters))
    return Receipt(charges=tuple(kept), at_us=answer.at_us) if kept else None
