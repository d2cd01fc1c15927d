"""What the abuse desk is told and tells: frozen values that are JSON as they are, field by field.

Times are seconds since the epoch, by the store's clock. An entity is written as ``DIMENSION:VALUE``. Text may hold
whatever a stranger sent: who shows it escapes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from reputation.desk.entity_documents import (
    Bucket,
    Count,
    Distinct,
    EntityPage,
    EntitySeries,
    EntryRow,
    Explained,
    Forgotten,
    Level,
    Next,
    Reputation,
    RuleReading,
    SeriesRow,
    Top,
    TopRow,
    VerdictLine,
)

__all__ = [
    "ActionCount",
    "Audit",
    "AuditRow",
    "Bucket",
    "CaseFile",
    "Count",
    "Distinct",
    "EntityPage",
    "EntitySeries",
    "EntryRow",
    "EntryRows",
    "Explained",
    "Forgotten",
    "Level",
    "MadeToken",
    "NewEntry",
    "NewToken",
    "Next",
    "OutcomeReport",
    "OutcomeResult",
    "OutcomeResults",
    "Overview",
    "Released",
    "Reloaded",
    "Reputation",
    "RuleReading",
    "RuleRow",
    "Rules",
    "SeriesRow",
    "StoreHealth",
    "Suspect",
    "Suspects",
    "Tally",
    "TokenRow",
    "TokenRows",
    "Top",
    "TopRow",
    "VerdictLine",
    "WouldDo",
    "WouldRow",
]


# What operators put down


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEntry:
    """A ban, an override or a place on a list, to be put down."""

    kind: str
    """ban, override or list."""
    target: str
    reason: str
    expires_in_seconds: float | None = None
    """null: never."""
    action: str = "reject"
    """Of a ban."""
    rule: str = ""
    """Of an override."""
    limits: tuple[str, ...] = ()
    """Of an override, such as ``100/1h``."""
    list: str = ""
    """The list's name: allow, block, or one that rules ask for."""
    wide: bool = False
    """Whether so much is meant: a large network, or a whole class, country, ASN or domain of recipients."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRows:
    """Some entries, in the order of their ids."""

    entries: tuple[EntryRow, ...]
    total: int
    """How many fit what was asked for, on all pages."""
    next: str | None = None
    """What `after` is for the next page; null on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """One thing that was done."""

    at: float
    what: str
    """put, lift, expired, forget, reload, ..."""
    id: str
    author: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What was done lately, the latest first."""

    lines: tuple[AuditRow, ...]


# Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How often a rule acted, or would have."""

    last_5m: int
    last_1h: int
    last_1d: int
    last_at: float | None
    """null: never, as far as is remembered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleRow:
    """A rule in force, and how often it has acted on the whole fleet."""

    rule: str
    stage: str
    mode: str
    """shadow or enforce."""
    hits: Tally
    would_hit: Tally
    action: str = ""
    when: str = ""
    key: tuple[str, ...] = ()
    count: str = ""
    limits: tuple[str, ...] = ()
    on_store_failure: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules in force in the process that answers, in their order."""

    rules: tuple[RuleRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldRow:
    """Somebody whom a rule in shadow mode would have acted upon."""

    entity: str
    verdicts: int
    accepted: int
    """Of these verdicts, those that let the event pass: which enforcing the rule would change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WouldDo:
    """What a rule in shadow mode would have done, by the verdicts that the live stream remembers."""

    rule: str
    since: float | None
    """How far back the stream goes; null when there is nothing in it."""
    verdicts: int
    changed: int
    """Of these, those that were accepted: which enforcing would change."""
    rows: tuple[WouldRow, ...]
    """The most affected first: whom the rule counts; where that is nobody, users, or else senders, or else clients."""
    recent: tuple[VerdictLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The rules that every process is told to read anew."""

    rules: int
    """In the file as the process that answers has read it."""


# How the site is


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHealth:
    """How the counter store is."""

    up: bool
    whole: bool
    """Whether all its servers answer."""
    name: str
    """Name and version, or why it is away."""
    url: str
    """Without its password."""
    answer_ms: float | None
    """How long one answer took just now."""
    processes: int
    """Live processes of the fleet, as last heard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCount:
    """How often an action was the verdict, on the whole fleet."""

    action: str
    last_5m: int
    last_1h: int
    last_1d: int
    buckets: tuple[Bucket, ...] = ()
    """Of the last hour, oldest first; each as long as the next one's start says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """The site at a glance."""

    at: float
    store: StoreHealth
    actions: tuple[ActionCount, ...]
    """All actions, the gentlest first; empty while the store is away."""
    rules: tuple[RuleRow, ...]
    """Those that have acted or would have in the last day, the busiest first."""
    bans: int
    overrides: int
    lists: int


# Suspects


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """Somebody whom a rule holds."""

    entity: str
    rule: str
    since: float
    until: float | None
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspects:
    """Some who are held, the latest first."""

    suspects: tuple[Suspect, ...]
    total: int = 0
    """How many are held, on all pages."""
    next: str | None = None
    """What `after` is for the next page; null on the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFile:
    """Why somebody is suspected, and all that is known of him."""

    suspect: Suspect | None
    """null for who is not held."""
    page: EntityPage
    first_seen: float | None = None
    """Of its verdicts that the live stream remembers, as all of these."""
    last_seen: float | None = None
    clients: Mapping[str, int] = field(default_factory=dict)
    """Address -> verdicts."""
    asns: Mapping[str, int] = field(default_factory=dict)
    countries: Mapping[str, int] = field(default_factory=dict)
    recipients: Mapping[str, int] = field(default_factory=dict)
    actions: Mapping[str, int] = field(default_factory=dict)
    advice: tuple[str, ...] = ()
    """What to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """The entries that were lifted."""

    lifted: tuple[EntryRow, ...]


# Outcomes


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeReport:
    """What somebody learned later about a message. Name as much of its envelope as is known."""

    kind: str
    """spam, ham, malware, fraud, abusive, bounce, complaint, junk, trap, unknown-recipient, auth-failed."""
    client: str = ""
    """The address that it came from."""
    sender: str = ""
    recipient: str = ""
    user: str = ""
    author: str = ""
    """The address in its From field."""
    helo: str = ""
    subject: str = ""
    sender_proven: bool = False
    """Whether the sender is known to have sent it (SPF, DKIM or a log-in); if not, it is not about him."""
    author_proven: bool = False
    key: str = ""
    """Names the report: told twice, it is counted once. Empty: counted each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeResult:
    """What became of a report."""

    status: str
    """counted, duplicate, or partly: some servers of the store were away, and told again it would count twice."""
    entities: tuple[str, ...] = ()
    """Whom it was counted against, or for."""
    key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeResults:
    """In the order of the reports."""

    results: tuple[OutcomeResult, ...]


# Tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """A token, without its secret."""

    token_id: str
    name: str
    scopes: tuple[str, ...]
    author: str
    reason: str
    created_at: float
    expires_at: float | None
    requests_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRows:
    """All tokens."""

    tokens: tuple[TokenRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to be made."""

    name: str
    scopes: tuple[str, ...]
    reason: str = "made by hand"
    expires_in_seconds: float | None = None
    requests_per_second: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeToken:
    """A token, with its text: it is shown this once."""

    token: str
    row: TokenRow
