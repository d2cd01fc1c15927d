"""Every implementation of the Store protocol, under one name: `store`."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from reputation.contracts import Store
from reputation.store.embedded import open_embedded
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore

OpenStore = Callable[[], Awaitable[Store]]

PATIENCE_SECONDS = 10.0
"""A machine that is busy is not a store that is away."""


@pytest.fixture(params=["memory", "embedded", "redis"])
def open_store(request: pytest.FixtureRequest, prefix: str) -> OpenStore:
    """How to open an empty store: in memory, on the embedded Valkey, on Debian's Redis."""
    if request.param == "embedded":
        directory = request.getfixturevalue("embedded_directory")
        return lambda: open_embedded(directory, prefix=prefix, timeout_seconds=PATIENCE_SECONDS)
    url = request.getfixturevalue("redis_7").url if request.param == "redis" else ""

    async def opened() -> Store:
        return RedisStore(url, prefix=prefix, timeout_seconds=PATIENCE_SECONDS) if url else MemoryStore()

    return opened


@pytest.fixture
async def store(open_store: OpenStore) -> AsyncIterator[Store]:
    """An empty store."""
    opened = await open_store()
    yield opened
    await opened.close()
