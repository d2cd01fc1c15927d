"""How a request finds its resource, and what it meets before: the gate, and a look at its parameters.

A `Resource` says it all in one row; `router_of` makes routes of them, each with its scope.

Paths are taken apart as they were sent, and their parts percent-decoded after (RFC 3986 section 2.4), so that a slash
in a value, sent as ``%2F``, is no other resource's. What is no UTF-8 stays as it was sent: so entities name octets.
A value whose slashes some proxy has decoded is understood as well, unless it would be another resource then.

The gate comes first, before a body is read. A query parameter that a resource does not know is a mistake, and not
passed over: a filter with a slip in its name would show everybody.
"""

import re
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, Security
from fastapi.openapi.models import HTTPBearer
from fastapi.params import Security as SecurityParameter
from fastapi.routing import APIRoute
from fastapi.security.base import SecurityBase
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Send
from starlette.types import Scope as RequestScope

from api.gate import Caller
from api.problems import Problem, ProblemType
from api.rest.documenting import IF_NONE_MATCH, answers_of
from api.rest.resource import JSON, Resource
from api.surroundings import surroundings_of
from reputation.access import Scope
from reputation.desk.contract import Desk

_NO_TEXT = re.compile("[\udc80-\udcff]")


class _Bearer(SecurityBase):
    """How a token is sent, for the API's document. RFC 6750."""

    scheme_name = "token"
    model = HTTPBearer(
        description="A token as `reputon token create` makes it. Each operation names the scope that it takes: `write` "
        "includes `read`, and `admin` includes all."
    )

    def __call__(self) -> None:
        """The route has asked the gate already."""


BEARER = _Bearer()


class _Value(PathConvertor):
    """The rest of a path, unless it ends in the name of a resource below it."""

    regex = "(?!.*/(?:series|explain)$).+"


register_url_convertor("value", _Value())


def router_of(resources: Sequence[Resource]) -> APIRouter:
    """All these resources, each guarded by its scope."""
    router = APIRouter(route_class=GuardedRoute, redirect_slashes=False)
    for each in resources:
        router.add_api_route(
            each.path,
            each.handler,
            methods=[each.method],
            operation_id=each.operation_id,
            summary=each.summary,
            description=f"{each.handler.__doc__ or each.summary}\n\nScope: `{each.scope}`.",
            tags=[each.tag],
            status_code=each.status,
            response_description=each.summary,
            response_class=JSONResponse if each.media_type == JSON else Response,
            response_model=type(each.example) if each.media_type == JSON else None,
            responses=answers_of(each),
            openapi_extra={"parameters": [IF_NONE_MATCH]} if each.is_conditional else None,
            dependencies=[Security(BEARER, scopes=[each.scope])],
        )
    for route in router.routes:
        if isinstance(route, GuardedRoute):
            route.allowed = frozenset(each.method for each in resources if each.path == route.path)
    return router


def caller_of(request: Request) -> Caller:
    """Whom the gate has let in."""
    caller: Caller = request.state.caller
    return caller


def desk_of(request: Request) -> Desk:
    """The desk, signed by whoever asks."""
    return surroundings_of(request).desk_of(caller_of(request).name)


class GuardedRoute(APIRoute):
    """A route that nobody comes to without a token of its scope."""

    allowed: frozenset[str] = frozenset()
    """Methods of its path, those of other routes as well."""

    @property
    def scope(self) -> Scope:
        """What a token must allow."""
        (scope,) = (
            scope
            for dependency in self.dependencies
            if isinstance(dependency, SecurityParameter) and dependency.dependency is BEARER
            for scope in dependency.scopes or ()
        )
        return Scope(scope)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the gate."""
        handler, scope = super().get_route_handler(), self.scope
        known = {parameter.alias for parameter in self.dependant.query_params}

        async def guarded(request: Request) -> Response:
            request.state.caller = surroundings_of(request).gate.admitted(request, scope)
            if unknown := request.query_params.keys() - known:
                raise Problem(400, ProblemType.BAD_REQUEST, _unknown(min(unknown), known))
            return await handler(request)

        return guarded

    def matches(self, scope: RequestScope) -> tuple[Match, RequestScope]:
        """Whether a path is this route's, as it was sent."""
        raw = scope.get("raw_path") or b""
        if b"%" not in raw:
            return super().matches(scope)
        match, child = super().matches({**scope, "path": raw.decode("utf-8", "surrogateescape")})
        if "path_params" in child:
            sent = child["path_params"]
            child["path_params"] = {name: _decoded(text) for name, text in sent.items()}
        return match, child

    async def handle(self, scope: RequestScope, receive: Receive, send: Send) -> None:
        """Answer, or say which methods there are. RFC 9110 section 15.5.6."""
        if scope["method"] not in (self.methods or ()):
            raise HTTPException(405, headers={"allow": ", ".join(sorted(self.allowed))})
        await super().handle(scope, receive, send)


def _decoded(text: str) -> str:
    """A part of a path, decoded.

    >>> _decoded("192.0.2.0%2F24"), _decoded("caf%C3%A9%FF")
    ('192.0.2.0/24', 'café%FF')
    """
    return _NO_TEXT.sub(lambda octet: f"%{ord(octet[0]) - 0xDC00:02X}", unquote(text, errors="surrogateescape"))


def _unknown(name: str, known: Collection[str]) -> str:
    which = f"it knows {', '.join(sorted(known))}" if known else "it knows none"
    return f'"{name:.60}" is no parameter of this resource: {which}'
