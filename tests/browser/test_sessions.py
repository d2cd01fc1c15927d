"""The cookie of a log-in: nobody makes one who has not the token, and nobody gets the token out of one."""

import base64
import secrets

import pytest

from api.console.sessions import NONCE_OCTETS, Session, sealed, session_of
from reputation.access import Token, parse_token
from tests.api.conftest import new_token

NOW = 1_795_000_000.0


def made(*, seconds: float = 3_600) -> tuple[str, Token, str]:
    """A cookie, its token, and the token's secret."""
    text, token = new_token("write", now=NOW)
    parsed = parse_token(text)
    assert parsed is not None
    nonce = secrets.token_bytes(NONCE_OCTETS)
    return sealed(token, parsed[1], expires_at=NOW + seconds, nonce=nonce), token, parsed[1]


def read(cookie: str, *tokens: Token, now: float = NOW) -> Session | None:
    return session_of(cookie, {token.token_id: token for token in tokens}, now)


def test_whoever_has_shown_a_token_is_logged_in_until_the_session_ends() -> None:
    cookie, token, _ = made(seconds=100)
    session = read(cookie, token)
    assert session is not None
    assert session.token is token
    assert session.expires_at == NOW + 100
    assert read(cookie, token, now=NOW + 99) is not None
    assert read(cookie, token, now=NOW + 100) is None


def test_a_token_that_is_taken_back_or_over_ends_its_sessions() -> None:
    cookie, token, _ = made(seconds=100_000)
    assert read(cookie) is None
    assert read(cookie, token, now=NOW + 3_601) is None


def test_another_secret_under_the_same_id_ends_them_as_well() -> None:
    cookie, token, _ = made()
    _, other = new_token("write", now=NOW)
    again = Token(
        token_id=token.token_id,
        name=token.name,
        digest=other.digest,
        scopes=token.scopes,
        author="tests",
        reason="made anew",
        created_at=NOW,
        expires_at=None,
    )
    assert read(cookie, again) is None


@pytest.mark.parametrize("part", range(5))
def test_no_part_of_a_cookie_can_be_another(part: int) -> None:
    cookie, token, _ = made()
    parts = cookie.split(".")
    last = parts[part][-2]
    parts[part] = f"{parts[part][:-2]}{'1' if last != '1' else '2'}{parts[part][-1]}"
    assert read(".".join(parts), token) is None
    assert read(cookie, token) is not None


def test_whoever_reads_the_store_cannot_make_a_cookie() -> None:
    """He knows the digest; with it in place of the secret nothing is opened."""
    _, token, _ = made()
    forged = sealed(token, token.digest[:43], expires_at=NOW + 3_600, nonce=bytes(NONCE_OCTETS))
    assert read(forged, token) is None


def test_a_cookie_does_not_show_its_token() -> None:
    cookie, _, secret = made()
    covered = base64.urlsafe_b64decode(cookie.split(".")[3])
    assert secret not in cookie
    assert secret.encode() not in covered
    assert made()[0].split(".")[3] != cookie.split(".")[3]


@pytest.mark.parametrize(
    "cookie", ["", ".", "x" * 10_000, "0" * 8 + ".1." + "0" * 32 + ".====." + "0" * 64, "é.1.2.3.4"]
)
def test_what_is_no_cookie_is_nobody(cookie: str) -> None:
    _, token, _ = made()
    assert read(cookie, token) is None


def test_forms_are_of_one_session_only() -> None:
    one, token, secret = made()
    other = sealed(token, secret, expires_at=NOW + 3_600, nonce=bytes(NONCE_OCTETS))
    first, second = read(one, token), read(other, token)
    assert first is not None
    assert second is not None
    assert first.has_form(first.form_token)
    assert not first.has_form(second.form_token)
    assert not first.has_form("")
    assert not first.has_form("\udcff")
