"""``[[rule]]``: one rule as it is written, and what it becomes.

Shares the door to pydantic with `reputation.config`.
"""

import re
import string
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reputation.charges import Charging
from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.keys import Dimension, Metric, counted_dimension
from reputation.rules import (
    MATCHED_REPLY_FIELDS,
    REPLY_FIELDS,
    Accuracy,
    Mode,
    OnStoreFailure,
    Rule,
    parse_limit,
)
from reputation.verdict import Action

MAX_REPLY_LENGTH = 300
"""Leaves room for what fills the braces in the 512 octets of a reply line (RFC 5321 section 4.5.3.1.5)."""
RULE_NAME = r"[a-z0-9][a-z0-9-]{0,63}"
SERVICE_NAME = r"[a-z0-9-]{0,40}"
MAX_CONDITION_LENGTH = 1_000
MAX_RULE_DELAY_SECONDS = 240
MAX_HOLD_SECONDS = 366 * 86_400


def _countable(text: str) -> str:
    if not text or text in set(Metric) or counted_dimension(text) is not None:
        return text
    raise ValueError(f'"{text}" cannot be counted: write {", ".join(Metric)}, or distinct(DIMENSION)')


def spelled(pattern: str, otherwise: str) -> AfterValidator:
    """Text that fits a pattern; `otherwise` says what to write when it does not."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


class Table(BaseModel):
    """A table of the configuration: frozen, and with no keys but its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class RuleSettings(Table):
    """``[[rule]]``: one rule. See `reputation.rules.Rule`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, hide_input_in_errors=True)

    name: Annotated[str, spelled(RULE_NAME, "write lower-case words with hyphens, at most 64 characters")]
    """Lower-case words with hyphens. It names the counter: renaming a rule starts it at zero."""
    stage: Stage
    """connect, helo, auth, mail, rcpt or data."""
    when: Annotated[str, Field(max_length=MAX_CONDITION_LENGTH)] = ""
    """Which events the rule is about, such as 'class == "submission"'; empty for all of its stage."""
    key: tuple[Dimension, ...] = ()
    """The dimension that is counted; several make one combined key."""
    count: Annotated[str, AfterValidator(_countable)] = ""
    """connections, messages, recipients, bytes, invalid_recipients, ..., concurrent, or distinct(DIMENSION)."""
    limits: tuple[str, ...] = ()
    """Such as ["30/1m", "100/1h"]; without key, count and limits the rule acts whenever `when` holds."""
    action: Action
    """accept, tag, tarpit, throttle, tempfail, discard or reject."""
    mode: Mode = Mode.ENFORCE
    """shadow only counts what enforce would have done."""
    charge: Charging = Charging.ACCEPTED
    """accepted: what was refused costs nothing; always: attempts cost too; never: only read."""
    accuracy: Accuracy = Accuracy.STRICT
    """strict: never more than the limit; interpolated: all but exact."""
    on_store_failure: OnStoreFailure = OnStoreFailure.ACCEPT
    """accept, tempfail or local, while the counters cannot be asked."""
    reply: Annotated[str, Field(max_length=MAX_REPLY_LENGTH)] = ""
    """Text for the client, may begin with "451 4.7.1"; {retry_after}, {entity}, {limit}, ... are filled in."""
    delay_seconds: Annotated[float, Field(gt=0, le=MAX_RULE_DELAY_SECONDS)] = 5.0
    """For tarpit."""
    service: Annotated[str, spelled(SERVICE_NAME, "write a lower-case word, such as dirty")] = ""
    """The class of service that the message is put in: vip, normal, clean, dirty, uce, or one of yours."""
    subject_prefix: Annotated[str, spelled(r"[\x20-\x7e]{0,60}", "write at most 60 characters of printable ASCII")] = ""
    """For tag: what goes before the subject, such as "[SPAM]"."""
    hold_seconds: Annotated[float, Field(ge=0, le=MAX_HOLD_SECONDS)] = 0.0
    """How long whoever is refused is banned from then on, on all servers; 0: not at all."""
    adaptive: Annotated[float, Field(ge=1, le=10)] = 1.0
    """How many times as much, or as little, reputation may make of the limits; 1: nothing."""

    def rule(self) -> Rule:
        """The rule that the engine knows; raises `ConfigError` that names the key at fault."""
        try:
            limits = tuple(parse_limit(self.count, text) for text in self.limits)
        except ConfigError as error:
            raise ConfigError(f"limits: {error}") from None
        _check_fields(self.reply, REPLY_FIELDS if self.limits else MATCHED_REPLY_FIELDS)
        check_reply(self.reply, self.action)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Rule(**{**fields, "limits": limits})


_REPLY_CODE = re.compile(r"(?:(?P<code>\d{3})(?:\s|$))?(?:(?P<enhanced>\d)\.\d{1,3}\.\d{1,3}(?:\s|$))?")
_REPLY_CLASS = {Action.REJECT: "5", Action.TEMPFAIL: "4", Action.THROTTLE: "4"}


def _check_fields(reply: str, known: frozenset[str]) -> None:
    """What stands between the braces of a rule's reply."""
    try:
        parts = [part for part in string.Formatter().parse(reply) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f"reply: {error}") from None
    fields = {field for _, field, _, _ in parts if field is not None}
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ConfigError("reply: nothing but a name stands between braces, such as {retry_after}")
    if unknown := sorted(fields - known):
        raise ConfigError(f"reply: unknown {unknown}; known: {', '.join(sorted(known))}")


def check_reply(reply: str, action: Action) -> None:
    """Whether a text can be told to a client to whom this is done, whatever its braces; raises `ConfigError`."""
    if not reply:
        return
    if not (reply.isascii() and reply.isprintable()):
        raise ConfigError("reply: only printable ASCII goes into a reply line")
    if action not in _REPLY_CLASS:
        raise ConfigError(f"reply: action {action} sends no reply of its own")
    match = _REPLY_CODE.match(reply)
    assert match is not None
    wanted = _REPLY_CLASS[action]
    for part in (match["code"], match["enhanced"]):
        if part is not None and part[0] != wanted:
            raise ConfigError(f"reply: action {action} needs a code that begins with {wanted}, not {part}")
