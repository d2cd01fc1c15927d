"""Reputons as they are sent: ``application/reputon+json`` (RFC 7071). Pure.

    {"application": "email-id", "reputons": [{"rater": ..., "assertion": ..., "rated": ..., "rating": ..., ...}]}

All that a reputon may have is there, and the identity, an extension of the application "email-id" (RFC 7073), under
both names that the RFC has for it: ``email-id-identity``, as section 3.2 defines it, and ``identity``, as section 4.1
registers it and examples show it. ``evidence-of`` is ours (RFC 7071 section 3.1 leaves room for what a provider adds):
the entity whose evidence it is, which may be a network, or a domain, around what was asked about.

Does not do: ``sources``, which is optional. Sums are kept, and not who has told.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from api.repute.asking import APPLICATION, Asked
from reputation.ratings import Rating

MEDIA_TYPE = "application/reputon+json"
"""RFC 7071 section 3: it takes no parameters. The application is a member of the document."""
DECIMALS = 3
"""RFC 7071 section 6.2.2: a number should not have more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is said of one identity, about one assertion."""

    assertion: str
    asked: Asked
    rating: Rating


def document_of(
    statements: Sequence[Statement], *, rater: str, rated: str, generated: int, expires: int
) -> dict[str, Any]:
    """The reputation object. RFC 7071 section 6.2.2. Times are seconds since the epoch."""
    reputons = [_reputon(each, rater, rated) | {"generated": generated, "expires": expires} for each in statements]
    return {"application": APPLICATION, "reputons": reputons}


def _reputon(statement: Statement, rater: str, rated: str) -> dict[str, Any]:
    rating, asked = statement.rating, statement.asked
    reputon: dict[str, Any] = {
        "rater": rater,
        "assertion": statement.assertion,
        "rated": rated,
        "rating": round(rating.rating, DECIMALS),
        "confidence": round(rating.confidence, DECIMALS),
        "sample-size": rating.sample_size,  # RFC 7071 section 6.1: 0 where there is nothing to tell
        "identity": str(asked.identity),
        "email-id-identity": str(asked.identity),
    }
    if rating.normal is not None:
        reputon["normal-rating"] = round(rating.normal, DECIMALS)
    if asked.entity is not None:
        reputon["evidence-of"] = str(asked.entity)
    return reputon


def encoded(document: Mapping[str, Any]) -> bytes:
    """As it is sent: in ASCII, whatever is in it. RFC 7071 section 7.1: "7bit" is sufficient."""
    return json.dumps(document).encode("ascii")


_SHARE: Mapping[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_TEXT: Mapping[str, Any] = {"type": "string"}
SCHEMA: Mapping[str, Any] = {
    "title": "ReputationObject",
    "description": "RFC 7071 section 6.2.2, with the extensions of RFC 7073.",
    "type": "object",
    "required": ["application", "reputons"],
    "properties": {
        "application": {"const": APPLICATION},
        "reputons": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["rater", "assertion", "rated", "rating"],
                "properties": {
                    **dict.fromkeys(("rater", "assertion", "rated", "identity"), _TEXT),
                    **dict.fromkeys(("email-id-identity", "evidence-of"), _TEXT),
                    **dict.fromkeys(("rating", "confidence", "normal-rating"), _SHARE),
                    **dict.fromkeys(("sample-size", "generated", "expires"), _COUNT),
                },
            },
        },
    },
}
"""The document's form, for the API's own document."""
EXAMPLE: Mapping[str, Any] = {
    "application": APPLICATION,
    "reputons": [
        {
            "rater": "rep.example.net",
            "assertion": "spam",
            "rated": "192.0.2.7",
            "rating": 0.96,
            "confidence": 0.926,
            "sample-size": 25,
            "identity": "ipv4",
            "email-id-identity": "ipv4",
            "normal-rating": 0.959,
            "evidence-of": "ip:192.0.2.7",
            "generated": 1_764_072_000,
            "expires": 1_764_073_159,
        }
    ],
}
