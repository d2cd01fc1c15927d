"""The composition root: builds an engine out of a configuration. The only module that knows every adapter."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from reputation.config import SERVER_SCHEMES, Settings, StoreSettings
from reputation.config_files import load
from reputation.contracts import Lookups, Store
from reputation.engine import Engine
from reputation.errors import ConfigError
from reputation.list_files import check_lists
from reputation.lookups.filters.asking import check_filters
from reputation.lookups.looking import check_lookups, open_lookups
from reputation.metrics import Metrics
from reputation.policy import Policy
from reputation.python_policies import load_functions
from reputation.spelling import organisational_domain
from reputation.store.address import StoreUrl
from reputation.store.embedded import open_embedded
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore

MOST_LOCAL_KEYS = 100_000
"""What a process counts by itself while the store is away; about 2 kB each, of interpolated rules up to 60."""

log = logging.getLogger("reputon.engine")


def settings_of(path: Path) -> Settings:
    """Read a configuration file, the URL of its store, and the files that it names; asks no server.

    Raises `ConfigError` with one line per mistake.
    """
    return read(path)[0]


def read(path: Path) -> tuple[Settings, Policy]:
    """The same, and the policy: files in Python are run once for both."""
    settings = load(path)
    if settings.store.url.partition(":")[0] in SERVER_SCHEMES:
        try:
            StoreUrl.parse(settings.store.url)
        except ConfigError as error:
            raise ConfigError(f"{path}: [store] url: {error}") from None
    try:
        check_lookups(settings.lookups)
    except ConfigError as error:
        raise ConfigError(f"{path}: [lookups] {error}") from None
    try:
        check_filters(settings.filter_)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        check_lists(settings, settings.spelling())
    except ConfigError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in str(error).splitlines())) from None
    try:
        return settings, policy_of(settings)
    except ConfigError as error:
        raise ConfigError(f"{path}: [[python]] {error}") from None


def policy_of(settings: Settings) -> Policy:
    """The rules, compiled, and the policies in Python, whose files are run for it; raises `ConfigError`."""
    return settings.policy(load_functions(settings.python))


async def open_store(settings: StoreSettings) -> Store:
    """The store that `settings.url` names; an embedded one is started. The caller closes it.

    A server elsewhere is not asked yet: mail flows, as the rules say, while it is away.
    """
    scheme, _, rest = settings.url.partition(":")
    deadline_seconds = settings.deadline_seconds
    if scheme == "memory":
        return MemoryStore()
    if scheme == "embedded":
        return await open_embedded(Path(rest), prefix=settings.prefix, deadline_seconds=deadline_seconds)
    return RedisStore(settings.url, prefix=settings.prefix, deadline_seconds=deadline_seconds)


@asynccontextmanager
async def open_engine(
    settings: Settings, metrics: Metrics | None = None, *, serving: bool = True
) -> AsyncIterator[Engine]:
    """An engine for as long as the block runs.

    One that is `serving` counts as a process of the fleet, keeps its register up to date, and starts even if the store
    is away; another one only asks, and raises `StoreError` then.
    """
    organisational_domain("localhost")  # loads the public suffix list, which takes as long as many decisions
    if not serving:
        _check_store_exists(settings.store)
    metrics = metrics or Metrics()
    lookups = open_lookups(settings.lookups, metrics, filters=settings.filter_, hostname=settings.smtp.hostname)
    store = await open_store(settings.store)
    try:
        engine = _engine(settings, store, lookups, metrics)
        if serving:
            async with _served(engine):
                yield engine
        else:
            await engine.registrar.refresh()
            await engine.registrar.lists.start()
            yield engine
    finally:
        await store.close()
        await lookups.close()


def _check_store_exists(settings: StoreSettings) -> None:
    """Raise `ConfigError` where somebody who only asks would make a store to ask."""
    scheme, _, rest = settings.url.partition(":")
    if scheme == "embedded" and not Path(rest).exists():
        raise ConfigError(f"there is no store in {rest}: give --config, or start reputon first")


def _engine(settings: Settings, store: Store, lookups: Lookups, metrics: Metrics) -> Engine:
    engine = Engine(
        policy=policy_of(settings),
        store=store,
        fallback=MemoryStore(most_keys=MOST_LOCAL_KEYS),
        spelling=settings.spelling(),
        metrics=metrics,
        lookups=lookups,
        never_ban=settings.never_ban(),
    )
    engine.registrar.lists.use(settings.list_, engine.spelling)
    return engine


@asynccontextmanager
async def _served(engine: Engine) -> AsyncIterator[None]:
    """What runs beside an engine. The register is read before the first event, if it can be."""
    await engine.registrar.start()
    tasks = [asyncio.create_task(job.run(), name=type(job).__name__) for job in (engine.upkeep, engine.registrar)]
    for task in tasks:
        task.add_done_callback(_report)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _report(task: asyncio.Task[None]) -> None:
    """These jobs end when they are told to. One that ends otherwise must not do so in silence."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("%s has ended", task.get_name(), exc_info=error)
