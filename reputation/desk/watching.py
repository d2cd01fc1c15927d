"""What the live stream of verdicts remembers: read from the store, or kept at hand by a process that serves many.

`lines_before` reads backwards from the store, in pieces. A `Watch` follows the stream for as long as it runs, keeps the
latest `MAX_WATCHED` lines in memory with an index by entity, and hands new ones to whoever follows it: a hundred open
consoles ask the store no more often than one.

Bugs: what the stream has dropped, or was never told, is not there. Somebody who follows and is slower than
`MAX_BEHIND` lines misses some.
"""

import asyncio
import json
import logging
import re
from bisect import bisect_left, bisect_right
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import fields
from sys import intern
from typing import Any

from reputation.contracts import Streamed, StreamStore
from reputation.desk.documents import VerdictLine
from reputation.errors import ConfigError, StoreError, StoreUnavailable

MAX_WATCHED = 30_000
"""Some 2 to 4 kB each."""
AT_ONCE = 1_000
"""Lines in one question: some 300 kB."""
POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 5.0
MAX_BEHIND = 10_000
MAX_ID_LENGTH = 42
PAUSE_SECONDS = 1.0
"""After a failure."""
TURN = 200
"""Lines that are gone through at once: two or three milliseconds."""
MANY = 64
IDLE_POLLS = 20

Place = tuple[int, int]
"""Milliseconds, and a number within them."""

_PLACE = re.compile(r"[0-9]+(?:-[0-9]+)?")
_NAMES = frozenset(each.name for each in fields(VerdictLine))

log = logging.getLogger("reputon.desk")


def line_of(streamed: Streamed) -> VerdictLine | None:
    """The verdict of a line of the stream; None for one of another release that cannot be read.

    >>> line_of(Streamed("1-0", '{"at": 1, "node": "a/1", "stage": "rcpt", "action": "accept", "reason": "ok"}')).stage
    'rcpt'
    """
    try:
        read = json.loads(streamed.text)
        known: dict[str, Any] = {name: _shared(value) for name, value in read.items() if name in _NAMES}
        return VerdictLine(**{**known, "id": streamed.id})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _shared(value: object) -> object:
    """The value, its texts once in memory however many lines have them."""
    if isinstance(value, str):
        return intern(value)
    return tuple(map(_shared, value)) if isinstance(value, list) else value


async def lines_before(store: StreamStore, n: int, containing: str = "") -> AsyncIterator[VerdictLine]:
    """The latest lines, the latest first, out of the last `n`; of those only the ones that contain a text, which is
    looked for before a line is read. Raises `StoreError`."""
    before, left = "", n
    written = json.dumps(containing)[1:-1]
    while left > 0:
        page = await store.last_published(min(AT_ONCE, left), before=before)
        if not page:
            return
        for streamed in page:
            if written in streamed.text and (line := line_of(streamed)) is not None:
                yield line
        before, left = page[-1].id, left - len(page)


async def following(store: StreamStore, after: str | None = None) -> AsyncGenerator[VerdictLine | None, None]:
    """Lines as they come, from now on or after one of the stream, asked of the store again and again; None when there
    is none. Raises `StoreError`."""
    if after is None:
        latest = await store.last_published(1)
        after = latest[0].id if latest else "0"
    while True:
        page = await store.published(after, AT_ONCE)
        for streamed in page:
            after = streamed.id
            if (line := line_of(streamed)) is not None:
                yield line
        if len(page) < AT_ONCE:
            yield None
            await asyncio.sleep(POLL_SECONDS)


def place_of(id: str) -> Place:
    """Where a line stands; raises `ConfigError` for what is no id of one.

    >>> place_of("1764021600000-12") > place_of("1764021600000-2") > place_of("0")
    True
    """
    if len(id) > MAX_ID_LENGTH or _PLACE.fullmatch(id) is None:
        raise ConfigError(f'"{id:.60}" is no place in the live stream: take the id of a line')
    milliseconds, _, number = id.partition("-")
    return int(milliseconds), int(number or 0)


