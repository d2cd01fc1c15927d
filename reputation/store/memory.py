"""The counter store in this process' memory: the reference that the others are held against.

Promises the same arithmetic and the same atomicity as the Redis store (no await between reading and
charging), and leaves like it no trace of what was only read. Good for tests, replays and a single process.

Bugs: not shared, not kept over a restart. Expired keys leave once in `SWEEP_EVERY` decisions, by a sweep
over everything.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

from reputation.charges import Answer, Charge, Charging, Meter, Over, Readings, Receipt
from reputation.contracts import Series
from reputation.keys import Entity, Key, Metric
from reputation.windows import MICROSECONDS, Limit, Reading, Ring, Window

SWEEP_EVERY = 10_000

Rings = dict[tuple[str, Window], Ring]


class MemoryStore:
    """Fulfils `reputation.contracts.Store`."""

    def __init__(self) -> None:
        self._counters: dict[Key, Rings] = {}
        self._expires_us: dict[Key, int] = {}
        self._decisions = 0

    async def decide(self, charges: Sequence[Charge], *, now_us: int | None = None) -> Answer:
        now = _now_us() if now_us is None else now_us
        self._sweep_sometimes(now)
        states = [self._state_of(charge, now) for charge in charges]
        read = [_read(charge, rings, now) for charge, rings in zip(charges, states, strict=True)]
        allowed = not any(
            meter.over is Over.DENIES and _over(values)
            for charge, readings in zip(charges, read, strict=True)
            for meter, values in zip(charge.meters, readings, strict=True)
        )
        readings = tuple(
            self._charge(charge, rings, values, allowed, now)
            for charge, rings, values in zip(charges, states, read, strict=True)
        )
        return Answer(allowed=allowed, at_us=now, readings=readings)

    def _state_of(self, charge: Charge, now: int) -> Rings:
        """A copy of the key's rings with all that `charge` names, as of now; only charging makes it the truth.

        Rings that only others use stay while they hold something.
        """
        kept = self._counters.get(charge.key, {})
        named = [(meter.scope, window) for meter in charge.meters for window in meter.windows]
        if not kept.keys() >= set(named):
            kept = {name: ring for name, ring in kept.items() if not ring.aged_out(now)}
        rings = {name: ring.copy() for name, ring in kept.items()}
        for name in named:
            rings.setdefault(name, Ring(name[1])).advance(now)
        return rings

    def _charge(self, charge: Charge, rings: Rings, readings: Readings, allowed: bool, now: int) -> Readings:
        charged = []
        for meter, values in zip(charge.meters, readings, strict=True):
            if _is_charged(meter, values, allowed):
                self._keep(charge.key, rings, now)
                charged.append(
                    tuple(_counted(rings[meter.scope, value.window], charge.cost, value) for value in values)
                )
            else:
                charged.append(values)
        return tuple(charged)

    def _keep(self, key: Key, rings: Rings, now: int) -> None:
        longest = max(window.seconds for _, window in rings)
        self._counters[key] = rings
        self._expires_us[key] = now + longest * MICROSECONDS * 11 // 10

    async def refund(self, receipt: Receipt) -> None:
        for charge in receipt.charges:
            rings = self._counters.get(charge.key, {})
            for meter in charge.meters:
                for window in meter.windows:
                    if ring := rings.get((meter.scope, window)):
                        ring.refund(charge.cost, receipt.at_us)
            if not any(ring.total for ring in rings.values()):
                self._forget(charge.key)

    async def series(self, entity: Entity, *, now_us: int | None = None) -> Sequence[Series]:
        now = _now_us() if now_us is None else now_us
        found = []
        for key in [Key(entity, metric) for metric in Metric]:
            for (scope, window), kept in self._counters.get(key, {}).items():
                ring = kept.copy()
                ring.advance(now)
                if ring.total:
                    buckets = tuple(ring.series())
                    found.append(Series(key=key, scope=scope, window=window, count=ring.total, buckets=buckets))
        return found

    async def ping(self) -> str:
        return "memory"

    async def close(self) -> None:
        self._counters.clear()
        self._expires_us.clear()

    def _sweep_sometimes(self, now: int) -> None:
        self._decisions += 1
        if self._decisions % SWEEP_EVERY == 0:
            for key in [key for key, expires in self._expires_us.items() if expires <= now]:
                self._forget(key)

    def _forget(self, key: Key) -> None:
        self._counters.pop(key, None)
        self._expires_us.pop(key, None)


def _now_us() -> int:
    return time.time_ns() // 1_000


def _over(values: tuple[Reading, ...]) -> bool:
    return any(value.over for value in values)


def _is_charged(meter: Meter, values: tuple[Reading, ...], allowed: bool) -> bool:
    match meter.charging:
        case Charging.ALWAYS:
            return True
        case Charging.NEVER:
            return False
        case Charging.ACCEPTED:
            return allowed and not (meter.over is Over.SKIPS and _over(values))


def _read(charge: Charge, rings: Rings, now: int) -> Readings:
    return tuple(
        tuple(
            _reading(rings[meter.scope, window], meter.limits[position] if meter.limits else None, charge.cost, now)
            for position, window in enumerate(meter.windows)
        )
        for meter in charge.meters
    )


def _reading(ring: Ring, limit: Limit | None, cost: int, now: int) -> Reading:
    wait_us = ring.retry_after_us(cost, limit.count, now) if limit else 0
    return Reading(window=ring.window, count=ring.total, limit=limit, retry_after_seconds=wait_us / MICROSECONDS)


def _counted(ring: Ring, cost: int, value: Reading) -> Reading:
    ring.charge(cost)
    return replace(value, count=ring.total)
