"""The site at a glance, who has the most, what was done lately."""

from fastapi import Request, Response

from api.answers import answered, revalidated
from api.rest import examples
from api.rest.parameters import AuditN, TopAt, TopDimension, TopMetric, TopN, TopWindow
from api.rest.resource import Resource
from api.rest.routing import desk_of
from reputation.access import Scope


async def get_overview(request: Request) -> Response:
    """The site at a glance: the store, verdicts by action, the busiest rules. Says so while the store is away."""
    return answered(await desk_of(request).overview())


async def get_top(  # noqa: PLR0917 - FastAPI calls it, by name
    request: Request, dimension: TopDimension, metric: TopMetric, window: TopWindow, n: TopN = 20, at: TopAt = None
) -> Response:
    """Who has the most of a metric in a window, the most first; of now, or of a moment of the last two days."""
    top = await desk_of(request).top(dimension, metric, window, n, at=at)
    return answered(top) if at is None else revalidated(request, top)


async def get_audit(request: Request, n: AuditN = 100) -> Response:
    """What was done lately, the latest first: what was put down and lifted, by whom, and why."""
    return revalidated(request, await desk_of(request).audit(n))


RESOURCES: tuple[Resource, ...] = (
    Resource(
        method="GET",
        path="/v1/overview",
        handler=get_overview,
        scope=Scope.READ,
        summary="The site at a glance",
        example=examples.OVERVIEW,
        tag="looking",
    ),
    Resource(
        method="GET",
        path="/v1/top",
        handler=get_top,
        scope=Scope.READ,
        summary="Who has the most",
        example=examples.TOP,
        is_conditional=True,
        tag="looking",
    ),
    Resource(
        method="GET",
        path="/v1/audit",
        handler=get_audit,
        scope=Scope.READ,
        summary="What was done lately",
        example=examples.AUDIT,
        is_conditional=True,
        tag="looking",
    ),
)
