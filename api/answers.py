"""Documents as they are answered: JSON in UTF-8 whatever is in them, with an entity tag where that saves something.

Text that a stranger sent may have octets in it that are no UTF-8. They are kept as lone surrogates, which no JSON
reader has to take (RFC 8259 section 8.2), and are answered as U+FFFD.

Nothing is kept by anybody on the way: what was true a moment ago may be the ban that was lifted. What has an entity tag
may be kept by who asked, and is asked for again each time; it costs the answer's making, and saves its sending.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.responses import Response

MEDIA_TYPE = "application/json"
NOT_KEPT = "no-store"
ASKED_AGAIN = "private, no-cache"
TAG_DIGITS = 32


def answered(document: object, status: int = 200, *, headers: Mapping[str, str] | None = None) -> Response:
    """A document, or a tuple or list of documents, as an answer that nobody keeps."""
    return Response(encoded(document), status, {"cache-control": NOT_KEPT, **(headers or {})}, MEDIA_TYPE)


def revalidated(request: Request, document: object, *, headers: Mapping[str, str] | None = None) -> Response:
    """A document with its entity tag; 304 where the client has it already."""
    octets = encoded(document)
    tag = f'"{hashlib.sha256(octets).hexdigest()[:TAG_DIGITS]}"'
    told = {"cache-control": ASKED_AGAIN, "etag": tag, **(headers or {})}
    if _has(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers=told)  # RFC 9110 section 15.4.5: with the same fields
    return Response(octets, 200, told, MEDIA_TYPE)


def _has(condition: str, tag: str) -> bool:
    """Whether one of the tags is this one, by the weak comparison. RFC 9110 section 13.1.2."""
    return condition.strip() == "*" or tag in {each.strip().removeprefix("W/") for each in condition.split(",")}


def encoded(document: object) -> bytes:
    """A document as JSON.

    >>> from reputation.desk.documents import TopRow
    >>> encoded(TopRow(entity="helo:caf\\udce9", count=1)).decode()
    '{"entity": "helo:caf�", "count": 1, "banned": false}'
    """
    kind: Any = type(document)
    writer = _writer(kind)
    try:
        return writer.dump_json(document)
    except ValueError:  # a surrogate
        text = json.dumps(writer.dump_python(document, mode="json"), ensure_ascii=False)
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


@lru_cache
def _writer(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
