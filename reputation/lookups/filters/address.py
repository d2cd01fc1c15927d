"""Where a content filter is: the URL of a `[[filter]]` into values. No I/O.

``rspamd://HOST:PORT``, ``spamd://HOST:PORT``, ``clamd://HOST:PORT``; ``rspamds://HOST:PORT[?ca=FILE]`` by TLS, where
FILE is the authority to trust instead of the system's; ``spamd:///PATH`` and ``clamd:///PATH`` for unix sockets.
"""

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from reputation.errors import ConfigError

USUAL_PORTS = {"rspamd": 11_333, "rspamds": 11_333, "spamd": 783, "clamd": 3_310}
ON_SOCKETS = ("spamd", "clamd")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """One filter: host and port, or the path of a unix socket."""

    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    ca: str = ""
    """PEM file with the authority to trust; empty takes the system's."""

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Read a URL; raises `ConfigError` that says what is wrong with it, and repeats no password."""
        try:
            parts = urlsplit(url)
            port = parts.port or 0
        except ValueError:
            raise ConfigError('filter url: no address; an IPv6 address is written as "[::1]"') from None
        if parts.scheme not in USUAL_PORTS:
            raise ConfigError(f"filter url: unknown kind of filter, known are {', '.join(USUAL_PORTS)}")
        if "@" in parts.netloc or parts.fragment:
            raise ConfigError("filter url: nothing but HOST:PORT; what rspamd asks for stands in `password`")
        if not parts.netloc:
            return cls(scheme=parts.scheme, path=_path(parts))
        example = f"{parts.scheme}://{parts.hostname or 'HOST'}:{USUAL_PORTS[parts.scheme]}"
        if not parts.hostname or not port or parts.path.strip("/"):
            raise ConfigError(f'filter url: write HOST:PORT, such as "{example}"')
        return cls(scheme=parts.scheme, host=_host(parts.hostname), port=port, ca=_authority(parts))

    def __str__(self) -> str:
        """Without parameters: the name of the filter in logs and metrics."""
        if self.path:
            return f"{self.scheme}://{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def _host(text: str) -> str:
    try:
        text.encode("idna")
    except UnicodeError:
        raise ConfigError("filter url: no name that a host may have") from None
    return text


def _path(parts: SplitResult) -> str:
    path = unquote(parts.path)
    if parts.scheme not in ON_SOCKETS:
        raise ConfigError(
            f'filter url: {parts.scheme} listens on HOST:PORT only, such as "{parts.scheme}://127.0.0.1:11333"'
        )
    if parts.query or "\0" in path or not path.strip("/"):
        raise ConfigError(
            f'filter url: write the path of a socket only, such as "{parts.scheme}:///run/{parts.scheme}.sock"'
        )
    return path


def _authority(parts: SplitResult) -> str:
    query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
    ca = query.pop("ca", "")
    if query or bool(ca) != bool(parts.query) or (ca and parts.scheme != "rspamds"):
        raise ConfigError("filter url: what may follow a question mark is ca=FILE, of rspamds:// only")
    return ca
