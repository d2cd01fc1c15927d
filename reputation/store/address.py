"""Where a Redis or Valkey server is and how to get in: store URLs into values. No I/O."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from reputation.errors import ConfigError

DEFAULT_PORT = 6_379
SENTINEL_PORT = 26_379
SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)
PARAMETERS = {"unix": ("db",), "rediss": ("ca", "cert", "key", "verify")}
"""What may follow the question mark."""


@dataclass(frozen=True, slots=True)
class Address:
    """One server: host and port, or the path of a unix socket."""

    host: str
    port: int = 0
    """0 for a unix socket."""

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
        """Read a URL; raises `ConfigError` that says what is wrong with it."""
        parts = _split(url)
        query = _query(parts)
        userinfo, _, hosts = parts.netloc.rpartition("@")
        username, _, password = map(unquote, userinfo.partition(":"))
        kind = parts.scheme.partition("+")[2] or "standalone"
        path = [unquote(part) for part in parts.path.split("/") if part]
        if parts.scheme == "unix":
            addresses: tuple[Address, ...] = (_socket(hosts, unquote(parts.path)),)
            database = query.get("db", "0")
        else:
            port = SENTINEL_PORT if kind == "sentinel" else DEFAULT_PORT
            addresses = tuple(_address(host, port) for host in hosts.split(","))
            database = next(iter(path[1:] if kind == "sentinel" else path), "0")
        return cls(
            kind=kind,
            addresses=addresses,
            username=username,
            password=password,
            database=_database(database, kind),
            service=_service(path) if kind == "sentinel" else "",
            tls=_tls(query) if parts.scheme.startswith("rediss") else None,
            tls_options=query if parts.scheme.startswith("rediss") else {},
        )


def _service(path: list[str]) -> str:
    if not path:
        raise ConfigError("a sentinel URL ends in the name of the group: redis+sentinel://HOST:PORT/NAME")
    return path[0]


def _database(text: str, kind: str) -> int:
    if not text.isdecimal() or (kind == "cluster" and text != "0"):
        raise ConfigError(f"{text!r} is no database that this store has")
    return int(text)


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise ConfigError(f"no address of a store: {error}") from None
    if parts.scheme not in SCHEMES:
        raise ConfigError(f"unknown kind of store {parts.scheme!r}: known are {', '.join(SCHEMES)}")
    return parts


def _query(parts: SplitResult) -> dict[str, str]:
    """What follows the question mark. An unknown name is an error: who mistypes ``verify`` must hear of it."""
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    known = PARAMETERS.get(parts.scheme.partition("+")[0], ())
    unknown = [name for name in query if name not in known]
    if unknown:
        raise ConfigError(f"{parts.scheme}:// has no parameter {unknown[0]!r}: {', '.join(known) or 'none'}")
    return query


def _socket(hosts: str, path: str) -> Address:
    if hosts or len(path) < 2:
        raise ConfigError("a unix URL has three slashes and a path: unix:///run/valkey/valkey.sock")
    return Address(path)


def _address(text: str, default_port: int) -> Address:
    host, colon, port = text.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = text, str(default_port)
    host = host.strip("[]")
    if not host or not port.isdecimal() or not 0 < int(port) <= 65_535:
        raise ConfigError(f"{text!r} is not HOST:PORT")
    return Address(host, int(port))


def _tls(query: dict[str, str]) -> ssl.SSLContext:
    if query.get("verify", "yes") not in {"yes", "no"}:
        raise ConfigError("verify is yes or no")
    try:
        context = ssl.create_default_context(cafile=query.get("ca"))
        if "cert" in query:
            context.load_cert_chain(query["cert"], query.get("key"))
    except OSError as error:  # ssl.SSLError is one
        named = ", ".join(f"{name}={query[name]}" for name in ("ca", "cert", "key") if name in query)
        raise ConfigError(f"TLS files cannot be read: {error.strerror or error} ({named})") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if query.get("verify") == "no":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
