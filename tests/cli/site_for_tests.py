"""A site for the command: a real store, rules, mail that an engine has judged, and the real `reputon` in a process.

    with valkey_server() as server:
        site = await Site.made(server, tmp_path, "t1")
        assert site.run("top", "--json").json["rows"][0]["entity"] == f"sender:{BUSY}"

Some of its senders have names that are meant to harm a terminal or a spreadsheet.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from reputation.assemble import open_engine, settings_of
from reputation.cli import main
from reputation.engine import Engine
from reputation.events import Outcome, OutcomeKind
from tests.builders import data, mail, rcpt
from tests.servers import RedisServer

REPUTON = Path(sys.executable).parent / "reputon"
SECONDS = 60.0
"""Within which every command must have ended."""
BUSY, QUIET, HELD = "busy@example.com", "quiet@example.com", "news"
CLIENT, OTHER = "192.0.2.7", "198.51.100.9"
RTL = "\u202e"
LONG = f"{'x' * 4_000}@example.com"
HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07@example.com",
    f"a{RTL}moc.elpmaxe@example.com",
    "nul\0nul@example.com",
    "[red]loud[/red]@example.com",
    "=cmd|' /C calc'!a0@example.com",
    "$(reboot)@example.com",
    LONG,
)
"""Addresses that are meant to do harm."""
RULES = """
[[rule]]
name = "sender-messages"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["20/1h"]
action = "tempfail"

[[rule]]
name = "few-clients"
stage = "mail"
key = ["ip"]
count = "messages"
limits = ["10/1h"]
action = "reject"
mode = "shadow"

[[rule]]
name = "user-messages"
stage = "mail"
key = ["user"]
count = "messages"
limits = ["5/1h", "50/24h"]
action = "tempfail"
hold_seconds = 3600
"""


class Ran(NamedTuple):
    """What came of a command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[str]:
        """What was printed, without more than one blank in a row."""
        return [" ".join(line.split()) for line in self.out.splitlines()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A configuration, and how the command is run."""

    config: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    """Besides a plain one; `REPUTON_API` has every command ask an API."""

    def run(self, *arguments: str | Path, columns: int = 120, text: str = "", **more: str) -> Ran:
        """Run `reputon` to its end, on no terminal that is so wide."""
        ran = subprocess.run(
            [REPUTON, *map(str, arguments)],
            env=self.surroundings(columns) | more,
            input=text,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=self.config.parent,
        )
        return Ran(ran.returncode, ran.stdout, ran.stderr)

    def run_here(self, *arguments: str | Path) -> Ran:
        """Run the command in this process, which is much faster; for those whose own process makes no difference."""
        out, err, status = io.StringIO(), io.StringIO(), 0
        with patch.dict(os.environ, self.surroundings(), clear=True), redirect_stdout(out), redirect_stderr(err):
            try:
                main(list(map(str, arguments)))
            except SystemExit as ended:
                status = int(ended.code or 0)
        return Ran(status, out.getvalue(), err.getvalue())

    @contextmanager
    def started(self, *arguments: str | Path) -> "Iterator[subprocess.Popen[str]]":
        """`reputon`, running for as long as the block does, if it does not end before."""
        with subprocess.Popen(
            [REPUTON, *map(str, arguments)],
            env=self.surroundings(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.config.parent,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def surroundings(self, columns: int = 120) -> dict[str, str]:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("REPUTON")}
        return {**plain, "COLUMNS": str(columns), "REPUTON_CONFIG": str(self.config), **self.environment}


def site_in(directory: Path, server: RedisServer | str, prefix: str, more: str = "") -> Site:
    """A site whose counters are on that server, or at that URL."""
    config = directory / "reputon.toml"
    url = server if isinstance(server, str) else server.unix_url
    store = f'[store]\nurl = "{url}"\nprefix = "{prefix}"\ndeadline_seconds = 5.0\n'
    config.write_text(f"{store}{RULES}{more}", encoding="utf-8")
    return Site(config=config)


@asynccontextmanager
async def working(site: Site) -> AsyncIterator[Engine]:
    """An engine of the site, which counts as one of its processes."""
    async with open_engine(settings_of(site.config)) as engine:
        yield engine
        await told(engine)


async def told(engine: Engine) -> None:
    """Have an engine tell the others what it knows, now."""
    upkeep = engine.upkeep
    for _ in range(15):  # rounds, until the boards of a day have had their turn
        await upkeep.offer()
    await upkeep.sketch()
    await upkeep.tallies.tell()
    await upkeep.stream.tell()


async def send(engine: Engine, sender: str, times: int = 1, *, client: str = CLIENT, user: str = "") -> None:
    """Messages of a sender, to Bob, as far as they come."""
    for _ in range(times):
        if (await engine.judge(mail(sender, client=client, user=user))).denied:
            continue
        await engine.judge(rcpt("bob@example.net", sender))
        await engine.judge(data("bob@example.net", sender=sender))


async def fed(site: Site) -> None:
    """Mail of somebody who sends too much, of somebody who does not, of a user who is held, and of harmful names."""
    async with working(site) as engine:
        await send(engine, BUSY, 25)
        await send(engine, QUIET, 3, client=OTHER)
        await send(engine, "news@example.com", 8, client=OTHER, user=HELD)
        for sender in HOSTILE:
            await send(engine, sender, client="203.0.113.5")
        for _ in range(4):
            await engine.learn(Outcome(kind=OutcomeKind.SPAM, event=mail(BUSY, client=CLIENT)))


def cells(lines: Sequence[str], *wanted: str) -> list[str]:
    """The lines that hold all these words."""
    return [line for line in lines if all(word in line for word in wanted)]
