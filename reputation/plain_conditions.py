"""The parts of a condition that need no CEL: one fact compared with a text or a number, joined with the rest by ``&&``.

    class != "submission" && last_1h.ip.invalid_recipients >= 5 && ...
    `----- plain ------'     `----------------- rest -----------------'

Nearly every condition begins with such a part, and for nearly all events it is the one that does not hold. To ask CEL
takes two microseconds and more, to compare two texts a fifth of one, and what the rest would ask the store need not be
asked at all.

``&&`` is false when one side is false, whatever the other one is (CEL specification, "Logical Operators"), so the plain
parts may go first. What is not surely such a part belongs to the rest.
"""

import re
from collections.abc import Callable
from operator import eq, ge, gt, le, lt, ne
from typing import NamedTuple

from reputation.vocabulary import FACTS, Moment

_NAME, _TEXT = r"([a-z_]+)", r"(?:\"([^\"'\\]*)\"|'([^\"'\\]*)')"
_COMPARED = re.compile(rf"{_NAME}\s*(==|!=)\s*{_TEXT}")
_LISTED = re.compile(rf"{_TEXT}\s*in\s+lists")
_SAID = re.compile(rf"(!?)\s*{_NAME}")
_MEASURED = re.compile(r"([a-z_][\w.]*)\s*(>=|<=|>|<|==|!=)\s*([a-z_][\w.]*|\d{1,15}(?:\.\d{1,15})?)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ORDERS = {">=": ge, "<=": le, ">": gt, "<": lt, "==": eq, "!=": ne}
_UNSURE = re.compile(r"\\|//|\"\"\"|'''|\b[rRbB]+[\"']")
"""Texts that are not what stands between two quotation marks."""
_PIECE = re.compile(r"\"[^\"]*\"|'[^']*'|&&|\|\||[()\[\]{}?:]|[^\"'&|()\[\]{}?:]+|.", re.DOTALL)
_FOUND_LATER = frozenset({"lists", "first_time"})
"""Facts that are not known yet when it is decided what to ask the store."""


class Part(NamedTuple):
    """A plain part."""

    holds: Callable[[Moment], bool]
    name: str
    """The fact that it looks at; empty for numbers that the store is asked for."""

    @property
    def is_known_before(self) -> bool:
        """Whether it can be said before anybody was asked anything."""
        return self.name in FACTS and self.name not in _FOUND_LATER and FACTS[self.name].lookup is None


def parts_of(condition: str, number: Callable[[str], Callable[[Moment], float] | None]) -> tuple[tuple[Part, ...], str]:
    """The plain parts of a condition that compiles, and the rest of it, which is empty where that is all.

    `number` gives what finds the number that a name with dots stands for.
    """
    parts, rest = [], []
    for text in _joined(condition):
        part = _plain(text.strip()) or _measured(text.strip(), number)
        if part is None:
            rest.append(text.strip())
        else:
            parts.append(part)
    return tuple(parts), " && ".join(f"({text})" if len(rest) > 1 else text for text in rest)


def _joined(condition: str) -> list[str]:
    """What is joined by ``&&``, each by itself; the condition as a whole where that is not sure."""
    if _UNSURE.search(condition):
        return [condition]
    depth, found = 0, [""]
    for piece in _PIECE.findall(condition):
        depth += (piece in "([{") - (piece in ")]}") if len(piece) == 1 else 0
        if depth == 0 and piece in ("||", "?", ":"):
            return [condition]
        if depth == 0 and piece == "&&":
            found.append("")
        else:
            found[-1] += piece
    return found


def _plain(text: str) -> Part | None:
    if match := _COMPARED.fullmatch(text):
        name, operator, *texts = match.groups()
        return _compared(name, operator, _first(texts))
    if match := _LISTED.fullmatch(text):
        listed = _first(match.groups())
        return Part(lambda moment: moment.lists is not None and listed in moment.lists, "lists")
    if match := _SAID.fullmatch(text):
        return _said(match[2], wanted=not match[1])
    return None


def _measured(text: str, number: Callable[[str], Callable[[Moment], float] | None]) -> Part | None:
    match = _MEASURED.fullmatch(text)
    left = number(match[1]) if match else None
    if match is None or left is None:
        return None
    compare, limit = _ORDERS[match[2]], _number(match[3])
    if limit is not None:
        return Part(lambda moment: compare(left(moment), limit), "")
    right = number(match[3])
    return None if right is None else Part(lambda moment: compare(left(moment), right(moment)), "")


def _number(text: str) -> float | None:
    return float(text) if _NUMBER.fullmatch(text) else None


def _first(texts: tuple[str | None, ...] | list[str | None]) -> str:
    return next(text for text in texts if text is not None)


def _compared(name: str, operator: str, text: str) -> Part | None:
    fact = FACTS.get(name)
    if fact is None or not isinstance(fact.example, str) or "?" in text:  # what is no UTF-8 has "?" for CEL
        return None
    value = fact.value
    if operator == "==":
        return Part(lambda moment: value(moment) == text, name)
    return Part(lambda moment: value(moment) != text, name)


def _said(name: str, *, wanted: bool) -> Part | None:
    fact = FACTS.get(name)
    if fact is None or not isinstance(fact.example, bool):
        return None
    value = fact.value
    return Part(lambda moment: value(moment) is wanted, name)
