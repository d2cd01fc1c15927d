"""Whom rules hold, and the case file of one."""

import asyncio
from collections.abc import Mapping

from starlette.responses import RedirectResponse, Response

from api.console.pages.entities import shown_of
from api.console.showing import page
from api.console.visits import Visit
from api.console.wording import place
from reputation.desk.documents import CaseFile

ON_A_PAGE = 100


async def suspects(visit: Visit) -> Response:
    """One page of them."""
    after = visit.asked.text("after")
    told = await visit.desk.suspects(after=after, n=ON_A_PAGE)
    return await page(
        visit.request,
        "suspects.html",
        told=told,
        following=place("suspects", after=told.next) if told.next else "",
        beginning=place("suspects") if after else "",
        here=visit.place,
    )


async def case(visit: Visit) -> Response:
    """The case file of one."""
    of = visit.asked.text("of")
    if not of:
        return RedirectResponse(place("suspects"), 303)
    told, series = await asyncio.gather(visit.desk.case_file(of), visit.desk.series(of))
    window = visit.asked.one_of("window", ("1d", "1h", "5m"))
    return await page(
        visit.request,
        "case.html",
        case=told,
        seen=seen_in(told),
        here=visit.place,
        charted="case",
        **shown_of(told.page, series, window),
    )


def seen_in(told: CaseFile) -> Mapping[str, tuple[str, Mapping[str, int]]]:
    """What its verdicts have in common: title -> the dimension of its values, if they have pages, and how many each."""
    found = {
        "Clients": ("ip", told.clients),
        "Networks": ("asn", told.asns),
        "Countries": ("country", told.countries),
        "Recipients": ("recipient", told.recipients),
        "Verdicts": ("", told.actions),
    }
    return {title: (dimension, counts) for title, (dimension, counts) in found.items() if counts}
