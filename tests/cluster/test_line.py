"""The hot path on real servers: cancelled callers, a server that is frozen, and one that is killed."""

import asyncio
import itertools
import random
from collections.abc import Iterator

import pytest

from reputation.errors import StoreError, StoreUnavailable
from reputation.store.address import Address, StoreUrl
from reputation.store.connection import STALL_SECONDS, Call, packed
from reputation.store.node import Node
from reputation.store.redis_store import RedisStore
from tests.cluster.conftest import AnyServers, OpenStore
from tests.cluster.crowd import (
    ALLOWANCE_SECONDS,
    PATIENCE_SECONDS,
    become,
    count_of,
    eventually,
    heard,
    one_of,
    user,
)
from tests.servers import RedisServer, redis_server, valkey_server

CANCELLED = 10_000
AT_ONCE = 2_000


@pytest.fixture
def own_server(kind: str) -> Iterator[RedisServer]:
    with redis_server() if kind == "redis" else valkey_server() as server:
        yield server


def node_of(store: RedisStore) -> Node:
    [node] = store._topology.nodes()
    return node


async def cancel_some(tasks: list["asyncio.Task[int]"], chance: random.Random) -> int:
    """Cancel half of those who wait, at different moments; how many it were."""
    cancelled = 0
    for number, task in enumerate(chance.sample(tasks, len(tasks))):
        if number % 2 and not task.done():
            cancelled += task.cancel()
        if number % 500 == 499:
            await asyncio.sleep(0)
    return cancelled


