"""What RFC 7071 and RFC 6570 say, written down again, to hold what is served against.

`read` takes a document apart by the grammar of RFC 7071 section 6.2.2, and by nothing that serves it.
"""

import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

MEDIA_TYPE = "application/reputon+json"
REQUIRED = frozenset({"rater", "assertion", "rated", "rating"})
STRINGS = frozenset({"rater", "assertion", "rated"})
SHARES = frozenset({"rating", "confidence", "normal-rating"})
COUNTS = frozenset({"sample-size", "generated", "expires"})
IDENTITIES = frozenset({"dkim", "ipv4", "ipv6", "rfc5321.helo", "rfc5321.mailfrom", "rfc5322.from", "spf"})
"""RFC 7073 section 3.2."""

_EXPRESSION = re.compile(r"\{(\??)([a-z,]+)\}")

# The examples of RFC 7071 section 6.3: their members and values.

FIRST_EXAMPLE = """
{"application": "baseball",
 "reputons": [{"rater": "RatingsRUs.example.com", "assertion": "is-good", "rated": "Alex Rodriguez",
               "rating": 0.99, "sample-size": 50000}]}
"""
THIRD_EXAMPLE = """
{"application": "baseball",
 "reputons": [{"rater": "baseball-reference.example.com", "assertion": "strong-hitter", "rated": "Alex Rodriguez",
               "rating": 0.4, "confidence": 0.2, "sample-size": 50000}]}
"""
EMAIL_EXAMPLE = """
{"application": "email-id",
 "reputons": [{"rater": "rep.example.net", "assertion": "spam", "identity": "dkim", "rated": "example.com",
               "confidence": 0.95, "rating": 0.012, "sample-size": 16938213, "updated": 1317795852},
              {"rater": "rep.example.net", "assertion": "spam", "identity": "spf", "rated": "example.com",
               "confidence": 0.98, "rating": 0.023, "sample-size": 16938213, "updated": 1317795852}]}
"""


class NoReputons(ValueError):
    """It is not what RFC 7071 defines."""


def read(text: str | bytes) -> tuple[str, list[dict[str, Any]]]:
    """The application and its reputons; raises `NoReputons` that says what is wrong."""
    document = json.loads(text, object_pairs_hook=_once, parse_float=Decimal, parse_constant=_refused)
    _expect(isinstance(document, dict) and document.keys() == {"application", "reputons"}, "reputation-object")
    application, reputons = document["application"], document["reputons"]
    _expect(isinstance(application, str), "reputation-context")
    _expect(isinstance(reputons, list), "reputon-list")
    return application, [_reputon(each) for each in reputons]


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    _expect(len(set(names)) == len(names), "a member must not appear more than once")
    return dict(pairs)


def _refused(word: str) -> None:
    raise NoReputons(f"{word} is no number of JSON")


def _reputon(found: Any) -> dict[str, Any]:
    _expect(isinstance(found, dict), "a reputon is an object")
    _expect(found.keys() >= REQUIRED, f"{sorted(REQUIRED - found.keys())} are required")
    for name in STRINGS & found.keys():
        _expect(isinstance(found[name], str), f"{name} is a string")
    for name in SHARES & found.keys():
        _expect(_is_number(found[name]) and 0 <= found[name] <= 1, f"{name} lies between 0.0 and 1.0")
        _expect(round(Decimal(found[name]), 3) == found[name], f"{name} should have three decimals at most")
    for name in COUNTS & found.keys():
        _expect(type(found[name]) is int and 0 <= found[name] < 2**64, f"{name} is an unsigned integer")
    return {name: float(value) if isinstance(value, Decimal) else value for name, value in found.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _expect(is_so: bool, what: str) -> None:
    if not is_so:
        raise NoReputons(what)


def expanded(template: str, values: Mapping[str, str]) -> str:
    """A URI out of a template with simple expressions and form-style queries. RFC 6570 sections 3.2.2 and 3.2.8.

    What is not defined leaves nothing, in a query neither its name.
    """

    def put(match: re.Match[str]) -> str:
        names = match[2].split(",")
        if not match[1]:
            return ",".join(quote(values[name], safe="") for name in names if name in values)
        pairs = [f"{name}={quote(values[name], safe='')}" for name in names if name in values]
        return f"?{'&'.join(pairs)}" if pairs else ""

    return _EXPRESSION.sub(put, template)
