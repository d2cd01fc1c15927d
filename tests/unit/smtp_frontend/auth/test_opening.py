"""`open_verifier`: which settings name somebody to ask, and what is said to those that cannot be right."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from reputation.errors import ConfigError
from reputation.front_end_settings import AuthSettings
from smtp_frontend.auth import open_verifier

DN = "uid={user},dc=example,dc=net"


def opened(url: str, **settings: Any) -> None:
    open_verifier(AuthSettings(url=url, **settings), "mx.example.net")


@pytest.mark.parametrize(
    ("url", "settings"),
    [
        ("ldap://127.0.0.1", {"ldap_user_dn": DN}),
        ("ldap://[::1]:3389", {"ldap_user_dn": DN, "ldap_starttls": True}),
        ("ldaps://ldap.example.net", {"ldap_base": "dc=example,dc=net", "ldap_filter": "(|(uid={user})(mail={user}))"}),
        ("ldapi:///run/slapd/ldapi", {"ldap_user_dn": DN}),
        ("ldapi://%2Frun%2Fslapd%2Fldapi", {"ldap_user_dn": DN}),
        ("dovecot:/run/dovecot/auth-client", {}),
        ("dovecot:///run/dovecot/auth-client", {}),
        ("dovecot://192.0.2.7:12345", {}),
        ("smtp://127.0.0.1:2525", {}),
        ("smtp://mail.example.net?tls=starttls", {}),
        ("smtps://mail.example.net", {}),
    ],
)
def test_nobody_needs_to_be_there_when_it_is_opened(url: str, settings: dict[str, Any]) -> None:
    opened(url, **settings)


def test_a_file_may_be_written_with_slashes(tmp_path: Path) -> None:
    (tmp_path / "logins").touch()
    opened(f"passwd:{tmp_path}/logins")
    opened(f"passwd://{tmp_path}/logins")


@pytest.mark.parametrize(
    ("url", "settings", "said"),
    [
        ("passwd:/nowhere/logins", {}, "/nowhere/logins: cannot be read"),
        ("ldap://192.0.2.7", {"ldap_user_dn": DN, "ldap_starttls": True, "ldap_ca": "/nowhere.pem"}, "no such file"),
        ("ldaps://192.0.2.7", {"ldap_user_dn": DN, "ldap_ca": __file__}, "ldap_ca: .* cannot be used"),
        ("ldaps://192.0.2.7", {"ldap_user_dn": DN, "ldap_starttls": True}, "has no STARTTLS"),
        ("ldap://192.0.2.7/dc=net", {"ldap_user_dn": DN}, "write ldap://HOST:PORT"),
        ("ldap://u:p@192.0.2.7", {"ldap_user_dn": DN}, "write ldap://HOST:PORT"),
        ("ldapi://run", {"ldap_user_dn": DN}, "write ldap://HOST:PORT"),
        ("ldap://192.0.2.7", {"ldap_base": "dc=net", "ldap_filter": "(uid={user}"}, "this is no filter"),
        ("ldap://192.0.2.7", {"ldap_base": "dc=net", "ldap_filter": "uid={user}"}, "this is no filter"),
        ("dovecot:auth-client", {}, "dovecot:/PATH"),
        ("dovecot://192.0.2.7", {}, "dovecot://HOST:PORT"),
        ("smtp://mail.example.net", {}, "passwords go by TLS only"),
        ("smtp://192.0.2.7:25", {}, "passwords go by TLS only"),
        ("smtp://127.0.0.1?tls=no", {}, "the options are"),
        ("smtp://127.0.0.1?starttls=require", {}, "the options are"),
        ("smtps://127.0.0.1?tls=starttls", {}, "write smtps://HOST:PORT"),
        ("smtps://127.0.0.1?ca=/nowhere.pem", {}, "ca=/nowhere.pem: cannot be used"),
        ("smtps://u@mail.example.net", {}, "write smtps://HOST:PORT"),
        ("dovecot:/run/x", {"default_domain": "*"}, "write one domain"),
        ("dovecot:/run/x", {"default_domain": "*.example.net"}, "write one domain"),
    ],
)
def test_what_cannot_be_right_is_told_with_what_to_write(url: str, settings: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, ValidationError), match=said):
        opened(url, **settings)


def test_a_password_that_goes_over_a_network_in_the_clear_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    opened("ldap://127.0.0.1", ldap_user_dn=DN)
    assert not caplog.text
    opened("ldap://192.0.2.7", ldap_user_dn=DN)
    assert "in the clear; set ldap_starttls" in caplog.text
