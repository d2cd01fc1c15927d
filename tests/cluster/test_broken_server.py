"""Servers that speak nonsense, stop in the middle, or accept and say nothing: everybody hears so, and nobody storms."""

import asyncio

import pytest

from reputation.errors import StoreUnavailable
from reputation.store.node import CONNECT_SECONDS
from tests.cluster.byte_server import byte_server, is_decision, polite
from tests.cluster.conftest import OpenStore
from tests.cluster.crowd import ALLOWANCE_SECONDS, PATIENCE_SECONDS, become, eventually, heard, one_of, user

ONE = [one_of(user(1))]
HALF = b"*5\r\n:1\r\n:17"


@pytest.mark.parametrize(
    "garbage",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x16\x03\x01\x02\x00", HALF, None],
    ids=["http", "tls", "half", "nothing"],
)
async def test_whoever_waits_is_told_and_the_next_connection_is_a_good_one(
    open_store: OpenStore, garbage: bytes | None
) -> None:
    async with byte_server(polite) as server:
        store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
        assert (await store.decide(ONE)).allowed
        server.replies = lambda command: garbage if is_decision(command) else polite(command)
        calls = [asyncio.create_task(heard(store.decide(ONE))) for _ in range(32)]
        if garbage == HALF:
            await become(lambda: server.asked >= 32)
            server.hang_up()
        answers = await asyncio.gather(*calls)
        assert all(isinstance(each.answer, StoreUnavailable) for each in answers)
        server.replies = polite
        assert (await eventually(lambda: store.decide(ONE))).allowed


async def test_a_server_that_hangs_up_on_every_call_is_not_stormed(open_store: OpenStore) -> None:
    """It lets us in each time: the pause grows although each connection was made."""
    async with byte_server(lambda command: None if is_decision(command) else polite(command)) as server:
        store = open_store(server.url)
        loop = asyncio.get_running_loop()
        until = loop.time() + 1.0
        while loop.time() < until:
            assert isinstance((await heard(store.decide(ONE))).answer, StoreUnavailable)
            await asyncio.sleep(0.001)
        assert 2 <= server.accepted <= 9


async def test_nonsense_in_the_same_breath_as_the_welcome_is_no_connection(open_store: OpenStore) -> None:
    def rude(command: list[bytes]) -> bytes:
        return polite(command) + (b"nonsense\r\n" if command[0] == b"FCALL" else b"")

    async with byte_server(rude) as server:
        store = open_store(server.url, deadline_seconds=0.5)
        with pytest.raises(StoreUnavailable, match="nonsense"):
            await store.decide(ONE)
        server.replies = polite
        assert (await eventually(lambda: store.decide(ONE))).allowed


async def test_a_server_that_accepts_and_says_nothing_is_not_there(open_store: OpenStore) -> None:
    async with byte_server(lambda command: b"") as server:
        store = open_store(server.url)
        answers = await asyncio.gather(*(heard(store.decide(ONE)) for _ in range(64)))
        assert all(isinstance(each.answer, StoreUnavailable) for each in answers)
        assert max(each.seconds for each in answers) < 0.05 + ALLOWANCE_SECONDS
        started = asyncio.get_running_loop().time()
        with pytest.raises(StoreUnavailable, match="deadline"):
            await store.ping()
        assert asyncio.get_running_loop().time() - started < CONNECT_SECONDS + ALLOWANCE_SECONDS
        assert server.accepted <= 2


async def test_a_server_that_has_just_become_the_primary_is_asked_once_more(open_store: OpenStore) -> None:
    """It has refused before, and the map was right already when that was heard."""

    def promoted(command: list[bytes]) -> bytes:
        if is_decision(command) and server.asked < 2:
            return b"-READONLY You can't write against a read only replica.\r\n"
        return polite(command)

    async with byte_server(polite) as server:
        server.replies = promoted
        store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
        assert (await store.decide(ONE)).allowed
        assert server.asked == 2


async def test_replies_that_trickle_in_are_replies(open_store: OpenStore) -> None:
    async with byte_server(polite) as server:
        store = open_store(server.url, deadline_seconds=PATIENCE_SECONDS)
        reply, sent = polite([b"FCALL", b"decide", b"1"]) * 3, 0
        assert (await store.decide(ONE)).allowed
        server.replies = lambda command: b""
        calls = [asyncio.create_task(store.decide(ONE)) for _ in range(3)]
        await become(lambda: server.asked >= 4)
        [writer] = [writer for writer in server._writers if not writer.is_closing()]
        while sent < len(reply):
            writer.write(reply[sent : sent + 7])
            sent += 7
            await asyncio.sleep(0.001)
        assert [answer.allowed for answer in await asyncio.gather(*calls)] == [True, True, True]
