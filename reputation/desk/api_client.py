"""Requests to the API of another process, with a bearer token (RFC 6750). A door to aiohttp.

Promises: the other side is who its certificate says, redirects are not followed, and no proxy of the environment is
used, so the token goes where it was meant to go; it stands in no error and in no log. Without TLS it goes to this
machine only. Every request ends within `REQUEST_SECONDS`, and no answer is larger than `MAX_ANSWER_OCTETS`.

What went wrong is told in the server's words (RFC 9457), or as `Unreachable` and `Refused`, which say what to do.

Does not do: repeat a request that failed. What it asked for may have been done.
"""

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from yarl import URL

from reputation.access import Scope
from reputation.errors import (
    ApiError,
    ConfigError,
    NothingThere,
    Refused,
    StoreError,
    StoreMisuse,
    StoreUnavailable,
    Unreachable,
)

CONNECT_SECONDS = 10.0
REQUEST_SECONDS = 60.0
SILENT_SECONDS = 45.0
"""After which a stream of events counts as broken: it has a comment every 15 seconds."""
MAX_ANSWER_OCTETS = 64 * 2**20
MAX_LINE_OCTETS = 2**20
"""Of a stream of events."""
MAX_DETAIL = 500
PROBLEM = "application/problem+json"
_AUTOMATIC = ("Accept-Encoding", "User-Agent")

Query = Mapping[str, object]


class Answer(NamedTuple):
    """What came back."""

    status: int
    media_type: str
    octets: bytes


class Event(NamedTuple):
    """A server-sent event; one of empty texts stands for a comment."""

    id: str
    data: str
    kind: str = ""


