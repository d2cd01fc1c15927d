"""The programs as processes, on real stores: several front ends at once, crashes, signals, exit status.

Each program runs in a directory of its own, and every test says at the end that nobody is left.
"""

import json
import os
import re
import signal
import smtplib
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from reputation.keys import Entity
from reputation.store.redis_store import RedisStore
from tests.servers import RedisServer, free_port, valkey_server, wait_until
from tests.smtp.programs import (
    ALICE,
    BIN,
    Flow,
    Program,
    child_of,
    config_of,
    descendants,
    front_end,
    is_alive,
    listens,
    running,
    send,
    serve,
)


async def counted(url: str, prefix: str = "rp", scope: str = "sender-rate") -> int:
    """Messages of Alice that the rule has counted, as the store holds it."""
    store = RedisStore(url, prefix=prefix)
    try:
        return sum(s.count for s in await store.series(Entity("sender", ALICE)) if s.scope == scope)
    finally:
        await store.close()


# Several front ends


@pytest.mark.parametrize("kind", ["valkey", "redis_7"])
async def test_two_front_ends_share_one_limit(
    kind: str, request: pytest.FixtureRequest, prefix: str, tmp_path: Path
) -> None:
    server: RedisServer = request.getfixturevalue(kind)
    config = config_of(server.unix_url, prefix=prefix)
    with running(front_end(tmp_path / "a", config)) as a, running(front_end(tmp_path / "b", config)) as b:
        with ThreadPoolExecutor(8) as pool:
            parts = [pool.submit(send, program.port, 10) for _ in range(4) for program in (a, b)]
            answers = [answer for part in parts for answer in part.result()]
        assert len(answers) == 80
        assert len([answer for answer in answers if answer.startswith("250 ")]) == 30
        assert (
            len([answer for answer in answers if answer.startswith("451 4.7.1 sender:alice@example.com: 30/1m ")]) == 50
        )
        assert len(a.mail) + len(b.mail) == 30
        assert a.mail
        assert b.mail
        assert await counted(server.unix_url, prefix) == 30
        for program in (a, b):
            assert program.lines("store down") == []
            assert program.lines("ERROR") == []


# The store dies


@pytest.mark.parametrize("on_store_failure", ["accept", "tempfail"])
async def test_the_store_dies_and_comes_back_while_mail_flows(on_store_failure: str, tmp_path: Path) -> None:
    with valkey_server() as store:
        config = config_of(store.url, limit="1000000/1h", on_store_failure=on_store_failure)
        with running(front_end(tmp_path / "a", config)) as program:
            with Flow(program.port).flowing() as flow:
                store.kill()
                wait_until(lambda: bool(program.lines("store down")), "the log tells that the store is down")
                flow.goes_on()
                store.start()
                wait_until(lambda: bool(program.lines("store back")), "the log tells that the store is back")
                flow.goes_on()
            refused = [answer for answer in flow.answers if not answer.startswith("250 ")]
            if on_store_failure == "accept":
                assert refused == []
            else:
                assert set(refused) == {"451 4.3.0 Temporary local problem, please try again later"}
                assert len(refused) >= 10
            assert len(program.lines("store down: ")) == 1
            assert len(program.lines("store back after ")) == 1
            assert program.lines("Traceback") == []
            assert len(program.mail) == len(flow.answers) - len(refused)
            before = await counted(store.url)  # a memory-only store has forgotten what was before
            assert send(program.port, 3) == ["250 2.0.0 Delivered"] * 3
            assert await counted(store.url) == before + 3


# Signals and exit status


def test_sigterm_lets_the_open_transaction_finish_and_ends_with_0(tmp_path: Path) -> None:
    with running(front_end(tmp_path / "a", config_of("memory:"))) as program:
        with (
            smtplib.SMTP("127.0.0.1", program.port, timeout=30) as idle,
            smtplib.SMTP("127.0.0.1", program.port, timeout=30) as client,
        ):
            idle.helo("client.example.com")
            client.helo("client.example.com")
            client.mail(ALICE)
            os.kill(program.pid, signal.SIGTERM)
            wait_until(lambda: not listens(program.port), "nobody new is let in")
            assert idle.getreply() == (421, b"4.3.2 Service is closing, please try again")
            assert client.rcpt("bob@example.net")[0] == 250
            assert client.data("hello\r\n")[0] == 250
            assert client.getreply() == (421, b"4.3.2 Service is closing, please try again")
            for each in (idle, client):
                each.close()
        wait_until(program.ended, "the program ends")
        assert program.stop() == 0
        assert len(program.mail) == 1
        assert program.lines("Traceback") == []


