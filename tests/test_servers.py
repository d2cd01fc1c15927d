"""The servers that tests start: found, or the test says what to install; and they do what the tests rely on."""

import os
import socket
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress
from typing import Protocol

import pytest
import redis

from tests.clusters import (
    SLOTS,
    ClusterNode,
    ClusterServers,
    SentinelServers,
    redis_cluster,
    sentinel_group,
    valkey_cluster,
)
from tests.servers import RedisServer, free_port, redis_server_tls, require_binary


def test_a_missing_program_skips_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPUTON_NO_SKIPS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^not installed: apt-get install -y some-package$"):
        require_binary("no-such-program", "some-package")


def test_a_missing_program_fails_where_nothing_may_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPUTON_NO_SKIPS", "1")
    with pytest.raises(pytest.fail.Exception, match=r"^not installed: apt-get install -y some-package$"):
        require_binary("no-such-program", "some-package")


def test_a_daemon_is_found_outside_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("tests.servers.SYSTEM_PATH", "/bin")
    assert require_binary("sh", "dash") == "/bin/sh"


def test_no_port_is_given_twice() -> None:
    assert len({free_port() for _ in range(500)}) == 500


# TLS


@pytest.fixture(scope="module")
def tls_server() -> Iterator[RedisServer]:
    with redis_server_tls() as server:
        yield server


def ask_over_tls(server: RedisServer, context: ssl.SSLContext, host: str) -> bytes:
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python 3.13 does by itself
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as connection,
    ):
        connection.sendall(b"PING\r\n")
        return connection.recv(100)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_tls_with_the_ca_of_the_url(tls_server: RedisServer, host: str) -> None:
    ca = tls_server.url.partition("?ca=")[2]
    assert tls_server.url.startswith(f"rediss://127.0.0.1:{tls_server.port}?")
    assert ask_over_tls(tls_server, ssl.create_default_context(cafile=ca), host) == b"+PONG\r\n"


def test_tls_is_refused_without_the_ca(tls_server: RedisServer) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask_over_tls(tls_server, ssl.create_default_context(), "127.0.0.1")


def test_tls_only(tls_server: RedisServer) -> None:
    assert tls_server.command("PING")
    with socket.create_connection(("127.0.0.1", tls_server.port), timeout=5) as plain:
        plain.sendall(b"PING\r\n")
        with suppress(ConnectionResetError):
            assert plain.recv(100) == b""


def test_a_server_can_ask_for_a_certificate_of_the_client() -> None:
    with redis_server_tls("--tls-auth-clients", "yes") as server:
        assert server.tls is not None
        assert server.command("PING")
        context = ssl.create_default_context(cafile=server.tls.ca)
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            ask_over_tls(server, context, "127.0.0.1")
        context.load_cert_chain(server.tls.certificate, server.tls.key)
        assert ask_over_tls(server, context, "127.0.0.1") == b"+PONG\r\n"


# Clusters


class StartCluster(Protocol):
    def __call__(
        self, nodes: int = ..., replicas: int = ..., *options: str
    ) -> AbstractContextManager[ClusterServers]: ...


@pytest.fixture(scope="module", params=[redis_cluster, valkey_cluster], ids=["redis", "valkey"])
def cluster(request: pytest.FixtureRequest) -> Iterator[ClusterServers]:
    """Shared: a test leaves every server running and settled, but perhaps in another role."""
    start: StartCluster = request.param
    with start(3, 1, "--maxmemory", "64mb") as servers:
        yield servers


def keys_of_one_slot(cluster: ClusterServers, tag: str, count: int) -> tuple[int, list[str]]:
    """The slot of a tag, and keys in it, set to their own names."""
    slot = cluster.command("CLUSTER", "KEYSLOT", tag)
    keys = [f"{{{tag}}}{number}" for number in range(count)]
    for key in keys:
        cluster.server_of(slot).command("SET", key, key)
    return slot, keys


def another_primary(cluster: ClusterServers, than: ClusterNode) -> ClusterNode:
    return next(server for server in cluster.primaries if server is not than)


