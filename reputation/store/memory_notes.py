"""The live stream and small notes in this process' memory.

Bugs: of too many notes (`MAX_NOTES`) the one that came first goes, before its time.
"""

import re
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Sequence

from reputation.contracts import MAX_KEPT_TEXT, MAX_STREAMED, STREAM_SECONDS, Streamed
from reputation.errors import StoreMisuse

MAX_NOTES = 100_000

Place = tuple[int, int]
"""Milliseconds since the epoch, and a number within them."""

_PLACE = re.compile(r"([0-9]{1,20})(?:-([0-9]{1,20}))?")


class MemoryNotes:
    """Fulfils `reputation.contracts.StreamStore` and `NoteStore`."""

    def __init__(self) -> None:
        self._places: list[Place] = []
        self._texts: list[str] = []
        """What was published at each place."""
        self._newest: Place = (0, 0)
        self._notes: OrderedDict[str, tuple[float, str]] = OrderedDict()

    # The stream

    async def publish(self, texts: Sequence[str]) -> None:
        self._forget_the_old()
        for text in texts:
            milliseconds, number = self._newest
            now = _now_ms()
            self._newest = (now, 0) if now > milliseconds else (milliseconds, number + 1)
            self._places.append(self._newest)
            self._texts.append(text)
        del self._places[:-MAX_STREAMED], self._texts[:-MAX_STREAMED]

    async def published(self, after: str, n: int) -> Sequence[Streamed]:
        self._forget_the_old()
        first = bisect_right(self._places, _place(after))
        return self._lines(first, first + max(n, 0))

    async def last_published(self, n: int, *, before: str = "") -> Sequence[Streamed]:
        self._forget_the_old()
        end = bisect_left(self._places, _place(before)) if before else len(self._places)
        return self._lines(max(end - max(n, 0), 0), end)[::-1]

    async def unpublish(self, ids: Sequence[str]) -> int:
        taken = 0
        for place in map(_place, ids):
            position = bisect_left(self._places, place)
            if self._places[position : position + 1] == [place]:
                del self._places[position], self._texts[position]
                taken += 1
        return taken

    def _lines(self, first: int, end: int) -> list[Streamed]:
        rows = zip(self._places[first:end], self._texts[first:end], strict=True)
        return [Streamed(f"{milliseconds}-{number}", text) for (milliseconds, number), text in rows]

    def _forget_the_old(self) -> None:
        if self._places and self._newest[0] < _now_ms() - STREAM_SECONDS * 1_000:
            self._places.clear()
            self._texts.clear()

    # Notes

    async def keep(self, name: str, text: str, lifetime_seconds: float) -> str | None:
        if len(text.encode("utf-8", "surrogatepass")) > MAX_KEPT_TEXT:
            raise StoreMisuse(f"a note has at most {MAX_KEPT_TEXT} octets")
        if (there := await self.kept(name)) is not None:
            return there
        self._notes[name] = time.monotonic() + lifetime_seconds, text
        while len(self._notes) > MAX_NOTES:
            self._notes.popitem(last=False)
        return None

    async def kept(self, name: str) -> str | None:
        ends, text = self._notes.get(name, (0.0, ""))
        if ends > time.monotonic():
            return text
        self._notes.pop(name, None)
        return None

    async def drop(self, name: str) -> None:
        self._notes.pop(name, None)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _place(id: str) -> Place:
    match = _PLACE.fullmatch(id)
    if match is None:
        raise StoreMisuse(f'"{id:.60}" is no place in the stream')
    return int(match[1]), int(match[2] or 0)
