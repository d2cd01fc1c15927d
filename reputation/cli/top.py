"""`reputon top`: who has the most of something."""

import time
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console

from reputation.cli import completing
from reputation.cli.answering import answer
from reputation.cli.desks import Where
from reputation.cli.moments import moment_of, stamp
from reputation.cli.options import JsonOption, WatchOption, asking
from reputation.cli.printing import (
    BESIDE,
    REFUSED,
    TITLE,
    add_row,
    bar,
    line,
    named,
    number,
    show_table,
    styled,
    table,
    word,
)
from reputation.desk.documents import Top

BAR_WIDTH = 12

MetricOption = Annotated[
    str, typer.Option(metavar="METRIC", help="What is counted.", autocompletion=completing.metrics)
]
WindowOption = Annotated[str, typer.Option(metavar="TIME", help="5m, 1h or 1d.", autocompletion=completing.windows)]
NumberOption = Annotated[int, typer.Option("--n", min=1, metavar="NUMBER", help="How many.")]
AtOption = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help='Of that time, such as "2 h ago" or 2026-11-24T12:00 (UTC), up to two days back; else now.',
        autocompletion=completing.moments,
    ),
]
DimensionArgument = Annotated[
    str, typer.Argument(metavar="DIMENSION", help="Whose counts.", autocompletion=completing.dimensions)
]


@asking
def top(
    where: Where,
    dimension: DimensionArgument = "sender",
    *,
    metric: MetricOption = "messages",
    window: WindowOption = "1h",
    n: NumberOption = 20,
    at: AtOption = "",
    as_json: JsonOption = False,
    watch: WatchOption = None,
) -> None:
    """Show who has the most.

    The senders with the most messages in the last hour, if nothing else is said.
    """
    moment = moment_of(at, time.time()) if at else None
    answer(where, lambda desk: desk.top(dimension, metric, window, n, at=moment), show, as_json=as_json, watch=watch)


def show(console: Console, found: Top, _now: float) -> None:
    """Print for a person."""
    when = "now" if found.at is None else f"at {stamp(found.at)} UTC"
    line(console, f"{found.metric} by {found.dimension}, {found.window}, {when}", TITLE)
    if not found.rows:
        line(console, "Nobody: nothing was counted then.", BESIDE)
        return
    most = found.rows[0].count
    rows = table(number("#"), named(found.dimension), number(found.metric), word(""), "")
    for place, row in enumerate(found.rows, 1):
        name = row.entity.partition(":")[2] or row.entity
        banned = styled("banned", REFUSED) if row.banned else ""
        add_row(rows, place, name, row.count, bar(row.count, most, BAR_WIDTH), banned)
    show_table(console, rows)
    line(console, f"see why: reputon show {quote(found.rows[0].entity)}", BESIDE)
