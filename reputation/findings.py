"""The readings of rules in an answer of the store, as findings of a verdict.

Of an accepting verdict they are made when somebody asks for them: there are a dozen for each recipient, and the log and
the header show one, the fullest.
"""

from collections.abc import Sequence
from typing import overload

from reputation.charges import Answer, Charge, Meter
from reputation.verdict import Finding

Seen = tuple[Charge, Meter, int]
"""A meter of a rule in an answer: its charge, and where its numbers begin."""


class Fullest(Sequence[Finding]):
    """The findings of an accepting verdict, the fullest first. Of a dozen one is looked at: the others are made when
    somebody asks for them."""

    __slots__ = ("_all", "_answer", "_first", "_seen")

    def __init__(self, answer: Answer, seen: Sequence[Seen]) -> None:
        self._answer = answer
        self._seen = seen
        self._all: tuple[Finding, ...] | None = None
        self._first: Finding | None = None

    @property
    def first(self) -> Finding:
        """The fullest; among equals the first."""
        if self._first is None:
            self._first = self._fullest()
        return self._first

    def _fullest(self) -> Finding:
        numbers, best, fullest = self._answer.numbers, (0, 0), -1.0
        for index, (_, meter, position) in enumerate(self._seen):
            for window, limit in enumerate(meter.limits):
                fullness = numbers[position + 2 * window] / limit.count
                if fullness > fullest:
                    best, fullest = (index, window), fullness
        return _finding(self._answer, *self._seen[best[0]], best[1])

    def _made(self) -> tuple[Finding, ...]:
        if self._all is None:
            found = [finding for each in self._seen for finding in findings_of(self._answer, *each)]
            self._all = tuple(sorted(found, key=fullness, reverse=True))
        return self._all

    @overload
    def __getitem__(self, index: int) -> Finding: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Finding]: ...

    def __getitem__(self, index: int | slice) -> Finding | Sequence[Finding]:
        return self.first if index == 0 and self._all is None else self._made()[index]

    def __len__(self) -> int:
        return sum(len(meter.windows) for _, meter, _ in self._seen)

    def __bool__(self) -> bool:
        return bool(self._seen)

    def __eq__(self, other: object) -> bool:
        return self._made() == (other._made() if isinstance(other, Fullest) else other)

    def __hash__(self) -> int:
        return hash(self._made())

    def __repr__(self) -> str:
        return repr(self._made())


def findings_of(answer: Answer, charge: Charge, meter: Meter, position: int) -> list[Finding]:
    """The findings of a meter, one for each of its windows."""
    return [_finding(answer, charge, meter, position, window) for window in range(len(meter.windows))]


def _finding(answer: Answer, charge: Charge, meter: Meter, position: int, window: int) -> Finding:
    entity, metric = charge.key.entity, charge.key.metric
    reading = answer.meter_readings(position, meter)[window]
    return Finding(rule=meter.scope, entity=entity, metric=metric, reading=reading)


def fullness(finding: Finding) -> float:
    """How much of its limit is used."""
    reading = finding.reading
    return reading.count / reading.limit.count if reading.limit else 0.0
