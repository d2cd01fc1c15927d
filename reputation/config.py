"""The configuration: one frozen tree, read from one TOML file.

Every setting has its default and its meaning beside it. Unknown keys, wrong types and impossible values are
errors that name the file, the table and the key, all at once; nothing is silently ignored.

Relative paths are relative to the directory that the program was started in. Secrets (the password in
`store.url`, `keys.subject_key`) are never printed.
"""

import json
import re
import string
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from reputation.charges import Charging
from reputation.entries import Target, parse_protected
from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.keys import Dimension, Metric, Spelling, counted_dimension
from reputation.mistakes import mistakes_of
from reputation.policy import Policy
from reputation.rules import REPLY_FIELDS, Accuracy, Mode, OnStoreFailure, Rule, parse_limit
from reputation.verdict import Action

SERVER_SCHEMES = (
    "redis",
    "rediss",
    "unix",
    "redis+cluster",
    "rediss+cluster",
    "redis+sentinel",
    "rediss+sentinel",
)
"""Of stores on a server; the rest of their URLs: `reputation.store.address`."""
STORE_SCHEMES = (*SERVER_SCHEMES, "embedded", "memory")
ESCAPES = "/ @ # ? of a password are written %2F %40 %23 %3F"
NEXT_HOP_SCHEMES = ("smtp", "lmtp", "maildir")
FINAL_ANSWER_FACTOR = 10
"""How much longer the answer to a whole message may take than any other (RFC 5321 section 4.5.3.2.6)."""
MAX_REPLY_LENGTH = 300
"""Leaves room for what fills the braces in the 512 octets of a reply line (RFC 5321 section 4.5.3.1.5)."""
MAX_CONDITION_LENGTH = 1_000


def _host_port(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f'"{text}" is not HOST:PORT: write "127.0.0.1:25" or "[::1]:25"')
    return text


