"""The counter store in this process' memory: the reference that the others are held against.

Promises the same arithmetic and the same atomicity as the Redis store (no await between reading and
charging), and leaves like it no trace of what was only read. Good for tests, replays, a single process, and
as what is left when the shared store is away.

What is kept under a key is one of the states of `reputation.store.states`.

Bugs: not shared, not kept over a restart. Expired keys leave once in `SWEEP_EVERY` decisions, by a sweep
over everything. Sketches are exact here.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TypeVar

from reputation.charges import Answer, Charge, Charging, Meter, Over, Receipt
from reputation.contracts import Board, Series, Sketch
from reputation.keys import Entity, Key, Metric, is_about
from reputation.store.memory_notes import MemoryNotes
from reputation.store.memory_register import MemoryRegister
from reputation.store.states import KINDS, Leases, Rings, State
from reputation.windows import MICROSECONDS, Window

SWEEP_EVERY = 10_000
HOUR_US = 3_600 * MICROSECONDS
SKETCH_US = 26 * HOUR_US
BOARD_SIZE = 1_000
BOARD_US = 49 * HOUR_US
KEYS_AT_ONCE = 1_000
"""That are looked at in one turn of the event loop, where all are."""

T = TypeVar("T")


class MemoryStore(MemoryRegister, MemoryNotes):
    """Fulfils `reputation.contracts.Store`. Of more than `most_keys` keys, the one that came first is forgotten."""

    def __init__(self, *, most_keys: int = 1_000_000) -> None:
        MemoryRegister.__init__(self)
        MemoryNotes.__init__(self)
        self._most_keys = most_keys
        self._states: dict[Key, State] = {}
        self._members: dict[tuple[Key, int], set[str]] = {}
        self._boards: dict[tuple[Board, int], dict[str, int]] = {}
        self._alive: dict[str, int] = {}
        self._decisions = 0

    whole = True

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        return self.decide_now(charges, token=token, now_us=now_us)

    def decide_now(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        """`decide` without an event loop."""
        now = _now_us() if now_us is None else now_us
        self._sweep_sometimes(now)
        read = [self._state(charge).read(charge, token, now) for charge in charges]
        over = [_over(charge, numbers) for charge, (_, numbers) in zip(charges, read, strict=True)]
        allowed = not any(
            is_over and meter.over is Over.DENIES
            for charge, overs in zip(charges, over, strict=True)
            for meter, is_over in zip(charge.plan.meters, overs, strict=True)
        )
        for charge, overs, (state, numbers) in zip(charges, over, read, strict=True):
            due = [_is_due(meter, is_over, allowed) for meter, is_over in zip(charge.plan.meters, overs, strict=True)]
            # A refused attempt was charged for itself, not for what it wanted.
            if state.charge(charge, token if allowed else "", due, now, numbers):
                self._states[charge.key] = state
        while len(self._states) > self._most_keys:
            del self._states[next(iter(self._states))]
        return Answer(
            charges=tuple(charges),
            allowed=allowed,
            numbers=[number for _, numbers in read for number in numbers],
            times_us=(now,) * len(charges),
            token=token,
            repeated=sum(1 << index for index, (state, _) in enumerate(read) if state.repeated),
        )

    def _state(self, charge: Charge) -> State:
        return self._states.get(charge.key) or KINDS[charge.plan.kind]()

    async def refund(self, receipt: Receipt) -> None:
        for given in receipt:
            state = self._states.get(given.charge.key)
            if state is not None and state.refund(given):
                del self._states[given.charge.key]

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        now = _now_us() if now_us is None else now_us
        state = self._states.get(key)
        return state.renew(members, now, now + window.seconds * MICROSECONDS) if isinstance(state, Leases) else 0

    async def series(
        self, entity: Entity, metrics: Sequence[str] = tuple(Metric), *, now_us: int | None = None
    ) -> Sequence[Series]:
        now = _now_us() if now_us is None else now_us
        states = [(key, self._states.get(key)) for key in (Key(entity, metric) for metric in metrics)]
        return [series for key, state in states if isinstance(state, Rings) for series in state.series(key, now)]

    async def saw(self, key: Key, members: Sequence[str], *, now_us: int | None = None) -> None:
        now = _now_us() if now_us is None else now_us
        self._members.setdefault((key, now // HOUR_US), set()).update(members)

    async def sketches(self, keys: Sequence[Key], *, now_us: int | None = None) -> Sequence[Sketch]:
        now = _now_us() if now_us is None else now_us
        found = []
        for key in keys:
            hours = [self._members.get((key, now // HOUR_US - back), set()) for back in range(25)]
            found.append(Sketch(key, len(hours[0] | hours[1]), len(set().union(*hours))))
        return found

    async def counts(self, keys: Sequence[Key], window: Window, *, now_us: int | None = None) -> Sequence[int]:
        now = _now_us() if now_us is None else now_us
        found = []
        for key in keys:
            state = self._states.get(key)
            rows = state.series(key, now) if isinstance(state, Rings) else ()
            found.append(next((row.count for row in rows if not row.scope and row.window == window), 0))
        return found

    async def offer(self, board: Board, counts: Mapping[str, int], *, now_us: int | None = None) -> None:
        now = _now_us() if now_us is None else now_us
        rows = self._boards.setdefault((board, now // board.stretch_us), {})
        for id, count in counts.items():
            rows[id] = max(count, rows.get(id, 0))
        best = sorted(rows.items(), key=lambda row: row[1], reverse=True)[:BOARD_SIZE]
        self._boards[board, now // board.stretch_us] = dict(best)

    async def board(self, board: Board, n: int, *, at_us: int | None = None) -> Sequence[tuple[str, int]]:
        stretch = (_now_us() if at_us is None else at_us) // board.stretch_us
        rows: dict[str, int] = {}
        for back in (0,) if at_us is not None else (0, 1):
            of_stretch = self._boards.get((board, stretch - back), {})
            for id, count in sorted(of_stretch.items(), key=lambda row: row[1], reverse=True)[:n]:
                rows.setdefault(id, count)
        return list(rows.items())

    async def forget(self, entity: Entity) -> int:
        about = [key async for key in _in_turns(list(self._states)) if is_about(key.entity, entity)]
        sketched = [row async for row in _in_turns(list(self._members)) if is_about(row[0].entity, entity)]
        boards = [rows for (board, _), rows in self._boards.items() if board.dimension == entity.dimension]
        # What has left by itself meanwhile is no more ours to count.
        erased = sum(self._states.pop(key, None) is not None for key in about)
        erased += sum(self._members.pop(row, None) is not None for row in sketched)
        return erased + sum(rows.pop(entity.id, None) is not None for rows in boards)

    async def beat(self, process: str, lifetime_seconds: float) -> int:
        now = _now_us()
        self._alive[process] = now + int(lifetime_seconds * MICROSECONDS)
        self._alive = {name: ends for name, ends in self._alive.items() if ends > now}
        return len(self._alive)

    async def ping(self) -> str:
        return "memory"

    async def close(self) -> None:
        self._states.clear()

    def _sweep_sometimes(self, now: int) -> None:
        self._decisions += 1
        if self._decisions % SWEEP_EVERY == 0:
            self._states = {key: state for key, state in self._states.items() if state.expires_us > now}
            self._members = {key: seen for key, seen in self._members.items() if key[1] > (now - SKETCH_US) // HOUR_US}
            oldest = now - BOARD_US
            self._boards = {key: rows for key, rows in self._boards.items() if key[1] * key[0].stretch_us > oldest}


def _now_us() -> int:
    return time.time_ns() // 1_000


async def _in_turns(many: Sequence[T]) -> AsyncIterator[T]:
    """One after the other, and in between whoever waits has his turn."""
    for position, one in enumerate(many):
        if position % KEYS_AT_ONCE == 0:
            await asyncio.sleep(0)
        yield one


def _over(charge: Charge, numbers: Sequence[int]) -> list[bool]:
    overs, position = [], 0
    for meter in charge.plan.meters:
        width = 2 * len(meter.windows)
        overs.append(any(numbers[position + 1 : position + width : 2]))
        position += width
    return overs


def _is_due(meter: Meter, over: bool, allowed: bool) -> bool:
    match meter.charging:
        case Charging.ALWAYS:
            return True
        case Charging.NEVER:
            return False
        case Charging.ACCEPTED:
            return allowed and not (meter.over is Over.SKIPS and over)
