"""Routes of the reputation query protocol, and the answers' header fields.

An answer holds for as long as it says, in HTTP as in its reputons (RFC 7072 section 3.4). Times are the store's.
"""

import asyncio
import socket
from collections.abc import Callable, Coroutine
from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Security
from fastapi.routing import APIRoute
from starlette.responses import Response

from api.problems import Problem, ProblemType
from api.repute.access import let_in
from api.repute.asking import APPLICATION, MAX_ASSERTION, MAX_SUBJECT, Identity, Question, question_of
from api.repute.reputons import EXAMPLE, MEDIA_TYPE, SCHEMA, Statement, document_of, encoded
from api.repute.template import template_of
from api.rest.documenting import answers_of
from api.rest.resource import Handler, Resource
from api.rest.routing import BEARER, GuardedRoute
from api.surroundings import surroundings_of
from reputation.access import Scope
from reputation.engine import Engine
from reputation.explanation import Grounds, grounds_of
from reputation.keys import Entity
from reputation.ratings import NOT_HEARD, Assertion, Rating, rating_of, valid_seconds
from reputation.score import NO_EVIDENCE

TEMPLATE_SECONDS = 86_400
"""How long a template holds; as long as a client takes it to where nothing is said (RFC 7072 section 3.2)."""
WELL_KNOWN = "/.well-known/repute-template"
SUBJECT = "/repute/{application}/{subject}"

Application = Annotated[str, Path(min_length=1, max_length=64, description="The application.", examples=[APPLICATION])]
Subject = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_SUBJECT,
        description="An address of a client, a domain, or a mail address; percent-encoded.",
        examples=["192.0.2.7"],
    ),
]
Wanted = Annotated[
    str,
    Path(
        min_length=1,
        max_length=MAX_ASSERTION,
        description=f"One of {', '.join(Assertion)}; of others nothing is known.",
        examples=["spam"],
    ),
]
AsWhom = Annotated[
    str,
    Query(
        description=f"Where in a message the subject stood: {', '.join(Identity)}. RFC 7073 section 3.2.",
        examples=["ipv4"],
    ),
]


class OpenableRoute(GuardedRoute):
    """A route for whoever may read, or for everybody where the settings say so."""

    allowed = frozenset({"GET", "HEAD"})

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind `let_in`."""
        handler = APIRoute.get_route_handler(self)

        async def guarded(request: Request) -> Response:
            request.state.is_public = let_in(request)
            return await handler(request)

        return guarded


async def repute_template(request: Request) -> Response:
    """The template of queries (RFC 6570): what to fill in, and where to ask. RFC 7072 section 3.2."""
    shared = surroundings_of(request)
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip().lower()
    settings = shared.settings.api
    is_secure = settings.tls is not None or settings.plain_from_anywhere or told == "https"
    text = template_of(is_secure=is_secure, host=request.headers.get("host", ""))
    expires = int(shared.engine.now) + TEMPLATE_SECONDS
    # RFC 7072 section 3.2: text/plain, and it should have Expires.
    return Response(text, headers=_holding(expires, TEMPLATE_SECONDS, is_public=False), media_type="text/plain")


async def reputation_of_subject(
    request: Request, application: Application, subject: Subject, identity: AsWhom = ""
) -> Response:
    """What is asserted of a subject: one reputon for each assertion, as each identity that was not ruled out."""
    return await _answered(request, application, subject, "", identity)


async def assertion_about_subject(
    request: Request, application: Application, subject: Subject, assertion: Wanted, identity: AsWhom = ""
) -> Response:
    """How far one assertion is true of a subject. Of whom nothing is known the sample size is 0."""
    return await _answered(request, application, subject, assertion, identity)


async def _answered(request: Request, application: str, subject: str, assertion: str, identity: str) -> Response:
    if application.lower() != APPLICATION:  # RFC 7072 section 3.1
        raise Problem(404, ProblemType.NOT_THERE, f"this service knows the application {APPLICATION} only")
    shared = surroundings_of(request)
    question = question_of(subject, assertion, identity, shared.engine.spelling)
    if request.state.is_public and "@" in question.subject:  # RFC 7070 section 8: a person's is not for everybody
        shared.gate.admitted(request, Scope.READ)
    statements = await statements_about(question, shared.engine)
    seconds = valid_seconds(each.rating for each in statements)
    generated = int(shared.engine.now)
    rater = shared.settings.api.rater or socket.gethostname()
    document = document_of(
        statements, rater=rater, rated=question.subject, generated=generated, expires=generated + seconds
    )
    headers = _holding(generated + seconds, seconds, is_public=request.state.is_public)
    return Response(encoded(document), headers=headers, media_type=MEDIA_TYPE)


async def statements_about(question: Question, engine: Engine) -> list[Statement]:
    """What is to be said, each assertion as each identity. Raises `StoreError`."""
    grounds = await asyncio.gather(*(_grounds(each.entity, engine) for each in question.asked))
    return [
        Statement(assertion=assertion, asked=asked, rating=_rating(assertion, found))
        for assertion in question.assertions
        for asked, found in zip(question.asked, grounds, strict=True)
    ]


async def _grounds(entity: Entity | None, engine: Engine) -> Grounds | None:
    return None if entity is None else await grounds_of(entity, engine.store, engine.lookups)


def _rating(assertion: str, grounds: Grounds | None) -> Rating:
    if grounds is None or assertion not in set(Assertion):
        return NOT_HEARD
    return rating_of(Assertion(assertion), grounds.levels, grounds.site or NO_EVIDENCE)


def _holding(expires: int, seconds: int, *, is_public: bool) -> dict[str, str]:
    """Until when an answer may be kept, by whom; both fields say the same, whatever the reader's clock."""
    whose = "public" if is_public else "private"
    return {"cache-control": f"{whose}, max-age={seconds}", "expires": formatdate(expires, usegmt=True)}


