"""Conditions: which events a rule is about, written in CEL (``when = 'user == "" && helo == ""'``).

A condition is compiled with its rule. What can be wrong with it is found then: it names something that is not known at
the stage of its rule, a function that there is not, compares what cannot be compared, or is no yes or no.
Only what it names is handed to it, because each value costs a microsecond.

Source: Common Expression Language, https://github.com/google/cel-spec. The door to its library.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cel

from reputation.errors import ConfigError
from reputation.events import Event, Stage
from reputation.facts import Lookup
from reputation.inquiry import (
    AGE,
    COUNTED,
    FIRST_TIME,
    REPUTATION,
    ROOTS,
    UNTOLD_AGE,
    Inquiry,
    Path,
    paths_in,
    without_texts,
)
from reputation.keys import Entities
from reputation.plain_conditions import Part, parts_of
from reputation.vocabulary import FACTS, Fact, Moment, Value

_NUMBERS: Mapping[str, Callable[[Moment, Path], int | float]] = {
    REPUTATION: lambda moment, path: getattr(moment.known.scores[path[1]], path[2]),
    AGE: lambda moment, path: moment.known.ages.get(path[1], UNTOLD_AGE),
    **dict.fromkeys(COUNTED, lambda moment, path: moment.known.counts.get((path[0], path[1], path[2]), 0)),
}
"""Root -> what a name with dots says; `reputation.inquiry` explains them."""
assert _NUMBERS.keys() == set(ROOTS)

_HEADER_FIELD = re.compile(r"header\s*\[\s*[\"']([^\"']+)[\"']\s*\]")
_HEADER = re.compile(r"(?<![\w.])header\b")
_NAMED_FIELD = re.compile(r"(?<![\w.])header\s*\[\s*\"\"\s*\]")

FUNCTIONS = ("contains", "double", "duration", "endsWith", "int", "matches", "size", "startsWith", "string")
_HELPERS = re.compile(r"\W|_.*_|!_|-_|has")
_BOUND = re.compile(r"\b(?:all|exists|exists_one|filter|map)\s*\(\s*(\w+)\s*,")
"""Names that a macro of CEL binds, such as the x of ``["a", "b"].exists(x, x == user)``."""


Facts = tuple[tuple[str, Fact], ...]


@dataclass(slots=True)
class Failures:
    """What went wrong while conditions were asked."""

    count: int = 0
    told: int = 0
    """How many of them have been reported."""
    last: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition for a stage. Raises `ConfigError` that says what is wrong with it."""

    text: str
    stage: Stage
    failures: Failures = field(default_factory=Failures, repr=False, compare=False)
    lookups: frozenset[Lookup] = field(init=False, repr=False, compare=False)
    """What has to be looked up for it."""
    inquiry: Inquiry = field(init=False, repr=False, compare=False)
    """What the store has to be asked for it."""
    _plain: tuple[Part, ...] = field(init=False, repr=False, compare=False)
    _first: tuple[Part, ...] = field(init=False, repr=False, compare=False)
    """Of these, those that are known before anybody was asked."""
    _needs_lists: bool = field(init=False, repr=False, compare=False)
    _program: cel.Program | None = field(init=False, repr=False, compare=False)
    """The rest of it."""
    _facts: Facts = field(init=False, repr=False, compare=False)
    _paths: tuple[Path, ...] = field(init=False, repr=False, compare=False)
    _fields: tuple[str, ...] = field(init=False, repr=False, compare=False)
    """Of the header."""

    def __post_init__(self) -> None:
        try:
            program = cel.compile(self.text)
        except ValueError as error:
            raise ConfigError(f"when: {_first_line(error)}") from None
        names = _checked(program, self.text, self.stage)
        facts = tuple((name, FACTS[name]) for name in names if name in FACTS)
        paths = tuple(dict.fromkeys(paths_in(self.text, self.stage)))
        asked = [*paths, *((name,) for name in names if name == FIRST_TIME)]
        fields = _fields_in(self.text) if "header" in names else ()
        _try_out(program, facts, paths, fields)
        plain, rest = parts_of(self.text, lambda name: _number_of(name, paths))
        object.__setattr__(self, "_plain", plain)
        object.__setattr__(self, "_first", tuple(part for part in plain if part.is_known_before))
        object.__setattr__(self, "_needs_lists", "lists" in names)
        left = program if not plain else cel.compile(rest) if rest else None
        object.__setattr__(self, "_program", left)
        left_over = set(left.variables()) if left is not None else set()
        object.__setattr__(self, "_facts", tuple(fact for fact in facts if fact[0] in left_over))
        object.__setattr__(self, "_paths", tuple(paths_in(rest, self.stage)))
        object.__setattr__(self, "_fields", fields)
        object.__setattr__(self, "lookups", frozenset(fact.lookup for _, fact in facts if fact.lookup is not None))
        object.__setattr__(self, "inquiry", Inquiry.of(asked))

    def could_hold(self, event: Event, entities: Entities) -> bool:
        """Whether it may hold, by what is known before anybody was asked."""
        if not self._first:
            return True
        moment = Moment(event, entities, 0.0)
        return all(part.holds(moment) for part in self._first)

    def holds(self, moment: Moment) -> bool:
        """Whether it is so; a condition that cannot be answered does not hold, and is counted.

        While the store is away nothing is known about anybody: what asks the store does not hold then, nor what asks
        for lists of which one was never read.
        """
        if self.inquiry and not moment.known.told:
            return False
        if self._needs_lists and moment.lists is None:
            return False
        try:
            for part in self._plain:
                if not part.holds(moment):
                    return False
            return self._program is None or self._rest_holds(self._program, moment)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            self.failures.count += 1
            self.failures.last = _first_line(error)
            return False

    def _rest_holds(self, program: cel.Program, moment: Moment) -> bool:
        context: dict[str, Any] = {name: _printed(fact.value(moment)) for name, fact in self._facts}
        if self._fields:
            header: Mapping[str, str] = getattr(moment.event, "header", {})
            context["header"] = {name: _printed(header.get(name, "")) for name in self._fields}
        for path in self._paths:
            _put(context, path, _NUMBERS[path[0]](moment, path))
        return program.execute(context) is True


