"""The SMTP front end in this process on a free port of loopback, and a client that insists on legal answers.

    async with ScriptedHop() as hop, front_end(RULES, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.greeting()
            assert (await client.ask("EHLO client.example")).code == 250

The engine is real. Its store is a `HandStore`: a real one underneath, whose clock is moved by hand and that can be
taken away; the engine's own clock moves with it. With `instant=True` nobody sleeps: a delay moves the store's clock,
and limits behave as if it had passed.

No wait is without an end: what does not come within `PATIENCE_SECONDS` fails the test.
"""

import asyncio
import logging
import re
import socket
import ssl
import struct
import subprocess
import tomllib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from reputation.charges import Answer, Charge, Receipt
from reputation.clock import SystemClock
from reputation.config import Settings
from reputation.contracts import Board, Series, Sketch, Store, Texts
from reputation.engine import Engine
from reputation.keys import Entity, Key, Metric, parse_entity
from reputation.metrics import Metrics
from reputation.store.memory import MemoryStore
from reputation.windows import MICROSECONDS, Window
from smtp_frontend.next_hop import open_next_hop
from smtp_frontend.next_hop.contract import NextHop
from smtp_frontend.server import Server, tls_context
from smtp_frontend.session import Surroundings
from smtp_frontend.sleepers import Sleepers
from tests.builders import us

HOSTNAME = "mx.example.net"
PATIENCE_SECONDS = 10.0
POLL_SECONDS = 0.005

LEGAL_LINE = re.compile(rb"[2-5][0-9]{2}[ -][\x20-\x7e]*\r\n")
"""RFC 5321 section 4.2: code, mark, printable text, CRLF."""


class HandStore:
    """A store whose time is told by hand, and that fails while `trouble` is set."""

    def __init__(self, inner: Store) -> None:
        self.now_us = us(0)
        self.trouble: Exception | None = None
        self._inner = inner

    @property
    def whole(self) -> bool:
        return self.trouble is None

    def advance(self, seconds: float) -> None:
        self.now_us += round(seconds * MICROSECONDS)

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        self._fail()
        return await self._inner.decide(charges, token=token, now_us=now_us or self.now_us)

    async def refund(self, receipt: Receipt) -> None:
        self._fail()
        await self._inner.refund(receipt)

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        self._fail()
        return await self._inner.renew(key, members, window, now_us=now_us or self.now_us)

    async def saw(self, key: Key, members: Sequence[str], *, now_us: int | None = None) -> None:
        self._fail()
        await self._inner.saw(key, members, now_us=now_us or self.now_us)

    async def sketches(self, keys: Sequence[Key], *, now_us: int | None = None) -> Sequence[Sketch]:
        return await self._inner.sketches(keys, now_us=now_us or self.now_us)

    async def series(self, entity: Entity, *, now_us: int | None = None) -> Sequence[Series]:
        return await self._inner.series(entity, now_us=now_us or self.now_us)

    async def counts(self, keys: Sequence[Key], window: Window, *, now_us: int | None = None) -> Sequence[int]:
        return await self._inner.counts(keys, window, now_us=now_us or self.now_us)

    async def offer(self, board: Board, counts: Mapping[str, int], *, now_us: int | None = None) -> None:
        self._fail()
        await self._inner.offer(board, counts, now_us=now_us or self.now_us)

    async def board(self, board: Board, n: int, *, at_us: int | None = None) -> Sequence[tuple[str, int]]:
        return await self._inner.board(board, n, at_us=at_us or self.now_us)

    async def beat(self, process: str, lifetime_seconds: float) -> int:
        self._fail()
        return await self._inner.beat(process, lifetime_seconds)

    async def enter(
        self, id: str, entry_json: str, *, expires_us: int | None, line: str, now_us: int | None = None
    ) -> int:
        self._fail()
        now = now_us or self.now_us
        return await self._inner.enter(id, entry_json, expires_us=expires_us, line=line, now_us=now)

    async def strike(self, id: str, line: str, *, now_us: int | None = None) -> int:
        self._fail()
        return await self._inner.strike(id, line, now_us=now_us or self.now_us)

    async def entries(self, known_version: int, *, now_us: int | None = None) -> Texts:
        self._fail()
        return await self._inner.entries(known_version, now_us=now_us or self.now_us)

    async def audit(self, n: int) -> Sequence[tuple[int, str]]:
        return await self._inner.audit(n)

    def changes(self) -> AsyncGenerator[None, None]:
        return self._inner.changes()

    async def ping(self) -> str:
        return await self._inner.ping()

    async def close(self) -> None:
        await self._inner.close()

    def _fail(self) -> None:
        if self.trouble is not None:
            raise self.trouble


class HandClock(SystemClock):
    """A clock that also goes on by whatever the store's was moved."""

    def __init__(self, store: HandStore) -> None:
        self._store = store

    def monotonic(self) -> float:
        return super().monotonic() + (self._store.now_us - us(0)) / MICROSECONDS


class InstantSleepers(Sleepers):
    """Nobody sleeps: the store's clock is moved instead."""

    def __init__(self, store: HandStore, metrics: Metrics) -> None:
        super().__init__(max_sleepers=1, metrics=metrics)
        self._store = store

    async def sleep(self, seconds: float, unless: asyncio.Event) -> bool:
        self._store.advance(seconds)
        return True


