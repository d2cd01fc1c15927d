"""Several processes on one port: real parents with real workers, that die, are told to stop, or are stuck."""

import json
import os
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.servers import RedisServer, free_port, wait_until
from tests.smtp.programs import (
    ALICE,
    Program,
    config_of,
    descendants,
    front_end,
    is_alive,
    listens,
    running,
    send,
    serve,
)

CLIENTS = 40
HELD = 24
"""Sessions that stay: the chance that one of two workers has none of them is 1 in 8 million."""


def workers_of(program: Program) -> list[int]:
    """The pids of those who have the sockets of a parent, oldest first."""
    return sorted(pid for pid in descendants(program.pid) if "--sockets" in command_line(pid))


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def who_answers(program: Program) -> set[int]:
    """The process of each mail log line; needs JSON."""
    lines = [json.loads(line) for line in program.log.splitlines() if line.startswith("{")]
    return {line["process.pid"] for line in lines if line["log.logger"] == "reputon.maillog"}


def each_sends_one(program: Program, count: int = CLIENTS) -> list[str]:
    with ThreadPoolExecutor(8) as pool:
        return [answer for answers in pool.map(lambda _: send(program.port), range(count)) for answer in answers]


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Program]:
    """A front end of two workers, whose rules refuse nobody, and that waits long for who has begun."""
    config = config_of("embedded:data", limit="100000/1h").replace("drain_seconds = 5.0", "drain_seconds = 60.0")
    with running(front_end(tmp_path / "two", config, "--workers", "2")) as program:
        yield program


def test_two_workers_share_a_port_and_admit_exactly_what_the_limit_says(
    valkey: RedisServer, prefix: str, tmp_path: Path
) -> None:
    config = config_of(valkey.unix_url, prefix=prefix) + '[log]\nformat = "json"\n'
    config = config.replace("[smtp]\n", "[smtp]\nworkers = 2\n")
    with running(front_end(tmp_path / "two", config)) as program:
        answers = each_sends_one(program, 2 * CLIENTS)
        assert len([answer for answer in answers if answer.startswith("250 ")]) == 30
        assert (
            len([answer for answer in answers if answer.startswith("451 4.7.1 sender:alice@example.com: 30/1m")]) == 50
        )
        assert len(program.mail) == 30
        assert who_answers(program) == set(workers_of(program))
        assert program.stop() == 0
        logged = [line for line in program.log.splitlines() if not line.startswith("ready")]
        assert all(isinstance(json.loads(line), dict) for line in logged)


def test_a_worker_that_is_killed_comes_back_on_its_sockets_and_the_other_goes_on(two: Program) -> None:
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(smtplib.SMTP("127.0.0.1", two.port, timeout=30))) for _ in range(HELD)]
        victim, other = workers_of(two)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: not is_alive(victim), "the worker is gone")
        cut = [client for client in clients if not goes_on(client)]
        assert 0 < len(cut) < len(clients)
        # Some of these are in the queue of the one that has gone, and wait for the one that comes.
        assert set(each_sends_one(two)) == {"250 2.0.0 Delivered"}
        assert all(goes_on(client) for client in clients if client not in cut)
    assert len(two.lines("ended with -9 and is started again")) == 1
    wait_until(lambda: bool(two.lines("is ready again")), "the log tells that it is back")
    assert len(workers_of(two)) == 2
    assert other in workers_of(two)
    assert two.stop() == 0


def goes_on(client: smtplib.SMTP) -> bool:
    try:
        return client.noop()[0] == 250
    except (smtplib.SMTPServerDisconnected, ConnectionError):
        return False


def test_a_worker_that_is_told_to_stop_drains_while_another_takes_its_place(two: Program) -> None:
    port = two.port
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(smtplib.SMTP("127.0.0.1", port, timeout=30))) for _ in range(HELD)]
        for client in clients:
            client.helo("client.example.com")
            client.mail(ALICE)
        leaving, other = workers_of(two)
        os.kill(leaving, signal.SIGTERM)
        wait_until(lambda: len(workers_of(two)) == 3, "another one has started")
        assert set(each_sends_one(two)) == {"250 2.0.0 Delivered"}
        for client in clients:  # the one that leaves waits for these
            assert client.rcpt("bob@example.net")[0] == 250
            assert client.data("hello\r\n")[0] == 250
    wait_until(lambda: not is_alive(leaving), "it has gone")
    assert len(two.lines("was told to stop: another one takes its place")) == 1
    assert len(workers_of(two)) == 2
    assert other in workers_of(two)
    assert len(two.mail) == CLIENTS + len(clients)
    assert two.stop() == 0


