"""Crowds of callers: how many ask at once, what each of them heard, and how long it took."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar

from reputation.charges import Answer, Charge, Charging, Over
from reputation.errors import StoreError
from reputation.keys import Entity, Key, Metric
from reputation.store.functions import slot_of
from reputation.store.redis_store import RedisStore
from tests.builders import charge, meter

PATIENCE_SECONDS = 10.0
"""A deadline for decisions that must not fail because the machine is busy."""
ALLOWANCE_SECONDS = 0.25
"""What scheduling on a busy machine may add to a deadline."""

T = TypeVar("T")


class Heard(NamedTuple):
    """What a caller heard, and when."""

    answer: Answer | StoreError
    seconds: float


def user(name: object) -> Key:
    """The messages of a user."""
    return Key(Entity("user", str(name)), Metric.MESSAGES)


def one_of(key: Key, limit: str = "1000000/1h", cost: int = 1) -> Charge:
    """One message of somebody who has room enough."""
    return charge(meter("r", limit), key=key, cost=cost)


def users_in(slots: range, number: int) -> list[Key]:
    """Some users whose keys are in some slots."""
    found: list[Key] = []
    name = 0
    while len(found) < number:
        name += 1
        if slot_of(user(name).spelled("any")) in slots:
            found.append(user(name))
    return found


async def heard(asked: Awaitable[Answer]) -> Heard:
    """Await an answer or an error of the store."""
    started = time.monotonic()
    try:
        answer: Answer | StoreError = await asked
    except StoreError as error:
        answer = type(error)(*error.args)  # without the frames that it came through: a crowd of them is heavy
    return Heard(answer, time.monotonic() - started)


async def count_of(store: RedisStore, key: Key) -> int:
    """What is counted now, without counting."""
    reading = charge(meter("r", "1000000/1h", charging=Charging.NEVER, over=Over.NOTES), key=key)
    return (await store.decide([reading])).readings[0][0][0].count


async def eventually(step: Callable[[], Awaitable[T]], seconds: float = PATIENCE_SECONDS) -> T:
    """Try again until the store answers."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                return await step()
            except StoreError:
                await asyncio.sleep(0.01)


async def become(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


class Workers:
    """Some workers that decide about keys, one after the other, until they are told to stop."""

    def __init__(self, store: RedisStore, keys: Sequence[Key], number: int = 32) -> None:
        self._store = store
        self._keys = keys
        self._stopped = False
        self._tasks = [asyncio.create_task(self._work(worker)) for worker in range(number)]
        self.counted = dict.fromkeys(keys, 0)
        self.errors: list[StoreError] = []
        self.slowest = 0.0
        self.decisions = 0

    async def _work(self, worker: int) -> None:
        turn = worker
        while not self._stopped:
            key = self._keys[turn % len(self._keys)]
            turn += 7
            answer, seconds = await heard(self._store.decide([one_of(key)]))
            self.slowest = max(self.slowest, seconds)
            self.decisions += 1
            if isinstance(answer, StoreError):
                self.errors.append(answer)
                await asyncio.sleep(0.005)
            elif answer.missing:
                self.errors.append(StoreError(f"missing {key}"))
            else:
                self.counted[key] += answer.allowed

    async def stop(self) -> None:
        """Let everybody end what he is at."""
        self._stopped = True
        await asyncio.gather(*self._tasks)
