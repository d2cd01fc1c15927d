"""What error replies mean, and which of them are none on the way in. Connecting: tests/cluster/test_server_gone.py."""

import pytest

from reputation.errors import StoreMisuse, StoreUnavailable
from reputation.store.connection import packed
from reputation.store.node import LOAD_FUNCTIONS, MAY_CALL, PERMISSIONS, error_of, harmless


@pytest.mark.parametrize(
    "reply",
    [
        "LOADING Redis is loading the dataset in memory",
        "READONLY You can't write against a read only replica.",
        "MASTERDOWN Link with MASTER is down",
        "CLUSTERDOWN The cluster is down",
        "BUSY Redis is busy running a script.",
        "MOVED 3999 127.0.0.1:6381",
        "NOREPLICAS Not enough good replicas to write.",
        "ERR max number of clients reached",
    ],
)
def test_what_passes_by_itself_is_unavailable(reply: str) -> None:
    error = error_of("db:1", reply)
    assert isinstance(error, StoreUnavailable)
    assert str(error) == f"db:1: {reply}"


@pytest.mark.parametrize(
    ("reply", "hint"),
    [
        ("NOPERM this user has no permissions to run the 'fcall' command", f"it needs: {PERMISSIONS}"),
        ("NOAUTH Authentication required.", "redis://USER:PASSWORD@HOST:PORT"),
        ("WRONGPASS invalid username-password pair", "user or password are wrong"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "raise maxmemory"),
        ("ERR unknown command 'FCALL'", "use Redis 7.0 or Valkey 8"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "use redis+cluster://"),
        ("ERR This instance has cluster support disabled", "no part of a cluster: use redis://"),
    ],
)
def test_what_somebody_has_to_mend_is_misuse_and_says_how(reply: str, hint: str) -> None:
    error = error_of("db:1", reply)
    assert isinstance(error, StoreMisuse)
    assert str(error).startswith(f"db:1: {reply} (")
    assert hint in str(error)


def test_an_error_that_nobody_knows_is_misuse_as_it_stands() -> None:
    assert str(error_of("db:1", "ERR value is not an integer")) == "db:1: ERR value is not an integer"


def test_an_error_does_not_repeat_what_the_command_said() -> None:
    """Redis repeats the arguments of a command that it does not know; Redis 6 and older in other quotes."""
    for reply in (
        "ERR unknown command 'AUTH', with args beginning with: 'me' 's3cret' ",
        "ERR unknown command `AUTH`, with args beginning with: `s3cret`, ",
    ):
        said = str(error_of("db:1", reply))
        assert "s3cret" not in said
        assert said.startswith(f"db:1: {reply[:26]} (the server is too old, or the command is disabled")


@pytest.mark.parametrize(
    ("command", "reply", "passed_over"),
    [
        (LOAD_FUNCTIONS, "ERR Library 'reputon_1' already exists", True),
        (LOAD_FUNCTIONS, "NOPERM this user has no permissions to run the 'function|load' command", True),
        (LOAD_FUNCTIONS, "READONLY You can't write against a read only replica.", True),
        (LOAD_FUNCTIONS, "ERR Error compiling function", False),
        (LOAD_FUNCTIONS, "ERR unknown command 'FUNCTION'", False),
        (MAY_CALL, "ERR Function not found", True),
        (MAY_CALL, "READONLY Can not run script with write flag on readonly replica.", True),
        (MAY_CALL, "OOM command not allowed when used memory > 'maxmemory'.", True),
        (MAY_CALL, "NOPERM this user has no permissions to run the 'fcall' command", False),
        (MAY_CALL, "ERR unknown command 'FCALL'", False),
        (packed("PING"), "NOPERM this user has no permissions to run the 'ping' command", False),
        (packed("PING"), "LOADING Redis is loading the dataset in memory", False),
    ],
)
def test_what_may_be_passed_over_on_the_way_in(command: bytes, reply: str, passed_over: bool) -> None:
    assert harmless(command, reply) is passed_over