ABOUT = "reputation query protocol"
RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path=WELL_KNOWN,
        handler=repute_template,
        scope=Scope.READ,
        summary="How to ask for a reputation",
        example=template_of(is_secure=False, host="rep.example.net:8025"),
        tag=ABOUT,
        media_type="text/plain",
    ),
    Resource(
        method="GET",
        path=SUBJECT,
        handler=reputation_of_subject,
        scope=Scope.READ,
        summary="A subject's reputation",
        example=EXAMPLE,
        errors=(404,),
        tag=ABOUT,
        media_type=MEDIA_TYPE,
    ),
    Resource(
        method="GET",
        path=f"{SUBJECT}/{{assertion}}",
        handler=assertion_about_subject,
        scope=Scope.READ,
        summary="One assertion about a subject",
        example=EXAMPLE,
        errors=(404,),
        tag=ABOUT,
        media_type=MEDIA_TYPE,
    ),
)
GUARDED = (Security(BEARER, scopes=[Scope.READ]),)
router = APIRouter(route_class=OpenableRoute, redirect_slashes=False, dependencies=GUARDED)


def _add(resource: Resource) -> None:
    """A resource with its description, and HEAD, which is not described."""
    responses = answers_of(resource)
    if resource.media_type == MEDIA_TYPE:
        responses[resource.status]["content"][MEDIA_TYPE]["schema"] = dict(SCHEMA)
    router.add_api_route(
        resource.path,
        resource.handler,
        operation_id=resource.operation_id,
        summary=resource.summary,
        description=f"{resource.handler.__doc__}\n\nScope: `read`, or no token with `reputation_for_everybody`.",
        tags=[resource.tag],
        response_description=resource.summary,
        response_class=Response,
        response_model=None,
        responses=responses,
    )
    _add_undescribed(resource.path, resource.handler, "HEAD")


def _add_undescribed(path: str, handler: Handler, *methods: str) -> None:
    router.add_api_route(path, handler, methods=list(methods), include_in_schema=False, response_model=None)


for _resource in RESOURCES:
    _add(_resource)
# RFC 7072 section 3.3: in place of an assertion that is not given the template has nothing.
_add_undescribed(f"{SUBJECT}/", reputation_of_subject, "GET", "HEAD")
