"""What is told of entities: who has the most, and all about one. See `reputation.desk.documents`."""

from dataclasses import dataclass

# Who has the most


@dataclass(frozen=True, slots=True, kw_only=True)
class TopRow:
    """One of those with the most."""

    entity: str
    """``DIMENSION:VALUE``."""
    count: int
    banned: bool = False
    """Whether the register refuses it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """Who has the most of a metric in a window, the most first."""

    dimension: str
    metric: str
    window: str
    """5m, 1h or 1d."""
    at: float | None
    """The moment that was asked about; null for now, and then the counts are exact."""
    rows: tuple[TopRow, ...]


# One entity


@dataclass(frozen=True, slots=True, kw_only=True)
class Next:
    """What its next event would get."""

    action: str
    reason: str
    rule: str = ""
    entry: str = ""
    reply: str = ""
    retry_after_seconds: float = 0.0
    would: tuple[str, ...] = ()
    """Rules in shadow mode that would act."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow:
    """A ban, an override or a place on a list."""

    id: str
    kind: str
    """ban, override or list."""
    target: str
    author: str
    reason: str
    created_at: float
    expires_at: float | None
    """null: never."""
    action: str = ""
    """Of a ban."""
    rule: str = ""
    """Of an override."""
    limits: tuple[str, ...] = ()
    """Of an override."""
    list: str = ""
    """The list's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleReading:
    """A rule's count of the entity, against its limit."""

    rule: str
    metric: str
    count: int
    limit: str
    remaining: int
    retry_after_seconds: float
    when: str = ""
    """Which events the rule is about; empty for all."""
    mode: str = ""
    action: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """One step from the broad to the narrow, on the way to a reputation."""

    entity: str
    good: float
    bad: float
    good_lately: float
    bad_lately: float
    prior: float
    posterior: float
    confidence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Reputation:
    """0 good to 1 bad, with what it rests on."""

    score: float
    confidence: float
    active_now: float
    repeat_offender: float
    base: float
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """What is counted of it in a window."""

    metric: str
    window: str
    count: int
    rule: str = ""
    """The rule that counts for itself; empty for the entity's own count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Distinct:
    """About how many different ones a user has had to do with."""

    of: str
    """A dimension."""
    last_hour: int
    last_day: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictLine:
    """One verdict of the live stream."""

    id: str
    """Its place in the stream; later ones are greater, of the same length or longer."""
    at: float
    node: str
    """Host and process that judged."""
    stage: str
    action: str
    reason: str
    rule: str = ""
    entry: str = ""
    retry_after_seconds: float = 0.0
    delay_seconds: float = 0.0
    tags: tuple[str, ...] = ()
    service: str = ""
    fired: tuple[str, ...] = ()
    would: tuple[str, ...] = ()
    client: str = ""
    asn: int = 0
    country: str = ""
    helo: str = ""
    user: str = ""
    sender: str = ""
    """The envelope sender as it is counted; empty for bounces."""
    recipients: tuple[str, ...] = ()
    """The first few."""
    recipient_count: int = 0
    message_bytes: int = 0
    session: str = ""
    entities: tuple[str, ...] = ()
    """All entities of the event."""
    finding: str = ""
    """The count that decided, in words; empty when none did."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """How an entity stands."""

    entity: str
    next: Next
    register: tuple[EntryRow, ...]
    rules: tuple[RuleReading, ...]
    reputation: Reputation | None
    counts: tuple[Count, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntityPage(Explained):
    """All that is known of an entity."""

    distinct: tuple[Distinct, ...] = ()
    """Of users only."""
    recent: tuple[VerdictLine, ...] = ()
    """Its latest verdicts, the latest first, as far as the live stream remembers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """Units in a stretch of time."""

    start: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesRow:
    """One window of one counter over time, oldest first."""

    metric: str
    window: str
    rule: str
    count: int
    bucket_seconds: float
    buckets: tuple[Bucket, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EntitySeries:
    """All counters of an entity over time."""

    entity: str
    series: tuple[SeriesRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was erased of an entity."""

    entity: str
    counters: int
    """Keys of the store, those shared with others included."""
    verdicts: int
    """Lines of the live stream."""
    entries: tuple[str, ...] = ()
    """Bans, overrides and lists that still name it: they are lifted one by one."""