class Watch:
    """The stream, as a process follows it. `run` runs beside whoever asks."""

    def __init__(self, store: StreamStore, most: int = MAX_WATCHED) -> None:
        self._store = store
        self._most = most
        self._lines: dict[int, VerdictLine] = {}
        """By their numbers, which have no gap."""
        self._places: dict[int, Place] = {}
        self._of: dict[str, list[int]] = {}
        """Entity -> numbers of its lines, the oldest first; those that were dropped are passed over."""
        self._first = self._next = 0
        self._last = ""
        self._told: Place | None = None
        """The place of the last line that followers were told of; None before the first filling."""
        self._begun = self._idle = 0
        """How often it has begun anew, and how often in a row nothing had come."""
        self._filled = asyncio.Event()
        self._followers: set[asyncio.Queue[VerdictLine]] = set()
        self.is_reading = False
        """Whether the store answered when it was last asked."""

    def __len__(self) -> int:
        return len(self._lines)

    def begin_anew(self) -> None:
        """Drop everything, and read it again: something of it was erased."""
        self._lines.clear()
        self._places.clear()
        self._of.clear()
        self._first = self._next
        self._last = ""
        self._begun += 1
        self._filled.clear()

    def lines_of(self, entity: str, n: int) -> tuple[VerdictLine, ...]:
        """The latest of an entity, the latest first."""
        found: list[VerdictLine] = []
        for number in reversed(self._of.get(entity, ())):
            if number < self._first or len(found) >= n:
                break
            found.append(self._lines[number])
        return tuple(found)

    def latest(self) -> Iterator[VerdictLine]:
        """All lines, the latest first."""
        return reversed(tuple(self._lines.values()))

    @property
    def since(self) -> float | None:
        """How far back it goes, in seconds since the epoch."""
        return self._lines[self._first].at if self._lines else None

    async def follow(self, after: str | None = None) -> AsyncGenerator[VerdictLine | None, None]:
        """Lines as they come, from now on or after one of the stream; None after what is remembered, and when
        there was none for a while.

        Raises `StoreUnavailable` while the store does not answer.
        """
        last = None if after is None else place_of(after)
        queue: asyncio.Queue[VerdictLine] = asyncio.Queue(MAX_BEHIND)
        self._followers.add(queue)
        try:
            if last is not None:
                await self._until_filled()
                async for line in self._after(last):
                    last = place_of(line.id)
                    yield line
                if self.is_reading:
                    yield None  # that was all there is: who looks for no more need not wait
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        new = await queue.get()
                except TimeoutError:
                    if not self.is_reading:
                        raise StoreUnavailable("the live stream cannot be read now") from None
                    yield None
                else:
                    if last is None or place_of(new.id) > last:
                        yield new
        finally:
            self._followers.discard(queue)

    async def _until_filled(self) -> None:
        try:
            async with asyncio.timeout(HEARTBEAT_SECONDS):
                await self._filled.wait()
        except TimeoutError:
            raise StoreUnavailable("the live stream cannot be read now") from None

    async def _after(self, last: Place) -> AsyncIterator[VerdictLine]:
        """What is remembered after a place, the oldest first; others have their turn in between."""
        number = bisect_right(range(self._first, self._next), last, key=self._places.__getitem__) + self._first
        while number < self._next:
            number = max(number, self._first)
            for line in [self._lines[each] for each in range(number, min(number + TURN, self._next))]:
                yield line
            number += TURN
            await asyncio.sleep(0)

    async def run(self) -> None:
        """Follow the stream until cancelled."""
        while True:
            try:
                await self._fill()
                while self._last:
                    if len(await self._read_on()) < AT_ONCE:
                        await asyncio.sleep(POLL_SECONDS)
            except StoreError as error:
                if self.is_reading:
                    log.warning("the live stream cannot be read: %s", error)
                self.is_reading = False
                await asyncio.sleep(PAUSE_SECONDS)
            except Exception:  # the top of a job that must not end: consoles would stand still
                log.exception("the live stream cannot be read")
                self.is_reading = False
                await asyncio.sleep(PAUSE_SECONDS)

    async def _fill(self) -> None:
        """Read backwards, once, or where it was left; followers are told what they have not seen."""
        if self._last:
            return
        pages: list[Sequence[Streamed]] = []
        before, begun = "", self._begun
        while sum(map(len, pages)) < self._most:
            page = await self._store.last_published(AT_ONCE, before=before)
            if not page:
                break
            pages.append(page)
            before = page[-1].id
        lines = [streamed for page in reversed(pages) for streamed in reversed(page)]
        for start in range(0, len(lines), TURN):
            if begun != self._begun:  # what was read may have been erased
                return
            for streamed in lines[start : start + TURN]:
                self._take(streamed, tell=self._told is not None)
            await asyncio.sleep(0)  # whoever asks meanwhile does not wait for all
        if begun != self._begun:
            return
        self._last = lines[-1].id if lines else "0"
        self._told = max(self._told or (0, 0), place_of(self._last))
        self.is_reading = True
        self._filled.set()

    async def _read_on(self) -> Sequence[Streamed]:
        page = await self._store.published(self._last, AT_ONCE)
        self.is_reading = True
        if not self._last:  # begun anew meanwhile
            return page
        for streamed in page:
            self._take(streamed, tell=True)
        if page:
            self._last, self._idle = page[-1].id, 0
        else:
            await self._look_for_another_stream()
        return page

    async def _look_for_another_stream(self) -> None:
        """A store that has lost its data, and whose clock is behind, begins before where we are."""
        self._idle += 1
        if self._idle % IDLE_POLLS:
            return
        newest = await self._store.last_published(1)
        if self._last and newest and place_of(newest[0].id) < place_of(self._last):
            self._told = (0, 0)
            self.begin_anew()

    def _take(self, streamed: Streamed, *, tell: bool) -> None:
        line = line_of(streamed)
        if line is None:
            return
        if len(self._lines) >= self._most:
            self._drop()
        number, self._next = self._next, self._next + 1
        place = self._places[number] = place_of(line.id)
        self._lines[number] = line
        for entity in line.entities:
            self._of.setdefault(entity, []).append(number)
        if tell and (self._told is None or place > self._told):
            self._told = place
            self._tell(line)

    def _drop(self) -> None:
        line = self._lines.pop(self._first)
        del self._places[self._first]
        self._first += 1
        for entity in line.entities:
            numbers = self._of.get(entity)
            if numbers is None:
                continue
            if numbers[-1] < self._first:
                del self._of[entity]
            elif len(numbers) > MANY and numbers[len(numbers) // 2] < self._first:
                del numbers[: bisect_left(numbers, self._first)]

    def _tell(self, line: VerdictLine) -> None:
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(line)
