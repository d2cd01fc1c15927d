"""`reputon show`, `series`, `explain` and `forget`: all about one entity."""

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reputation.cli import completing
from reputation.cli import explain as explaining
from reputation.cli.answering import answer
from reputation.cli.desks import Where
from reputation.cli.moments import clock, stamp
from reputation.cli.options import EntityArgument, JsonOption, ReasonOption, WatchOption, asking
from reputation.cli.printing import (
    BESIDE,
    TITLE,
    WELL,
    add_row,
    bar,
    bars,
    line,
    number,
    show_table,
    table,
    title,
    word,
)
from reputation.cli.verdicts import show_recent
from reputation.desk.describing import WINDOWS
from reputation.desk.documents import Bucket, Distinct, EntityPage, EntitySeries, Forgotten, SeriesRow
from reputation.errors import ConfigError
from reputation.keys import Metric

BAR_WIDTH = 40
DAY = 86_400.0


@asking
def show(where: Where, entity: EntityArgument, *, as_json: JsonOption = False, watch: WatchOption = None) -> None:
    """Show all that is known of somebody.

    Counts, limits, reputation, what was put down, the latest verdicts.
    """
    answer(where, lambda desk: desk.page(entity), show_page, as_json=as_json, watch=watch)


@asking
def explain(where: Where, entity: EntityArgument, *, as_json: JsonOption = False) -> None:
    """Show how somebody stands, and what comes next.

    What is counted, and what the next event would get. Counts nothing.
    """
    answer(where, lambda desk: desk.explain(entity), explaining.show, as_json=as_json)


@asking
def series(
    where: Where,
    entity: EntityArgument,
    *,
    metric: Annotated[
        str, typer.Option(metavar="METRIC", help="Only this one, drawn large.", autocompletion=completing.metrics)
    ] = "",
    window: Annotated[
        str, typer.Option(metavar="TIME", help="Only 5m, 1h or 1d.", autocompletion=completing.windows)
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Show somebody's counts over time, as bars."""

    if window not in ("", *WINDOWS):
        raise ConfigError(f'--window: "{window:.40}" is none of {", ".join(WINDOWS)}')
    if metric and metric not in set(Metric):
        raise ConfigError(f'--metric: "{metric:.40}" is none of {", ".join(Metric)}')

    def show_some(console: Console, found: EntitySeries, _now: float) -> None:
        rows = [row for row in found.series if metric in ("", row.metric) and window in ("", row.window)]
        show_series(console, found.entity, rows, is_large=bool(metric))

    answer(where, lambda desk: desk.series(entity), show_some, as_json=as_json)


@asking
def forget(
    where: Where,
    entity: EntityArgument,
    *,
    reason: ReasonOption,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether it is meant.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Erase all that is known of somebody.

    What is counted, and remembered by the live stream. There is no way back.
    """
    if not yes:
        _confirm(entity)
    answer(where, lambda desk: desk.forget(entity, reason=reason), show_forgotten, as_json=as_json)


def _confirm(entity: str) -> None:
    """Ask whether it is meant; raises `ConfigError` where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise ConfigError("this cannot be undone: say --yes if it is meant")
    typer.confirm(f"Erase all of {entity!r}? This cannot be undone.", abort=True, err=True)


# For a person


def show_page(console: Console, page: EntityPage, now: float) -> None:
    """All that is known of an entity."""
    explaining.show(console, page, now)
    if page.distinct:
        title(console, "Different ones, about")
        show_table(console, _distinct_table(page.distinct))
    if page.recent:
        title(console, "Latest verdicts")
        show_recent(console, page.recent, now)


def _distinct_table(distinct: Iterable[Distinct]) -> Table:
    rows = table("what", number("last hour"), number("last day"))
    for each in distinct:
        add_row(rows, each.of, each.last_hour, each.last_day)
    return rows


def show_series(console: Console, entity: str, rows: Sequence[SeriesRow], *, is_large: bool) -> None:
    """Counts over time, a line each; or drawn large, a line for each stretch."""
    line(console, entity, TITLE)
    if not rows:
        line(console, "Nothing is counted about it now.", BESIDE)
        return
    if is_large:
        for row in rows:
            _show_large(console, row)
        return
    shown = table("metric", "of rule", word("window"), number("count"), word("oldest to latest"), number("a bar"))
    for row in rows:
        drawn = bars(bucket.count for bucket in row.buckets)
        add_row(shown, row.metric, row.rule, row.window, row.count, f"|{drawn}|", _length(row.bucket_seconds))
    show_table(console, shown)


def _show_large(console: Console, row: SeriesRow) -> None:
    of_rule = f" of the rule {row.rule}" if row.rule else ""
    title(console, f"{row.metric}{of_rule}, last {row.window}: {row.count:,}")
    most = max((bucket.count for bucket in row.buckets), default=0)
    shown = table(word("from (UTC)"), number("count"), "")
    for bucket in row.buckets:
        add_row(shown, _start(bucket, row), bucket.count, bar(bucket.count, most, BAR_WIDTH))
    show_table(console, shown)


def _start(bucket: Bucket, row: SeriesRow) -> str:
    is_long = row.bucket_seconds * len(row.buckets) > DAY / 2
    return stamp(bucket.start) if is_long else clock(bucket.start)


def _length(seconds: float) -> str:
    return f"{seconds / 60:g} min" if seconds >= 60 else f"{seconds:g} s"


def show_forgotten(console: Console, gone: Forgotten, _now: float) -> None:
    """What was erased, and what still names it."""
    line(console, f"forgotten: {gone.counters:,} counters and {gone.verdicts:,} verdicts of {gone.entity}", WELL)
    for entry in gone.entries:
        line(
            console,
            f"still named by {entry}: that stays until you lift it, as with `reputon unban` or `reputon list remove`",
        )
