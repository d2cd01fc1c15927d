"""Tokens: printed once, alone, never an argument; and what is said to whoever has none, or a weaker one."""

import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

from reputation.access import Scope, parse_token
from tests.cli.site_for_tests import REPUTON, SECONDS, Site, cells
from tests.servers import free_port


def made(site: Site, name: str, *scopes: Scope, lasting: str = "1h") -> str:
    """The text of a new token."""
    named = [word for scope in scopes for word in ("--scope", scope)]
    told = site.run_here("token", "create", "--name", name, *named, "--for", lasting)
    assert told.status == 0, told.err
    return told.out.strip()


def by(site: Site, token: str) -> Site:
    """The site, asked by its API with that token."""
    return replace(site, environment={"REPUTON_API": site.environment["REPUTON_API"], "REPUTON_TOKEN": token})


def test_its_text_stands_alone_on_standard_output(site: Site) -> None:
    name = f"mta-{len(site.environment)}"
    told = site.run(
        *("token", "create", "--name", name, "--scope", "check", "--scope", "read"),
        *("--for", "90d", "--reason", "mx1", "--rate", "50"),
    )
    assert (told.status, told.out.count("\n")) == (0, 1)
    parsed = parse_token(told.out.strip())
    assert parsed is not None
    token_id, secret = parsed
    assert secret not in told.err
    assert told.err.startswith(f"token {token_id} of {name} for read, check, until ")
    listed = site.run_here("token", "list")
    assert secret not in listed.out
    assert cells(listed.lines, f"{name} {token_id} read, check", "90 d 50", "mx1")
    twice = site.run_here("token", "create", "--name", name, "--scope", "read", "--for", "1d")
    assert (twice.status, twice.out) == (1, "")
    assert site.run("token", "revoke", name, "--reason", "lost").lines[0].startswith(f"taken back: token {token_id} ")
    assert not cells(site.run_here("token", "list").lines, name)
    assert site.run_here("token", "revoke", name).status == 1


def test_it_can_be_piped_to_where_it_is_needed(api_site: Site, tmp_path: Path) -> None:
    file = tmp_path / "token"
    with file.open("w", encoding="ascii") as opened:
        subprocess.run(
            [REPUTON, "token", "create", "--name", "piped", "--scope", "read", "--for", "1h"],
            env=replace(api_site, environment={}).surroundings(),
            stdout=opened,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=True,
        )
    site = replace(api_site, environment={"REPUTON_API": api_site.environment["REPUTON_API"]})
    file.chmod(0o600)
    told = site.run("top", "--token-file", file)
    assert (told.status, told.err) == (0, "")
    file.chmod(0o644)
    told = site.run("top", "--token-file", file)
    assert (told.status, told.err) == (0, f"{file} can be read by others: chmod 600 {file}\n")


REFUSED = (
    (Scope.READ, ("ban", "ip:192.0.2.77", "--for", "1h", "--reason", "x"), "write"),
    (Scope.CHECK, ("top",), "read"),
    (Scope.CHECK, ("tail",), "read"),
    (Scope.WRITE, ("reload",), "admin"),
    (Scope.WRITE, ("token", "list"), "admin"),
    (Scope.WRITE, ("forget", "ip:192.0.2.77", "--reason", "x", "--yes"), "admin"),
)


@pytest.mark.parametrize(("scope", "command", "needed"), REFUSED)
def test_a_weaker_token_is_refused_and_told_what_it_takes(
    api_site: Site, scope: Scope, command: tuple[str, ...], needed: str
) -> None:
    token = made(api_site, f"weak-{scope}-{command[0]}-{len(command)}", scope)
    told = by(api_site, token).run_here(*command)
    assert (told.status, told.out) == (3, "")
    (line,) = told.err.splitlines()
    assert f"--scope {needed} " in line
    assert token not in line


@pytest.mark.parametrize("token", ["", "rpt_00000000_" + "x" * 43, "nonsense"])
def test_no_token_and_a_wrong_one_are_refused_and_told_how_to_make_one(api_site: Site, token: str) -> None:
    told = by(api_site, token).run_here("top")
    assert (told.status, told.out) == (3, "")
    (line,) = told.err.splitlines()
    assert "reputon token create --name YOU --scope read" in line
    assert not token or token not in line


def test_what_cannot_be_a_token_is_not_sent(api_site: Site) -> None:
    told = by(api_site, "a b\u00e9").run_here("top")
    assert (told.status, told.out) == (1, "")
    assert "rpt_" in told.err
    assert "a b" not in told.err


def test_a_token_that_was_taken_back_or_has_ended_opens_nothing(api_site: Site) -> None:
    token = made(api_site, "brief", Scope.READ, lasting="2s")
    until = time.monotonic() + SECONDS
    while (told := by(api_site, token).run_here("top", "--n", "1")).status == 0:
        assert time.monotonic() < until, "it never ends"
    assert (told.status, "the token has ended" in told.err) == (3, True)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://127.0.0.1", "https://HOST:PORT"),
        ("nonsense", "https://HOST:PORT"),
        ("http://127.0.0.1:nonsense", "https://HOST:PORT"),
        ("http://me:rpt_secret@127.0.0.1:8025", "--token-file"),
        ("http://127.0.0.1:8025/?token=rpt_secret", "--token-file"),
        ("http://reputon.example.net:8025", "ssh -L"),
        ("http://127.0.0.1.example.net:8025", "ssh -L"),
    ],
)
def test_a_url_that_cannot_be_or_would_tell_the_token_is_a_mistake(store_site: Site, url: str, said: str) -> None:
    told = replace(store_site, environment={"REPUTON_TOKEN": "rpt_secret"}).run_here("top", "--api", url)
    assert (told.status, told.out) == (1, "")
    assert said in told.err
    assert "rpt_secret" not in told.err


def test_where_nobody_listens_it_says_so(store_site: Site) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    told = replace(store_site, environment={"REPUTON_TOKEN": "rpt_secret"}).run_here("top", "--api", url)
    assert (told.status, told.out) == (3, "")
    (line,) = told.err.splitlines()
    assert line.startswith(f"{url}: nobody can be reached there (")
    assert "rpt_secret" not in line


def test_what_was_typed_comes_before_what_the_environment_says(store_site: Site) -> None:
    elsewhere = replace(store_site, environment={"REPUTON_API": f"http://127.0.0.1:{free_port()}"})
    assert elsewhere.run_here("top", "--json").status == 3, "of two in the environment it is the API"
    assert elsewhere.run_here("top", "--json", "--config", store_site.config).status == 0
