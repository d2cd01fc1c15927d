"""The SMTP front end in this process on a free port of loopback.

    async with ScriptedHop() as hop, front_end(settings, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.greeting()
            ...

The engine is real. Its store is a `HandStore`: a real one underneath, whose clock is moved by hand and that can be
taken away; the engine's own clock moves with it. With `instant=True` nobody sleeps: a delay moves the store's clock,
and limits behave as if it had passed. Look-ups find what they are told to (`lookups`), and never ask anybody.

No wait is without an end: what does not come within `expectations.PATIENCE_SECONDS` is a failure.
"""

import asyncio
import socket
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from reputation.assemble import policy_of
from reputation.certificates import Certificates
from reputation.config import Settings
from reputation.contracts import Store
from reputation.engine import Engine
from reputation.events import Data, Event
from reputation.facts import NOTHING_LOOKED_UP, LookedUp
from reputation.front_end_settings import SmtpSettings
from reputation.keys import Metric, parse_entity
from reputation.store.memory import MemoryStore
from reputation.verdict import Verdict
from smtp_frontend.auth.contract import Verifier
from smtp_frontend.listeners import Kind, Listener
from smtp_frontend.next_hop import open_next_hop
from smtp_frontend.next_hop.contract import NextHop
from smtp_frontend.rehearsal import expectations
from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.hand import HandClock, HandStore, InstantSleepers
from smtp_frontend.rehearsal.log import Log, captured_log
from smtp_frontend.rehearsal.lookups import FixedLookups
from smtp_frontend.server import Server
from smtp_frontend.surroundings import Surroundings, surroundings

HOSTNAME = "mx.example.net"


class WitnessEngine(Engine):
    """An engine that remembers the last message that it let through."""

    last_message: Data | None = None

    async def judge(self, event: Event, looked_up: LookedUp = NOTHING_LOOKED_UP) -> Verdict:
        verdict = await super().judge(event, looked_up)
        if isinstance(event, Data) and not verdict.denied:
            self.last_message = event
        return verdict


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """The front end, and what one wants to know of it."""

    server: Server
    engine: WitnessEngine
    store: HandStore
    lookups: FixedLookups
    ports: Mapping[Kind, int]
    log: Log

    @property
    def port(self) -> int:
        """Where mail from anywhere is taken in."""
        return self.ports[Kind.SMTP]

    @asynccontextmanager
    async def client(
        self, source: str = "127.0.0.1", receive_buffer: int = 0, *, kind: Kind = Kind.SMTP
    ) -> AsyncIterator[Client]:
        """A client that connects from a loopback address, for as long as the block runs."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((source, 0))
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(expectations.PATIENCE_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.ports[kind]))
        except BaseException:
            connection.close()
            raise
        client = Client(*await asyncio.open_connection(sock=connection))
        try:
            yield client
        finally:
            await client.hang_up()

    async def counted(self, entity: str, metric: Metric = Metric.MESSAGES) -> int:
        """How much of `metric` the store holds about `entity` now, rules apart."""
        explanation = await self.engine.explain(parse_entity(entity, self.engine.spelling))
        counts = [s.count for s in explanation.series if s.key.metric is metric and not s.scope]
        return max(counts, default=0)

    def metric(self, name: str, **labels: str) -> float:
        return self.engine.metrics.registry.get_sample_value(name, labels) or 0.0

    async def nobody_left(self) -> None:
        """Wait until every session is over."""
        await expectations.until(lambda: not self.server.sessions, "all sessions are over")


@asynccontextmanager
async def front_end(
    config: str | Settings = "",
    *,
    next_hop: str | NextHop = "maildir:/nonexistent",
    store: Store | None = None,
    instant: bool = False,
    verifier: Verifier | None = None,
) -> AsyncIterator[FrontEnd]:
    """The front end with `config` (TOML, or what was read from it) for as long as the block runs.

    It listens on free ports, one for each kind that the configuration has, and always for mail from anywhere.
    """
    settings = Settings.model_validate(tomllib.loads(config)) if isinstance(config, str) else config
    hand_store, lookups = HandStore(store or MemoryStore()), FixedLookups()
    engine = await _engine(settings, hand_store, lookups)
    smtp = settings.smtp.model_copy(update={"hostname": HOSTNAME})
    shared = replace(_shared(smtp, engine, next_hop), verifier=verifier)
    server = Server(replace(shared, sleepers=InstantSleepers(hand_store, engine.metrics)) if instant else shared)
    listeners = _listeners(smtp)
    with captured_log() as log:
        await server.listen(listeners)
        ports = {listener.kind: listener.socket.getsockname()[1] for listener in listeners}
        try:
            yield FrontEnd(server=server, engine=engine, store=hand_store, lookups=lookups, ports=ports, log=log)
        finally:
            async with asyncio.timeout(smtp.drain_seconds + expectations.PATIENCE_SECONDS):
                await server.close()


def _shared(smtp: SmtpSettings, engine: Engine, next_hop: str | NextHop) -> Surroundings:
    if isinstance(next_hop, str):
        next_hop = _opened(next_hop, smtp)
    tls = Certificates(smtp.tls).context if smtp.tls else None
    return replace(surroundings(smtp, engine), next_hop=next_hop, tls=tls)


def _opened(url: str, smtp: SmtpSettings) -> NextHop:
    return open_next_hop(url, hostname=HOSTNAME, timeout_seconds=smtp.next_hop_timeout_seconds, pause_seconds=0)


def _listeners(smtp: SmtpSettings) -> list[Listener]:
    wanted = {Kind.SMTP: True, Kind.SUBMISSION: smtp.listen_submission, Kind.SUBMISSIONS: smtp.listen_submissions}
    return [
        Listener(kind=kind, socket=socket.create_server(("127.0.0.1", 0), backlog=128), name=f"{kind} on a free port")
        for kind, is_wanted in wanted.items()
        if is_wanted
    ]


async def _engine(settings: Settings, store: HandStore, lookups: FixedLookups) -> WitnessEngine:
    engine = WitnessEngine(
        policy=policy_of(settings),
        store=store,
        spelling=settings.spelling(),
        clock=HandClock(store),
        lookups=lookups,
        never_ban=settings.never_ban(),
    )
    engine.registrar.lists.use(settings.list_, engine.spelling)
    await engine.registrar.lists.start()
    return engine
