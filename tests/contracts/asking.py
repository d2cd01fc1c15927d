"""How the contract suites ask a store: at moments after a midnight, and without leaving a trace."""

import asyncio

from reputation.charges import Answer, Charge, Charging, Meter, Over, Receipt
from reputation.contracts import Store
from reputation.keys import Key
from reputation.store.redis_store import RedisStore
from tests.builders import ALICE, charge, us

ONE_MICROSECOND = 0.000_001
PATIENCE_SECONDS = 10.0
"""A machine that is busy is not a store that is away."""


async def ask(store: Store, at: float, *charges: Charge, token: str = "") -> Answer:
    """A decision at that moment, with all that follows from it."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = await store.decide(charges, token=token, now_us=us(at))
        await settled(store)
    return answer


async def give_back(store: Store, receipt: Receipt) -> None:
    """A refund."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        await store.refund(receipt)


async def settled(store: Store) -> None:
    """Wait until a cluster has given back what some keys were charged for decisions that others have refused."""
    if isinstance(store, RedisStore):
        await asyncio.gather(*store._refunds)


async def held(store: Store, at: float, *meters: Meter, key: Key = ALICE) -> list[int]:
    """What the meters count at that moment, window by window, without charging anything."""
    reading = [
        Meter(scope=each.scope, windows=each.windows, charging=Charging.NEVER, over=Over.NOTES) for each in meters
    ]
    answer = await ask(store, at, charge(*reading, key=key))
    return [value.count for values in answer.readings[0] for value in values]
