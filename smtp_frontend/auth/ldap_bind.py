"""``ldap://``, ``ldaps://``, ``ldapi:///SOCKET``: binds to a directory as the user (RFC 4513). The one door to ldap3.

Where `ldap_user_dn` is set that name is bound with at once. Else the user is searched for below `ldap_base`, and just
one entry may be found, which is bound with. Each log-in has a connection of its own.

Promises: no empty password is ever sent: a directory would take it for somebody who wants no authentication, and say
success (RFC 4513 section 5.1.2). With TLS the server proves its name, or no password is sent. A referral is not
followed, so no password goes to a server that another one names. What is not clearly about the user is our trouble
(`ABOUT_USER`). A log-in that takes longer than its deadline has its connection cut, so that it keeps no thread.

Does not do: SASL, password policies, groups (write them into `ldap_filter`), SASLprep of passwords.

Bugs: by the time it takes one can tell whether a search has found somebody. A resolver that is silent keeps a thread
beyond the deadline. Where several logins find the same entry, each is a user of its own.
"""

import asyncio
import logging
import socket
import ssl
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from reputation.errors import ConfigError
from reputation.front_end_settings import AuthSettings
from smtp_frontend.auth.contract import DENIED, Accepted, Verified, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.ldap_names import in_dn, in_filter
from smtp_frontend.auth.threads import Threads
from smtp_frontend.next_hop.address import is_loopback

with warnings.catch_warnings():  # ldap3 2.9.1 imports names that pyasn1 calls deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    import ldap3
    from ldap3.core.exceptions import LDAPException
    from ldap3.operation.search import parse_filter

MAX_THREADS = 16
"""Log-ins under way at once. Nearly all of their time they wait."""
DEFAULT_PORTS = {"ldap": 389, "ldaps": 636}

SUCCESS = 0
NO_SUCH_OBJECT = 32
SIZE_LIMIT_EXCEEDED = 4
ABOUT_USER = frozenset(
    {
        19,  # constraintViolation: some say so of a user who is locked out
        NO_SUCH_OBJECT,
        34,  # invalidDNSyntax: of the login
        48,  # inappropriateAuthentication: he has no password
        49,  # invalidCredentials
        50,  # insufficientAccessRights: he may not bind
        53,  # unwillingToPerform: locked out, expired
    }
)
"""What a bind is answered with when it is the user that is refused (RFC 4511 appendix A); all else is our trouble."""

log = logging.getLogger("reputon.auth")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directory:
    """Where the directory is, and how it is asked. Made once from the settings; raises `ConfigError`."""

    settings: AuthSettings
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    """A Unix-domain socket."""
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, settings: AuthSettings) -> "Directory":
        """The directory that `settings` name. Reads the file of the authority."""
        parts = urlsplit(settings.url)
        if settings.ldap_starttls and parts.scheme != "ldap":
            raise ConfigError(
                f"[smtp.auth] ldap_starttls: {parts.scheme}:// has no STARTTLS: drop it, or write ldap://"
            )
        try:
            parse_filter(  # type: ignore[no-untyped-call]  # the stubs leave it untyped
                in_filter(settings.ldap_filter, "x"), None, False, False, None, False
            )
        except LDAPException as error:
            raise ConfigError(f"[smtp.auth] ldap_filter: this is no filter: {error}") from None
        if parts.scheme == "ldapi":
            path = unquote(parts.netloc) or unquote(parts.path)
            return cls(settings=settings, scheme="ldapi", path=_usable(path, path.startswith("/")))
        host = _usable(parts.hostname or "", not parts.path.strip("/") and "@" not in parts.netloc)
        tls = _context(settings) if parts.scheme == "ldaps" or settings.ldap_starttls else None
        if tls is None and not is_loopback(host):
            log.warning("[smtp.auth] %s: passwords go there in the clear; set ldap_starttls", settings.url)
        port = parts.port or DEFAULT_PORTS[parts.scheme]
        return cls(settings=settings, scheme=parts.scheme, host=host, port=port, tls=tls)

    def server(self, seconds: float) -> ldap3.Server:
        """For one log-in, which may take so long to connect."""
        if self.path:
            return ldap3.Server(f"ldapi://{self.path}", get_info=ldap3.NONE, connect_timeout=seconds)
        tls = None if self.tls is None else _Tls(self.tls)
        at_once = self.scheme == "ldaps"
        host = f"ldap{'s' * at_once}://[{self.host}]" if ":" in self.host else self.host
        return ldap3.Server(host, self.port, at_once, get_info=ldap3.NONE, tls=tls, connect_timeout=seconds)


def _usable(place: str, is_usable: bool) -> str:
    if not place or not is_usable:
        raise ConfigError("[smtp.auth] url: write ldap://HOST:PORT, ldaps://HOST:PORT or ldapi:///SOCKET, and no more")
    return place


def _context(settings: AuthSettings) -> ssl.SSLContext:
    if settings.ldap_ca and not Path(settings.ldap_ca).is_file():
        raise ConfigError(f"[smtp.auth] ldap_ca: {settings.ldap_ca}: there is no such file")
    try:
        return ssl.create_default_context(cafile=settings.ldap_ca or None)
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"[smtp.auth] ldap_ca: {settings.ldap_ca}: cannot be used: {error}") from None


