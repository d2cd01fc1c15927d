"""A running API, over a store of its own, and an engine of the test's beside it as the mail servers of a fleet are.

    async def test_somebody_is_counted(api: Api) -> None:
        await api.engine.judge(...)                               what mail servers see
        async with api.client(await api.token("read")) as asked:
            answer = await asked.get("/v1/overview")

`api` is one process for all tests of a module: they keep to addresses of their own, and kill nothing. `own_api` is one
for the test alone, whose store may be killed and whose process may be started again. A module that wants other
settings overrides `api_table` (lines of ``[api]``) or `more_config` (tables of their own, rules say); both are used
once for each module. Nothing leaves this machine: the default policy asks no DNS.
"""

import asyncio
import secrets
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from reputation.access import Token, digest_of, scopes_of, spelled_token, to_json
from reputation.assemble import open_engine, settings_of
from reputation.config import Settings
from reputation.engine import Engine
from reputation.store.redis_store import RedisStore
from tests.servers import RedisServer, free_port, valkey_server
from tests.smtp.programs import Program, running

READY = r"(?m)^ready api \S+:(\d+)\n(?:ready \S+ \S+\n)*ready$"
PATIENCE_SECONDS = 10.0
CONFIG = """
include = ["default"]

[store]
url = "{url}"
deadline_seconds = 5.0

[smtp]
listen = ["127.0.0.1:0"]
hostname = "mx.example.net"

[api]
listen = ["127.0.0.1:{port}"]
{api_table}

{more_config}
"""


def api_program(directory: Path, config: str, *options: str) -> Program:
    """The API as a process with this configuration in `directory`; not started yet."""
    return Program([sys.executable, "-m", "api", *options], directory, config, READY)


@dataclass
class Api:
    """A running API, as a test sees it."""

    program: Program
    """The process: `pid`, `log`, `lines(words)`, `kill()`."""
    store: RedisServer
    """Its store: `kill()`, `start()`, `pause()`, `resume()`. Only for the tests of `own_api`."""
    settings: Settings
    engine: Engine
    """A serving engine on the same store, in the test's own process."""
    overseer: tuple[str, Token]
    """A token of scope admin that was in the store before the process began, and its text."""
    _sessions: list[aiohttp.ClientSession] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is, without a slash at the end."""
        return f"http://127.0.0.1:{self.program.port}"

    async def token(self, *scopes: str, **options: Any) -> str:
        """The text of a new token, which is in force at the API. `options` are other fields of `Token`."""
        text, token = new_token(*scopes, now=self.engine.now, **options)
        await self.engine.registrar.put_token(token)
        await self._until_known(token.token_id)
        return text

    async def _until_known(self, token_id: str) -> None:
        """Wait until the process has a token. To try the token itself would count as a failure."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        async with self.client(self.overseer[0]) as asked:
            while time.monotonic() < deadline:
                async with asked.get("/v1/tokens") as answer:
                    if answer.status == 200 and token_id in await answer.text():
                        return
                if answer.status == 401:  # the store was started anew, and has forgotten everything
                    await self.engine.registrar.put_token(self.overseer[1])
                    await asyncio.sleep(0.5)
                await asyncio.sleep(0.01)
        raise TimeoutError(f"the API does not know the token {token_id}")

    def client(self, token: str | None = None, **options: Any) -> aiohttp.ClientSession:
        """Somebody who asks with a token, or without one. Closed with the test, or before in an ``async with``."""
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        timeout = aiohttp.ClientTimeout(total=30)
        session = aiohttp.ClientSession(self.url, headers=headers, timeout=timeout, **options)
        self._sessions.append(session)
        return session

    async def stop(self) -> int | None:
        """End the process in good order; its exit status."""
        return await asyncio.to_thread(self.program.stop)

    async def restart(self) -> None:
        """End the process, if it runs, and start it again, at the same address."""
        await self.stop()
        await asyncio.to_thread(self.program.start)

    async def close(self) -> None:
        """Close all sessions."""
        for session in self._sessions:
            await session.close()


