"""A decision costs one round trip: counted by the servers, which know how often they had something to read."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import redis

from reputation.engine import Engine
from reputation.events import Connect, Mail
from reputation.keys import Dimension, Metric, distinct
from reputation.policy import Policy
from reputation.rules import Rule
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
from tests.builders import mail, rcpt, rule
from tests.cluster.conftest import AnyServers, OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS
from tests.clusters import ClusterServers
from tests.servers import RedisServer

DECISIONS = 100


def busy_engine(store: RedisStore) -> Engine:
    """Everything that is tracked, and rules of every kind."""
    rules: tuple[Rule, ...] = (
        rule("messages", limits=("100000/1m", "100000/1h", "100000/24h")),
        rule("pair", key=(Dimension.SENDER, Dimension.IP), limits=("100000/1h",)),
        rule("addresses", count=distinct(Dimension.IP), limits=("100/1h",)),
        rule("sessions", count=Metric.CONCURRENT, limits=("100/1m",)),
        rule("complaints", count=Metric.COMPLAINTS, limits=("100/24h",)),
    )
    return Engine(policy=Policy(rules=rules), store=store)


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


async def test_what_conditions_ask_for_is_one_round_trip_more_at_their_stage_alone(
    either: AnyServers, open_store: OpenStore
) -> None:
    """However much it is: reputation, counts, ages, and a limit that follows reputation."""
    store = open_store(either.url, deadline_seconds=PATIENCE_SECONDS)
    asking = "reputation.message.score > 0.99 && last_1h.ip.spam > 9 && age.sender > 0.0"
    rules = (
        rule("asking", key=(), count="", limits=(), when=asking, action=Action.TAG),
        rule("adaptive", limits=("100000/1h",), adaptive=3.0),
        rule("plain", rcpt(""), count=Metric.RECIPIENTS, limits=("100000/1h",)),
    )
    engine = Engine(policy=Policy(rules=rules), store=store)
    await store.ping()
    for number in range(50):
        await engine.judge(event(number))
    trips = store.round_trips
    for number in range(DECISIONS):
        assert (await engine.judge(event(number))).answer is not None
    assert store.round_trips - trips == 2 * DECISIONS
    trips = store.round_trips
    for number in range(DECISIONS):
        written = replace(rcpt(f"{number}@example.net"), session=event(number).session)
        assert (await engine.judge(written)).answer is not None
        assert (await engine.judge(Connect(session=event(number).session))).answer is not None
    assert store.round_trips - trips == 2 * DECISIONS, "one each"


async def test_what_a_rule_without_limits_refuses_costs_no_round_trip(
    either: AnyServers, open_store: OpenStore
) -> None:
    store = open_store(either.url, deadline_seconds=PATIENCE_SECONDS)
    refusing = rule("refusing", key=(), count="", limits=(), when='user != ""', action=Action.REJECT)
    engine = Engine(policy=Policy(rules=(refusing, rule())), store=store)
    await store.ping()
    await engine.judge(mail())
    trips = store.round_trips
    for number in range(DECISIONS):
        assert (await engine.judge(event(number))).denied
    assert store.round_trips == trips


async def test_one_server_is_asked_twice_where_a_condition_asks(server: RedisServer, open_store: OpenStore) -> None:
    """Counted by the server itself."""
    store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
    asking = rule("asking", key=(), count="", limits=(), when="reputation.ip.score > 0.99", action=Action.TAG)
    engine = Engine(policy=Policy(rules=(asking,)), store=store)
    await store.ping()
    await engine.judge(event(0))
    with reading(server) as read:
        for number in range(DECISIONS):
            await engine.judge(event(number))
        [(reads, calls)] = read.so_far()
    assert (reads, calls) == (2 * DECISIONS, 2 * DECISIONS)
