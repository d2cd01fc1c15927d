"""Whom Sentinels name, and what is said when they name nobody."""

import asyncio
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.store.address import Address, StoreUrl
from reputation.store.redis_store import RedisStore
from reputation.store.sentinel import primary_of
from tests import clusters
from tests.builders import charge, tracked
from tests.cluster.byte_server import byte_server
from tests.clusters import GROUP, SentinelServers, sentinel_group
from tests.servers import RedisServer, redis_binary, tls_files


@pytest.fixture(scope="module")
def group() -> Iterator[SentinelServers]:
    with sentinel_group() as started:
        yield started


async def asked(url: str) -> Address:
    return await primary_of(StoreUrl.parse(url))


def places(group: SentinelServers) -> list[str]:
    return [f"127.0.0.1:{sentinel.port}" for sentinel in group.sentinels]


async def test_the_primary_is_named(group: SentinelServers) -> None:
    assert await asked(group.url) == Address("127.0.0.1", group.primary.port)


async def test_sentinels_that_are_away_or_hang_hold_nobody_up(group: SentinelServers) -> None:
    """One refuses connections, one takes them and says nothing; with three that answer it is a majority of five."""
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        others = ["127.0.0.1:1", f"127.0.0.1:{hangs.getsockname()[1]}"]
        started = time.monotonic()
        url = f"redis+sentinel://{','.join([*others, *places(group)])}/{GROUP}"
        assert await asked(url) == Address("127.0.0.1", group.primary.port)
        assert time.monotonic() - started < 0.5, "the one that hangs is given a second"


async def test_without_a_majority_most_votes_count(group: SentinelServers) -> None:
    url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:2,{places(group)[0]}/{GROUP}"
    assert await asked(url) == Address("127.0.0.1", group.primary.port)


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("redis+sentinel://{sentinel}/other", StoreMisuse, "{sentinel}: this Sentinel knows no group 'other'"),
        ("redis+sentinel://{server}/reputon", StoreMisuse, "{server}: this is no Sentinel; they listen on port 26379"),
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/reputon", StoreUnavailable, "127.0.0.1:2: cannot connect"),
        ("rediss+sentinel://{sentinel}/reputon?verify=no", StoreUnavailable, "if that port speaks no TLS: redis://"),
        (
            "redis+sentinel://no-such-host.invalid/reputon",
            StoreUnavailable,
            "no-such-host.invalid:26379: cannot connect",
        ),
    ],
)
async def test_it_is_said_why_nobody_is_named(
    group: SentinelServers, url: str, kind: type[StoreError], said: str
) -> None:
    names = {"sentinel": places(group)[0], "server": f"127.0.0.1:{group.primary.port}"}
    async with asyncio.timeout(5):
        with pytest.raises(kind) as raised:
            await asked(url.format(**names))
    assert said.format(**names) in str(raised.value)
    assert len(str(raised.value)) < 300


def let_in(sentinel: RedisServer) -> None:
    """Let anybody in again."""
    with redis.Redis(port=sentinel.port, username="watcher", password="pass-word", protocol=2) as client:
        client.execute_command("ACL", "SETUSER", "default", "on")


async def test_sentinels_may_have_the_password_of_their_servers_or_none(group: SentinelServers) -> None:
    first, second, _ = group.sentinels
    hosts = f"127.0.0.1:{first.port},127.0.0.1:{second.port}"
    primary = Address("127.0.0.1", group.primary.port)
    try:
        for sentinel in (first, second):
            sentinel.command("ACL", "SETUSER", "watcher", "on", ">pass-word", "+@all")
            sentinel.command("ACL", "SETUSER", "default", "off")
        assert await asked(f"redis+sentinel://watcher:pass-word@{hosts}/{GROUP}") == primary
        with pytest.raises(StoreMisuse, match="the server wants a password"):
            await asked(f"redis+sentinel://{hosts}/{GROUP}")
        with pytest.raises(StoreMisuse, match="user or password are wrong") as raised:
            await asked(f"redis+sentinel://watcher:other-word@{hosts}/{GROUP}")
        assert "other-word" not in str(raised.value)
    finally:
        for sentinel in (first, second):
            let_in(sentinel)
    assert await asked(f"redis+sentinel://watcher:pass-word@{hosts}/{GROUP}") == primary, "nobody asks for it"


async def test_sentinels_are_asked_by_tls(tmp_path: Path) -> None:
    watched = RedisServer(redis_binary(), tmp_path)
    sentinel = clusters.Sentinel(redis_binary(), tmp_path, tls=tls_files(tmp_path))
    sentinel.configure(watched, watched, [])
    with ExitStack() as stack:
        sentinel.start()
        stack.callback(sentinel.kill)
        assert sentinel.tls is not None
        place = f"127.0.0.1:{sentinel.port}"
        url = f"rediss+sentinel://{place}/{GROUP}?ca={sentinel.tls.ca}"
        assert await asked(url) == Address("127.0.0.1", watched.port)
        with pytest.raises(StoreUnavailable, match="names the authority to trust"):
            await asked(f"rediss+sentinel://{place}/{GROUP}")


@pytest.mark.parametrize(
    "reply",
    [
        *(b"*2\r\n$9\r\n127.0.0.1\r\n$3\r\nabc\r\n", b"*2\r\n$9\r\n127.0.0.1\r\n$5\r\n70000\r\n"),
        *(b"*1\r\n$9\r\n127.0.0.1\r\n", b"*2\r\n$3\r\na\0b\r\n$4\r\n7000\r\n", b"$2\r\nhi\r\n", b":7\r\n"),
        *(b"*2\r\n$3\r\na\xffb\r\n$4\r\n7000\r\n", b"-ERR boom\r\n", b"HTTP/1.1 400\r\n\r\n"),
    ],
)
async def test_nonsense_is_said_to_be_and_ends_nothing(reply: bytes, caplog: pytest.LogCaptureFixture) -> None:
    async with byte_server(lambda command: reply if command[0].upper() == b"SENTINEL" else b"+OK\r\n") as server:
        place = f"127.0.0.1:{server.port}"
        with pytest.raises(StoreError, match=rf"^{place}: "):
            await asked(f"redis+sentinel://{place}/{GROUP}")
        store = RedisStore(f"redis+sentinel://{place}/{GROUP}", deadline_seconds=0.3)
        for _ in range(3):
            with pytest.raises(StoreError, match=rf"^{place}: "):
                await store.decide([charge(tracked(60))])
            await asyncio.sleep(0.1)
        await store.close()
    assert "never retrieved" not in caplog.text
