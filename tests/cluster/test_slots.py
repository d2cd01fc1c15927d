"""Clusters as a client sees them: found from one server, and counted right while slots move about."""

import asyncio
from collections.abc import Iterator

import pytest

from reputation.contracts import Board
from reputation.keys import Dimension, Key, Metric, distinct
from reputation.store.functions import slot_of
from reputation.store.redis_store import RedisStore
from reputation.store.topology import Cluster
from reputation.windows import Window
from tests.builders import us
from tests.cluster.conftest import OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS, Workers, become, count_of, one_of, user, users_in
from tests.clusters import ClusterNode, ClusterServers, redis_cluster, valkey_cluster

MOVING = (100, 7_777, 16_000)


@pytest.fixture(scope="module", params=[redis_cluster, valkey_cluster], ids=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterServers]:
    with request.param(3) as started:
        yield started


@pytest.fixture
async def store(cluster: ClusterServers, open_store: OpenStore) -> RedisStore:
    opened = open_store(cluster.url, deadline_seconds=PATIENCE_SECONDS)
    await opened.ping()
    return opened


def topology(store: RedisStore) -> Cluster:
    assert isinstance(store._topology, Cluster)
    return store._topology


def elsewhere(cluster: ClusterServers, slot: int) -> ClusterNode:
    """A primary that does not have the slot."""
    return next(server for server in cluster.primaries if server is not cluster.server_of(slot))


def slot(key: Key) -> int:
    return slot_of(key.spelled("any"))


async def test_one_server_is_enough_to_find_all(cluster: ClusterServers, open_store: OpenStore) -> None:
    store = open_store(f"redis+cluster://127.0.0.1:{cluster.servers[1].port}", deadline_seconds=PATIENCE_SECONDS)
    assert (await store.ping()).endswith(", 3 primaries")
    answers = await asyncio.gather(*(store.decide([one_of(user(number))]) for number in range(300)))
    assert all(answer.allowed and not answer.missing for answer in answers)
    assert {node.address.port for node in topology(store).nodes()} == {server.port for server in cluster.servers}


async def test_servers_of_the_url_that_are_gone_are_passed_over(cluster: ClusterServers, open_store: OpenStore) -> None:
    url = f"redis+cluster://127.0.0.1:1,127.0.0.1:2,127.0.0.1:{cluster.servers[2].port}"
    assert (await open_store(url).ping()).endswith(", 3 primaries")


async def test_all_servers_are_connected_to_before_mail_needs_them_and_then_left_alone(
    cluster: ClusterServers, open_store: OpenStore
) -> None:
    store = open_store(cluster.url, deadline_seconds=PATIENCE_SECONDS)
    await store.decide([one_of(user(1))])

    def asked() -> int:
        commands = [server.command("INFO", "commandstats") for server in cluster.servers]
        return sum(each.get("cmdstat_cluster|slots", {"calls": 0})["calls"] for each in commands)

    await become(lambda: all(node.connected for node in topology(store).nodes()))
    learning = topology(store)._learning
    await become(lambda: learning is not None and learning.done())
    before = asked()
    await asyncio.gather(*(store.decide([one_of(user(number))]) for number in range(300)))
    assert asked() == before, "a map that is right is not asked for again"
    assert [node.connects for node in topology(store).nodes()] == [1, 1, 1]


async def test_a_slot_that_has_moved_costs_one_round_trip_more_once(cluster: ClusterServers, store: RedisStore) -> None:
    [key] = users_in(range(300, 301), 1)
    await store.decide([one_of(key)])
    target = elsewhere(cluster, 300)
    cluster.migrate(300, target)
    counts, trips = [], []
    for _ in range(3):
        before = store.round_trips
        counts.append((await store.decide([one_of(key)])).readings[0][0][0].count)
        trips.append(store.round_trips - before)
    assert (counts, trips) == ([2, 3, 4], [2, 1, 1])
    assert topology(store).node(300).address.port == target.port


async def test_in_the_middle_of_a_move_each_key_is_counted_where_it_is(
    cluster: ClusterServers, store: RedisStore
) -> None:
    moved, stays, new = users_in(range(400, 401), 3)
    for key in (moved, stays):
        await store.decide([one_of(key)])
    source, target = cluster.server_of(400), elsewhere(cluster, 400)
    cluster.begin_migration(400, target)
    source.command("MIGRATE", "127.0.0.1", target.port, moved.spelled(store._prefix), 0, 5_000)
    for _ in range(2):
        answers = [await store.decide([one_of(key)]) for key in (moved, stays, new)]
    assert [answer.readings[0][0][0].count for answer in answers] == [3, 3, 2]
    assert source.command("EXISTS", stays.spelled(store._prefix)) == 1
    assert topology(store).node(400).address.port == source.port, "an open slot is still its primary's"
    while cluster.move_keys(400, target, 100):
        pass
    cluster.end_migration(400, target)
    assert [await count_of(store, key) for key in (moved, stays, new)] == [3, 3, 2]


