"""What a store on a server promises besides: expiry, one clock for all, and what happens when the server fails."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import IO

import pytest
import redis
import uvloop

from reputation.charges import Answer, receipt_of
from reputation.errors import ConfigError, StoreMisuse, StoreUnavailable
from reputation.keys import Entity, Key, Metric
from reputation.score import EvidenceKind
from reputation.store.embedded import EmbeddedServer, open_embedded, socket_path
from reputation.store.redis_store import RedisStore
from tests.builders import ALICE, SEEN, charge, evidence, meter, tracked, us
from tests.contracts.asking import PATIENCE_SECONDS
from tests.servers import START_SECONDS, RedisServer, redis_server, valkey_server

ONE = charge(meter("r", "1000/1h"))
SHORT_DEADLINE_SECONDS = 0.3


def store_on(server: RedisServer, prefix: str) -> RedisStore:
    return RedisStore(server.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)


@pytest.fixture(params=["redis_7", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """A server that all tests share."""
    shared: RedisServer = request.getfixturevalue(request.param)
    return shared


@pytest.fixture
async def store(server: RedisServer, prefix: str) -> AsyncIterator[RedisStore]:
    opened = store_on(server, prefix)
    yield opened
    await opened.close()


@pytest.fixture(params=[redis_server, valkey_server], ids=["redis", "valkey"])
def start(request: pytest.FixtureRequest) -> Callable[[], AbstractContextManager[RedisServer]]:
    """How to start a server of one's own, to be killed."""
    starter: Callable[[], AbstractContextManager[RedisServer]] = request.param
    return starter


# --- expiry


async def test_pitfall_09_a_count_never_stands_without_its_expiry(
    store: RedisStore, server: RedisServer, prefix: str
) -> None:
    asked = charge(tracked(60, 3_600), meter("r", "9/1m"))
    await store.decide([asked])
    answer = await store.decide([asked])
    key = ALICE.spelled(prefix)
    longest_ms = 3_600 * 1_100
    assert longest_ms - 60_000 < server.command("PTTL", key) <= longest_ms
    server.command("PEXPIRE", key, 120_000)
    await store.refund(receipt_of(answer))
    assert 60_000 < server.command("PTTL", key) <= 120_000, "a refund leaves the expiry as it is"
    await store.decide([asked])
    assert longest_ms - 60_000 < server.command("PTTL", key) <= longest_ms


async def test_what_is_given_back_whole_leaves_nothing(store: RedisStore, server: RedisServer, prefix: str) -> None:
    """Whoever begins messages and gives them up would else fill the store, free of charge."""
    asked = charge(tracked(60, 3_600), meter("r", "9/1m"))
    await store.refund(receipt_of(await store.decide([asked])))
    assert server.command("EXISTS", ALICE.spelled(prefix)) == 0


async def test_a_key_lives_as_long_as_the_longest_window_anybody_counts(
    store: RedisStore, server: RedisServer, prefix: str
) -> None:
    await store.decide([charge(meter("other", "9/24h"))])
    await store.decide([charge(meter("r", "9/1m"))])
    assert server.command("PTTL", ALICE.spelled(prefix)) > 86_400_000


@pytest.mark.parametrize(("outcomes", "days"), [(1, 30), (4, 90), (1_000, 180)])
async def test_evidence_lives_until_half_an_outcome_is_left_and_never_longer_than_half_a_year(
    store: RedisStore, server: RedisServer, prefix: str, outcomes: int, days: int
) -> None:
    await store.decide([evidence(EvidenceKind.SPAM, outcomes)])
    lives_seconds = server.command("PTTL", SEEN.spelled(prefix)) / 1_000
    assert days * 86_400 - 60 < lives_seconds <= days * 86_400


async def test_what_is_only_read_or_refused_leaves_no_key(store: RedisStore, server: RedisServer, prefix: str) -> None:
    await store.decide([charge(meter("r", "1/1m"), cost=2)])
    await store.series(ALICE.entity)
    assert server.command("EXISTS", ALICE.spelled(prefix)) == 0


async def test_the_ring_of_a_rule_that_is_gone_takes_no_space_for_ever(
    store: RedisStore, server: RedisServer, prefix: str
) -> None:
    await store.decide([charge(meter("gone", "5/1m"), tracked(3_600))], now_us=us(0))
    await store.decide([charge(meter("added", "5/1m"), tracked(3_600))], now_us=us(66 - 0.000_001))
    assert b"gone" in server.command("GET", ALICE.spelled(prefix))
    await store.decide([charge(meter("late", "5/1m"), tracked(3_600))], now_us=us(66))
    assert b"gone" not in server.command("GET", ALICE.spelled(prefix))


