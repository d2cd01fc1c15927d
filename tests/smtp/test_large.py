"""Large messages through the whole front end: what arrives, what is left, and what the client hears of a full disk."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.rehearsal.front_end import front_end
from smtp_frontend.rehearsal.next_hop import CLOSE, ScriptedHop, Single

LARGE = b"Subject: large\r\n\r\n" + b"".join(b".%d\r\n" % number for number in range(300_000))
"""More than two megabytes."""
SMALL = b"Subject: small\r\n\r\nhello\r\n"


def spool_files(directory: Path) -> Iterator[str]:
    """Files in a directory that this process has open, with or without a name."""
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that reads the directory
            name = str(descriptor.readlink())
            if name.startswith(f"{directory}/"):
                yield name


def config(directory: Path, more: str = "") -> str:
    return f'[smtp]\nspool_directory = "{directory}"\nspool_bytes = 100000\n{more}'


async def test_a_large_message_arrives_octet_for_octet(hop: ScriptedHop, tmp_path: Path) -> None:
    async with front_end(config(tmp_path), next_hop=hop.url) as mx, mx.client() as client:
        await client.begin("bob@example.net")
        assert (await client.message(LARGE)).code == 250
        await client.transaction("bob@example.net")
        assert (await client.message(SMALL)).code == 250
        assert [message.content.endswith(LARGE) for message in hop.messages] == [True, False]
        assert hop.messages[1].content.endswith(SMALL)
        assert hop.messages[0].content.startswith(b"Received: from ")


@pytest.mark.parametrize(("then", "code"), [("250 2.0.0 Queued", 250), ("450 4.2.0 Later", 450), (CLOSE, 451)])
async def test_it_is_in_a_file_until_it_has_its_answer(
    hop: ScriptedHop, tmp_path: Path, then: Single, code: int
) -> None:
    answer = asyncio.Event()
    hop.script["message"] = (answer,)
    hop.script["end"] = then
    async with front_end(config(tmp_path), next_hop=hop.url) as mx, mx.client() as client:
        await client.begin("bob@example.net")
        telling = asyncio.create_task(client.message(LARGE))
        await until(lambda: bool(hop.sessions) and "DATA" in hop.sessions[0].verbs, "the next hop is given it")
        assert len(set(spool_files(tmp_path))) == 1
        assert list(tmp_path.iterdir()) == []
        answer.set()
        assert (await telling).code == code
        await until(lambda: not list(spool_files(tmp_path)), "the file is closed")


async def test_to_a_maildir_too(tmp_path: Path) -> None:
    mail, spool = tmp_path / "mail", tmp_path / "spool"
    spool.mkdir()
    async with front_end(config(spool), next_hop=f"maildir:{mail}") as mx, mx.client() as client:
        await client.begin("bob@example.net")
        assert (await client.message(LARGE)).code == 250
    [path] = (mail / "new").iterdir()
    assert path.read_bytes().endswith(LARGE.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize("times", [1, 2])
async def test_without_room_a_large_message_is_put_off_and_the_session_lives(
    hop: ScriptedHop, tmp_path: Path, times: int
) -> None:
    directory = tmp_path / "spool"
    directory.mkdir()
    async with front_end(config(directory), next_hop=hop.url) as mx, mx.client() as client:
        directory.rmdir()
        await client.begin("bob@example.net")
        for _ in range(times):
            reply = await client.message(LARGE)
            assert str(reply).startswith("452 4.3.1 ")
            await client.transaction("bob@example.net")
        assert (await client.message(SMALL)).code == 250
        assert [message.content.endswith(SMALL) for message in hop.messages] == [True]
        assert hop.received == hop.messages
