"""Under systemd: what it is told and when, sockets that it opens, a program that is stuck, and the units themselves.

No systemd runs here: the tests stand in for it, with a real socket for notifications and real descriptors from 3 on.
"""

import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers import free_port, require_binary, wait_until
from tests.smtp.programs import BIN, READY, SHOWN, Program, child_of, config_of, descendants, is_alive, running, send

UNITS = Path(__file__).resolve().parent.parent.parent / "deploy" / "systemd"
SERVE: list[str | Path] = [BIN / "reputon", "serve"]
FRONT_END: list[str | Path] = [sys.executable, "-m", "smtp_frontend"]
AS_SYSTEMD_DOES = """
import fcntl, os, sys
passed = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[1].split(",") if each]
for number, each in enumerate(passed, 3):
    os.dup2(each, number)
for name in sys.argv[2].split(","):
    os.environ[name] = str(os.getpid())
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Puts the descriptors where they belong, and says for whom they are, which only the process itself can know."""


class Told:
    """What systemd is told."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(address.replace("@", "\0"))
        self._socket.setblocking(False)
        self.address = address
        self._messages: list[dict[str, str]] = []

    @property
    def messages(self) -> list[dict[str, str]]:
        """All so far, but for those that say that somebody is alive."""
        while True:
            try:
                text = self._socket.recv(4_096).decode()
            except BlockingIOError:
                return [each for each in self._messages if "WATCHDOG" not in each]
            self._messages.append(dict(line.split("=", 1) for line in text.splitlines()))

    @property
    def states(self) -> list[str]:
        """READY, RELOADING, STOPPING in the order of their coming."""
        return [next(iter(each)) for each in self.messages]

    def heartbeats(self) -> int:
        """How often somebody has said that he is alive."""
        return len([*self.messages, *(each for each in self._messages if "WATCHDOG" in each)]) - len(self.messages)

    def close(self) -> None:
        self._socket.close()


class Unit(Program):
    """A program that systemd has started."""

    def __init__(
        self,
        command: list[str | Path],
        directory: Path,
        config: str,
        *,
        told: Told | None = None,
        sockets: dict[str, socket.socket] | None = None,
        watchdog_seconds: float = 0.0,
        ready: str = READY,
    ) -> None:
        super().__init__(command, directory, config, ready)
        self._environ = dict(os.environ)
        self._sockets = sockets or {}
        meant_for = []
        if told:
            self._environ["NOTIFY_SOCKET"] = told.address
        if sockets:
            meant_for.append("LISTEN_PID")
            self._environ |= {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": ":".join(sockets)}
        if watchdog_seconds:
            meant_for.append("WATCHDOG_PID")
            self._environ["WATCHDOG_USEC"] = str(int(watchdog_seconds * 1e6))
        self._meant_for = ",".join(meant_for or ["UNUSED"])

    def launch(self) -> None:
        descriptors = [each.fileno() for each in self._sockets.values()]
        passed = ",".join(map(str, descriptors))
        with (self.directory / "output.log").open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-c", AS_SYSTEMD_DOES, passed, self._meant_for, *self.argv],
                cwd=self.directory,
                env=self._environ,
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )


@pytest.fixture(params=["path", "abstract"])
def told(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Told]:
    address = f"{tmp_path}/notify" if request.param == "path" else f"@reputon-test-{os.getpid()}-{tmp_path.name}"
    with closing(Told(address)) as told:
        yield told


def listening(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


# What it is told


def test_one_process_says_when_it_is_ready_when_it_reloads_and_when_it_stops(told: Told, tmp_path: Path) -> None:
    with running(Unit(FRONT_END, tmp_path / "unit", config_of("memory:"), told=told)) as unit:
        wait_until(lambda: told.states == ["READY"], "it is ready")
        assert told.messages[0]["STATUS"] == f"ready on smtp 127.0.0.1:{unit.port}"
        os.kill(unit.pid, signal.SIGHUP)
        wait_until(lambda: told.states == ["READY", "RELOADING", "READY"], "it has reloaded")
        assert int(told.messages[1]["MONOTONIC_USEC"]) > 0
        assert len(unit.lines("reloaded: 1 rules")) == 1
        with closing(smtplib.SMTP("127.0.0.1", unit.port, timeout=30)) as client:
            client.helo("client.example.com")
            client.mail("alice@example.com")
            os.kill(unit.pid, signal.SIGTERM)
            wait_until(lambda: told.states[3:] == ["STOPPING"], "it says that it stops while it drains")
            assert told.messages[3]["STATUS"] == "draining 1 sessions"
            assert client.rset()[0] == 250
        assert unit.stop() == 0
    assert len(told.states) == 4


@pytest.mark.parametrize("told", ["path"], indirect=True)
def test_workers_and_serve_are_ready_when_all_are(told: Told, tmp_path: Path) -> None:
    unit = Unit([*SERVE, "--workers", "2"], tmp_path / "unit", config_of("memory:"), told=told, ready=SHOWN)
    with running(unit):
        wait_until(lambda: told.states == ["READY"], "all are ready")
        front_end = child_of(unit, "smtp_frontend")
        assert front_end is not None
        assert len(descendants(front_end)) == 2
        os.kill(unit.pid, signal.SIGHUP)
        wait_until(lambda: told.states == ["READY", "RELOADING", "READY"], "all have reloaded")
        assert len(unit.lines("reloaded: 1 rules")) == 2
        assert unit.stop() == 0
    assert told.states[3:] == ["STOPPING"]
    assert told.messages[3]["STATUS"] == "draining 2 workers"


# Who is stuck


@pytest.mark.parametrize("told", ["path"], indirect=True)
def test_it_says_that_it_is_alive_and_a_stuck_worker_is_started_again(told: Told, tmp_path: Path) -> None:
    config = config_of("memory:", listen=f"127.0.0.1:{free_port()}")
    command = [*SERVE, "--workers", "2"]
    with running(Unit(command, tmp_path / "unit", config, told=told, watchdog_seconds=1.5, ready=SHOWN)) as unit:
        front_end = child_of(unit, "smtp_frontend")
        assert front_end is not None
        stuck = min(descendants(front_end))
        os.kill(stuck, signal.SIGSTOP)
        before = told.heartbeats()
        wait_until(lambda: not is_alive(stuck), "it is killed")
        assert unit.lines("worker 1 has been stuck for ")
        wait_until(lambda: bool(unit.lines("worker 1 is ready again")), "another one has taken its place")
        wait_until(lambda: told.heartbeats() >= before + 2, "it goes on to say that it is alive")
        assert child_of(unit, "smtp_frontend") == front_end
        assert unit.stop() == 0


# Sockets


@pytest.mark.parametrize("command", [FRONT_END, [*FRONT_END, "--workers", "2"], [*SERVE, "--workers", "2"], SERVE])
def test_sockets_are_those_of_systemd(command: list[str | Path], tmp_path: Path) -> None:
    path = tmp_path / "policy"
    with listening() as smtp, socket.socket(socket.AF_UNIX) as policy:
        policy.bind(str(path))
        policy.listen()
        ready = SHOWN if command[0] == SERVE[0] else READY
        config = config_of("memory:", listen="192.0.2.1:25")  # an address that this machine has not
        unit = Unit(command, tmp_path / "unit", config, sockets={"smtp": smtp, "policy": policy}, ready=ready)
        with running(unit):
            assert unit.port == smtp.getsockname()[1]
            assert send(unit.port) == ["250 2.0.0 Delivered"]
            assert asked(path) == "action=DUNNO"
            if children := descendants(unit.pid):  # who comes after them has the same sockets
                for pid in children:
                    os.kill(pid, signal.SIGKILL)
                assert send(unit.port) == ["250 2.0.0 Delivered"]
                assert asked(path) == "action=DUNNO"
            assert unit.stop() == 0
    assert path.exists()  # it is not ours


def asked(path: Path) -> str:
    """What the policy service says about a sender."""
    question = (
        "request=smtpd_access_policy\nprotocol_state=MAIL\nsender=alice@example.com\nclient_address=192.0.2.7\n\n"
    )
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(30)
        client.connect(str(path))
        client.sendall(question.encode())
        return client.recv(4_096).decode().strip()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("submision", 'systemd has given a socket named "submision": write FileDescriptorName= smtp, submission, '),
        (
            "submission",
            "a socket of systemd (127.0.0.1:{port}) is for submission: that needs [smtp.auth] and [smtp.tls]",
        ),
    ],
)
def test_a_socket_that_cannot_be_right_is_a_mistake(name: str, said: str, tmp_path: Path) -> None:
    with listening() as smtp:
        unit = Unit(FRONT_END, tmp_path / "unit", config_of("memory:"), sockets={name: smtp})
        with pytest.raises(RuntimeError, match="ended with 1"):
            unit.start()
        assert len(unit.lines(said.format(port=smtp.getsockname()[1]))) == 1


# The units


def test_the_units_are_what_systemd_understands(tmp_path: Path) -> None:
    analyze = require_binary("systemd-analyze", "systemd")
    for unit in UNITS.iterdir():
        text = unit.read_text(encoding="utf-8").replace("/opt/reputon/bin/reputon", str(BIN / "reputon"))
        (tmp_path / unit.name).write_text(text, encoding="utf-8")
    units = sorted(str(path) for path in tmp_path.iterdir())
    assert any(unit.endswith(".service") for unit in units)
    result = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, timeout=60, check=False)
    said = [line for line in result.stderr.splitlines() if str(tmp_path) in line or "reputon" in line]
    assert (result.returncode, said) == (0, [])


def test_the_service_is_confined() -> None:
    analyze = require_binary("systemd-analyze", "systemd")
    command = [analyze, "security", "--offline=true", "--threshold=20", str(UNITS / "reputon.service")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout
