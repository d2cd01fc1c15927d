"""Whether the process lives, whether it can do its work, and the numbers that it keeps about itself.

``/healthz`` says 200 as long as the event loop turns, whatever the store does: a supervisor that restarts us for
another's trouble makes it worse. ``/readyz`` says 200 when the store answers within `READY_SECONDS` and the register
can be read there, and 503 otherwise: a load balancer asks it. Both need no token; the store is asked at most once in
`FRESH_SECONDS`, however many ask us.

Bugs: ``/metrics`` has the numbers of this process only. What the front ends count is in them, and they serve no HTTP.
"""

import asyncio
import time
from dataclasses import dataclass

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from api.answers import answered
from api.mistakes import problem_of
from api.problems import Problem, ProblemType
from api.surroundings import Surroundings, surroundings_of
from reputation.access import Scope
from reputation.errors import StoreError, StoreMisuse

READY_SECONDS = 1.0
FRESH_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the process is."""

    status: str
    """alive, or ready."""


class Readiness:
    """What the store said when it was last asked, for all who ask at the same time."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._engine = surroundings.engine
        self._asking = asyncio.Lock()
        self._asked_at = -FRESH_SECONDS
        self._told: Health | Problem = Health(status="alive")

    async def told(self) -> Health:
        """How it is now; raises `Problem` 503."""
        async with self._asking:
            if time.monotonic() - self._asked_at >= FRESH_SECONDS:
                self._told = await self._ask()
                self._asked_at = time.monotonic()
        if isinstance(self._told, Problem):
            raise self._told
        return self._told

    async def _ask(self) -> Health | Problem:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self._engine.store.ping()
                await self._engine.registrar.refresh()
        except StoreMisuse:  # an operator's to mend: no balancer should send anybody here meanwhile
            return _not_ready("the counter store refuses us: the log says why")
        except StoreError as error:
            return problem_of(error)
        except TimeoutError:
            return _not_ready(f"the counter store does not answer within {READY_SECONDS:g} s")
        return Health(status="ready")


def _not_ready(detail: str) -> Problem:
    return Problem(503, ProblemType.STORE_AWAY, detail, headers={"retry-after": "1"})


router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="healthz", response_model=Health, summary="Whether the process lives")
async def healthz() -> Response:
    """Takes no token, and asks nobody."""
    return answered(Health(status="alive"))


@router.get("/readyz", operation_id="readyz", response_model=Health, summary="Whether it can do its work")
async def readyz(request: Request) -> Response:
    """Takes no token. 503 while the store does not answer."""
    readiness: Readiness = request.app.state.readiness
    return answered(await readiness.told())


@router.head("/healthz", include_in_schema=False)
async def healthz_head() -> Response:
    """The same without a body, for balancers that ask so."""
    return await healthz()


@router.head("/readyz", include_in_schema=False)
async def readyz_head(request: Request) -> Response:
    """The same."""
    return await readyz(request)


@router.get("/metrics", operation_id="metrics", include_in_schema=False)
async def metrics(request: Request) -> Response:
    """All numbers of this process, as text of Prometheus or OpenMetrics, whichever is asked for."""
    shared = surroundings_of(request)
    shared.gate.admitted(request, Scope.READ)
    octets, media_type = shared.engine.metrics.rendered(request.headers.get("accept", ""))
    return Response(octets, media_type=media_type)


@router.get("/", include_in_schema=False)
async def start(request: Request) -> Response:
    """Where people come who have typed no more than the address."""
    if not surroundings_of(request).settings.api.console:
        raise Problem(404, ProblemType.NOT_THERE, "there is no console here: ask /v1/...")
    return RedirectResponse("/console/", 307)
