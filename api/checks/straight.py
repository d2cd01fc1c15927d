"""The way past the routes, for what is asked a thousand times a second.

An ASGI application around the routes: a request for `path` goes to its handler at once, all others on to them. The
layers of FastAPI between the door and a handler (`api.door`, `api.checks`) cost as much as the verdict itself, and do
nothing for a handler that reads its body itself. What is raised is answered as it is by the routes (`api.mistakes`).

The route stays: it is what the API's document tells of, and it answers other methods.
"""

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import mistakes


class Path(NamedTuple):
    """In place of a route: requests are counted by its path."""

    path: str


class Straight:
    """An ASGI application around another."""

    def __init__(
        self, app: ASGIApp, *, method: str, path: str, handler: Callable[[Request], Awaitable[Response]]
    ) -> None:
        self._app = app
        self._method, self._path = method, Path(path)
        self._handler = handler

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["path"] != self._path.path or scope["method"] != self._method:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._path
        request = Request(scope, receive)
        try:
            response = await self._handler(request)
        except mistakes.EXPECTED as error:
            response = await mistakes.answer(request, error)
        await response(scope, receive, send)
