"""What is asked of Redis or Valkey, and told, off the decision path: series, counts, sketches, leaderboards.

Sketches and leaderboards are kept by stretches of time, each under a key of its own, which is named here: a cluster
must know the keys of a call. So the server is asked for its time first, now and then.

Bugs: while its slot moves, a sketch cannot be read: it has several keys, and no server has them all. The servers of a
cluster are taken to agree on the time within a stretch or so.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import chain

from reputation.contracts import Board, Series, Sketch
from reputation.keys import Entity, Key, Metric
from reputation.store import functions
from reputation.store.address import StoreUrl
from reputation.store.connection import Reply
from reputation.store.redis_register import RedisRegister
from reputation.windows import MICROSECONDS, Window

CLOCK_SECONDS = 10.0
"""The server's clock is reckoned on for so long."""
HOUR_US = 3_600 * MICROSECONDS
SKETCHED_HOURS = 25


class RedisReports(RedisRegister):
    """The part of `reputation.contracts.Store` that reports, for a store that can call functions."""

    def __init__(self, url: StoreUrl, prefix: str) -> None:
        super().__init__(url, prefix)
        self._ahead_us, self._clock_until = 0, 0.0
        """By how much the server's clock is ahead of this process', and until when that is taken for right."""

    async def _ask_each(self, function: str, keys: Sequence[str], *arguments: functions.Word) -> list[Reply]:
        """What a function says about each of some keys of any slots."""
        raise NotImplementedError

    async def series(
        self, entity: Entity, metrics: Sequence[str] = tuple(Metric), *, now_us: int | None = None
    ) -> Sequence[Series]:
        keys = [Key(entity, metric) for metric in metrics]
        names = [key.spelled(self._prefix) for key in keys]
        # Key by key: of a slot that is moving, some may be here and some there.
        replies = await self._ask_each(functions.SERIES, names, functions.moment(now_us))
        return list(chain(*(functions.series_of(key, rings) for key, (rings,) in zip(keys, replies, strict=True))))

    async def counts(self, keys: Sequence[Key], window: Window, *, now_us: int | None = None) -> Sequence[int]:
        names = [key.spelled(self._prefix) for key in keys]
        arguments = (functions.moment(now_us), functions.ring_name(window))
        return [int(count) for (count,) in await self._ask_each(functions.COUNTS, names, *arguments)]

    async def saw(self, key: Key, members: Sequence[str], *, now_us: int | None = None) -> None:
        name = key.spelled(self._prefix)
        hour = await self._moment(name, now_us) // HOUR_US
        await self._ask(functions.SAW, [f"{name}:{hour}"], *members)

    async def sketches(self, keys: Sequence[Key], *, now_us: int | None = None) -> Sequence[Sketch]:
        found = []
        for key in keys:
            name = key.spelled(self._prefix)
            hour = await self._moment(name, now_us) // HOUR_US
            hours = [f"{name}:{hour - back}" for back in range(SKETCHED_HOURS)]
            found.append(Sketch(key, *await self._ask(functions.SKETCH, hours)))
        return found

    async def offer(self, board: Board, counts: Mapping[str, int], *, now_us: int | None = None) -> None:
        moment = await self._moment(board.spelled(self._prefix, 0), now_us)
        rows: list[functions.Word] = [word for row in counts.items() for word in row]
        await self._ask(functions.OFFER, [board.spelled(self._prefix, moment)], *rows)

    async def board(self, board: Board, n: int, *, at_us: int | None = None) -> Sequence[tuple[str, int]]:
        moment = await self._moment(board.spelled(self._prefix, 0), at_us)
        rows: dict[str, int] = {}
        for back in (0, 1) if at_us is None else (0,):
            key = board.spelled(self._prefix, moment - back * board.stretch_us)
            reply = await self._ask(functions.BOARD, [key], n)
            for id, count in zip(reply[::2], reply[1::2], strict=True):
                rows.setdefault(id.decode("utf-8", "replace"), int(count))
        return list(rows.items())

    async def _moment(self, key: str, given_us: int | None) -> int:
        """The given moment, or the server's now; `key` says which server, where there are several."""
        if given_us is not None:
            return given_us
        time = asyncio.get_running_loop().time
        if time() >= self._clock_until:
            told_us = int(await self._ask(functions.NOW, [key]))
            self._ahead_us, self._clock_until = told_us - int(time() * MICROSECONDS), time() + CLOCK_SECONDS
        return int(time() * MICROSECONDS) + self._ahead_us
