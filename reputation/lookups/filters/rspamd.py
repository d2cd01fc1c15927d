"""rspamd over HTTP: the only door to aiohttp.

Connections are kept where the other side keeps them (a proxy before it; rspamd's own workers close each one). A message
goes out as it is, by way of pieces that are copied once. Nothing is followed, unpacked or remembered: no redirects, no
compression, no cookies, no proxy of the environment.

*Considered and measured:* httpx (15 MB, last released two years ago) takes 0.8 ms of a processor for a question about a
small message, and httpcore beneath it 0.6 ms; aiohttp 0.2 ms, and 26 MB. It is imported where a filter needs it.
"""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator

import aiohttp

from reputation.errors import ConfigError
from reputation.events import Content, Data
from reputation.facts import Filtered
from reputation.lookups.filters.address import Address
from reputation.lookups.filters.conversation import PIECE_OCTETS, pieces_of
from reputation.lookups.filters.rspamd_answer import filtered_of
from reputation.lookups.filters.rspamd_request import fields

MAX_ANSWER_OCTETS = 8 * 2**20
"""It names each host of the message's links: 10,240 of them as it comes."""
KEPT_SECONDS = 30.0
_OK, _FIRST_TROUBLE = 200, 500
_AUTOMATIC = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
"""What aiohttp would add."""


class Rspamd:
    """Asks one rspamd. At most `connections` are open."""

    def __init__(
        self, address: Address, *, password: str, hostname: str, connections: int, deadline_seconds: float
    ) -> None:
        """Raises `ConfigError` for an authority that cannot be read. Asks nobody yet."""
        scheme = "https" if address.scheme == "rspamds" else "http"
        self._base = str(address).replace(address.scheme, scheme, 1)
        self._tls = trusting(address.ca) if scheme == "https" else None
        self._password = password
        self._hostname = hostname
        self._connections = connections
        self._deadline_seconds = deadline_seconds
        self._client: aiohttp.ClientSession | None = None

    async def ask(self, event: Data, rdns: str) -> Filtered | None:
        """What it says, None for what cannot be read. Raises OSError when it cannot be reached, or refuses."""
        header = fields(event, password=self._password, hostname=self._hostname, rdns=rdns)
        header.append(("Content-Length", str(len(event.content))))
        status, answer = await self._request("POST", "/checkv2", header, event.content)
        if status != _OK:
            raise ConnectionError(f"its answer is HTTP {status}")
        return filtered_of(answer)

    async def ping(self) -> bool:
        """Whether it answers at all. A proxy worker may not know the question, and lives."""
        status, _ = await self._request("GET", "/ping", [], b"")
        return status < _FIRST_TROUBLE

    async def close(self) -> None:
        """Let go of connections."""
        if self._client is not None:
            await self._client.close()

    async def _request(
        self, method: str, path: str, header: list[tuple[str, str]], content: Content
    ) -> tuple[int, bytes]:
        client = self._opened()
        try:
            async with client.request(
                method, self._base + path, headers=header, data=_body(content), allow_redirects=False
            ) as response:
                return response.status, await _whole(response.content)
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error) or type(error).__name__) from error

    def _opened(self) -> aiohttp.ClientSession:
        """The client; it belongs to the event loop that runs, so nobody makes it before."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self._connections,
                    keepalive_timeout=KEPT_SECONDS,
                    ssl=self._tls or True,
                    socket_factory=self._socket,
                ),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # whoever asks has a deadline
                cookie_jar=aiohttp.DummyCookieJar(),
                skip_auto_headers=_AUTOMATIC,
                auto_decompress=False,
            )
        return self._client

    def _socket(self, place: aiohttp.AddrInfoType) -> socket.socket:
        """A socket that does not outlive its deadline for long.

        asyncio closes one when all has been sent. To a filter that does not read, nothing more is ever sent.
        """
        family, kind, protocol = place[:3]
        made = socket.socket(family, kind, protocol)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._deadline_seconds * 1_000))
        return made


async def _whole(stream: aiohttp.StreamReader) -> bytes:
    octets = bytearray()
    async for piece in stream.iter_any():
        octets += piece
        if len(octets) > MAX_ANSWER_OCTETS:
            raise ConnectionError("its answer is too long")
    return bytes(octets)


def _body(content: Content) -> bytes | AsyncIterator[bytes] | None:
    if len(content) <= PIECE_OCTETS:
        return content[:] or None
    return _in_pieces(content)


async def _in_pieces(content: Content) -> AsyncIterator[bytes]:
    for piece in pieces_of(content):
        yield piece
        await asyncio.sleep(0)


def trusting(ca: str) -> ssl.SSLContext:
    """Who is believed to be the host that he says he is. Raises `ConfigError` for a file that names no authority."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"filter url: ca={ca}: {error.strerror or error}") from error
