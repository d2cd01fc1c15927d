"""Several processes over one store: clocks that differ, front ends that die, shares of limits while it is away."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from reputation import leases, upkeep
from reputation.clock import ManualClock
from reputation.denials import MAX_SECONDS
from reputation.engine import Engine
from reputation.policy import Policy
from reputation.rules import OnStoreFailure
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action, Reason
from reputation.windows import Window
from tests.builders import mail, rule
from tests.cluster.conftest import AnyServers, OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS, become
from tests.cluster.fleet_process import (
    LEASE_SECONDS,
    MESSAGES,
    MESSAGES_SECONDS,
    SESSIONS,
    event_of,
    fleet_engine,
)
from tests.servers import RedisServer, redis_server, valkey_server


class Process:
    """A process of the fleet."""

    def __init__(self, running: asyncio.subprocess.Process) -> None:
        self._running = running

    async def hear(self) -> Any:
        assert self._running.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            return json.loads(await self._running.stdout.readline())

    async def tell(self, *words: str) -> tuple[str, int, float]:
        assert self._running.stdin is not None
        self._running.stdin.write(" ".join(words).encode() + b"\n")
        action, count, wait = await self.hear()
        return action, count, wait

    async def kill(self) -> None:
        """As a crash does."""
        self._running.kill()
        await self._running.wait()


@asynccontextmanager
async def process(url: str, prefix: str, off_by_seconds: float = 0.0) -> AsyncIterator[Process]:
    """Such a process whose clocks are wrong by so much."""
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    command = ("-m", "tests.cluster.fleet_process", url, prefix, str(off_by_seconds))
    running = await asyncio.create_subprocess_exec(sys.executable, *command, **pipes)  # type: ignore[arg-type]  # two pipes
    started = Process(running)
    try:
        await started.hear()
        yield started
    finally:
        if running.returncode is None:
            await started.kill()
        running._transport.close()  # type: ignore[attr-defined]  # or its pipes are closed when it is collected


async def becomes(ask: Callable[[], Awaitable[bool]], seconds: float) -> float:
    """Ask until it is so; how long it took."""
    started = time.monotonic()
    async with asyncio.timeout(seconds):
        while not await ask():
            await asyncio.sleep(0.02)
    return time.monotonic() - started


# Must show: two clients whose clocks differ by a minute decide alike.


async def test_clients_whose_clocks_differ_decide_alike(either: AnyServers, prefix: str) -> None:
    async with AsyncExitStack() as stack:
        offs = (0.0, 60.0, -60.0)
        starting = (stack.enter_async_context(process(either.url, prefix, off)) for off in offs)
        fleet = await asyncio.gather(*starting)
        told = [await fleet[turn % 3].tell("mail", "alice@example.com") for turn in range(MESSAGES + 6)]
        assert [action for action, _, _ in told] == [Action.ACCEPT] * MESSAGES + [Action.TEMPFAIL] * 6
        assert [count for _, count, _ in told[:MESSAGES]] == list(range(1, MESSAGES + 1))
        waits = [wait for _, _, wait in told[MESSAGES:]]
        assert max(waits) - min(waits) < 1.0, "the same wait, less the time between the questions"
        assert all(0 < wait <= 1.1 * MESSAGES_SECONDS for wait in waits)

        async def has_room() -> bool:
            said = [(await each.tell("mail", "alice@example.com"))[0] for each in fleet]
            return said == [Action.ACCEPT] * 3

        await becomes(has_room, 2 * MESSAGES_SECONDS + PATIENCE_SECONDS)


# Must show: a killed front end's leases come back within the lease time.


async def test_pitfall_02_the_leases_of_a_killed_front_end_come_back_within_the_lease_time(
    either: AnyServers, open_store: OpenStore, prefix: str
) -> None:
    engine = fleet_engine(open_store(either.url, deadline_seconds=PATIENCE_SECONDS))

    async def admits() -> bool:
        return (await engine.judge(event_of("connect", "here"))).action is Action.ACCEPT

    async with process(either.url, prefix) as front_end:
        for session in range(SESSIONS):
            assert (await front_end.tell("connect", f"there-{session}"))[0] == Action.ACCEPT
        assert not await admits()
        await front_end.kill()
        assert not await admits()
        assert 0.2 < await becomes(admits, PATIENCE_SECONDS) < LEASE_SECONDS + 0.5


async def test_pitfall_02_what_a_killed_front_end_was_charged_ages_out_with_its_window(
    either: AnyServers, open_store: OpenStore, prefix: str
) -> None:
    """It dies between MAIL and the end of the message, and nobody is left who could give anything back."""
    engine = fleet_engine(open_store(either.url, deadline_seconds=PATIENCE_SECONDS))

    async def admits() -> bool:
        return (await engine.judge(event_of("mail", "alice@example.com"))).action is Action.ACCEPT

    async with process(either.url, prefix) as front_end:
        for _ in range(MESSAGES):
            assert (await front_end.tell("mail", "alice@example.com"))[0] == Action.ACCEPT
        await front_end.kill()
        assert not await admits()
        await becomes(admits, 2 * MESSAGES_SECONDS + PATIENCE_SECONDS)


async def test_the_leases_of_a_living_one_are_kept_until_its_session_ends(
    valkey: RedisServer, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE", Window(LEASE_SECONDS))
    monkeypatch.setattr(upkeep, "RENEW_SECONDS", LEASE_SECONDS / 4)
    store = open_store(valkey.url, deadline_seconds=PATIENCE_SECONDS)
    engine, other = fleet_engine(store), fleet_engine(store)
    for session in range(SESSIONS):
        assert (await engine.judge(event_of("connect", f"s{session}"))).action is Action.ACCEPT
    running = asyncio.create_task(engine.upkeep.run())
    started = time.monotonic()
    while time.monotonic() < started + 1.5 * LEASE_SECONDS:
        assert (await other.judge(event_of("connect", "more"))).action is Action.TEMPFAIL
        await asyncio.sleep(0.05)
    await store.refund(engine.upkeep.leases.let_go("s0"))
    assert (await other.judge(event_of("connect", "more"))).action is Action.ACCEPT
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# Shares


def sharing_engine(store: RedisStore, limit: str) -> Engine:
    counting = rule(limits=(limit,), on_store_failure=OnStoreFailure.LOCAL)
    return Engine(policy=Policy(rules=(counting,), tracked=frozenset()), store=store, fallback=MemoryStore())


async def test_while_the_store_is_away_each_process_enforces_its_share(
    kind: str, open_store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pitfall 25: the fallback multiplies no limit by the number of processes."""
    monkeypatch.setattr(upkeep, "LIFE_SECONDS", 0.5)
    with redis_server() if kind == "redis" else valkey_server() as server:
        engines = [sharing_engine(open_store(server.url), "20/1h") for _ in range(4)]
        for engine in (*engines, *engines):
            await engine.upkeep.beat()
        assert [engine.upkeep.live for engine in engines] == [4, 4, 4, 4]

        async def two_are_left() -> bool:
            for engine in engines[:2]:
                await engine.upkeep.beat()
            return {engine.upkeep.live for engine in engines[:2]} == {2}

        await becomes(two_are_left, PATIENCE_SECONDS)
        server.kill()
        verdicts = [[await engine.judge(mail()) for _ in range(15)] for engine in engines[:2]]
    for said in verdicts:
        assert [verdict.action for verdict in said] == [Action.ACCEPT] * 10 + [Action.TEMPFAIL] * 5
        assert {verdict.reason for verdict in said[10:]} == {Reason.OVER_LIMIT}


