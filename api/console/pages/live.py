"""Verdicts as they are given: a page with the latest, and the stream that brings new ones to it.

What the stream sends is a row of the page's table, written by the same template: what a stranger sent is escaped in one
place. `away` and `back` say that the store does not answer and that it does again, `over` that the log-in has ended.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from functools import lru_cache

from starlette.responses import Response

from api.console.asking import Asked
from api.console.showing import environment, page
from api.console.visits import Visit, logged_in
from api.console.wording import quoted
from api.rest.events import MAX_REMEMBERED, Event, EventStream, streams_with_room
from reputation.desk.contract import Wanted
from reputation.desk.documents import VerdictLine
from reputation.desk.watching import place_of
from reputation.errors import StoreError
from reputation.events import Stage
from reputation.keys import parse_entity
from reputation.verdict import Action

SHOWN_SECONDS = 300.0
"""How far back the page begins."""
SHOWN = 100
LOOKING_SECONDS = 0.5
"""At most; what is remembered ends with a None, at once."""
PAUSE_SECONDS = 1.0
"""Before the store is asked again."""
MAX_IN_PAGE = 500
"""Rows that the browser keeps."""
STAGES = tuple(str(stage) for stage in Stage if stage is not Stage.DISCONNECT)


def wanted_of(visit: Visit) -> Wanted:
    """The filters that were chosen; raises `EntityError` for what names no entity."""
    asked, entity = visit.asked, visit.asked.text("entity")
    spelling = visit.surroundings.engine.spelling
    return Wanted(
        actions=frozenset(asked.all("action")) & set(Action),
        stages=frozenset(asked.all("stage")) & set(STAGES),
        rule=asked.text("rule"),
        entity=str(parse_entity(entity, spelling)) if entity else "",
    )


async def live(visit: Visit) -> Response:
    """The page, with what there was in the last minutes."""
    wanted = wanted_of(visit)
    lines, rules = await asyncio.gather(_latest(visit, wanted), visit.desk.rules())
    return await page(
        visit.request,
        "live.html",
        wanted=wanted,
        lines=lines,
        stream=_stream_place(visit.asked, lines),
        rules=[row.rule for row in rules.rules],
        actions=tuple(map(str, Action)),
        stages=STAGES,
        most=MAX_IN_PAGE,
    )


async def _latest(visit: Visit, wanted: Wanted) -> list[VerdictLine]:
    """The latest lines, the latest first."""
    after = f"{int((visit.now - SHOWN_SECONDS) * 1_000)}-0"
    found: deque[VerdictLine] = deque(maxlen=SHOWN)
    with suppress(TimeoutError):
        async with asyncio.timeout(LOOKING_SECONDS), aclosing(visit.desk.verdicts(wanted, after=after)) as lines:
            async for line in lines:
                if line is None:
                    break
                found.append(line)
    return list(reversed(found))


def _stream_place(asked: Asked, lines: list[VerdictLine]) -> str:
    chosen = [(name, value) for name in ("action", "stage", "rule", "entity") for value in asked.all(name)]
    if lines:
        chosen.append(("after", lines[0].id))
    return "/console/stream?" + "&".join(f"{name}={quoted(value)}" for name, value in chosen)


async def stream(visit: Visit) -> Response:
    """New ones, for as long as the log-in lasts."""
    after = visit.request.headers.get("last-event-id") or visit.asked.text("after") or None
    if after is not None:
        place_of(after)
    owner = visit.session.token.token_id
    streams = streams_with_room(visit.request, owner)
    return EventStream(_events(visit, wanted_of(visit), after), lambda: _goes_on(visit), streams, owner)


def _goes_on(visit: Visit) -> bool:
    return logged_in(visit.request) is not None and not visit.surroundings.stopping.is_set()


async def _events(visit: Visit, wanted: Wanted, after: str | None) -> AsyncGenerator[Event, None]:
    is_away = False
    while True:
        try:
            async with aclosing(visit.desk.verdicts(wanted, after=after)) as lines:
                async for line in lines:
                    if is_away:
                        is_away = False
                        yield Event("back", b"-")
                    if line is not None:
                        after = line.id
                        yield Event("verdict", row_of(line), line.id)
        except StoreError:
            if not is_away:
                is_away = True
                yield Event("away", b"-")
        await asyncio.sleep(PAUSE_SECONDS)


@lru_cache(MAX_REMEMBERED)
def row_of(line: VerdictLine) -> bytes:
    """A row of the table, in one line; made once for all who look."""
    text = environment().get_template("parts/verdict_row.html").render(line=line, now=line.at)
    return " ".join(text.split()).encode("utf-8", "replace")
