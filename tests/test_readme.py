"""The README is carried out, command by command, as a newcomer would.

In a directory that looks like a fresh checkout after `make venv`, so that ./data does not land in this one. The
commands are run by bash as they are written. Two are not typed here: `make run`, whose recipe is read from the
Makefile and started, and apt-get, whose packages must be those that the Makefile and `.ci/run` name.
"""

import json
import re
import shlex
import shutil
import socket
import subprocess
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from reputation.config import Settings
from tests.servers import ServerProcess, require_binary, wait_until

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PORT = 2525
API_PORT = 8025


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language, in their order."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for said, text in fenced if said == language]


def pattern(shown: str) -> re.Pattern[str]:
    """What the README shows, where numbers with decimals or units may differ, and ... is anything."""
    escaped = re.escape(shown.strip()).replace(re.escape("..."), ".*")
    return re.compile(re.sub(r"(retry_after=|in\\ )\d+(\\\.\d+)?", r"\1[0-9.]+", escaped))


@dataclass(frozen=True)
class Newcomer:
    """Types into two terminals."""

    home: Path
    server: ServerProcess

    def types(self, commands: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["bash", "-c", commands], cwd=self.home, capture_output=True, text=True, timeout=120, check=False
        )

    @property
    def mail(self) -> list[Path]:
        return list((self.home / "data" / "mail" / "new").iterdir())


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    """`make run` is running."""
    require_binary("swaks", "swaks")
    (tmp_path / ".venv").symlink_to(ROOT / ".venv")
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    recipe = re.search(r"^run:.*\n\t(.+)$", MAKEFILE, flags=re.MULTILINE)
    assert recipe is not None
    command = shlex.split(recipe[1].replace("$(BIN)", ".venv/bin"))
    for port in (PORT, API_PORT):
        wait_until(lambda: _is_free(port), f"port {port} is free")  # noqa: B023 - called before the next one
    server = ServerProcess(command, tmp_path, lambda: "Ctrl-C stops it." in server.log)
    server.start()
    try:
        yield Newcomer(tmp_path, server)
    finally:
        server.stop()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_what_to_install_is_what_the_makefile_and_the_ci_install() -> None:
    packages = {word for line in blocks("sh") if line.startswith("apt-get") for word in line.split()[3:]}
    packages |= set(re.findall(r"`apt-get install -y ([a-z0-9-]+)`", README))
    prerequisites = re.search(r"^PREREQUISITES := apt-get install -y (.+)$", MAKEFILE, flags=re.MULTILINE)
    assert prerequisites is not None
    in_ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert packages == {*prerequisites[1].split(), "swaks"}
    assert [package for package in packages if not re.search(rf"\b{package}\b", in_ci)] == []


def test_the_commands_do_what_the_readme_says(newcomer: Newcomer) -> None:
    install, run, *commands = blocks("sh")
    assert (install.split()[0], run) == ("apt-get", "make run\n")
    first, by_python, loop, explain, rules, token, check = commands
    refusal, log_line = blocks("")

    printed = newcomer.server.log
    assert f"127.0.0.1:{PORT}" in printed
    assert "data/mail" in printed
    assert first.strip() in printed  # "it prints a command to try"

    for sent, command in enumerate((first, by_python), 1):
        result = newcomer.types(command)
        assert result.returncode == 0, result.stdout + result.stderr
        assert len(newcomer.mail) == sent
    assert all("X-Reputon: accept" in message.read_text(encoding="utf-8") for message in newcomer.mail)

    result = newcomer.types(loop)
    told = [line for line in (result.stdout + result.stderr).splitlines() if pattern(refusal).fullmatch(line.strip())]
    assert len(told) == 3, result.stdout + result.stderr  # 2 + 31 messages, 30 pass
    assert len(newcomer.mail) == 30
    logged = [line for line in newcomer.server.log.splitlines() if pattern(log_line).search(line)]
    assert len(logged) == 3

    result = newcomer.types(explain)
    assert result.returncode == 0, result.stderr
    assert "action=tempfail reason=over-limit rule=sender-rate" in result.stdout
    assert re.search(r"sender-rate\W+messages\W+30\W+30/1m\b", result.stdout), result.stdout

    result = newcomer.types(rules)
    assert result.returncode == 0, result.stderr
    row = re.search(r"sender-rate\W+mail\W+tempfail\W+enforce\W+(\d+)", result.stdout)
    assert row is not None, result.stdout
    assert row[1] == "3"
    assert result.stdout.count("shadow") >= 14

    result = newcomer.types(token)
    assert result.returncode == 0, result.stderr
    assert "/console" in printed
    with urllib.request.urlopen(f"http://127.0.0.1:{API_PORT}/console", timeout=10) as page:
        assert b"<form" in page.read()
    asked = urllib.request.Request(
        f"http://127.0.0.1:{API_PORT}/v1/top?dimension=sender&metric=messages&window=1h&n=1",
        headers={"Authorization": f"Bearer {result.stdout.strip()}"},
    )
    wait_until(lambda: _rows(asked) == [("sender:alice@example.com", 30)], "the worst sender of the last hour is known")

    result = newcomer.types(check)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("deploy/quickstart.toml: good, 29 rules")
    assert 'listen = ["127.0.0.1:2525"]' in result.stdout

    assert newcomer.server.stop() == 0


def _rows(asked: urllib.request.Request) -> list[tuple[str, int]]:
    try:
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return [(row["entity"], row["count"]) for row in json.load(answer)["rows"]]
    except urllib.error.HTTPError:  # the token is known within a second
        return []


def test_the_lines_to_change_are_a_configuration() -> None:
    first, *others = blocks("toml")
    tables = tomllib.loads((ROOT / "deploy" / "quickstart.toml").read_text(encoding="utf-8"))
    changed = tomllib.loads(first)
    assert changed.keys() == {"store", "smtp"}
    for name, table in changed.items():
        assert set(table) <= set(tables[name]), "a line that is not in the file cannot be changed"
        tables[name] |= table
    for more in map(tomllib.loads, others):
        tables = {**tables, **more, "smtp": {**tables["smtp"], **more.get("smtp", {})}}
    settings = Settings.model_validate(tables)
    assert settings.policy().rules
    assert settings.smtp.listen == ("0.0.0.0:25", "[::]:25")
    assert settings.smtp.relay_domains == ("example.net",)
    assert settings.smtp.auth is not None
    assert settings.filter_


def test_the_table_of_troubles_tells_real_answers() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "smtp_frontend").rglob("*.py"))
    section = README.split("## When something is wrong")[1].split("\n## ")[0]
    codes = re.findall(r"`(\d{3}) (\d\.\d\.\d)([^`]*)`", section)
    assert len(codes) >= 6
    for code, enhanced, text in codes:
        words = text.split("...")[0].strip()
        assert re.search(
            rf'{code}, "{words}[^"]*", "{re.escape(enhanced)}"|{code}, "{re.escape(enhanced)}"', sources
        ), code
