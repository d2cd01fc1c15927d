"""Charts, drawn by the server as SVG that needs no script and no style of its own. Pure functions.

Everything is placed in percent, so a chart is as wide as its place and its letters stay as large as they are. Colours
are classes of the style sheet. What is drawn is told as well: a sentence for those who do not see it, and a table.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from api.console.wording import clock_time, number, octets
from reputation.desk.documents import ActionCount, Bucket, SeriesRow
from reputation.keys import Metric

HEIGHT = 120
GAP = 0.18
"""Of a bar's place that stays empty."""
MOST_ABOVE = 2.5
"""How many times the highest bar a limit may be and is still drawn as a line."""

Written = Callable[[float], str]
"""How a count is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """Bars of one colour; several are stacked, the first at the bottom."""

    name: str
    style: str
    """A class of the style sheet."""
    buckets: Sequence[Bucket]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A height that is not to be passed."""

    text: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What a template shows of a chart."""

    svg: Markup
    top: str
    """The number at the upper end of the axis."""
    middle: str
    times: tuple[str, ...]
    """Beneath, evenly spaced."""
    summary: str
    names: tuple[str, ...]
    rows: tuple[tuple[float, tuple[int, ...]], ...]
    """Of the table: when, and how many of each name."""


def scale(highest: float) -> float:
    """A round number at least as great.

    >>> [scale(x) for x in (0, 3, 12, 130, 2_100)]
    [4.0, 4.0, 20.0, 200.0, 4000.0]
    """
    unit = 1.0
    while unit * 10 <= highest:
        unit *= 10
    return next((unit * step for step in (1, 2, 4, 6, 8, 10) if unit * step >= max(highest, 4)), unit * 10)


def bars(
    layers: Sequence[Layer], title: str, *, unit: str, limit: Limit | None = None, written: Written = number
) -> Chart | None:
    """A chart of bars over time; None where there is nothing to draw."""
    starts = tuple(sorted({bucket.start for layer in layers for bucket in layer.buckets}))
    if not starts:
        return None
    counts = [_counts(layer, starts) for layer in layers]
    sums = [sum(column) for column in zip(*counts, strict=True)]
    highest = max(sums)
    drawn = limit if limit is not None and limit.count <= max(highest, 1) * MOST_ABOVE else None
    top = scale(max(highest, drawn.count if drawn else 0))
    lines = [_line("axis", top, 0), *([_line("limit", top, drawn.count)] if drawn else [])]
    return Chart(
        svg=Markup('<svg class="plot" width="100%" height="{}" role="img" aria-label="{}">{}</svg>').format(
            HEIGHT,
            title,
            Markup("").join([*_grid(top), *_stacks(layers, starts, counts, (top, unit, written)), *lines]),
        ),
        top=written(top),
        middle=written(top / 2),
        times=tuple(clock_time(starts[at]) for at in sorted({0, len(starts) // 2, len(starts) - 1})),
        summary=_summary(title, starts, sums, (unit, written)),
        names=tuple(layer.name for layer in layers),
        rows=tuple(zip(starts, zip(*counts, strict=True), strict=True)),
    )


def _counts(layer: Layer, starts: Sequence[float]) -> tuple[int, ...]:
    of = {bucket.start: bucket.count for bucket in layer.buckets}
    return tuple(of.get(start, 0) for start in starts)


def _summary(title: str, starts: Sequence[float], sums: Sequence[int], words: tuple[str, Written]) -> str:
    unit, written = words
    total, highest, since = sum(sums), max(sums), clock_time(starts[0])
    if not total:
        return f"{title}: none since {since} UTC."
    when = clock_time(starts[list(sums).index(highest)])
    return f"{title}: {_told(total, unit, written)} since {since} UTC, the most, {written(highest)}, at {when}."


def _told(count: int, unit: str, written: Written) -> str:
    return f"{written(count)} {unit}".rstrip()


def _grid(top: float) -> list[Markup]:
    return [_line("grid", top, height) for height in (top, top / 2)]


def _stacks(
    layers: Sequence[Layer],
    starts: Sequence[float],
    counts: Sequence[Sequence[int]],
    words: tuple[float, str, Written],
) -> Iterator[Markup]:
    top, unit, written = words
    place = 100 / len(starts)
    for column, start in enumerate(starts):
        beneath = 0.0
        for layer, row in zip(layers, counts, strict=True):
            if not row[column]:
                continue
            text = f"{clock_time(start)} UTC: {_told(row[column], layer.name if len(layers) > 1 else unit, written)}"
            yield _bar(layer.style, place, column, (beneath / top, row[column] / top), text)
            beneath += row[column]


def _bar(style: str, place: float, column: int, span: tuple[float, float], text: str) -> Markup:
    beneath, high = span
    tall = max(high * HEIGHT, 1.5)
    return Markup(
        '<rect class="bar {}" x="{:.3f}%" y="{:.2f}" width="{:.3f}%" height="{:.2f}"><title>{}</title></rect>'
    ).format(style, place * (column + GAP / 2), HEIGHT - beneath * HEIGHT - tall, place * (1 - GAP), tall, text)


def _line(style: str, top: float, height: float) -> Markup:
    y = min(max(HEIGHT - height / top * HEIGHT, 0.5), HEIGHT - 0.5)
    return Markup('<line class="{}" x1="0" x2="100%" y1="{:.2f}" y2="{:.2f}"/>').format(style, y, y)


def meter(share: float, style: str, text: str) -> Markup:
    """A bar that is full at 1."""
    wide = min(max(share, 0.0), 1.0) * 100
    return Markup(
        '<svg class="meter" width="100%" height="8" role="img" aria-label="{}">'
        '<rect class="track" width="100%" height="8" rx="4"/>'
        '<rect class="bar {}" width="{:.2f}%" height="8" rx="4"/></svg>'
    ).format(text, style, max(wide, 0.8) if share > 0 else 0)


# What the pages draw


def of_actions(actions: Sequence[ActionCount]) -> Chart | None:
    """Verdicts of the last hour, by action."""
    layers = [
        Layer(name=row.action, style=f"is-{row.action}", buckets=row.buckets)
        for row in actions
        if any(bucket.count for bucket in row.buckets)
    ]
    return bars(layers, "Verdicts of the last hour", unit="verdicts")


def of_series(row: SeriesRow, limit: Limit | None = None) -> Chart | None:
    """One counter over time."""
    layer = Layer(name=row.metric, style="is-count", buckets=row.buckets)
    is_octets = row.metric == Metric.BYTES
    unit, written = ("", octets) if is_octets else (row.metric, number)
    return bars([layer], f"{row.metric}, {row.window}", unit=unit, limit=limit, written=written)
