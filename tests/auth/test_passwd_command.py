"""`reputon passwd`: what it asks, prints and writes, and what it leaves as it was."""

import os
import pty
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from reputation.cli.app import app
from reputation.cli.passwd import put
from reputation.errors import ConfigError
from reputation.passwords import matches, read_logins

BOB = "bob:$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$BvYTkGmZf5MeMxdpG4ejdNh5dYfFhvxujCGPWIhqBo8"


def run(*arguments: str, typed: str = "open sesame\n") -> str:
    """What the command prints."""
    result = CliRunner().invoke(app, ["passwd", *arguments], input=typed, catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_it_prints_a_line_for_the_file() -> None:
    printed = run("Alice@Example.NET")
    assert printed.count("\n") == 1
    found = read_logins(printed, "f")
    assert matches(found["alice@example.net"], "open sesame")
    assert matches(read_logins(run("a", typed=" blanks \r\n"), "f")["a"], " blanks "), "blanks are part of it"


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    file = tmp_path / "logins"
    assert run("alice", "--file", str(file)) == f"{file}: alice stands in it now\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert matches(read_logins(file.read_text(), "f")["alice"], "open sesame")
    assert list(tmp_path.iterdir()) == [file], "nothing else is left behind"


def test_the_line_of_a_login_is_replaced_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "logins"
    file.write_text(f"# users\n{BOB}\n\n# the boss\n{BOB.replace('bob', 'Alice')}\n# end")
    assert run("alice", "-f", str(file)) == f"{file}: alice has a new password\n"
    lines = file.read_text().splitlines()
    assert lines[:4] == ["# users", BOB, "", "# the boss"]
    assert lines[4].startswith("alice:$argon2id$") and lines[5:] == ["# end"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_file_keeps_its_owner_and_who_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "logins"
    file.write_text(f"{BOB}\n")
    file.chmod(0o640)
    os.chown(file, 65_534, 65_534)
    run("alice", "--file", str(file))
    status = file.stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (65_534, 65_534, 0o640)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    file, link = tmp_path / "logins", tmp_path / "link"
    file.write_text(f"{BOB}\n")
    link.symlink_to(file)
    run("alice", "--file", str(link))
    assert link.is_symlink()
    assert set(read_logins(file.read_text(), "f")) == {"alice", "bob"}


@pytest.mark.parametrize("login", ["", "a b", "al:ice", "#alice", "a\tb"])
def test_what_cannot_be_a_login_is_refused_before_a_password_is_asked_for(login: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a login"):
        run(login)


@pytest.mark.parametrize("typed", ["", "\n", "x\0y\n", "x" * 2_000])
def test_what_cannot_be_a_password_is_refused(typed: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a password"):
        run("alice", typed=typed)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"bob\n", "logins:1: write LOGIN:HASH"), (b"\xff", "no text in UTF-8")],
)
def test_a_file_with_a_mistake_is_left_as_it_is(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "logins"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=said):
        run("alice", "--file", str(file))
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_directory_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(ConfigError, match="/nowhere/logins: cannot be written: No such file"):
        run("alice", "--file", "/nowhere/logins")


def test_two_at_once_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "logins"
    threads = [threading.Thread(target=put, args=(file, BOB.replace("bob", f"bob{n}"))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(read_logins(file.read_text(), "f")) == 20


@pytest.mark.parametrize(
    ("again", "status", "said"),
    [("open sesame", 0, "alice:$argon2id$"), ("open sesam", 1, "not the same")],
)
def test_at_a_terminal_it_asks_twice_and_shows_nothing(again: str, status: int, said: str) -> None:
    ours, theirs = pty.openpty()
    command = [str(Path(sys.executable).parent / "reputon"), "passwd", "alice"]
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
    )
    os.close(theirs)
    assert process.stdout is not None
    too_late = threading.Timer(30, process.kill)
    too_late.start()
    try:
        shown = b""
        for prompt, typed in ((b"Password for alice: ", "open sesame"), (b"Again: ", again)):
            while not shown.endswith(prompt):
                octet = process.stdout.read(1)
                assert octet, f"it has ended: {shown!r}"
                shown += octet
            os.write(ours, f"{typed}\n".encode())
        shown += process.stdout.read()
        assert process.wait(20) == status
    finally:
        too_late.cancel()
        process.kill()
        process.wait(20)
        process.stdout.close()
        os.close(ours)
    assert said in shown.decode() and "sesam" not in shown.decode()
