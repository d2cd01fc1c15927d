"""The console as an application of its own, mounted into the API's: routes, header fields, pages for what goes wrong.

Whatever is raised becomes a page that says what to do, in the same frame as all pages: no page is a bare error. Pages
that show what the store knows look again by themselves, so they come back when the store does.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.console import assets
from api.console.pages import acting, audit, entities, entrance, entries, live, overview, rules, search, suspects, top
from api.console.showing import page
from api.console.visits import Endpoint, NotLoggedIn, done, recognised, shown, visit_of
from api.console.wording import place
from api.mistakes import refusal_of
from api.problems import Problem
from api.surroundings import Surroundings
from reputation.access import Scope as TokenScope
from reputation.errors import ConfigError, NothingThere, StoreError, StoreMisuse

PATH = "/console"
LOOKS_AGAIN = "live"
"""What our script says in `x-console` when it looks again at a page that is open."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
HEADERS: Mapping[bytes, bytes] = {
    b"content-security-policy": POLICY.encode(),
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"permissions-policy": b"camera=(), geolocation=(), microphone=(), payment=()",
    b"referrer-policy": b"same-origin",
    b"x-robots-tag": b"noindex, nofollow",
}

log = logging.getLogger("reputon.console")

PAGES: Mapping[str, Endpoint] = {
    "/": shown(overview.overview),
    "/top": shown(top.top),
    "/entity": shown(entities.entity),
    "/entries": shown(entries.entries),
    "/rules": shown(rules.rules),
    "/rule": shown(rules.rule),
    "/suspects": shown(suspects.suspects),
    "/case": shown(suspects.case),
    "/live": shown(live.live),
    "/stream": shown(live.stream),
    "/audit": shown(audit.audit),
    "/search": shown(search.search),
}


def mounted(app: FastAPI, surroundings: Surroundings) -> None:
    """Put the console into the application, at ``/console``."""
    app.state.surroundings = surroundings
    app.add_route(PATH, _begin, methods=["GET"], include_in_schema=False)
    app.mount(PATH, Frame(ExceptionMiddleware(Router(_routes(), redirect_slashes=False), handlers=dict(HANDLERS))))


def _routes() -> Sequence[Route]:
    forms = []
    for name, form in acting.FORMS.items():
        handler = acting.handler_of(form)
        forms.append(Counted(f"/{name}", shown(handler, form.scope), methods=["GET"]))
        forms.append(Counted(f"/{name}", done(handler, form.scope), methods=["POST"]))
    return [
        *(Counted(path, endpoint, methods=["GET"]) for path, endpoint in PAGES.items()),
        *forms,
        Counted("/login", entrance.login, methods=["GET", "POST"]),
        Counted("/logout", done(entrance.logout, TokenScope.READ), methods=["POST"]),
        Counted("/theme", entrance.theme, methods=["POST"]),
        Counted("/assets/{name}", assets.sent, methods=["GET"]),
    ]


async def _begin(_: Request) -> Response:
    return RedirectResponse(place(""), 307)


class Counted(Route):
    """A route that the door counts requests by."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether a request is for it."""
        match, child = super().matches(scope)
        return match, {**child, "route": _Template(PATH + self.path)}


class _Template(NamedTuple):
    path: str


class Frame:
    """Header fields of every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def framed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS.items()]}
            await send(message)

        await self._app(scope, receive, framed)


# What goes wrong


async def _not_logged_in(request: Request, _: Exception) -> Response:
    if request.headers.get("x-console") == LOOKS_AGAIN or request.url.path == f"{PATH}/stream":
        return Response(status_code=401)
    visited = request.url.path == f"{PATH}/"
    following = "" if visited or request.method != "GET" else f"{request.url.path}?{request.url.query}".rstrip("?")
    return RedirectResponse(place("login", next=following, said="" if visited else "over"), 303)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    answer = await _told(request, error.status, _TITLES.get(error.status, "Not now"), error.detail)
    answer.headers.update({name: value for name, value in error.headers.items() if name != "www-authenticate"})
    return answer


async def _mistake(request: Request, error: Exception) -> Response:
    if isinstance(error, NothingThere):
        return await _told(request, 404, "There is none", str(error))
    return await _told(request, 400, "This cannot be shown", str(error))


async def _away(request: Request, error: Exception) -> Response:
    log.warning("%s: %s", request.url.path, error)
    answer = (
        await page(request, "away.html", status=503, why_away=str(error)) if visit_of(request) else Response("", 503)
    )
    answer.headers["retry-after"] = "2"
    return answer


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, StoreMisuse)
    log.warning("%s: the store refuses: %s", request.url.path, error)
    return await _told(request, 507, "The store refuses this", refusal_of(error))


async def _no_page(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    recognised(request)
    if error.status_code == 404:
        return await _told(request, 404, "There is no such page", "Follow one of the links beside.")
    return await _told(request, error.status_code, "This does not work so", str(error.detail))


async def _our_fault(request: Request, error: Exception) -> Response:
    if isinstance(error, ClientDisconnect):
        raise error
    log.error("%s %s", request.method, request.url.path, exc_info=error)
    return await _told(request, 500, "Something went wrong here", "It is in the log of the API. Try once more.")


_TITLES: Mapping[int, str] = {403: "Not allowed", 429: "Too many requests", 413: "Too large"}


async def _told(request: Request, status: int, title: str, text: str) -> Response:
    return await page(request, "wrong.html", status=status, title=title, text=text)


HANDLERS: Mapping[Any, Any] = {
    NotLoggedIn: _not_logged_in,
    Problem: _problem,
    ConfigError: _mistake,
    StoreMisuse: _refused,
    StoreError: _away,
    HTTPException: _no_page,
    Exception: _our_fault,
}
"""What was raised -> who makes a page of it. The last one is the top of a request."""
