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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from reputation.keys import Key
from reputation.windows import MICROSECONDS, Limit, Reading, Window


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


class Kind(StrEnum):
    """How a key counts. The letters are the store's."""

    RINGS = "r"
    """Units in sliding windows, in steps (`reputation.windows`)."""
    MOMENTS = "m"
    """Units of one rule in sliding windows, by when they came (`reputation.moments`)."""
    DISTINCT = "d"
    """Different members in sliding windows, exact up to the limit."""
    LEASES = "c"
    """Members at the same time; each gives its lease back, or it ends."""
    EVIDENCE = "e"
    """Decayed sums of good and bad outcomes (`reputation.score`)."""
    SEEN = "s"
    """When it was first and last seen. One meter with one window: how long it is remembered after it was last seen."""


EVIDENCE_NUMBERS = 18

_OVER = {Over.DENIES: "d", Over.SKIPS: "s", Over.NOTES: "n"}
_CHARGING = {Charging.ACCEPTED: "a", Charging.ALWAYS: "+", Charging.NEVER: "-"}
_BESIDES = {
    Kind.RINGS: 0,
    Kind.MOMENTS: 0,
    Kind.DISTINCT: 1,
    Kind.LEASES: 0,
    Kind.EVIDENCE: EVIDENCE_NUMBERS,
    Kind.SEEN: 2,
}
assert _OVER.keys() == set(Over) and _CHARGING.keys() == set(Charging) and _BESIDES.keys() == set(Kind)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is wanted of a key, compiled once: policies hold plans, decisions only refer to them.

    >>> rule = Meter.limited("a-rule", [Limit.parse("30/1m")], Charging.ACCEPTED, Over.DENIES)
    >>> Plan((rule,)).text, Plan((rule,)).size
    ('r|a-rule;d;a;60:10:30', 2)
    """

    meters: tuple[Meter, ...] = ()
    kind: Kind = Kind.RINGS
    text: str = field(init=False, repr=False, compare=False)
    """The plan as the store reads it (``store/lua/1_plans.lua``)."""
    size: int = field(init=False, repr=False, compare=False)
    """How many numbers the store answers."""
    own: int = field(init=False, repr=False, compare=False)
    """How many windows the entity's own meter has, which is the first; 0 when there is none."""
    of_units: bool = field(init=False, repr=False, compare=False)
    """Whether the cost of a charge is what counts."""
    scoped: bool = field(init=False, repr=False, compare=False)
    """Whether any meter belongs to a rule."""
    counts_refused: bool = field(init=False, repr=False, compare=False)
    """Whether the store has to hear of an event even if it is refused anyway: attempts count, or a rule in shadow
    mode, a tag or a tarpit has to be looked at."""

    def __post_init__(self) -> None:
        own = len(self.meters[0].windows) if self.meters and not self.meters[0].scope else 0
        windows = sum(len(meter.windows) for meter in self.meters)
        object.__setattr__(self, "text", "|".join((self.kind, *map(_meter_text, self.meters))))
        object.__setattr__(self, "size", 2 * windows + _BESIDES[self.kind])
        object.__setattr__(self, "own", own)
        object.__setattr__(self, "of_units", self.kind in (Kind.RINGS, Kind.MOMENTS))
        object.__setattr__(self, "scoped", any(meter.scope for meter in self.meters))
        counting = [it for it in self.meters if it.scope and it.over is not Over.DENIES]
        counting += [it for it in self.meters if it.charging is Charging.ALWAYS]
        object.__setattr__(self, "counts_refused", bool(counting))


def _meter_text(meter: Meter) -> str:
    rings = []
    for position, window in enumerate(meter.windows):
        limit = meter.limits[position].count if meter.limits else 0
        rings.append(f"{window.seconds}:{window.buckets}:{limit}")
    return ";".join((meter.scope, _OVER[meter.over], _CHARGING[meter.charging], ",".join(rings)))


class Charge(NamedTuple):
    """What one key is asked and charged. A tuple, because a decision makes several of them."""

    key: Key
    plan: Plan
    cost: int = 1
    """Units for rings and moments; for evidence the weight in thousandths."""
    member: str = ""
    """Who is counted, for distinct and leases; for evidence the position, or nothing to only read."""


