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
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from dataclasses import fields
from typing import Any

from reputation.contracts import Streamed, StreamStore
from reputation.desk.documents import VerdictLine
from reputation.errors import ConfigError, StoreError, StoreUnavailable

MAX_WATCHED = 50_000
AT_ONCE = 1_000
"""Lines in one question: some 300 kB."""
POLL_SECONDS = 0.25
HEARTBEAT_SECONDS = 5.0
MAX_BEHIND = 10_000
MAX_ID_LENGTH = 42
PAUSE_SECONDS = 1.0
"""After a failure."""

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
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in read.items() if name in _NAMES
        }
        return VerdictLine(**{**known, "id": streamed.id})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


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


def place_of(id: str) -> tuple[int, int]:
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
        self._lines: deque[VerdictLine] = deque()
        self._of: dict[str, deque[VerdictLine]] = {}
        """Entity -> its lines, oldest first."""
        self._last = ""
        self._begun = 0
        """How often it has begun anew."""
        self._followers: set[asyncio.Queue[VerdictLine]] = set()
        self.is_reading = False
        """Whether the store answered when it was last asked."""

    def __len__(self) -> int:
        return len(self._lines)

    def begin_anew(self) -> None:
        """Drop everything, and read it again: something of it was erased."""
        self._lines.clear()
        self._of.clear()
        self._last = ""
        self._begun += 1

    def lines_of(self, entity: str, n: int) -> tuple[VerdictLine, ...]:
        """The latest of an entity, the latest first."""
        found = self._of.get(entity, ())
        return tuple(line for line, _ in zip(reversed(found), range(n), strict=False))

    def latest(self) -> Iterator[VerdictLine]:
        """All lines, the latest first."""
        return iter(tuple(reversed(self._lines)))

    @property
    def since(self) -> float | None:
        """How far back it goes, in seconds since the epoch."""
        return self._lines[0].at if self._lines else None

    async def follow(self, after: str | None = None) -> AsyncGenerator[VerdictLine | None, None]:
        """Lines as they come, from now on or after one of the stream; None when there was none for a while.

        Raises `StoreUnavailable` while the store does not answer.
        """
        queue: asyncio.Queue[VerdictLine] = asyncio.Queue(MAX_BEHIND)
        self._followers.add(queue)
        try:
            last = place_of("0" if after is None else after)
            for line in () if after is None else tuple(self._lines):
                if place_of(line.id) > last:
                    last = place_of(line.id)
                    yield line
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_SECONDS):
                        new = await queue.get()
                except TimeoutError:
                    if not self.is_reading:
                        raise StoreUnavailable("the live stream cannot be read now") from None
                    yield None
                else:
                    if place_of(new.id) > last:
                        yield new
        finally:
            self._followers.discard(queue)

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
        """Read backwards, once, or where it was left."""
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
        if begun != self._begun:  # what was read may have been erased
            return
        self._last = pages[0][0].id if pages else "0"
        for page in reversed(pages):
            for streamed in reversed(page):
                self._take(streamed)
            await asyncio.sleep(0)  # whoever asks meanwhile does not wait for all
            if begun != self._begun:
                return

    async def _read_on(self) -> Sequence[Streamed]:
        page = await self._store.published(self._last, AT_ONCE)
        self.is_reading = True
        if not self._last:  # begun anew meanwhile
            return page
        for streamed in page:
            if (line := self._take(streamed)) is not None:
                self._tell(line)
        if page:
            self._last = page[-1].id
        return page

    def _take(self, streamed: Streamed) -> VerdictLine | None:
        line = line_of(streamed)
        if line is None:
            return None
        if len(self._lines) >= self._most:
            self._drop(self._lines.popleft())
        self._lines.append(line)
        for entity in line.entities:
            self._of.setdefault(entity, deque()).append(line)
        return line

    def _drop(self, line: VerdictLine) -> None:
        for entity in line.entities:
            if (kept := self._of.get(entity)) is not None:
                if kept and kept[0] is line:
                    kept.popleft()
                if not kept:
                    del self._of[entity]

    def _tell(self, line: VerdictLine) -> None:
        for queue in self._followers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(line)
