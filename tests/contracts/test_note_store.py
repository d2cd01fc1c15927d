"""What every store promises about small notes: `reputation.contracts.NoteStore`."""

import asyncio

import pytest

from reputation.contracts import MAX_KEPT_TEXT, Store
from reputation.errors import StoreMisuse
from reputation.store import memory_notes
from reputation.store.memory import MemoryStore
from tests.contracts.asking import PATIENCE_SECONDS
from tests.contracts.conftest import OpenStore

MINUTE = 60.0


async def test_a_note_is_kept_until_it_is_dropped(store: Store) -> None:
    assert await store.kept("n") is None
    assert await store.keep("n", "first", MINUTE) is None
    assert await store.keep("n", "second", MINUTE) == "first"
    assert await store.kept("n") == "first"
    await store.drop("n")
    await store.drop("n")
    assert await store.kept("n") is None
    assert await store.keep("n", "second", MINUTE) is None


async def test_of_many_at_once_one_keeps_it_and_all_others_are_told_what(open_store: OpenStore, store: Store) -> None:
    other = store if isinstance(store, MemoryStore) else await open_store()
    told = await asyncio.gather(*((store, other)[number % 2].keep("n", str(number), MINUTE) for number in range(50)))
    if other is not store:
        await other.close()
    assert told.count(None) == 1
    assert {text for text in told if text is not None} == {str(told.index(None))}


async def test_a_note_ends_with_its_time(store: Store) -> None:
    await store.keep("n", "text", 0.02)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await store.kept("n") is not None:
            await asyncio.sleep(0.001)
    assert await store.keep("n", "other", MINUTE) is None


async def test_a_note_that_there_is_keeps_its_time(store: Store) -> None:
    await store.keep("n", "text", 0.05)
    assert await store.keep("n", "other", MINUTE) in ("text", None)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await store.kept("n") == "text":
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("name", ["", "a b\x00{c}", "x" * 10_000, "\udcff", "*", "}{"])
async def test_any_name_will_do(store: Store, name: str) -> None:
    assert await store.keep(name, "text", MINUTE) is None
    assert await store.kept(name) == "text"
    assert await store.kept(name + "'") is None


@pytest.mark.parametrize("text", ["", "\x00\r\n", "\u202e", "\N{PILE OF POO}"])
async def test_a_text_comes_back_as_it_was(store: Store, text: str) -> None:
    assert await store.keep("n", text, MINUTE) is None
    assert await store.kept("n") == text
    assert await store.keep("n", "x", MINUTE) == text, "an empty one is one, too"


async def test_a_text_that_is_no_unicode_is_kept_all_the_same(store: Store) -> None:
    assert await store.keep("n", "\udcff", MINUTE) is None
    assert await store.kept("n") is not None


async def test_a_note_is_small(store: Store) -> None:
    await store.keep("n", "ü" * (MAX_KEPT_TEXT // 2), MINUTE)
    with pytest.raises(StoreMisuse, match="at most 65536 octets"):
        await store.keep("m", "ü" * (MAX_KEPT_TEXT // 2) + "x", MINUTE)
    assert await store.kept("m") is None


async def test_memory_has_room_for_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_notes, "MAX_NOTES", 2)
    store = MemoryStore()
    for name in "abc":
        await store.keep(name, name, MINUTE)
    assert [await store.kept(name) for name in "abc"] == [None, "b", "c"]
