"""What is special about a Maildir: files, durability, full disks."""

import asyncio
import errno
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from smtp_frontend.next_hop import Connection
from smtp_frontend.reply import Reply
from tests.smtp.next_hop.conftest import open_patiently

ALICE, BOB, CAROL = "alice@example.org", "bob@example.com", "carol@example.com"
HELLO = b"Subject: hello\r\n\r\nhello\r\n"


async def begin(maildir: Path, *recipients: str) -> Connection:
    connection = open_patiently(f"maildir:{maildir}").connect()
    assert (await connection.mail(ALICE)).positive
    for recipient in recipients:
        assert (await connection.rcpt(recipient)).positive
    return connection


def files(maildir: Path) -> list[str]:
    """All files, with the directory they are in."""
    return sorted(str(path.relative_to(maildir)) for path in maildir.rglob("*") if path.is_file())


async def test_a_file_holds_the_message(tmp_path: Path) -> None:
    maildir = tmp_path / "deep" / "mail"
    connection = await begin(maildir, BOB, CAROL)
    assert await connection.data([HELLO]) == Reply(250, "Delivered", "2.0.0")
    assert sorted(path.name for path in maildir.iterdir()) == ["cur", "new", "tmp"]
    [path] = (maildir / "new").iterdir()
    assert path.read_bytes() == (
        b"Return-Path: <alice@example.org>\n"
        b"Delivered-To: bob@example.com\n"
        b"Delivered-To: carol@example.com\n"
        b"Subject: hello\n\nhello\n"
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(files(maildir)) == 1


async def test_names_are_unique_and_visible(tmp_path: Path) -> None:
    for _ in range(20):
        assert (await (await begin(tmp_path, BOB)).data([HELLO])).positive
    names = [path.name for path in (tmp_path / "new").iterdir()]
    assert len(set(names)) == 20
    assert not any(name.startswith(".") or "/" in name or ":" in name for name in names)


async def test_many_at_once(tmp_path: Path) -> None:
    connections = [await begin(tmp_path, BOB) for _ in range(50)]
    answers = await asyncio.gather(*(connection.data([HELLO]) for connection in connections))
    assert all(answer.positive for answer in answers)
    assert len(files(tmp_path)) == 50


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        (errno.ENOSPC, (452, "4.3.1")),
        (errno.EDQUOT, (452, "4.3.1")),
        (errno.EIO, (451, "4.3.0")),
        (errno.EACCES, (451, "4.3.0")),
    ],
)
@pytest.mark.parametrize("call", ["fsync of the file", "rename", "fsync of the directory"])
async def test_trouble_with_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int, answer: tuple[int, str]
) -> None:
    """No test can fill a disk, so the system call says that it is full."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    def fail_for_directories(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            fail()

    assert (await (await begin(tmp_path, BOB)).data([HELLO])).positive
    connection = await begin(tmp_path, BOB)
    with monkeypatch.context() as patch:
        if call == "rename":
            patch.setattr(Path, "rename", fail)
        else:
            patch.setattr(os, "fsync", fail if call == "fsync of the file" else fail_for_directories)
        reply = await connection.data([HELLO])
    assert (reply.code, reply.enhanced, reply.ours) == (*answer, True)
    assert len(files(tmp_path)) == 1


async def test_a_directory_that_cannot_be(caplog: pytest.LogCaptureFixture) -> None:
    reply = await (await begin(Path("/dev/null/mail"), BOB)).data([HELLO])
    assert (reply.code, reply.enhanced, reply.ours) == (451, "4.3.0", True)
    assert "/dev/null/mail" in caplog.text


async def test_a_cancelled_delivery_does_not_appear(tmp_path: Path) -> None:
    writing, go_on, done = asyncio.Event(), threading.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def parts() -> Iterator[bytes]:
        yield HELLO
        loop.call_soon_threadsafe(writing.set)
        go_on.wait()
        loop.call_soon_threadsafe(done.set)

    connection = await begin(tmp_path, BOB)
    task = asyncio.create_task(connection.data(parts()))
    await writing.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await done.wait()
    await loop.shutdown_default_executor()
    assert files(tmp_path) == []
