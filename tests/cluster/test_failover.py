"""Servers that die or freeze under load: every verdict in time and as its rule says, and counting goes on afterwards.

Must show: a primary killed with ``kill -9`` and one stopped with SIGSTOP while 32 decisions are in flight: each
decision answers within its deadline as its rule says; after recovery counting goes on; no storm of reconnects.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from reputation.engine import Engine
from reputation.errors import StoreUnavailable
from reputation.keys import Dimension, Entity, Key, Metric
from reputation.policy import Policy
from reputation.rules import OnStoreFailure
from reputation.store.functions import slot_of
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action, Reason, Verdict
from tests.builders import mail, rule
from tests.cluster.conftest import OpenStore
from tests.cluster.crowd import ALLOWANCE_SECONDS, PATIENCE_SECONDS, Workers, become, count_of, eventually, one_of
from tests.clusters import GROUP, ClusterServers, SentinelServers, redis_cluster, sentinel_group, valkey_cluster
from tests.servers import RedisServer

DEADLINE_SECONDS = 0.2
IN_FLIGHT = 32
PAUSE_SECONDS = 0.01
MOST_CONNECTS = 10
"""To a server that is away for some seconds."""
PARTIAL = ("--cluster-require-full-coverage", "no")
"""Or all servers of the cluster refuse while one is missed."""

HOWS: dict[str, Callable[[RedisServer], object]] = {"killed": RedisServer.kill, "frozen": RedisServer.pause}


@pytest.fixture(scope="module", params=[redis_cluster, valkey_cluster], ids=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterServers]:
    with request.param(3, 1, *PARTIAL) as started:
        yield started


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelServers]:
    with sentinel_group() as started:
        yield started


@pytest.fixture(params=HOWS)
def end(request: pytest.FixtureRequest) -> Callable[[RedisServer], object]:
    """How a server ends."""
    return HOWS[request.param]


def revive(server: RedisServer) -> None:
    """What brings it back, however it has ended."""
    if server.running:
        server.resume()
    else:
        server.start()


class Judged(NamedTuple):
    """One verdict, when it was given, and how long it took."""

    policy: OnStoreFailure
    sender: str
    verdict: Verdict
    at: float
    seconds: float


class Judges:
    """32 judgements in flight, about some senders, by three engines over one store: one for each way to fail."""

    def __init__(self, store: RedisStore, senders: list[str]) -> None:
        self.engines = {failing: engine_of(store, failing) for failing in OnStoreFailure}
        self.judged: list[Judged] = []
        self._senders = senders
        self._stopped = False
        self._tasks = [asyncio.create_task(self._judge(number)) for number in range(IN_FLIGHT)]

    async def _judge(self, turn: int) -> None:
        while not self._stopped:
            for failing, engine in self.engines.items():
                sender = self._senders[turn % len(self._senders)]
                started = time.monotonic()
                verdict = await engine.judge(mail(f"{sender}@example.com"))
                now = time.monotonic()
                self.judged.append(Judged(failing, sender, verdict, now, now - started))
                turn += 1
            await asyncio.sleep(PAUSE_SECONDS)

    async def stop(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._tasks)

    def since(self, moment: float) -> list[Judged]:
        return [each for each in self.judged if each.at > moment]

    async def all_well(self) -> None:
        """Wait until everybody has been judged by the store for some time."""
        started = time.monotonic()

        def well() -> bool:
            lately = self.since(max(started, time.monotonic() - 0.3))
            return len(lately) > 5 * IN_FLIGHT and all(by_the_store(each) for each in lately)

        await become(well)


def engine_of(store: RedisStore, failing: OnStoreFailure) -> Engine:
    """With a limit that nobody meets. Shares of it: tests/cluster/test_fleet.py."""
    counting = rule(str(failing), limits=("1000000/1h",), on_store_failure=failing)
    return Engine(policy=Policy(rules=(counting,), tracked=frozenset()), store=store, fallback=MemoryStore())


def by_the_store(judged: Judged) -> bool:
    return judged.verdict.reason is Reason.WITHIN_LIMITS and judged.verdict.answer is not None


def key_of(sender: str) -> Key:
    return Key(Entity(Dimension.SENDER, f"{sender}@example.com"), Metric.MESSAGES)


def senders_in(slots: range, number: int) -> list[str]:
    names = (f"sender-{count}" for count in range(100_000))
    found = (name for name in names if slot_of(key_of(name).spelled("any")) in slots)
    return [next(found) for _ in range(number)]


def as_the_rules_say(judged: Judged) -> bool:
    """A verdict without the store."""
    action, reason = judged.verdict.action, judged.verdict.reason
    if judged.policy is OnStoreFailure.TEMPFAIL:
        return (action, reason) == (Action.TEMPFAIL, Reason.STORE_UNAVAILABLE)
    return (action, reason) == (Action.ACCEPT, Reason.STORE_UNAVAILABLE)


def in_time_and_as_their_rules_say(judged: list[Judged]) -> None:
    assert max(each.seconds for each in judged) < DEADLINE_SECONDS + ALLOWANCE_SECONDS
    assert all(by_the_store(each) or as_the_rules_say(each) for each in judged)


async def counts_on(store: RedisStore, key: Key) -> None:
    """One more is one more."""
    before = await eventually(lambda: count_of(store, key))
    answer = await store.decide([one_of(key)])
    assert await count_of(store, key) > before
    assert answer.allowed


async def test_a_primary_of_a_cluster_ends_under_load(
    cluster: ClusterServers, open_store: OpenStore, end: Callable[[RedisServer], object]
) -> None:
    store = open_store(cluster.url, deadline_seconds=DEADLINE_SECONDS)
    await store.ping()
    old = cluster.server_of(0)
    lost, living = senders_in(range(1_000), 8), senders_in(range(6_000, 16_384), 8)
    judges = Judges(store, lost + living)
    await judges.all_well()
    nodes = {node.address.port: node for node in store._topology.nodes()}
    ended_at = time.monotonic()
    await asyncio.to_thread(end, old)
    await asyncio.sleep(DEADLINE_SECONDS)
    answer = await store.decide([one_of(key_of(lost[0])), one_of(key_of(living[0]))])
    assert answer.allowed
    assert answer.missing == {0}, "what lives is counted"
    new = await asyncio.to_thread(cluster.wait_for_failover, old)
    await judges.all_well()
    await judges.stop()
    without = [each for each in judges.since(ended_at) if not by_the_store(each)]
    in_time_and_as_their_rules_say(judges.since(ended_at))
    assert {each.policy for each in without} == set(OnStoreFailure)
    assert {each.sender for each in without} <= set(lost), "who is counted elsewhere is counted all the time"
    assert nodes[old.port].connects <= MOST_CONNECTS
    assert [node.connects for port, node in nodes.items() if port != old.port] == [1, 1]
    assert new.port in {node.address.port for node in store._topology.nodes()}
    await counts_on(store, key_of(lost[0]))
    await asyncio.to_thread(revive, old)
    await asyncio.to_thread(cluster.wait_until_settled)
    await counts_on(store, key_of(lost[0]))


async def test_the_primary_of_a_sentinel_group_ends_under_load(
    group: SentinelServers, open_store: OpenStore, end: Callable[[RedisServer], object]
) -> None:
    store = open_store(group.url, deadline_seconds=DEADLINE_SECONDS)
    assert (await store.ping()).startswith("Redis ")
    old = group.primary
    judges = Judges(store, senders_in(range(16_384), 16))
    await judges.all_well()
    [node] = store._topology.nodes()
    ended_at = time.monotonic()
    await asyncio.to_thread(end, old)
    new = await asyncio.to_thread(group.wait_for_failover, old)
    await judges.all_well()
    await judges.stop()
    without = [each for each in judges.since(ended_at) if not by_the_store(each)]
    in_time_and_as_their_rules_say(judges.since(ended_at))
    assert {each.policy for each in without} == set(OnStoreFailure)
    assert node.connects <= MOST_CONNECTS
    [node] = store._topology.nodes()
    assert (node.address.port, node.connects) == (new.port, 1)
    await counts_on(store, key_of("sender-1"))
    await asyncio.to_thread(revive, old)
    await asyncio.to_thread(group.wait_until_settled)
    await counts_on(store, key_of("sender-1"))


async def test_a_planned_change_of_the_primary_is_followed(group: SentinelServers, open_store: OpenStore) -> None:
    """The old primary lives, and is connected to: it says that it is a replica now."""
    store = open_store(group.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    old = group.primary
    workers = Workers(store, [key_of("planned-1"), key_of("planned-2")])
    await become(lambda: workers.decisions > 100)
    group.sentinels[0].command("SENTINEL", "FAILOVER", GROUP)
    new = await asyncio.to_thread(group.wait_for_failover, old)
    await asyncio.to_thread(group.wait_until_settled)
    before = workers.decisions
    await become(lambda: workers.decisions > before + 100)
    await workers.stop()
    assert [node.address.port for node in store._topology.nodes()] == [new.port]
    assert {type(error) for error in workers.errors} <= {StoreUnavailable}
    await counts_on(store, key_of("planned-1"))


async def test_a_planned_change_in_a_cluster_reaches_nobody(cluster: ClusterServers, open_store: OpenStore) -> None:
    store = open_store(cluster.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    old = cluster.server_of(0)
    keys = [key_of(sender) for sender in senders_in(range(1_000), 4)]
    workers = Workers(store, keys)
    await become(lambda: workers.decisions > 100)
    [replica] = cluster.replicas_of(old)
    replica.command("CLUSTER", "FAILOVER")
    await asyncio.to_thread(cluster.wait_for_failover, old)
    before = workers.decisions
    await become(lambda: workers.decisions > before + 100)
    await workers.stop()
    assert workers.errors == []
    assert {key: await count_of(store, key) for key in keys} == workers.counted, "clients were held up meanwhile"
