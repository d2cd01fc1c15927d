"""A store of its own: commands beside `reputon serve` ask the one that runs, and say so when there is none."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.site_for_tests import Site, cells
from tests.servers import free_port, wait_until
from tests.smtp.programs import ALICE, BIN, Program, config_of, running, send


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Program]:
    """`reputon serve`, with a store of its own and an API."""
    config = config_of("embedded:data", listen=f"127.0.0.1:{free_port()}")
    table = f'[api]\nlisten = ["127.0.0.1:{free_port()}"]\n'
    config = re.sub(r"\[api\]\nlisten = .*\n", table, config)
    assert table in config
    program = Program([BIN / "reputon", "serve"], tmp_path / "serve", config, r"smtp +127\.0\.0\.1:(\d+)")
    with running(program):
        yield program


def test_somebody_is_banned_and_refused_and_let_go_while_it_runs(served: Program) -> None:
    site = Site(config=served.config)
    assert send(served.port) == ["250 2.0.0 Delivered"]
    told = site.run("ban", f"sender:{ALICE}", "--for", "1h", "--reason", "spam run")
    assert (told.status, told.err) == (0, "")
    wait_until(lambda: send(served.port)[0].startswith("550 "), "she is refused")
    assert cells(site.run("bans").lines, f"sender:{ALICE} reject", "spam run")
    wait_until(lambda: seen(site), "the verdict is told")
    assert site.run("unban", f"sender:{ALICE}").status == 0
    wait_until(lambda: send(served.port) == ["250 2.0.0 Delivered"], "she is free")


def seen(site: Site) -> bool:
    return bool(cells(site.run("show", f"sender:{ALICE}").lines, "reject mail", "banned"))


def test_the_api_beside_it_is_asked_by_its_token(served: Program) -> None:
    site = Site(config=served.config)
    token = site.run("token", "create", "--name", "desk", "--scope", "read", "--for", "1h").out.strip()
    (url,) = set(re.findall(r"(?m)^ +api +\S*?(127\.0\.0\.1:\d+)", served.log))
    remote = Site(config=served.config, environment={"REPUTON_API": f"http://{url}", "REPUTON_TOKEN": token})
    told = remote.run("status", "--json")
    assert (told.status, told.err) == (0, "")
    assert told.json["store"]["up"]


def test_without_a_store_nobody_is_asked(tmp_path: Path) -> None:
    config = tmp_path / "reputon.toml"
    config.write_text(config_of("embedded:data"), encoding="utf-8")
    told = Site(config=config).run("top")
    assert (told.status, told.out) == (1, "")
    assert told.err == "there is no store in data: give --config, or start reputon first\n"
    assert list(tmp_path.iterdir()) == [config], "asking makes no store"


def test_a_store_in_the_memory_of_another_process_cannot_be_asked(tmp_path: Path) -> None:
    config = tmp_path / "reputon.toml"
    config.write_text(config_of("memory:"), encoding="utf-8")
    told = Site(config=config).run("ban", "ip:192.0.2.1", "--for", "1h", "--reason", "x")
    assert (told.status, told.out) == (1, "")
    assert "--api URL" in told.err
    assert len(told.err.splitlines()) == 1


def test_a_store_that_is_away_has_a_status_of_its_own(tmp_path: Path) -> None:
    config = tmp_path / "reputon.toml"
    config.write_text(config_of(f"redis://127.0.0.1:{free_port()}"), encoding="utf-8")
    for command in (("top",), ("ban", "ip:192.0.2.1", "--for", "1h", "--reason", "x"), ("tail",), ("suspects",)):
        told = Site(config=config).run_here(*command)
        assert (told.status, told.out) == (3, "")
        assert len(told.err.splitlines()) == 1


def test_it_says_whom_it_asks_when_nobody_has_said_so(tmp_path: Path) -> None:
    site = Site(config=tmp_path / "reputon.toml", environment={"REPUTON_CONFIG": ""})
    told = site.run("top")
    assert told.status in {1, 3}
    assert told.err
