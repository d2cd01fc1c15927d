"""A decision costs one round trip: counted by the servers, which know how often they had something to read."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from reputation.engine import Engine
from reputation.events import Mail
from reputation.keys import Dimension, Metric, distinct
from reputation.policy import Policy
from reputation.rules import Rule
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
from tests.builders import mail, rule
from tests.cluster.conftest import AnyServers, OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS
from tests.clusters import ClusterServers
from tests.servers import RedisServer

DECISIONS = 100


def busy_engine(store: RedisStore) -> Engine:
    """Everything that is tracked, evidence, and rules of every kind."""
    rules: tuple[Rule, ...] = (
        rule("messages", limits=("100000/1m", "100000/1h", "100000/24h")),
        rule("pair", key=(Dimension.SENDER, Dimension.IP), limits=("100000/1h",)),
        rule("addresses", count=distinct(Dimension.IP), limits=("100/1h",)),
        rule("sessions", count=Metric.CONCURRENT, limits=("100/1m",)),
        rule("complaints", count=Metric.COMPLAINTS, limits=("100/24h",)),
    )
    evidence = {mail().stage: (Dimension.SENDER, Dimension.IP)}
    return Engine(policy=Policy(rules=rules, evidence=evidence), store=store)


def event(number: int) -> Mail:
    return mail(f"sender-{number}@example-{number}.com", user=f"user-{number}", client=f"192.0.2.{number % 200 + 1}")


class Read:
    """What the servers have read since this was made."""

    def __init__(self, clients: list[redis.Redis]) -> None:
        self._clients = clients
        self._before = [self._now(client) for client in clients]

    @staticmethod
    def _now(client: redis.Redis) -> tuple[int, int]:
        reads = client.info("stats")["total_reads_processed"]
        commands = client.info("commandstats")
        return reads, commands.get("cmdstat_fcall", {"calls": 0})["calls"]

    def so_far(self) -> list[tuple[int, int]]:
        """Of each server: how often it has read anything, and how many calls were among it."""
        after = [self._now(client) for client in self._clients]
        own = 2  # what this reads by itself: the second INFO of before, the first of after
        return [(a[0] - b[0] - own, a[1] - b[1]) for a, b in zip(after, self._before, strict=True)]


@contextmanager
def reading(servers: AnyServers) -> Iterator[Read]:
    clients = [server.client() for server in (servers.servers if isinstance(servers, ClusterServers) else [servers])]
    try:
        yield Read(clients)
    finally:
        for client in clients:
            client.close()


async def warmed_up(store: RedisStore) -> Engine:
    """An engine whose store is connected everywhere."""
    await store.ping()
    engine = busy_engine(store)
    await asyncio.gather(*(engine.judge(event(number)) for number in range(300)))
    return engine


async def test_one_server_is_asked_once(server: RedisServer, open_store: OpenStore) -> None:
    store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
    engine = await warmed_up(store)
    trips = store.round_trips
    with reading(server) as read:
        for number in range(DECISIONS):
            verdict = await engine.judge(event(number))
            assert verdict.answer is not None
            assert len(verdict.answer.charges) >= 9
        [(reads, calls)] = read.so_far()
    assert (reads, calls, store.round_trips - trips) == (DECISIONS, DECISIONS, DECISIONS)


async def test_each_server_of_a_cluster_is_asked_at_most_once(
    redis_cluster_7: ClusterServers, open_store: OpenStore
) -> None:
    store = open_store(redis_cluster_7.url, deadline_seconds=PATIENCE_SECONDS)
    engine = await warmed_up(store)
    trips, keys = store.round_trips, 0
    with reading(redis_cluster_7) as read:
        for number in range(DECISIONS):
            verdict = await engine.judge(event(number))
            assert verdict.action is Action.ACCEPT
            assert verdict.answer is not None
            keys += len(verdict.answer.charges)
        counted = read.so_far()
    assert store.round_trips - trips == DECISIONS
    assert sum(calls for _, calls in counted) == keys, "each key once"
    assert all(reads <= DECISIONS for reads, _ in counted), "the calls of a decision to a server are one write"


async def test_decisions_at_once_share_their_writes(server: RedisServer, open_store: OpenStore) -> None:
    engine = await warmed_up(open_store(server.url, deadline_seconds=PATIENCE_SECONDS))
    with reading(server) as read:
        await asyncio.gather(*(engine.judge(event(number)) for number in range(DECISIONS)))
        [(reads, calls)] = read.so_far()
    assert calls == DECISIONS
    assert reads <= DECISIONS / 4
