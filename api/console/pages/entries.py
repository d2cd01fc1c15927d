"""Bans, overrides and lists: what operators and rules have put down, to be found and lifted."""

from collections.abc import Mapping

from starlette.responses import Response

from api.console.showing import page
from api.console.visits import Visit
from api.console.wording import place

KINDS: Mapping[str, str] = {"": "All", "ban": "Bans", "override": "Overrides", "list": "Lists"}
ON_A_PAGE = 100
MAX_SEARCH = 320
MAX_BEFORE = 10**9


async def entries(visit: Visit) -> Response:
    """One page of them."""
    asked = visit.asked
    kind, matching = asked.one_of("kind", tuple(KINDS)), asked.text("q")[:MAX_SEARCH]
    after, before = asked.text("after"), asked.count("before", 1, MAX_BEFORE) if asked.text("before") else 0
    told = await visit.desk.entries(kind=kind, matching=matching, after=after, n=ON_A_PAGE)
    following = place("entries", kind=kind, q=matching, after=told.next, before=before + len(told.entries))
    return await page(
        visit.request,
        "entries.html",
        told=told,
        kinds=KINDS,
        kind=kind,
        matching=matching,
        first=before + 1,
        following=following if told.next else "",
        beginning=place("entries", kind=kind, q=matching) if after else "",
        here=visit.place,
    )
