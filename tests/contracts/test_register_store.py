"""What every store promises about the register: `reputation.contracts.RegisterStore`."""

import asyncio
import json
from contextlib import aclosing

import pytest

from reputation import contracts
from reputation.contracts import Store, Texts
from reputation.errors import StoreMisuse
from reputation.store import memory_register, redis_register
from tests.builders import us
from tests.contracts.asking import PATIENCE_SECONDS
from tests.contracts.conftest import OpenStore

BAN, OTHER = "ban|ip:192.0.2.7", "list|vip|user:müller"
LONG_AGO = us(-86_400)
"""A version that nothing ever had."""


async def put(store: Store, at: float, id: str = BAN, text: str = "{}", *, ends: float | None = None) -> int:
    expires_us = None if ends is None else us(ends)
    return await store.enter(id, text, expires_us=expires_us, line=f"put {id}", now_us=us(at))


async def lift(store: Store, at: float, id: str = BAN) -> int:
    return await store.strike(id, f"lift {id}", now_us=us(at))


async def test_an_empty_register(store: Store) -> None:
    assert await store.entries(0, now_us=us(1)) == Texts(us(1), 0, False, {})
    assert await store.audit(10) == []
    assert await lift(store, 1) == 0


async def test_a_version_is_the_time_of_its_change_and_always_a_new_one(store: Store) -> None:
    assert await put(store, 10) == us(10)
    assert await put(store, 10) == us(10) + 1
    assert await put(store, 5, OTHER) == us(10) + 2, "a clock that was set back"
    assert await lift(store, 11) == us(11)
    assert (await store.entries(0, now_us=us(12))).version == us(11)


async def test_whoever_knows_nothing_is_told_everything(store: Store) -> None:
    await put(store, 1, BAN, '{"a": 1}')
    await put(store, 2, OTHER, '{"ü": "€"}')
    await put(store, 3, BAN, '{"a": 2}')
    texts = Texts(us(9), us(3), True, {BAN: '{"a": 2}', OTHER: '{"ü": "€"}'})
    assert await store.entries(0, now_us=us(9)) == texts
    assert await store.entries(LONG_AGO, now_us=us(9)) == texts


async def test_whoever_knows_a_version_is_told_what_has_changed_since(store: Store) -> None:
    first, second = await put(store, 1), await put(store, 2, OTHER, "[]")
    assert await store.entries(second, now_us=us(3)) == Texts(us(3), second, False, {})
    assert await store.entries(first, now_us=us(3)) == Texts(us(3), second, False, {OTHER: "[]"})
    last = await lift(store, 4)
    assert await store.entries(second, now_us=us(5)) == Texts(us(5), last, False, {BAN: ""})
    assert await store.entries(first, now_us=us(5)) == Texts(us(5), last, False, {BAN: "", OTHER: "[]"})
    again = await put(store, 6, BAN, "[1]")
    assert await store.entries(second, now_us=us(7)) == Texts(us(7), again, False, {BAN: "[1]"})


async def test_whoever_knows_a_change_that_was_lost_is_told_everything(store: Store) -> None:
    """A fail-over may lose what was done last; the new primary goes on as if it had never been."""
    version = await put(store, 1)
    assert await store.entries(version + 1, now_us=us(2)) == Texts(us(2), version, True, {BAN: "{}"})
    await put(store, 3, OTHER)
    assert (await store.entries(version + 1, now_us=us(4))).whole


async def test_an_entry_leaves_when_its_time_is_over_and_not_before(store: Store) -> None:
    version = await put(store, 1, BAN, '{"a": "b"}', ends=10)
    await put(store, 1, OTHER)
    assert BAN in (await store.entries(0, now_us=us(10) - 1)).texts
    left = await store.entries(version, now_us=us(10))
    assert left.texts == {BAN: "", OTHER: "{}"}
    assert await lift(store, 11) == 0
    (at_us, line), *_ = await store.audit(3)
    assert at_us == us(10)
    assert json.loads(line) == {"what": "expired", "id": BAN, "entry": '{"a": "b"}'}


async def test_a_new_entry_replaces_the_old_one_and_its_end(store: Store) -> None:
    await put(store, 1, ends=10)
    await put(store, 2)
    await put(store, 3, OTHER, ends=5)
    await put(store, 4, OTHER, ends=20)
    assert (await store.entries(0, now_us=us(11))).texts.keys() == {BAN, OTHER}
    await lift(store, 12, OTHER)
    await put(store, 13, OTHER)
    assert (await store.entries(0, now_us=us(99))).texts.keys() == {BAN, OTHER}


