"""What servers are asked: each call about one slot, no command whose work has no bound, and no value that grows."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from reputation.charges import Charging
from reputation.contracts import Board
from reputation.engine import Engine
from reputation.events import Event, Outcome, OutcomeKind
from reputation.keys import Dimension, Metric, distinct
from reputation.policy import Policy
from reputation.rules import Accuracy, Mode, Rule
from reputation.store.functions import slot_of
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
from reputation.windows import Window
from tests.builders import connect, data, disconnect, mail, rcpt, rule
from tests.cluster.conftest import AnyServers, OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS
from tests.clusters import ClusterServers
from tests.entries_for_tests import ban, listing
from tests.servers import RedisServer, redis_server, valkey_server

BOARD = Board("sender", Metric.MESSAGES, Window(300))
CAP = 20
FLOOD = 1_500
OF_ONE = frozenset({"time", "get", "set", "del", "expire", "pexpire", "pfadd", "pfcount", "publish", "fcall"}) | {
    *("zadd", "zcard", "zcount", "zrem", "zremrangebyrank", "zremrangebyscore", "zscore"),
    *("hset", "hget", "hdel", "hexists", "hlen", "xadd"),
}
"""What reads or writes one value, member or entry; or takes out what was put in one by one before."""
SOME_OF_MANY = {"zrangebyscore": "limit", "xrange": "count", "xrevrange": "count", "sscan": "count"}
"""What could read everything, and the word that bounds it."""
BY_RANK = frozenset({"zrange", "zrevrange"})
CONNECTING = frozenset({"hello", "ping", "auth", "select", "client", "function", "subscribe", "cluster", "asking"})
MOST_AT_ONCE = 1_000


def every_kind() -> tuple[Rule, ...]:
    """Rules that count in every way that there is; those in shadow mode let everybody in, and count everybody."""
    asking = "reputation.message.score > 0.99 && last_1h.ip.spam > 9 && age.sender > 0.0"
    return (
        rule("messages", limits=("1000000/1m", "1000000/24h")),
        rule("pair", key=(Dimension.SENDER, Dimension.IP), limits=("1000000/1h",)),
        rule(
            "addresses", count=distinct(Dimension.IP), limits=(f"{CAP}/1h",), mode=Mode.SHADOW, charge=Charging.ALWAYS
        ),
        rule("sessions", count=Metric.CONCURRENT, limits=(f"{CAP}/1m",), mode=Mode.SHADOW, charge=Charging.ALWAYS),
        rule("precise", limits=("1000000/1h",), accuracy=Accuracy.INTERPOLATED),
        rule("complaints", count=Metric.COMPLAINTS, limits=("1000000/24h",)),
        rule("asking", key=(), count="", limits=(), when=asking, action=Action.TAG),
        rule("adaptive", rcpt(""), count=Metric.RECIPIENTS, limits=("1000000/1h",), adaptive=3.0),
        rule("held", rcpt(""), key=(Dimension.IP, Dimension.RECIPIENT), limits=("3/1h",), hold_seconds=60.0),
    )


def engine_on(store: RedisStore) -> Engine:
    return Engine(policy=Policy(rules=every_kind()), store=store)


def visit(number: int) -> list[Event]:
    """What one client of a sender with very many does."""
    client = str(ip_address(f"10.0.{number // 250}.{number % 250 + 1}"))
    return [connect(client), mail(user="alice", client=client), rcpt(f"{number}@example.net")]


async def all_of_it(engine: Engine, store: RedisStore) -> None:
    """Whatever an engine asks of its store, at least once."""
    verdicts = [await engine.judge(event) for number in range(30) for event in visit(number)]
    verdicts += [await engine.judge(rcpt("victim@example.net")) for _ in range(5)]
    assert verdicts[-1].denied
    verdicts.append(await engine.judge(data("bob@example.net")))
    for kind in OutcomeKind:
        await engine.learn(Outcome(kind=kind, event=mail(user="alice")))
    report = Outcome(kind=OutcomeKind.BOUNCE, event=rcpt(""), returned=("alice@example.com", "1@example.net"))
    await engine.learn(report)
    await engine.refund(*verdicts[-3:])
    await engine.registrar.put(ban("ip:192.0.2.0/25"))
    await engine.registrar.put(listing("vip", "ip:203.0.113.9"))
    await engine.registrar.lift("ban|ip:192.0.2.0/25", author="bob", reason="over")
    await engine.registrar.refresh()
    await engine.registrar.audit(9)
    for step in (engine.upkeep.offer, engine.upkeep.sketch, engine.upkeep.beat, engine.upkeep.renew):
        await step()
    await engine.upkeep.tallies.tell()
    assert len(await engine.tallies()) == len(every_kind())
    assert await engine.top("sender", Metric.MESSAGES, Window(300), 3)
    assert (await engine.explain(next(iter(await engine.top("ip", Metric.MESSAGES, Window(300), 1)))[0])).series
    assert await store.members("rp-no-such-set") == frozenset()
    await engine.judge(disconnect())


def of(servers: AnyServers) -> Sequence[RedisServer]:
    return servers.servers if isinstance(servers, ClusterServers) else [servers]


@contextmanager
def overheard(servers: AnyServers) -> Iterator[list[list[str]]]:
    """What servers were asked while the block ran, by clients and by functions: filled when it ends."""
    clients = [server.client() for server in of(servers)]
    told: list[list[str]] = []
    monitors = [client.monitor() for client in clients]  # type: ignore[no-untyped-call] # redis has no types for it
    for monitor in monitors:
        monitor.__enter__()
    yield told
    for server, monitor in zip(of(servers), monitors, strict=True):
        server.command("ECHO", "that-was-all")
        while (command := monitor.next_command()["command"]) != "ECHO that-was-all":
            told.append(command.split(" "))
        monitor.__exit__(None, None, None)
    for client in clients:
        client.close()


def errors_of(servers: AnyServers) -> set[str]:
    """The kinds of errors that servers have ever answered."""
    return {name for server in of(servers) for name in server.command("INFO", "errorstats")}


def failures(engine: Engine) -> list[str]:
    samples = [sample for family in engine.metrics.registry.collect() for sample in family.samples]
    return [f"{it.labels}" for it in samples if it.name == "reputon_store_failures_total" and it.value]


# Clusters


@pytest.mark.parametrize("kind", ["redis_cluster_7", "valkey_cluster_9"])
async def test_pitfall_01_on_a_cluster_each_call_is_about_one_slot(
    kind: str, request: pytest.FixtureRequest, open_store: OpenStore
) -> None:
    cluster: ClusterServers = request.getfixturevalue(kind)
    store = open_store(cluster.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    engine, before = engine_on(store), errors_of(cluster)
    with overheard(cluster) as told:
        await all_of_it(engine, store)
    calls = [words[3 : 3 + int(words[2])] for words in told if words[0] == "FCALL" and words[2] != "0"]
    assert len({slot_of(key) for keys in calls for key in keys}) > 50
    assert [keys for keys in calls if len({slot_of(key) for key in keys}) != 1] == []
    assert any(len(keys) > 1 for keys in calls), "the register has several"
    assert errors_of(cluster) - before <= {"errorstat_MOVED"}
    assert failures(engine) == []


# Bounds


@pytest.fixture
def own_server(kind: str) -> Iterator[RedisServer]:
    with redis_server() if kind == "redis" else valkey_server() as server:
        yield server


async def flood(engine: Engine, store: RedisStore) -> None:
    """Somebody does everything more often than there is room for."""
    for start in range(0, FLOOD, 250):
        events = [event for number in range(start, start + 250) for event in visit(number)]
        await asyncio.gather(*(engine.judge(event) for event in events))
    for part in range(2):
        await store.offer(BOARD, {f"{part}-{number}": number for number in range(FLOOD)})
    await sessions_of(engine, mail(user="alice"), 5 * CAP)


async def sessions_of(engine: Engine, event: Event, number: int) -> None:
    """Somebody has so many sessions at once, each from an address of its own."""
    sessions = [replace(event.session, id=f"s{n}", client=ip_address(f"10.9.9.{n + 1}")) for n in range(number)]
    await asyncio.gather(*(engine.judge(replace(event, session=session)) for session in sessions))


def is_bounded(words: list[str]) -> bool:
    """Whether the work of a command does not grow with what is stored."""
    command, *arguments = [word.lower() for word in words]
    if command in SOME_OF_MANY and SOME_OF_MANY[command] in arguments:
        return 0 < int(arguments[-1]) <= MOST_AT_ONCE
    if command in BY_RANK:
        first, last = int(arguments[1]), int(arguments[2])
        return 0 <= first <= last < first + MOST_AT_ONCE
    return command in OF_ONE | CONNECTING


def largest(server: RedisServer, pattern: str, size: str) -> int:
    with server.client() as client:
        return max([int(client.execute_command(size, key)) for key in client.scan_iter(pattern)], default=0)


def test_pitfall_15_what_has_no_bound_is_told_apart() -> None:
    bounded = ["GET k", "ZRANGE k 5 5 WITHSCORES", "ZRANGEBYSCORE k -inf 9 LIMIT 0 1", "SSCAN k 0 COUNT 1000"]
    endless = ["KEYS *", "ZRANGE k 0 -1", "ZRANGEBYSCORE k -inf 9", "SMEMBERS k", "ZUNIONSTORE d 2 a b", "SCAN 0"]
    assert [is_bounded(command.split()) for command in bounded + endless] == [True] * 4 + [False] * 6


async def test_pitfall_15_no_command_and_no_value_grows_with_what_is_stored(
    own_server: RedisServer, open_store: OpenStore
) -> None:
    store = open_store(own_server.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    engine = engine_on(store)
    await flood(engine, store)
    with overheard(own_server) as told:
        await all_of_it(engine, store)
    assert len(told) > 1_000
    assert {words[0] for words in told if not is_bounded(words)} == set()
    assert failures(engine) == []
    assert largest(own_server, "*:distinct(ip):addresses", "ZCARD") == CAP
    assert largest(own_server, "*:concurrent:sessions", "ZCARD") in (2 * CAP - 1, 2 * CAP), "one has ended"
    assert largest(own_server, "*:board:*", "ZCARD") == 1_000
    with own_server.client() as client:
        assert max(client.strlen(key) for key in client.scan_iter(_type="STRING")) <= 16_384


async def test_pitfall_15_a_decision_about_somebody_with_much_takes_no_more_commands(
    own_server: RedisServer, open_store: OpenStore
) -> None:
    store = open_store(own_server.url, deadline_seconds=PATIENCE_SECONDS)
    await store.ping()
    engine = engine_on(store)
    bob = mail("bob@example.com", user="bob")

    async def commands_of(event: Event) -> list[str]:
        with overheard(own_server) as told:
            await engine.judge(event)
        return sorted(name for words in told if (name := words[0].lower()) not in CONNECTING)

    await flood(engine, store)
    await sessions_of(engine, bob, 2 * CAP)
    much, little = await commands_of(mail(user="alice")), await commands_of(bob)
    assert len(much) > 10
    assert much == little
