"""Verdicts as they are given, with filters, as a live stream.

The client is told when the store goes away (`trouble`) and comes back (`recovered`); meanwhile the stream stays open,
and goes on where it was. A token that is taken back or runs out ends its streams within a few seconds.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from weakref import WeakSet

from fastapi import Request, Response

from api.answers import encoded
from api.problems import Problem, ProblemType
from api.rest import examples
from api.rest.events import MEDIA_TYPE, Event, EventStream
from api.rest.parameters import Actions, OfEntity, OfRule, Stages
from api.rest.resource import Resource
from api.rest.routing import caller_of, desk_of
from api.surroundings import surroundings_of
from reputation.access import Scope
from reputation.desk.contract import Desk, Wanted
from reputation.desk.watching import place_of
from reputation.errors import StoreError
from reputation.keys import parse_entity

PAUSE_SECONDS = 1.0
"""Before the store is asked again."""
COME_AGAIN_SECONDS = 10
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
    around = surroundings_of(request)
    wanted = Wanted(frozenset(action), frozenset(stage), rule, _canonical(entity, request))
    after = request.headers.get("last-event-id") or None
    if after is not None:
        place_of(after)
    streams = _streams_of(request)
    if len(streams) >= around.settings.api.max_streams:
        again = {"retry-after": str(COME_AGAIN_SECONDS)}
        raise Problem(503, ProblemType.TOO_MANY, "there are as many live streams as may be: come again", headers=again)
    return EventStream(_events(desk_of(request), wanted, after), lambda: _goes_on(request), streams)


def _canonical(entity: str, request: Request) -> str:
    """The entity as verdicts name it; raises `EntityError`."""
    return str(parse_entity(entity, surroundings_of(request).engine.spelling)) if entity else ""


def _streams_of(request: Request) -> "WeakSet[EventStream]":
    """Those that are open. One that was never begun, because its client had gone, is dropped in time."""
    state = request.app.state
    if not hasattr(state, "streams"):
        state.streams = WeakSet()
    streams: WeakSet[EventStream] = state.streams
    return streams


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
                        yield Event("verdict", encoded(line), line.id)
        except StoreError:
            if not is_away:
                is_away = True
                yield TROUBLE
        await asyncio.sleep(PAUSE_SECONDS)


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
