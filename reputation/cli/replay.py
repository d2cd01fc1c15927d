"""`reputon replay`: whom a policy would have hit, by old logs; as tables or as JSON."""

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reputation.cli.logs import (
    Logs,
    add_row,
    check_read,
    entities_in,
    files_as_dicts,
    line,
    notes_of,
    print_json,
    progress_of,
    show_files,
    table,
)
from reputation.config import Settings
from reputation.keys import Dimension, Entity, parse_entity
from reputation.policy import Policy
from reputation.replay.figures import SPREAD, Figures, Hits, Tally
from reputation.replay.flow import Flow
from reputation.replay.reading import LogFile
from reputation.replay.running import Replay

_PLURAL = {Dimension.SENDER: "senders", Dimension.USER: "users", Dimension.IP: "addresses"}
assert _PLURAL.keys() == set(SPREAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a replay has found, and in what."""

    logs: Logs
    files: list[LogFile]
    policy: Policy
    figures: Figures
    notes: list[str]
    top: int
    """How many entities are told of each rule."""


def run(
    settings: Settings, logs: Logs, *, known_bad: Path | None, watch: Sequence[str], top: int, as_json: bool
) -> None:
    """The command: replay and print."""
    spelling = settings.spelling()
    bad, watched = entities_in(known_bad, spelling), [parse_entity(text, spelling) for text in watch]
    report = asyncio.run(replay(settings, logs, known_bad=bad, watched=watched, top=top, quiet=as_json))
    if as_json:
        print_json(as_dict(report))
    else:
        show(Console(), report)


async def replay(
    settings: Settings,
    logs: Logs,
    *,
    known_bad: Collection[Entity] = (),
    watched: Collection[Entity] = (),
    top: int = 5,
    quiet: bool = False,
) -> Report:
    """Play logs through the rules of a configuration. Raises `ConfigError`."""
    policy, flow = settings.policy(), Flow(logs.skip)
    running = Replay(policy, settings.spelling(), known_bad=known_bad, watched=watched)
    with progress_of(logs, quiet=quiet) as reading:
        for timed in flow.steps(reading.records()):
            await running.take(timed)
    figures = running.close(connections=flow.connections, disconnects=flow.disconnects)
    check_read(reading.files, anything=bool(figures.messages or figures.events))
    notes = notes_of(reading.files, flow)
    if figures.forgotten:
        notes.append(f"{figures.forgotten:,} counters were forgotten to make room: rules may hit more than is told")
    if settings.python:
        notes.append("policies in Python are not asked in a replay")
    return Report(logs=logs, files=reading.files, policy=policy, figures=figures, notes=notes, top=top)


def as_dict(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    figures = report.figures
    return {
        "logs": files_as_dicts(report.files),
        "notes": report.notes,
        "from": _iso(report, figures.first_us),
        "until": _iso(report, figures.last_us),
        "events": figures.events,
        "messages": figures.messages,
        "delivered": figures.delivered,
        "given_back": figures.given_back,
        "outcomes": figures.outcomes,
        "rules": [_rule(report, rule.name, figures.rules[rule.name]) for rule in report.policy.rules],
        "watched": [
            {
                "entity": str(entity),
                "messages": watched.messages,
                "delivered": watched.delivered,
                "rules": {name: _hits(report, hits) for name, hits in watched.by_rule.items()},
            }
            for entity, watched in figures.watched.items()
        ],
    }


def _rule(report: Report, name: str, tally: Tally) -> dict[str, Any]:
    rule = report.policy.rule(name)
    return {
        "rule": name,
        "mode": rule.mode,
        "stage": rule.stage,
        "action": rule.action,
        "not_judged": report.figures.unjudged.get(name, ""),
        "judged": tally.judged,
        "hits": tally.total.hits,
        "messages": tally.messages,
        "delivered": tally.total.delivered,
        "false_positives": tally.false_positives,
        "known_bad": tally.known_bad,
        "first": _iso(report, tally.total.first_us),
        "last": _iso(report, tally.total.last_us),
        "entities": len(tally.entities),
        "different": {dimension: len(values) for dimension, values in tally.spread.items()},
        "at_least": tally.overflowed,
        "top": [{"entity": str(entity)} | _hits(report, hits) for entity, hits in tally.top(report.top)],
    }


def _hits(report: Report, hits: Hits) -> dict[str, Any]:
    return {
        "hits": hits.hits,
        "delivered": hits.delivered,
        "first": _iso(report, hits.first_us),
        "last": _iso(report, hits.last_us),
    }


def _iso(report: Report, at_us: int) -> str:
    return report.logs.time(at_us).isoformat(timespec="seconds") if at_us else ""


def show(console: Console, report: Report) -> None:
    """Print for a person."""
    figures = report.figures
    show_files(console, report.files, report.notes)
    line(console, f"from {_time(report, figures.first_us)} to {_time(report, figures.last_us)}")
    line(
        console,
        f"{figures.messages:,} messages, of which {figures.delivered:,} were delivered and "
        f"{figures.given_back:,} came to nothing; {figures.events:,} events judged",
    )
    for name, reason in figures.unjudged.items():
        line(console, f"{name} could not be judged: {reason}", "yellow")
    console.print(_rules_table(report))
    for rule in report.policy.rules:
        if report.top and figures.rules[rule.name].total.hits:
            _show_rule(console, report, rule.name, figures.rules[rule.name])
    for entity in figures.watched:
        _show_watched(console, report, entity)


def _time(report: Report, at_us: int) -> str:
    return f"{report.logs.time(at_us):%Y-%m-%d %H:%M:%S}" if at_us else "-"


def _rules_table(report: Report) -> Table:
    bad = any(tally.known_bad for tally in report.figures.rules.values())
    rows = table(
        "What the rules would have done",
        *("rule", "hits", "messages", "false positives", *(("known bad",) if bad else ()), "first"),
    )
    for rule in report.policy.rules:
        tally = report.figures.rules[rule.name]
        known_bad = (tally.known_bad,) if bad else ()
        counts = (tally.total.hits, tally.messages, tally.false_positives, *known_bad)
        first = _time(report, tally.total.first_us)
        style = "" if tally.total.hits else "dim"
        add_row(rows, rule.name, *(f"{count:,}" for count in counts), first, style=style)
    return rows


def _show_rule(console: Console, report: Report, name: str, tally: Tally) -> None:
    rule = report.policy.rule(name)
    more = " or more" if tally.overflowed else ""
    different = ", ".join(f"{len(values):,} {_PLURAL[dimension]}" for dimension, values in tally.spread.items())
    console.print()
    line(console, f"{name} ({rule.action}, {rule.mode}) would have hit {different}{more}")
    rows = table("", "who", "hits", "delivered", "first", "last")
    for entity, hits in tally.top(report.top):
        first, last = _time(report, hits.first_us), _time(report, hits.last_us)
        add_row(rows, str(entity), f"{hits.hits:,}", f"{hits.delivered:,}", first, last)
    console.print(rows)
    if (others := len(tally.entities) - report.top) > 0:
        line(console, f"and {others:,} others")


def _show_watched(console: Console, report: Report, entity: Entity) -> None:
    watched = report.figures.watched[entity]
    told = [
        f"{hits.hits:,} times by {name}, first {_time(report, hits.first_us)}"
        for name, hits in watched.by_rule.items()
        if hits.hits
    ]
    said = "hit " + "; ".join(told) if told else "never hit"
    style = "red" if told else "green"
    line(console, f"{entity}: {watched.messages:,} messages, {watched.delivered:,} delivered, {said}", style)
