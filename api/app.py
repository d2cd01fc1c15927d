"""The application: all routes, behind one door.

    application(surroundings) -> FastAPI

FastAPI's own pages of documentation load their scripts from elsewhere, so they are switched off; the document itself
is at ``/openapi.json``, for who may read. Paths are taken as they are: nobody is redirected to one with another slash,
at a host whose name he has sent himself.
"""

import json
from importlib import import_module

from fastapi import APIRouter, FastAPI, Request
from starlette.responses import Response

from api import health, mistakes
from api.door import Door
from api.rest.documenting import document_of
from api.surroundings import Surroundings, surroundings_of
from reputation.access import Scope

PARTS = ("api.checks", "api.rest", "api.repute", "api.console")

router = APIRouter()


def application(surroundings: Surroundings) -> FastAPI:
    """The application that answers with these surroundings."""
    app = FastAPI(title="reputon", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.state.surroundings = surroundings
    app.state.readiness = health.Readiness(surroundings)
    mistakes.install(app)
    app.add_middleware(Door, surroundings=surroundings)
    app.include_router(health.router)
    app.include_router(router)
    for part in PARTS:
        try:
            module = import_module(part)
        except ImportError as error:
            print("TEMPORARY: not included:", part, error, flush=True)
            continue
        if hasattr(module, "router"):
            app.include_router(module.router)
        if hasattr(module, "mounted") and surroundings.settings.api.console:
            module.mounted(app, surroundings)
    return app


@router.get("/openapi.json", include_in_schema=False)
async def openapi(request: Request) -> Response:
    """What there is to ask, as a document (OpenAPI 3.1)."""
    surroundings_of(request).gate.admitted(request, Scope.READ)
    return Response(json.dumps(document_of(request.app)), media_type="application/json")