def run(*command: str | Path, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("command", [[sys.executable, "-m", "smtp_frontend"], [BIN / "reputon", "serve"]])
def test_a_port_that_is_taken_is_one_line_and_exit_status_1(command: list[str | Path], tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        (tmp_path / "reputon.toml").write_text(config_of("memory:", listen=address), encoding="utf-8")
        result = run(*command, "--config", "reputon.toml", cwd=tmp_path)
    assert result.returncode == 1
    logged = re.compile(r"\d{4}-\d\d-\d\dT\S+ INFO ")
    errors = [line for line in result.stderr.splitlines() if not logged.match(line)]
    assert errors == [f"reputon.toml: [smtp] listen: cannot listen on {address}: Address already in use"]
    assert "ready" not in result.stdout


def test_a_signal_while_serve_starts_ends_it(tmp_path: Path) -> None:
    program = serve(tmp_path / "serve", config_of("memory:"))
    program.launch()
    wait_until(lambda: child_of(program, "smtp_frontend") is not None, "the front end starts")
    program.look()
    os.kill(program.pid, signal.SIGTERM)
    wait_until(program.ended, "the program ends")
    assert program.stop() == 0
    assert "ready" not in program.log
    assert program.lines("Traceback") == []


def test_a_mistake_in_the_configuration_is_exit_status_1(tmp_path: Path) -> None:
    (tmp_path / "reputon.toml").write_text("[smtp]\nport = 25\n[stoer]\n", encoding="utf-8")
    for command in ([sys.executable, "-m", "smtp_frontend"], [BIN / "reputon", "serve"]):
        result = run(*command, "--config", "reputon.toml", cwd=tmp_path)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.splitlines() == [
            "reputon.toml: [smtp] port: unknown key",
            "reputon.toml: [stoer]: unknown table",
        ]


@pytest.mark.parametrize(
    "command",
    [[sys.executable, "-m", "smtp_frontend"], [BIN / "reputon", "serve"], [BIN / "reputon", "explain", "ip:::1"]],
)
def test_a_store_url_that_cannot_be_right_is_a_mistake_in_the_configuration(
    command: list[str | Path], tmp_path: Path
) -> None:
    (tmp_path / "reputon.toml").write_text(config_of("redis://me:s3cret@db/0/extra"), encoding="utf-8")
    said = (
        "reputon.toml: [store] url: nothing follows the database, and / @ # ? of a password are written %2F %40 %23 %3F"
    )
    for arguments in ([*command, "--config", "reputon.toml"], [BIN / "reputon", "check-config", "reputon.toml"]):
        result = run(*arguments, cwd=tmp_path)
        assert (result.returncode, result.stdout, result.stderr.splitlines()) == (1, "", [said])


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://nobody:guess-me@127.0.0.1:{port}", r".*WRONGPASS.* \(user or password are wrong\)"),
        ("redis+cluster://127.0.0.1:{port}", r".*cluster support disabled \(.*use redis://\)"),
    ],
)
def test_a_store_that_refuses_us_ends_serve_with_one_line_and_exit_status_3(
    url: str, said: str, valkey: RedisServer, tmp_path: Path
) -> None:
    (tmp_path / "reputon.toml").write_text(config_of(url.format(port=valkey.port)), encoding="utf-8")
    result = run(BIN / "reputon", "serve", "--config", "reputon.toml", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (3, "")
    (line,) = result.stderr.splitlines()
    assert re.fullmatch(said, line)
    assert "guess-me" not in line


def test_a_store_that_is_away_lets_serve_start(tmp_path: Path) -> None:
    config = config_of(f"redis://127.0.0.1:{free_port()}", listen=f"127.0.0.1:{free_port()}")
    with running(serve(tmp_path / "serve", config)) as program:
        assert send(program.port) == ["250 2.0.0 Delivered"]
        assert program.lines("not reached yet")
        assert program.stop() == 0


# Everything on one machine


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Program]:
    """`reputon serve`, with a store of its own."""
    listen = f"127.0.0.1:{free_port()}"
    with running(serve(tmp_path / "serve", config_of("embedded:data", listen=listen))) as program:
        yield program


def explain(program: Program, entity: str = f"sender:{ALICE}") -> dict[str, Any]:
    result = run(BIN / "reputon", "explain", entity, "--json", "--config", program.config, cwd=program.directory)
    assert (result.returncode, result.stderr) == (0, "")
    explanation: dict[str, Any] = json.loads(result.stdout)
    return explanation


