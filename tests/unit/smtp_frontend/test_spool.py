"""Large messages in files: what comes out of them, what is left of them, and what becomes of a disk that is full."""

import asyncio
import errno
import logging
import os
import threading
from contextlib import suppress
from mmap import mmap
from pathlib import Path

import pytest

from smtp_frontend.inbox import Message
from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.spool import Spool, SpoolFile

BLOCKS = [b"one\r\n" * 300, b"two\r\n" * 300, b"three\r\n"]


async def kept(spool: Spool, blocks: list[bytes] | None = None) -> Message:
    """The message of these blocks, the last of which comes with the end of the message."""
    *first, last = blocks or BLOCKS
    file = spool.file()
    for block in first:
        if not await file.write(block):
            return await file.whole(Message(content=b"", size=5_000, unspooled=True))
    return await file.whole(Message(content=last, size=5_000))


def open_files() -> set[str]:
    """What the descriptors of this process are open on; sockets and the like apart."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one that reads the directory
            found.add(f"{descriptor.name} {descriptor.readlink()}")
    return {name for name in found if " /" in name}


async def files_are(expected: set[str]) -> None:
    """A thread lets go of its file a moment after it has given its answer."""
    await until(lambda: open_files() == expected, "the files are closed")


async def test_a_file_holds_the_message_and_has_no_name(tmp_path: Path) -> None:
    before = open_files()
    message = await kept(Spool(str(tmp_path)))
    assert isinstance(message.content, mmap)
    assert bytes(message.content) == b"".join(BLOCKS)
    assert list(tmp_path.iterdir()) == []
    await until(lambda: [str(tmp_path) in name for name in open_files() - before] == [True], "one file is open")
    with pytest.raises(TypeError):
        message.content[0] = 0  # it is for reading
    message.close()
    await files_are(before)


async def test_without_close_a_file_goes_with_its_message(tmp_path: Path) -> None:
    before = open_files()
    message = await kept(Spool(str(tmp_path)))
    assert open_files() != before
    del message
    await files_are(before)


async def test_a_message_is_let_go_of_in_a_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, spool, threads = open_files(), Spool(str(tmp_path)), list[int]()
    close = Message.close

    def noted(message: Message) -> None:
        threads.append(threading.get_ident())
        close(message)

    monkeypatch.setattr(Message, "close", noted)
    message = await kept(spool)
    spool.let_go(message)
    spool.let_go(Message(content=b"small\r\n", size=7))
    await files_are(before)
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


@pytest.mark.parametrize(("size", "in_a_file"), [(0, False), (1_000, False), (1_001, True)])
async def test_only_what_is_above_the_size_is_in_a_file(tmp_path: Path, size: int, in_a_file: bool) -> None:
    message = await kept(Spool(str(tmp_path), above_bytes=1_000), [b"x" * size])
    assert (isinstance(message.content, mmap), bytes(message.content)) == (in_a_file, b"x" * size)
    message.close()


def test_blocks_are_wanted_beyond_the_size_and_then_as_they_come() -> None:
    file = Spool(above_bytes=1_000, block_bytes=100).file()
    assert [file.wants(collected) for collected in (0, 101, 1_000, 1_001)] == [False, False, False, True]


async def test_a_file_that_was_begun_wants_its_blocks(tmp_path: Path) -> None:
    file = Spool(str(tmp_path), above_bytes=1_000, block_bytes=100).file()
    assert await file.write(b"x" * 1_001)
    assert [file.wants(collected) for collected in (0, 100, 101)] == [False, False, True]


async def test_a_message_that_is_too_big_leaves_nothing(tmp_path: Path) -> None:
    before = open_files()
    file = Spool(str(tmp_path)).file()
    assert await file.write(b"x")
    too_big = Message(content=b"", size=10, too_big=True)
    assert await file.whole(too_big) == too_big
    assert len(open_files() - before) == 1
    del file
    await files_are(before)


@pytest.mark.parametrize("step", ["a block", "the end"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
async def test_trouble_with_the_disk_is_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, number: int
) -> None:
    """No test can fill a disk, so the system call says that it is full."""
    before, write, written = open_files(), os.write, 0

    def fail(descriptor: int, octets: memoryview) -> int:
        nonlocal written
        if octets.obj in ([BLOCKS[1]] if step == "a block" else [BLOCKS[2]]):
            raise OSError(number, os.strerror(number))
        written += len(octets)
        return write(descriptor, octets)

    spool = Spool(str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        message = await kept(spool)
    assert message == Message(content=b"", size=5_000, unspooled=True)
    assert written > 0
    await files_are(before)
    assert bytes((await kept(spool)).content) == b"".join(BLOCKS)


async def test_after_trouble_the_room_is_free_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client may still send for a while."""
    before, file = open_files(), Spool(str(tmp_path)).file()
    assert await file.write(BLOCKS[0])

    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        assert not await file.write(BLOCKS[1])
    await files_are(before)
    assert not file.wants(len(BLOCKS[2]))


async def test_a_disk_that_takes_a_part_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, octets: write(descriptor, octets[:7]))
    assert bytes((await kept(Spool(str(tmp_path)))).content) == b"".join(BLOCKS)


async def test_trouble_is_told_once_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = tmp_path / "later"
    spool = Spool(str(directory), above_bytes=1_000)
    for _ in range(3):
        assert (await kept(spool)).unspooled
    directory.mkdir()
    for _ in range(3):
        assert not (await kept(spool)).unspooled
    away, back = caplog.record_tuples
    assert away == (
        "reputon.smtp",
        logging.WARNING,
        f"spool: {directory}: No such file or directory; messages above 1000 bytes are put off",
    )
    assert back[2].startswith(f"spool: {directory}: back after ")
    assert back[2].endswith(" s, 3 messages were put off")


async def test_a_thread_that_writes_for_nobody_writes_into_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session was cancelled while a block was being written: the number of the file is not given away before."""
    before, write = open_files(), os.write
    writing, go_on = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()
    written = []

    def slow(descriptor: int, octets: memoryview) -> int:
        loop.call_soon_threadsafe(writing.set)
        assert go_on.wait(10.0)
        written.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        return write(descriptor, octets)

    async def session(file: SpoolFile) -> None:
        assert await file.write(BLOCKS[0])
        monkeypatch.setattr(os, "write", slow)
        await file.write(BLOCKS[1])

    task = asyncio.create_task(session(Spool(str(tmp_path)).file()))
    await asyncio.wait_for(writing.wait(), 10.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    del task
    assert len(open_files() - before) == 1
    go_on.set()
    await loop.shutdown_default_executor()
    assert [str(tmp_path) in name for name in written] == [True]
    await files_are(before)
