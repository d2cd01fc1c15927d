"""Entries in the order of their ids, for whoever looks at many of them: pages, searches, counts by kind.

An `EntryIndex` belongs to one snapshot of the register. It is made when something is asked for the first time, and
remembered; one of the next snapshot takes over what the last one has sorted, as long as few entries are others. So with
50,000 entries, of which some change many times a second, a page costs what its rows cost.

Does not do: look-ups for events (`reputation.register`), knowing which entries are over.

Bugs: the first question of a process sorts everything at once, which takes some 30 ms for 50,000 entries.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import NamedTuple, TypeVar, cast

from reputation.entries import Entry

T = TypeVar("T")

MAX_TAKEN_OVER = 256
"""Entries that may be others than in what is taken over; sorting anew is faster beyond that."""
_BEYOND_BAR = chr(ord("|") + 1)
"""Sorts behind all that begins with a kind and its bar."""


class _Rows(NamedTuple):
    """The same entry at the same place of each."""

    ids: tuple[str, ...]
    entries: tuple[Entry, ...]
    texts: tuple[str, ...]
    """What a search looks at."""


class EntryIndex:
    """Of the entries in `by_id`, which must not change any more."""

    __slots__ = ("_base", "_by_id", "_made", "_others", "_rows")

    def __init__(
        self, by_id: Mapping[str, Entry], base: _Rows | None = None, others: AbstractSet[str] = frozenset()
    ) -> None:
        self._by_id = by_id
        self._base = base
        """What was sorted of an earlier snapshot."""
        self._others = others
        """Ids of the entries that may be others than there."""
        self._rows: _Rows | None = None
        self._made: dict[object, object] = {}

    def of_next(self, by_id: Mapping[str, Entry], changed: AbstractSet[str]) -> "EntryIndex":
        """The index of the next snapshot, in which the entries of the ids `changed` may be others."""
        base, others = (self._base, self._others | changed) if self._rows is None else (self._rows, frozenset(changed))
        return EntryIndex(by_id) if base is None or len(others) > MAX_TAKEN_OVER else EntryIndex(by_id, base, others)

    @property
    def rows(self) -> _Rows:
        """Ids, entries and texts, in the order of the ids."""
        if self._rows is None:
            self._rows = _sorted(self._by_id) if self._base is None else _mended(self._base, self._by_id, self._others)
            self._base, self._others = None, frozenset()
        return self._rows

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

    def made(self, make: Callable[[Mapping[str, Entry]], T]) -> T:
        """What a function makes of all entries by their ids, which it is asked once."""
        if make not in self._made:
            self._made[make] = make(self._by_id)
        return cast(T, self._made[make])


def text_of(id: str, entry: Entry) -> str:
    """What a search looks at: id, author and reason, one a line, in which case makes no difference.

    >>> from reputation.entries import Ban
    >>> from reputation.keys import Entity
    >>> bob = Ban(target=Entity("user", "bob"), author="Eve", reason="Spam", created_at=0, expires_at=9)
    >>> text_of(bob.id, bob)
    'ban|user:bob\\neve\\nspam'
    """
    return f"{id}\n{entry.author}\n{entry.reason}".casefold()


def _sorted(by_id: Mapping[str, Entry]) -> _Rows:
    ids = tuple(sorted(by_id))
    entries = tuple(map(by_id.__getitem__, ids))
    return _Rows(ids, entries, tuple(map(text_of, ids, entries)))


def _mended(base: _Rows, by_id: Mapping[str, Entry], others: AbstractSet[str]) -> _Rows:
    """The rows of `by_id`, out of those of a snapshot in which none but `others` were not the same."""
    ids, entries, texts = list(base.ids), list(base.entries), list(base.texts)
    for id in others:
        entry = by_id.get(id)
        start = bisect_left(ids, id)
        end = start + (start < len(ids) and ids[start] == id)
        ids[start:end] = [] if entry is None else [id]
        entries[start:end] = [] if entry is None else [entry]
        texts[start:end] = [] if entry is None else [text_of(id, entry)]
    return _Rows(tuple(ids), tuple(entries), tuple(texts))
