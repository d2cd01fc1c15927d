"""`reputon export`: what is shown elsewhere, as CSV or Parquet."""

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import aclosing
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from reputation.cli import completing
from reputation.cli.answering import asked
from reputation.cli.desks import Where, opened_desk
from reputation.cli.entries import entries_of
from reputation.cli.export import STANDARD_OUTPUT, Column, Form, Row, columns_of, sheet
from reputation.cli.moments import moment_of
from reputation.cli.options import EntityArgument, MatchingOption, asking
from reputation.cli.printing import note
from reputation.cli.top import AtOption, DimensionArgument, MetricOption, NumberOption, WindowOption
from reputation.desk.contract import Wanted
from reputation.desk.documents import AuditRow, EntitySeries, EntryRow, SeriesRow, Top, TopRow, VerdictLine

commands = typer.Typer(help="Write what is counted as CSV or Parquet.", no_args_is_help=True)

FormatOption = Annotated[Form, typer.Option("--format", "-f", help="csv or parquet.")]
OutputOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", metavar="FILE", help="The file, which is replaced as a whole; - is standard output."
    ),
]
QUIET_SECONDS = 1.0
"""Without a line, after which there are no more."""
OF_TOP = ("dimension", "metric", "window", "at")
"""What is said once of a top, and stands in each row."""


@commands.command("top")
@asking
def top(
    where: Where,
    dimension: DimensionArgument = "sender",
    *,
    metric: MetricOption = "messages",
    window: WindowOption = "1h",
    n: NumberOption = 1_000,
    at: AtOption = "",
    form: FormatOption = Form.CSV,
    output: OutputOption = STANDARD_OUTPUT,
) -> None:
    """Who has the most."""
    moment = moment_of(at, time.time()) if at else None
    found = asyncio.run(asked(where, lambda desk: desk.top(dimension, metric, window, n, at=moment)))
    said = {name: getattr(found, name) for name in OF_TOP}
    columns = (*columns_of(Top, "rows"), *columns_of(TopRow))
    _write(form, output, columns, ({**said, **asdict(row)} for row in found.rows))


@commands.command("entries")
@asking
def entries(
    where: Where,
    *,
    kind: Annotated[
        str, typer.Option(metavar="KIND", help="Only ban, override or list.", autocompletion=completing.entry_kinds)
    ] = "",
    matching: MatchingOption = "",
    form: FormatOption = Form.CSV,
    output: OutputOption = STANDARD_OUTPUT,
) -> None:
    """Bans, overrides and lists."""
    found = asyncio.run(asked(where, lambda desk: entries_of(desk, kind, matching)))
    _write(form, output, columns_of(EntryRow), map(asdict, found.entries))


@commands.command("audit")
@asking
def audit(
    where: Where,
    *,
    n: NumberOption = 10_000,
    form: FormatOption = Form.CSV,
    output: OutputOption = STANDARD_OUTPUT,
) -> None:
    """What was done, by whom and why, the latest first."""
    found = asyncio.run(asked(where, lambda desk: desk.audit(n)))
    _write(form, output, columns_of(AuditRow), map(asdict, found.lines))


@commands.command("series")
@asking
def series(
    where: Where,
    entity: EntityArgument,
    *,
    form: FormatOption = Form.CSV,
    output: OutputOption = STANDARD_OUTPUT,
) -> None:
    """Somebody's counts over time: a row for each stretch of each window."""
    found = asyncio.run(asked(where, lambda desk: desk.series(entity)))
    columns = (
        Column("entity", str),
        *columns_of(SeriesRow, "buckets", "count"),
        Column("start", float),
        Column("count", int),
    )
    _write(form, output, columns, _stretches(found))


def _stretches(found: EntitySeries) -> Iterable[Row]:
    for row in found.series:
        for bucket in row.buckets:
            yield {
                "entity": found.entity,
                "metric": row.metric,
                "window": row.window,
                "rule": row.rule,
                "bucket_seconds": row.bucket_seconds,
                "start": bucket.start,
                "count": bucket.count,
            }


@commands.command("verdicts")
@asking
def verdicts(
    where: Where,
    *,
    form: FormatOption = Form.CSV,
    output: OutputOption = STANDARD_OUTPUT,
) -> None:
    """All verdicts that the live stream remembers up to now, the oldest first."""
    asyncio.run(_write_verdicts(where, form, output))


async def _write_verdicts(where: Where, form: Form, output: Path) -> None:
    """Row by row, because there may be many: up to now, or until there are no more."""
    n = 0
    async with opened_desk(where) as desk:
        until = (await desk.overview()).at
        with sheet(form, output, columns_of(VerdictLine)) as rows:
            async with aclosing(desk.verdicts(Wanted(), after="0")) as lines:
                last = time.monotonic()
                async for line in lines:
                    if line is None and time.monotonic() - last > QUIET_SECONDS:
                        break
                    if line is not None and line.at > until:
                        break
                    if line is not None:
                        rows.put(asdict(line))
                        n, last = n + 1, time.monotonic()
    _tell(n, output)


def _write(form: Form, output: Path, columns: Sequence[Column], rows: Iterable[Row]) -> None:
    n = 0
    with sheet(form, output, columns) as written:
        for row in rows:
            written.put(row)
            n += 1
    _tell(n, output)


def _tell(n: int, output: Path) -> None:
    if output != STANDARD_OUTPUT:
        note(f"{output}: {n:,} rows")
