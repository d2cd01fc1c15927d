"""What has been found out, for as long as it holds, and never more than a bound.

Each entry has the moment when it ends and a weight: a large one counts as several. When there is no room, what was put
in first leaves first, whether it is used or not: entries live for minutes, so keeping score of use would cost more than
it saves.

Keys and values are plain tuples of texts, bytes and numbers, which the garbage collector passes over; a hundred
thousand objects of any other kind would hold up the event loop at each full collection.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Cache(Generic[Value]):
    """At most `most` units of weight. Times are seconds of a monotonic clock, of the caller's."""

    __slots__ = ("_entries", "_most", "weight")

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: dict[Hashable, tuple[float, int, Value]] = {}
        self.weight = 0
        """What it holds now."""

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, now: float) -> Value | None:
        """What is remembered, None when there is nothing or its time is over."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[0] > now:
            return entry[2]
        self._drop(key)
        return None

    def put(self, key: Hashable, value: Value, *, expires: float, weight: int = 1) -> None:
        """Remember `value`, in place of what was there, until `expires`. What is larger than the bound is not kept."""
        self._drop(key)
        if weight > self._most:
            return
        self.weight += weight
        while self.weight > self._most:
            self._drop(next(iter(self._entries)))
        self._entries[key] = (expires, weight, value)

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.weight -= entry[1]
