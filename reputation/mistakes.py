"""What is wrong with a configuration, in plain words: ``[table] key: what to write instead``.

The mistakes come from pydantic, whose door is `reputation.config`, as it lists them. Values are not repeated, because
they may be secrets, but by our own checks of what is none (an address, a limit, a reply).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_SAID = {
    "missing": "is required",
    "string_type": 'write text, in quotes: "..."',
    "int_type": "write a whole number",
    "int_from_float": "write a whole number",
    "int_parsing": "write a whole number",
    "bool_type": "write true or false",
    "bool_parsing": "write true or false",
    "too_long": "name at most {max_length}",
    "float_type": "write a number",
    "float_parsing": "write a number",
    "finite_number": "write a number",
    "greater_than": "write a number above {gt}",
    "greater_than_equal": "write {ge} or more",
    "less_than_equal": "write {le} or less",
    "string_too_long": "is too long: at most {max_length}",
    "tuple_type": "write a list, in brackets: [...]",
    "too_short": "name at least {min_length}",
    "enum": "write one of {expected}",
    "literal_error": "write one of {expected}",
    "dict_type": "this is a table: write its keys under its name in brackets",
    "model_type": "this is a table: write its keys under its name in brackets",
    "value_error": "{error}",
}
"""pydantic's type of error -> what we say, with its numbers filled in."""

ARRAYS = {"rule": "rule", "list": "list", "python": "policy", "filter": "filter"}
"""Arrays of tables, and what one of them is."""

Location = Sequence[str | int]


def mistakes_of(errors: Sequence[Mapping[str, Any]], tables: Mapping[str, Any]) -> Iterator[str]:
    """A line for each of pydantic's errors about `tables`."""
    places = [tuple(error["loc"]) for error in errors]
    for error, place in zip(errors, places, strict=True):
        # A list all of whose items are wrong is called empty, too.
        if error["type"] == "too_short" and any(place == other[:-1] for other in places):
            continue
        if error["type"] == "extra_forbidden":
            yield _unknown(place, tables)
        elif len(place) == 1 and place[0] in ARRAYS:
            yield f"[[{place[0]}]]: write the name of each {ARRAYS[place[0]]}'s table in two brackets"
        elif error["type"] == "value_error" and _is_table(place, tables):  # said of a whole table: it names its keys
            yield f"[{_dotted(place)}] {_said(error)}" if place else _said(error)
        else:
            yield f"{_named(place, tables)}: {_said(error)}"


def _said(error: Mapping[str, Any]) -> str:
    said = _SAID.get(error["type"])
    if said is None:
        return str(error["msg"])
    details = {name: f"{it:.12g}" if isinstance(it, float) else str(it) for name, it in error.get("ctx", {}).items()}
    if "expected" in details:
        details["expected"] = details["expected"].replace("'", '"')
    return said.format(**details)


def _unknown(place: Location, tables: Mapping[str, Any]) -> str:
    value: Any = tables
    for step in place:
        value = value[step]
    if isinstance(value, dict) and place[0] not in ARRAYS:
        return f"[{_dotted(place)}]: unknown table"
    if len(place) == 1 and isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[[{place[0]}]]: unknown table"
    return f"{_named(place, tables)}: unknown key"


def _is_table(place: Location, tables: Mapping[str, Any]) -> bool:
    value: Any = tables
    for step in place:
        value = value[step] if isinstance(step, int) or step in value else None
    return isinstance(value, dict)


def _named(place: Location, tables: Mapping[str, Any]) -> str:
    """``[table] key``, with a rule or list named by its name if it has one, and the number of an item in a list."""
    *steps, last = place
    is_item = isinstance(last, int) and (len(place) > 2 or (len(place) == 2 and place[0] not in ARRAYS))
    item = f", item {int(last) + 1}" if is_item else ""
    if not item:
        steps.append(last)
    if steps[0] in ARRAYS and len(steps) > 1 and isinstance(steps[1], int):
        table = tables[str(steps[0])][steps[1]]
        name = table.get("name") if isinstance(table, dict) else None
        which = f'"{name}"' if isinstance(name, str) and name else str(steps[1] + 1)
        return " ".join([f"[[{steps[0]}]]", which, *([_dotted(steps[2:])] if steps[2:] else [])]) + item
    if len(steps) == 1:
        return str(steps[0]) + item
    return f"[{_dotted(steps[:-1])}] {steps[-1]}{item}"


def _dotted(steps: Location) -> str:
    return ".".join(map(str, steps))
