"""How often each rule has fired, and would have, and each action was the verdict: shared by the fleet.

Each process adds up what it has seen and tells the store once a second, as counts in the usual windows of an entity
``rule:NAME`` or ``action:NAME``, and when it was last. What is told while the store is away is told later.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from reputation.bookkeeping import MEMORY, SEEN, TRACKED_WINDOWS
from reputation.charges import Charge, Charging, Kind, Meter, Plan
from reputation.contracts import Store
from reputation.errors import StoreError
from reputation.keys import Entity, Key
from reputation.verdict import Action, Verdict
from reputation.windows import MICROSECONDS

HITS, WOULD, VERDICTS = "hits", "would_hits", "verdicts"
_COUNTING = Plan((Meter(windows=TRACKED_WINDOWS, charging=Charging.ALWAYS),))
_LOOKING = Plan((Meter(windows=MEMORY.meters[0].windows, charging=Charging.NEVER),), Kind.SEEN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often a rule acted, or would have."""

    counts: tuple[int, ...]
    """In the last 5 minutes, hour and day."""
    last: float | None
    """Seconds since the epoch; None for never, as far as is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleTally:
    """Both of one rule."""

    name: str
    hits: Tally
    would: Tally


class Tallies:
    """What one process counts about rules."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pending: Counter[tuple[str, str]] = Counter()

    def note(self, verdict: Verdict) -> None:
        """Remember who has a part in a verdict."""
        self._pending[verdict.action, VERDICTS] += 1
        for name in verdict.fired:
            self._pending[name, HITS] += 1
        for name in verdict.would:
            self._pending[name, WOULD] += 1

    async def tell(self) -> None:
        """Tell the store. Raises `StoreError`, and tells the same next time then."""
        if not self._pending:
            return
        told, self._pending = self._pending, Counter()
        charges = []
        for (name, metric), count in told.items():
            whose = of_action(name) if metric == VERDICTS else _rule(name)
            charges.append(Charge(Key(whose, metric), _COUNTING, count))
            charges.append(Charge(Key(whose, SEEN, metric), MEMORY))
        try:
            answer = await self._store.decide(charges)
        except StoreError:
            self._pending.update(told)
            raise
        for index, (which, count) in enumerate(told.items()):
            if 2 * index in answer.missing:
                self._pending[which] += count

    async def of(self, names: Sequence[str]) -> list[RuleTally]:
        """What the fleet has counted of these rules. Raises `StoreError`."""
        both = [(name, metric) for name in names for metric in (HITS, WOULD)]
        keys = [Key(_rule(name), metric) for name, metric in both]
        windows = [await self._store.counts(keys, window) for window in TRACKED_WINDOWS] if keys else []
        charges = [Charge(Key(_rule(name), SEEN, metric), _LOOKING) for name, metric in both]
        answer = await self._store.decide(charges)
        tallies = []
        for index in range(len(both)):
            _, last_us = answer.seen_at(index * _LOOKING.size)
            counts = tuple(counted[index] for counted in windows)
            tallies.append(Tally(counts=counts, last=last_us / MICROSECONDS if last_us else None))
        return [
            RuleTally(name=name, hits=hits, would=would)
            for name, hits, would in zip(names, tallies[::2], tallies[1::2], strict=True)
        ]

    async def of_actions(self) -> dict[Action, tuple[int, ...]]:
        """How often each action was the verdict, on the fleet, in the last 5 minutes, hour and day. Raises
        `StoreError`."""
        keys = [Key(of_action(action), VERDICTS) for action in Action]
        windows = [await self._store.counts(keys, window) for window in TRACKED_WINDOWS]
        return dict(zip(Action, zip(*windows, strict=True), strict=True))


def _rule(name: str) -> Entity:
    return Entity("rule", name)


def of_action(action: str) -> Entity:
    """Whose counts those of an action are."""
    return Entity("action", action)
