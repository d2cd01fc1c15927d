"""What the store in memory has to itself: it forgets. All else: tests/contracts/test_store.py."""

import pytest

from reputation.keys import Entity, Key, Metric
from reputation.store import memory
from reputation.store.memory import MemoryStore
from tests.builders import charge, meter, tracked, us


async def test_expired_keys_leave_with_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SWEEP_EVERY", 100)
    store = MemoryStore()
    for number in range(99):
        key = Key(Entity("user", str(number)), Metric.MESSAGES)
        await store.decide([charge(tracked(60), key=key)], now_us=us(0 if number else 50))
    await store.decide([charge(tracked(60))], now_us=us(66))
    assert {key.entity.id for key in store._counters} == {"0", "alice@example.com"}
    assert store._counters.keys() == store._expires_us.keys()


async def test_what_is_only_read_takes_no_memory() -> None:
    store = MemoryStore()
    await store.decide([charge(meter("r", "1/1m"), cost=2)], now_us=us(0))
    assert not store._counters
    assert not store._expires_us


async def test_a_closed_store_is_empty() -> None:
    store = MemoryStore()
    await store.decide([charge(tracked(60))], now_us=us(0))
    await store.close()
    assert not store._counters
    assert not store._expires_us
