"""The URL of a next hop, read once at start.

====================================  ==========================================================
``smtp://HOST[:PORT]``                SMTP over TCP, port 25 where none is given
``lmtp://HOST[:PORT]``                LMTP over TCP, port 24 (RFC 2033 leaves it open, 24 is IANA's)
``smtp:///SOCKET``, ``lmtp:///SOCKET``  the same over a Unix-domain socket
``maildir:DIRECTORY``                 one Maildir, relative or absolute
====================================  ==========================================================

HOST is a name (its A and AAAA records; no MX lookup), an IPv4 address, or an IPv6 address in brackets.
``?starttls=require|may|no`` rules TLS to a TCP host: `StartTls` says what the words mean. ``?xclient=yes`` has the
server told who the client is: see `smtp_frontend.next_hop.xclient`. Of two options the second follows ``&``.

>>> HopAddress.parse("smtp://mail.example.net")
HopAddress(scheme='smtp', host='mail.example.net', port=25, path='', starttls=<StartTls.MAY: 'may'>, xclient=False)
>>> HopAddress.parse("lmtp:///run/dovecot/lmtp").path
'/run/dovecot/lmtp'
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from reputation.errors import ConfigError

DEFAULT_PORTS = {"smtp": 25, "lmtp": 24}
MAX_PORT = 65_535


class StartTls(StrEnum):
    """Whether the connection to the next hop is encrypted (RFC 3207)."""

    REQUIRE = "require"
    """TLS with a certificate that proves the host's name, or no mail at all."""
    MAY = "may"
    """TLS where offered, with any certificate; clear text else (RFC 7435). The default for other hosts."""
    NO = "no"
    """Never. The default for loopback and Unix-domain sockets."""


_OPTIONS = {"starttls": frozenset(map(str, StartTls)), "xclient": frozenset({"yes", "no"})}


@dataclass(frozen=True, slots=True, kw_only=True)
class HopAddress:
    """Where a next hop is. Exactly one of `host` and `path` is set."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    """A Unix-domain socket, or the directory of a Maildir."""
    starttls: StartTls = StartTls.NO
    xclient: bool = False
    """Whether the server is told who the client is, where it offers to listen."""

    @classmethod
    def parse(cls, url: str) -> "HopAddress":
        """Read a URL; raises `ConfigError` that says what to write instead."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f'next hop "{url}": {error}') from error
        if parts.scheme not in {*DEFAULT_PORTS, "maildir"} or parts.fragment or "@" in parts.netloc:
            raise ConfigError(
                f'next hop "{url}": write smtp://HOST:PORT, lmtp://HOST:PORT, lmtp:///SOCKET or maildir:DIR'
            )
        if parts.netloc and parts.scheme != "maildir":
            return _tcp(url, parts, port)
        return _local(url, parts)


def _tcp(url: str, parts: SplitResult, port: int | None) -> HopAddress:
    host = parts.hostname or ""
    port = DEFAULT_PORTS[parts.scheme] if port is None else port
    if not host or not 1 <= port <= MAX_PORT or parts.path not in {"", "/"}:
        raise ConfigError(f'next hop "{url}": write {parts.scheme}://HOST:PORT with a port from 1 to {MAX_PORT}')
    options = _options(url, parts.query)
    default = StartTls.NO if is_loopback(host) else StartTls.MAY
    starttls = StartTls(options.get("starttls", default))
    return HopAddress(scheme=parts.scheme, host=host, port=port, starttls=starttls, xclient=_xclient(options))


def _local(url: str, parts: SplitResult) -> HopAddress:
    path = unquote(parts.path)
    if parts.netloc or not path or "\0" in path:
        raise ConfigError(f'next hop "{url}": write {parts.scheme}:DIRECTORY, {parts.scheme}:///SOCKET for a socket')
    if parts.scheme != "maildir" and not path.startswith("/"):
        raise ConfigError(f'next hop "{url}": the path of a socket is absolute: {parts.scheme}:///run/SOCKET')
    if parts.scheme == "maildir" and parts.query:
        raise ConfigError(f'next hop "{url}": a Maildir has no options; write %3F for a question mark')
    options = _options(url, parts.query)
    if options.get("starttls", StartTls.NO) != StartTls.NO:
        raise ConfigError(f'next hop "{url}": no TLS over a Unix-domain socket: drop starttls')
    return HopAddress(scheme=parts.scheme, path=path, xclient=_xclient(options))


def _options(url: str, query: str) -> dict[str, str]:
    """The options after the question mark, each at most once and with a value that it can have."""
    options = parse_qsl(query, keep_blank_values=True)
    for name, value in options:
        if value not in _OPTIONS.get(name, ()):
            raise ConfigError(f'next hop "{url}": the options are starttls=require, may or no, and xclient=yes or no')
    if len(dict(options)) < len(options):
        raise ConfigError(f'next hop "{url}": write each option once')
    return dict(options)


def _xclient(options: Mapping[str, str]) -> bool:
    return options.get("xclient") == "yes"


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nobody hears what is said to it."""
    if host == "localhost" or host.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
