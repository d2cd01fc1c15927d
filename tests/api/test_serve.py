"""`reputon serve` with both programs: the start, what dies is started again, reloads, and the end."""

import json
import os
import re
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import free_port, tls_files, wait_until
from tests.smtp.programs import (
    BIN,
    SHOWN,
    Flow,
    Program,
    child_of,
    config_of,
    descendants,
    is_alive,
    running,
    send,
    serve,
)
from tests.smtp.test_systemd import SERVE, Told, Unit

PATIENCE_SECONDS = 10.0


def both(url: str = "embedded:data", listen: str = "", api: str = "127.0.0.1:0") -> str:
    """The configuration of both programs; the API on a free port."""
    config = config_of(url, listen=listen or f"127.0.0.1:{free_port()}")
    return config.replace("[api]\nlisten = []", f'[api]\nlisten = ["{api}"]')


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Program]:
    with running(serve(tmp_path / "serve", both(api=f"127.0.0.1:{free_port()}"))) as program:
        yield program


def url_of(program: Program) -> str:
    (found,) = re.findall(r"(?m)^  api +(http://\S+)$", program.log)
    return str(found)


def status(program: Program, path: str = "/healthz", token: str = "") -> int:
    """How the API answers; 0 when it does not."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url_of(program) + path, headers=headers), timeout=PATIENCE_SECONDS
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def reputon(program: Program, *arguments: str) -> "subprocess.CompletedProcess[str]":
    command: list[str | Path] = [BIN / "reputon", *arguments, "--config", program.config]
    return subprocess.run(
        command,
        cwd=program.directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


# The start


def test_the_banner_says_where_api_and_console_are_and_how_to_get_in(served: Program) -> None:
    assert f"  console   {url_of(served)}/console/\n" in served.log
    assert status(served) == 200
    assert status(served, "/v1/rules") == 401
    (line,) = served.lines(" token create ")
    assert line.split()[1:] == f"token create --name you --scope admin --for 90d --config {served.config}".split()
    made = subprocess.run(
        line.split(),
        cwd=served.directory,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    token = made.stdout.strip()
    wait_until(lambda: status(served, "/v1/rules", token) == 200, "the token is in force")
    served.stop()
    told = len(served.lines("is ready, configured by"))
    served.start()
    wait_until(lambda: len(served.lines("is ready, configured by")) > told, "it is ready again")
    assert len(served.lines(" token create ")) == 1, "there is a token now"


def test_without_an_address_there_is_no_api(tmp_path: Path) -> None:
    with running(serve(tmp_path / "serve", config_of("memory:"))) as program:
        assert child_of(program, "smtp_frontend") is not None
        assert child_of(program, "api\0--config") is None
        assert program.lines("  api  ") == program.lines("  console  ") == program.lines("token create") == []
        assert program.stop() == 0


def test_an_api_whose_port_is_taken_ends_the_start_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        program = serve(tmp_path / "serve", both(api=address))
        with pytest.raises(RuntimeError, match="ended with 1"):
            program.start()
    said = f"{program.config}: [api] listen: cannot listen on {address}: Address already in use"
    assert len(program.lines(said)) == 1
    assert program.lines("is ready, configured by") == []
    assert program.lines("Traceback") == []
    everybody = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(program.config) in _read(path)]
    wait_until(lambda: not any(str(program.config) in _read(path) for path in everybody), "nobody is left")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # it has ended
        return ""


def test_files_of_the_api_are_checked_with_all_others(tmp_path: Path) -> None:
    tls = tls_files(tmp_path)
    table = f'[api.tls]\ncertificate = "{tls.certificate}"\nkey = "{{key}}"\n[[rule]]'
    for key, said in ((tls.key, ""), ("gone.key", "[api.tls] certificate, key: gone.key cannot be read: No such file")):
        program = serve(tmp_path / "serve", both().replace("[[rule]]", table.format(key=key), 1))
        result = subprocess.run(
            [BIN / "reputon", "check-config", program.config], capture_output=True, text=True, timeout=30, check=False
        )
        assert result.returncode == bool(said), result.stderr
        assert said in result.stderr


# Whoever dies


def test_an_api_that_is_killed_is_started_again_while_mail_flows(served: Program) -> None:
    api, front = child_of(served, "api\0--config"), child_of(served, "smtp_frontend")
    assert api is not None
    with Flow(served.port).flowing() as flow:
        os.kill(api, signal.SIGKILL)
        wait_until(lambda: bool(served.lines("the API is ready again")), "another API is ready")
        flow.goes_on()
    assert len(served.lines("the API ended with -9 and is started again")) == 1
    assert status(served) == status(served, "/readyz") == 200
    assert child_of(served, "api\0--config") not in {None, api}
    assert child_of(served, "smtp_frontend") == front
    assert served.stop() == 0


def test_a_front_end_that_is_killed_leaves_the_api_alone(served: Program) -> None:
    api, front = child_of(served, "api\0--config"), child_of(served, "smtp_frontend")
    assert front is not None
    os.kill(front, signal.SIGKILL)
    assert status(served) == 200
    wait_until(lambda: bool(served.lines("the SMTP front end is ready again")), "another front end is ready")
    assert child_of(served, "api\0--config") == api
    assert send(served.port) == ["250 2.0.0 Delivered"]
    assert served.stop() == 0


def test_nobody_is_left_when_serve_is_killed(served: Program) -> None:
    pids = descendants(served.pid)
    assert len(pids) == 3
    served.kill()
    wait_until(lambda: not any(map(is_alive, pids)), "both programs and the store are gone")


# Reloads and the end


def test_sighup_is_for_both(served: Program) -> None:
    served.config.write_text(served.config.read_text(encoding="utf-8").replace("30/1m", "1/1h"), encoding="utf-8")
    os.kill(served.pid, signal.SIGHUP)
    wait_until(lambda: len(served.lines("reloaded: 1 rules")) == 2, "both have read the rules anew")
    assert {line.split()[2] for line in served.lines("reloaded: 1 rules")} == {"reputon.smtp", "reputon.api"}
    assert [answer[:3] for answer in send(served.port, 2)] == ["250", "451"]


def test_both_end_with_it_and_what_is_said_comes_from_the_front_end_only(tmp_path: Path) -> None:
    told = Told(f"{tmp_path}/notify")
    unit = Unit(SERVE, tmp_path / "unit", both("memory:"), told=told, watchdog_seconds=5.0, ready=SHOWN)
    with running(unit):
        wait_until(lambda: told.states == ["READY"], "it is ready")
        assert told.messages[0]["STATUS"].startswith("ready on smtp 127.0.0.1:")
        assert unit.lines("token create") == [], "who counts in memory cannot be told of a token by another process"
        assert unit.stop() == 0
    assert told.states == ["READY", "STOPPING"]
    told.close()


def test_what_is_judged_by_the_front_end_is_seen_through_the_api(served: Program) -> None:
    made = reputon(served, "token", "create", "--name", "desk", "--scope", "read", "--for", "1h")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert send(served.port, 3) == ["250 2.0.0 Delivered"] * 3
    wait_until(lambda: status(served, "/v1/overview", token) == 200, "the token is in force")
    path = "/v1/entities/sender/alice@example.com"
    request = urllib.request.Request(url_of(served) + path, headers={"authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        page: dict[str, Any] = json.load(answer)
    assert [rule["count"] for rule in page["rules"] if rule["rule"] == "sender-rate"] == [3]