async def test_functions_that_the_target_of_a_move_lost_are_loaded(cluster: ClusterServers, store: RedisStore) -> None:
    [key] = users_in(range(500, 501), 1)
    target = elsewhere(cluster, 500)
    cluster.begin_migration(500, target)
    target.command("FUNCTION", "FLUSH")
    assert (await store.decide([one_of(key)])).readings[0][0][0].count == 1
    cluster.end_migration(500, target)
    assert await count_of(store, key) == 1


# Must show: slots migrated while decisions run: no error reaches the engine, no count is lost or doubled.


async def test_slots_that_move_under_load_lose_and_double_nothing(cluster: ClusterServers, store: RedisStore) -> None:
    keys = [key for moving in MOVING for key in users_in(range(moving, moving + 1), 5)]
    homes = {moving: cluster.server_of(moving) for moving in MOVING}
    workers = Workers(store, keys)
    for moving, home in homes.items():
        others = [server for server in cluster.primaries if server is not home]
        for target in (*others, home):
            await asyncio.to_thread(cluster.migrate, moving, target, keys_at_once=2, pause_seconds=0.003)
    await workers.stop()
    assert workers.errors == []
    assert workers.decisions > 500
    assert {key: await count_of(store, key) for key in keys} == workers.counted
    assert all(node.connects == 1 for node in topology(store).nodes())


async def test_boards_and_sketches_move_with_their_slots(cluster: ClusterServers, store: RedisStore) -> None:
    """A server must know the keys of a call to send it to where they are; one made up in it would be left behind."""
    key = Key(users_in(range(1_200, 1_201), 1)[0].entity, distinct(Dimension.IP))
    board = Board("sender", Metric.MESSAGES, Window(300))
    stopped, rounds, offered = False, 0, 0

    async def work() -> None:
        nonlocal rounds, offered
        while not stopped:
            rounds, offered = rounds + 1, offered + 1
            await store.saw(key, [f"192.0.2.{offered % 200}"], now_us=us(0))
            await store.offer(board, {f"user-{offered % 50}": offered}, now_us=us(0))
            await asyncio.sleep(0.001)

    task = asyncio.create_task(work())
    for moving in (1_200, slot_of(board.spelled(store._prefix, us(0)))):
        for _ in range(3):
            rounds = 0
            await become(lambda: rounds > 200)  # noqa: B023 - looked at before the next round
            target = elsewhere(cluster, moving)
            await asyncio.to_thread(cluster.migrate, moving, target, keys_at_once=1, pause_seconds=0.05)
    stopped = True
    await task
    [sketch] = await store.sketches([key], now_us=us(0))
    assert sketch.last_hour == pytest.approx(200, rel=0.03)
    assert await store.board(board, 1, at_us=us(0)) == [(f"user-{offered % 50}", offered)]
    assert len(await store.board(board, 99, at_us=us(0))) == 50


async def test_decisions_about_several_keys_hold_together_while_their_slots_move(
    cluster: ClusterServers, store: RedisStore
) -> None:
    """Each message counts on six keys; a limit on one of them refuses some, and the others get it back."""
    keys = [users_in(range(moving, moving + 1), 1)[0] for moving in (*MOVING, 900, 14_000)]
    stopped, allowed, limit = False, 0, 100

    async def work() -> None:
        nonlocal allowed
        while not stopped:
            answer = await store.decide([*map(one_of, keys[:-1]), one_of(keys[-1], f"{limit}/1h")])
            assert not answer.missing
            allowed += answer.allowed
            await asyncio.sleep(0.005)

    tasks = [asyncio.create_task(work()) for _ in range(16)]
    for moving in MOVING:
        await asyncio.to_thread(cluster.migrate, moving, elsewhere(cluster, moving))
    await become(lambda: allowed == limit)
    stopped = True
    await asyncio.gather(*tasks)
    await become(lambda: not store._refunds)
    assert allowed == limit
    assert [await count_of(store, key) for key in keys] == [limit] * len(keys)
