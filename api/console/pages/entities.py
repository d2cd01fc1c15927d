"""The page of one entity: what its next event would get and why, what it has done, and what was done about it."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.responses import RedirectResponse, Response

from api.console import charts
from api.console.charts import Chart, Limit
from api.console.pages.top import WINDOWS
from api.console.showing import page
from api.console.visits import Visit
from api.console.wording import dimension_of, place
from reputation.desk.documents import Count, EntityPage, EntitySeries, RuleReading, SeriesRow
from reputation.holds import HELD_BY
from reputation.windows import Limit as WrittenLimit

SECONDS: Mapping[str, int] = {"5m": 300, "1h": 3_600, "1d": 86_400}
NEAR = 0.8
"""From this share of a limit on it is shown as near."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauge:
    """A rule's count against its limit, as a bar."""

    reading: RuleReading
    share: float
    style: str
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Counts of a metric in several windows."""

    metric: str
    rule: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A counter over time, as a chart."""

    row: SeriesRow
    chart: Chart
    limit: Limit | None


async def entity(visit: Visit) -> Response:
    """All that is known of one."""
    of = visit.asked.text("of")
    if not of:
        return RedirectResponse(place("search"), 303)
    told, series = await asyncio.gather(visit.desk.page(of), visit.desk.series(of))
    window = visit.asked.one_of("window", ("1h", "5m", "1d"))
    return await page(
        visit.request, "entity.html", here=visit.place, charted="entity", **shown_of(told, series, window)
    )


def shown_of(told: EntityPage, series: EntitySeries, window: str) -> dict[str, Any]:
    """What the template shows of an entity."""
    gauges = gauges_of(told.rules)
    return {
        "told": told,
        "gauges": [gauge for gauge in gauges if gauge.reading.count],
        "empty_rules": [gauge.reading for gauge in gauges if not gauge.reading.count],
        "counts": rows_of(told.counts),
        "windows": WINDOWS,
        "window": window,
        "charts": drawn_of(series, told.rules, window),
        "is_held": any(entry.author.startswith(HELD_BY) and entry.kind == "ban" for entry in told.register),
        "has_case": dimension_of(told.entity) == "user",
        "bans": [entry for entry in told.register if entry.kind == "ban" and entry.target == told.entity],
    }


def gauges_of(readings: Iterable[RuleReading]) -> list[Gauge]:
    """Rules, the fullest first."""
    return sorted(map(_gauge, readings), key=lambda gauge: (-gauge.share, gauge.reading.rule))


def _gauge(reading: RuleReading) -> Gauge:
    room = reading.count + reading.remaining
    share = 1.0 if reading.retry_after_seconds else (reading.count / room if room else 0.0)
    style, words = "is-room", "has room"
    if reading.retry_after_seconds or (room and not reading.remaining):
        style, words = "is-over", "full"
    elif share >= NEAR:
        style, words = "is-near", "nearly full"
    return Gauge(reading=reading, share=share, style=style, words=words)


def rows_of(counts: Iterable[Count]) -> list[Row]:
    """Counts with their windows side by side, the entity's own first."""
    found: dict[tuple[str, str], dict[str, int]] = {}
    for count in counts:
        found.setdefault((count.rule, count.metric), {})[count.window] = count.count
    return [
        Row(metric=metric, rule=rule, counts=of) for (rule, metric), of in sorted(found.items()) if any(of.values())
    ]


def drawn_of(series: EntitySeries, readings: Sequence[RuleReading], window: str) -> list[Drawn]:
    """The entity's own counters in a window, the largest first; and those of rules with windows of their own."""
    rows = [row for row in series.series if row.count and (row.window == window or _is_alone(row))]
    of_rules = {row.rule for row in rows} - {""}
    found = []
    for row in sorted(rows, key=lambda each: (each.rule != "", -each.count)):
        limit = limit_of(row, [each for each in readings if row.rule or each.rule not in of_rules])
        chart = charts.of_series(row, limit)
        if chart is not None:
            found.append(Drawn(row=row, chart=chart, limit=limit))
    return found


def _is_alone(row: SeriesRow) -> bool:
    return row.rule != "" and row.window not in SECONDS


def limit_of(row: SeriesRow, readings: Iterable[RuleReading]) -> Limit | None:
    """The lowest limit that a rule holds this counter against."""
    found = []
    for reading in readings:
        if reading.metric != row.metric or "/" not in reading.limit or (row.rule and row.rule != reading.rule):
            continue
        written = WrittenLimit.parse(reading.limit)
        if written.window.seconds == SECONDS.get(row.window) or str(written.window) == row.window:
            found.append(Limit(text=f"{reading.limit} ({reading.rule})", count=written.count))
    return min(found, key=lambda limit: limit.count, default=None)
