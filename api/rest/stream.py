"""Verdicts as they are given, with filters, as a live stream.

The client is told when the store goes away (`trouble`) and comes back (`recovered`); meanwhile the stream stays open,
and goes on where it was. A token that is taken back or runs out ends its streams within a few seconds.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import lru_cache

from fastapi import Request, Response

from api.answers import encoded
from api.rest import examples
from api.rest.events import MAX_REMEMBERED, MEDIA_TYPE, Event, EventStream, streams_with_room
from api.rest.parameters import Actions, OfEntity, OfRule, Stages
from api.rest.resource import Resource
from api.rest.routing import caller_of, desk_of
from api.surroundings import surroundings_of
from reputation.access import Scope
from reputation.desk.contract import Desk, Wanted
from reputation.desk.documents import VerdictLine
from reputation.desk.watching import place_of
from reputation.errors import StoreError
from reputation.keys import parse_entity

PAUSE_SECONDS = 1.0
"""Before the store is asked again."""
TROUBLE = Event("trouble", b'{"detail": "the counter store does not answer: verdicts go on when it does"}')
RECOVERED = Event("recovered", b"{}")


async def stream_verdicts(
    request: Request, action: Actions = (), stage: Stages = (), rule: OfRule = "", entity: OfEntity = ""
) -> Response:
    """Verdicts as they are given, as server-sent events that fit all filters.

    The header `Last-Event-ID` goes on after a verdict that the client has. Each event is a `verdict`, with a
    VerdictLine as its `data` and its place in the stream as its `id`; `trouble` says that the store does not answer,
    and `recovered` that it does again. A comment comes every 15 seconds when there is nothing else.
    """
    wanted = Wanted(frozenset(action), frozenset(stage), rule, _canonical(entity, request))
    after = request.headers.get("last-event-id") or None
    if after is not None:
        place_of(after)
    owner = caller_of(request).token.token_id
    streams = streams_with_room(request, owner)
    return EventStream(_events(desk_of(request), wanted, after), lambda: _goes_on(request), streams, owner)


def _canonical(entity: str, request: Request) -> str:
    """The entity as verdicts name it; raises `EntityError`."""
    return str(parse_entity(entity, surroundings_of(request).engine.spelling)) if entity else ""


def _goes_on(request: Request) -> bool:
    """Whether the token that opened a stream is in force, as it was, and the process is not about to end."""
    around, token = surroundings_of(request), caller_of(request).token
    return around.gate.by_id(token.token_id) == token and not around.stopping.is_set()


async def _events(desk: Desk, wanted: Wanted, after: str | None) -> AsyncGenerator[Event, None]:
    is_away = False
    while True:
        try:
            async with aclosing(desk.verdicts(wanted, after=after)) as lines:
                async for line in lines:
                    if is_away:
                        is_away = False
                        yield RECOVERED
                    if line is not None:
                        after = line.id
                        yield _event_of(line)
        except StoreError:
            if not is_away:
                is_away = True
                yield TROUBLE
        await asyncio.sleep(PAUSE_SECONDS)


@lru_cache(MAX_REMEMBERED)
def _event_of(line: VerdictLine) -> Event:
    """A line as an event; encoded once for all who listen."""
    return Event("verdict", encoded(line), line.id)


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/stream",
        handler=stream_verdicts,
        scope=Scope.READ,
        summary="Verdicts as they are given",
        example=examples.STREAM,
        tag="looking",
        media_type=MEDIA_TYPE,
    ),
)
