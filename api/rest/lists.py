"""Lists: who is on `allow` meets no rule, who is on `block` is refused, and rules ask for others."""

from typing import Annotated

from fastapi import Body, Request, Response

from api.answers import answered
from api.rest import entries, examples
from api.rest.parameters import After, EntriesN, ListInPath, Matching, NewListing, Reason, TargetInPath
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope

NEW = Annotated[
    NewListing,
    Body(
        openapi_examples={
            "gateways of ours": {
                "value": {"target": "ip:198.51.100.0/24", "list": "allow", "reason": "our own gateways"}
            }
        }
    ),
]


async def get_lists(request: Request, matching: Matching = "", after: After = "", n: EntriesN = 100) -> Response:
    """Who is on which list, in the order of ids. `next` and the `Link` header name the next page."""
    return await entries.page(request, "list", matching, after, n)


async def list_somebody(request: Request, new: NEW) -> Response:
    """Put somebody on a list; in force on every process within a second."""
    return await entries.put(request, new.entry())


async def get_listing(request: Request, name: ListInPath, target: TargetInPath) -> Response:
    """One place on a list, by the list's name and its target."""
    return answered(await desk_of(request).entry(f"list|{name}|{target}"))


async def unlist(request: Request, name: ListInPath, target: TargetInPath, reason: Reason) -> Response:
    """Take somebody off a list; what was lifted."""
    return answered(await desk_of(request).lift(f"list|{name}|{target}", reason=reason))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/lists",
        handler=get_lists,
        scope=Scope.READ,
        summary="Who is on which list",
        example=examples.LISTINGS,
        is_conditional=True,
        is_paged=True,
        tag="lists",
    ),
    Resource(
        method="POST",
        path="/v1/lists",
        handler=list_somebody,
        scope=Scope.WRITE,
        summary="Put somebody on a list",
        example=examples.LISTING,
        status=201,
        has_location=True,
        errors=(413,),
        tag="lists",
    ),
    Resource(
        method="GET",
        path="/v1/lists/{name}/{target:path}",
        handler=get_listing,
        scope=Scope.READ,
        summary="One place on a list",
        example=examples.LISTING,
        errors=(404,),
        tag="lists",
    ),
    Resource(
        method="DELETE",
        path="/v1/lists/{name}/{target:path}",
        handler=unlist,
        scope=Scope.WRITE,
        summary="Take somebody off a list",
        example=examples.LISTING,
        errors=(404,),
        tag="lists",
    ),
)
