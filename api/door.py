"""The door of the application: what every request passes, outside of all that answers it.

    request -> Door (a token? not too long? counted) -> routes -> Door (header fields, counted) -> answer

* Without a token nothing is served but what `OPEN` names; a route asks the gate for the scope besides (`api.gate`). The
  token is looked at before a body is read.
* A body is no longer than the settings say, and of what is no check or outcome than `SMALL_OCTETS`: told by
  Content-Length, or counted as it comes. So a stranger's forms hold little memory, and nobody's mistakes take long.
* No answer may be kept, or shown in a frame, unless it says otherwise itself. (That its type is not to be guessed
  stands in every one, those of the server itself as well: `api.server`.)
* What nobody has expected is a 500 without detail, and one traceback in the log, with the request's number.
* Requests are counted by the route's template, never by a path that a client has made up.
* When the process is told to end, whoever waits for more of an answer (a stream) finds its client gone, and the answer
  ends in good order.

Written for ASGI as it is: each layer around a request costs some 20 us, and a mail server waits for the answer.
"""

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from fastapi.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.mistakes import problem_of
from api.problems import Problem, ProblemType
from api.surroundings import Surroundings
from reputation.metrics import Metrics

OPEN = ("/healthz", "/readyz", "/console/", "/.well-known/", "/repute/")
"""What begins like this looks after itself."""
OPEN_EXACTLY = frozenset({"/", "/console", "/repute"})
LARGE = ("/v1/check", "/v1/outcomes")
"""Where bodies may be as long as the settings say: events and reports, many at once, with whole messages in them."""
SMALL_OCTETS = 100_000
"""The longest body of anything else: forms, entries, tokens."""
GONE_SECONDS = 1.0
"""How long it may take until the server says of a connection that it knows to be closed that its client has gone."""
NOT_ROUTED = "none"
"""The route of a request that came to none."""
CLIENT_IS_GONE = 499
"""In place of a status."""

Header = tuple[bytes, bytes]

UNLESS_SAID: Mapping[bytes, bytes] = {
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
}

_ENDING = Problem(
    503, ProblemType.ENDING, "this process ends: ask again", headers={"retry-after": "1", "connection": "close"}
)

_CLOSED = "the handler is closed"
"""What uvloop says of a connection that a client has broken off."""

log = logging.getLogger("reputon.api")


class Door:
    """An ASGI application around another."""

    def __init__(self, app: ASGIApp, surroundings: Surroundings) -> None:
        self._app = app
        self._gate = surroundings.gate
        self._metrics = surroundings.engine.metrics
        self._max_body_bytes = surroundings.settings.api.max_body_bytes
        self._stopping = surroundings.stopping
        self._numbers = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        longest = self._max_body_bytes if scope["path"].startswith(LARGE) else min(SMALL_OCTETS, self._max_body_bytes)
        exchange = Exchange(scope, receive, send, longest, self._stopping)
        number = next(self._numbers)
        try:
            await self._answered(scope, exchange)
        except ClientDisconnect:
            exchange.status = CLIENT_IS_GONE
        except asyncio.CancelledError:
            if exchange.status or not self._stopping.is_set():
                raise
            await _ENDING.response()(scope, receive, exchange.send)  # its client has taken too long, and we end
        except Exception as error:  # the top of a request: it is answered, and told once
            error.add_note(f"request {number}: {scope['method']} {_route(scope)}")
            if exchange.status:
                raise  # the server tells it, and closes the connection: half of an answer has been sent
            log.exception("request %d: %s %s", number, scope["method"], _route(scope))
            await problem_of(error).response()(scope, receive, exchange.send)
        finally:
            exchange.count(self._metrics)
            if log.isEnabledFor(logging.DEBUG):
                log.debug("request %d: %s %r: %d", number, scope["method"], scope["path"], exchange.status)

    async def _answered(self, scope: Scope, exchange: "Exchange") -> None:
        path: str = scope["path"]
        try:
            if not (path.startswith(OPEN) or path in OPEN_EXACTLY):
                self._gate.identified(scope)
            exchange.check_length()
        except Problem as problem:
            await problem.response()(scope, exchange.receive, exchange.send)
            return
        await self._app(scope, exchange.receive, exchange.send)
        if exchange.is_open and self._stopping.is_set():
            await exchange.send({"type": "http.response.body", "body": b"", "more_body": False})


class Exchange:
    """One request and its answer, as they go by."""

    __slots__ = (
        "_began_at",
        "_is_read",
        "_max_octets",
        "_octets",
        "_receive",
        "_scope",
        "_seconds",
        "_send",
        "_stopping",
        "is_open",
        "status",
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send, max_octets: int, stopping: asyncio.Event) -> None:
        self.status = 0
        """Of the answer, as soon as it has begun."""
        self.is_open = False
        """Whether there is more to come of the answer."""
        self._scope, self._receive, self._send = scope, receive, send
        self._max_octets, self._octets, self._is_read = max_octets, 0, False
        self._stopping = stopping
        self._began_at, self._seconds = time.monotonic(), 0.0

    def check_length(self) -> None:
        """Raise `Problem` 413 for a body that is said to be too long; one that says nothing is counted."""
        for name, value in self._scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value[:20]) > self._max_octets):
                raise self._too_long()

    def _too_long(self) -> Problem:
        detail = f"the body is larger than {self._max_octets} octets"
        return Problem(413, ProblemType.TOO_LARGE, detail, headers={"connection": "close"})  # nobody reads the rest

    async def receive(self) -> Message:
        """The next piece of the request. Raises `HTTPException` 413 for one that is too long."""
        if self._is_read:
            return await self._until_gone()
        message = await self._receive()
        if message["type"] == "http.request":
            self._octets += len(message.get("body", b""))
            if self._octets > self._max_octets:
                problem = self._too_long()
                raise HTTPException(413, problem.detail, problem.headers)  # FastAPI lets no other pass while it reads
            self._is_read = not message.get("more_body", False)
        return message

    async def _until_gone(self) -> Message:
        """What comes after a request: that its client is gone, or is to go because we end."""
        gone = asyncio.ensure_future(self._receive())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
            return gone.result() if gone.done() else {"type": "http.disconnect"}
        finally:
            gone.cancel()
            stopping.cancel()

    async def send(self, message: Message) -> None:
        """The next piece of the answer, with the header fields that every one has."""
        if message["type"] == "http.response.start":
            self.status, self.is_open = message["status"], True
            self._seconds = time.monotonic() - self._began_at
            headers: list[Header] = list(message.get("headers", ()))
            said = {name for name, _ in headers}
            headers += [(name, value) for name, value in UNLESS_SAID.items() if name not in said]
            message = {**message, "headers": headers}
        elif not message.get("more_body", False):
            self.is_open = False
        try:
            await self._send(message)
        except RuntimeError as error:
            if _CLOSED not in str(error):
                raise
            await self._gone()

    async def _gone(self) -> None:
        """Wait until the server knows what its transport has known already; nobody is to be told anything more."""
        self.is_open = False
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                while (await self._receive())["type"] != "http.disconnect":
                    pass

    def count(self, metrics: Metrics) -> None:
        """Count the request: its route, how it ended, and how long it took until the answer began."""
        status = self.status or CLIENT_IS_GONE
        metrics.api_answered(_route(self._scope), f"{status // 100}xx", self._seconds)


def _route(scope: Scope) -> str:
    """The template of the route that a request came to."""
    return str(getattr(scope.get("route"), "path", NOT_ROUTED))