def test_sighup_reaches_all_and_sigterm_drains_all(two: Program) -> None:
    two.config.write_text(two.config.read_text().replace("100000/1h", "1/1h"), encoding="utf-8")
    os.kill(two.pid, signal.SIGHUP)
    wait_until(lambda: len(two.lines("reloaded: 1 rules of")) == 2, "both have read the rules")
    answers = each_sends_one(two, 8)
    assert len([answer for answer in answers if answer.startswith("250 ")]) == 1
    with ExitStack() as stack:
        clients = [stack.enter_context(closing(smtplib.SMTP("127.0.0.1", two.port, timeout=30))) for _ in range(8)]
        for number, client in enumerate(clients):
            client.helo("client.example.com")
            client.mail(f"sender{number}@example.org")
        os.kill(two.pid, signal.SIGTERM)
        wait_until(lambda: not listens(two.port), "nobody new is let in")
        for client in clients:
            assert client.rcpt("bob@example.net")[0] == 250
            assert client.data("hello\r\n")[0] == 250
            assert client.getreply() == (421, b"4.3.2 Service is closing, please try again")
    wait_until(two.ended, "the program ends")
    assert two.stop() == 0
    assert len(two.mail) == 1 + len(clients)
    assert two.lines("Traceback") == []


def test_nobody_is_left_when_the_parent_is_killed(two: Program) -> None:
    workers = workers_of(two)
    two.kill()
    wait_until(lambda: not any(map(is_alive, workers)), "the workers are gone")
    two.start()
    assert send(two.port) == ["250 2.0.0 Delivered"]


def test_a_signal_while_workers_start_ends_them(tmp_path: Path) -> None:
    program = front_end(tmp_path / "two", config_of("embedded:data"), "--workers", "2")
    program.launch()
    wait_until(lambda: bool(workers_of(program)), "the first worker starts")
    program.look()
    os.kill(program.pid, signal.SIGTERM)
    wait_until(program.ended, "the program ends")
    assert program.stop() == 0
    wait_until(lambda: not any(map(is_alive, program.pids)), "nobody is left")
    assert "ready" not in program.log
    assert program.lines("Traceback") == []


def test_serve_runs_workers_over_its_embedded_store(tmp_path: Path) -> None:
    config = config_of("embedded:data", listen=f"127.0.0.1:{free_port()}")
    with running(serve(tmp_path / "serve", config, "--workers", "2")) as program:
        assert len(workers_of(program)) == 2
        answers = each_sends_one(program)
        assert len([answer for answer in answers if answer.startswith("250 ")]) == 30
        assert program.stop() == 0
        assert program.lines("ERROR") == []


# What cannot be started


def outcome(tmp_path: Path, config: str) -> tuple[int, str, list[str]]:
    """Exit status, standard output and errors of a front end of three workers that does not start."""
    (tmp_path / "reputon.toml").write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "smtp_frontend", "--workers", "3", "--config", "reputon.toml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    errors = [line for line in result.stderr.splitlines() if " INFO " not in line]
    return result.returncode, result.stdout, errors


def test_a_worker_that_cannot_start_ends_everything_with_its_exit_status_and_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o777)
    (tmp_path / "data").chmod(0o777)
    said = "reputon.toml: [store] url: others may write to data: chmod go-w data"
    assert outcome(tmp_path, config_of("embedded:data")) == (1, "", [said])


def test_a_port_that_a_stranger_shares_with_anybody_is_not_shared_with_him(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        said = f"reputon.toml: [smtp] listen: cannot listen on {address}: Address already in use"
        assert outcome(tmp_path, config_of("memory:", listen=address)) == (1, "", [said])
