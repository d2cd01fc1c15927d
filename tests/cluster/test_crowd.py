"""Crowds on one process: nobody passes unlimited because we were busy, and nobody waits because a store is slow."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
import redis

from reputation.engine import Engine
from reputation.errors import StoreError, StoreUnavailable
from reputation.keys import Dimension
from reputation.policy import Policy
from reputation.rules import OnStoreFailure
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action, Reason, Verdict
from tests.builders import mail, rule
from tests.cluster.conftest import AnyServers, OpenStore
from tests.cluster.crowd import ALLOWANCE_SECONDS, PATIENCE_SECONDS, count_of, eventually, heard, one_of, user
from tests.servers import RedisServer, redis_server, valkey_server

LIMIT = 30


@pytest.fixture
def own_server(kind: str) -> Iterator[RedisServer]:
    options = ("--enable-debug-command", "yes", "--busy-reply-threshold", "50")
    with redis_server(*options) if kind == "redis" else valkey_server(*options) as server:
        yield server


def engine_on(store: RedisStore, failing: OnStoreFailure = OnStoreFailure.ACCEPT) -> Engine:
    """30 messages an hour and sender; and his domain, which has room enough, so that there are two keys."""
    rules = (
        rule("strict", limits=(f"{LIMIT}/1h",), on_store_failure=failing),
        rule("roomy", limits=("1000000/1h",), key=(Dimension.SENDER_DOMAIN,), on_store_failure=failing),
    )
    return Engine(policy=Policy(rules=rules, tracked=frozenset()), store=store)


async def judged_at_once(engine: Engine, number: int) -> list[Verdict]:
    return await asyncio.gather(*(engine.judge(mail()) for _ in range(number)))


def actions(verdicts: list[Verdict]) -> Counter[Action]:
    return Counter(verdict.action for verdict in verdicts)


@pytest.mark.parametrize(("number", "deadline_seconds"), [(1_000, 0.1), (5_000, 0.25)])
async def test_of_a_crowd_exactly_the_limit_passes(
    servers: AnyServers, open_store: OpenStore, number: int, deadline_seconds: float
) -> None:
    """They wait for their turns, some of them longer than a decision may take: that is not the store's fault."""
    store = open_store(servers.url, deadline_seconds=deadline_seconds)
    await store.ping()
    verdicts = await judged_at_once(engine_on(store), number)
    assert {verdict.reason for verdict in verdicts} <= {Reason.WITHIN_LIMITS, Reason.OVER_LIMIT}
    assert actions(verdicts) == {Action.ACCEPT: LIMIT, Action.TEMPFAIL: number - LIMIT}


async def test_a_process_that_was_busy_with_something_else_does_not_blame_the_store(
    servers: AnyServers, open_store: OpenStore
) -> None:
    """For longer than a decision may take, between asking and writing."""
    store = open_store(servers.url, deadline_seconds=0.1)
    await store.ping()
    engine = engine_on(store)
    judging = [asyncio.create_task(engine.judge(mail())) for _ in range(LIMIT + 20)]
    asyncio.get_running_loop().call_soon(time.sleep, 0.3)
    verdicts = await asyncio.gather(*judging)
    assert actions(verdicts) == {Action.ACCEPT: LIMIT, Action.TEMPFAIL: 20}


async def test_a_store_that_is_slow_for_a_moment_is_waited_for_within_the_deadline(
    own_server: RedisServer, open_store: OpenStore
) -> None:
    store = open_store(own_server.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    sleeping = threading.Thread(target=own_server.command, args=("DEBUG", "SLEEP", "0.3"))
    sleeping.start()
    verdicts = await judged_at_once(engine_on(store), 1_000)
    sleeping.join()
    assert actions(verdicts) == {Action.ACCEPT: LIMIT, Action.TEMPFAIL: 1_000 - LIMIT}


@pytest.mark.parametrize("failing", [OnStoreFailure.ACCEPT, OnStoreFailure.TEMPFAIL])
async def test_pitfall_19_of_a_crowd_before_a_store_that_hangs_nobody_waits_longer_than_one(
    own_server: RedisServer, open_store: OpenStore, failing: OnStoreFailure
) -> None:
    store = open_store(own_server.url, deadline_seconds=0.1)
    await store.ping()
    engine = engine_on(store, failing)
    own_server.pause()
    started = time.monotonic()
    verdicts = await judged_at_once(engine, 1_000)
    took = time.monotonic() - started
    own_server.resume()
    assert actions(verdicts) == {Action(failing): 1_000}
    assert {verdict.reason for verdict in verdicts} == {Reason.STORE_UNAVAILABLE}
    assert took < 0.1 + 2 * ALLOWANCE_SECONDS, "one deadline for all, and the work for a thousand"


async def test_a_server_that_is_busy_with_a_script_is_unavailable_until_it_has_done(
    own_server: RedisServer, open_store: OpenStore
) -> None:
    def block() -> None:
        with suppress(redis.ResponseError):
            own_server.command("EVAL", "while true do end", 0)

    store = open_store(own_server.url, deadline_seconds=1.0)
    await store.ping()
    script = threading.Thread(target=block)
    script.start()
    said: set[str] = set()
    while "BUSY" not in said:
        answer = (await heard(store.decide([one_of(user(1))]))).answer
        assert not isinstance(answer, StoreError) or isinstance(answer, StoreUnavailable)
        said.add("BUSY" if "BUSY" in str(answer) else "")
    own_server.command("SCRIPT", "KILL")
    script.join()
    before = await eventually(lambda: count_of(store, user(1)))
    assert (await store.decide([one_of(user(1))])).readings[0][0][0].count == before + 1