async def test_an_entity_with_three_windows_takes_less_than_400_bytes(
    store: RedisStore, server: RedisServer, prefix: str
) -> None:
    await store.decide([charge(tracked(300, 3_600, 86_400))])
    assert server.command("MEMORY", "USAGE", ALICE.spelled(prefix)) < 400


# --- one clock, one truth


async def test_pitfall_05_clients_with_skewed_clocks_decide_alike(
    store: RedisStore, server: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def server_us() -> int:
        seconds, microseconds = server.command("TIME")
        return int(seconds) * 1_000_000 + int(microseconds)

    one = charge(meter("r", "1/10s"))
    before = server_us()
    first = await store.decide([one])
    monkeypatch.setattr("time.time", lambda: before / 1e6 + 30)
    monkeypatch.setattr("time.time_ns", lambda: before * 1_000 + 30 * 10**9)
    ahead = store_on(server, prefix)
    second = await ahead.decide([one])
    await ahead.close()
    assert before <= first.at_us <= second.at_us <= server_us()
    assert (first.allowed, second.allowed) == (True, False)


async def test_pitfall_10_two_processes_lose_no_count(store: RedisStore, server: RedisServer, prefix: str) -> None:
    other = store_on(server, prefix)
    await asyncio.gather(*(each.decide([ONE]) for _ in range(100) for each in (store, other)))
    [series] = await other.series(ALICE.entity)
    await other.close()
    assert series.count == 200


async def test_sites_with_different_prefixes_do_not_meet(store: RedisStore, server: RedisServer, prefix: str) -> None:
    other = store_on(server, f"{prefix}x")
    await store.decide([ONE])
    assert await other.series(ALICE.entity) == []
    await other.close()


async def test_pitfall_11_a_cancelled_call_gives_its_reply_to_nobody_else(store: RedisStore) -> None:
    """Each caller charges a cost of its own to a key of its own, so that a reply of another shows."""

    async def count(number: int) -> int:
        key = Key(Entity("user", f"user-{number}"), Metric.MESSAGES)
        answer = await store.decide([charge(tracked(3_600), key=key, cost=number)])
        return answer.readings[0][0][0].count

    for turn in range(10):
        tasks = {number: asyncio.create_task(count(number)) for number in range(1 + 100 * turn, 101 + 100 * turn)}
        for yields, task in enumerate(list(tasks.values())[::2]):
            if yields % 5 == 0:
                await asyncio.sleep(0)  # lets some be sent, some be answered, some not even begin
            task.cancel()
        results = await asyncio.gather(*tasks.values(), return_exceptions=True)
        answered = {n: r for n, r in zip(tasks, results, strict=True) if not isinstance(r, asyncio.CancelledError)}
        assert answered == {number: number for number in answered}
        assert len(answered) >= 50


# --- functions


async def test_functions_that_are_gone_are_loaded_again(
    start: Callable[[], AbstractContextManager[RedisServer]], prefix: str
) -> None:
    with start() as server:
        store = store_on(server, prefix)
        first = await store.decide([ONE])
        server.command("FUNCTION", "FLUSH")
        again = await store.decide([ONE])
        server.command("FUNCTION", "FLUSH")
        [series] = await store.series(ALICE.entity)
        server.command("FUNCTION", "FLUSH")
        await store.refund(receipt_of(again))
        await store.close()
    assert [first.readings[0][0][0].count, again.readings[0][0][0].count, series.count] == [1, 2, 2]


async def test_many_that_find_the_functions_gone_at_once_all_get_their_answer(
    start: Callable[[], AbstractContextManager[RedisServer]], prefix: str
) -> None:
    with start() as server:
        store = store_on(server, prefix)
        answers = await asyncio.gather(*(store.decide([ONE]) for _ in range(20)))
        await store.close()
    assert sorted(answer.readings[0][0][0].count for answer in answers) == list(range(1, 21))


async def test_more_plans_and_layouts_than_the_server_caches_are_still_counted_right(store: RedisStore) -> None:
    """The parsed plans are thrown away at 4,096; this passes that mark, and comes back to the first."""
    first = charge(meter("rule-0", "5/1m"))
    await store.decide([first], now_us=us(0))
    for number in range(1, 1_500):
        key = Key(Entity("user", str(number)), Metric.MESSAGES)
        await store.decide([charge(meter(f"rule-{number}", "5/1m"), key=key)], now_us=us(1))
    answer = await store.decide([first], now_us=us(2))
    assert answer.readings[0][0][0].count == 2


# --- refused


async def test_wrong_credentials_are_misuse(server: RedisServer) -> None:
    store = RedisStore(server.url.replace("redis://", "redis://nobody:wrong@"))
    with pytest.raises(StoreMisuse, match="invalid username-password"):
        await store.ping()
    with pytest.raises(StoreMisuse, match="invalid username-password"):
        await store.decide([ONE])
    await store.close()


async def test_missing_credentials_are_misuse() -> None:
    with valkey_server("--requirepass", "s3cret") as server:
        store = RedisStore(server.url)
        with pytest.raises(StoreMisuse, match=r"(?i)auth"):
            await store.decide([ONE])
        await store.close()


async def test_missing_permission_is_misuse(server: RedisServer, prefix: str) -> None:
    server.command("ACL", "SETUSER", prefix, "on", ">pw", "~*", "+info")
    store = RedisStore(server.url.replace("redis://", f"redis://{prefix}:pw@"), prefix=prefix)
    with pytest.raises(StoreMisuse, match=r"(?i)permission"):
        await store.decide([ONE])
    await store.close()


@pytest.mark.parametrize("garbage", [("RPUSH", "item"), ("SET", "no messagepack"), ("SET", "\x01")])
async def test_a_value_that_is_none_of_ours_is_misuse_and_stays_as_it_is(
    store: RedisStore, server: RedisServer, prefix: str, garbage: tuple[str, str]
) -> None:
    command, value = garbage
    server.command(command, ALICE.spelled(prefix), value)
    before = server.command("DUMP", ALICE.spelled(prefix))
    beside = charge(tracked(60), key=Key(ALICE.entity, Metric.BYTES))
    with pytest.raises(StoreMisuse):
        await store.decide([beside, ONE])
    assert server.command("DUMP", ALICE.spelled(prefix)) == before
    assert server.command("EXISTS", beside.key.spelled(prefix)) == 0, "all or nothing"


async def test_a_full_server_is_misuse_and_charges_nothing(
    start: Callable[[], AbstractContextManager[RedisServer]], prefix: str
) -> None:
    with start() as server:
        store = store_on(server, prefix)
        await store.decide([ONE])
        server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(StoreMisuse, match=r"(?i)memory"):
            await store.decide([ONE])
        server.command("CONFIG", "SET", "maxmemory", "0")
        assert (await store.decide([ONE])).readings[0][0][0].count == 2
        await store.close()


# --- away


async def first_answer(store: RedisStore) -> Answer:
    """What the first decision is told that gets an answer again."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                return await store.decide([ONE])
            except StoreUnavailable:
                await asyncio.sleep(0.005)


async def test_nobody_listening_is_unavailable() -> None:
    store = RedisStore("redis://127.0.0.1:1", deadline_seconds=SHORT_DEADLINE_SECONDS)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    with pytest.raises(StoreUnavailable):
        await store.series(ALICE.entity)
    await store.close()


async def test_pitfall_12_what_was_asked_while_the_store_was_away_is_never_carried_out_late(
    start: Callable[[], AbstractContextManager[RedisServer]], prefix: str
) -> None:
    with start() as server:
        store = store_on(server, prefix)
        await store.decide([ONE])
        server.kill()
        for _ in range(50):
            with pytest.raises(StoreUnavailable):
                await store.decide([ONE])
        server.start()
        first, second = await first_answer(store), await store.decide([ONE])
        await store.close()
    assert [answer.readings[0][0][0].count for answer in (first, second)] == [1, 2]


async def test_a_frozen_server_is_unavailable_within_the_timeout_and_answers_again_when_it_wakes(
    start: Callable[[], AbstractContextManager[RedisServer]], prefix: str
) -> None:
    other = Key(ALICE.entity, Metric.BYTES)
    with start() as server:
        store = RedisStore(server.url, prefix=prefix, deadline_seconds=SHORT_DEADLINE_SECONDS)
        await store.decide([ONE])
        server.pause()
        with pytest.raises(StoreUnavailable):
            await store.decide([ONE])
        server.resume()
        patient = store_on(server, prefix)
        await patient.ping()
        answer = await store.decide([charge(tracked(60), key=other, cost=7)])
        await patient.close()
        await store.close()
    assert answer.readings[0][0][0].count == 7


async def test_everything_that_waits_for_a_frozen_server_has_the_deadline(
    start: Callable[[], AbstractContextManager[RedisServer]], prefix: str
) -> None:
    with start() as server:
        store = RedisStore(server.url, prefix=prefix, deadline_seconds=SHORT_DEADLINE_SECONDS)
        receipt = receipt_of(await store.decide([ONE]))
        server.pause()
        calls = [store.decide([ONE]), store.refund(receipt), *(store.decide([ONE]) for _ in range(30))]
        began = asyncio.get_running_loop().time()
        results = await asyncio.gather(*calls, return_exceptions=True)
        took = asyncio.get_running_loop().time() - began
        server.resume()
        await store.close()
    assert {type(result) for result in results} == {StoreUnavailable}
    assert took < 2 * SHORT_DEADLINE_SECONDS


async def test_a_crowd_that_comes_at_once_is_no_store_that_is_away(store: RedisStore) -> None:
    """Hundreds of decisions in one turn of the loop, and no limit is passed for that."""
    limited = charge(meter("r", "30/1m"))
    answers = await asyncio.gather(*(store.decide([limited]) for _ in range(2_000)))
    assert sum(answer.allowed for answer in answers) == 30


async def test_a_server_that_is_too_old_is_refused() -> None:
    async with _redis_6() as port:
        store = RedisStore(f"redis://127.0.0.1:{port}")
        for call in (store.ping, lambda: store.decide([ONE])):
            with pytest.raises(StoreMisuse, match=r"the server is too old, .*: use Redis 7\.0 or Valkey 8, or later"):
                await call()
        await store.close()


@asynccontextmanager
async def _redis_6() -> AsyncIterator[int]:
    """What a Redis 6.2 says to a client that connects; nobody packages one any more that could be started here."""
    info = b"# Server\r\nredis_version:6.2.14\r\n"
    replies = {
        b"HELLO": b"%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n",
        b"INFO": b"$%d\r\n%b\r\n" % (len(info), info),
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while header := await reader.readline():
            words = []
            for _ in range(int(header[1:])):
                length = int((await reader.readline())[1:])
                words.append((await reader.readexactly(length + 2))[:-2])
            unknown = b"-ERR unknown command `%b`, with args beginning with: \r\n" % words[0]
            writer.write(replies.get(words[0].upper(), unknown))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


# --- embedded


async def test_an_embedded_server_that_dies_is_started_again_with_its_counts(tmp_path: Path) -> None:
    store = await open_embedded(tmp_path)
    assert (await store.ping()).startswith("Valkey ")
    await store.decide([ONE])
    with redis.Redis(unix_socket_path=str(socket_path(tmp_path))) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                [series] = await store.series(ALICE.entity)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.02)
    await store.close()
    assert series.count == 1


async def test_an_embedded_store_keeps_its_counts_over_a_restart(tmp_path: Path) -> None:
    for count in (1, 2):
        store = await open_embedded(tmp_path)
        answer = await store.decide([ONE])
        await store.close()
        assert answer.readings[0][0][0].count == count


async def test_an_embedded_server_is_shared_and_inherited(tmp_path: Path) -> None:
    first = await open_embedded(tmp_path)
    second = await open_embedded(tmp_path)
    await first.decide([ONE])
    assert (await second.decide([ONE])).readings[0][0][0].count == 2
    await first.close()
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                answer = await second.decide([ONE])
                break
            except StoreUnavailable:
                await asyncio.sleep(0.02)
    await second.close()
    assert answer.readings[0][0][0].count == 3


async def test_an_embedded_directory_that_cannot_be_made_is_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"\[store\] url: .*file/valkey cannot be made: Not a directory"):
        await open_embedded(tmp_path / "file" / "valkey")


async def test_an_embedded_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / "valkey"
    directory.mkdir()
    directory.chmod(0o777)
    with pytest.raises(ConfigError, match=r"others may write to .*: chmod go-w"):
        await open_embedded(directory)


async def test_an_embedded_server_that_cannot_be_started_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    troubles = [OSError(24, "Too many open files")]
    start = EmbeddedServer._run

    async def run(server: EmbeddedServer, lock: IO[str]) -> int:
        if troubles:
            raise troubles.pop()
        return await start(server, lock)

    monkeypatch.setattr(EmbeddedServer, "_run", run)
    store = await open_embedded(tmp_path)
    await store.close()
    assert "cannot be started: [Errno 24] Too many open files" in caplog.text


async def test_what_the_embedded_server_writes_is_for_its_user_alone(tmp_path: Path) -> None:
    store = await open_embedded(tmp_path / "valkey")
    await store.decide([ONE])
    files = [path for path in (tmp_path / "valkey").rglob("*") if path.name not in {"valkey.log", "valkey.lock"}]
    assert any(path.suffix == ".aof" for path in files)
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    await store.close()


def test_the_embedded_server_runs_under_the_loop_of_the_api_too(tmp_path: Path) -> None:
    """uvloop starts processes by code of its own, which knows fewer options."""

    async def asked() -> tuple[str, list[int]]:
        store = await open_embedded(tmp_path)
        try:
            await store.decide([ONE])
            files = (tmp_path / "appendonlydir").iterdir()
            return await store.ping(), [file.stat().st_mode & 0o077 for file in files]
        finally:
            await store.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        name, for_others = runner.run(asked())
    assert name.startswith("Valkey")
    assert set(for_others) == {0}, "nobody else may read them"
