"""What `benchmarks.api` asks with: an API process over a store, and HTTP/1.1 connections that cost next to nothing."""

import asyncio
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from reputation.access import Scope, Token, digest_of, spelled_token
from reputation.assemble import open_engine, settings_of
from reputation.engine import Engine

CONFIG = """
include = ["default"]

[store]
url = "{url}"
deadline_seconds = 5.0

[lookups]
nameservers = ["127.0.0.1:9"]

[smtp]
hostname = "mx.example.net"

[api]
listen = ["127.0.0.1:0"]
"""


class Connection(asyncio.Protocol):
    """A connection that is kept alive, and asks one thing after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[bytes] | None = None
        self._answer = b""
        self._wanted = 0
        """Octets of the whole answer; 0 until they are known."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._wanted:
            head, end, _ = self._answer.partition(b"\r\n\r\n")
            if not end:
                return
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            self._wanted = len(head) + len(end) + int(length)
        if len(self._answer) >= self._wanted and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(self._answer)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("the API has hung up"))

    async def ask(self, request: bytes) -> bytes:
        """Ask, and wait for the body of the answer. Anything but 200 ends the run."""
        assert self._transport is not None
        self._answer, self._wanted = b"", 0
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        answer = await self._waiting
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"answered {answer[:500]!r}, so nothing was measured")
        return answer.partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Api:
    """A running API."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, engine: Engine, token: str) -> None:
        self.process = process
        self.engine = engine
        """Of this process, on the same store."""
        self._port = port
        self._head = f"Host: 127.0.0.1:{port}\r\nAuthorization: Bearer {token}\r\n"

    def get(self, path: str) -> bytes:
        """A request."""
        return f"GET {path} HTTP/1.1\r\n{self._head}\r\n".encode()

    def post(self, path: str, body: bytes) -> bytes:
        """A request with JSON in it."""
        told = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"POST {path} HTTP/1.1\r\n{self._head}{told}\r\n".encode() + body

    async def connected(self, n: int) -> Sequence[Connection]:
        """So many connections."""
        loop = asyncio.get_running_loop()
        return [(await loop.create_connection(Connection, "127.0.0.1", self._port))[1] for _ in range(n)]


@asynccontextmanager
async def running(url: str) -> AsyncIterator[Api]:
    """The API over a store, with a token that may do everything, for as long as the block runs."""
    with TemporaryDirectory(prefix="reputon-bench-") as directory, (Path(directory) / "log").open("wb") as log:
        config = Path(directory) / "reputon.toml"
        config.write_text(CONFIG.format(url=url))
        async with open_engine(settings_of(config)) as engine:
            token = await _token(engine)
            command = [sys.executable, "-m", "api", "--config", str(config)]
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log) as process:  # noqa: ASYNC220 - at once
                try:
                    port = await asyncio.to_thread(_ready, process)
                    yield Api(process, port, engine, token)
                finally:
                    process.terminate()


def _ready(process: subprocess.Popen[bytes]) -> int:
    assert process.stdout is not None
    port = 0
    for line in process.stdout:
        match line.decode().split():
            case ["ready", "api", address]:
                port = int(address.rpartition(":")[2])
            case ["ready"]:
                return port
    raise RuntimeError("the API did not start")


async def _token(engine: Engine) -> str:
    secret, token_id = secrets.token_urlsafe(32), secrets.token_hex(4)
    await engine.registrar.put_token(
        Token(
            token_id=token_id,
            name="benchmark",
            digest=digest_of(secret),
            scopes=(Scope.ADMIN,),
            author="benchmark",
            reason="benchmark",
            created_at=engine.now,
            expires_at=None,
            requests_per_second=1_000_000.0,
        )
    )
    return spelled_token(token_id, secret)
