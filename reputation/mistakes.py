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
    "model_type": "this is a table: write its keys under its name in brackets",
    "value_error": "{error}",
}
"""pydantic's type of error -> what we say, with its numbers filled in."""

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
        elif place == ("rule",):
            yield "[[rule]]: write the name of each rule's table in two brackets"
        else:
            yield f"{_named(place, tables)}: {_said(error)}"


def _said(error: Mapping[str, Any]) -> str:
    said = _SAID.get(error["type"])
    if said is None:
        return str(error["msg"])
    details = {name: f"{it:g}" if isinstance(it, float) else str(it) for name, it in error.get("ctx", {}).items()}
    if "expected" in details:
        details["expected"] = details["expected"].replace("'", '"')
    return said.format(**details)


def _unknown(place: Location, tables: Mapping[str, Any]) -> str:
    value: Any = tables
    for step in place:
        value = value[step]
    if isinstance(value, dict) and place[0] != "rule":
        return f"[{_dotted(place)}]: unknown table"
    if len(place) == 1 and isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[[{place[0]}]]: unknown table"
    return f"{_named(place, tables)}: unknown key"


def _named(place: Location, tables: Mapping[str, Any]) -> str:
    """``[table] key``, with a rule named by its name when it has one, and the number of an item in a list."""
    *steps, last = place
    item = f", item {last + 1}" if len(place) > 2 and isinstance(last, int) else ""
    if not item:
        steps.append(last)
    if steps[0] == "rule" and len(steps) > 1 and isinstance(steps[1], int):
        rule = tables["rule"][steps[1]]
        name = rule.get("name") if isinstance(rule, dict) else None
        which = f'"{name}"' if isinstance(name, str) and name else str(steps[1] + 1)
        return " ".join(["[[rule]]", which, *([_dotted(steps[2:])] if steps[2:] else [])]) + item
    if len(steps) == 1:
        return str(steps[0])
    return f"[{_dotted(steps[:-1])}] {steps[-1]}{item}"


def _dotted(steps: Location) -> str:
    return ".".join(map(str, steps))
