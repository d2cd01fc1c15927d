"""The first page: how the site is, and what to look at first."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from starlette.responses import Response

from api.console import charts
from api.console.showing import page
from api.console.visits import Visit
from api.console.wording import place, relative
from reputation.desk.contract import Desk
from reputation.desk.documents import ActionCount, Overview, Suspects, Top
from reputation.errors import StoreError
from reputation.verdict import DENYING

MINUTES_5, HOUR = 300.0, 3_600.0
MANY_REFUSED = 20
"""In five minutes; fewer are no reason to be called."""
SURGE = 3.0
"""So many times the rate of the last hour is worth a look."""
MOST_HINTS = 6
SHOWN = 5
TOPS = (("sender", "messages", "Senders"), ("ip", "connections", "Clients"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Something to look at, and where."""

    style: str
    """bad, warn or calm."""
    text: str
    place: str
    link: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Verdicts, as numbers to be read from afar."""

    per_second: float
    refused_5m: int
    refused_1h: int
    judged_5m: int
    judged_1h: int

    @property
    def refused_share(self) -> float:
        """Of the verdicts of the last 5 minutes."""
        return self.refused_5m / self.judged_5m if self.judged_5m else 0.0


async def overview(visit: Visit) -> Response:
    """The site at a glance."""
    told = await visit.desk.overview()
    suspects, tops = await _around(visit.desk, told)
    rates = rates_of(told.actions)
    return await page(
        visit.request,
        "overview.html",
        told=told,
        rates=rates,
        chart=charts.of_actions(told.actions),
        hints=hints_of(told, rates, suspects),
        tops=tops,
    )


async def _around(desk: Desk, told: Overview) -> tuple[Suspects, Sequence[tuple[str, Top]]]:
    suspects = await desk.suspects()  # from memory: they are held while the store is away as well
    if not told.store.up:
        return suspects, ()
    try:
        tops = await asyncio.gather(*(desk.top(of, what, "1h", SHOWN) for of, what, _ in TOPS))
    except StoreError:  # it has gone in between; the next look tells
        return suspects, ()
    return suspects, tuple(zip((title for _, _, title in TOPS), tops, strict=True))


def rates_of(actions: Sequence[ActionCount]) -> Rates:
    """What the counts of all actions come to."""
    refusing = [row for row in actions if row.action in set(DENYING)]
    judged_5m = sum(row.last_5m for row in actions)
    return Rates(
        per_second=judged_5m / MINUTES_5,
        refused_5m=sum(row.last_5m for row in refusing),
        refused_1h=sum(row.last_1h for row in refusing),
        judged_5m=judged_5m,
        judged_1h=sum(row.last_1h for row in actions),
    )


def hints_of(told: Overview, rates: Rates, suspects: Suspects) -> tuple[Hint, ...]:
    """What to look at first, the most urgent first."""
    found = [*_of_store(told), *_of_suspects(told, suspects), *_of_refusals(rates), *_of_shadow(told)]
    return tuple(found[:MOST_HINTS])


def _of_store(told: Overview) -> Sequence[Hint]:
    if not told.store.up:
        text = "The store is away. Mail flows on as each rule's on_store_failure says; nothing is counted meanwhile."
        return [Hint(style="bad", text=text, place=place("rules"), link="See the rules")]
    if not told.store.whole:
        text = "Some servers of the store do not answer: what they hold is not counted."
        return [Hint(style="bad", text=text, place=place("rules"), link="See the rules")]
    return []


def _of_suspects(told: Overview, suspects: Suspects) -> Sequence[Hint]:
    held = suspects.suspects
    if not held:
        return []
    latest = held[0]
    total = max(suspects.total, len(held))
    many = "1 is held by a rule" if total == 1 else f"{total:,} are held by rules"
    text = f"{many}; the latest, {latest.entity:.80}, {relative(latest.since, told.at)}."
    return [Hint(style="warn", text=text, place=place("suspects"), link="See who, and why")]


def _of_refusals(rates: Rates) -> Sequence[Hint]:
    usual = rates.refused_1h / HOUR
    lately = rates.refused_5m / MINUTES_5
    if rates.refused_5m < MANY_REFUSED or not usual or lately < usual * SURGE:
        return []
    text = f"Refusals are {lately / usual:.0f} times as many as the hour's average: {rates.refused_5m:,} in 5 minutes."
    return [Hint(style="warn", text=text, place=place("live", action="reject"), link="Watch them")]


def _of_shadow(told: Overview) -> Sequence[Hint]:
    would = [row for row in told.rules if row.mode == "shadow" and row.would_hit.last_1d]
    return [
        Hint(
            style="calm",
            text=f"{row.rule} is in shadow mode, and would have acted {row.would_hit.last_1d:,} times in a day.",
            place=place("rule", name=row.rule),
            link="See what enforcing it would do",
        )
        for row in sorted(would, key=lambda each: -each.would_hit.last_1d)[:3]
    ]
