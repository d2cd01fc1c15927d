"""Tokens of the API: what is kept of them, and what they allow."""

import secrets
from dataclasses import replace
from typing import Any, cast

import pytest

from reputation.access import Scope, Token, digest_of, parse_token, scopes_of, spelled_token, to_json, token_of
from reputation.errors import ConfigError

SECRET = "s" * 43
TOKEN = Token(
    token_id="3f9c2a17",
    name="alice",
    digest=digest_of(SECRET),
    scopes=(Scope.WRITE,),
    author="root",
    reason="abuse desk",
    created_at=100.0,
    expires_at=200.0,
)


def test_a_token_reads_back_as_it_was_written() -> None:
    assert token_of(to_json(TOKEN), TOKEN.id) == TOKEN


def test_what_is_kept_does_not_open_anything() -> None:
    assert SECRET not in to_json(TOKEN)
    assert not TOKEN.is_opened_by(TOKEN.digest)
    assert TOKEN.is_opened_by(SECRET)
    assert not TOKEN.is_opened_by(SECRET[:-1] + "t")


def test_a_made_secret_has_the_length_that_is_read() -> None:
    text = spelled_token("3f9c2a17", secrets.token_urlsafe(32))
    assert parse_token(text) == ("3f9c2a17", text.rpartition("3f9c2a17_")[2])


@pytest.mark.parametrize(
    "text", ["", "rpt_", "rpt_3f9c2a17_" + "x" * 42, "rpt_3F9C2A17_" + "x" * 43, "x" * 60, "rpt_3f9c2a17_" + "é" * 43]
)
def test_anything_else_is_no_token(text: str) -> None:
    assert parse_token(text) is None


@pytest.mark.parametrize(
    ("own", "allowed"),
    [
        ("read", {"read"}),
        ("check", {"check"}),
        ("write", {"read", "write"}),
        ("admin", {"read", "check", "write", "admin"}),
    ],
)
def test_what_a_scope_allows(own: str, allowed: set[str]) -> None:
    token = replace(TOKEN, scopes=scopes_of([own]))
    assert {scope for scope in Scope if token.allows(scope)} == allowed


def test_it_ends_at_its_time() -> None:
    assert TOKEN.in_force(199.9)
    assert not TOKEN.in_force(200.0)
    assert replace(TOKEN, expires_at=None).in_force(1e12)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_id", "x"),
        ("name", ""),
        ("name", "a\nb"),
        ("name", "<script>"),
        ("digest", "00"),
        ("scopes", ()),
        ("reason", ""),
        ("author", "a\x1b[31m"),
        ("expires_at", 100.0),
        ("requests_per_second", -1.0),
        ("requests_per_second", float("nan")),
    ],
)
def test_what_cannot_be(field: str, value: object) -> None:
    with pytest.raises(ConfigError):
        replace(TOKEN, **cast(Any, {field: value}))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"name": 1}', "[" * 100_000, '{"name": "a", "digest": null}'])
def test_what_is_no_token_in_the_register(text: str) -> None:
    with pytest.raises(ConfigError, match=r"token\|3f9c2a17"):
        token_of(text, "token|3f9c2a17")
