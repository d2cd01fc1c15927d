"""Conditions: which events a rule is about, written in CEL (``when = 'user == "" && helo == ""'``).

A condition is compiled with its rule. What can be wrong with it is found then: it names something that is not known at
the stage of its rule, a function that there is not, compares what cannot be compared, or is no yes or no.
Only what it names is handed to it, because each value costs a microsecond.

Source: Common Expression Language, https://github.com/google/cel-spec. The door to its library.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

import cel

from reputation.errors import ConfigError
from reputation.events import Event, Stage
from reputation.facts import NOTHING_KNOWN, NOTHING_LOOKED_UP, Known, LookedUp, Lookup
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
from reputation.keys import Dimension, Entities

Value = str | int | float | bool | list[str] | dict[str, str]


class Moment(NamedTuple):
    """What a condition can look at."""

    event: Event
    entities: Entities
    now: float
    """Seconds since the epoch."""
    looked_up: LookedUp = NOTHING_LOOKED_UP
    known: Known = NOTHING_KNOWN
    lists: frozenset[str] | None = frozenset()
    """All lists that something of the event is on; None while some of them could not be read yet."""


class Fact(NamedTuple):
    """One name that conditions can use."""

    stages: tuple[Stage, ...]
    example: Value
    value: Callable[[Moment], Value]
    meaning: str
    lookup: Lookup | None = None
    """What has to be looked up for it."""


_CONNECT = tuple(Stage)[:-1]
_HELO, _AUTH, _MAIL = _CONNECT[1:], _CONNECT[2:], _CONNECT[3:]
_RCPT, _DATA = (Stage.RCPT,), (Stage.DATA,)


def _id(dimension: Dimension) -> Callable[[Moment], str]:
    def value(moment: Moment) -> str:
        entity = moment.entities.get(dimension)
        return "" if entity is None else entity.id

    return value


def _of(name: str) -> Callable[[Moment], Any]:
    return lambda moment: getattr(moment.event, name)


_RESULT = "{}, or temperror"

FACTS: Mapping[str, Fact] = {
    "ip": Fact(_CONNECT, "192.0.2.1", lambda it: str(it.event.session.client), "address of the client"),
    "prefix": Fact(_CONNECT, "192.0.2.0/24", _id(Dimension.PREFIX), "its /24, or /48 of IPv6"),
    "asn": Fact(
        _CONNECT, 64_500, lambda it: it.looked_up.network.asn, "number of the client's network operator; 0 when unknown"
    ),
    "country": Fact(
        _CONNECT, "DE", lambda it: it.looked_up.network.country, 'its country, two letters; "" when unknown'
    ),
    "iprev": Fact(
        _CONNECT,
        "pass",
        lambda it: it.looked_up.iprev,
        _RESULT.format("the reverse name: pass, fail, permerror (none)"),
        Lookup.IPREV,
    ),
    "rdns": Fact(
        _CONNECT, "mail.example.com", lambda it: it.looked_up.rdns, 'the confirmed reverse name, or ""', Lookup.IPREV
    ),
    "dnsbl": Fact(
        _CONNECT,
        ["zen.example.org"],
        lambda it: list(it.looked_up.dnsbl),
        "the DNS lists that the client is on",
        Lookup.DNSBL,
    ),
    "dnsbl_temperror": Fact(
        _CONNECT,
        ["zen.example.org"],
        lambda it: list(it.looked_up.dnsbl_temperror),
        "those that gave no answer",
        Lookup.DNSBL,
    ),
    "lists": Fact(
        _CONNECT, ["vip"], lambda it: sorted(it.lists or ()), "the [lists](#lists) that something of the event is on"
    ),
    "tls": Fact(_CONNECT, True, lambda it: it.event.session.tls, "whether the session is encrypted"),
    "hour": Fact(_CONNECT, 3, lambda it: datetime.fromtimestamp(it.now).hour, "0 to 23, by the local clock"),  # noqa: DTZ006 - local is meant
    "weekday": Fact(_CONNECT, 7, lambda it: datetime.fromtimestamp(it.now).isoweekday(), "1 for Monday to 7"),  # noqa: DTZ006 - local is meant
    "helo": Fact(_HELO, "mail.example.com", _id(Dimension.HELO), "name given with HELO"),
    "user": Fact(_AUTH, "alice", _id(Dimension.USER), 'who has logged in; "" for nobody'),
    "class": Fact(_MAIL, "inbound", _id(Dimension.CLASS), "kind of mail, see [classes](#classes)"),
    "sender": Fact(_MAIL, "a@example.com", _id(Dimension.SENDER), 'envelope sender; "" for bounces'),
    "sender_domain": Fact(_MAIL, "example.com", _id(Dimension.SENDER_DOMAIN), "its registered domain"),
    "spf": Fact(
        _MAIL,
        "pass",
        lambda it: it.looked_up.spf,
        _RESULT.format("SPF: none, neutral, pass, fail, softfail, permerror"),
        Lookup.SPF,
    ),
    "declared_bytes": Fact((Stage.MAIL,), 0, _of("declared_bytes"), "size that the client has announced; 0 for none"),
    "recipient": Fact(_RCPT, "b@example.net", _id(Dimension.RECIPIENT), "this recipient"),
    "recipient_domain": Fact(_RCPT, "example.net", _id(Dimension.RECIPIENT_DOMAIN), "its registered domain"),
    FIRST_TIME: Fact(
        _RCPT,
        True,
        lambda it: it.known.first_time,
        "whether a user who has logged in writes to this recipient for the first time",
    ),
    "recipients": Fact(_DATA, 1, lambda it: len(_of("recipients")(it)), "number of recipients"),
    "message_bytes": Fact(_DATA, 1_000, _of("message_bytes"), "size of the message"),
    "author": Fact(_DATA, "a@example.com", _id(Dimension.AUTHOR), "address in the From field"),
    "author_domain": Fact(_DATA, "example.com", _id(Dimension.AUTHOR_DOMAIN), "its registered domain"),
    "subject": Fact(_DATA, "Hello", _of("subject"), "subject, as it was written"),
    "header": Fact(
        _DATA,
        {},
        lambda _: {},
        'the first of each field, by its name in lower case: `header["list-id"]`',
    ),
}
"""Addresses and domains are as they are counted: lower case, without subaddress, ASCII domain."""

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
    _program: cel.Program = field(init=False, repr=False, compare=False)
    _facts: tuple[tuple[str, Fact], ...] = field(init=False, repr=False, compare=False)
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
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_facts", facts)
        object.__setattr__(self, "_paths", paths)
        object.__setattr__(self, "_fields", _fields_in(self.text) if "header" in names else ())
        object.__setattr__(self, "lookups", frozenset(fact.lookup for _, fact in facts if fact.lookup is not None))
        object.__setattr__(self, "inquiry", Inquiry.of(asked))
        self._try_out()

    def _try_out(self) -> None:
        """Ask it once with examples: what cannot be compared is found now."""
        context: dict[str, Any] = {name: fact.example for name, fact in self._facts}
        for path in self._paths:
            _put(context, path, 1 if path[0] in COUNTED else 0.5)
        if "header" in context:
            context["header"] = dict.fromkeys(self._fields, "")
        try:
            answer = self._program.execute(context)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"when: {_first_line(error)}") from None
        if not isinstance(answer, bool):
            raise ConfigError(f"when: this is no yes or no, but {type(answer).__name__}: compare it with something")

    def holds(self, moment: Moment) -> bool:
        """Whether it is so; a condition that cannot be answered does not hold, and is counted.

        While the store is away nothing is known about anybody: what asks the store does not hold then, nor what asks
        for lists of which one was never read.
        """
        if self.inquiry and not moment.known.told:
            return False
        if moment.lists is None and any(name == "lists" for name, _ in self._facts):
            return False
        try:
            context: dict[str, Any] = {name: _printed(fact.value(moment)) for name, fact in self._facts}
            if self._fields:
                header = _of("header")(moment)
                context["header"] = {name: _printed(header.get(name, "")) for name in self._fields}
            for path in self._paths:
                _put(context, path, _NUMBERS[path[0]](moment, path))
            return self._program.execute(context) is True
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            self.failures.count += 1
            self.failures.last = _first_line(error)
            return False


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
