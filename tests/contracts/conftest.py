"""Every implementation of the Store protocol, under one name: `store`."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from reputation.contracts import Store
from reputation.store.embedded import open_embedded
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from tests.contracts.asking import PATIENCE_SECONDS

OpenStore = Callable[[], Awaitable[Store]]

SERVERS = {
    "valkey": "valkey",
    "redis": "redis_7",
    "redis-cluster": "redis_cluster_7",
    "valkey-cluster": "valkey_cluster_9",
}
"""Whatever has a URL, and the fixture that starts it."""


@pytest.fixture(params=["memory", "embedded", *SERVERS])
def open_store(request: pytest.FixtureRequest, prefix: str) -> OpenStore:
    """How to open an empty store: in memory, on the embedded Valkey, on one server, on a cluster of three."""
    if request.param == "embedded":
        directory = request.getfixturevalue("embedded_directory")
        return lambda: open_embedded(directory, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
    url = request.getfixturevalue(SERVERS[request.param]).url if request.param in SERVERS else ""

    async def opened() -> Store:
        return RedisStore(url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS) if url else MemoryStore()

    return opened


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """An empty store."""
    opened = await open_store()
    yield opened
    await opened.close()
