"""What a process does beside deciding: it keeps its leases alive, says that it lives, fills the leaderboards and tells
the live stream.

All of it is off the decision path. A round that fails is left out and counted: the next one makes up for it.

Leaderboards need no sketch: every decision brings back exact counts, so each process offers the largest that it has
seen (`reputation.leaders`). A query then counts the candidates anew.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from reputation.bookkeeping import TRACKED_WINDOWS
from reputation.charges import Answer
from reputation.contracts import Store
from reputation.errors import StoreError
from reputation.keys import Entity, Key
from reputation.leaders import Leaders
from reputation.leases import TOLD_AT_ONCE, Leases, batched, each
from reputation.metrics import Metrics
from reputation.rules import LEASE
from reputation.tallies import Tallies
from reputation.verdict_stream import VerdictStream

OFFER_SECONDS = 1.0
OFFERED_EVERY = (1, 5, 15)
"""Rounds between two offers to the boards of each of `TRACKED_WINDOWS`: what is long moves slowly."""
STREAM_SECONDS = 0.25
MAX_MEMBERS = 100_000
"""Of sketches, between two rounds."""
BEAT_SECONDS = 5.0
LIFE_SECONDS = 15.0
RENEW_SECONDS = LEASE.seconds / 3

log = logging.getLogger("reputon.engine")


class Upkeep:
    """The upkeep of one process."""

    def __init__(self, store: Store, metrics: Metrics, fallback: Store | None = None) -> None:
        self.leases = Leases(store)
        self.local_leases = None if fallback is None else Leases(fallback)
        """Those of the store that counts while the shared one is away."""
        self.tallies = Tallies(store)
        self.stream = VerdictStream(store, metrics)
        self._store = store
        self._metrics = metrics
        self._process = secrets.token_hex(8)
        self._leaders = Leaders(TRACKED_WINDOWS)
        self._rounds = 0
        self._members: dict[Key, set[str]] = {}
        self._pending = 0
        self.live = 1
        """How many processes of the fleet live, as far as is known."""

    def note(self, answer: Answer) -> None:
        """Remember the counts of a decision for the leaderboards."""
        self._leaders.note(answer)

    def saw(self, pairs: Iterable[tuple[Key, Entity]]) -> None:
        """Remember members for the sketches."""
        for key, member in pairs:
            if self._pending < MAX_MEMBERS:
                self._members.setdefault(key, set()).add(member.id)
                self._pending += 1

    async def run(self) -> None:
        """All of it, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._every(OFFER_SECONDS, "offer", self.offer))
                tasks.create_task(self._every(OFFER_SECONDS, "sketch", self.sketch))
                tasks.create_task(self._every(OFFER_SECONDS, "tally", self.tallies.tell))
                tasks.create_task(self._every(STREAM_SECONDS, "stream", self.stream.tell))
                tasks.create_task(self._every(BEAT_SECONDS, "beat", self.beat))
                tasks.create_task(self._every(RENEW_SECONDS, "renew", self.renew))
        finally:
            with suppress(StoreError):  # then the others find out when its life is over
                await self._store.beat(self._process, 0.0)

    async def _every(self, seconds: float, name: str, step: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await step()
            except StoreError as error:
                self._metrics.store_failures.labels(name, type(error).__name__).inc()
                log.debug("%s: %s", name, error)
            except Exception as error:  # the top of a job that must not end: leases would, all of them
                self._metrics.store_failures.labels(name, type(error).__name__).inc()
                log.exception("%s", name)
            await asyncio.sleep(seconds)

    def forget(self) -> None:
        """Drop all candidates of the leaderboards: one of them is to be erased, and must not be offered again."""
        self._leaders.forget()

    async def beat(self) -> None:
        """Say that this process lives, and hear how many do."""
        self.live = max(1, await self._store.beat(self._process, LIFE_SECONDS))

    async def offer(self) -> None:
        """Offer the candidates to the boards whose turn it is."""
        self._rounds += 1
        failed: list[BaseException] = []
        for window, rounds in zip(TRACKED_WINDOWS, OFFERED_EVERY, strict=True):
            if self._rounds % rounds == 0:
                offers = [self._store.offer(board, rows) for board, rows in self._leaders.offers(window)]
                results = await asyncio.gather(*offers, return_exceptions=True)
                failed += [result for result in results if isinstance(result, BaseException)]
        if self._rounds % OFFERED_EVERY[-1] == 0:
            self._leaders.forget()
        if failed:  # the boards on other servers have got theirs
            raise failed[0]

    async def sketch(self) -> None:
        """Tell the members of the last round."""
        members, self._members, self._pending = self._members, {}, 0
        await each(
            lambda part: self._store.saw(*part),
            [(key, some) for key, ids in members.items() for some in batched(sorted(ids), TOLD_AT_ONCE)],
        )

    async def renew(self) -> None:
        """Prolong the leases that are held."""
        if self.local_leases is not None:
            await self.local_leases.renew()
        await self.leases.renew()
