"""Bans: everything of a target is refused, until the ban ends or is lifted."""

from typing import Annotated

from fastapi import Body, Request, Response

from api.answers import answered
from api.rest import entries, examples
from api.rest.parameters import After, EntriesN, Matching, NewBan, Reason, TargetInPath
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope

NEW = Annotated[
    NewBan,
    Body(
        openapi_examples={
            "an address, for an hour": {
                "value": {"target": "ip:192.0.2.7", "reason": "spam run", "expires_in_seconds": 3_600}
            },
            "a sender, for ever, with 4xx": {
                "value": {"target": "sender:eve@example.org", "reason": "phishing", "action": "tempfail"}
            },
        }
    ),
]


async def get_bans(request: Request, matching: Matching = "", after: After = "", n: EntriesN = 100) -> Response:
    """Bans in force, in the order of their ids. `next` and the `Link` header name the next page."""
    return await entries.page(request, "ban", matching, after, n)


async def ban(request: Request, new: NEW) -> Response:
    """Ban somebody, in place of a ban that he may have; in force on every process within a second."""
    return await entries.put(request, new.entry())


async def get_ban(request: Request, target: TargetInPath) -> Response:
    """One ban, by its target."""
    return answered(await desk_of(request).entry(f"ban|{target}"))


async def unban(request: Request, target: TargetInPath, reason: Reason) -> Response:
    """Lift a ban; what was lifted."""
    return answered(await desk_of(request).lift(f"ban|{target}", reason=reason))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/bans",
        handler=get_bans,
        scope=Scope.READ,
        summary="Bans in force",
        example=examples.BANS,
        is_conditional=True,
        is_paged=True,
        tag="bans",
    ),
    Resource(
        method="POST",
        path="/v1/bans",
        handler=ban,
        scope=Scope.WRITE,
        summary="Ban somebody",
        example=examples.BAN,
        status=201,
        has_location=True,
        errors=(413,),
        tag="bans",
    ),
    Resource(
        method="GET",
        path="/v1/bans/{target:path}",
        handler=get_ban,
        scope=Scope.READ,
        summary="One ban",
        example=examples.BAN,
        errors=(404,),
        tag="bans",
    ),
    Resource(
        method="DELETE",
        path="/v1/bans/{target:path}",
        handler=unban,
        scope=Scope.WRITE,
        summary="Lift a ban",
        example=examples.BAN,
        errors=(404,),
        tag="bans",
    ),
)
