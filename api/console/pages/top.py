"""Who has the most: of any dimension, metric and window, now or at a time of the last two days."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import RedirectResponse, Response

from api.console.asking import Asked
from api.console.showing import page
from api.console.visits import Visit
from api.console.wording import place
from reputation.bookkeeping import counted_of
from reputation.desk.contract import MAX_TOP
from reputation.keys import Dimension, Metric

WINDOWS: Mapping[str, str] = {"5m": "5 minutes", "1h": "1 hour", "1d": "1 day"}
NUMBERS = (20, 50, 100, 500, MAX_TOP)
MINUTES_BACK = 48 * 60
STEP_MINUTES = 5
_FIRST = (Dimension.SENDER, Dimension.USER, Dimension.IP)
_COUNTED = {dimension: frozenset(map(str, counted_of(dimension))) for dimension in Dimension}
METRICS: Mapping[str, Sequence[str]] = {
    str(dimension): tuple(str(metric) for metric in Metric if metric in _COUNTED[dimension])
    for dimension in (*_FIRST, *(each for each in Dimension if each not in _FIRST))
    if _COUNTED[dimension]
}
"""Dimension -> what is counted of it, those that are asked for most first."""
CHOICES: Mapping[str, Any] = {
    "metrics": METRICS,
    "windows": WINDOWS,
    "numbers": NUMBERS,
    "minutes_back": MINUTES_BACK,
    "step": STEP_MINUTES,
}


async def top(visit: Visit) -> Response:
    """Those with the most."""
    asked = visit.asked
    chosen = _chosen(asked)
    ago, at = asked.number("ago"), asked.number("at")
    if ago is not None:  # the slider says how long ago; an address that is kept says when
        return RedirectResponse(place("top", **chosen, at=_rounded(visit.now, ago)), 303)
    n = int(chosen["n"])
    told = await visit.desk.top(str(chosen["dimension"]), str(chosen["metric"]), str(chosen["window"]), n, at=at)
    minutes = 0 if at is None else round((visit.now - at) / 60)
    return await page(
        visit.request,
        "top.html",
        told=told,
        chosen=chosen,
        most=max((row.count for row in told.rows), default=0),
        back_minutes=min(max(minutes, 0), MINUTES_BACK),
        at=at,
        here=visit.place,
        **CHOICES,
    )


def _chosen(asked: Asked) -> dict[str, str | int]:
    dimension = asked.one_of("dimension", tuple(METRICS))
    return {
        "dimension": dimension,
        "metric": asked.one_of("metric", _usual_first(METRICS[dimension])),
        "window": asked.one_of("window", ("1h", "5m", "1d")),
        "n": asked.count("n", NUMBERS[0], MAX_TOP),
    }


def _usual_first(metrics: Sequence[str]) -> Sequence[str]:
    usual = [metric for metric in metrics if metric == Metric.MESSAGES]
    return (*usual, *(metric for metric in metrics if metric not in usual))


def _rounded(now: float, ago_minutes: float) -> int | None:
    """A moment some minutes ago, to a full minute, so that it can be kept; None for now."""
    ago = min(max(-abs(ago_minutes), -MINUTES_BACK), 0.0)
    return int((now + ago * 60) // 60 * 60) if ago else None