async def test_the_audit_shows_the_latest_first(store: Store) -> None:
    await put(store, 1)
    await lift(store, 2)
    await put(store, 3, OTHER)
    lines = [(us(3), f"put {OTHER}"), (us(2), f"lift {BAN}"), (us(1), f"put {BAN}")]
    assert await store.audit(10) == lines
    assert await store.audit(2) == lines[:2]


async def test_there_is_room_for_so_many_and_for_changes_of_these(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (contracts, memory_register, redis_register):
        monkeypatch.setattr(module, "MAX_REGISTERED", 2)
    await put(store, 1)
    await put(store, 2, OTHER, ends=5)
    with pytest.raises(StoreMisuse, match="the register has 2 entries already: lift some"):
        await put(store, 3, "ban|user:x")
    await put(store, 4)
    assert await put(store, 6, "ban|user:x"), "one has left"


async def test_a_large_register_is_told_whole_and_what_has_changed_in_it_too(store: Store) -> None:
    """More than fits into one portion of a server's answer, both ways."""
    versions = [await put(store, number, f"ban|user:u{number}") for number in range(1_203)]
    everything = await store.entries(0, now_us=us(2_000))
    assert (len(everything.texts), everything.whole, everything.version) == (1_203, True, versions[-1])
    changed = await store.entries(versions[0], now_us=us(2_000))
    assert (len(changed.texts), changed.whole, changed.version) == (1_202, False, versions[-1])


async def test_a_remark_is_heard_by_whoever_knows_the_register_and_by_nobody_else(store: Store) -> None:
    version = await put(store, 1)
    after = await store.remark("reload", "somebody said so", now_us=us(2))
    assert after == us(2)
    assert await store.entries(version, now_us=us(3)) == Texts(us(3), after, False, {"reload": ""})
    assert await store.entries(after, now_us=us(3)) == Texts(us(3), after, False, {})
    assert await store.entries(0, now_us=us(3)) == Texts(us(3), after, True, {BAN: "{}"})
    again = await store.remark("reload", "and again", now_us=us(2))
    assert again == after + 1
    assert (await store.entries(after, now_us=us(3))).texts == {"reload": ""}
    assert await store.audit(10) == [(us(2), "and again"), (us(2), "somebody said so"), (us(1), f"put {BAN}")]


async def test_a_remark_in_an_empty_register_leaves_it_empty(store: Store) -> None:
    version = await store.remark("reload", "somebody said so", now_us=us(1))
    assert await store.entries(0, now_us=us(2)) == Texts(us(2), version, True, {})
    assert await lift(store, 3, "reload") == 0, "it is no entry"


async def test_remarks_among_many_changes_break_no_portion(store: Store) -> None:
    first = await put(store, 0)
    for number in range(1, 1_101):
        await (
            put(store, number, f"ban|user:u{number}") if number % 2 else store.remark("reload", "", now_us=us(number))
        )
    changed = await store.entries(first, now_us=us(2_000))
    assert (len(changed.texts), changed.whole, changed.version) == (551, False, us(1_100))
    assert changed.texts["reload"] == ""
    everything = await store.entries(0, now_us=us(2_000))
    assert (len(everything.texts), "reload" in everything.texts) == (551, False)


async def test_changes_are_told_to_all_who_listen(open_store: OpenStore, store: Store) -> None:
    other = await open_store()
    try:
        async with aclosing(store.changes()) as here, aclosing(other.changes()) as there:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.gather(anext(here), anext(there))  # they listen now
                for change in (
                    put(store, 1),
                    put(store, 2, OTHER, ends=3),
                    lift(store, 2),
                    store.entries(0),
                    store.remark("reload", ""),
                ):
                    await change
                    await anext(here)
                    if not isinstance(store, memory_register.MemoryRegister):
                        await anext(there)
    finally:
        await other.close()


async def test_whoever_listens_can_be_cancelled_at_any_time(store: Store) -> None:
    async def listen() -> None:
        async with aclosing(store.changes()) as changes:
            async for _ in changes:
                pass

    for turns in (0, 1, 3, 30):
        listener = asyncio.create_task(listen())
        for _ in range(turns):
            await asyncio.sleep(0.001)
        listener.cancel()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert isinstance((await asyncio.gather(listener, return_exceptions=True))[0], asyncio.CancelledError)
