"""Rules in force, what one in shadow mode would have done, and reading them anew."""

from typing import Annotated

from fastapi import Body, Request, Response

from api.answers import answered, revalidated
from api.rest import examples
from api.rest.parameters import RuleInPath, ToReload
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope

RELOAD = Annotated[
    ToReload, Body(openapi_examples={"new limits": {"value": {"reason": "higher limits for the newsletter"}}})
]


async def get_rules(request: Request) -> Response:
    """All rules in force in the process that answers, in their order, and how often the fleet's have acted."""
    return revalidated(request, await desk_of(request).rules())


async def get_would_do(request: Request, rule: RuleInPath) -> Response:
    """What a rule in shadow mode would have done if it were enforced, by the verdicts that are remembered."""
    return answered(await desk_of(request).would_do(rule))


async def reload_rules(request: Request, why: RELOAD) -> Response:
    """Have every process of the fleet read its rules anew. Refused if the process that answers cannot read them."""
    return answered(await desk_of(request).reload(reason=why.reason))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/rules",
        handler=get_rules,
        scope=Scope.READ,
        summary="Rules in force",
        example=examples.RULES,
        is_conditional=True,
        tag="rules",
    ),
    Resource(
        method="GET",
        path="/v1/rules/{rule}/would-do",
        handler=get_would_do,
        scope=Scope.READ,
        summary="What a rule in shadow mode would have done",
        example=examples.WOULD_DO,
        errors=(404,),
        tag="rules",
    ),
    Resource(
        method="POST",
        path="/v1/rules/reload",
        handler=reload_rules,
        scope=Scope.ADMIN,
        summary="Read the rules anew, on every process",
        example=examples.RELOADED,
        errors=(413,),
        tag="rules",
    ),
)
