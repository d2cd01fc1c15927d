"""What the API's document says of answers: documents with an example each, problems, and entity tags.

`document_of` is the whole document (OpenAPI 3.1), of all routes of the application. Mistakes are problems (RFC 9457)
there, and never what FastAPI would say by itself.
"""

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.answers import encoded
from api.problems import MEDIA_TYPE, ProblemType
from api.rest.resource import JSON, Resource

TITLE = "reputon"
DESCRIPTION = """Reputation and rate limits for mail: who has the most, how somebody stands, and what is done about him.

Whoever asks sends a token: `Authorization: Bearer rpt_...`. Each operation names the scope that it takes.

An entity is `DIMENSION:VALUE`. In a path both stand apart, and percent-encoded: a prefix is
`/v1/entities/prefix/192.0.2.0%2F24`. Times are seconds since the epoch, by the store's clock. Text in answers may hold
whatever a stranger sent: who shows it escapes it.

Errors are `application/problem+json` (RFC 9457). A newer release may add members to any document."""

PROBLEM: Mapping[str, Any] = {
    "title": "Problem",
    "description": "Why a request was not met. RFC 9457.",
    "type": "object",
    "properties": {
        "type": {"type": "string", "description": "The kind of problem; stable."},
        "title": {"type": "string"},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What is wrong, and what to do instead."},
        "errors": {
            "type": "array",
            "description": "What is wrong in which part of the request.",
            "items": {
                "type": "object",
                "properties": {"where": {"type": "string"}, "what": {"type": "string"}},
                "required": ["where", "what"],
            },
        },
    },
    "required": ["type", "title", "status", "detail"],
}

_PROBLEMS: Mapping[int, tuple[str, ProblemType, str]] = {
    400: ("It cannot be right.", ProblemType.BAD_REQUEST, 'window: "2h" is none of 5m, 1h, 1d'),
    401: ("No token, or none that is in force.", ProblemType.BAD_TOKEN, "a token is needed: Authorization: Bearer"),
    403: ("The token has not this scope.", ProblemType.WRONG_SCOPE, "this takes a token with the scope write"),
    404: ("There is none.", ProblemType.NOT_THERE, 'there is no entry "ban|ip:192.0.2.7", or it has ended'),
    413: ("More than may be sent at once.", ProblemType.TOO_LARGE, "the body is larger than 2097152 octets"),
    415: ("A body of this media type is not understood.", ProblemType.WRONG_MEDIA_TYPE, "send application/json"),
    422: (
        "The key was another event's.",
        ProblemType.KEY_REUSED,
        'the key "4rTqXz" was another event\'s: take one key for each event',
    ),
    429: ("Too many requests of this token, or too many live streams.", ProblemType.TOO_MANY, "ask again in a second"),
    507: ("The store is full.", ProblemType.STORE_REFUSES, "the register has 100000 entries already: lift some"),
    503: ("The store does not answer.", ProblemType.STORE_AWAY, "the counter store does not answer: try again"),
}
ALWAYS = (400, 401, 403, 429, 503, 507)
"""What any resource may answer."""
RETRYING = frozenset({429, 503})

IF_NONE_MATCH: Mapping[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The `ETag` of the answer that the client has.",
    "schema": {"type": "string"},
    "example": '"1c9a1ff30e0f8d8b1c0a3c9f4f7d1e22"',
}
_ETAG = {"ETag": {"description": "Names this answer, for `If-None-Match`.", "schema": {"type": "string"}}}
_LINK = {"Link": {"description": 'The next page, rel="next"; not on the last.', "schema": {"type": "string"}}}
_LOCATION = {"Location": {"description": "Where it is found.", "schema": {"type": "string"}}}
_RETRY = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}


def answers_of(resource: Resource) -> dict[int | str, dict[str, Any]]:
    """All answers of a resource."""
    example = resource.example
    content: dict[str, Any] = {"example": example if isinstance(example, str) else json.loads(encoded(example))}
    if resource.media_type != JSON:
        content["schema"] = {"type": "string"}
    headers = {
        **(_ETAG if resource.is_conditional else {}),
        **(_LINK if resource.is_paged else {}),
        **(_LOCATION if resource.has_location else {}),
    }
    found: dict[int | str, dict[str, Any]] = {
        resource.status: {"content": {resource.media_type: content}} | ({"headers": headers} if headers else {})
    }
    if resource.is_conditional:
        found[304] = {"description": "The client has this answer already.", "headers": _ETAG}
    return found | problems_of(*resource.errors)


def problems_of(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The problems that a resource answers with, besides those that every one does."""
    return {each: _problem(each) for each in sorted({*ALWAYS, *statuses})}


def _problem(status: int) -> dict[str, Any]:
    description, kind, detail = _PROBLEMS[status]
    example = {"type": f"/problems/{kind}", "title": kind.replace("-", " "), "status": status, "detail": detail}
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}}
    return {"description": description, "content": content} | ({"headers": _RETRY} if status in RETRYING else {})


def document_of(app: FastAPI) -> dict[str, Any]:
    """The API's document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(title=TITLE, version=version("reputon"), description=DESCRIPTION, routes=app.routes)
        schemas = document.setdefault("components", {}).setdefault("schemas", {})
        schemas["Problem"] = dict(PROBLEM)
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path in document["paths"].values():
            for operation in path.values():
                if JSON in operation["responses"].get("422", {}).get("content", ()):
                    del operation["responses"]["422"]  # FastAPI's own: a mistake of a client is 400 here
        app.openapi_schema = document
    return app.openapi_schema
