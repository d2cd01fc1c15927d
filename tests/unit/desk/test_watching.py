"""What a process remembers of the live stream: bounded, indexed, read again when something was erased."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing

import pytest

from reputation.contracts import Streamed
from reputation.desk.documents import VerdictLine
from reputation.desk.watching import Watch, following, lines_before, place_of
from reputation.errors import ConfigError, StoreUnavailable
from reputation.store.memory import MemoryStore


class TroubledStore(MemoryStore):
    """Fails while `trouble` is set."""

    trouble: Exception | None = None
    asked = 0

    async def published(self, after: str, n: int) -> Sequence[Streamed]:
        self.asked += 1
        if self.trouble is not None:
            raise self.trouble
        return await super().published(after, n)


def text(number: int, *entities: str) -> str:
    line = {"at": float(number), "node": "a", "stage": "mail", "action": "accept", "reason": "no-rule"}
    return json.dumps({**line, "rule": f"r{number}", "entities": entities or (f"sender:{number}",)})


async def publish(store: MemoryStore, numbers: Iterable[int], *entities: str) -> None:
    await store.publish([text(number, *entities) for number in numbers])


@pytest.fixture
def store() -> TroubledStore:
    return TroubledStore()


@pytest.fixture
async def watch(store: TroubledStore) -> AsyncIterator[Watch]:
    """One that remembers ten lines, over a stream that has five."""
    await publish(store, range(5), "sender:alice")
    watch = Watch(store, 10)
    task = asyncio.create_task(watch.run())
    await until(lambda: watch.is_reading)
    yield watch
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def rules(lines: Iterable[VerdictLine]) -> list[str]:
    return [line.rule for line in lines]


async def test_it_begins_with_what_was_there(watch: Watch) -> None:
    assert rules(watch.latest()) == ["r4", "r3", "r2", "r1", "r0"]
    assert rules(watch.lines_of("sender:alice", 2)) == ["r4", "r3"]
    assert watch.lines_of("sender:bob", 2) == ()
    assert watch.since == 0.0


async def test_the_oldest_make_room(store: TroubledStore, watch: Watch) -> None:
    await publish(store, range(5, 12), "sender:bob")
    await until(lambda: next(watch.latest()).rule == "r11")
    assert len(watch) == 10
    assert rules(watch.lines_of("sender:alice", 10)) == ["r4", "r3", "r2"]
    assert watch.since == 2.0
    await publish(store, range(12, 30))
    await until(lambda: next(watch.latest()).rule == "r29")
    assert watch.lines_of("sender:alice", 10) == watch.lines_of("sender:bob", 10) == ()


async def test_what_cannot_be_read_is_passed_over(store: TroubledStore, watch: Watch) -> None:
    await store.publish(["nonsense"])
    await publish(store, [7])
    await until(lambda: next(watch.latest()).rule == "r7")
    assert len(watch) == 6


async def test_what_was_erased_is_not_remembered(store: TroubledStore, watch: Watch) -> None:
    erased = [line.id for line in watch.lines_of("sender:alice", 2)]
    await store.unpublish(erased)
    watch.begin_anew()
    assert watch.lines_of("sender:alice", 10) == ()
    await until(lambda: len(watch) > 0)
    assert rules(watch.lines_of("sender:alice", 10)) == ["r2", "r1", "r0"]


async def test_who_follows_gets_what_comes(store: TroubledStore, watch: Watch) -> None:
    async with aclosing(watch.follow()) as lines:
        first = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        await publish(store, [5])
        line = await asyncio.wait_for(first, 5)
        assert line is not None
        assert line.rule == "r5"


async def test_who_comes_back_gets_what_he_missed(watch: Watch) -> None:
    last_seen = watch.lines_of("sender:alice", 3)[-1].id
    async with aclosing(watch.follow(last_seen)) as lines:
        assert [line.rule for line in [await anext(lines), await anext(lines)] if line is not None] == ["r3", "r4"]
        assert await asyncio.wait_for(anext(lines), 1) is None  # at once: nobody waits for more than there is


async def test_nobody_misses_a_line_because_another_one_was_erased(store: TroubledStore, watch: Watch) -> None:
    async with aclosing(watch.follow()) as lines:
        first = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        for number in range(100, 140):
            await publish(store, [number])
            if number % 10 == 0:
                watch.begin_anew()
            await asyncio.sleep(0)
        seen = [await asyncio.wait_for(first, 5)]
        seen += [await asyncio.wait_for(anext(lines), 5) for _ in range(39)]
    assert [line.rule for line in seen if line] == [f"r{number}" for number in range(100, 140)]


async def test_who_comes_before_the_first_reading_is_over_waits_for_it(store: TroubledStore) -> None:
    await publish(store, range(3))
    early = Watch(store, 10)
    async with aclosing(early.follow("0")) as lines:
        first = asyncio.ensure_future(anext(lines))
        await asyncio.sleep(0)
        task = asyncio.create_task(early.run())
        line = await asyncio.wait_for(first, 5)
        assert line is not None
        assert line.rule == "r0"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_stream_that_begins_before_where_we_are_is_another_one(
    store: TroubledStore, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reputation.desk.watching.POLL_SECONDS", 0.001)
    monkeypatch.setattr("reputation.store.memory_notes._now_ms", lambda: 1_000)
    store.__init__()  # type: ignore[misc]  # it has lost its data
    await publish(store, [7])
    await until(lambda: [line.rule for line in watch.latest()] == ["r7"])


async def test_who_follows_is_told_of_trouble(
    store: TroubledStore, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reputation.desk.watching.HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr("reputation.desk.watching.PAUSE_SECONDS", 0.01)
    async with aclosing(watch.follow()) as lines:
        assert await anext(lines) is None, "nothing has come, and that is all"
        store.trouble = StoreUnavailable("away")
        await until(lambda: not watch.is_reading)
        with pytest.raises(StoreUnavailable):
            await anext(lines)
    store.trouble = None
    await until(lambda: watch.is_reading)
    await publish(store, [9])
    await until(lambda: next(watch.latest()).rule == "r9")


async def test_a_hundred_followers_ask_the_store_no_more_often(store: TroubledStore, watch: Watch) -> None:
    streams = [watch.follow() for _ in range(100)]
    waiting = [asyncio.ensure_future(anext(lines)) for lines in streams]
    before = store.asked
    await asyncio.sleep(0)
    await publish(store, [5])
    told = await asyncio.wait_for(asyncio.gather(*waiting), 5)
    assert {line.rule for line in told if line is not None} == {"r5"}
    assert store.asked - before <= 5
    for lines in streams:
        await lines.aclose()


async def test_without_a_watch_the_store_is_asked(store: TroubledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.desk.watching.POLL_SECONDS", 0.005)
    await publish(store, range(3))
    async with aclosing(following(store)) as lines:
        assert await anext(lines) is None, "from now on"
        await publish(store, [3])
        line = await anext(lines)
        assert line is not None
        assert line.rule == "r3"
    async with aclosing(following(store, "0")) as lines:
        assert [line.rule for line in [await anext(lines) for _ in range(4)] if line] == ["r0", "r1", "r2", "r3"]


async def test_reading_backwards_ends(store: TroubledStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reputation.desk.watching.AT_ONCE", 2)
    await publish(store, range(5))
    assert rules([line async for line in lines_before(store, 4)]) == ["r4", "r3", "r2", "r1"]
    assert rules([line async for line in lines_before(store, 100, "sender:3")]) == ["r3"]
    await store.publish([text(9, 'helo:"quoted"')])
    assert rules([line async for line in lines_before(store, 100, 'helo:"quoted"')]) == ["r9"]


@pytest.mark.parametrize("id", ["", "x", "1-2-3", "-1", "1-x", "9" * 100, "\u0661"])
def test_what_is_no_place(id: str) -> None:
    with pytest.raises(ConfigError):
        place_of(id)
