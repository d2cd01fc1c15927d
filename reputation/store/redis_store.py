"""The counter store on a Redis or Valkey server, by Redis Functions.

Promises: one round trip per decision; a decision is atomic; the server's clock rules; every key
expires. The functions are loaded when the server does not know them, also after it was replaced. A call that
timed out is never sent again, because it may have been carried out.

Bugs: one server; cluster and sentinel come with the hot-path connection. redis-py spends more time on
a decision than the server does.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import redis.exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from reputation.charges import Answer, Charge, Receipt
from reputation.contracts import Series
from reputation.errors import StoreMisuse, StoreUnavailable
from reputation.keys import Entity, Key, Metric
from reputation.store import functions

MAX_CONNECTIONS = 64
DEFAULT_PREFIX = "rp"

_REFUSED = (redis.exceptions.AuthenticationError, redis.exceptions.AuthorizationError)
"""Wrong credentials: a kind of ConnectionError to redis-py, and yet nothing that goes away by itself."""

_AWAY = (
    redis.exceptions.ConnectionError,
    redis.exceptions.TimeoutError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.ReadOnlyError,
    redis.exceptions.TryAgainError,
    OSError,
)


class RedisStore:
    """Fulfils `reputation.contracts.Store`.

    `url` is a ``redis://``, ``rediss://`` or ``unix://`` URL. Connections are made when they are needed.
    `timeout_seconds` bounds one call, connecting included.
    """

    def __init__(self, url: str, *, prefix: str = DEFAULT_PREFIX, timeout_seconds: float = 1.0) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=MAX_CONNECTIONS,
            timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis = Redis.from_pool(pool)
        self._execute: Callable[..., Awaitable[Any]] = self._redis.execute_command  # redis-py leaves it untyped
        self._prefix = prefix

    async def decide(self, charges: Sequence[Charge], *, now_us: int | None = None) -> Answer:
        at = "" if now_us is None else now_us
        reply = await self._call(functions.DECIDE, *functions.call_of(charges, at, self._prefix))
        return functions.answer_of(charges, reply)

    async def refund(self, receipt: Receipt) -> None:
        await self._call(functions.REFUND, *functions.call_of(receipt.charges, receipt.at_us, self._prefix))

    async def series(self, entity: Entity, *, now_us: int | None = None) -> Sequence[Series]:
        keys = [Key(entity, metric) for metric in Metric]
        at = "" if now_us is None else now_us
        spelled = [key.spelled(self._prefix) for key in keys]
        reply = await self._call(functions.SERIES, len(keys), *spelled, at)
        return [series for key, rings in zip(keys, reply, strict=True) for series in functions.series_of(key, rings)]

    async def ping(self) -> str:
        info = await self._translated(self._redis.info("server"))
        name = "Valkey" if "valkey_version" in info else "Redis"
        version = str(info.get("valkey_version", info["redis_version"]))
        if name == "Redis" and int(version.partition(".")[0]) < 7:
            raise StoreMisuse(f"Redis {version} has no functions: use Redis 7.0 or later, or Valkey 8 or later")
        await self._load_functions()
        return f"{name} {version}"

    async def close(self) -> None:
        await self._redis.aclose()

    async def _call(self, function: str, *arguments: str | int) -> Any:
        try:
            return await self._translated(self._execute("FCALL", function, *arguments))
        except StoreMisuse as error:
            if "Function not found" not in str(error):
                raise
        await self._load_functions()
        return await self._translated(self._execute("FCALL", function, *arguments))

    async def _load_functions(self) -> None:
        try:
            await self._translated(cast(Awaitable[Any], self._redis.function_load(functions.SOURCE)))
        except StoreMisuse as error:
            if "already exists" not in str(error):  # another process was faster
                raise

    @staticmethod
    async def _translated(call: Awaitable[Any]) -> Any:
        try:
            return await call
        except _REFUSED as error:
            raise StoreMisuse(f"the store refused: {error}") from error
        except _AWAY as error:
            raise StoreUnavailable(f"the store is away: {error}") from error
        except redis.exceptions.RedisError as error:
            raise StoreMisuse(f"the store refused: {error}") from error