def _store_url(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in STORE_SCHEMES:
        raise ValueError(
            "unknown kind of store: write redis://HOST:PORT, rediss://HOST:PORT, unix:///PATH, "
            "redis+cluster://HOST:PORT,HOST:PORT, redis+sentinel://HOST:PORT,HOST:PORT/NAME, "
            "embedded:DIRECTORY or memory:"
        )
    if scheme == "embedded" and not rest:
        raise ValueError("an embedded store needs a directory: embedded:DIRECTORY")
    if scheme in SERVER_SCHEMES:
        _check_server_url(scheme, text)
    return text


def _check_server_url(scheme: str, text: str) -> None:
    try:
        parts = urlsplit(text)
        hosts = parts.netloc.rpartition("@")[2].split(",") if scheme.partition("+")[2] else [parts.netloc]
        places = [urlsplit(f"//{host}") for host in hosts]
        reachable = bool(parts.path) if scheme == "unix" else all(it.hostname and it.port != 0 for it in places)
    except ValueError:  # its text would show a part of the password
        reachable = False
    if not text.startswith(f"{scheme}://") or not reachable:
        raise ValueError(
            "no server can be reached at this URL: write redis://[USER:PASSWORD@]HOST[:PORT] or unix:///PATH; "
            f"{ESCAPES}"
        )


def _next_hop(text: str) -> str:
    scheme, colon, rest = text.partition(":")
    if not colon or scheme not in NEXT_HOP_SCHEMES or not rest.strip("/"):
        raise ValueError(
            "unknown kind of next hop: write smtp://HOST:PORT, lmtp://HOST:PORT, lmtp:///SOCKET or maildir:DIRECTORY"
        )
    return text


def _countable(text: str) -> str:
    if text in set(Metric) or counted_dimension(text) is not None:
        return text
    raise ValueError(f'"{text}" cannot be counted: write {", ".join(Metric)}, or distinct(DIMENSION)')


def _spelled(pattern: str, otherwise: str) -> AfterValidator:
    """Text that fits a pattern; `otherwise` says what to write when it does not."""

    def check(text: str) -> str:
        if re.fullmatch(pattern, text) is None:
            raise ValueError(otherwise)
        return text

    return AfterValidator(check)


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class StoreSettings(_Table):
    """``[store]``: where the counters are."""

    url: Annotated[str, AfterValidator(_store_url)] = "embedded:./data/valkey"
    """redis://, unix://, redis+cluster://, redis+sentinel:// (with TLS rediss...), embedded:DIRECTORY, or memory:"""
    prefix: Annotated[str, _spelled(r"[A-Za-z0-9_.-]{1,32}", 'write 1 to 32 letters, digits, "_", "." or "-"')] = "rp"
    """What every key begins with; sites that share a server need different ones."""
    deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 0.05
    """How long a decision waits for the store before the rules' `on_store_failure` holds."""


class KeySettings(_Table):
    """``[keys]``: how addresses become counted entities."""

    subaddress_separator: Annotated[str, Field(max_length=1)] = "+"
    """alice+news@ is counted as alice@; empty counts them apart."""
    subject_key: Annotated[str, Field(max_length=64)] = ""
    """Secret for the hash of subjects, the same on every node; empty: subjects are not counted."""
    tracked: Annotated[tuple[Annotated[Dimension, Field(strict=False)], ...], Field(strict=False)] = tuple(Dimension)
    """Dimensions that are counted even where no rule names them."""


class TlsSettings(_Table):
    """``[smtp.tls]``: STARTTLS."""

    certificate: str
    """PEM file with the certificate chain."""
    key: str
    """PEM file with the private key."""


class SmtpSettings(_Table):
    """``[smtp]``: the SMTP front end."""

    listen: Annotated[tuple[Annotated[str, AfterValidator(_host_port)], ...], Field(strict=False, min_length=1)] = (
        "127.0.0.1:2525",
    )
    """HOST:PORT to listen on; port 0 takes a free one."""
    hostname: Annotated[str, _spelled(r"[A-Za-z0-9.\[\]:-]{0,255}", "write the full name of a host")] = ""
    """The name in the greeting and in Received; empty takes the machine's."""
    next_hop: Annotated[str, AfterValidator(_next_hop)] = "maildir:./data/mail"
    """Where accepted mail goes: smtp://, lmtp://HOST:PORT, lmtp:///SOCKET or maildir:DIRECTORY."""
    tls: TlsSettings | None = None
    max_message_bytes: Annotated[int, Field(ge=65_536, le=2**31)] = 50 * 2**20
    """Largest message; announced as SIZE (RFC 1870)."""
    max_recipients: Annotated[int, Field(ge=100, le=100_000)] = 1_000
    """Recipients of one message; more get 452 (RFC 5321 section 4.5.3.1.10)."""
    max_sessions: Annotated[int, Field(ge=1)] = 2_000
    """Sessions at once; more are told 421."""
    max_sleepers: Annotated[int, Field(ge=0)] = 500
    """Sessions that may be held back (tarpit, throttle) at once; more are answered without delay."""
    max_delay_seconds: Annotated[float, Field(ge=0, le=240)] = 30.0
    """The longest that one answer is held back."""
    max_errors: Annotated[int, Field(ge=1)] = 20
    """Commands that may fail in one session before it is closed with 421."""
    command_timeout_seconds: Annotated[float, Field(gt=0)] = 300.0
    """Wait for the next command (RFC 5321 section 4.5.3.2.7)."""
    data_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """Time for the whole text of one message."""
    next_hop_timeout_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Wait for one answer of the next hop; its answer to the message itself may take ten times as long."""
    drain_seconds: Annotated[float, Field(ge=0)] = 10.0
    """At the end: how long open transactions may take to finish; a message that the next hop is taking may longer."""

    @property
    def longest_drain_seconds(self) -> float:
        """When a drain is over for sure. To cut off a message that the next hop is taking could deliver it twice."""
        return self.drain_seconds + FINAL_ANSWER_FACTOR * self.next_hop_timeout_seconds


def _protected(text: str) -> str:
    try:
        parse_protected(text, Spelling())
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


class RegisterSettings(_Table):
    """``[register]``: what operators may not put down."""

    never_ban: Annotated[tuple[Annotated[str, AfterValidator(_protected)], ...], Field(strict=False)] = (
        "127.0.0.0/8",
        "::1",
    )
    """Networks and entities that no ban may touch: own relays, loopback."""


class LogSettings(_Table):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class RuleSettings(_Table):
    """``[[rule]]``: one limit. See `reputation.policy.Rule`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, hide_input_in_errors=True)

    name: Annotated[
        str, _spelled(r"[a-z0-9][a-z0-9-]{0,63}", "write lower-case words with hyphens, at most 64 characters")
    ]
    """Lower-case words with hyphens. It names the counter: renaming a rule starts it at zero."""
    stage: Stage
    """connect, helo, auth, mail, rcpt or data."""
    when: Annotated[str, Field(max_length=MAX_CONDITION_LENGTH)] = ""
    """Which events the rule is about, such as 'class == "submission"'; empty for all of its stage."""
    key: Annotated[tuple[Dimension, ...], Field(min_length=1)]
    """The dimension that is counted; several make one combined key."""
    count: Annotated[str, AfterValidator(_countable)]
    """connections, messages, recipients, bytes, invalid_recipients, ..., concurrent, or distinct(DIMENSION)."""
    limits: Annotated[tuple[str, ...], Field(min_length=1)]
    """Such as ["30/1m", "100/1h"]."""
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
    delay_seconds: Annotated[float, Field(gt=0, le=240)] = 5.0
    """For tarpit."""

    def rule(self) -> Rule:
        """The rule that the engine knows; raises `ConfigError` that names the key at fault."""
        try:
            limits = tuple(parse_limit(self.count, text) for text in self.limits)
        except ConfigError as error:
            raise ConfigError(f"limits: {error}") from None
        _check_reply(self.reply, self.action)
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return Rule(**{**fields, "limits": limits})


