"""The configuration: one frozen tree, read from one TOML file and the policy files that it includes.

Every setting has its default and its meaning beside it. Unknown keys, wrong types and impossible values are
errors that name the file, the table and the key, all at once; nothing is silently ignored.

Relative paths are relative to the directory that the program was started in. Secrets (the password in
`store.url`, `keys.subject_key`, `smtp.auth.ldap_bind_password`, the filters') are never printed.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from reputation.api_settings import ApiSettings
from reputation.entries import Target, parse_protected
from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.facts import Lookup
from reputation.front_end_settings import FilterSettings, PolicyServiceSettings, SmtpSettings
from reputation.keys import Dimension
from reputation.opinions import PolicyFunction
from reputation.policy import Policy
from reputation.rule_settings import RuleSettings, Table, spelled
from reputation.rules import Mode
from reputation.spelling import Spelling

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
BUILT_IN = ("default", "cookbook")
"""The policy files that come with reputon, as they are included."""


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


class StoreSettings(Table):
    """``[store]``: where the counters are."""

    url: Annotated[str, AfterValidator(_store_url)] = "embedded:./data/valkey"
    """redis://, unix://, redis+cluster://, redis+sentinel:// (with TLS rediss...), embedded:DIRECTORY, or memory:"""
    prefix: Annotated[str, spelled(r"[A-Za-z0-9_.-]{1,32}", 'write 1 to 32 letters, digits, "_", "." or "-"')] = "rp"
    """What every key begins with; sites that share a server need different ones."""
    deadline_seconds: Annotated[float, Field(gt=0, le=60)] = 0.05
    """How long a decision waits for the store before the rules' `on_store_failure` holds."""


class KeySettings(Table):
    """``[keys]``: how addresses become counted entities."""

    subaddress_separator: Annotated[str, Field(max_length=1)] = "+"
    """alice+news@ is counted as alice@; empty counts them apart."""
    subject_key: Annotated[str, Field(max_length=64)] = ""
    """Secret for the hash of subjects, the same on every node; empty: subjects are not counted."""
    tracked: Annotated[tuple[Annotated[Dimension, Field(strict=False)], ...], Field(strict=False)] = tuple(Dimension)
    """Dimensions that are counted even where no rule names them."""


def _listed(text: str) -> str:
    names = text.split("+")
    if not set(names) <= set(Dimension) or len(set(names)) < len(names):
        raise ValueError(f'"{text}" cannot be listed: write one of {", ".join(Dimension)}, or several joined by "+"')
    return text


def _protected(text: str) -> str:
    try:
        parse_protected(text, Spelling())
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return text


class RegisterSettings(Table):
    """``[register]``: what operators may not put down."""

    never_ban: Annotated[tuple[Annotated[str, AfterValidator(_protected)], ...], Field(strict=False)] = (
        "127.0.0.0/8",
        "::1",
    )
    """Networks and entities that no ban may touch: own relays, loopback."""


def _zone(text: str) -> str:
    zone, _, codes = text.partition("=")
    if not re.fullmatch(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})\.)+[A-Za-z0-9-]{1,63}", zone) or not re.fullmatch(
        r"[0-9.,\[\]-]*", codes
    ):
        raise ValueError(
            f'"{text}" is no DNS list: write "zen.example.org", or "zen.example.org=127.0.0.2,127.0.0.4-11"'
        )
    return text


class LookupSettings(Table):
    """``[lookups]``: facts from outside."""

    nameservers: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Addresses of DNS resolvers, ADDRESS or ADDRESS:PORT; empty takes the machine's (/etc/resolv.conf)."""
    deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 3.0
    """How long an event waits for all look-ups together; what has not come by then is "temperror"."""
    dnsbl: Annotated[tuple[Annotated[str, AfterValidator(_zone)], ...], Field(strict=False, max_length=20)] = ()
    """DNS lists to ask about clients, ZONE or ZONE=CODES, such as "zen.example.org=127.0.0.2,127.0.0.4-11"."""
    asn_table: str = ""
    """File with the networks of the world, made by ``reputon asn build``; empty: no ASN and no country is known."""
    max_cached: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """Answers that are remembered at once."""


