"""A client's connection, over loopback: messages in files, time limits, and what is left for the next command."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from mmap import mmap
from pathlib import Path

import pytest

from smtp_frontend import wire as wires
from smtp_frontend.inbox import Message
from smtp_frontend.spool import Spool
from smtp_frontend.wire import ClientGone, Wire

LINES = b"".join(b".%d\r\n" % number for number in range(300_000))
"""More than two megabytes."""
ON_THE_WIRE = LINES.replace(b"\r\n.", b"\r\n..").removeprefix(b".")
CONTENT = LINES.removeprefix(b".")
PATIENT_SECONDS = 10.0


@asynccontextmanager
async def connected(spool: Spool | None = None) -> AsyncIterator[tuple[Wire, asyncio.StreamWriter]]:
    """Our end of a connection, and the client's."""
    accepted = asyncio.Queue[Wire]()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.put_nowait(Wire(reader, writer, 1.0, spool=spool)), "127.0.0.1", 0
    )
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    wire = await accepted.get()
    try:
        yield wire, writer
    finally:
        writer.close()
        await wire.close()
        server.close()
        await server.wait_closed()


async def message_of(wire: Wire, writer: asyncio.StreamWriter, octets: bytes, max_bytes: int = 2**24) -> Message:
    reading = asyncio.create_task(wire.message(max_bytes, PATIENT_SECONDS))
    writer.write(octets)
    await writer.drain()
    return await reading


async def test_a_large_message_is_in_a_file_and_the_next_command_is_read(tmp_path: Path) -> None:
    async with connected(Spool(str(tmp_path))) as (wire, writer):
        for _ in range(2):
            message = await message_of(wire, writer, ON_THE_WIRE + b".\r\nNOOP\r\n")
            assert isinstance(message.content, mmap)
            assert bytes(message.content) == CONTENT
            assert message == Message(content=message.content, size=len(ON_THE_WIRE))
            message.close()
            assert await wire.line(PATIENT_SECONDS) == b"NOOP"
        assert await message_of(wire, writer, b"small\r\n.\r\n") == Message(content=b"small\r\n", size=7)
        assert list(tmp_path.iterdir()) == []


async def test_without_a_place_a_large_message_is_read_and_dropped(tmp_path: Path) -> None:
    async with connected(Spool(str(tmp_path / "none"))) as (wire, writer):
        message = await message_of(wire, writer, ON_THE_WIRE + b".\r\nNOOP\r\n")
        assert message == Message(content=b"", size=len(ON_THE_WIRE), unspooled=True)
        assert await wire.line(PATIENT_SECONDS) == b"NOOP"
        assert await message_of(wire, writer, b"small\r\n.\r\n") == Message(content=b"small\r\n", size=7)


@pytest.mark.parametrize("end", [b"\n.\r\n", b"\0.\r\n"])
async def test_what_is_wrong_with_a_message_is_seen_without_a_place_for_it(tmp_path: Path, end: bytes) -> None:
    async with connected(Spool(str(tmp_path / "none"))) as (wire, writer):
        message = await message_of(wire, writer, ON_THE_WIRE + end + b"\r\n.\r\n")
        assert (message.unspooled, message.bare_newlines, message.hidden_end) == (True, b"\n." in end, b"\0" in end)


@pytest.mark.parametrize("exists", [True, False])
async def test_a_message_that_is_too_big_is_too_big_wherever_it_was_kept(tmp_path: Path, exists: bool) -> None:
    directory = tmp_path if exists else tmp_path / "none"
    async with connected(Spool(str(directory), above_bytes=100_000)) as (wire, writer):
        message = await message_of(wire, writer, ON_THE_WIRE + b".\r\nNOOP\r\n", max_bytes=1_000_000)
        assert message == Message(content=b"", size=len(ON_THE_WIRE), too_big=True)
        assert await wire.line(PATIENT_SECONDS) == b"NOOP"


async def is_given_up(wire: Wire, timeout_seconds: float) -> bool:
    """Whether a message does not come in time; bounded itself."""
    reading = asyncio.create_task(wire.message(100, timeout_seconds))
    done, _ = await asyncio.wait({reading}, timeout=PATIENT_SECONDS)
    reading.cancel()
    return done == {reading} and isinstance(reading.exception(), TimeoutError)


async def test_a_client_that_says_nothing_more_is_not_waited_for_as_long_as_a_slow_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wires, "DATA_BLOCK_SECONDS", 0.05)
    async with connected() as (wire, writer):
        writer.write(b"hello\r\n")
        assert await is_given_up(wire, 600.0)


async def test_a_client_that_goes_on_saying_something_has_the_time_for_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wires, "DATA_BLOCK_SECONDS", 0.5)
    async with connected() as (wire, writer):
        loop = asyncio.get_running_loop()
        begun = loop.time()

        def trickle() -> None:
            writer.write(b"x")
            if loop.time() < begun + 1.0:
                loop.call_later(0.05, trickle)
            else:
                writer.write(b"\r\n.\r\n")

        trickle()
        message = await wire.message(1_000, PATIENT_SECONDS)
        assert message.content.strip(b"x") == b"\r\n"  # type: ignore[union-attr] # a small one is no file
        assert loop.time() - begun >= 1.0


async def test_a_message_has_a_time_as_a_whole() -> None:
    async with connected() as (wire, writer):
        writer.write(b"hello\r\n")
        assert await is_given_up(wire, 0.05)


async def test_a_client_that_goes_away_in_a_message_leaves_nothing(tmp_path: Path) -> None:
    async with connected(Spool(str(tmp_path), above_bytes=1_000)) as (wire, writer):
        reading = asyncio.create_task(wire.message(2**24, PATIENT_SECONDS))
        writer.write(ON_THE_WIRE)
        await writer.drain()
        writer.close()
        with pytest.raises(ClientGone):
            await reading
        assert list(tmp_path.iterdir()) == []
