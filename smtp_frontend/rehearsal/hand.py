"""Time that is moved by hand: a store, a clock, and sessions that are held back without waiting.

The store is a real one underneath. Its time begins at the midnight (UTC) of a Saturday, where buckets of every common
width begin, so that a rehearsal comes out the same whenever it is played.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence

from reputation.charges import Answer, Charge, Receipt
from reputation.clock import SystemClock
from reputation.contracts import Board, Series, Sketch, Store, Streamed, Texts
from reputation.keys import Entity, Key, Metric
from reputation.metrics import Metrics
from reputation.windows import MICROSECONDS, Window
from smtp_frontend.sleepers import Sleepers

BEGIN_US = 19_700 * 86_400 * MICROSECONDS


class HandStore:
    """Fulfils `reputation.contracts.Store`. Its time is told by hand, and it fails while `trouble` is set."""

    def __init__(self, inner: Store) -> None:
        self.now_us = BEGIN_US
        self.trouble: Exception | None = None
        self._inner = inner

    @property
    def whole(self) -> bool:
        return self.trouble is None

    def advance(self, seconds: float) -> None:
        self.now_us += round(seconds * MICROSECONDS)

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        self._fail()
        return await self._inner.decide(charges, token=token, now_us=now_us or self.now_us)

    async def refund(self, receipt: Receipt) -> None:
        self._fail()
        await self._inner.refund(receipt)

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        self._fail()
        return await self._inner.renew(key, members, window, now_us=now_us or self.now_us)

    async def saw(self, key: Key, members: Sequence[str], *, now_us: int | None = None) -> None:
        self._fail()
        await self._inner.saw(key, members, now_us=now_us or self.now_us)

    async def sketches(self, keys: Sequence[Key], *, now_us: int | None = None) -> Sequence[Sketch]:
        return await self._inner.sketches(keys, now_us=now_us or self.now_us)

    async def series(
        self, entity: Entity, metrics: Sequence[str] = tuple(Metric), *, now_us: int | None = None
    ) -> Sequence[Series]:
        return await self._inner.series(entity, metrics, now_us=now_us or self.now_us)

    async def counts(self, keys: Sequence[Key], window: Window, *, now_us: int | None = None) -> Sequence[int]:
        return await self._inner.counts(keys, window, now_us=now_us or self.now_us)

    async def offer(self, board: Board, counts: Mapping[str, int], *, now_us: int | None = None) -> None:
        self._fail()
        await self._inner.offer(board, counts, now_us=now_us or self.now_us)

    async def board(self, board: Board, n: int, *, at_us: int | None = None) -> Sequence[tuple[str, int]]:
        return await self._inner.board(board, n, at_us=at_us or self.now_us)

    async def beat(self, process: str, lifetime_seconds: float) -> int:
        self._fail()
        return await self._inner.beat(process, lifetime_seconds)

    async def enter(
        self, id: str, entry_json: str, *, expires_us: int | None, line: str, now_us: int | None = None
    ) -> int:
        self._fail()
        now = now_us or self.now_us
        return await self._inner.enter(id, entry_json, expires_us=expires_us, line=line, now_us=now)

    async def strike(self, id: str, line: str, *, now_us: int | None = None) -> int:
        self._fail()
        return await self._inner.strike(id, line, now_us=now_us or self.now_us)

    async def entries(self, known_version: int, *, now_us: int | None = None) -> Texts:
        self._fail()
        return await self._inner.entries(known_version, now_us=now_us or self.now_us)

    async def audit(self, n: int) -> Sequence[tuple[int, str]]:
        return await self._inner.audit(n)

    def changes(self) -> AsyncGenerator[None, None]:
        return self._inner.changes()

    async def members(self, name: str) -> frozenset[str]:
        self._fail()
        return await self._inner.members(name)

    async def remark(self, id: str, line: str, *, now_us: int | None = None) -> int:
        self._fail()
        return await self._inner.remark(id, line, now_us=now_us or self.now_us)

    async def publish(self, texts: Sequence[str]) -> None:
        self._fail()
        await self._inner.publish(texts)

    async def published(self, after: str, n: int) -> Sequence[Streamed]:
        self._fail()
        return await self._inner.published(after, n)

    async def last_published(self, n: int, *, before: str = "") -> Sequence[Streamed]:
        self._fail()
        return await self._inner.last_published(n, before=before)

    async def unpublish(self, ids: Sequence[str]) -> int:
        self._fail()
        return await self._inner.unpublish(ids)

    async def keep(self, name: str, text: str, lifetime_seconds: float) -> str | None:
        self._fail()
        return await self._inner.keep(name, text, lifetime_seconds)

    async def kept(self, name: str) -> str | None:
        self._fail()
        return await self._inner.kept(name)

    async def drop(self, name: str) -> None:
        self._fail()
        await self._inner.drop(name)

    async def forget(self, entity: Entity) -> int:
        self._fail()
        return await self._inner.forget(entity)

    async def ping(self) -> str:
        return await self._inner.ping()

    async def close(self) -> None:
        await self._inner.close()

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class HandClock(SystemClock):
    """Tells the store's time; what is measured also goes on by itself."""

    def __init__(self, store: HandStore) -> None:
        self._store = store

    def now(self) -> float:
        return self._store.now_us / MICROSECONDS

    def monotonic(self) -> float:
        return super().monotonic() + (self._store.now_us - BEGIN_US) / MICROSECONDS


class InstantSleepers(Sleepers):
    """Nobody sleeps: the store's clock is moved instead."""

    def __init__(self, store: HandStore, metrics: Metrics) -> None:
        super().__init__(max_sleepers=1, metrics=metrics)
        self._store = store

    async def sleep(self, seconds: float, unless: asyncio.Event) -> bool:  # noqa: ARG002 - that of the others
        self._store.advance(seconds)
        return True