class Log(logging.Handler):
    """What was logged, line by line."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def lines(self) -> list[str]:
        """The messages of our own loggers."""
        return [record.getMessage() for record in self.records if record.name.startswith("reputon")]

    @property
    def traces(self) -> list[logging.LogRecord]:
        """Records that come with a traceback, and whatever asyncio complains about."""
        return [r for r in self.records if r.exc_info or (r.name == "asyncio" and r.levelno >= logging.WARNING)]


@contextmanager
def captured_log() -> Iterator[Log]:
    """Everything that reputon and asyncio log meanwhile, debug lines too."""
    log, loggers = Log(), [logging.getLogger("reputon"), logging.getLogger("asyncio")]
    levels = [logger.level for logger in loggers]
    loggers[0].setLevel(logging.DEBUG)
    for logger in loggers:
        logger.addHandler(log)
    try:
        yield log
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(log)
            logger.setLevel(level)


@dataclass(frozen=True)
class Reply:
    """One answer of the server, all of its lines, without their ends."""

    lines: tuple[str, ...]

    @property
    def code(self) -> int:
        return int(self.lines[0][:3])

    def __str__(self) -> str:
        return " / ".join(self.lines)


class Client:
    """One connection to the front end. Every answer is checked to be a legal one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        """Put octets on the wire as they are."""
        self.writer.write(octets)
        await self.writer.drain()

    async def say(self, line: str) -> None:
        await self.send(line.encode() + b"\r\n")

    async def line(self) -> str:
        """The next line of an answer; empty when the connection is closed."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                octets = await self.reader.readline()
            except ConnectionError:
                return ""
        if not octets:
            return ""
        assert LEGAL_LINE.fullmatch(octets), f"not a legal reply line: {octets!r}"
        assert len(octets) <= 512, f"a reply line of {len(octets)} octets"
        return octets[:-2].decode("ascii")

    async def reply(self) -> Reply:
        """The next answer, whole."""
        lines = [await self.line()]
        assert lines[0], "closed, and not answered"
        while lines[-1][3] == "-":
            lines.append(await self.line())
            assert lines[-1][:3] == lines[0][:3], f"codes differ: {lines}"
        return Reply(tuple(lines))

    async def ask(self, line: str) -> Reply:
        """Send one command and read its answer."""
        await self.say(line)
        return await self.reply()

    async def greeting(self) -> Reply:
        return await self.reply()

    async def begin(self, *recipients: str, sender: str = "alice@example.com") -> list[Reply]:
        """From the greeting to the recipients."""
        await self.greeting()
        await self.ask("EHLO client.example.com")
        return await self.transaction(*recipients, sender=sender)

    async def transaction(self, *recipients: str, sender: str = "alice@example.com") -> list[Reply]:
        """MAIL and RCPT."""
        return [await self.ask(f"MAIL FROM:<{sender}>"), *[await self.ask(f"RCPT TO:<{r}>") for r in recipients]]

    async def message(self, content: bytes = b"Subject: hello\r\n\r\nhello\r\n") -> Reply:
        """DATA, and the message; `content` ends in CRLF and is stuffed here."""
        assert (await self.ask("DATA")).code == 354
        await self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return await self.reply()

    async def closed(self) -> bool:
        """Whether the server closes the connection and says nothing more; then the client closes it, too."""
        if await self.line():
            return False
        await self.hang_up()
        return True

    async def start_tls(self) -> None:
        """The handshake, after the server's 220."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.writer.start_tls(context)

    def half_close(self) -> None:
        """Say that nothing more will be sent (a FIN), and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Hang up with a TCP RST."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang_up(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.writer.wait_closed()
        except OSError:
            pass


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """The front end, and what a test wants to know of it."""

    server: Server
    engine: Engine
    store: HandStore
    port: int
    log: Log

    @asynccontextmanager
    async def client(self, source: str = "127.0.0.1", receive_buffer: int = 0) -> AsyncIterator[Client]:
        """A client that connects from a loopback address, for as long as the block runs."""
        connection = socket.socket()
        connection.setblocking(False)
        connection.bind((source, 0))
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
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
        await until(lambda: not self.server.sessions, "all sessions are over")


async def until(condition: Callable[[], bool], what: str) -> None:
    """Let the loop run until `condition` holds."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {PATIENCE_SECONDS:g} s: {what}") from None


@asynccontextmanager
async def front_end(
    config: str = "",
    *,
    next_hop: str | NextHop = "maildir:/nonexistent",
    store: Store | None = None,
    instant: bool = False,
) -> AsyncIterator[FrontEnd]:
    """The front end with `config` (TOML) for as long as the block runs."""
    settings = Settings.model_validate(tomllib.loads(config))
    smtp = settings.smtp.model_copy(update={"listen": ("127.0.0.1:0",)})
    hand_store = HandStore(store or MemoryStore())
    engine = Engine(
        policy=settings.policy(),
        store=hand_store,
        spelling=settings.spelling(),
        clock=HandClock(hand_store),
        never_ban=settings.never_ban(),
    )
    if isinstance(next_hop, str):
        next_hop = open_next_hop(next_hop, hostname=HOSTNAME, timeout_seconds=smtp.next_hop_timeout_seconds)
    sleepers = Sleepers(max_sleepers=smtp.max_sleepers, metrics=engine.metrics)
    server = Server(
        Surroundings(
            engine=engine,
            next_hop=next_hop,
            settings=smtp,
            hostname=HOSTNAME,
            sleepers=InstantSleepers(hand_store, engine.metrics) if instant else sleepers,
            tls=tls_context(smtp),
        )
    )
    with captured_log() as log:
        (address,) = await server.listen()
        try:
            yield FrontEnd(
                server=server, engine=engine, store=hand_store, port=int(address.rpartition(":")[2]), log=log
            )
        finally:
            async with asyncio.timeout(smtp.drain_seconds + PATIENCE_SECONDS):
                await server.close()


def self_signed(directory: Path) -> tuple[Path, Path]:
    """(certificate, key) for `HOSTNAME`, PEM files, made by openssl."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN={HOSTNAME}"
    command = ["openssl", *words.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
