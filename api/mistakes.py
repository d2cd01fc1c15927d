"""What was raised while a request was met, as a problem that its client gets (`api.problems`).

=========================  ======  ==========================================================================
ConfigError, EntityError   400     with ``errors``: one entry a line, ``{"where": ..., "what": ...}``
NothingThere               404
validation (FastAPI's)     400     with ``errors``; not 422: a mistake is a mistake, whoever has found it
StoreMisuse                507     the store refuses: a full register says so, of anything else the log has the rest
StoreError                 503     with ``Retry-After``; the client is told no more, the log has the rest
routing                    404, 405, with ``Allow``
anything else              500     without detail; logged once, with its traceback (`api.door`)
=========================  ======  ==========================================================================
"""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from api.problems import Problem, ProblemType
from reputation.errors import ConfigError, NothingThere, StoreError, StoreMisuse

STORE_RETRY_SECONDS = 2
MAX_ERRORS = 100
MAX_ERROR_LENGTH = 500

_FIELD = re.compile(r"([a-z][a-z0-9_.\[\]]{0,60}): (.+)", re.DOTALL)
_KINDS: Mapping[int, tuple[ProblemType, str]] = {
    404: (ProblemType.NOT_THERE, "there is nothing at this path"),
    405: (ProblemType.WRONG_METHOD, "this path has other methods: see Allow"),
    406: (ProblemType.WRONG_MEDIA_TYPE, "there is nothing of the kind that Accept names"),
    413: (ProblemType.TOO_LARGE, "the body is too large"),
    415: (ProblemType.WRONG_MEDIA_TYPE, "a body of this media type is not understood"),
}
_FULL = "the register has "
"""How the store's words begin that are for whoever asks; others have addresses and names of keys in them."""
_SAYS_NOTHING = frozenset({"Not Found", "Method Not Allowed", "Not Acceptable", "Unsupported Media Type"})
"""What Starlette says where nobody has said more."""

log = logging.getLogger("reputon.api")


EXPECTED = (Problem, ConfigError, NothingThere, StoreError, RequestValidationError, HTTPException)


def install(app: FastAPI) -> None:
    """Have the application answer with problems."""
    for kind in EXPECTED:
        app.add_exception_handler(kind, answer)


async def answer(request: Request, error: Exception) -> Response:
    """What its client is told about an error."""
    if isinstance(error, StoreMisuse):
        log.warning("%s %s: the store refuses: %s", request.method, request.url.path, error)
    return problem_of(error).response()


def problem_of(error: Exception) -> Problem:
    """What a client is told about an error."""
    match error:
        case Problem():
            return error
        case NothingThere():
            return Problem(404, ProblemType.NOT_THERE, str(error))
        case ConfigError():
            return bad_request(*(_split(line) for line in str(error).splitlines()))
        case StoreMisuse():
            return Problem(507, ProblemType.STORE_REFUSES, refusal_of(error))
        case StoreError():
            detail = "the counter store does not answer: try again"
            headers = {"retry-after": str(STORE_RETRY_SECONDS)}
            return Problem(503, ProblemType.STORE_AWAY, detail, headers=headers)
        case RequestValidationError():
            return bad_request(*(_read(each) for each in error.errors()))
        case HTTPException():
            kind, said = _KINDS.get(error.status_code, (ProblemType.BAD_REQUEST, ""))
            detail = str(error.detail)
            told = said if said and detail in _SAYS_NOTHING else detail
            return Problem(error.status_code, kind, told, headers=error.headers)
        case _:
            return Problem(500, ProblemType.OUR_FAULT, "something went wrong here, and is in the log")


def refusal_of(error: StoreMisuse) -> str:
    """Why the store refuses, as far as it is for whoever asks."""
    return str(error) if str(error).startswith(_FULL) else "the counter store refuses this: the log says why"


def bad_request(*errors: tuple[str, str]) -> Problem:
    """400 for mistakes, each with its place in the request (or nothing) and what is wrong there."""
    told = [(where, what[:MAX_ERROR_LENGTH]) for where, what in errors[:MAX_ERRORS]]
    detail = "; ".join(f"{where}: {what}" if where else what for where, what in told[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""
    listed = [{"where": where, "what": what} for where, what in told]
    return Problem(400, ProblemType.BAD_REQUEST, detail + more, errors=listed)


def _split(line: str) -> tuple[str, str]:
    """A mistake's place and the rest.

    >>> _split("n: from 1 to 1000"), _split('"x" is none of these: a, b')
    (('n', 'from 1 to 1000'), ('', '"x" is none of these: a, b'))
    """
    match = _FIELD.fullmatch(line)
    return (match[1], match[2]) if match else ("", line)


def _read(error: Mapping[str, Any]) -> tuple[str, str]:
    """A mistake that FastAPI has found; what was sent is not told back."""
    place: Sequence[object] = error.get("loc", ())
    said = str(error.get("msg", "it cannot be right"))
    if error.get("type") == "json_invalid":
        return "body", f"no JSON: {error.get('ctx', {}).get('error', said)}"
    return ".".join(map(str, place)), said
