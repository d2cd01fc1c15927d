"""What the engine knows, as the documents of the desk: pure translations, and who is asked for them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import fields

from reputation.bookkeeping import SKETCHED, TRACKED_WINDOWS, counted_of
from reputation.contracts import Series, Store
from reputation.desk.contract import MAX_TOP
from reputation.desk.documents import (
    Bucket,
    Count,
    Distinct,
    EntityPage,
    EntitySeries,
    EntryRow,
    Explained,
    Level,
    Next,
    Reputation,
    RuleReading,
    SeriesRow,
    Top,
    TopRow,
    VerdictLine,
)
from reputation.engine import Engine
from reputation.entries import Ban, Entry, Listing, Override, spelled
from reputation.errors import ConfigError, NothingThere
from reputation.explanation import Explanation
from reputation.keys import Dimension, Entity, Key, distinct, parse_entity
from reputation.standing import Standing
from reputation.verdict import Finding, Verdict
from reputation.windows import Window

WINDOWS: Mapping[str, Window] = dict(zip(("5m", "1h", "1d"), TRACKED_WINDOWS, strict=True))
"""By the names that operators ask for."""
_NAMES = {window: name for name, window in WINDOWS.items()}
MAX_AGO_SECONDS = 49 * 3_600.0
"""How long leaderboards are kept."""
SKETCHED_OF = {
    dimension: tuple(dict.fromkeys(of for table in SKETCHED.values() for of in table.get(dimension, ())))
    for dimension in {each for table in SKETCHED.values() for each in table}
}
"""Of whose entities different values of which dimensions are estimated."""
DIGITS = 4


def window_of(name: str) -> Window:
    """The window of a name; raises `ConfigError`."""
    if name not in WINDOWS:
        raise ConfigError(f'window: "{name:.40}" is none of {", ".join(WINDOWS)}')
    return WINDOWS[name]


def name_of(window: Window) -> str:
    """Its name, or how its length is written."""
    return _NAMES.get(window, str(window))


# Who has the most


async def top_of(engine: Engine, dimension: str, metric: str, window: str, *, n: int, at: float | None) -> Top:
    """Raises `ConfigError` for what is not counted, `StoreError`."""
    if dimension not in set(Dimension):
        raise ConfigError(f'dimension: "{dimension:.40}" is none of {", ".join(Dimension)}')
    counted = counted_of(Dimension(dimension))
    if metric not in counted:
        which = f"of {dimension} is counted: {', '.join(sorted(counted))}" if counted else f"nothing of {dimension} is"
        raise ConfigError(f'metric: "{metric:.40}" is not counted; {which}')
    if not 1 <= n <= MAX_TOP:
        raise ConfigError(f"n: from 1 to {MAX_TOP}")
    if at is not None and not engine.now - MAX_AGO_SECONDS <= at <= engine.now + 60:
        raise ConfigError("at: a time of the last two days, in seconds since the epoch")
    rows = await engine.top(dimension, metric, window_of(window), n, at=at)
    register, now = engine.registrar.register, engine.now
    return Top(
        dimension=dimension,
        metric=metric,
        window=window,
        at=at,
        rows=tuple(
            TopRow(entity=str(entity), count=count, banned=register.standing_of(entity, now).ban is not None)
            for entity, count in rows
        ),
    )


# One entity


async def explained(engine: Engine, entity: Entity) -> Explained:
    """How an entity stands. Raises `StoreError`."""
    return explained_of(engine, await engine.explain(entity))


async def page_of(engine: Engine, entity: Entity, recent: Sequence[VerdictLine]) -> EntityPage:
    """All that is known of an entity, with its latest verdicts. Raises `StoreError`."""
    explanation, sketched = await asyncio.gather(engine.explain(entity), _distinct(engine.store, entity))
    shown = explained_of(engine, explanation)
    parts = {each.name: getattr(shown, each.name) for each in fields(Explained)}
    return EntityPage(**parts, distinct=sketched, recent=tuple(recent))


def explained_of(engine: Engine, explanation: Explanation) -> Explained:
    """An explanation as a document."""
    return Explained(
        entity=str(explanation.entity),
        next=_next(explanation.verdict),
        register=tuple(map(entry_row, explanation.entries)),
        rules=tuple(_reading(engine, explanation, finding) for finding in explanation.verdict.findings),
        reputation=_reputation(explanation.reputation),
        counts=tuple(
            Count(metric=row.key.metric, window=name_of(row.window), count=row.count, rule=row.scope)
            for row in explanation.series
        ),
    )


async def _distinct(store: Store, entity: Entity) -> tuple[Distinct, ...]:
    sketched = SKETCHED_OF.get(Dimension(entity.dimension), ()) if "+" not in entity.dimension else ()
    keys = [Key(entity, distinct(of)) for of in sketched]
    found = await asyncio.gather(*(store.sketches([key]) for key in keys))
    return tuple(
        Distinct(of=of, last_hour=sketch.last_hour, last_day=sketch.last_day)
        for of, (sketch,) in zip(sketched, found, strict=True)
    )


def _next(verdict: Verdict) -> Next:
    return Next(
        action=verdict.action,
        reason=verdict.reason,
        rule=verdict.rule,
        entry=verdict.entry,
        reply=verdict.reply,
        retry_after_seconds=verdict.retry_after_seconds,
        would=verdict.would,
    )


def entry_row(entry: Entry) -> EntryRow:
    """An entry of the register as a document."""
    kind, _, _ = entry.id.partition("|")
    return EntryRow(
        id=entry.id,
        kind=kind,
        target=spelled(entry.target),
        author=entry.author,
        reason=entry.reason,
        created_at=entry.created_at,
        expires_at=entry.expires_at,
        action=entry.action if isinstance(entry, Ban) else "",
        rule=entry.rule if isinstance(entry, Override) else "",
        limits=tuple(map(str, entry.limits)) if isinstance(entry, Override) else (),
        list=entry.list if isinstance(entry, Listing) else "",
    )


def _reading(engine: Engine, explanation: Explanation, finding: Finding) -> RuleReading:
    reading, rule = finding.reading, engine.policy.named.get(finding.rule)
    return RuleReading(
        rule=finding.rule,
        metric=finding.metric,
        count=reading.count,
        limit=finding.limit,
        remaining=reading.remaining or 0,
        retry_after_seconds=reading.retry_after_seconds,
        when=explanation.conditions.get(finding.rule, ""),
        mode=rule.mode if rule is not None else "",
        action=rule.action if rule is not None else "",
    )


def _reputation(standing: Standing | None) -> Reputation | None:
    if standing is None:
        return None
    levels = [
        Level(
            entity=str(level.entity),
            good=round(level.long.good, 3),
            bad=round(level.long.bad, 3),
            good_lately=round(level.short.good, 3),
            bad_lately=round(level.short.bad, 3),
            prior=round(level.prior, DIGITS),
            posterior=round(level.posterior, DIGITS),
            confidence=round(level.confidence, DIGITS),
        )
        for level in standing.levels
    ]
    return Reputation(
        score=round(standing.score, DIGITS),
        confidence=round(standing.confidence, DIGITS),
        active_now=round(standing.active_now, DIGITS),
        repeat_offender=round(standing.repeat_offender, DIGITS),
        base=round(standing.base, DIGITS),
        levels=tuple(levels),
    )


async def series_of(store: Store, entity: Entity) -> EntitySeries:
    """Its counters over time. Raises `StoreError`."""
    return EntitySeries(entity=str(entity), series=tuple(map(_series_row, await store.series(entity))))


def _series_row(row: Series) -> SeriesRow:
    return SeriesRow(
        metric=row.key.metric,
        window=name_of(row.window),
        rule=row.scope,
        count=row.count,
        bucket_seconds=row.window.bucket_us / 1e6,
        buckets=buckets_of(row),
    )


def buckets_of(row: Series) -> tuple[Bucket, ...]:
    """The stretches of a series, oldest first."""
    return tuple(Bucket(start=start, count=count) for start, count in row.buckets)


# Names


def named_entity(engine: Engine, text: str) -> Entity:
    """The entity that a text names; raises `EntityError`."""
    return parse_entity(text, engine.spelling)


def named_rule(engine: Engine, name: str) -> str:
    """A rule in force of that name; raises `NothingThere`."""
    policy = engine.policy
    if name not in {rule.name for rule in policy.rules} | {function.name for function in policy.functions}:
        raise NothingThere(f'there is no rule "{name:.80}"; `reputon rules` shows those that are')
    return name
