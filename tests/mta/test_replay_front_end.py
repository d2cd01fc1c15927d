"""Our own front end writes a log while its rules count; replayed through the same rules, it gives the same counts."""

import logging
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest

from reputation.cli.logs import Logs
from reputation.cli.replay import as_dict, replay
from reputation.config import Settings
from reputation.replay.clients import LOOPBACK
from reputation.windows import MICROSECONDS
from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop

RULES = """
[[rule]]
name = "by-sender"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["3/1m", "20/1h"]
action = "tempfail"

[[rule]]
name = "by-recipient"
stage = "rcpt"
key = ["recipient"]
count = "messages"
limits = ["4/1m"]
action = "reject"
mode = "shadow"

[[rule]]
name = "recipients"
stage = "rcpt"
key = ["sender_domain"]
count = "recipients"
limits = ["25/10m"]
action = "reject"

[[rule]]
name = "size"
stage = "data"
key = ["ip"]
count = "bytes"
limits = ["1200/1m"]
action = "tempfail"

[[rule]]
name = "pairs"
stage = "rcpt"
key = ["sender"]
count = "distinct(recipient)"
limits = ["4/1h"]
action = "tag"
"""
CONNECTIONS = """
[[rule]]
name = "connections"
stage = "connect"
key = ["prefix"]
count = "connections"
limits = ["9/1m"]
action = "tempfail"
"""


class Stamped(logging.Handler):
    """Writes the mail log as the program does, at the time of the store."""

    def __init__(self, mx: FrontEnd, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []
        self._mx = mx

    def emit(self, record: logging.LogRecord) -> None:
        at = datetime.fromtimestamp(self._mx.store.now_us / MICROSECONDS, UTC)
        date = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1_000:03}"
        self.lines.append(f"{date} {record.levelname} {record.name} {record.getMessage()}\n")


@contextmanager
def stamped(mx: FrontEnd, level: int) -> Iterator[Stamped]:
    handler, logger = Stamped(mx, level), logging.getLogger("reputon.maillog")
    logger.addHandler(handler)
    try:
        yield handler
    finally:
        logger.removeHandler(handler)


async def some_mail(mx: FrontEnd, hop: ScriptedHop, random: Random) -> None:
    """Sessions of several clients with some messages each; some the next hop refuses, some are given up."""
    for _ in range(60):
        mx.store.advance(random.randrange(1, 9))
        async with mx.client(f"127.0.0.{random.randrange(2, 6)}") as client:
            if (await client.greeting()).code != 220:
                continue
            await client.ask("EHLO client.example")
            for _ in range(random.randrange(1, 4)):
                mx.store.advance(random.choice([0.001, 0.25, 1, 2]))
                hop.script = {"message": "451 4.3.0 later"} if random.random() < 0.15 else {}
                await one_message(client, random)
            await client.ask("QUIT")
    await mx.nobody_left()


async def one_message(client: Client, random: Random) -> None:
    sender = random.choice(["a@example.com", "b@example.com", "A+x@example.com", "c@example.org", ""])
    if (await client.ask(f"MAIL FROM:<{sender}>")).code != 250:
        return
    taken = 0
    for number in random.sample(range(8), random.randrange(1, 4)):
        taken += (await client.ask(f"RCPT TO:<r{number}@example.net>")).code == 250
    if not taken or random.random() < 0.15:
        await client.ask("RSET")
        return
    await client.ask("DATA")
    await client.ask("Subject: x\r\n\r\n" + "x" * random.randrange(500) + "\r\n.")


@pytest.mark.parametrize(("level", "rules"), [(logging.DEBUG, RULES + CONNECTIONS), (logging.INFO, RULES)])
@pytest.mark.parametrize("seed", range(3))
async def test_the_counts_of_a_replay_are_those_of_the_front_end(
    seed: int, level: int, rules: str, tmp_path: Path
) -> None:
    log = tmp_path / "reputon.log"
    async with ScriptedHop() as hop, front_end(rules, next_hop=hop.url) as mx:
        with stamped(mx, level) as handler:
            await some_mail(mx, hop, Random(seed))
        log.write_text("".join(handler.lines), encoding="utf-8")
        settings = Settings.model_validate(tomllib.loads(rules))
        modes = {rule.name: rule.mode for rule in settings.rule}
        counted = {name: mx.metric("reputon_rule_over_total", rule=name, mode=mode) for name, mode in modes.items()}
        delivered = mx.metric("reputon_smtp_messages_total", result="delivered")
    report = as_dict(await replay(settings, Logs(paths=[log], year=None, zone=UTC, skip=LOOPBACK), quiet=True))
    assert {rule["rule"]: rule["hits"] for rule in report["rules"]} == counted
    assert report["delivered"] == delivered > 10
    assert sum(bool(hits) for hits in counted.values()) >= 4, counted
    assert report["logs"][0]["unreadable"] == 0
