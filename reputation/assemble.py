"""The composition root: builds an engine out of a configuration. The only module that knows every adapter."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reputation.config import Settings, StoreSettings
from reputation.contracts import Store
from reputation.engine import Engine
from reputation.keys import organisational_domain
from reputation.metrics import Metrics
from reputation.store.embedded import open_embedded
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore


async def open_store(settings: StoreSettings) -> Store:
    """The store that `settings.url` names; an embedded one is started. The caller closes it.

    A server elsewhere is not asked yet: mail flows, as the rules say, while it is away.
    """
    scheme, _, rest = settings.url.partition(":")
    timeout_seconds = max(1.0, settings.deadline_seconds)
    if scheme == "memory":
        return MemoryStore()
    if scheme == "embedded":
        return await open_embedded(Path(rest), prefix=settings.prefix, timeout_seconds=timeout_seconds)
    return RedisStore(settings.url, prefix=settings.prefix, timeout_seconds=timeout_seconds)


@asynccontextmanager
async def open_engine(settings: Settings, metrics: Metrics | None = None) -> AsyncIterator[Engine]:
    """An engine for as long as the block runs."""
    organisational_domain("localhost")  # loads the public suffix list, which takes as long as many decisions
    store = await open_store(settings.store)
    try:
        yield Engine(
            policy=settings.policy(),
            store=store,
            spelling=settings.spelling(),
            metrics=metrics,
            deadline_seconds=settings.store.deadline_seconds,
        )
    finally:
        await store.close()