async def answered(tasks: list["asyncio.Task[int]"]) -> dict[int, int]:
    """Who was answered, and what."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    found = {n: result for n, result in enumerate(results) if not isinstance(result, asyncio.CancelledError)}
    assert not [result for result in found.values() if isinstance(result, BaseException)]
    return {number: result for number, result in found.items() if isinstance(result, int)}


# Must show: 10,000 waiting decisions cancelled under load: no caller gets another's reply.


async def test_ten_thousand_cancelled_calls_mix_no_replies_up(server: RedisServer) -> None:
    node = Node(Address("127.0.0.1", server.port), StoreUrl.parse(server.url))
    loop, chance, cancelled = asyncio.get_running_loop(), random.Random(1), 0
    await node.ready(loop.time() + PATIENCE_SECONDS)

    async def echo(number: int) -> int:
        call = Call(loop, 1, loop.time() + PATIENCE_SECONDS)
        node.send(packed("ECHO", number), call, 0)
        [reply] = await call.future
        return int(reply)

    for first in itertools.count(0, AT_ONCE):
        tasks = [asyncio.create_task(echo(number)) for number in range(first, first + AT_ONCE)]
        await asyncio.sleep(0)  # all wait in line now
        cancelled += await cancel_some(tasks, chance)
        got = await answered(tasks)
        assert got == {number: first + number for number in got}
        assert len(got) >= AT_ONCE // 2
        if cancelled >= CANCELLED:
            break
    assert node.connects == 1
    node.close()


async def test_ten_thousand_cancelled_decisions_mix_no_answers_up(either: AnyServers, open_store: OpenStore) -> None:
    """Each caller charges a cost of its own to a key of its own, so that the answer to another shows."""
    store, chance, cancelled = open_store(either.url, deadline_seconds=PATIENCE_SECONDS), random.Random(2), 0
    await store.ping()

    async def decide(number: int) -> int:
        answer = await store.decide([one_of(user(number), cost=number + 1)])
        return answer.readings[0][0][0].count

    for first in itertools.count(0, AT_ONCE):
        tasks = [asyncio.create_task(decide(number)) for number in range(first, first + AT_ONCE)]
        await asyncio.sleep(0)
        cancelled += await cancel_some(tasks, chance)
        got = await answered(tasks)
        assert got == {number: first + number + 1 for number in got}
        assert len(got) >= AT_ONCE // 2
        if cancelled >= CANCELLED:
            break
    for number in chance.sample(range(first), 300):  # a cancelled one was carried out whole or not at all
        assert await count_of(store, user(number)) in (0, number + 1)
    assert all(node.connects == 1 for node in store._topology.nodes())


# A server that is frozen


async def test_a_frozen_server_costs_each_caller_its_deadline_and_the_next_ones_nothing(
    own_server: RedisServer, open_store: OpenStore
) -> None:
    store = open_store(own_server.url, deadline_seconds=0.2)
    await store.ping()
    own_server.pause()
    asked = await asyncio.gather(*(heard(store.decide([one_of(user(n))])) for n in range(32)))
    assert all(isinstance(each.answer, StoreUnavailable) for each in asked)
    assert all(0.2 <= each.seconds < 0.2 + ALLOWANCE_SECONDS for each in asked)
    refused = [await heard(store.decide([one_of(user(n))])) for n in range(1_000)]
    assert {str(each.answer) for each in refused} == {f"127.0.0.1:{own_server.port}: the server is overdue"}
    assert sum(each.seconds for each in refused) < 1_000 * 0.2 / 4, "nobody waits behind those who wait"
    own_server.resume()
    await eventually(lambda: store.decide([one_of(user("later"))]))
    assert node_of(store).connects == 1, "the late replies have closed the breaker"
    assert [await count_of(store, user(n)) for n in range(32)] == [1] * 32, "they were carried out late, and once"


async def test_pitfall_12_what_a_frozen_server_was_not_sent_is_never_carried_out_late(
    own_server: RedisServer, open_store: OpenStore
) -> None:
    """Whoever asked first had been sent, and is counted once; nobody of those who came while it was overdue."""
    store = open_store(own_server.url, deadline_seconds=0.1)
    await store.ping()
    own_server.pause()
    assert isinstance((await heard(store.decide([one_of(user("first"))]))).answer, StoreUnavailable)
    refused = [await heard(store.decide([one_of(user(number))])) for number in range(100)]
    assert all(isinstance(each.answer, StoreUnavailable) for each in refused)
    own_server.resume()
    await eventually(lambda: store.decide([one_of(user("later"))]))
    assert await count_of(store, user("first")) == 1
    assert [await count_of(store, user(number)) for number in range(100)] == [0] * 100


async def test_a_server_frozen_for_long_is_left_and_found_again_with_one_connection(
    own_server: RedisServer, open_store: OpenStore
) -> None:
    store = open_store(own_server.url)
    await store.ping()
    own_server.pause()
    assert isinstance((await heard(store.decide([one_of(user(1))]))).answer, StoreUnavailable)
    await become(lambda: not node_of(store).connected, STALL_SECONDS + 1)
    own_server.resume()
    await eventually(lambda: store.decide([one_of(user(2))]))
    assert node_of(store).connects == 2


async def test_mail_does_not_wait_behind_administration(own_server: RedisServer, open_store: OpenStore) -> None:
    """Upkeep has seconds to wait, and stands in the same line."""
    store = open_store(own_server.url)
    await store.ping()
    own_server.pause()
    upkeep = asyncio.create_task(heard(store.series(user(1).entity)))  # type: ignore[arg-type]  # its error is looked at
    await asyncio.sleep(0)
    decision = await heard(store.decide([one_of(user(1))]))
    assert isinstance(decision.answer, StoreUnavailable)
    assert decision.seconds < 0.05 + ALLOWANCE_SECONDS
    own_server.resume()
    assert not isinstance((await upkeep).answer, StoreError)


# A server that is killed


async def test_a_killed_server_is_found_again_without_a_storm(own_server: RedisServer, open_store: OpenStore) -> None:
    store = open_store(own_server.url)
    await store.ping()
    under_way = [asyncio.create_task(heard(store.decide([one_of(user(n))]))) for n in range(32)]
    await asyncio.sleep(0)
    await asyncio.to_thread(own_server.kill)
    asked = [*await asyncio.gather(*under_way)]
    loop, asking = asyncio.get_running_loop(), 0
    until = loop.time() + 1.5
    while loop.time() < until:
        asked.append(await heard(store.decide([one_of(user("during"))])))
        asking += 1
        if asking % 50 == 0:
            await asyncio.sleep(0.001)
    assert max(each.seconds for each in asked) < 0.05 + ALLOWANCE_SECONDS
    assert asking > 1_000
    assert node_of(store).connects <= 9, "0.05, 0.1, 0.2, 0.4, 0.8 s, each at least half of it"
    own_server.start()
    await eventually(lambda: store.decide([one_of(user("after"))]))
    assert await count_of(store, user("after")) == 1
    assert await count_of(store, user("during")) == 0, "nothing that was refused is sent later"