class Settings(_Table):
    """The whole configuration."""

    store: StoreSettings = StoreSettings()
    keys: KeySettings = KeySettings()
    smtp: SmtpSettings = SmtpSettings()
    register_table: RegisterSettings = Field(default=RegisterSettings(), alias="register")
    log: LogSettings = LogSettings()
    rule: Annotated[tuple[RuleSettings, ...], Field(strict=False)] = ()

    def policy(self) -> Policy:
        """The rules, compiled; raises `ConfigError` that names rule and key."""
        rules = []
        for settings in self.rule:
            try:
                rules.append(settings.rule())
            except ConfigError as error:
                raise ConfigError(f'[[rule]] "{settings.name}" {error}') from None
            if Dimension.SUBJECT in settings.key and not self.keys.subject_key:
                raise ConfigError(f'[[rule]] "{settings.name}" key: counting subjects needs keys.subject_key')
        return Policy(rules=tuple(rules), tracked=frozenset(self.keys.tracked))

    def never_ban(self) -> tuple[Target, ...]:
        """What must not be banned."""
        return tuple(parse_protected(text, self.spelling()) for text in self.register_table.never_ban)

    def spelling(self) -> Spelling:
        """How addresses become ids."""
        return Spelling(subaddress_separator=self.keys.subaddress_separator, subject_key=self.keys.subject_key.encode())


_REPLY_CODE = re.compile(r"(?:(?P<code>\d{3})(?:\s|$))?(?:(?P<enhanced>\d)\.\d{1,3}\.\d{1,3}(?:\s|$))?")
_REPLY_CLASS = {Action.REJECT: "5", Action.TEMPFAIL: "4", Action.THROTTLE: "4"}


def _check_reply(reply: str, action: Action) -> None:
    if not reply:
        return
    if not (reply.isascii() and reply.isprintable()):
        raise ConfigError("reply: only printable ASCII goes into a reply line")
    try:
        parts = [part for part in string.Formatter().parse(reply) if part[1] is not None]
    except ValueError as error:
        raise ConfigError(f"reply: {error}") from None
    fields = {field for _, field, _, _ in parts if field is not None}
    if any(spec or conversion for _, _, spec, conversion in parts):
        raise ConfigError("reply: nothing but a name stands between braces, such as {retry_after}")
    if unknown := sorted(fields - REPLY_FIELDS):
        raise ConfigError(f"reply: unknown {unknown}; known: {', '.join(sorted(REPLY_FIELDS))}")
    if action not in _REPLY_CLASS:
        raise ConfigError(f"reply: action {action} sends no reply of its own")
    match = _REPLY_CODE.match(reply)
    assert match is not None
    wanted = _REPLY_CLASS[action]
    for part in (match["code"], match["enhanced"]):
        if part is not None and part[0] != wanted:
            raise ConfigError(f"reply: action {action} needs a code that begins with {wanted}, not {part}")


def quickstart_path() -> Path:
    """The configuration of the quick start: of the checkout, or the copy in the installed package."""
    package = Path(__file__).parent
    installed = package / "quickstart.toml"
    return installed if installed.exists() else package.parent / "deploy" / "quickstart.toml"


def load(path: Path) -> Settings:
    """Read a configuration file. Raises `ConfigError` with one line per mistake."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: is not valid TOML: {error}") from None
    try:
        settings = Settings.model_validate(tables)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {line}" for line in mistakes_of(error.errors(), tables))) from None
    try:
        settings.policy()
        settings.never_ban()
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return settings


def effective(settings: Settings) -> dict[str, Any]:
    """The configuration in force, defaults included, as plain values without its secrets."""
    tables = settings.model_dump(mode="json", by_alias=True)
    tables["store"]["url"] = without_password(settings.store.url)
    if settings.keys.subject_key:
        tables["keys"]["subject_key"] = "***"
    return tables


def effective_lines(settings: Settings) -> Iterator[str]:
    """The configuration in force as TOML, line by line, without its secrets.

    >>> next(line for line in effective_lines(Settings()) if line.startswith("prefix"))
    'prefix = "rp"'
    """
    tables = effective(settings)
    rules = tables.pop("rule")
    tls = tables["smtp"].pop("tls")
    if tls is not None:
        tables["smtp.tls"] = tls
    for name, table in (*((f"[{name}]", table) for name, table in tables.items()), *(("[[rule]]", r) for r in rules)):
        yield name
        # JSON's strings, numbers and arrays are TOML's, too.
        yield from (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items())


def without_password(url: str) -> str:
    """`url` with its password replaced.

    >>> without_password("redis://app:s3cret@db.example:6379/0")
    'redis://app:***@db.example:6379/0'
    """
    url = re.sub(r"(//[^:@/]*:).*@", r"\1***@", url)
    return re.sub(r"([?&]password=)[^&#]*", r"\1***", url)