def new_token(*scopes: str, now: float, **options: Any) -> tuple[str, Token]:
    """The text of a token, and what is kept of it; for an hour, if `options` say nothing else."""
    secret = secrets.token_urlsafe(32)
    token_id = secrets.token_hex(4)
    fields: dict[str, Any] = {
        "name": f"test-{token_id}",
        "author": "tests",
        "reason": "a test",
        "created_at": now,
        "expires_at": now + 3_600,
        "requests_per_second": 1_000_000.0,
        **options,
    }
    token = Token(token_id=token_id, digest=digest_of(secret), scopes=scopes_of(scopes or ("read",)), **fields)
    return spelled_token(token_id, secret), token


async def until_answer(
    asked: aiohttp.ClientSession, path: str, is_wanted: Any, seconds: float = PATIENCE_SECONDS
) -> int:
    """Ask again and again until `is_wanted` of the status; that status, which fails the test when it does not come."""
    deadline, status = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        async with asked.get(path) as answer:
            status = answer.status
        if is_wanted(status):
            return status
        await asyncio.sleep(0.01)
    raise TimeoutError(f"{path} answers {status}, for {seconds:g} s")


async def status_of(asked: aiohttp.ClientSession, path: str, method: str = "GET", **options: Any) -> int:
    """How a request is answered."""
    async with asked.request(method, path, **options) as answer:
        return answer.status


@dataclass(frozen=True)
class Process:
    """The API as a process, its store, and its first token."""

    program: Program
    store: RedisServer
    overseer: tuple[str, Token]


@contextmanager
def api_running(directory: Path, api_table: str, more_config: str) -> Iterator[Process]:
    """The process, over a store of its own, for as long as the block runs."""
    with valkey_server() as store:
        overseer = new_token("admin", now=time.time(), expires_at=None)
        asyncio.run(_put(overseer[1], store.url))
        config = CONFIG.format(url=store.url, port=free_port(), api_table=api_table, more_config=more_config)
        with running(api_program(directory, config)) as program:
            yield Process(program, store, overseer)


async def _put(token: Token, url: str) -> None:
    store = RedisStore(url, deadline_seconds=PATIENCE_SECONDS)
    try:
        await store.enter(token.id, to_json(token), expires_us=None, line="{}")
    finally:
        await store.close()


@asynccontextmanager
async def api_seen(process: Process) -> AsyncIterator[Api]:
    """The process as a test sees it, with an engine of its own."""
    settings = settings_of(process.program.config)
    async with open_engine(settings) as engine:
        api = Api(
            program=process.program, store=process.store, settings=settings, engine=engine, overseer=process.overseer
        )
        try:
            yield api
        finally:
            await api.close()


@pytest.fixture(scope="module")
def api_table() -> str:
    """Lines of ``[api]``, but for `listen`; for a module to override."""
    return ""


@pytest.fixture(scope="module")
def more_config() -> str:
    """Tables of the configuration; for a module to override."""
    return ""


@pytest.fixture(scope="module")
def api_process(tmp_path_factory: pytest.TempPathFactory, api_table: str, more_config: str) -> Iterator[Process]:
    """The process that the tests of a module share, and its store."""
    with api_running(tmp_path_factory.mktemp("api"), api_table, more_config) as process:
        yield process


@pytest.fixture
async def api(api_process: Process) -> AsyncIterator[Api]:
    """The API of the module's tests."""
    async with api_seen(api_process) as api:
        yield api


@pytest.fixture
def own_process(tmp_path: Path, api_table: str, more_config: str) -> Iterator[Process]:
    """The process of one test, and its store."""
    with api_running(tmp_path / "api", api_table, more_config) as process:
        yield process


@pytest.fixture
async def own_api(own_process: Process) -> AsyncIterator[Api]:
    """An API for one test, which may do with it what it likes."""
    async with api_seen(own_process) as api:
        yield api


@pytest.fixture
async def reading(api: Api) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who may read."""
    async with api.client(await api.token("read")) as session:
        yield session


@pytest.fixture
async def checking(api: Api) -> AsyncIterator[aiohttp.ClientSession]:
    """A mail server: it may check."""
    async with api.client(await api.token("check")) as session:
        yield session


@pytest.fixture
async def writing(api: Api) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody of the abuse desk: he may read and write."""
    async with api.client(await api.token("write")) as session:
        yield session


@pytest.fixture
async def administering(api: Api) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who may do everything."""
    async with api.client(await api.token("admin")) as session:
        yield session


__all__: Sequence[str] = ("Api", "api_program", "new_token", "status_of", "until_answer")
