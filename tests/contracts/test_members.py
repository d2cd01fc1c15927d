"""What every store promises about sets that others fill: `RegisterStore.members`."""

import random
from collections.abc import AsyncIterator

import pytest

from reputation.errors import StoreMisuse, StoreUnavailable
from reputation.store import redis_store
from reputation.store.functions import slot_of_name
from reputation.store.memory import MemoryStore
from reputation.store.node import PERMISSIONS
from reputation.store.redis_store import MEMBERS_AT_ONCE, RedisStore
from tests.clusters import ClusterServers, redis_cluster
from tests.contracts.asking import PATIENCE_SECONDS
from tests.contracts.conftest import SERVERS
from tests.servers import RedisServer


class Filled:
    """A store, and how others put something into its sets."""

    def __init__(self, store: RedisStore | MemoryStore, server: RedisServer | ClusterServers | None) -> None:
        self.store, self.server = store, server

    def add(self, name: str, *members: str | bytes) -> None:
        if isinstance(self.store, MemoryStore):
            texts = [each if isinstance(each, str) else each.decode("utf-8", "surrogateescape") for each in members]
            self.store.sets[name] = self.store.sets.get(name, frozenset()).union(texts)
        elif isinstance(self.server, ClusterServers):
            self.server.server_of(slot_of_name(name)).command("SADD", name, *members)
        elif self.server is not None:
            self.server.command("SADD", name, *members)


@pytest.fixture(params=["memory", *SERVERS])
async def filled(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Filled]:
    server = request.getfixturevalue(SERVERS[request.param]) if request.param in SERVERS else None
    store = RedisStore(server.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS) if server else MemoryStore()
    yield Filled(store, server)
    await store.close()


async def test_a_set_that_is_not_there_is_empty(filled: Filled, prefix: str) -> None:
    assert await filled.store.members(f"{prefix}-none") == frozenset()


@pytest.mark.parametrize("name", ["{}-vip", "{}-customers of ours", "{}{{tag}}x", "{}{{}}x", "{}{{x", "}}{}{{", "ü-{}"])
async def test_a_set_s_name_is_used_as_it_is(filled: Filled, prefix: str, name: str) -> None:
    filled.add(name.format(prefix), "192.0.2.7", "müller@example.com", "bob@example.net,alice@example.com")
    members = {"192.0.2.7", "müller@example.com", "bob@example.net,alice@example.com"}
    assert await filled.store.members(name.format(prefix)) == members


async def test_numbers_and_odd_bytes_are_members_too(filled: Filled, prefix: str) -> None:
    filled.add(f"{prefix}-a", "1", "2")
    filled.add(f"{prefix}-b", b"\xff\x00", "")
    assert await filled.store.members(f"{prefix}-a") == {"1", "2"}
    assert await filled.store.members(f"{prefix}-b") == {"\udcff\x00", ""}


async def test_a_large_set_is_read_to_its_end(filled: Filled, prefix: str) -> None:
    members = [f"user{number}@example.com" for number in range(3 * MEMBERS_AT_ONCE)]
    filled.add(f"{prefix}-large", *members)
    assert await filled.store.members(f"{prefix}-large") == set(members)


# Servers


@pytest.fixture(params=["redis_7", "valkey"])
async def on_server(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Filled]:
    server: RedisServer = request.getfixturevalue(request.param)
    store = RedisStore(server.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
    yield Filled(store, server)
    await store.close()


async def test_more_members_than_there_may_be_are_misuse(
    on_server: Filled, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_store, "MAX_MEMBERS", 3)
    on_server.add(f"{prefix}-vip", "a", "b", "c")
    assert len(await on_server.store.members(f"{prefix}-vip")) == 3
    on_server.add(f"{prefix}-vip", "d")
    with pytest.raises(StoreMisuse, match="the set has more than 3 members"):
        await on_server.store.members(f"{prefix}-vip")


async def test_what_is_no_set_is_misuse(on_server: Filled, prefix: str) -> None:
    assert isinstance(on_server.server, RedisServer)
    on_server.server.command("SET", f"{prefix}-vip", "x")
    with pytest.raises(StoreMisuse, match="WRONGTYPE"):
        await on_server.store.members(f"{prefix}-vip")


async def test_a_set_needs_a_permission_of_its_own_to_read_it_and_no_more(on_server: Filled, prefix: str) -> None:
    server, vip = on_server.server, f"set-{prefix}"
    assert isinstance(server, RedisServer)
    on_server.add(vip, "a")
    rules = PERMISSIONS.replace("PREFIX", prefix).split()
    server.command("ACL", "SETUSER", f"user-{prefix}", "reset", "on", ">pw", *rules)
    store = RedisStore(server.url.replace("://", f"://user-{prefix}:pw@"), prefix=prefix, deadline_seconds=1)
    try:
        with pytest.raises(StoreMisuse, match=rf'NOPERM.*; for this set, too: "%R~{vip}"'):
            await store.members(vip)
        server.command("ACL", "SETUSER", f"user-{prefix}", f"%R~{vip}")
        assert await store.members(vip) == {"a"}
    finally:
        await store.close()
        server.command("ACL", "DELUSER", f"user-{prefix}")


async def test_a_server_that_is_away_is_unavailable() -> None:
    store = RedisStore("redis://127.0.0.1:1", deadline_seconds=0.1)
    with pytest.raises(StoreUnavailable):
        await store.members("vip")
    await store.close()


async def test_a_set_that_moves_while_it_is_read_is_not_taken_for_whole(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cursor of one server says nothing to another."""
    vip, members = f"{prefix}-vip", [f"user{number}@example.com" for number in range(3 * MEMBERS_AT_ONCE)]
    slot = slot_of_name(vip)
    with redis_cluster() as cluster:
        owner = cluster.server_of(slot)
        target = random.choice([server for server in cluster.primaries if server is not owner])
        owner.command("SADD", vip, *members)
        store = RedisStore(cluster.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
        sent = store._sent

        async def moving(parts: object, seconds: float) -> object:
            replies = await sent(parts, seconds)  # type: ignore[arg-type]  # as they came
            monkeypatch.undo()
            cluster.migrate(slot, target)
            return replies

        monkeypatch.setattr(store, "_sent", moving)
        with pytest.raises(StoreUnavailable, match="moved to another server"):
            await store.members(vip)
        assert await store.members(vip) == set(members)
        await store.close()