def _number_of(name: str, paths: Sequence[Path]) -> Callable[[Moment], float] | None:
    """What finds the number of one of these names."""
    path = tuple(name.split("."))
    if path not in paths:
        return None
    root = path[0]
    if root in COUNTED:
        counted = (path[0], path[1], path[2])
        return lambda moment: moment.known.counts.get(counted, 0)
    value = _NUMBERS[root]
    return lambda moment: value(moment, path)


def _try_out(program: cel.Program, facts: Facts, paths: Sequence[Path], fields: Sequence[str]) -> None:
    """Ask it once with examples: what cannot be compared is found now."""
    context: dict[str, Any] = {name: fact.example for name, fact in facts}
    for path in paths:
        _put(context, path, 1 if path[0] in COUNTED else 0.5)
    if "header" in context:
        context["header"] = dict.fromkeys(fields, "")
    try:
        answer = program.execute(context)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(f"when: {_first_line(error)}") from None
    if not isinstance(answer, bool):
        raise ConfigError(f"when: this is no yes or no, but {type(answer).__name__}: compare it with something")


def _fields_in(text: str) -> tuple[str, ...]:
    """The fields of the header that a condition asks for, each by its name."""
    fields, bare = tuple(dict.fromkeys(_HEADER_FIELD.findall(text))), without_texts(text)
    if len(_HEADER.findall(bare)) != len(_NAMED_FIELD.findall(bare)) or any(name != name.lower() for name in fields):
        raise ConfigError(
            'when: ask for a field of the header by its name in lower case, such as header["list-id"] != ""'
        )
    return fields


def _printed(value: Value) -> Value:
    """Text as CEL can take it: octets that are no UTF-8 become "?", or one of them would switch the rule off."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def _put(context: dict[str, Any], path: Path, value: float) -> None:
    """Put a number where a name with dots finds it."""
    for name in path[:-1]:
        context = context.setdefault(name, {})
    context[path[-1]] = value


def _checked(program: cel.Program, text: str, stage: Stage) -> list[str]:
    """The facts that a program names."""
    known = sorted([name for name, fact in FACTS.items() if stage in fact.stages] + list(ROOTS))
    names = [name for name in program.variables() if name not in set(_BOUND.findall(text)) - FACTS.keys()]
    for name in names:
        if name in FACTS and name not in known:
            stages = ", ".join(FACTS[name].stages)
            raise ConfigError(f"when: {name} is not known at stage {stage}, but at {stages}")
        if name not in known:
            raise ConfigError(f'when: there is no "{name}"; at stage {stage} there are: {", ".join(known)}')
    for name in program.functions():
        if name not in FUNCTIONS and not _HELPERS.match(name):
            raise ConfigError(f'when: there is no function "{name}"; there are: {", ".join(FUNCTIONS)}')
    return names


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].strip()
