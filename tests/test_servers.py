"""The servers that tests start: found, or the test says what to install."""

import pytest

from tests.servers import require_binary


def test_a_missing_program_skips_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPUTON_NO_SKIPS", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^not installed: apt-get install -y some-package$"):
        require_binary("no-such-program", "some-package")


def test_a_missing_program_fails_where_nothing_may_be_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPUTON_NO_SKIPS", "1")
    with pytest.raises(pytest.fail.Exception, match=r"^not installed: apt-get install -y some-package$"):
        require_binary("no-such-program", "some-package")


def test_a_daemon_is_found_outside_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("tests.servers.SYSTEM_PATH", "/bin")
    assert require_binary("sh", "dash") == "/bin/sh"
