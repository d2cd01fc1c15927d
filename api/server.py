"""Serves the application (`api.app`) over HTTP, or HTTPS, until a signal comes.

It prints ``ready api HOST:PORT`` for each address and then ``ready``, where `reputon serve` reads it, and tells
systemd. When it is told to end it listens no more; requests that are under way are answered, streams end in good
order at once, and after `DRAIN_SECONDS` the rest is cut off. SIGHUP, or an operator's word to the fleet, has the rules
read anew (`reputation.reloading`); settings of ``[api]`` take effect at the next start.

TLS is 1.2 at least, with the certificate of ``[api.tls]``, which is read again when it is renewed. Where `client_ca`
names an authority, who has no certificate of it does not even get to ask: a token is needed all the same.
"""

import asyncio
import gc
import logging
import resource
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

from api.app import application
from api.connections import MAX_OF_NETWORK, Listener, Places
from api.files import certificates_of
from api.gate import Gate
from api.protocol import KEEP_ALIVE_SECONDS, BoundedProtocol, cut_off_late
from api.surroundings import Surroundings
from reputation.api_settings import ApiSettings
from reputation.assemble import open_engine
from reputation.config import Settings
from reputation.desk.contract import Desk
from reputation.desk.local import EngineDesk, watching
from reputation.engine import Engine
from reputation.errors import ConfigError
from reputation.listening import host_port, name_of, reason_of, sockets_at
from reputation.notify import Notifier
from reputation.reloading import reloading

DRAIN_SECONDS = 5
UNREAD = ("api",)
"""Tables of which a change takes effect at the next start, besides those of all programs."""
MAX_CONNECTIONS = 10_000
OTHER_DESCRIPTORS = 150
THREADS = 20
HEADERS = [("x-content-type-options", "nosniff")]
"""Of every answer, those of the server itself as well."""

log = logging.getLogger("reputon.api")


async def serve(settings: Settings, path: Path, notifier: Notifier) -> None:
    """Answer until a signal comes, and drain; `path` is what SIGHUP reads again. Raises `ConfigError`, `StoreError`."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    loop.set_default_executor(ThreadPoolExecutor(THREADS, "blocking"))
    alive = asyncio.create_task(notifier.stay_alive(), name="watchdog")
    sockets = opened(settings.api)
    async with (
        open_engine(settings) as engine,
        reloading(engine, settings, path, notifier, log=log, unread=UNREAD),
        open_surroundings(engine, settings, path) as surroundings,
        _tls(settings.api) as tls,
    ):
        # What was loaded stays for good; going through it again and again would hold requests up for 20 ms.
        gc.collect()
        gc.freeze()
        await _served(surroundings, sockets, tls, notifier, stop)
    alive.cancel()
    log.info("stopped")


@asynccontextmanager
async def open_surroundings(engine: Engine, settings: Settings, path: Path) -> AsyncIterator[Surroundings]:
    """What all requests share, for as long as the block runs."""
    async with watching(engine) as watch:

        def desk_of(author: str) -> Desk:
            return EngineDesk(engine, author, settings=settings, path=path, watch=watch)

        gate = Gate(engine, settings.api.requests_per_second)
        yield Surroundings(engine=engine, settings=settings, path=path, gate=gate, desk_of=desk_of)


async def _served(
    surroundings: Surroundings,
    sockets: Sequence[socket.socket],
    tls: ssl.SSLContext | None,
    notifier: Notifier,
    stop: asyncio.Event,
) -> None:
    """Serve on the sockets until `stop`, and drain."""
    names = [name_of(each) for each in sockets]
    settings = surroundings.settings.api
    # behind a proxy of ours all clients have its address
    places = Places(connections_allowed(), None if settings.plain_from_anywhere else MAX_OF_NETWORK)
    server = Server(config_of(application(surroundings), tls), places)
    serving = asyncio.create_task(server.serve(list(sockets)), name="server")
    late = asyncio.create_task(cut_off_late(server.server_state.connections), name="late")
    await _either(server.has_started, serving)
    if server.has_started.is_set():
        announce(names, notifier)
        await _either(stop, serving)
    log.info("draining %d requests", len(server.server_state.tasks))
    notifier.stopping(f"draining {len(server.server_state.tasks)} requests")
    surroundings.stopping.set()
    server.should_exit = True
    late.cancel()
    await serving


async def _either(event: asyncio.Event, serving: "asyncio.Task[None]") -> None:
    """Wait until something is so, or the server has ended by itself."""
    waiting = asyncio.create_task(event.wait())
    await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


class Server(uvicorn.Server):
    """uvicorn, but for its signals and its start, which are ours."""

    def __init__(self, config: uvicorn.Config, places: Places | None = None) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()
        self.places = places or Places(MAX_CONNECTIONS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await self.lifespan.startup()
        listeners: list[Any] = [
            Listener(each.dup(), self.places, self._protocol, self.config.ssl) for each in sockets or ()
        ]
        self.servers = listeners  # of which uvicorn wants no more than that they can be closed
        self.started = True
        self.has_started.set()

    def _protocol(self, over: Callable[[], None]) -> BoundedProtocol:
        return BoundedProtocol(self.config, self.server_state, self.lifespan.state, on_over=over)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def config_of(app: FastAPI, tls: ssl.SSLContext | None) -> uvicorn.Config:
    """How uvicorn is to serve an application."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # a stranger who speaks no HTTP is nobody's news
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        headers=HEADERS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
    config.load()
    config.ssl = tls
    return config


def opened(settings: ApiSettings) -> list[socket.socket]:
    """Sockets that listen on everything that the settings name; all or nothing. Raises `ConfigError`."""
    if not settings.listen:
        raise ConfigError("[api] listen: name at least 1 address to listen on")
    sockets = list[socket.socket]()
    for address in settings.listen:
        try:
            sockets += sockets_at(*host_port(address))
        except OSError as error:
            for each in sockets:
                each.close()
            raise ConfigError(f"[api] listen: cannot listen on {address}: {reason_of(error)}") from None
    return sockets


def announce(names: Sequence[str], notifier: Notifier) -> None:
    """Say that we answer: on standard output, where `reputon serve` reads it, and to the supervisor."""
    for name in names:
        print(f"ready api {name}")  # noqa: T201 - the supervisor reads it
    print("ready", flush=True)  # noqa: T201 - the supervisor reads it
    notifier.ready("ready on " + ", ".join(f"api {name}" for name in names))


@asynccontextmanager
async def _tls(settings: ApiSettings) -> AsyncIterator[ssl.SSLContext | None]:
    """The context of our side of TLS, whose certificate is kept fresh. Raises `ConfigError`."""
    certificates = certificates_of(settings)
    if certificates is None:
        yield None
        return
    renewing = asyncio.create_task(certificates.keep_fresh(), name="certificates")
    try:
        yield certificates.context
    finally:
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing


def connections_allowed() -> int:
    """How many connections there may be, by how many files this process may open; raises its limit if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_DESCRIPTORS
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(1, min(MAX_CONNECTIONS, soft - OTHER_DESCRIPTORS))
