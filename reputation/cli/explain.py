"""`reputon explain`: how an entity stands, in a table or as JSON."""

import json
import math
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from reputation.assemble import open_engine
from reputation.config import Settings
from reputation.engine import Explanation
from reputation.entries import Ban, Entry, Listing, Override, to_json
from reputation.keys import parse_entity
from reputation.verdict import Action, Finding


async def explain(settings: Settings, text: str) -> Explanation:
    """Ask the store. Raises `EntityError` for text that names no entity, `StoreError` when there is no answer."""
    entity = parse_entity(text, settings.spelling())
    async with open_engine(settings, serving=False) as engine:
        return await engine.explain(entity)


def as_dict(explanation: Explanation) -> dict[str, Any]:
    """The explanation as plain values."""
    verdict = explanation.verdict
    return {
        "entity": str(explanation.entity),
        "next": {
            "action": verdict.action,
            "reason": verdict.reason,
            "rule": verdict.rule,
            "entry": verdict.entry,
            "retry_after_seconds": verdict.retry_after_seconds,
            "would": list(verdict.would),
        },
        "register": [_entry(entry) for entry in explanation.entries],
        "rules": [_finding(finding) | {"when": _when(explanation, finding)} for finding in verdict.findings],
        "counts": [
            {"metric": series.key.metric, "rule": series.scope, "window": str(series.window), "count": series.count}
            for series in explanation.series
        ],
    }


def _finding(finding: Finding) -> dict[str, Any]:
    reading = finding.reading
    return {
        "rule": finding.rule,
        "metric": finding.metric,
        "count": reading.count,
        "limit": finding.limit,
        "remaining": reading.remaining,
        "retry_after_seconds": reading.retry_after_seconds,
    }


def _when(explanation: Explanation, finding: Finding) -> str:
    """Which events the rule of a finding is about; empty for all."""
    return explanation.conditions.get(finding.rule, "")


def _entry(entry: Entry) -> dict[str, Any]:
    return {"id": entry.id, **json.loads(to_json(entry))}


def show(console: Console, explanation: Explanation) -> None:
    """Print for a person."""
    verdict = explanation.verdict
    console.print(Text(str(explanation.entity), style="bold"), soft_wrap=True)
    if explanation.entries:
        console.print(_register_table(explanation.entries))
    if verdict.findings:
        console.print(_rules_table(explanation))
    if explanation.series:
        console.print(_counts_table(explanation))
    else:
        console.print("Nothing is counted about it now.")
    style = "green" if _passes(explanation) else "red"
    console.print(Text(f"next event: {_sentence(explanation)}", style=style), soft_wrap=True)


def _passes(explanation: Explanation) -> bool:
    return explanation.verdict.action is Action.ACCEPT


def _sentence(explanation: Explanation) -> str:
    verdict = explanation.verdict
    words = [f"action={verdict.action}", f"reason={verdict.reason}"]
    if verdict.rule:
        words.append(f"rule={verdict.rule}")
    if verdict.entry:
        words.append(f"entry={verdict.entry}")
    if verdict.retry_after_seconds:
        words.append(f"retry_after={math.ceil(verdict.retry_after_seconds)} s")
    if verdict.would:
        words.append(f"in shadow mode over: {', '.join(verdict.would)}")
    return " ".join(words)


def _table(title: str, *headings: str) -> Table:
    """A table that cuts nothing off, however narrow the terminal is."""
    return Table(*(Column(heading, overflow="fold") for heading in headings), title=title)


def _register_table(entries: tuple[Entry, ...]) -> Table:
    table = _table("Put down", "entry", "says", "until", "author", "reason")
    for entry in entries:
        table.add_row(*map(Text, (entry.id, _says(entry), _until(entry), entry.author, entry.reason)))
    return table


def _says(entry: Entry) -> str:
    match entry:
        case Ban(action=action):
            return action
        case Override(limits=limits):
            return ", ".join(map(str, limits))
        case Listing(list=name):
            return name


def _until(entry: Entry) -> str:
    if entry.expires_at is None:
        return "no end"
    return f"{datetime.fromtimestamp(entry.expires_at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _rules_table(explanation: Explanation) -> Table:
    findings = explanation.verdict.findings
    conditional = any(_when(explanation, finding) for finding in findings)
    headings = (
        "rule",
        "metric",
        "count",
        "limit",
        "remaining",
        "retry after",
        *(("only when",) if conditional else ()),
    )
    table = _table("Rules", *headings)
    for finding in findings:
        reading = finding.reading
        wait = f"{math.ceil(reading.retry_after_seconds)} s" if reading.over else ""
        row = (finding.rule, finding.metric, str(reading.count), finding.limit, str(reading.remaining), wait)
        when = (_when(explanation, finding),) if conditional else ()
        table.add_row(*map(Text, (*row, *when)), style="red" if reading.over else "")
    return table


def _counts_table(explanation: Explanation) -> Table:
    own = [series for series in explanation.series if not series.scope]
    windows = sorted({series.window for series in own})
    table = _table("Counted", "metric", *(f"last {window}" for window in windows))
    for metric in sorted({series.key.metric for series in own}):
        counts = {series.window: series.count for series in own if series.key.metric == metric}
        table.add_row(metric, *(str(counts.get(window, 0)) for window in windows))
    return table
