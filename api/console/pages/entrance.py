"""Logging in, logging out, and light or dark.

Nobody can be logged in by somebody else's page: the form of the log-in carries what its own cookie says, and both are
of the browser that asked for the form. Whether a token is not known, taken back or over is not told.
"""

import hmac
import secrets
from typing import Literal

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.console import asking, notices
from api.console.asking import Asked
from api.console.sessions import NONCE_OCTETS, sealed
from api.console.showing import page
from api.console.visits import (
    COOKIE_PATH,
    FORM_FIELD,
    THEME_COOKIE,
    THEMES,
    Visit,
    check_origin,
    cookie_name,
    forged,
    is_secure,
    logged_in,
)
from api.console.wording import place
from api.problems import Problem
from api.surroundings import surroundings_of
from reputation.access import Scope, parse_token

DOOR = "reputon-door"
DOOR_OCTETS = 32
DOOR_SECONDS = 3_600
YEAR_SECONDS = 365 * 86_400
UNKNOWN = "This token is not in force: not known, taken back, or over. Look whether you have copied all of it."
MAY_NOT_READ = "This token may not read. The console needs one with the scope read, write or admin."


async def login(request: Request) -> Response:
    """The form, and what becomes of it."""
    asked = asking.of_query(request)
    if request.method == "GET":
        if logged_in(request) is not None:
            return RedirectResponse(asked.place("next", place("")), 303)
        return await _form(request, asked.place("next", place("")))
    check_origin(request)
    form = await asking.of_form(request)
    theirs, ours = form.text(FORM_FIELD), request.cookies.get(DOOR, "")
    if not ours or not hmac.compare_digest(theirs.encode("utf-8", "replace"), ours.encode("utf-8", "replace")):
        return await _form(request, form.place("next", place("")), "This form was too old. Try once more.", 403)
    return await _entered(request, form)


async def _entered(request: Request, form: Asked) -> Response:
    around, text, following = surroundings_of(request), form.text("token"), form.place("next", place(""))
    try:
        token = around.gate.token_of(text, request.client.host if request.client else "")
    except Problem as problem:
        return await _form(request, following, f"{problem.detail[:1].upper()}{problem.detail[1:]}.", problem.status)
    parsed = parse_token(text)
    if token is None or parsed is None:
        return await _form(request, following, UNKNOWN, 401)
    if not token.allows(Scope.READ):
        return await _form(request, following, MAY_NOT_READ, 403)
    seconds = around.settings.api.hours_logged_in * 3_600
    nonce = secrets.token_bytes(NONCE_OCTETS)
    answer = RedirectResponse(following, 303)
    _keep(request, answer, sealed(token, parsed[1], expires_at=around.engine.now + seconds, nonce=nonce), int(seconds))
    answer.delete_cookie(DOOR, path=COOKIE_PATH)
    return answer


async def _form(request: Request, following: str, mistake: str = "", status: int = 200) -> Response:
    door = request.cookies.get(DOOR, "")
    if len(door) < DOOR_OCTETS or not door.isascii():
        door = secrets.token_urlsafe(DOOR_OCTETS)
    answer = await page(request, "login.html", status=status, following=following, mistake=mistake, door=door)
    answer.set_cookie(
        DOOR, door, max_age=DOOR_SECONDS, path=COOKIE_PATH, httponly=True, samesite="strict", secure=is_secure(request)
    )
    return answer


async def logout(visit: Visit) -> Response:
    """Have the browser forget."""
    answer = RedirectResponse(place("login", **{notices.FIELD: "out"}), 303)
    _keep(visit.request, answer, "", 0)
    return answer


async def theme(request: Request) -> Response:
    """Light, dark, or what the machine says."""
    check_origin(request)
    form = await asking.of_form(request)
    session = logged_in(request)
    if session is None or not session.has_form(form.text(FORM_FIELD)):
        raise forged()
    answer = RedirectResponse(form.place("back", place("")), 303)
    answer.set_cookie(
        THEME_COOKIE,
        form.one_of("theme", THEMES),
        max_age=YEAR_SECONDS,
        path=COOKIE_PATH,
        samesite="strict",
        secure=is_secure(request),
    )
    return answer


def _keep(request: Request, answer: Response, value: str, seconds: int) -> None:
    strict: Literal["strict"] = "strict"
    answer.set_cookie(
        cookie_name(request),
        value,
        max_age=seconds,
        path=COOKIE_PATH,
        httponly=True,
        samesite=strict,
        secure=is_secure(request),
    )
