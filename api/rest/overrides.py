"""Overrides: while one lasts, the limits of a rule are others for somebody."""

from typing import Annotated

from fastapi import Body, Request, Response

from api.answers import answered
from api.rest import entries, examples
from api.rest.parameters import After, EntriesN, Matching, NewOverride, OverriddenInPath, Reason, RuleInPath
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope

NEW = Annotated[
    NewOverride,
    Body(
        openapi_examples={
            "a newsletter, for a day": {
                "value": {
                    "target": "sender:newsletter@example.org",
                    "rule": "sender-rate",
                    "limits": ["5000/1h"],
                    "reason": "monthly newsletter",
                    "expires_in_seconds": 86_400,
                }
            }
        }
    ),
]


async def get_overrides(request: Request, matching: Matching = "", after: After = "", n: EntriesN = 100) -> Response:
    """Overrides in force, in the order of their ids. `next` and the `Link` header name the next page."""
    return await entries.page(request, "override", matching, after, n)


async def override(request: Request, new: NEW) -> Response:
    """Give somebody other limits of a rule, in place of others that he may have; in force within a second."""
    return await entries.put(request, new.entry())


async def get_override(request: Request, rule: RuleInPath, target: OverriddenInPath) -> Response:
    """One override, by its rule and target."""
    return answered(await desk_of(request).entry(f"override|{rule}|{target}"))


async def lift_override(request: Request, rule: RuleInPath, target: OverriddenInPath, reason: Reason) -> Response:
    """Lift an override; what was lifted."""
    return answered(await desk_of(request).lift(f"override|{rule}|{target}", reason=reason))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/overrides",
        handler=get_overrides,
        scope=Scope.READ,
        summary="Overrides in force",
        example=examples.OVERRIDES,
        is_conditional=True,
        is_paged=True,
        tag="overrides",
    ),
    Resource(
        method="POST",
        path="/v1/overrides",
        handler=override,
        scope=Scope.WRITE,
        summary="Give somebody other limits",
        example=examples.OVERRIDE,
        status=201,
        has_location=True,
        errors=(413,),
        tag="overrides",
    ),
    Resource(
        method="GET",
        path="/v1/overrides/{rule}/{target:path}",
        handler=get_override,
        scope=Scope.READ,
        summary="One override",
        example=examples.OVERRIDE,
        errors=(404,),
        tag="overrides",
    ),
    Resource(
        method="DELETE",
        path="/v1/overrides/{rule}/{target:path}",
        handler=lift_override,
        scope=Scope.WRITE,
        summary="Lift an override",
        example=examples.OVERRIDE,
        errors=(404,),
        tag="overrides",
    ),
)
