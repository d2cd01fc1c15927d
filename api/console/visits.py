"""Who visits a page, and what every visit meets before: a log-in, its scope, its limit, and forms that are ours.

    shown(handler)                a page: a log-in with the scope read
    done(handler, Scope.WRITE)    a form that does something: that scope, and that it comes from a form of this log-in

A form is ours when it carries the token of its log-in (`api.console.sessions`), and when the browser says that it comes
from our own pages (`Sec-Fetch-Site`, or else `Origin`). From elsewhere the cookie is not sent (SameSite=Strict).
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import Response

from api.console import asking
from api.console.asking import Asked
from api.console.sessions import Session, session_of
from api.problems import Problem, ProblemType
from api.surroundings import Surroundings, surroundings_of
from reputation.access import Scope
from reputation.desk.contract import Desk

COOKIE = "reputon"
COOKIE_PATH = "/console"
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "reputon-theme"
SAME = "same-origin"
FORM_FIELD = "form_token"


class NotLoggedIn(Exception):
    """Nobody is logged in, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One request of somebody who is logged in."""

    request: Request
    surroundings: Surroundings
    session: Session
    asked: Asked
    """The query of a page, or the fields of a form that was sent."""
    desk: Desk = field(init=False)
    """Signed by the token's name."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "desk", self.surroundings.desk_of(self.session.token.name))

    @property
    def is_sent(self) -> bool:
        """Whether it is a form that was sent."""
        return self.request.method == "POST"

    @property
    def now(self) -> float:
        """The store's time, in seconds since the epoch."""
        return self.surroundings.engine.now

    @property
    def place(self) -> str:
        """This page, as it was asked for."""
        query = self.request.scope["query_string"].decode("ascii", "replace")
        return f"{self.request.url.path}?{query}" if query else self.request.url.path

    def may(self, scope: str) -> bool:
        """Whether the token allows it."""
        return self.session.token.allows(Scope(scope))


Handler = Callable[[Visit], Awaitable[Response]]
Endpoint = Callable[[Request], Awaitable[Response]]


def shown(handler: Handler, scope: Scope = Scope.READ) -> Endpoint:
    """A page for whoever is logged in and may see it."""

    async def endpoint(request: Request) -> Response:
        session = admitted(request, scope)
        return await handler(_visit(request, session, asking.of_query(request)))

    return endpoint


def done(handler: Handler, scope: Scope) -> Endpoint:
    """What a form does, for whoever may, if it is a form of ours."""

    async def endpoint(request: Request) -> Response:
        session = admitted(request, scope)
        check_origin(request)
        asked = await asking.of_form(request)
        if not session.has_form(asked.text(FORM_FIELD)):
            raise forged()
        return await handler(_visit(request, session, asked))

    return endpoint


def _visit(request: Request, session: Session, asked: Asked) -> Visit:
    visit = Visit(request=request, surroundings=surroundings_of(request), session=session, asked=asked)
    request.state.visit = visit
    return visit


def recognised(request: Request) -> None:
    """Make a visit of a request that came to no page, for the one that says so."""
    session = logged_in(request)
    if session is not None and visit_of(request) is None:
        _visit(request, session, Asked(""))


def visit_of(request: Request) -> Visit | None:
    """The visit of a request, as far as it has come."""
    found: Visit | None = getattr(request.state, "visit", None)
    return found


def admitted(request: Request, scope: Scope) -> Session:
    """The log-in of a request; raises `NotLoggedIn`, and `Problem` 403 for one that may not, 429 for too many."""
    session = logged_in(request)
    if session is None:
        raise NotLoggedIn
    _visit(request, session, Asked(""))  # for a page that says why not
    if not session.token.allows(scope):
        raise Problem(403, ProblemType.WRONG_SCOPE, f"this takes a token with the scope {scope}")
    surroundings_of(request).gate.charge(session.token, Scope.READ)
    return session


def logged_in(request: Request) -> Session | None:
    """The log-in that the cookie of a request is for; None for nobody."""
    engine = surroundings_of(request).engine
    return session_of(request.cookies.get(cookie_name(request), ""), engine.registrar.tokens, engine.now)


# Cookies


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, to us or to a proxy in front of us: `plain_from_anywhere` says that there is one.

    Who sends the header himself gets a cookie that his browser does not send back in the open.
    """
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    settings = surroundings_of(request).settings.api
    return settings.tls is not None or settings.plain_from_anywhere or told == "https"


def cookie_name(request: Request) -> str:
    """Browsers take a cookie of the first name over TLS only (draft-ietf-httpbis-rfc6265bis section 4.1.3)."""
    return f"__Secure-{COOKIE}" if is_secure(request) else COOKIE


def theme_of(request: Request) -> str:
    """Light, dark, or what the machine says."""
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in THEMES else THEMES[0]


# Forgery


def check_origin(request: Request) -> None:
    """Raise `Problem` 403 for what the browser says comes from elsewhere. What says nothing has its form's token."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site is not None:
        is_ours = site == SAME
    elif origin is not None:
        hosts = {request.headers.get("host", ""), request.headers.get("x-forwarded-host", "")}
        is_ours = urlsplit(origin).netloc in hosts - {""}
    else:
        is_ours = True
    if not is_ours:
        raise forged()


def forged() -> Problem:
    """For a form that is none of this log-in's."""
    return Problem(
        403,
        ProblemType.BAD_REQUEST,
        "this form is too old, or not one of this log-in: open the page again and repeat it",
    )
