"""Entries in the order of their ids, for whoever looks at many of them: pages, searches, counts by kind.

An `EntryIndex` belongs to one snapshot of the register. What is asked for is made then, and remembered; the index of
the next snapshot mends what the last one has made, as long as few entries are others. So with 50,000 entries, of which
some change many times a second, a page costs what its rows cost.

Does not do: look-ups for events (`reputation.register`), knowing which entries are over.

Bugs: the first question of a process sorts everything at once, which takes some 20 ms for 50,000 entries.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, TypeVar, cast

from reputation.entries import Entry

T = TypeVar("T")
Entries = Mapping[str, Entry]
"""By their ids."""
Make = Callable[[Entries, T | None, AbstractSet[str]], T]
"""Makes something of entries: from nothing, or out of what it made of others, which differed in these ids only."""

MAX_TAKEN_OVER = 256
"""Entries that may be others than in what is taken over; sorting anew is faster beyond that."""
_BEYOND_BAR = chr(ord("|") + 1)
"""Sorts behind all that begins with a kind and its bar."""


class Rows(NamedTuple):
    """The same entry at the same place of each."""

    ids: tuple[str, ...]
    entries: tuple[Entry, ...]
    texts: tuple[str, ...]
    """What a search looks at."""


class EntryIndex:
    """Of the entries `by_id`, which must not change any more."""

    __slots__ = ("_before", "_made", "by_id")

    def __init__(self, by_id: Entries, before: Mapping[Make[Any], tuple[Any, AbstractSet[str]]] | None = None) -> None:
        self.by_id = by_id
        self._before = before or {}
        """What was made of an earlier snapshot, and the ids of the entries that may be others since."""
        self._made: dict[Make[Any], Any] = {}

    def of_next(self, by_id: Entries, changed: AbstractSet[str]) -> "EntryIndex":
        """The index of the next snapshot, in which the entries of the ids `changed` may be others."""
        before = {make: (value, others | changed) for make, (value, others) in self._before.items()}
        before |= {make: (value, changed) for make, value in self._made.copy().items()}
        return EntryIndex(by_id, {make: old for make, old in before.items() if len(old[1]) <= MAX_TAKEN_OVER})

    def made(self, make: Make[T]) -> T:
        """What a function makes of the entries, which it is asked once."""
        if make not in self._made:
            value, others = self._before.get(make, (None, frozenset[str]()))
            self._made[make] = make(self.by_id, value, others)
        return cast(T, self._made[make])

    @property
    def rows(self) -> Rows:
        """Ids, entries and texts, in the order of the ids."""
        return self.made(_rows)

    def range_of(self, kind: str) -> tuple[int, int]:
        """Where the entries of a kind begin and where they end; of all for ``""``."""
        ids = self.rows.ids
        return (bisect_left(ids, f"{kind}|"), bisect_left(ids, kind + _BEYOND_BAR)) if kind else (0, len(ids))

    def count(self, kind: str) -> int:
        """How many entries of a kind there are; some may be over."""
        start, end = self.range_of(kind)
        return end - start

    def place_after(self, id: str) -> int:
        """Where the first entry behind an id is, whether that one is still there or not."""
        return bisect_right(self.rows.ids, id)


def text_of(id: str, entry: Entry) -> str:
    """What a search looks at: id, author and reason, one a line, in which case makes no difference.

    >>> from reputation.entries import Ban
    >>> from reputation.keys import Entity
    >>> bob = Ban(target=Entity("user", "bob"), author="Eve", reason="Spam", created_at=0, expires_at=9)
    >>> text_of(bob.id, bob)
    'ban|user:bob\\neve\\nspam'
    """
    return f"{id}\n{entry.author}\n{entry.reason}".casefold()


def _rows(by_id: Entries, before: Rows | None, others: AbstractSet[str]) -> Rows:
    if before is None:
        sorted_ids = tuple(sorted(by_id))
        sorted_entries = tuple(map(by_id.__getitem__, sorted_ids))
        return Rows(sorted_ids, sorted_entries, tuple(map(text_of, sorted_ids, sorted_entries)))
    ids, entries, texts = list(before.ids), list(before.entries), list(before.texts)
    for id in others:
        entry = by_id.get(id)
        start = bisect_left(ids, id)
        end = start + (start < len(ids) and ids[start] == id)
        ids[start:end] = [] if entry is None else [id]
        entries[start:end] = [] if entry is None else [entry]
        texts[start:end] = [] if entry is None else [text_of(id, entry)]
    return Rows(tuple(ids), tuple(entries), tuple(texts))
