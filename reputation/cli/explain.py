"""`reputon explain`: how an entity stands, in a table or as JSON."""

import math
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reputation.assemble import open_engine
from reputation.config import Settings
from reputation.engine import Explanation
from reputation.keys import parse_entity
from reputation.verdict import Action, Finding


async def explain(settings: Settings, text: str) -> Explanation:
    """Ask the store. Raises `EntityError` for text that names no entity, `StoreError` when there is no answer."""
    entity = parse_entity(text, settings.spelling())
    async with open_engine(settings) as engine:
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
            "retry_after_seconds": verdict.retry_after_seconds,
            "would": list(verdict.would),
        },
        "rules": [_finding(finding) for finding in verdict.findings],
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
        "limit": str(reading.limit),
        "remaining": reading.remaining,
        "retry_after_seconds": reading.retry_after_seconds,
    }


def show(console: Console, explanation: Explanation) -> None:
    """Print for a person."""
    verdict = explanation.verdict
    console.print(Text(str(explanation.entity), style="bold"))
    if verdict.findings:
        console.print(_rules_table(verdict.findings))
    if explanation.series:
        console.print(_counts_table(explanation))
    else:
        console.print("Nothing is counted about it now.")
    console.print(Text(f"next event: {_sentence(explanation)}", style="green" if _passes(explanation) else "red"))


def _passes(explanation: Explanation) -> bool:
    return explanation.verdict.action is Action.ACCEPT


def _sentence(explanation: Explanation) -> str:
    verdict = explanation.verdict
    words = [f"action={verdict.action}", f"reason={verdict.reason}"]
    if verdict.rule:
        words.append(f"rule={verdict.rule}")
    if verdict.retry_after_seconds:
        words.append(f"retry_after={math.ceil(verdict.retry_after_seconds)} s")
    if verdict.would:
        words.append(f"in shadow mode over: {', '.join(verdict.would)}")
    return " ".join(words)


def _rules_table(findings: tuple[Finding, ...]) -> Table:
    table = Table("rule", "metric", "count", "limit", "remaining", "retry after", title="Rules")
    for finding in findings:
        reading = finding.reading
        wait = f"{math.ceil(reading.retry_after_seconds)} s" if reading.over else ""
        row = (finding.rule, finding.metric, str(reading.count), str(reading.limit), str(reading.remaining), wait)
        table.add_row(*map(Text, row), style="red" if reading.over else "")
    return table


def _counts_table(explanation: Explanation) -> Table:
    own = [series for series in explanation.series if not series.scope]
    windows = sorted({series.window for series in own})
    table = Table("metric", *(f"last {window}" for window in windows), title="Counted")
    for metric in sorted({series.key.metric for series in own}):
        counts = {series.window: series.count for series in own if series.key.metric == metric}
        table.add_row(metric, *(str(counts.get(window, 0)) for window in windows))
    return table
