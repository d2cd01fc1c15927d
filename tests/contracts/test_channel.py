"""Hearing of changes over every way in to a server, and again after each interruption."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from reputation.store import channel
from reputation.store.address import Address, StoreUrl
from reputation.store.redis_store import RedisStore
from tests.clusters import SentinelServers, sentinel_group
from tests.contracts.asking import PATIENCE_SECONDS
from tests.servers import RedisServer, redis_server, redis_server_tls


@asynccontextmanager
async def listening(url: str, prefix: str) -> AsyncIterator[tuple[RedisStore, AsyncGenerator[None, None]]]:
    """A store, and what it hears; the first of it has been heard."""
    store = RedisStore(url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS)
    try:
        async with aclosing(store.changes()) as changes:
            await next_of(changes)
            yield store, changes
    finally:
        await store.close()


async def next_of(changes: AsyncGenerator[None, None]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        await anext(changes)


async def put(store: RedisStore) -> None:
    await store.enter("ban|ip:192.0.2.7", "{}", expires_us=None, line="{}")


@pytest.mark.parametrize("way", ["tcp", "unix", "password", "user", "tls"])
async def test_changes_are_heard_over(way: str, prefix: str) -> None:
    options = ("--requirepass", "s3cret/@") if way == "password" else ()
    opened = redis_server_tls() if way == "tls" else redis_server(*options)
    with opened as server:
        url = server.unix_url if way == "unix" else server.url
        if way == "password":
            url = url.replace("//", "//:s3cret%2F%40@")
        if way == "user":
            allowed = (
                f"~{prefix}:* &{prefix}:* +@read +@write +fcall +function|load +ping +info +time +publish +subscribe"
            )
            server.command("ACL", "SETUSER", "reputon", "on", ">pass", *allowed.split())
            url = url.replace("//", "//reputon:pass@")
        async with listening(url, prefix) as (store, changes):
            for _ in range(3):
                await put(store)
                await next_of(changes)


async def test_who_may_not_publish_still_changes_the_register(prefix: str) -> None:
    with redis_server() as server:
        allowed = f"~{prefix}:* resetchannels +@read +@write +fcall +function|load +ping +info +time"
        server.command("ACL", "SETUSER", "reputon", "on", ">pass", *allowed.split())
        store = RedisStore(server.url.replace("//", "//reputon:pass@"), prefix=prefix)
        await put(store)
        assert (await store.entries(0)).texts == {"ban|ip:192.0.2.7": "{}"}
        await store.close()


async def test_a_server_that_comes_back_is_heard_again(prefix: str) -> None:
    with redis_server() as server:
        async with listening(server.url, prefix) as (store, changes):
            waiting = asyncio.ensure_future(next_of(changes))
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(0.2)
            assert not waiting.done()
            await asyncio.to_thread(server.start)
            await waiting
            async with asyncio.timeout(PATIENCE_SECONDS):
                await store.ping()
            await put(store)
            await next_of(changes)


async def test_a_server_that_is_silent_is_asked_for_a_sign_of_life(
    redis_7: RedisServer, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "SILENCE_SECONDS", 0.02)
    async with listening(redis_7.url, prefix) as (store, changes):
        waiting = asyncio.ensure_future(next_of(changes))
        await asyncio.sleep(0.2)
        assert not waiting.done(), "a sign of life is no change"
        await put(store)
        await waiting


async def test_a_server_that_hangs_is_given_up(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "SILENCE_SECONDS", 0.02)
    monkeypatch.setattr(channel, "CONNECT_SECONDS", 0.1)
    with redis_server() as server:
        async with listening(server.url, prefix) as (_, changes):
            server.pause()
            waiting = asyncio.ensure_future(next_of(changes))
            await asyncio.sleep(0.5)
            server.resume()
            await waiting  # it has connected anew


QUICK = 6
LEAST_SECONDS = 0.5 * (0.05 + 0.1 + 0.2 + 0.4 + 0.8)
"""Between so many tries, at the shortest."""


async def test_a_server_that_hangs_up_after_each_subscription_is_tried_ever_more_seldom() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"SUBSCRIBE")
        writer.write(b"*3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, aclosing(heard_at(server.sockets[0].getsockname()[1])) as changes:
        started = asyncio.get_running_loop().time()
        for _ in range(QUICK):
            await next_of(changes)
        assert asyncio.get_running_loop().time() - started > LEAST_SECONDS


def heard_at(port: int) -> AsyncGenerator[None, None]:
    async def place() -> Address:
        return Address("127.0.0.1", port)

    return channel.heard("news", StoreUrl.parse(f"redis://127.0.0.1:{port}"), place)


async def test_a_host_that_can_be_no_name_is_tried_again(redis_7: RedisServer) -> None:
    hosts = ["no..name", "a" * 64, "127.0.0.1"]

    async def place() -> Address:
        return Address(hosts.pop(0), redis_7.port)

    async with aclosing(channel.heard("news", StoreUrl.parse(redis_7.url), place)) as changes:
        await next_of(changes)
    assert not hosts


async def test_after_a_failover_the_new_primary_is_heard(prefix: str) -> None:
    def fail_over(group: SentinelServers) -> None:
        old = group.primary
        old.kill()
        group.wait_for_failover(old)

    with sentinel_group() as group:
        async with listening(group.url, prefix) as (store, changes):
            await put(store)
            await next_of(changes)
            await asyncio.to_thread(fail_over, group)
            await next_of(changes)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await store.ping()
            await put(store)
            await next_of(changes)