class ListSettings(Table):
    """``[[list]]``: values that rules ask for; "allow" and "block" have their meaning by themselves."""

    name: Annotated[str, spelled(r"[a-z0-9-]{1,40}", "write 1 to 40 lower-case letters, digits and hyphens")]
    """The name that rules ask for: 'when = "\"vip\" in lists"'. Several lists may have one name: they are one."""
    of: Annotated[str, AfterValidator(_listed)]
    """What the values are: a dimension, such as "sender_domain", or several joined by "+"."""
    values: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """The values themselves."""
    file: str = ""
    """A text file with one value a line, "#" begins a comment; read again when it changes."""
    redis_set: str = ""
    """The name of a set in the store, read again and again; as it is, without the prefix."""


class PythonSettings(Table):
    """``[[python]]``: policies in Python."""

    file: str
    """A Python file; its functions that are marked with `reputation.python_policies.at` are asked."""
    deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 0.05
    """How long one function may take; then it has no opinion."""
    mode: Annotated[Mode, Field(strict=False)] = Mode.ENFORCE
    """shadow only counts and logs what enforce would do."""


class LogSettings(Table):
    """``[log]``."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"
    """text: one line of key=value; json: one object a line, with the names of the Elastic Common Schema."""


class Settings(Table):
    """The whole configuration."""

    include: Annotated[tuple[str, ...], Field(strict=False)] = ()
    """Policy files, whose rules stand before those of this file: paths from here, with * for any name, or "default"."""
    change: dict[str, dict[str, Any]] = Field(default={}, frozen=True)
    """``[change.NAME]``: other settings for a rule of an included file."""
    store: StoreSettings = StoreSettings()
    keys: KeySettings = KeySettings()
    smtp: SmtpSettings = SmtpSettings()
    policy_service: PolicyServiceSettings = PolicyServiceSettings()
    api: ApiSettings = ApiSettings()
    filter_: Annotated[tuple[FilterSettings, ...], Field(strict=False, alias="filter", max_length=5)] = ()
    register_table: RegisterSettings = Field(default=RegisterSettings(), alias="register")
    lookups: LookupSettings = LookupSettings()
    log: LogSettings = LogSettings()
    list_: Annotated[tuple[ListSettings, ...], Field(strict=False, alias="list")] = ()
    python: Annotated[tuple[PythonSettings, ...], Field(strict=False)] = ()
    rule: Annotated[tuple[RuleSettings, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _check_listens(self) -> "Settings":
        smtp = self.smtp
        if not (smtp.listen or smtp.listen_submission or smtp.listen_submissions or self.policy_service.listen):
            raise ValueError("[smtp] listen: name at least 1 address to listen on")
        return self

    def policy(self, functions: tuple[PolicyFunction, ...] = ()) -> Policy:
        """The rules, compiled, and policies in Python; raises `ConfigError` that names rule and key."""
        rules = []
        for settings in self.rule:
            try:
                rules.append(settings.rule())
            except ConfigError as error:
                raise ConfigError(f'[[rule]] "{settings.name}" {error}') from None
            if Dimension.SUBJECT in settings.key and not self.keys.subject_key:
                raise ConfigError(f'[[rule]] "{settings.name}" key: counting subjects needs keys.subject_key')
        for name, inquiry in [*((it.name, it.inquiry) for it in rules), *((it.name, it.inquiry) for it in functions)]:
            if missing := sorted(inquiry.rests_on - set(self.keys.tracked)):
                raise ConfigError(f'[[rule]] "{name}" asks for what is not counted: add {missing[0]} to keys.tracked')
        tracked = frozenset(self.keys.tracked)
        return Policy(rules=tuple(rules), tracked=tracked, functions=functions, always=self._always_looked_up())

    def _always_looked_up(self) -> dict[Stage, frozenset[Lookup]]:
        """What is found out about every message, whether or not a rule asks for it."""
        results = {Lookup.IPREV, Lookup.SPF, Lookup.DKIM, Lookup.DMARC, Lookup.ARC}
        proofs = {Lookup.SPF, Lookup.DMARC}  # whose a message is that a filter's verdict is evidence about
        wanted = results if self.smtp.authentication_results else set()
        wanted |= ({Lookup.FILTER} if self.filter_ else set()) | (
            proofs if any(it.learn for it in self.filter_) else set()
        )
        return {Stage.DATA: frozenset(wanted)} if wanted else {}

    def never_ban(self) -> tuple[Target, ...]:
        """What must not be banned."""
        return tuple(parse_protected(text, self.spelling()) for text in self.register_table.never_ban)

    def spelling(self) -> Spelling:
        """How addresses become ids."""
        return Spelling(subaddress_separator=self.keys.subaddress_separator, subject_key=self.keys.subject_key.encode())


def quickstart_path() -> Path:
    """The configuration of the quick start: of the checkout, or the copy in the installed package."""
    package = Path(__file__).parent
    installed = package / "quickstart.toml"
    return installed if installed.exists() else package.parent / "deploy" / "quickstart.toml"


def effective(settings: Settings) -> dict[str, Any]:
    """The configuration in force, defaults included, as plain values without its secrets."""
    tables = settings.model_dump(mode="json", by_alias=True)
    tables["store"]["url"] = without_password(settings.store.url)
    if settings.keys.subject_key:
        tables["keys"]["subject_key"] = "***"
    if settings.smtp.auth is not None and settings.smtp.auth.ldap_bind_password:
        tables["smtp"]["auth"]["ldap_bind_password"] = "***"  # noqa: S105 - it stands for one
    for table in tables["filter"]:
        table["password"] = table["password"] and "***"
    return tables


def effective_lines(settings: Settings) -> Iterator[str]:
    """The configuration in force as TOML, line by line, without its secrets.

    >>> next(line for line in effective_lines(Settings()) if line.startswith("prefix"))
    'prefix = "rp"'
    """
    tables = effective(settings)
    rules = tables.pop("rule")
    del tables["include"], tables["change"]  # what has come of them is among the rules
    arrays = {**{name: tables.pop(name) for name in ("filter", "list", "python")}, "rule": rules}
    for table, name in (("smtp", "tls"), ("smtp", "auth"), ("smtp", "services"), ("api", "tls")):
        if inner := tables[table].pop(name):
            tables[f"{table}.{name}"] = inner
    named = [(f"[{name}]", table) for name, table in tables.items()]
    for name, table in (*named, *((f"[[{name}]]", each) for name, found in arrays.items() for each in found)):
        yield name
        # JSON's strings, numbers and arrays are TOML's, too.
        yield from (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in table.items())


def doubts(settings: Settings) -> Iterator[str]:
    """What can be used, and is hardly what somebody wants."""
    if not settings.rule and not settings.python:
        yield 'there is no rule, so nothing is limited: include = ["default"] takes those that come with reputon'
    smtp = settings.smtp
    if smtp.auth is not None and not (smtp.listen_submission or smtp.listen_submissions):
        yield "[smtp.auth] is there, and nobody is asked for a password: name listen_submission or listen_submissions"
    named = {rule.service for rule in settings.rule}
    for service in smtp.services if not settings.python else ():
        if service not in named:
            there = ", ".join(sorted(named - {""})) or "none"
            yield f"[smtp.services] {service}: no rule puts a message in this class; there are: {there}"


def without_password(url: str) -> str:
    """`url` with its password replaced.

    >>> without_password("redis://app:s3cret@db.example:6379/0")
    'redis://app:***@db.example:6379/0'
    """
    url = re.sub(r"(//[^:@/]*:).*@", r"\1***@", url)
    return re.sub(r"([?&]password=)[^&#]*", r"\1***", url)