class ApiClient:
    """One API, and the token for it."""

    def __init__(self, url: str, token: str, *, ca: str = "", certificate: str = "", key: str = "") -> None:
        """`ca`, `certificate` and `key` name PEM files. Raises `ConfigError`. Asks nobody yet."""
        self.url = checked_url(url)
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigError("the token is no token: it is one word that begins with rpt_")
        self._header = {"Accept": f"application/json, {PROBLEM}"}
        if token:
            self._header["Authorization"] = f"Bearer {token}"
        self._tls = _tls(ca, certificate, key) if self.url.startswith("https") else None
        self._has_certificate = bool(certificate)
        self._client: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            await self._client.close()

    async def ask(self, method: str, path: str, scope: Scope, query: Query | None = None, body: object = None) -> bytes:
        """The JSON that answers a request, which takes a token of that scope. `path` is spelled as it goes out.

        Raises `ConfigError`, `NothingThere`, `StoreUnavailable`, `ApiError`.
        """
        given = {name: value for name, value in (query or {}).items() if value not in (None, "")}
        where = self._at(f"{path}?{urlencode(given)}" if given else path)
        try:
            async with self._opened().request(
                method, where, headers=self._header, json=body, allow_redirects=False
            ) as response:
                answer = await _answer(response)
        except (aiohttp.ClientError, OSError, HttpProcessingError) as error:
            raise Unreachable(f"{self.url}: {_trouble(error)}{self._guess(error)}") from error
        self._check(answer, scope)
        return answer.octets

    async def events(self, path: str, scope: Scope, after: str | None) -> AsyncGenerator[Event, None]:
        """A stream of events, from now on or after one of it, until the server ends it. Raises as `ask` does.

        The first one is always a comment, and says that somebody is there.
        """
        header = {"Accept": f"text/event-stream, {PROBLEM}"} | ({} if after is None else {"Last-Event-ID": after})
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=SILENT_SECONDS)
        try:
            async with self._opened().request(
                "GET", self._at(path), headers=self._header | header, timeout=timeout, allow_redirects=False
            ) as response:
                if response.content_type != "text/event-stream" or response.status != 200:
                    self._check(await _answer(response), scope)
                    raise Unreachable(f"{self.url}: what should be a stream of events is none")
                yield Event("", "")
                async for event in _events(response.content):
                    yield event
        except (aiohttp.ClientError, OSError, HttpProcessingError) as error:
            raise Unreachable(f"{self.url}: {_trouble(error)}{self._guess(error)}") from error

    def _check(self, answer: Answer, scope: Scope) -> None:
        """Raise what a refusal means; passes what is an answer."""
        if answer.status < 300 and answer.media_type == "application/json":
            return
        if answer.media_type != PROBLEM:
            raise Unreachable(
                f"{self.url}: whoever answers there is not reputon's API (HTTP {answer.status}, "
                f"{answer.media_type or 'nothing'}): name the one in [api] listen, with nothing behind the port"
            )
        raise _problem(self.url, answer, scope, "Authorization" in self._header)

    def _guess(self, error: Exception) -> str:
        """What may be behind a server that lets nobody in and does not say why."""
        if type(error) not in {aiohttp.ServerDisconnectedError, aiohttp.ClientOSError}:
            return ""
        if self._tls is None:
            return ": if it speaks TLS, write https://"
        return "" if self._has_certificate else ": if it wants to know who we are, --certificate and --certificate-key"

    def _at(self, path: str) -> URL:
        return URL(f"{self.url}/v1/{path}", encoded=True)

    def _opened(self) -> aiohttp.ClientSession:
        """The client; it belongs to the event loop that runs, so nobody makes it before."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls or True, force_close=True),
                timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS, connect=CONNECT_SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC,
                read_bufsize=MAX_LINE_OCTETS,
                auto_decompress=False,
                trust_env=False,
            )
            # aiohttp would repeat a DELETE whose answer got lost. That is for connections that were kept: none is.
            self._client._retry_connection = False
        return self._client


# Where it is


def checked_url(url: str) -> str:
    """A URL without what ends it; raises `ConfigError` for one that cannot be the API's, or would tell the token.

    >>> checked_url("http://127.0.0.1:8025/"), checked_url("https://reputon.example.net")
    ('http://127.0.0.1:8025', 'https://reputon.example.net')
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if host is None or parts.scheme not in {"http", "https"} or not url.isprintable() or " " in url:
        raise ConfigError("the URL of an API is written https://HOST:PORT, or http://127.0.0.1:8025 for this machine")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "the URL of an API has no password, ? or # in it: the token comes from REPUTON_TOKEN, or --token-file"
        )
    if parts.scheme == "http" and not _is_here(host):
        raise ConfigError(
            f"http://{host}: the token would go over the wire as it is: write https://, "
            f"or let ssh carry it: ssh -L 8025:127.0.0.1:8025 {host}, and http://127.0.0.1:8025"
        )
    return url.rstrip("/")


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """Who is believed to be the host that he says he is, and who we are."""
    named = ca
    try:
        context = ssl.create_default_context(cafile=ca or None)
        if certificate:
            named = f"{certificate}, {key}" if key else certificate
            context.load_cert_chain(certificate, key or None, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(f"{named}: cannot be used for TLS: {getattr(error, 'strerror', None) or error}") from None
    return context


def _no_password() -> str:
    raise ConfigError("the key of the client's certificate has a password: take one that has none")


# What came back


async def _answer(response: aiohttp.ClientResponse) -> Answer:
    octets = bytearray()
    async for piece in response.content.iter_any():
        octets += piece
        if len(octets) > MAX_ANSWER_OCTETS:
            raise aiohttp.ClientPayloadError("its answer is too long")
    return Answer(response.status, response.content_type, bytes(octets))


def _problem(url: str, answer: Answer, scope: Scope, had_token: bool) -> ApiError | ConfigError | StoreError:
    """The error that a problem (RFC 9457) stands for."""
    try:
        detail = str(json.loads(answer.octets)["detail"])[:MAX_DETAIL]
    except (ValueError, KeyError, TypeError, RecursionError):
        detail = f"HTTP {answer.status}, and no word about it"
    make = f"make one where the store is: reputon token create --name YOU --scope {scope} --for 90d --reason WHY"
    match answer.status:
        case 401 if had_token:
            return Refused(f"{url}: it does not know this token, or the token has ended; {make}")
        case 401:
            return Refused(f"{url}: it wants a token, in REPUTON_TOKEN or --token-file; {make}")
        case 403:
            return Refused(f"{url}: this token may not do that: {detail}; {make}")
        case 404:
            return NothingThere(detail)
        case 429:
            return Refused(f"{url}: {detail}; a token may have a higher --rate")
        case 503:
            return StoreUnavailable(f"{url}: {detail}")
        case 507:
            return StoreMisuse(f"{url}: {detail}")
        case status if status < 500:
            return ConfigError(detail)
        case status:
            return ApiError(f"{url}: something went wrong there (HTTP {status}): its log says what")


def _trouble(error: Exception) -> str:
    """Why nobody answered, and what to do."""
    text = str(error)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        why = getattr(error.certificate_error, "verify_message", "") or "it cannot be verified"
        return f"its certificate is not trusted ({why}): name the authority that signed it with --ca"
    if "CERTIFICATE_REQUIRED" in text or "certificate required" in text:
        return "it wants to know who we are: name a certificate and its key with --certificate and --certificate-key"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "it does not speak TLS, or none that we do: is it http://, or another port?"
    if isinstance(error, TimeoutError):
        return "it did not answer in time: is the address right, and no firewall between us?"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "there is no such host"
    if isinstance(error, aiohttp.ClientConnectorError):
        why = error.strerror or "refused"
        return f"nobody can be reached there ({why}): does reputon run, and is this what its [api] listen says?"
    return f"the connection broke ({type(error).__name__})"


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[Event]:
    """What a stream of server-sent events says."""
    id, kind, data = "", "", list[str]()
    async for octets in content:
        line = octets.decode(errors="replace").rstrip("\r\n")
        name, _, value = line.partition(":")
        if line[:1] == ":":
            yield Event("", "")
        elif not line and data:
            yield Event(id, "\n".join(data), kind)
            kind = ""
            data.clear()
        elif name == "id":
            id = value.removeprefix(" ")
        elif name == "event":
            kind = value.removeprefix(" ")
        elif name == "data":
            data.append(value.removeprefix(" "))