def test_a_cluster_of_primaries_with_a_replica_each(cluster: ClusterServers) -> None:
    primaries = cluster.primaries
    assert len(primaries) == len(cluster.replicas) == 3
    assert [len(cluster.replicas_of(primary)) for primary in primaries] == [1, 1, 1]
    assert {cluster.server_of(slot) for slot in range(0, SLOTS, SLOTS // 10)} == set(primaries)
    assert cluster.url.removeprefix("redis+cluster://").split(",") == [f"127.0.0.1:{s[0].port}" for s in cluster.shards]


def set_on_both(primary: RedisServer, key: str) -> None:
    """Set a key, and wait until the replica has it."""
    with primary.client() as client:  # WAIT is about the writes of its own connection
        client.set(key, "copied")
        assert client.wait(1, 5_000) == 1


def test_every_server_of_a_cluster_has_the_options(cluster: ClusterServers) -> None:
    assert {server.command("INFO", "memory")["maxmemory"] for server in cluster.servers} == {64 << 20}


def test_a_replica_has_what_its_primary_has(cluster: ClusterServers) -> None:
    slot, [key] = keys_of_one_slot(cluster, "copied", 1)
    primary = cluster.server_of(slot)
    [replica] = cluster.replicas_of(primary)
    set_on_both(primary, key)
    assert replica.command("CLUSTER", "GETKEYSINSLOT", slot, 10) == [key.encode()]


def test_migrate_moves_a_slot_with_its_keys(cluster: ClusterServers) -> None:
    slot, keys = keys_of_one_slot(cluster, "moved", 25)
    source = cluster.server_of(slot)
    target = another_primary(cluster, than=source)
    assert cluster.migrate(slot, target, keys_at_once=10) == 25
    assert cluster.server_of(slot) is target
    assert [target.command("GET", key) for key in keys] == [key.encode() for key in keys]
    assert source.command("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
    for server in cluster.servers:
        if server not in (target, *cluster.replicas_of(target)):
            with pytest.raises(redis.exceptions.MovedError) as moved:
                server.command("GET", keys[0])
            assert moved.value.port == target.port


def test_a_migration_can_stop_in_the_middle(cluster: ClusterServers) -> None:
    slot, keys = keys_of_one_slot(cluster, "halfway", 4)
    source = cluster.server_of(slot)
    target = another_primary(cluster, than=source)
    cluster.begin_migration(slot, target)
    assert cluster.move_keys(slot, target, 3) == 3
    assert cluster.server_of(slot) is source

    [kept] = source.command("CLUSTER", "GETKEYSINSLOT", slot, 10)
    assert source.command("GET", kept) == kept
    gone = next(key for key in keys if key.encode() != kept)
    with pytest.raises(redis.exceptions.AskError) as ask:
        source.command("GET", gone)
    assert ask.value.port == target.port
    with pytest.raises(redis.exceptions.MovedError):
        target.command("GET", gone)  # without ASKING

    assert cluster.move_keys(slot, target, 3) == 1
    assert cluster.move_keys(slot, target, 3) == 0
    cluster.end_migration(slot, target)
    assert target.command("GET", gone) == gone.encode()


def test_a_replica_takes_over_from_a_killed_primary(cluster: ClusterServers) -> None:
    slot, [key] = keys_of_one_slot(cluster, "failover", 1)
    old = cluster.server_of(slot)
    [replica] = cluster.replicas_of(old)
    set_on_both(old, key)
    old.kill()
    assert cluster.wait_for_failover(old) is replica
    assert cluster.server_of(slot) is replica
    assert replica.command("GET", key) == b"copied"
    assert len(cluster.primaries) == 3
    assert old not in cluster.replicas

    old.start()
    cluster.wait_until_settled()
    assert cluster.replicas_of(replica) == [old]


def test_a_replica_takes_over_from_a_frozen_primary(cluster: ClusterServers) -> None:
    old = cluster.primaries[0]
    old.pause()
    new = cluster.wait_for_failover(old)
    assert new in cluster.shards[0]
    old.resume()
    cluster.wait_until_settled()
    assert cluster.replicas_of(new) == [old]


# Sentinel groups


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelServers]:
    """Shared likewise."""
    with sentinel_group() as servers:
        yield servers


def test_all_sentinels_name_the_primary(group: SentinelServers) -> None:
    addresses = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in group.sentinels)
    assert group.url == f"redis+sentinel://{addresses}/reputon"
    assert {sentinel.primary_port for sentinel in group.sentinels} == {group.primary.port}
    assert group.primary is not group.replica


def test_the_sentinels_name_the_replica_when_the_primary_is_killed(group: SentinelServers) -> None:
    old, replica = group.primary, group.replica
    set_on_both(old, "key")
    old.kill()
    assert group.wait_for_failover(old) is replica
    assert {sentinel.primary_port for sentinel in group.sentinels} == {replica.port}
    assert replica.command("GET", "key") == b"copied"

    old.start()
    group.wait_until_settled()
    assert group.replica is old
    assert old.command("GET", "key") == b"copied"


def test_a_failover_with_a_sentinel_less(group: SentinelServers) -> None:
    first, *_ = group.sentinels
    first.kill()
    old = group.primary
    old.pause()
    new = group.wait_for_failover(old)
    old.resume()
    first.start()
    group.wait_until_settled()
    assert (group.primary, group.replica) == (new, old)
    assert first.primary_port == new.port


def test_nothing_is_left_behind() -> None:
    with sentinel_group() as group:
        servers = [*group.pair, *group.sentinels]
        pids = [server.pid for server in servers]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert not any(server.directory.exists() for server in servers)