class _Tls(ldap3.Tls):
    """TLS as Python's own library checks it: the authority, and the name of the host."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = context

    def wrap_socket(self, connection: ldap3.Connection, do_handshake: bool = False) -> None:
        """Called by ldap3."""
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=do_handshake
        )


class LdapVerifier:
    """Checks passwords by binding with them."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._threads = Threads(MAX_THREADS)

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:  # noqa: ARG002 - LDAP has no place for it
        """See `Verifier`."""
        if not credentials.password:  # RFC 4513 section 5.1.2
            return DENIED
        attempt = _Attempt(self._directory, credentials)
        try:
            return await self._threads.run(attempt.carry_out)
        except asyncio.CancelledError:
            attempt.cut_off()
            raise

    async def close(self) -> None:
        """See `Verifier`."""
        self._threads.close()


class _Attempt:
    """One log-in. Runs in a thread; `cut_off` comes from another."""

    def __init__(self, directory: Directory, credentials: Credentials) -> None:
        self._directory = directory
        self._settings = directory.settings
        self._credentials = credentials
        self._ends_at = time.monotonic() + self._settings.deadline_seconds
        self._connection: ldap3.Connection | None = None
        self._is_cut = False

    def carry_out(self) -> Verified:
        """All of it; raises `VerifierUnavailable`."""
        try:
            return self._verified(self._connected())
        except VerifierUnavailable:
            raise
        except (LDAPException, OSError) as error:
            said = self._connection.last_error if self._connection is not None else None
            raise VerifierUnavailable(f"{said or error}") from error
        # The top of a thread's job: a server that does not speak LDAP makes the library fail in any way.
        except Exception as error:
            log.exception("a log-in has failed: a mistake of ours, or the directory talks nonsense")
            raise VerifierUnavailable(f"nonsense: {type(error).__name__}") from error
        finally:
            self._close()

    def cut_off(self) -> None:
        """Nobody waits for it any more: what it is waiting for ends now."""
        self._is_cut = True
        connection = self._connection
        if connection is not None and connection.socket is not None:
            with suppress(OSError, TypeError):  # it may be closing just now
                # Not the method of SSLSocket: that one turns TLS off first, and a password could go out without it.
                socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)

    def _connected(self) -> ldap3.Connection:
        """A connection, by TLS where that is wanted."""
        connection = ldap3.Connection(
            self._directory.server(self._seconds_left()),
            client_strategy=ldap3.SYNC,
            auto_referrals=False,
            check_names=False,
            read_only=True,
        )
        self._connection = connection
        connection.open(read_server_info=False)
        if self._settings.ldap_starttls:
            self._allow_time(connection)
            connection.start_tls(read_server_info=False)  # raises when it is not
        return connection

    def _verified(self, connection: ldap3.Connection) -> Verified:
        login = self._credentials.login
        name = in_dn(self._settings.ldap_user_dn, login) if self._settings.ldap_user_dn else self._found(connection)
        if not name:
            return DENIED
        code = self._bind(connection, name, self._credentials.password)
        if code == SUCCESS:
            return Accepted(user=self._credentials.user)
        if code in ABOUT_USER:
            return DENIED
        raise VerifierUnavailable(_told("bind", connection))

    def _found(self, connection: ldap3.Connection) -> str:
        """The name of the one entry that is searched for; empty when there is none, or another."""
        settings = self._settings
        if self._bind(connection, settings.ldap_bind_dn, settings.ldap_bind_password) != SUCCESS:
            raise VerifierUnavailable(_told("bind to search", connection))
        self._allow_time(connection)
        wanted = in_filter(settings.ldap_filter, self._credentials.login)
        connection.search(settings.ldap_base, wanted, search_scope=ldap3.SUBTREE, attributes=None, size_limit=2)
        if connection.result["result"] not in {SUCCESS, SIZE_LIMIT_EXCEEDED}:
            raise VerifierUnavailable(_told("search", connection))
        names = [str(entry["dn"]) for entry in connection.response or () if entry["type"] == "searchResEntry"]
        if len(names) > 1:
            log.warning("[smtp.auth] ldap_filter finds several entries for one login; nobody can log in by it")
        return names[0] if len(names) == 1 else ""

    def _bind(self, connection: ldap3.Connection, name: str, password: str) -> int:
        """The result code of a bind, anonymous without a name."""
        self._allow_time(connection)
        connection.user = name or None
        connection.password = password.encode()  # octets are sent as they are
        connection.authentication = ldap3.SIMPLE if name else ldap3.ANONYMOUS
        connection.bind(read_server_info=False)
        return int(connection.result["result"])

    def _allow_time(self, connection: ldap3.Connection) -> None:
        """Bound the next exchange by what is left of the deadline."""
        connection.socket.settimeout(self._seconds_left())

    def _seconds_left(self) -> float:
        left = self._ends_at - time.monotonic()
        if left <= 0 or self._is_cut:
            raise VerifierUnavailable("no answer in time")
        return left

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(LDAPException, OSError):  # it is over either way
            if not connection.closed:
                connection.unbind()
        if connection.socket is not None:  # one that could not be opened is left to us
            connection.socket.close()


def _told(what: str, connection: ldap3.Connection) -> str:
    return f"{what}: {connection.result['description']} ({connection.result['result']})"
