"""Whose map of a cluster is believed: not one of a server that has left it, or sees a part, while others answer."""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from reputation.errors import StoreUnavailable
from reputation.store.functions import SLOTS
from reputation.store.redis_store import RedisStore
from tests.cluster.byte_server import Replies, byte_server, is_decision, polite
from tests.cluster.conftest import OpenStore
from tests.cluster.crowd import PATIENCE_SECONDS, become, eventually, one_of, users_in
from tests.clusters import ClusterNode, ClusterServers
from tests.servers import RedisServer, redis_binary, valkey_binary

PARTIAL = ("--cluster-require-full-coverage", "no")
HALF = SLOTS // 2
AWAY = 4

StartLone = Callable[[], ClusterNode]


@pytest.fixture
def start_lone(kind: str, tmp_path: Path) -> Iterator[StartLone]:
    """How to start a server that knows of no other, as after CLUSTER RESET."""
    binary, started = {"redis": redis_binary, "valkey": valkey_binary}[kind](), list[ClusterNode]()

    def start() -> ClusterNode:
        directory = tmp_path / str(len(started))
        directory.mkdir()
        started.append(ClusterNode(binary, directory, PARTIAL))
        started[-1].start()
        return started[-1]

    yield start
    for server in started:
        server.kill()


def url_of(*servers: RedisServer) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in servers)


def give(server: RedisServer, slots: range) -> None:
    server.command("CLUSTER", "ADDSLOTSRANGE", slots[0], slots[-1])


async def are_counted(store: RedisStore, *slots: int) -> bool:
    """Whether a message of somebody in each of the slots is."""
    answer = await store.decide([one_of(users_in(range(slot, slot + 1), 1)[0]) for slot in slots])
    return not answer.missing


@pytest.mark.parametrize("known", [range(0), range(HALF)], ids=["empty", "half"])
async def test_the_map_of_a_server_that_has_left_the_cluster_is_not_believed(
    start_lone: StartLone, valkey_cluster_9: ClusterServers, open_store: OpenStore, known: Sequence[int]
) -> None:
    lone = start_lone()
    if known:
        give(lone, range(HALF))
    store = open_store(url_of(lone, valkey_cluster_9.servers[1]), deadline_seconds=PATIENCE_SECONDS)
    assert (await store.ping()).endswith(", 3 primaries")
    assert await are_counted(store, 0, HALF, SLOTS - 1)
    assert {node.address.port for node in store._topology.nodes()} == {it.port for it in valkey_cluster_9.servers}


async def test_where_nobody_holds_any_slot_that_is_said(start_lone: StartLone, open_store: OpenStore) -> None:
    lone = start_lone()
    store = open_store(f"{url_of(lone)},127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match=rf"^no slot is anybody's, say 127.0.0.1:{lone.port}; 127.0.0.1:1: "):
        await store.ping()


async def test_a_store_that_knows_of_no_slot_learns_of_them_from_whoever_does_first(
    start_lone: StartLone, open_store: OpenStore
) -> None:
    lone, other = start_lone(), start_lone()
    store = open_store(url_of(lone, other), deadline_seconds=PATIENCE_SECONDS)
    with pytest.raises(StoreUnavailable):
        await store.ping()
    give(other, range(SLOTS))
    await become(lambda: len(store._topology.nodes()) == 1)
    assert await eventually(lambda: are_counted(store, 0, SLOTS - 1))


async def test_a_part_is_better_than_nothing_until_somebody_knows_the_rest(
    start_lone: StartLone, open_store: OpenStore
) -> None:
    lone, other = start_lone(), start_lone()
    give(lone, range(HALF))
    store = open_store(url_of(other, lone), deadline_seconds=PATIENCE_SECONDS)
    assert await eventually(lambda: are_counted(store, 0, HALF - 1))
    assert not await are_counted(store, 0, HALF)
    give(other, range(SLOTS))
    await become(lambda: {node.address.port for node in store._topology.nodes()} == {other.port})
    assert await eventually(lambda: are_counted(store, 0, HALF))


async def test_servers_that_hang_do_not_hold_up_who_knows_the_map(
    start_lone: StartLone, valkey_cluster_9: ClusterServers, open_store: OpenStore
) -> None:
    frozen = [start_lone() for _ in range(AWAY)]
    for server in frozen:
        server.pause()
    store = open_store(url_of(*frozen, valkey_cluster_9.servers[0]), deadline_seconds=PATIENCE_SECONDS)
    started = time.monotonic()
    assert await are_counted(store, 0, SLOTS - 1)
    assert time.monotonic() - started < 0.9, "each of them would take a second"


def ranges(*rows: tuple[int, int, int]) -> bytes:
    """A reply to CLUSTER SLOTS, of (first slot, last slot, port) on this machine."""
    row = "*3\r\n:{}\r\n:{}\r\n*2\r\n$9\r\n127.0.0.1\r\n:{}\r\n"
    return f"*{len(rows)}\r\n{''.join(row.format(*each) for each in rows)}".encode()


@pytest.mark.parametrize("sorts_first", [True, False])
async def test_a_primary_that_is_cut_off_from_the_others_is_not_believed(
    open_store: OpenStore, sorts_first: bool
) -> None:
    """It still has the map of before, whole, and says CLUSTERDOWN; its successor knows better."""
    maps: dict[str, bytes] = {}

    def of(name: str) -> Replies:
        def reply(command: list[bytes]) -> bytes:
            if command[0] == b"CLUSTER":
                return maps[name]
            return (
                b"-CLUSTERDOWN The cluster is down\r\n" if is_decision(command) and name == "old" else polite(command)
            )

        return reply

    async with byte_server(polite) as one, byte_server(polite) as other:
        old, new = sorted((one, other), key=lambda server: str(server.port), reverse=not sorts_first)
        old.replies, new.replies = of("old"), of("new")
        maps["old"] = ranges((0, HALF - 1, old.port), (HALF, SLOTS - 1, new.port))
        maps["new"] = ranges((0, SLOTS - 1, new.port))
        store = open_store(url_of_ports(old.port, new.port), deadline_seconds=PATIENCE_SECONDS)
        assert await are_counted(store, 5)
        assert (await store.decide([one_of(users_in(range(5, 6), 1)[0])])).allowed


@pytest.mark.parametrize("port", [70_000, 0, -5])
async def test_a_port_that_cannot_be_is_nonsense_and_ends_nothing(
    open_store: OpenStore, port: int, caplog: pytest.LogCaptureFixture
) -> None:
    reply = ranges((0, SLOTS - 1, port))
    async with byte_server(lambda command: reply if command[0] == b"CLUSTER" else polite(command)) as server:
        store = open_store(url_of_ports(server.port), deadline_seconds=0.3)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="the server talks nonsense"):
                await are_counted(store, 5)
        reply = ranges((0, SLOTS - 1, server.port))
        await eventually(lambda: are_counted(store, 5))
    assert "never retrieved" not in caplog.text


def url_of_ports(*ports: int) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in ports)
