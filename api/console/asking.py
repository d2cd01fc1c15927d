"""What was asked: the fields of a query or of a form, read in one place, with a limit on everything.

Names of entities stand in queries and never in paths: a browser would take `..` in a path apart. Octets that are no
UTF-8 are kept as they are, as in entities.
"""

import math
import re
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qs

from starlette.requests import Request

from reputation.errors import ConfigError

MAX_FIELDS = 60
MAX_QUERY = 20_000
MAX_FORM = 100_000
_OWN_PLACE = re.compile(r"/console/[!-\[\]-~]*")
"""A path of the console, in ASCII, without white space and backslashes."""
FORM = "application/x-www-form-urlencoded"


class Asked:
    """Fields by name, each with all its values."""

    def __init__(self, text: str) -> None:
        """`text` is urlencoded; raises `ConfigError` for too many fields."""
        try:
            self._fields: Mapping[str, Sequence[str]] = parse_qs(
                text, keep_blank_values=True, errors="surrogateescape", max_num_fields=MAX_FIELDS
            )
        except ValueError:
            raise ConfigError(f"more than {MAX_FIELDS} fields") from None

    def text(self, name: str, default: str = "") -> str:
        """Its last value, without white space around it."""
        return self._fields.get(name, (default,))[-1].strip()

    def all(self, name: str) -> tuple[str, ...]:
        """All its values that are not empty."""
        return tuple(value for value in self._fields.get(name, ()) if value)

    def one_of(self, name: str, choices: Sequence[str]) -> str:
        """Its value where that is one of the choices; else the first of them."""
        value = self.text(name)
        return value if value in choices else choices[0]

    def place(self, name: str, default: str) -> str:
        """A page of the console to go to; never somebody else's."""
        value = self.text(name)
        return value if len(value) <= MAX_QUERY and _OWN_PLACE.fullmatch(value) else default

    def number(self, name: str) -> float | None:
        """A number; None for nothing, and for what is none."""
        try:
            value = float(self.text(name))
        except ValueError:
            return None
        return value if math.isfinite(value) else None

    def count(self, name: str, default: int, most: int) -> int:
        """A whole number from 1 to `most`."""
        value = self.number(name)
        return default if value is None else min(max(int(value), 1), most)


def of_query(request: Request) -> Asked:
    """What stands behind the question mark."""
    octets: bytes = request.scope["query_string"]
    if len(octets) > MAX_QUERY:
        raise ConfigError("the address of this page is too long")
    return Asked(octets.decode("ascii", "surrogateescape"))


async def of_form(request: Request) -> Asked:
    """What was typed into a form; raises `ConfigError` for what is none."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise ConfigError("this is no form of the console")
    octets = await request.body()
    if len(octets) > MAX_FORM:
        raise ConfigError("this form is too long")
    return Asked(octets.decode("ascii", "surrogateescape"))
