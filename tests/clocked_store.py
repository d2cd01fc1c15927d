"""A store in memory that lives by the clock of its engine, so that a test moves time by hand."""

import asyncio
from collections.abc import Sequence

from reputation.charges import Answer, Charge
from reputation.clock import ManualClock
from reputation.contracts import Texts
from reputation.errors import StoreError
from reputation.keys import Key
from reputation.store.memory import MemoryStore
from reputation.windows import MICROSECONDS, Window
from tests.builders import MIDNIGHT_US

MIDNIGHT = MIDNIGHT_US / MICROSECONDS


class ClockedStore(MemoryStore):
    """Fails with `trouble` while it has any, gives no answer about dimensions or entities that are `away`, as a cluster
    of which a part is away, and keeps what it was asked."""

    def __init__(self, clock: ManualClock | None = None) -> None:
        super().__init__()
        self.clock = clock or ManualClock(MIDNIGHT)
        self.trouble: StoreError | None = None
        self.away: frozenset[str] = frozenset()
        self.asked: list[tuple[Charge, ...]] = []

    def _now_us(self) -> int:
        return round(self.clock.now() * MICROSECONDS)

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        self.asked.append(tuple(charges))
        await asyncio.sleep(0)  # others run meanwhile, as while a server is asked
        if self.trouble is not None:
            raise self.trouble
        entities = [charge.key.entity for charge in charges]
        there = [index for index, each in enumerate(entities) if not self.away & {each.dimension, str(each)}]
        answer = self.decide_now([charges[index] for index in there], token=token, now_us=now_us or self._now_us())
        numbers, given = [], iter(answer.numbers)
        for index, charge in enumerate(charges):
            numbers += [next(given) if index in there else 0 for _ in range(charge.plan.size)]
        times = tuple(answer.at_us if index in there else 0 for index in range(len(charges)))
        missing = frozenset(range(len(charges))) - set(there)
        return answer._replace(charges=tuple(charges), numbers=numbers, times_us=times, missing=missing)

    async def counts(self, keys: Sequence[Key], window: Window, *, now_us: int | None = None) -> Sequence[int]:
        if self.trouble is not None:
            raise self.trouble
        return await super().counts(keys, window, now_us=now_us or self._now_us())

    async def enter(
        self, id: str, entry_json: str, *, expires_us: int | None, line: str, now_us: int | None = None
    ) -> int:
        await asyncio.sleep(0)
        if self.trouble is not None:
            raise self.trouble
        now = now_us or self._now_us()
        return await super().enter(id, entry_json, expires_us=expires_us, line=line, now_us=now)

    async def strike(self, id: str, line: str, *, now_us: int | None = None) -> int:
        return await super().strike(id, line, now_us=now_us or self._now_us())

    async def entries(self, known_version: int, *, now_us: int | None = None) -> Texts:
        return await super().entries(known_version, now_us=now_us or self._now_us())
