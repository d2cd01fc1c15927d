"""The policy service in this process on a free port of loopback, and a mail server that asks it.

    async with policy_service(RULES) as service:
        async with service.line() as line:
            assert await line.ask(recipient="bob@example.net") == "DUNNO"

The engine is real. Its store is a real one, whose clock is moved by hand; with ``instant=True`` nobody sleeps.
"""

import asyncio
import itertools
import socket
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from reputation.assemble import policy_of
from reputation.config import Settings
from reputation.contracts import Store
from reputation.engine import Engine
from reputation.keys import Metric, parse_entity
from reputation.store.memory import MemoryStore
from smtp_frontend.policy_service import PolicyService
from smtp_frontend.rehearsal.expectations import PATIENCE_SECONDS
from smtp_frontend.rehearsal.hand import HandClock, HandStore, InstantSleepers
from smtp_frontend.rehearsal.log import Log, captured_log
from smtp_frontend.sleepers import Sleepers

_processes = itertools.count(0x1000)

Attribute = str | int
MESSAGE = "Subject: hello\n\nhello\n"
RULES = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["30/1h"]
action = "tempfail"
reply = "Slow down, {entity}"

[[rule]]
name = "refused"
stage = "rcpt"
when = 'sender == "bad@example.com"'
action = "reject"
reply = "550 5.7.1 Not from you"

[[rule]]
name = "thrown-away"
stage = "mail"
when = 'sender == "junk@example.com"'
action = "discard"

[[rule]]
name = "noted"
stage = "rcpt"
when = 'sender == "odd@example.com"'
action = "tag"

[[rule]]
name = "size"
stage = "data"
key = ["sender"]
count = "bytes"
limits = ["3000/1h"]
action = "tempfail"
reply = "Too much of it"
"""
"""What mail servers that ask are held against."""


def question(**attributes: Attribute) -> bytes:
    """A question as it goes over the wire."""
    lines = [f"{name}={value}" for name, value in attributes.items()]
    return "\n".join(["request=smtpd_access_policy", *lines, "", ""]).encode("utf-8", "surrogateescape")


@dataclass(slots=True)
class Line:
    """A connection to the service: an smtpd process, which has one session at a time."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    process: int = field(default_factory=lambda: next(_processes))
    number: int = 0
    client: str = "192.0.2.7"
    port: int = 40_000
    sender: str = "alice@example.com"

    async def ask(self, state: str = "RCPT", **attributes: Attribute) -> str:
        """Ask as Postfix does, and wait for the action."""
        self.send(state, **attributes)
        return await self.answer()

    def send(self, state: str = "RCPT", **attributes: Attribute) -> None:
        """Ask without waiting."""
        asked: dict[str, Attribute] = {
            "protocol_state": state,
            "protocol_name": "ESMTP",
            "client_address": self.client,
            "client_name": "unknown",
            "client_port": self.port,
            "helo_name": "" if state == "CONNECT" else "mail.example.com",
            "sender": self.sender,
            "recipient": "bob@example.net" if state == "RCPT" else "",
            "recipient_count": 0,
            "instance": "" if state in {"CONNECT", "EHLO", "HELO", "MAIL"} else self.instance,
            "size": 0,
        }
        self.writer.write(question(**(asked | attributes)))

    async def answer(self) -> str:
        """The next action."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = await self.reader.readuntil(b"\n\n")
        name, _, action = line.decode("ascii").removesuffix("\n\n").partition("=")
        assert name == "action", line
        return action

    async def is_closed(self) -> bool:
        """Wait for what comes, or the end; says whether it is the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read(1) == b""
            except ConnectionError:
                return True

    @property
    def instance(self) -> str:
        """What Postfix calls the transaction."""
        return f"{self.process:x}.66f1a0b3.{self.process:x}.{self.number:x}"

    def next_message(self) -> None:
        """MAIL once more in the same session."""
        self.number += 1

    def next_session(self) -> None:
        """Somebody else connects to the same process."""
        self.number, self.port = 0, self.port + 1

    async def message(self, *recipients: str, size: int = 1_000) -> list[str]:
        """A whole message, asked about at RCPT and END-OF-MESSAGE; the next one follows in the same session."""
        actions = [await self.ask(recipient=recipient) for recipient in recipients]
        taken = [
            r for r, action in zip(recipients, actions, strict=True) if action.startswith(("DUNNO", "PREP", "DISC"))
        ]
        if taken:
            lone = taken[0] if len(taken) == 1 else ""
            count = len(taken)
            actions.append(await self.ask("END-OF-MESSAGE", recipient=lone, recipient_count=count, size=size))
        self.next_message()
        return actions


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The service, and what one wants to know of it."""

    service: PolicyService
    engine: Engine
    store: HandStore
    log: Log
    socket: socket.socket

    @asynccontextmanager
    async def line(self, **more: Attribute) -> AsyncIterator[Line]:
        """A connection, for as long as the block runs."""
        reader, writer = await self._connected()
        try:
            yield Line(reader, writer, **more)  # type: ignore[arg-type] # fields of a line, by their names
        finally:
            writer.transport.abort()

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self.socket.getsockname()
        if self.socket.family == socket.AF_UNIX:
            return await asyncio.open_unix_connection(address)
        return await asyncio.open_connection(*address[:2])

    async def counted(self, entity: str, metric: Metric = Metric.MESSAGES) -> int:
        """How much of `metric` the store holds about `entity` now, rules apart."""
        explanation = await self.engine.explain(parse_entity(entity, self.engine.spelling))
        counts = [s.count for s in explanation.series if s.key.metric is metric and not s.scope]
        return max(counts, default=0)

    def metric(self, name: str, **labels: str) -> float:
        return self.engine.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def policy_service(
    config: str = "",
    *,
    store: Store | None = None,
    instant: bool = False,
    unix: Path | None = None,
    max_sleepers: int = 10,
    alone: bool = True,
) -> AsyncIterator[Asked]:
    """The service with `config` (TOML), for as long as the block runs. It may leave no traceback."""
    settings = Settings.model_validate(tomllib.loads(config))
    hand = HandStore(store or MemoryStore())
    engine = Engine(policy=policy_of(settings), store=hand, clock=HandClock(hand))
    metrics = engine.metrics
    sleepers = InstantSleepers(hand, metrics) if instant else Sleepers(max_sleepers=max_sleepers, metrics=metrics)
    service = PolicyService(engine, settings.policy_service, sleepers, alone=alone)
    if unix is None:
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    else:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(unix))
        listening.listen(128)
    with captured_log() as log:
        await service.listen([listening])
        try:
            yield Asked(service=service, engine=engine, store=hand, log=log, socket=listening)
        finally:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await service.close(0.1)
    assert not log.traces, log.traces
