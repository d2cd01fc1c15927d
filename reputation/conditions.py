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
from reputation.events import NULL_SENDER, Data, Event, Mail, Rcpt, Stage
from reputation.keys import Dimension, Entities

Value = str | int | bool


class Moment(NamedTuple):
    """What a condition can look at."""

    event: Event
    entities: Entities
    now: float
    """Seconds since the epoch."""


class Fact(NamedTuple):
    """One name that conditions can use."""

    stages: tuple[Stage, ...]
    example: Value
    value: Callable[[Moment], Value]
    meaning: str


_CONNECT = tuple(Stage)[:-1]
_HELO, _AUTH, _MAIL = _CONNECT[1:], _CONNECT[2:], _CONNECT[3:]
_RCPT, _DATA = (Stage.RCPT,), (Stage.DATA,)


def _id(dimension: Dimension) -> Callable[[Moment], str]:
    def value(moment: Moment) -> str:
        entity = moment.entities.get(dimension)
        return "" if entity is None else entity.id

    return value


def _class(moment: Moment) -> str:
    event = moment.event
    if event.session.user:
        return "submission"
    return "bounce" if isinstance(event, Mail | Rcpt | Data) and event.sender == NULL_SENDER else "inbound"


def _of(name: str) -> Callable[[Moment], Any]:
    return lambda moment: getattr(moment.event, name)


FACTS: Mapping[str, Fact] = {
    "ip": Fact(_CONNECT, "192.0.2.1", lambda it: str(it.event.session.client), "address of the client"),
    "prefix": Fact(_CONNECT, "192.0.2.0/24", _id(Dimension.PREFIX), "its /24, or /48 of IPv6"),
    "tls": Fact(_CONNECT, True, lambda it: it.event.session.tls, "whether the session is encrypted"),
    "hour": Fact(_CONNECT, 3, lambda it: datetime.fromtimestamp(it.now).hour, "0 to 23, by the local clock"),  # noqa: DTZ006 - local is meant
    "weekday": Fact(_CONNECT, 7, lambda it: datetime.fromtimestamp(it.now).isoweekday(), "1 for Monday to 7"),  # noqa: DTZ006 - local is meant
    "helo": Fact(_HELO, "mail.example.com", _id(Dimension.HELO), "name given with HELO"),
    "user": Fact(_AUTH, "alice", _id(Dimension.USER), 'who has logged in; "" for nobody'),
    "class": Fact(_MAIL, "inbound", _class, '"submission" of a user who has logged in, "bounce" or "inbound"'),
    "sender": Fact(_MAIL, "a@example.com", _id(Dimension.SENDER), 'envelope sender; "" for bounces'),
    "sender_domain": Fact(_MAIL, "example.com", _id(Dimension.SENDER_DOMAIN), "its registered domain"),
    "declared_bytes": Fact((Stage.MAIL,), 0, _of("declared_bytes"), "size that the client has announced; 0 for none"),
    "recipient": Fact(_RCPT, "b@example.net", _id(Dimension.RECIPIENT), "this recipient"),
    "recipient_domain": Fact(_RCPT, "example.net", _id(Dimension.RECIPIENT_DOMAIN), "its registered domain"),
    "recipients": Fact(_DATA, 1, lambda it: len(_of("recipients")(it)), "number of recipients"),
    "message_bytes": Fact(_DATA, 1_000, _of("message_bytes"), "size of the message"),
    "subject": Fact(_DATA, "Hello", _of("subject"), "subject, as it was written"),
}
"""Addresses and domains are as they are counted: lower case, without subaddress, ASCII domain."""

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
    _program: cel.Program = field(init=False, repr=False, compare=False)
    _facts: tuple[tuple[str, Fact], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            program = cel.compile(self.text)
        except ValueError as error:
            raise ConfigError(f"when: {_first_line(error)}") from None
        names = _checked(program, self.text, self.stage)
        object.__setattr__(self, "_program", program)
        object.__setattr__(self, "_facts", tuple((name, FACTS[name]) for name in names))
        try:
            answer = program.execute({name: fact.example for name, fact in self._facts})
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"when: {_first_line(error)}") from None
        if not isinstance(answer, bool):
            raise ConfigError(f"when: this is no yes or no, but {type(answer).__name__}: compare it with something")

    def holds(self, moment: Moment) -> bool:
        """Whether it is so; a condition that cannot be answered does not hold, and is counted."""
        try:
            return self._program.execute({name: fact.value(moment) for name, fact in self._facts}) is True
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            self.failures.count += 1
            self.failures.last = _first_line(error)
            return False


def _checked(program: cel.Program, text: str, stage: Stage) -> list[str]:
    """The facts that a program names."""
    known = sorted(name for name, fact in FACTS.items() if stage in fact.stages)
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
