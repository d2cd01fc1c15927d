"""A live stream to one client, as server-sent events: text in lines, over one answer that does not end by itself.

    : comment                     now and then, so that everybody on the way sees that somebody is there
    id: 1764072000123-0           where to go on: a client that comes again sends it as ``Last-Event-ID``
    event: verdict
    data: {"id": ...}             one line of JSON

A stream ends when its client goes or takes nothing for `SEND_SECONDS`, and when `goes_on` says no: it is asked at each
tick. What is told meanwhile waits in a bounded queue; when that is full, whoever tells waits.

Bugs: a client that has gone without saying so is noticed when something is sent to it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from functools import lru_cache
from typing import NamedTuple
from weakref import WeakSet

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.problems import Problem, ProblemType
from api.surroundings import surroundings_of

MEDIA_TYPE = "text/event-stream"
HEARTBEAT_SECONDS = 15.0
TICK_SECONDS = 1.0
SEND_SECONDS = 30.0
"""How long a client may take nothing."""
MAX_WAITING = 1_000
MAX_OF_TOKEN = 10
"""Streams of one token: nobody's scripts take the places of all."""
MAX_REMEMBERED = 1_024
"""Events as they are sent, for others who listen; some kB each."""
COME_AGAIN_SECONDS = 10
COMES_AGAIN_AFTER_MS = 2_000
"""What clients that come again by themselves are told to wait."""
STILL_THERE = b": still there\n\n"


class Event(NamedTuple):
    """One of the stream's."""

    name: str
    data: bytes
    """One line."""
    id: str = ""

    def spelled(self) -> bytes:
        """As it is sent."""
        return _spelled(self)


@lru_cache(MAX_REMEMBERED)
def _spelled(event: Event) -> bytes:
    """Once for all who listen."""
    place = b"id: %s\n" % event.id.encode() if event.id else b""
    return b"%sevent: %s\ndata: %s\n\n" % (place, event.name.encode(), event.data)


class EventStream(Response):
    """An answer that tells events for as long as there are any, and somebody who may hear them."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        events: AsyncGenerator[Event, None],
        goes_on: Callable[[], bool],
        among: "WeakSet[EventStream]",
        owner: str = "",
    ) -> None:
        """`events` is closed with the stream, which is `among` others until it ends. `owner`: the token's id."""
        self.owner = owner
        self.status_code = 200
        self.background = None
        self._events = events
        self._goes_on = goes_on
        self._among = among
        among.add(self)
        self._waiting: asyncio.Queue[Event] = asyncio.Queue(MAX_WAITING)
        self.init_headers({"cache-control": "no-store", "x-accel-buffering": "no"})  # nginx would wait for more

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's own
        """Tell until it ends."""
        try:
            async with asyncio.TaskGroup() as tasks:
                parts = {tasks.create_task(part) for part in (self._tell(send), self._listen(), _gone(receive))}
                await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
                for task in parts:
                    task.cancel()
        finally:
            self._among.discard(self)

    async def _listen(self) -> None:
        async with aclosing(self._events) as events:
            async for event in events:
                await self._waiting.put(event)

    async def _tell(self, send: Send) -> None:
        with suppress(OSError, TimeoutError):  # the client has gone, or takes nothing
            await _sent(send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            await _sent(send, _part(b"retry: %d\n\n" % COMES_AGAIN_AFTER_MS))
            last = time.monotonic()
            while self._goes_on():
                text = await self._next()
                if not text and time.monotonic() - last >= HEARTBEAT_SECONDS:
                    text = STILL_THERE
                if text:
                    await _sent(send, _part(text))
                    last = time.monotonic()
            await _sent(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _next(self) -> bytes:
        """All that waits; nothing when nothing comes within a tick."""
        try:
            async with asyncio.timeout(TICK_SECONDS):
                events = [await self._waiting.get()]
        except TimeoutError:
            return b""
        while not self._waiting.empty():
            events.append(self._waiting.get_nowait())
        return b"".join(event.spelled() for event in events)


def streams_with_room(request: Request, owner: str) -> "WeakSet[EventStream]":
    """The streams that are open, REST's and the console's; raises `Problem` where there is no room for one more.

    One that was never begun, because its client had gone, is dropped in time.
    """
    state = request.app.state
    if not hasattr(state, "streams"):
        state.streams = WeakSet()
    streams: WeakSet[EventStream] = state.streams
    again = {"retry-after": str(COME_AGAIN_SECONDS)}
    if len(streams) >= surroundings_of(request).settings.api.max_streams:
        raise Problem(503, ProblemType.TOO_MANY, "there are as many live streams as may be: come again", headers=again)
    if sum(each.owner == owner for each in streams) >= MAX_OF_TOKEN:
        detail = f"this token has {MAX_OF_TOKEN} live streams, and may have no more: end one"
        raise Problem(429, ProblemType.TOO_MANY, detail, headers=again)
    return streams


def _part(octets: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": octets, "more_body": True}


async def _sent(send: Send, message: dict[str, object]) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send(message)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
