"""Where large messages are kept while they come in and go out: in files without a name, which are read as memory.

    Spool            from what size on, and where; one for all sessions
      SpoolFile      one message: blocks in, the whole out as an `mmap`

A file is made when a message has grown beyond `above_bytes`, and its blocks are written as they come. It has no name
(O_TMPFILE, where the file system knows it), so nothing of it is left when the process ends, however it ends. Its pages
belong to the machine's cache, and to nobody's heap: the machine writes them to the disk when it needs the memory.

Promises: all that may wait for the disk is done in a thread. Trouble with the disk is an answer and no exception: the
message is `unspooled`, the client is told to come again, and of many such messages there is one line in the log, and
one when it is over. A file is closed when the last who uses it lets go of it.

Does not do: keep a message beyond its transaction, encrypt it, look at how much room is left.

Bugs: what is read out of the mapping may have to come back from the disk, and the event loop waits for it. Where that
disk fails in this moment, the process is killed (SIGBUS).
"""

import asyncio
import logging
import os
import tempfile
from dataclasses import replace
from mmap import ACCESS_READ, mmap

from smtp_frontend.inbox import Message

ABOVE_BYTES = 2**20
BLOCK_BYTES = 2**18
"""What is written at once; a thread costs some 100 us each time."""

log = logging.getLogger("reputon.smtp")


class Spool:
    """The place, and whether it can be used."""

    def __init__(self, directory: str = "", above_bytes: int = ABOVE_BYTES, block_bytes: int = BLOCK_BYTES) -> None:
        self.directory = directory
        """Empty for the machine's directory for temporary files."""
        self.above_bytes = above_bytes
        self.block_bytes = block_bytes
        self._failed_at: float | None = None
        self._failures = 0

    def file(self) -> "SpoolFile":
        """The place for one message. Takes no room before something is written."""
        return SpoolFile(self)

    @staticmethod
    def let_go(message: Message) -> None:
        """Close a message in a thread: to free a large file takes milliseconds, and longer while the disk writes it."""
        if isinstance(message.content, mmap):
            asyncio.get_running_loop().run_in_executor(None, message.close)

    def failed(self, error: OSError) -> None:
        """A message could not be kept."""
        self._failures += 1
        if self._failed_at is None:
            self._failed_at = asyncio.get_running_loop().time()
            reason = error.strerror or error
            log.warning("spool: %s: %s; messages above %d bytes are put off", self.place, reason, self.above_bytes)

    def worked(self) -> None:
        """A message was kept."""
        if self._failed_at is not None:
            seconds = asyncio.get_running_loop().time() - self._failed_at
            log.warning("spool: %s: back after %.1f s, %d messages were put off", self.place, seconds, self._failures)
            self._failed_at, self._failures = None, 0

    @property
    def place(self) -> str:
        """The directory, for people."""
        return self.directory or "directory for temporary files"


class _Descriptor:
    """A file without a name, closed when nobody refers to it any more.

    Not closed by hand: a thread that still writes for a session which was cancelled would then write into whatever got
    the number of the file next.
    """

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def __del__(self) -> None:
        os.close(self.number)


class SpoolFile:
    """One message on its way in. Used by one task at a time."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._file: _Descriptor | None = None

    def wants(self, collected: int) -> bool:
        """Whether so many octets that have come are to be written now."""
        return collected > (self._spool.above_bytes if self._file is None else self._spool.block_bytes)

    async def write(self, octets: bytes) -> bool:
        """Add to the file. False where that cannot be done: then there is no file any more."""
        try:
            self._file = await asyncio.to_thread(_written, self._file, self._spool.directory, octets)
        except OSError as error:
            self._failed(error)
            return False
        return True

    async def whole(self, message: Message) -> Message:
        """The message with all of its content; it comes with what was not written yet."""
        rest = bytes(message.content)
        if message.too_big or message.unspooled or (self._file is None and len(rest) <= self._spool.above_bytes):
            return message
        try:
            content = await asyncio.to_thread(_mapped, self._file, self._spool.directory, rest)
        except OSError as error:
            self._failed(error)
            return replace(message, content=b"", unspooled=True)
        self._spool.worked()
        return replace(message, content=content)

    def _failed(self, error: OSError) -> None:
        self._file = None
        self._spool.failed(error)


def _mapped(file: _Descriptor | None, directory: str, rest: bytes) -> mmap:
    """The file as memory, with `rest` at its end."""
    file = _written(file, directory, rest)
    return mmap(file.number, os.fstat(file.number).st_size, access=ACCESS_READ)  # has a descriptor of its own


def _written(file: _Descriptor | None, directory: str, octets: bytes) -> _Descriptor:
    """The file, or a new one, with `octets` at its end."""
    file = file or _new(directory)
    left = memoryview(octets)
    while left:
        left = left[os.write(file.number, left) :]
    return file


def _new(directory: str) -> _Descriptor:
    with tempfile.TemporaryFile(dir=directory or None, prefix="reputon-", buffering=0) as file:
        return _Descriptor(os.dup(file.fileno()))
