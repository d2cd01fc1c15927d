"""The keeper of the lists in one process: reads files and sets again and again, and tells the registrar.

    a file   looked at every second; read when it has changed, and was the same at two looks: it is written to its end
    a set    read every five seconds
    values   of the configuration, read when it is

What is read is in force at once, all of a source or nothing. A file with a mistake in it, or one that is gone, leaves
the list as it was, and so does a store that is away; each is logged once, and counted. Of a set, whose members come one
by one, those that cannot be read are passed over. Two exceptions at the start: there is no list yet that could stay, so
a file with a mistake is an error; and a set that cannot be read is empty until it can be.

Reading is done in a thread, with pauses (`reputation.list_files`): 200,000 lines hold nobody up.

Bugs: a file system that hangs holds up all lists, and the end of the process.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from reputation.clock import Clock
from reputation.config import ListSettings
from reputation.contracts import RegisterStore
from reputation.entries import Target
from reputation.errors import ConfigError, StoreError
from reputation.list_files import (
    MISSING,
    Attempt,
    Fingerprint,
    Pace,
    attempt,
    fingerprints_of,
    named,
    shown,
    sources_of,
)
from reputation.list_lines import Reader
from reputation.lists import MAX_VALUES, NO_LISTS, Lists, Reading, Source
from reputation.metrics import Metrics
from reputation.spelling import Spelling

POLL_SECONDS = 1.0
SET_EVERY = 5
"""Rounds between two readings of a set."""

T = TypeVar("T")

log = logging.getLogger("reputon.engine")


@dataclass(slots=True, kw_only=True)
class _Kept:
    """What is known about a source."""

    reading: Reading | None = None
    """What is in force."""
    read: Fingerprint | tuple[int, int] | None = None
    """What was read last, right or wrong: a file, or number and hash of a set's members. None: nothing yet."""
    seen: Fingerprint | None = None
    """What the file was at the last look."""
    away: bool = False
    """Whether the set could not be asked for the last time."""
    troubles: Sequence[str] = ()
    """Those of the last reading, and told."""
    notes: frozenset[str] = frozenset()
    """Likewise."""


