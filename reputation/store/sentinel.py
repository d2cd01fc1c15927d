"""Whom Sentinel names: asked through redis-py, which knows how several of them are asked."""

from collections.abc import Mapping
from typing import Any

from redis.asyncio import Sentinel
from redis.exceptions import RedisError

from reputation.errors import StoreUnavailable
from reputation.store.address import Address, StoreUrl
from reputation.store.node import CONNECT_SECONDS


async def primary_of(url: StoreUrl) -> Address:
    """The primary that the Sentinels of a URL name. Raises `StoreUnavailable`.

    Sentinels that want a password get the one of the servers.
    """
    ways_in: list[dict[str, str | None]] = [{}]
    if url.password:
        ways_in.append({"username": url.username or None, "password": url.password})
    for credentials in ways_in:
        try:
            return await _named_by_sentinel(url, credentials)
        except (RedisError, OSError) as error:
            failed: Exception = error
    raise StoreUnavailable(f"Sentinel names no primary for {url.service!r}: {failed}") from failed


async def _named_by_sentinel(url: StoreUrl, credentials: Mapping[str, str | None]) -> Address:
    options: dict[str, Any] = {"socket_timeout": CONNECT_SECONDS, **credentials}
    if url.tls is not None:
        of = url.tls_options
        trusting = of.get("verify") == "no"
        options |= {
            "ssl": True,
            "ssl_ca_certs": of.get("ca"),
            "ssl_certfile": of.get("cert"),
            "ssl_keyfile": of.get("key"),
            "ssl_cert_reqs": "none" if trusting else "required",
            "ssl_check_hostname": not trusting,
        }
    places = [(address.host, address.port) for address in url.addresses]
    sentinel = Sentinel(places, sentinel_kwargs=options)  # type: ignore[no-untyped-call] # untyped there
    try:
        host, port = await sentinel.discover_master(url.service)
    finally:
        for client in sentinel.sentinels:
            await client.aclose()
    return Address(str(host), int(port))
