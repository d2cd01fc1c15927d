"""What was done lately, by whom, and why."""

from starlette.responses import Response

from api.console.showing import page
from api.console.visits import Visit

NUMBERS = (200, 1_000, 5_000)


async def audit(visit: Visit) -> Response:
    """The latest first, those with a text if one is asked for."""
    n, matching = visit.asked.count("n", NUMBERS[0], NUMBERS[-1]), visit.asked.text("q")
    told = await visit.desk.audit(n)
    wanted = matching.casefold()
    lines = [
        line
        for line in told.lines
        if any(wanted in text.casefold() for text in (line.what, line.id, line.author, line.reason))
    ]
    return await page(
        visit.request, "audit.html", lines=lines, total=len(told.lines), n=n, numbers=NUMBERS, matching=matching
    )
