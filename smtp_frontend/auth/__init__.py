"""AUTH: the exchange with the client, and who knows the passwords.

`open_verifier` is the door to the latter; `contract` says what comes out of it.

::

    credentials    a login and a password                   pure
    mechanisms     PLAIN and LOGIN, step by step            pure
    replies        the answers to AUTH                      pure
    contract       what a verifier is
    bounded        default domain, deadline, one log line
    threads        so many at once
    passwd_file    passwd:FILE                              I/O
    ldap_names     a login in names and filters             pure
    ldap_bind      ldap://, ldaps://, ldapi://              I/O
    dovecot_lines  what Dovecot says                        pure
    dovecot        dovecot:SOCKET, dovecot://HOST:PORT      I/O
    next_hop       smtp://, smtps://                        I/O
"""

from pathlib import Path

from reputation.errors import ConfigError
from reputation.front_end_settings import AuthSettings
from smtp_frontend.auth.bounded import Bounded
from smtp_frontend.auth.contract import DENIED, Accepted, Denied, Verified, Verifier, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.dovecot import DovecotVerifier
from smtp_frontend.auth.mechanisms import MECHANISMS, Challenge, Refused, Step, start
from smtp_frontend.auth.next_hop import HopPeer, HopVerifier
from smtp_frontend.auth.passwd_file import PasswdVerifier

__all__ = [
    "DENIED",
    "MECHANISMS",
    "Accepted",
    "Challenge",
    "Credentials",
    "Denied",
    "Refused",
    "Step",
    "Verified",
    "Verifier",
    "VerifierUnavailable",
    "open_verifier",
    "start",
]


def open_verifier(settings: AuthSettings, hostname: str) -> Verifier:
    """Who knows the passwords, by the settings; `hostname` is our name when another mail server is asked.

    Reads the files that are named, and connects to nobody yet. Raises `ConfigError` for what cannot be right.
    """
    if "*" in settings.default_domain:
        raise ConfigError("[smtp.auth] default_domain: write one domain, such as example.net")
    verifier = _opened(settings, hostname)
    return Bounded(
        verifier,
        name=settings.url,
        default_domain=settings.default_domain,
        deadline_seconds=settings.deadline_seconds,
    )


def _opened(settings: AuthSettings, hostname: str) -> Verifier:
    scheme, _, rest = settings.url.partition(":")
    match scheme:
        case "passwd":
            return PasswdVerifier(Path(rest.removeprefix("//")))
        case "ldap" | "ldaps" | "ldapi":
            # Here, so that whoever has no directory does not wait for the library, nor keep it in memory.
            from smtp_frontend.auth.ldap_bind import Directory, LdapVerifier  # noqa: PLC0415 - see the line above

            return LdapVerifier(Directory.of(settings))
        case "dovecot":
            return DovecotVerifier(settings.url)
        case "smtp" | "smtps":
            peer = HopPeer.parse(settings.url, hostname=hostname, timeout_seconds=settings.deadline_seconds)
            return HopVerifier(peer)
    raise ConfigError(f"[smtp.auth] url: {scheme}: is nobody we know how to ask")
