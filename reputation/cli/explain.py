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
from reputation.entries import Ban, Entry, Listing, Override, to_json
from reputation.explanation import Explanation
from reputation.keys import parse_entity
from reputation.standing import Standing
from reputation.verdict import Action, Finding

RULE_COLUMNS = ("rule", "counts", "so far", "retry after")
SCORES = ("score", "confidence", "active_now", "repeat_offender")


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
        "reputation": _reputation(explanation.reputation),
        "counts": [
            {"metric": series.key.metric, "rule": series.scope, "window": str(series.window), "count": series.count}
            for series in explanation.series
        ],
    }


def _reputation(standing: Standing | None) -> dict[str, Any] | None:
    if standing is None:
        return None
    numbers = {name: round(getattr(standing, name), 4) for name in (*SCORES, "base")}
    levels = [
        {
            "entity": str(level.entity),
            "good": round(level.long.good, 3),
            "bad": round(level.long.bad, 3),
            "good_lately": round(level.short.good, 3),
            "bad_lately": round(level.short.bad, 3),
            "prior": round(level.prior, 4),
            "posterior": round(level.posterior, 4),
            "confidence": round(level.confidence, 4),
        }
        for level in standing.levels
    ]
    return {**numbers, "levels": levels}


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
        for line in _conditions(explanation):
            console.print(Text(line, style="dim"))
    if explanation.reputation is not None and any(it.long.total for it in explanation.reputation.levels):
        console.print(_reputation_table(explanation.reputation))
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
    first, *others = RULE_COLUMNS
    columns = (Column(first, overflow="fold", min_width=18), *(Column(name, overflow="fold") for name in others))
    table = Table(*columns, title="Rules")
    for finding in explanation.verdict.findings:
        reading = finding.reading
        wait = f"{math.ceil(reading.retry_after_seconds)} s" if reading.over else ""
        row = (finding.rule, finding.metric, f"{reading.count} of {finding.limit}", wait)
        table.add_row(*map(Text, row), style="red" if reading.over else "")
    return table


def _conditions(explanation: Explanation) -> list[str]:
    """Which events the rules of the table are about."""
    rules = dict.fromkeys(finding.rule for finding in explanation.verdict.findings)
    return [
        f"{rule}: only when {' '.join(when.split())}" for rule in rules if (when := explanation.conditions.get(rule))
    ]


def _reputation_table(standing: Standing) -> Table:
    """From the broad to the narrow: each level begins with what came out of the one above."""
    scores = ", ".join(f"{name.replace('_', ' ')} {getattr(standing, name):.2f}" for name in SCORES)
    headings = ("level", "good", "bad", "good lately", "bad lately", "begins with", "comes to")
    table = _table(f"Reputation, 0 good to 1 bad: {scores}", *headings)
    table.add_row("this site", "", "", "", "", "", f"{standing.base:.2f}")
    for level in standing.levels:
        sums = (level.long.good, level.long.bad, level.short.good, level.short.bad)
        row = (str(level.entity), *(f"{value:.1f}" for value in sums), f"{level.prior:.2f}", f"{level.posterior:.2f}")
        table.add_row(*map(Text, row))
    return table


def _counts_table(explanation: Explanation) -> Table:
    own = [series for series in explanation.series if not series.scope]
    windows = sorted({series.window for series in own})
    table = _table("Counted", "metric", *(f"last {window}" for window in windows))
    for metric in sorted({series.key.metric for series in own}):
        counts = {series.window: series.count for series in own if series.key.metric == metric}
        table.add_row(metric, *(str(counts.get(window, 0)) for window in windows))
    return table
