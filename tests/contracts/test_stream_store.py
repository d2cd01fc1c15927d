"""What every store promises about the live stream: `reputation.contracts.StreamStore`."""

import asyncio

import pytest

from reputation.contracts import STREAM_SECONDS, Store, Streamed
from reputation.desk.watching import place_of
from reputation.errors import StoreMisuse
from reputation.store import memory_notes, redis_notes
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from tests.contracts.asking import PATIENCE_SECONDS
from tests.servers import RedisServer

MOST = 1_000
DROPPED_AT_ONCE = 100
"""Lines of a node of a server's list, as it is shipped: of these it drops whole ones only."""


async def all_of(store: Store, after: str = "0") -> list[Streamed]:
    return list(await store.published(after, 10_000))


def texts(lines: list[Streamed]) -> list[str]:
    return [line.text for line in lines]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory_notes, redis_notes):
        monkeypatch.setattr(module, "MAX_STREAMED", MOST)


async def test_lines_come_in_their_order(store: Store) -> None:
    await store.publish(["a", "b"])
    await store.publish([])
    await store.publish(["c"])
    lines = await all_of(store)
    assert texts(lines) == ["a", "b", "c"]
    assert texts(await all_of(store, lines[0].id)) == ["b", "c"]
    assert [line.text for line in await store.published("0", 2)] == ["a", "b"]
    assert await store.published(lines[-1].id, 10) == []


async def test_ids_grow_whoever_publishes(store: Store) -> None:
    await asyncio.gather(*(store.publish([f"{number}-{part}" for part in range(5)]) for number in range(40)))
    places = [place_of(line.id) for line in await all_of(store)]
    assert len(places) == 200
    assert places == sorted(set(places))


async def test_the_latest_come_first_when_asked_for(store: Store) -> None:
    assert await store.last_published(5) == []
    await store.publish(["a", "b", "c"])
    latest = await store.last_published(2)
    assert [line.text for line in latest] == ["c", "b"]
    assert [line.text for line in await store.last_published(5, before=latest[-1].id)] == ["a"]
    assert await store.last_published(0) == await store.published("0", 0) == []


async def test_a_line_that_is_taken_out_is_gone(store: Store) -> None:
    await store.publish(["a", "b", "c"])
    _, b, c = await all_of(store)
    assert await store.unpublish([b.id, "1-1"]) == 1
    assert await store.unpublish([b.id]) == await store.unpublish([]) == 0
    assert texts(await all_of(store)) == ["a", "c"]
    assert await all_of(store, b.id) == [c], "it stands where it stood"
    assert [line.text for line in await store.last_published(5, before=b.id)] == ["a"]


async def test_hostile_text_comes_back_as_it_was(store: Store) -> None:
    hostile = ["\x00", "\u202e<script>", "x" * 100_000, "\N{PILE OF POO}", "", "*3\r\n$3\r\n"]
    await store.publish(hostile)
    assert texts(await all_of(store)) == hostile


@pytest.mark.usefixtures("few")
async def test_only_the_latest_are_remembered(store: Store) -> None:
    for start in range(0, 5_000, 500):
        await store.publish([str(number) for number in range(start, start + 500)])
        if not start:
            first = (await all_of(store))[0]
    lines = await all_of(store)
    assert MOST <= len(lines) <= MOST + DROPPED_AT_ONCE
    assert texts(lines) == [str(number) for number in range(5_000 - len(lines), 5_000)]
    assert await all_of(store, first.id) == lines, "whoever has missed some goes on with the oldest"


@pytest.mark.parametrize("nonsense", ["x", "1-x", "-1", "0; FLUSHALL", "-", "+", "\u0665"])
async def test_what_is_no_place_in_the_stream_is_misuse(store: Store, nonsense: str) -> None:
    await store.publish(["a"])
    with pytest.raises(StoreMisuse):
        await store.published(nonsense, 1)
    with pytest.raises(StoreMisuse):
        await store.last_published(1, before=nonsense)
    with pytest.raises(StoreMisuse):
        await store.unpublish([nonsense])


async def test_memory_forgets_a_stream_that_has_long_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    await store.publish(["a"])
    at = place_of((await all_of(store))[0].id)[0]
    monkeypatch.setattr(memory_notes, "_now_ms", lambda: at + STREAM_SECONDS * 1_000)
    assert texts(await all_of(store)) == ["a"]
    monkeypatch.setattr(memory_notes, "_now_ms", lambda: at + STREAM_SECONDS * 1_000 + 1)
    assert await all_of(store) == await store.last_published(5) == []


@pytest.mark.parametrize("name", ["redis_7", "valkey"])
async def test_a_server_forgets_a_stream_that_has_long_ended(
    request: pytest.FixtureRequest, name: str, prefix: str
) -> None:
    server: RedisServer = request.getfixturevalue(name)
    store = RedisStore(server.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
    await store.publish(["a"])
    left: int = server.command("TTL", f"{prefix}:{{stream}}:verdicts")
    assert STREAM_SECONDS - 60 < left <= STREAM_SECONDS
    await store.close()
