"""Who has the most, as one process sees it: the candidates that it offers to the leaderboards.

Every decision brings back exact counts, shared by the fleet, so nobody has to be counted anew: it is enough to keep the
largest. A *floor* for each window makes that cheap::

    floor   what the last of the kept candidates has; who does not exceed any floor is not looked at further

Floors begin at nothing. When more than `MAX_KEPT` are kept, the best `OFFERED` of each window stay, and their last
counts are the new floors. A flood of senders who are seen once therefore costs three comparisons each. From time to
time everything is forgotten, because counts sink, too.
"""

import heapq
from collections.abc import Iterator, Sequence
from operator import itemgetter

from reputation.charges import Answer
from reputation.contracts import Board
from reputation.windows import Window

OFFERED = 50
"""Candidates of a process for each board; a board holds a thousand."""
MAX_KEPT = 500


class _Race:
    """The candidates of one metric of one dimension."""

    __slots__ = ("counts", "floors")

    def __init__(self) -> None:
        self.floors = [0, 0, 0]
        self.counts: dict[str, Sequence[int]] = {}

    def best(self, window: int) -> list[tuple[str, int]]:
        """The largest counts in a window."""
        rows = ((id, counts[window]) for id, counts in self.counts.items())
        return heapq.nlargest(OFFERED, rows, key=itemgetter(1))

    def prune(self) -> None:
        """Keep the best of each window."""
        kept: dict[str, Sequence[int]] = {}
        for window in range(3):
            best = self.best(window)
            self.floors[window] = best[-1][1]
            kept.update((id, self.counts[id]) for id, _ in best)
        self.counts = kept


class Leaders:
    """The candidates of one process."""

    def __init__(self, windows: tuple[Window, Window, Window]) -> None:
        self._windows = windows  # those of every entity's own meter
        self._races: dict[tuple[str, str], _Race] = {}

    def note(self, answer: Answer) -> None:
        """Look at the counts of a decision."""
        races, numbers, position = self._races, answer.numbers, 0
        for charge in answer.charges:
            plan = charge.plan
            if plan.own == 3:
                (dimension, id), metric, _ = charge.key
                race = races.get((dimension, metric)) or self._new_race(dimension, metric)
                short, middle, long = race.floors
                if numbers[position + 4] > long or numbers[position + 2] > middle or numbers[position] > short:
                    race.counts[id] = numbers[position : position + 6 : 2]
                    if len(race.counts) > MAX_KEPT:
                        race.prune()
            position += plan.size

    def _new_race(self, dimension: str, metric: str) -> _Race:
        race = self._races[dimension, metric] = _Race()
        return race

    def offers(self, window: Window) -> Iterator[tuple[Board, dict[str, int]]]:
        """What to offer to the boards of a window."""
        index = self._windows.index(window)
        for (dimension, metric), race in self._races.items():
            if rows := {id: count for id, count in race.best(index) if count}:
                yield Board(dimension, metric, window), rows

    def forget(self) -> None:
        """Begin anew."""
        self._races = {}
