"""Maps, without servers: how one is read, what changes it, and what is let go. With servers: tests/cluster/."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from reputation.errors import StoreMisuse, StoreUnavailable
from reputation.store import topology as module
from reputation.store.address import Address, StoreUrl
from reputation.store.functions import SLOTS
from reputation.store.node import Node
from reputation.store.slot_map import SlotMap
from reputation.store.topology import Cluster, SentinelGroup, SingleServer, open_topology

A, B, C = (Address("127.0.0.1", port) for port in (7_001, 7_002, 7_003))
REPLICA = [b"127.0.0.1", 7_009, b"r"]


@pytest.fixture(autouse=True)
def nobody_connects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "_start_connecting", lambda node: None)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    opened = Cluster(StoreUrl.parse(f"redis+cluster://{A}"))
    yield opened
    opened.close()


def row(first: int, last: int, port: int, host: bytes | None = b"127.0.0.1") -> list[object]:
    """A line of CLUSTER SLOTS."""
    return [first, last, [host, port, b"id", []], REPLICA]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://db", SingleServer),
        ("unix:///run/v.sock", SingleServer),
        ("redis+cluster://db", Cluster),
        ("redis+sentinel://db/mail", SentinelGroup),
    ],
)
async def test_the_url_says_which(url: str, kind: type) -> None:
    opened = open_topology(StoreUrl.parse(url))
    assert isinstance(opened, kind)
    assert opened.clustered == (kind is Cluster)
    opened.close()


async def test_a_map_gives_every_slot_its_node(cluster: Cluster) -> None:
    cluster._take(SlotMap.read(A, [row(0, 5_460, 7_001), row(5_461, 10_922, 7_002), row(10_923, 16_383, 7_003)]))
    asked = (0, 5_460, 5_461, 10_922, 10_923, 16_383)
    assert [cluster.node(slot).address for slot in asked] == [A, A, B, B, C, C]
    assert {node.address for node in cluster.nodes()} == {A, B, C}


@pytest.mark.parametrize("unnamed", [None, b""])
async def test_a_server_that_does_not_know_its_name_is_the_one_that_was_asked(
    cluster: Cluster, unnamed: bytes | None
) -> None:
    cluster._take(SlotMap.read(Address("db.example", 1), [row(0, 16_383, 7_002, unnamed)]))
    assert cluster.node(0).address == Address("db.example", 7_002)


async def test_a_slot_of_nobody_is_unavailable_and_asked_about(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(cluster, "learn_soon", lambda: asked.append(1))
    cluster._take(SlotMap.read(A, [row(0, 99, 7_001)]))
    with pytest.raises(StoreUnavailable, match="no server holds slot 100"):
        cluster.node(100)
    assert asked == [1]


async def test_what_a_map_says_nothing_about_stays_and_is_asked_again(cluster: Cluster) -> None:
    cluster._take(SlotMap.read(A, [row(0, 99, 7_001), row(100, 9_999, 7_002), row(10_000, 16_383, 7_003)]))
    cluster._take(SlotMap.read(A, [row(0, 199, 7_001)]))
    assert [cluster.node(slot).address for slot in (199, 200, 10_000)] == [A, B, C]
    assert {node.address for node in cluster._to_ask(())} == {A, B, C}
    assert not cluster._retired


async def test_whoever_is_in_doubt_is_asked_last_and_believed_when_nobody_else_knows_as_much(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {7_001: [row(0, 16_383, 7_001)], 7_002: [row(0, 16_383, 7_002)]}

    async def says(node: Node, *commands: tuple[str, ...], timeout_seconds: float = 0) -> list[object]:
        return [whole[node.address.port]]

    monkeypatch.setattr(Node, "ask", says)
    cluster._take(SlotMap.read(A, [row(0, 99, 7_001), row(100, 16_383, 7_002)]))
    for doubted, other in ((A, B), (B, A)):
        cluster._doubted = {cluster._node_at(doubted)}
        await cluster._learn()
        assert cluster.node(0).address == other
        cluster._take(SlotMap.read(A, [row(0, 99, 7_001), row(100, 16_383, 7_002)]))
    whole[7_001] = []
    cluster._doubted = {cluster._node_at(B)}
    await cluster._learn()
    assert cluster.node(0).address == B
    assert not cluster._doubted


async def test_a_slot_that_there_is_not_is_no_redirection(cluster: Cluster) -> None:
    for slot in (-1, SLOTS):
        with pytest.raises(ValueError, match="there is no slot"):
            cluster.moved(slot, B)


@pytest.mark.parametrize(
    "ranges",
    [
        [row(0, 99, 70_000)],
        [row(0, 99, 0)],
        [row(0, SLOTS, 7_001)],
        [row(5, 4, 7_001)],
        [[0, 99]],
        [[b"a", b"b", REPLICA]],
        7,
    ],
)
async def test_nonsense_is_no_map(cluster: Cluster, ranges: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async def says(node: Node, *commands: tuple[str, ...], timeout_seconds: float = 0) -> list[object]:
        return [ranges]

    monkeypatch.setattr(Node, "ask", says)
    with pytest.raises(StoreUnavailable, match=r"^127.0.0.1:7001: CLUSTER SLOTS: the server talks nonsense: "):
        await cluster._learn()


async def test_a_redirection_is_learned_at_once_and_the_map_asked_for(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(cluster, "learn_soon", lambda: asked.append(1))
    cluster._take(SlotMap.read(A, [row(0, 16_383, 7_001)]))
    assert cluster.moved(7, B).address == B
    assert [cluster.node(slot).address for slot in (6, 7, 8)] == [A, B, A]
    assert asked == [1]


async def test_whoever_wants_the_map_again_right_after_a_round_gets_another_one(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def learn() -> None:
        cluster._take(SlotMap.read(A, [row(0, 16_383, 7_001)]))

    monkeypatch.setattr(cluster, "_learn", learn)
    monkeypatch.setattr(Node, "connected", True)
    async with asyncio.timeout(5):
        for _ in range(3):
            await cluster.relearned(asyncio.get_running_loop().time() + 1_000)


async def test_a_temporary_redirection_is_not_learned(cluster: Cluster) -> None:
    cluster._take(SlotMap.read(A, [row(0, 16_383, 7_001)]))
    assert cluster.at(B).address == B
    assert cluster.node(7).address == A


async def test_the_same_server_stays_the_same_node(cluster: Cluster) -> None:
    cluster._take(SlotMap.read(A, [row(0, 16_383, 7_002)]))
    node = cluster.node(0)
    cluster._take(SlotMap.read(A, [row(0, 99, 7_002), row(100, 16_383, 7_003)]))
    assert cluster.node(0) is node
    assert cluster.at(B) is node


async def test_who_has_left_the_map_is_let_go_after_a_while(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Address] = []
    monkeypatch.setattr(Node, "close", lambda node: closed.append(node.address))
    monkeypatch.setattr(module, "RETIRE_SECONDS", 0.01)
    cluster._take(SlotMap.read(A, [row(0, 99, 7_002), row(100, 16_383, 7_003)]))
    cluster._take(SlotMap.read(A, [row(0, 16_383, 7_003)]))
    assert closed == []
    async with asyncio.timeout(5):
        while not closed:
            await asyncio.sleep(0)
    assert closed == [B]
    assert not cluster._retired


async def test_closing_lets_go_of_everybody_who_has_not_been_let_go_yet(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: set[Address] = set()
    monkeypatch.setattr(Node, "close", lambda node: closed.add(node.address))
    cluster._take(SlotMap.read(A, [row(0, 99, 7_002), row(100, 16_383, 7_003)]))
    cluster._take(SlotMap.read(A, [row(0, 16_383, 7_003)]))
    cluster.close()
    assert closed == {B, C}


@pytest.mark.parametrize("url", ["redis://127.0.0.1:7001", "redis+sentinel://127.0.0.1:7001/mail"])
async def test_a_server_of_a_cluster_that_is_addressed_alone_is_a_mistake(url: str) -> None:
    opened = open_topology(StoreUrl.parse(url))
    with pytest.raises(StoreMisuse, match=r"is part of a cluster \(slot 7 is at 127.0.0.1:7002\)"):
        opened.moved(7, B)
    with pytest.raises(StoreMisuse, match=r"is part of a cluster"):
        opened.at(B)
    opened.close()