class ListKeeper:
    """Keeps `lists` up to date while `run` runs; `publish` is called with each new state of them."""

    def __init__(
        self,
        store: RegisterStore,
        metrics: Metrics,
        clock: Clock,
        *,
        never_ban: Sequence[Target],
        publish: Callable[[Lists], None],
    ) -> None:
        self.lists = NO_LISTS
        """What is in force."""
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._never_ban = never_ban
        self._publish = publish
        self._spelling = Spelling()
        self._wanted: tuple[Source, ...] = ()
        self._kept: dict[Source, _Kept] = {}
        self._shown: tuple[Source, ...] = ()
        """The sources that `lists` are of."""
        self._then: Callable[[], None] = lambda: None
        """What waits for the wanted lists."""
        self._rounds = 0
        self._pace = Pace()
        self._news = asyncio.Event()

    def use(self, lists: Sequence[ListSettings], spelling: Spelling, then: Callable[[], None] = lambda: None) -> None:
        """Keep these lists from now on. Those before stay in force until these are read; `then` is called at once after
        that, with no turn of the loop in between."""
        self._wanted, self._spelling, self._then = sources_of(lists), spelling, then
        if self._wanted == self._shown:
            self._switched()
        self._news.set()

    def _switched(self) -> None:
        then, self._then = self._then, lambda: None
        then()

    @property
    def complete(self) -> bool:
        """Whether all of what is wanted has been read at some time: a set that never was is not empty, but unknown."""
        if not self._wanted:
            return True
        return self._wanted == self._shown and all(self._of(source).reading is not None for source in self._shown)

    async def start(self) -> None:
        """Read everything for the first time. Raises `ConfigError` for files and values that cannot be in force."""
        self._news.clear()
        wanted, troubles = self._wanted, list[str]()
        for source in wanted:
            if not source.redis_set:
                result = await self._attempt(source)
                self._accept(source, result)
                troubles += result.troubles
        if troubles:
            raise ConfigError("\n".join(shown(troubles)))
        await self._read_sets([source for source in wanted if source.redis_set])
        self._show(wanted)

    async def run(self) -> None:
        """Look at the sources again and again until cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
            self._news.clear()
            try:
                await self._round()
            except Exception as error:  # the top of a job that must not end: no list would ever change again
                self._metrics.store_failures.labels("lists", type(error).__name__).inc()
                log.exception("lists cannot be read, %d values stay in force", self.lists.size)

    async def _round(self) -> None:
        wanted, self._rounds = self._wanted, self._rounds + 1
        changed = wanted != self._shown
        for source in wanted:
            if source.values and self._of(source).read is None:
                changed |= self._told(source, await self._attempt(source))
        files = [source for source in wanted if source.file]
        found = await _in_thread(self._pace, fingerprints_of, [source.file for source in files]) if files else {}
        for source in files:
            changed |= await self._look_at(source, found[source.file])
        due = self._rounds % SET_EVERY == 0
        changed |= await self._read_sets(
            [source for source in wanted if source.redis_set and (due or self._of(source).read is None)]
        )
        if changed:
            self._show(wanted)

    def _show(self, wanted: Sequence[Source]) -> None:
        """Put what has been read in force."""
        gone = {source.list for source in self._shown} - {source.list for source in wanted}
        self._shown = tuple(wanted)
        self._kept = {source: self._of(source) for source in wanted}
        readings = [(source.list, kept.reading) for source, kept in self._kept.items()]
        sizes = dict.fromkeys((name for name, _ in readings), 0)
        for name, reading in readings:
            sizes[name] += 0 if reading is None else reading.size
        for name, size in sizes.items():
            self._metrics.list_entries.labels(name).set(size)
        for name in gone:
            self._metrics.list_entries.remove(name)
        self.lists = Lists([reading for _, reading in readings if reading is not None])
        self._publish(self.lists)
        if self._wanted == self._shown:
            self._switched()

    # One source

    def _of(self, source: Source) -> _Kept:
        return self._kept.setdefault(source, _Kept())

    async def _look_at(self, source: Source, found: Fingerprint) -> bool:
        """Read a file that has changed and is at rest; whether something else is in force now."""
        kept = self._of(source)
        at_rest, kept.seen = kept.read is None or found == kept.seen, found
        if not at_rest or found == kept.read:
            return False
        result = await self._attempt(source)
        if result.torn:
            return False
        return self._told(source, result)

    async def _read_sets(self, sources: Sequence[Source]) -> bool:
        """Read some sets, all at once; whether something else is in force now."""
        replies = await asyncio.gather(*(self._members(source) for source in sources))
        changed = False
        for source, members in zip(sources, replies, strict=True):
            kept = self._of(source)
            if members is None or (found := (len(members), hash(members))) == kept.read:
                continue
            result = await self._attempt(source, members)
            kept.read = found
            changed |= self._told(source, result)
        return changed

    async def _members(self, source: Source) -> frozenset[str] | None:
        """The members of a set; None when they cannot be had."""
        kept = self._of(source)
        try:
            members = await self._store.members(source.redis_set)
        except StoreError as error:
            self._metrics.store_failures.labels("members", type(error).__name__).inc()
            self._metrics.list_failures.labels(source.list).inc()
            if not kept.away:
                kept.away = True
                log.warning("a list stays as it was: %s", named(source, str(error)))
            return None
        if kept.away:
            kept.away = False
            log.warning("%s", named(source, "is read again"))
        return members

    async def _attempt(self, source: Source, members: frozenset[str] = frozenset()) -> Attempt:
        """Read a source beside the loop; nothing is in force yet."""
        kept = self._of(source)
        others = [self._of(other).reading for other in self._wanted if other != source]
        reader = Reader(
            source,
            self._spelling,
            room=MAX_VALUES - sum(reading.size for reading in others if reading is not None),
            never_ban=self._never_ban,
            before=kept.reading,
        )
        return await _in_thread(self._pace, attempt, source, reader, self._pace, members)

    def _told(self, source: Source, result: Attempt) -> bool:
        """Take what was read, and tell of troubles that are new; whether something else is in force now."""
        kept = self._of(source)
        before = kept.troubles
        accepted = self._accept(source, result)
        if result.troubles:
            self._metrics.list_failures.labels(source.list).inc()
        what = "a member is passed over" if accepted else "a list stays as it was"
        for trouble in shown([trouble for trouble in result.troubles if trouble not in before]):
            log.error("%s: %s", what, trouble)
        return accepted

    def _accept(self, source: Source, result: Attempt) -> bool:
        """Take what was read, if it is right; of a set, what of it is right."""
        kept, reader = self._of(source), result.reader
        kept.troubles = result.troubles
        if not source.redis_set:
            kept.read = result.file if result.file != MISSING or kept.seen is None else kept.seen
        if result.troubles and (reader.given_up or not source.redis_set):
            return False
        gone = (0 if kept.reading is None else kept.reading.size) - (reader.size - reader.added)
        written = result.file.written_ns / 1e9 if source.file else self._clock.now()
        kept.reading = reader.reading(written)
        self._tell_notes(source, reader)
        log.info(
            "list %s: %d values of %s (%d new, %d gone)", source.list, reader.size, source.place, reader.added, gone
        )
        return True

    def _tell_notes(self, source: Source, reader: Reader) -> None:
        """Tell what is surprising, on whatever line it stands now, if it was not told after the last reading."""
        kept = self._of(source)
        news = [(number, text) for number, text in reader.notes if text not in kept.notes]
        kept.notes = frozenset(text for _, text in reader.notes)
        for number, text in news:
            log.warning("%s", named(source, text, number))
        if news and reader.noted > len(reader.notes):
            log.warning("%s", named(source, f"{reader.noted - len(reader.notes)} more lines like these"))


async def _in_thread(pace: Pace, work: Callable[..., T], *arguments: object) -> T:
    """What a thread makes of it; one that nobody waits for any more ends soon."""
    try:
        return await asyncio.to_thread(work, *arguments)
    except asyncio.CancelledError:
        pace.stop()
        raise