Readings = tuple[tuple[Reading, ...], ...]
"""One tuple of readings per meter of a charge, one reading per window of the meter."""


class Answer(NamedTuple):
    """What the store decided, as it said it: readings are made of the numbers only where they are looked at."""

    charges: tuple[Charge, ...] = ()
    allowed: bool = True
    numbers: Sequence[int] = ()
    """Of each charge, in their order: count and wait in microseconds of each window of each meter; for distinct
    then the time at which the member was seen before; for evidence the sums in thousandths; for seen 1 or 0 for known
    or not, no wait, then when it was first and last seen before this decision (`seen_at`)."""
    times_us: Sequence[int] = ()
    """The store's time of the decision for each charge, microseconds since the epoch."""
    token: str = ""
    """What was counted; see `reputation.contracts.Store.decide`."""
    repeated: int = 0
    """A bit for each charge, the first is bit 0: what had been charged before (for the token, or as a lease that
    is held), and was not again."""
    missing: frozenset[int] = frozenset()
    """Positions of charges whose server gave no answer; their numbers are zeros."""

    @property
    def at_us(self) -> int:
        """The latest of the times."""
        return max(self.times_us, default=0)

    @property
    def readings(self) -> tuple[Readings, ...]:
        """All readings: one entry per charge, in their order."""
        position, readings = 0, []
        for charge in self.charges:
            readings.append(self.readings_at(position, charge))
            position += charge.plan.size
        return tuple(readings)

    def readings_at(self, position: int, charge: Charge) -> Readings:
        """The readings of a charge whose numbers begin at `position`."""
        made = []
        for meter in charge.plan.meters:
            made.append(self.meter_readings(position, meter))
            position += 2 * len(meter.windows)
        return tuple(made)

    def meter_readings(self, position: int, meter: Meter) -> tuple[Reading, ...]:
        """The readings of a meter whose numbers begin at `position`."""
        return tuple(
            Reading(
                window=window,
                count=self.numbers[position + 2 * index],
                limit=meter.limits[index] if meter.limits else None,
                retry_after_seconds=self.numbers[position + 2 * index + 1] / MICROSECONDS,
            )
            for index, window in enumerate(meter.windows)
        )

    def is_over(self, position: int, meter: Meter) -> bool:
        """Whether the meter whose numbers begin at `position` was over any limit."""
        return any(self.numbers[position + 1 : position + 2 * len(meter.windows) : 2])

    def seen_at(self, position: int) -> tuple[int, int]:
        """When the key of a charge of `Kind.SEEN`, whose numbers begin at `position`, was first and last seen before
        this decision, in microseconds since the epoch; 0 and 0 when it was not, or is `missing`."""
        return self.numbers[position + 2], self.numbers[position + 3]


class Given(NamedTuple):
    """One line of a receipt: what a key was charged, when, when its member was seen before that, and for what."""

    charge: Charge
    at_us: int
    prior_us: int = 0
    token: str = ""


Receipt = tuple[Given, ...]
"""What was charged, so that it can be given back."""


def receipt_of(answer: Answer) -> Receipt:
    """What can be given back: the ACCEPTED meters that an allowed decision charged. Empty for a refused one."""
    return tuple(_given(answer)) if answer.allowed else ()


def _given(answer: Answer) -> Iterator[Given]:
    position = 0
    for index, charge in enumerate(answer.charges):
        start, position = position, position + charge.plan.size
        if index in answer.missing or answer.repeated >> index & 1 or charge.plan.kind is Kind.EVIDENCE:
            continue
        kept = []
        for meter in charge.plan.meters:
            if meter.charging is Charging.ACCEPTED and not (meter.over is Over.SKIPS and answer.is_over(start, meter)):
                kept.append(meter)
            start += 2 * len(meter.windows)
        if kept:
            prior = answer.numbers[position - 1] if charge.plan.kind is Kind.DISTINCT else 0
            yield Given(_kept(charge, tuple(kept)), answer.times_us[index], prior, answer.token)


def _kept(charge: Charge, meters: tuple[Meter, ...]) -> Charge:
    plan = charge.plan
    return charge if len(meters) == len(plan.meters) else charge._replace(plan=Plan(meters, plan.kind))
