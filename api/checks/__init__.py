"""What mail servers ask and tell: `checking` and `outcomes`.

    router      POST /v1/check, POST /v1/outcomes
    Straight    the way of the first of these past the routes

Both read their bodies themselves, so that a question costs no more than it must: FastAPI only knows them for the
document.
"""

import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import APIRouter, Request, Security
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import Response

from api.answers import encoded
from api.checks.checking import check
from api.checks.events import CheckedEvent
from api.checks.outcomes import NewOutcome, outcomes
from api.checks.straight import Straight
from api.checks.verdicts import CheckedFinding, CheckedVerdict
from api.rest.documenting import problems_of
from api.rest.routing import BEARER
from reputation.access import Scope
from reputation.desk.documents import OutcomeResult, OutcomeResults
from reputation.desk.feedback_reports import MEDIA_TYPES

__all__ = ["Straight", "check", "router"]


class DirectRoute(APIRoute):
    """A route whose handler is given the request as it is."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


router = APIRouter(route_class=DirectRoute, redirect_slashes=False)

JSON = "application/json"
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "maxLength": 200},
    "description": "Names the question, where it is one: asked again, it is counted once.",
}

# Examples

EVENT = {"stage": "rcpt", "client": "192.0.2.7", "sender": "alice@example.com", "recipient": "bob@example.net"}
EVENTS: Mapping[str, Any] = {
    "a recipient": {"value": EVENT | {"helo": "mail.example.com", "key": "4rTqXz-1"}},
    "a user's message": {
        "value": {
            "stage": "data",
            "client": "198.51.100.20",
            "user": "alice",
            "tls": True,
            "sender": "alice@example.com",
            "recipients": ["bob@example.net", "carol@example.net"],
            "message_bytes": 18_204,
            "subject": "Minutes of Tuesday",
        }
    },
    "several": {"value": [EVENT, EVENT | {"recipient": "carol@example.net"}]},
}
VERDICT = CheckedVerdict(
    action="tempfail",
    reason="over-limit",
    rule="sender-rate",
    reply="4.7.1 Sending limit reached, 20 s",
    retry_after_seconds=20.0,
    fired=("sender-rate",),
    findings=(
        CheckedFinding(
            rule="sender-rate",
            entity="sender:alice@example.com",
            metric="messages",
            count=30,
            limit="30/1m",
            retry_after_seconds=20.0,
        ),
    ),
)
OUTCOMES: Mapping[str, Any] = {
    "a user's junk flag": {
        "value": {"kind": "junk", "client": "192.0.2.7", "recipient": "bob@example.net", "key": "bob-1764021600"}
    },
    "a bounce": {"value": [{"kind": "bounce", "user": "alice", "recipient": "nobody@example.net"}]},
}
RESULTS = OutcomeResults(
    results=(OutcomeResult(status="counted", entities=("ip:192.0.2.7", "prefix:192.0.2.0/24"), key="bob-1764021600"),)
)


def _body(model: type[BaseModel], examples: Mapping[str, Any], *media_types: str) -> dict[str, Any]:
    """One of a model, or an array of them; or text of other media types."""
    schema = model.model_json_schema()
    told = {"schema": {"oneOf": [schema, {"type": "array", "items": schema}]}, "examples": examples}
    text = {media_type: {"schema": {"type": "string"}} for media_type in media_types}
    return {"requestBody": {"required": True, "content": {JSON: told, **text}}, "parameters": [_KEY]}


def _add(path: str, endpoint: Callable[..., Any], scope: Scope, summary: str, **documented: Any) -> None:
    example: object = documented.pop("example")
    router.add_api_route(
        path,
        endpoint,
        methods=["POST"],
        operation_id=endpoint.__name__,
        summary=summary,
        description=f"{endpoint.__doc__}\n\nScope: `{scope}`.",
        response_description=summary,
        dependencies=[Security(BEARER, scopes=[scope])],
        responses={
            200: {"content": {JSON: {"example": json.loads(encoded(example))}}},
            **problems_of(*documented.pop("errors")),
        },
        **documented,
    )


_add(
    "/v1/check",
    check,
    Scope.CHECK,
    "Judge an event, or some",
    example=VERDICT,
    errors=(413, 422),
    response_model=CheckedVerdict | list[CheckedVerdict],
    openapi_extra=_body(CheckedEvent, EVENTS),
    tags=["mail servers"],
)
_add(
    "/v1/outcomes",
    outcomes,
    Scope.CHECK,
    "Tell what became of messages",
    example=RESULTS,
    errors=(413, 415),
    response_model=OutcomeResults,
    openapi_extra=_body(NewOutcome, OUTCOMES, *MEDIA_TYPES) | {"security": [{BEARER.scheme_name: [Scope.WRITE]}]},
    tags=["mail servers"],
)
