"""`reputon rules`: what is in force, and how often each rule has acted on the whole fleet, or would have.
`reputon release`: let go of somebody whom a rule holds, or an operator has banned."""

import getpass
import time
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from reputation.assemble import open_engine
from reputation.config import Settings
from reputation.entries import Ban, parse_target
from reputation.opinions import PolicyFunction
from reputation.releases import released
from reputation.rules import Rule
from reputation.tallies import RuleTally, Tally

Row = tuple[Rule | PolicyFunction, RuleTally]

UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


async def rules(settings: Settings) -> list[Row]:
    """Each rule in force, and what the fleet has counted of it. Raises `StoreError` when there is no answer."""
    async with open_engine(settings, serving=False) as engine:
        policy, tallies = engine.policy, await engine.tallies()
        return list(zip((*policy.rules, *policy.functions), tallies, strict=True))


def as_dict(row: Row) -> dict[str, Any]:
    """A row as plain values."""
    each, tally = row
    shown: dict[str, Any] = {"rule": each.name, "stage": each.stage, "mode": each.mode}
    if isinstance(each, Rule):
        shown |= {
            "action": each.action,
            "when": each.when,
            "key": list(each.key),
            "count": each.count,
            "limits": [str(limit) for limit in each.limits],
        }
    return shown | {"hits": _tally(tally.hits), "would_hit": _tally(tally.would)}


def _tally(tally: Tally) -> dict[str, Any]:
    return {**dict(zip(("5m", "1h", "1d"), tally.counts, strict=True)), "last": tally.last}


def show(console: Console, rows: list[Row], now: float) -> None:
    """Print for a person; `now` in seconds since the epoch."""
    if not rows:
        console.print('There are no rules. Write some, or include those that come with reputon: include = ["default"]')
        return
    headings = ("rule", "stage", "action", "mode", "1 h", "1 d", "last ago")
    columns = [Column(heading, overflow="fold", no_wrap=heading in {"rule", "action"}) for heading in headings]
    table = Table(*columns, title="Rules in force", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for each, tally in rows:
        shadow = each.mode == "shadow"
        counted = tally.would if shadow else tally.hits
        action = each.action if isinstance(each, Rule) else "(Python)"
        cells = (each.name, each.stage, action, each.mode, *map(str, counted.counts[1:]), _ago(counted.last, now))
        table.add_row(*map(Text, cells), style="dim" if shadow else "")
    console.print(table)
    console.print("Of rules in shadow mode: how often they would have acted.")


def _ago(at: float | None, now: float) -> str:
    """How long ago something was.

    >>> _ago(None, 0.0), _ago(95.0, 100.0), _ago(0.0, 7_300.0)
    ('never', '5 s', '2 h')
    """
    if at is None:
        return "never"
    seconds = max(0.0, now - at)
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"


async def release(settings: Settings, text: str, *, reason: str) -> list[Ban]:
    """Let go of exactly what `text` names; the bans that were lifted.

    Raises `EntityError` for text that names nothing, `ConfigError` where nothing bans it, `StoreError` when there is no
    answer.
    """
    target = parse_target(text, settings.spelling())
    async with open_engine(settings, serving=False) as engine:
        now = engine.registrar.time_at(time.monotonic())
        return await released(engine, target, author=_who(), reason=reason, now=now)


def _who() -> str:
    """Who does it, for the audit."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # no such user here
        return "unknown"
