"""What all tests share: real servers, one of each kind for the whole run, and a fresh key prefix for each test."""

import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from reputation.store.embedded import open_embedded
from tests.clusters import ClusterServers, redis_cluster, valkey_cluster
from tests.servers import RedisServer, redis_server, valkey_server

_numbers = itertools.count()


def pytest_collection_finish() -> None:
    """Eight thousand tests are a heap through which the collector goes for 0.16 s, in which no loop of
    ours would run: it need not look at them again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def redis_7() -> Iterator[RedisServer]:
    """Debian's Redis. Tests share it, so they keep to their `prefix`, and never kill it."""
    with redis_server() as server:
        yield server


@pytest.fixture(scope="session")
def valkey() -> Iterator[RedisServer]:
    """The bundled Valkey, shared likewise."""
    with valkey_server() as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster_7() -> Iterator[ClusterServers]:
    """Three primaries of Debian's Redis, shared likewise."""
    with redis_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def valkey_cluster_9() -> Iterator[ClusterServers]:
    """Three primaries of the bundled Valkey, shared likewise."""
    with valkey_cluster() as cluster:
        yield cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def embedded_directory(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Path]:
    """A data directory whose embedded server runs already; `open_embedded` attaches to it."""
    directory = tmp_path_factory.mktemp("embedded")
    store = await open_embedded(directory)
    yield directory
    await store.close()


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test has."""
    return f"t{next(_numbers)}"