def test_one_machine_from_the_first_message_to_the_refusal_that_explains_itself(served: Program) -> None:
    assert send(served.port, 30) == ["250 2.0.0 Delivered"] * 30
    (refused,) = send(served.port)
    said = re.fullmatch(
        r"451 4\.7\.1 sender:(\S+): (\S+) messages reached \((\S+), (\S+)\), try again in (\d+) s", refused
    )
    assert said is not None, refused
    assert said.groups()[:4] == (ALICE, "30/1m", "over-limit", "sender-rate")

    explained = explain(served)
    assert explained["entity"] == f"sender:{ALICE}"
    following = explained["next"]
    assert (following["action"], following["reason"], following["rule"]) == ("tempfail", "over-limit", "sender-rate")
    assert 0 < following["retry_after_seconds"] <= float(said[5])
    (rule,) = explained["rules"]
    assert (rule["rule"], rule["count"], rule["limit"], rule["remaining"]) == ("sender-rate", 30, "30/1m", 0)

    (line,) = served.lines("action=tempfail")
    assert "reason=over-limit rule=sender-rate key=sender:alice@example.com count=30 limit=30/1m retry_after=" in line
    messages = [path.read_text(encoding="utf-8") for path in served.mail]
    assert len(messages) == 30
    fullest = [message for message in messages if "\tcount=30\n" in message]
    assert len(fullest) == 1
    for word in ("X-Reputon: accept", "reason=within-limits", "rule=sender-rate", f"key=sender:{ALICE}", "limit=30/1m"):
        assert word in fullest[0]
    assert served.stop() == 0


def test_a_front_end_that_is_killed_is_started_again(served: Program) -> None:
    assert send(served.port, 2) == ["250 2.0.0 Delivered"] * 2
    pid = child_of(served, "smtp_frontend")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    # Not by connecting: to a port of this range that nobody listens on, a socket may connect to itself, and keep it.
    wait_until(lambda: bool(served.lines("the SMTP front end is ready again")), "another front end is ready")
    assert child_of(served, "smtp_frontend") not in {None, pid}
    assert len(served.lines("the SMTP front end ended with -9 and is started again")) == 1
    assert send(served.port) == ["250 2.0.0 Delivered"]
    assert explain(served)["rules"][0]["count"] == 3  # the store outlived it
    assert served.stop() == 0


def test_an_embedded_store_that_is_killed_is_started_again_and_mail_flows_meanwhile(served: Program) -> None:
    assert send(served.port, 2) == ["250 2.0.0 Delivered"] * 2
    pid = child_of(served, "valkey")
    assert pid is not None
    with Flow(served.port).flowing() as flow:
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: bool(served.lines("store back")), "the store is back")
        flow.goes_on()
    assert child_of(served, "valkey") not in {None, pid}
    refused = [answer for answer in flow.answers if not answer.startswith("250 ")]
    assert all(answer.startswith("451 4.7.1 sender:alice@example.com: 30/1m") for answer in refused)
    assert explain(served)["rules"][0]["count"] <= 30
    assert (len(served.lines("store down: ")), len(served.lines("store back after "))) == (1, 1)
    assert served.stop() == 0


def test_a_supervisor_that_ends_all_processes_at_once_hears_of_no_trouble(served: Program) -> None:
    with closing(smtplib.SMTP("127.0.0.1", served.port, timeout=30)) as client:
        client.helo("client.example.com")
        client.mail(ALICE)
        store = child_of(served, "valkey")
        for pid in (*descendants(served.pid), served.pid):
            os.kill(pid, signal.SIGTERM)
        # The open transaction is finished, so the store is there again.
        wait_until(lambda: child_of(served, "valkey") not in {None, store}, "another store runs")
        assert client.rcpt("bob@example.net")[0] == 250
        assert client.data("hello\r\n")[0] == 250
    wait_until(served.ended, "the program ends")
    assert served.lines("the embedded store") == []
    assert served.stop() == 0


def test_nobody_is_left_when_serve_itself_is_killed(served: Program) -> None:
    """Or the front end would keep the port, and a supervisor could not start it again."""
    pids = descendants(served.pid)
    assert len(pids) == 2
    served.kill()
    wait_until(lambda: not any(is_alive(pid) for pid in pids), f"the front end and the store are gone: {pids}")
    served.start()
    assert send(served.port) == ["250 2.0.0 Delivered"]
