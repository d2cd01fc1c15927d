"""How an entity stands, for a person: `reputon explain`, and the first part of `reputon show`."""

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reputation.cli.moments import left, stamp
from reputation.cli.printing import (
    BESIDE,
    REFUSED,
    TITLE,
    WELL,
    WOULD,
    Cell,
    add_row,
    line,
    named,
    number,
    of_action,
    show_table,
    styled,
    table,
    title,
    word,
)
from reputation.desk.documents import Count, EntryRow, Explained, Next, Reputation, RuleReading

SCORES = ("score", "confidence", "active_now", "repeat_offender")
WINDOWS = ("5m", "1h", "1d")
SHADOW = "shadow"
BAD, DOUBTFUL = 0.7, 0.4
"""Scores from which somebody is shown as bad, and as doubtful."""


def show(console: Console, explained: Explained, now: float) -> None:
    """Print for a person."""
    line(console, explained.entity, TITLE)
    line(console, _sentence(explained.next), WELL if explained.next.action == "accept" else REFUSED)
    if explained.register:
        title(console, "Put down")
        show_table(console, entries_table(explained.register, now))
    if explained.rules:
        title(console, "Rules")
        show_table(console, _rules_table(explained.rules))
        for condition in _conditions(explained.rules):
            line(console, condition, BESIDE)
    if explained.reputation is not None and any(it.good or it.bad for it in explained.reputation.levels):
        _show_reputation(console, explained.reputation)
    if any(not count.rule for count in explained.counts):
        title(console, "Counted")
        show_table(console, _counts_table(explained.counts))
    else:
        line(console, "Nothing is counted about it now.", BESIDE)


def _sentence(following: Next) -> str:
    words = [f"next event: action={following.action}", f"reason={following.reason}"]
    words += [f"rule={following.rule}"] if following.rule else []
    words += [f"entry={following.entry}"] if following.entry else []
    words += [f"retry_after={_seconds(following.retry_after_seconds)}"] if following.retry_after_seconds else []
    words += [f"in shadow mode over: {', '.join(following.would)}"] if following.would else []
    return " ".join(words)


def _seconds(seconds: float) -> str:
    return f"{math.ceil(seconds)} s"


# What was put down


def entries_table(entries: Sequence[EntryRow], now: float) -> Table:
    """Bans, overrides and lists: who is meant, what is said about him, until when, and who says so, why."""
    rows = table(named("target"), "says", word("until (UTC)"), number("left"), "by", named("reason"))
    for entry in entries:
        add_row(
            rows,
            entry.target,
            _says(entry),
            stamp(entry.expires_at),
            left(entry.expires_at, now),
            entry.author,
            entry.reason,
        )
    return rows


def _says(entry: EntryRow) -> Cell:
    match entry.kind:
        case "ban":
            return of_action(entry.action)
        case "override":
            return styled(f"{entry.rule}: {', '.join(entry.limits)}")
        case _:
            return styled(f"list {entry.list}", {"allow": WELL, "block": REFUSED}.get(entry.list, ""))


# Rules


def _rules_table(readings: Sequence[RuleReading]) -> Table:
    rows = table(named("rule"), "counts", number("so far"), word("limit"), "over it", number("again in"))
    for reading in readings:
        is_over, is_shadow = reading.remaining == 0, reading.mode == SHADOW
        over = Text("(would) ", WOULD) if is_shadow else Text()
        over.append_text(of_action(reading.action))
        add_row(
            rows,
            reading.rule,
            reading.metric,
            reading.count,
            reading.limit,
            over if reading.action else "",
            _seconds(reading.retry_after_seconds) if is_over and reading.retry_after_seconds else "",
            style=(WOULD if is_shadow else REFUSED) if is_over else BESIDE if is_shadow else "",
        )
    return rows


def _conditions(readings: Sequence[RuleReading]) -> list[str]:
    """Which events the rules of the table are about."""
    conditions = {reading.rule: " ".join(reading.when.split()) for reading in readings}
    return [f"{rule}: only when {when}" for rule, when in conditions.items() if when]


# Reputation and counts


def _show_reputation(console: Console, reputation: Reputation) -> None:
    """From the broad to the narrow: each level begins with what came out of the one above."""
    scores = ", ".join(f"{name.replace('_', ' ')} {getattr(reputation, name):.2f}" for name in SCORES)
    console.print()
    style = REFUSED if reputation.score >= BAD else WOULD if reputation.score >= DOUBTFUL else WELL
    line(console, Text("Reputation, 0 good to 1 bad: ", TITLE).append(scores, style))
    headings = ("good", "bad", "good lately", "bad lately", "from", "to")
    rows = table(named("level"), *(number(each) for each in headings))
    add_row(rows, "this site", "", "", "", "", "", f"{reputation.base:.2f}")
    for level in reputation.levels:
        sums = (level.good, level.bad, level.good_lately, level.bad_lately)
        add_row(rows, level.entity, *(f"{it:.1f}" for it in sums), f"{level.prior:.2f}", f"{level.posterior:.2f}")
    show_table(console, rows)


def _counts_table(counts: Sequence[Count]) -> Table:
    own = [count for count in counts if not count.rule]
    windows = sorted({count.window for count in own}, key=_place)
    rows = table("metric", *(number(f"last {window}") for window in windows))
    for metric in sorted({count.metric for count in own}):
        found = {count.window: count.count for count in own if count.metric == metric}
        add_row(rows, metric, *(found.get(window, 0) for window in windows))
    return rows


def _place(window: str) -> tuple[int, str]:
    return (WINDOWS.index(window) if window in WINDOWS else len(WINDOWS)), window
