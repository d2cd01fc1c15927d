"""Stores on real servers, closed at the end of each test; and no test may leave a task behind."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from reputation.store.redis_store import RedisStore
from tests.clusters import ClusterServers
from tests.servers import RedisServer

OpenStore = Callable[..., RedisStore]
AnyServers = RedisServer | ClusterServers


@pytest.fixture
async def open_store(prefix: str) -> AsyncIterator[OpenStore]:
    """How to open a store at a URL, under a prefix of the test's own."""
    opened: list[RedisStore] = []

    def opening(url: str, **settings: float) -> RedisStore:
        opened.append(RedisStore(url, prefix=prefix, **settings))
        return opened[-1]

    yield opening
    for store in opened:
        await store.close()
    for _ in range(3):  # what was cancelled ends
        await asyncio.sleep(0)
    left = {task.get_name() for task in asyncio.all_tasks()}
    assert not {name for name in left if name.startswith(("connect ", "store topology"))}


@pytest.fixture(params=["redis_7", "valkey"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """A server that all tests share: never to be killed."""
    shared: RedisServer = request.getfixturevalue(request.param)
    return shared


@pytest.fixture(params=["redis_7", "valkey", "redis_cluster_7", "valkey_cluster_9"])
def servers(request: pytest.FixtureRequest) -> AnyServers:
    """One server, or a cluster of three primaries, that all tests share."""
    shared: AnyServers = request.getfixturevalue(request.param)
    return shared


@pytest.fixture(params=["redis", "valkey"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which servers to start, where a test needs some of its own."""
    return str(request.param)


@pytest.fixture(params=["redis_7", "valkey_cluster_9"])
def either(request: pytest.FixtureRequest) -> AnyServers:
    """One server and one cluster of the other kind, where every combination would take too long."""
    shared: AnyServers = request.getfixturevalue(request.param)
    return shared
