"""The application: all routes, behind one door.

    application(surroundings) -> FastAPI

FastAPI's own pages of documentation load their scripts from elsewhere, so they are switched off; the document itself
is at ``/openapi.json``, for who may read. Paths are taken as they are: nobody is redirected to one with another slash,
at a host whose name he has sent himself.
"""

import json

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from api import checks, console, health, mistakes, repute, rest
from api.door import Door
from api.surroundings import Surroundings, surroundings_of
from reputation.access import Scope

router = APIRouter()


def application(surroundings: Surroundings) -> FastAPI:
    """The application that answers with these surroundings."""
    app = FastAPI(title="reputon", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.surroundings = surroundings
    app.state.readiness = health.Readiness(surroundings)
    mistakes.install(app)
    app.add_middleware(checks.Straight, method="POST", path="/v1/check", handler=checks.check)
    app.add_middleware(Door, surroundings=surroundings)
    for each in (checks.router, rest.router, repute.router, health.router, router):
        app.include_router(each)
    if surroundings.settings.api.console:
        console.mounted(app, surroundings)
    return app


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """What there is to ask, as a document (OpenAPI 3.1)."""
    surroundings_of(request).gate.admitted(request, Scope.READ)
    return Response(json.dumps(rest.document_of(request.app)), media_type="application/json")
