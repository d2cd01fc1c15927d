"""Who credentials are of."""

import pytest

from smtp_frontend.auth.credentials import Credentials


@pytest.mark.parametrize(
    ("login", "user"),
    [
        ("Alice", "alice"),
        ("ALICE@Example.NET", "alice@example.net"),
        ("jürgen@BÜCHER.example", "jürgen@xn--bcher-kva.example"),
        ("alice+news@example.net", "alice+news@example.net"),
    ],
)
def test_a_user_is_spelled_in_one_way(login: str, user: str) -> None:
    assert Credentials(login=login, password="x").user == user


def test_a_domain_is_appended_where_there_is_none() -> None:
    alice = Credentials(login="alice", password="x")
    assert alice.within("example.net").login == "alice@example.net"
    assert alice.within("").login == "alice"
    other = Credentials(login="alice@example.org", password="x")
    assert other.within("example.net") is other


def test_a_login_that_grows_too_long_is_none() -> None:
    with pytest.raises(ValueError, match="no login"):
        Credentials(login="a" * 320, password="x").within("example.net")


@pytest.mark.parametrize(("login", "password"), [("", "x"), ("alice", ""), ("a b", "x"), ("alice", "x\0y")])
def test_what_nobody_is_called_cannot_be_credentials(login: str, password: str) -> None:
    with pytest.raises(ValueError, match="this is no"):
        Credentials(login=login, password=password)
