"""What the store in memory has to itself: it forgets. All else: tests/contracts/."""

import pytest

from reputation.charges import Charging, receipt_of
from reputation.contracts import Board
from reputation.keys import Entity, Key, Metric
from reputation.store import memory
from reputation.store.memory import MemoryStore
from reputation.windows import Window
from tests.builders import CORRESPONDENTS, charge, evidence, lease, met, meter, seen, tracked, us


async def test_expired_keys_leave_with_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SWEEP_EVERY", 100)
    store = MemoryStore()
    for number in range(99):
        key = Key(Entity("user", str(number)), Metric.MESSAGES)
        await store.decide([charge(tracked(60), key=key)], now_us=us(0 if number else 50))
    await store.decide([charge(tracked(60))], now_us=us(66))
    assert {key.entity.id for key in store._states} == {"0", "alice@example.com"}


async def test_every_kind_of_key_and_report_leaves_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SWEEP_EVERY", 2)
    store = MemoryStore()
    asked = [met("m", "5/1m"), lease("s", 5), charge(tracked(60)), seen(window=Window(3_600))]
    await store.decide(asked, now_us=us(0))
    await store.saw(CORRESPONDENTS, ["m"], now_us=us(0))
    await store.offer(Board("user", Metric.SPAM, Window(300)), {"a": 1}, now_us=us(0))
    await store.decide([], now_us=us(50 * 3_600))
    assert not (store._states or store._members or store._boards)


async def test_what_is_only_read_takes_no_memory() -> None:
    store = MemoryStore()
    await store.decide([charge(meter("r", "1/1m"), cost=2)], now_us=us(0))
    await store.decide([evidence(), seen(charging=Charging.NEVER)], now_us=us(0))
    assert not store._states


async def test_what_is_given_back_whole_takes_no_memory() -> None:
    store = MemoryStore()
    answers = [await store.decide([asked], now_us=us(0)) for asked in (met("m", "5/1m"), lease("s", 5), seen())]
    for answer in answers:
        await store.refund(receipt_of(answer))
    assert not store._states


async def test_a_closed_store_is_empty() -> None:
    store = MemoryStore()
    await store.decide([charge(tracked(60))], now_us=us(0))
    await store.close()
    assert not store._states
