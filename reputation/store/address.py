"""Where a Redis or Valkey server is and how to get in: store URLs into values. No I/O."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from reputation.config import ESCAPES, SERVER_SCHEMES
from reputation.errors import ConfigError

DEFAULT_PORT = 6_379
SENTINEL_PORT = 26_379
MAX_DIGITS = 5
PARAMETERS = {"unix": ("db",), "rediss": ("ca", "cert", "key", "verify")}
"""What may follow the question mark."""


@dataclass(frozen=True, slots=True)
class Address:
    """One server: host and port, or the path of a unix socket."""

    host: str
    port: int = 0
    """0 for a unix socket."""

    @classmethod
    def told(cls, host: str, port: int) -> "Address":
        """The address that a server has named; ValueError for one that cannot be."""
        if not host or "\0" in host or not 0 < port < 65_536:
            raise ValueError(f"{host!r} and {port} are no address")
        return cls(host, port)

    def __str__(self) -> str:
        if not self.port:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreUrl:
    """A store URL, taken apart.

    ``redis://[USER[:PASSWORD]@]HOST[:PORT][/DB]`` one server, with TLS as ``rediss://``; ``unix:///PATH[?db=N]``;
    ``redis+cluster://HOST:PORT,HOST:PORT``; ``redis+sentinel://HOST:PORT,HOST:PORT/NAME[/DB]``. Query parameters of
    TLS: ``ca=FILE``, ``cert=FILE``, ``key=FILE``, ``verify=no``. A password with special characters is
    percent-encoded.
    """

    kind: str
    """standalone, cluster or sentinel."""
    addresses: tuple[Address, ...]
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    service: str = ""
    """What Sentinel calls the group of servers."""
    tls: ssl.SSLContext | None = field(default=None, repr=False, compare=False)
    tls_options: Mapping[str, str] = field(default_factory=dict)
    """The parameters that `tls` was made of, for who makes one of his own."""

    @classmethod
    def parse(cls, url: str) -> "StoreUrl":
        """Read a URL; raises `ConfigError` that says what is wrong with it.

        It repeats nothing of who gets in: with a special character left bare, any part can be the password.
        """
        parts = _split(url)
        query = _query(parts)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        username, _, password = map(unquote, userinfo.partition(":"))
        kind, service = parts.scheme.partition("+")[2] or "standalone", ""
        if parts.scheme == "unix":
            addresses: tuple[Address, ...] = (_socket(hosts, unquote(parts.path)),)
            database = query.get("db", "0")
        else:
            addresses = _addresses(hosts, kind)
            service, database = _service_and_database(parts.path, kind)
        with_tls = parts.scheme.startswith("rediss")
        return cls(
            kind=kind,
            addresses=addresses,
            username=username,
            password=password,
            database=_database(database, kind),
            service=service,
            tls=_tls(query) if with_tls else None,
            tls_options=query if with_tls else {},
        )


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ConfigError(f"no address of a store: an IPv6 address is written as [::1], and {ESCAPES}") from None
    if parts.scheme not in SERVER_SCHEMES:
        raise ConfigError(f"unknown kind of store: known are {', '.join(SERVER_SCHEMES)}")
    if "#" in url or "@" in parts.query or ("@" in parts.path and parts.netloc):
        raise ConfigError(f"an @ or # behind the servers: {ESCAPES}")
    return parts


def _query(parts: SplitResult) -> dict[str, str]:
    """What follows the question mark. An unknown name is an error: who mistypes ``verify`` must hear of it."""
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    known = PARAMETERS.get(parts.scheme.partition("+")[0], ())
    if not query.keys() <= set(known):
        raise ConfigError(f"what {parts.scheme}:// takes after a question mark: {', '.join(known) or 'nothing'}")
    if empty := [name for name, value in query.items() if not value]:
        raise ConfigError(f"nothing follows {empty[0]}=")
    return query


def _service_and_database(path: str, kind: str) -> tuple[str, str]:
    """What follows the servers."""
    words = [unquote(word) for word in path.split("/") if word]
    service = ""
    if kind == "sentinel":
        if not words:
            raise ConfigError("a sentinel URL ends in the name of the group: redis+sentinel://HOST:PORT/NAME")
        service, *words = words
    if len(words) > 1:
        raise ConfigError(f"nothing follows the database, and {ESCAPES}")
    return service, words[0] if words else "0"


def _database(text: str, kind: str) -> int:
    if not text.isdecimal() or len(text) > MAX_DIGITS:
        raise ConfigError(f"a database is a number such as /0, and {ESCAPES}")
    if kind == "cluster" and text != "0":
        raise ConfigError("a cluster has no database but 0")
    return int(text)


def _socket(hosts: str, path: str) -> Address:
    if hosts or len(path) < 2:
        raise ConfigError("a unix URL has three slashes and a path: unix:///run/valkey/valkey.sock")
    return Address(path)


def _addresses(hosts: str, kind: str) -> tuple[Address, ...]:
    texts = hosts.split(",")
    if kind == "standalone" and len(texts) > 1:
        raise ConfigError("several servers are a cluster or watched by Sentinel: redis+cluster:// or redis+sentinel://")
    default_port = SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT
    return tuple(_address(text, default_port, number) for number, text in enumerate(texts, 1))


def _address(text: str, default_port: int, number: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port)
    host = host.strip("[]")
    if not host or "\0" in host or not port.isdecimal() or len(port) > MAX_DIGITS or not 0 < int(port) <= 65_535:
        raise ConfigError(f"server {number} is not HOST:PORT: USER:PASSWORD@ stands before all of them, and {ESCAPES}")
    return Address(host, int(port))


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    if query.get("verify", "yes") not in {"yes", "no"}:
        raise ConfigError("verify is yes or no")
    if "key" in query and "cert" not in query:
        raise ConfigError("key=FILE is the key of a certificate: name that, too, with cert=FILE")
    try:
        context = ssl.create_default_context(cafile=query.get("ca"))
        if "cert" in query:
            context.load_cert_chain(query["cert"], query.get("key"))
    except (OSError, ValueError) as error:  # ssl.SSLError is the former; the latter for what can be no name
        named = ", ".join(
            f"{name}={query[name]}".replace("\0", "%00") for name in ("ca", "cert", "key") if name in query
        )
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"TLS files cannot be read: {why} ({named})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if query.get("verify") == "no":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
