"""Errors as clients get them: ``application/problem+json`` (RFC 9457), each with a stable type.

A user's mistake says what to do. Our own trouble is 503 with ``Retry-After``, or a 500 without detail, which is logged.
What was raised becomes a problem in `api.mistakes`.
"""

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class ProblemType(StrEnum):
    """The kinds of problems: the ``type`` is ``/problems/KIND``."""

    BAD_REQUEST = "bad-request"
    BAD_TOKEN = "bad-token"  # noqa: S105 - a kind of problem
    WRONG_SCOPE = "wrong-scope"
    NOT_THERE = "not-there"
    WRONG_METHOD = "wrong-method"
    WRONG_MEDIA_TYPE = "wrong-media-type"
    TOO_LARGE = "too-large"
    KEY_REUSED = "idempotency-key-reused"
    TOO_MANY = "too-many-requests"
    STORE_AWAY = "store-away"
    STORE_REFUSES = "store-refuses"
    ENDING = "ending"
    OUR_FAULT = "our-fault"


class Problem(Exception):
    """Raised wherever a request cannot be met."""

    def __init__(
        self, status: int, kind: ProblemType, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more
        """Further members of the body, such as ``errors``."""

    def response(self) -> Response:
        """As it is sent. In ASCII, because its text may hold whatever a client sent."""
        body = {
            "type": f"/problems/{self.kind}",
            "title": self.kind.replace("-", " "),
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        return Response(json.dumps(body), self.status, headers=self.headers, media_type=MEDIA_TYPE)
