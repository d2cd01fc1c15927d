"""One entity: all that is known of it, how it stands, its counters over time; and forgetting it."""

from fastapi import Request, Response

from api.answers import answered
from api.rest import examples
from api.rest.parameters import DimensionInPath, Reason, ValueInPath
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope

PATH = "/v1/entities/{dimension}/{value:value}"
BELOW = "/v1/entities/{dimension}/{value:path}"


async def get_series(request: Request, dimension: DimensionInPath, value: ValueInPath) -> Response:
    """All counters of an entity over time, in buckets, oldest first."""
    return answered(await desk_of(request).series(f"{dimension}:{value}"))


async def explain(request: Request, dimension: DimensionInPath, value: ValueInPath) -> Response:
    """How an entity stands: what its next event would get, and why."""
    return answered(await desk_of(request).explain(f"{dimension}:{value}"))


async def get_entity(request: Request, dimension: DimensionInPath, value: ValueInPath) -> Response:
    """All that is known of an entity, with its latest verdicts. Of whom nothing is known the page is empty."""
    return answered(await desk_of(request).page(f"{dimension}:{value}"))


async def forget(request: Request, dimension: DimensionInPath, value: ValueInPath, reason: Reason) -> Response:
    """Erase all that is counted and remembered of an entity. The audit says that somebody was forgotten, not who."""
    return answered(await desk_of(request).forget(f"{dimension}:{value}", reason=reason))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path=f"{BELOW}/series",
        handler=get_series,
        scope=Scope.READ,
        summary="Its counters over time",
        example=examples.SERIES,
        tag="entities",
    ),
    Resource(
        method="GET",
        path=f"{BELOW}/explain",
        handler=explain,
        scope=Scope.READ,
        summary="How it stands",
        example=examples.EXPLAINED,
        tag="entities",
    ),
    Resource(
        method="GET",
        path=PATH,
        handler=get_entity,
        scope=Scope.READ,
        summary="All that is known of it",
        example=examples.PAGE,
        tag="entities",
    ),
    Resource(
        method="DELETE",
        path=PATH,
        handler=forget,
        scope=Scope.ADMIN,
        summary="Forget it",
        example=examples.FORGOTTEN,
        tag="entities",
    ),
)
