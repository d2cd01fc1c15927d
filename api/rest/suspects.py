"""Who is held by a rule, why, and letting go of him."""

from typing import Annotated

from fastapi import Body, Request, Response

from api.answers import answered
from api.rest import examples
from api.rest.entries import next_page
from api.rest.parameters import AfterSuspect, DimensionInPath, SuspectsN, ToRelease, ValueInPath
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope

RELEASE = Annotated[
    ToRelease,
    Body(openapi_examples={"an account": {"value": {"target": "user:alice", "reason": "password changed"}}}),
]


async def get_suspects(request: Request, after: AfterSuspect = "", n: SuspectsN = 100) -> Response:
    """Who is held by a rule, the latest first. `next` and the `Link` header name the next page."""
    found = await desk_of(request).suspects(after=after, n=n)
    return answered(found, headers=next_page({"after": found.next, "n": str(n)}))


async def get_case_file(request: Request, dimension: DimensionInPath, value: ValueInPath) -> Response:
    """Why somebody is suspected, all that is known of him, and what to do. Of who is not held, too."""
    return answered(await desk_of(request).case_file(f"{dimension}:{value}"))


async def release(request: Request, whom: RELEASE) -> Response:
    """Let go of somebody whom a rule holds, or an operator has banned, with a fresh allowance."""
    return answered(await desk_of(request).release(whom.target, reason=whom.reason))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/suspects",
        handler=get_suspects,
        scope=Scope.READ,
        summary="Who is held",
        example=examples.SUSPECTS,
        is_paged=True,
        tag="suspects",
    ),
    Resource(
        method="GET",
        path="/v1/suspects/{dimension}/{value:path}",
        handler=get_case_file,
        scope=Scope.READ,
        summary="A case file",
        example=examples.CASE_FILE,
        tag="suspects",
    ),
    Resource(
        method="POST",
        path="/v1/release",
        handler=release,
        scope=Scope.WRITE,
        summary="Let go of somebody",
        example=examples.RELEASED,
        errors=(404, 413),
        tag="suspects",
    ),
)