# Denials


async def test_pitfall_22_a_flood_of_refusals_costs_no_round_trips(server: AnyServers, open_store: OpenStore) -> None:
    store, clock = open_store(server.url, deadline_seconds=PATIENCE_SECONDS), ManualClock(1_000.0)
    strict = rule(limits=("3/1h",))
    engine = Engine(policy=Policy(rules=(strict,), tracked=frozenset()), store=store, clock=clock)
    said = [await engine.judge(mail()) for _ in range(4)]
    assert [verdict.action for verdict in said] == [Action.ACCEPT] * 3 + [Action.TEMPFAIL]
    asked = store.round_trips
    for _ in range(1_000):
        verdict = await engine.judge(mail())
        assert (verdict.action, verdict.reason, verdict.rule) == (Action.TEMPFAIL, Reason.OVER_LIMIT, strict.name)
    assert store.round_trips == asked
    assert (await engine.judge(mail("bob@example.com"))).action is Action.ACCEPT
    clock.advance(MAX_SECONDS)
    assert (await engine.judge(mail())).action is Action.TEMPFAIL
    assert store.round_trips == asked + 2, "bob, and alice once more"


async def test_a_refusal_is_not_remembered_beyond_the_moment_when_there_is_room(
    valkey: RedisServer, open_store: OpenStore
) -> None:
    engine = sharing_engine(open_store(valkey.url, deadline_seconds=PATIENCE_SECONDS), "2/1s")
    verdicts = [await engine.judge(mail()) for _ in range(3)]
    assert verdicts[2].action is Action.TEMPFAIL
    loop = asyncio.get_running_loop()
    room_at = loop.time() + verdicts[2].retry_after_seconds
    await become(lambda: loop.time() > room_at)
    assert (await engine.judge(mail())).action is Action.ACCEPT
