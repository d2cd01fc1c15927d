"""The site at a glance, and its rules with their counts, as documents of the desk."""

import asyncio
import time
from collections.abc import Iterable, Sequence

from reputation.config import Settings, without_password
from reputation.contracts import Series
from reputation.desk.describing import WINDOWS, buckets_of
from reputation.desk.documents import ActionCount, Overview, RuleRow, Rules, StoreHealth, Tally
from reputation.engine import Engine
from reputation.errors import StoreError
from reputation.opinions import PolicyFunction
from reputation.rules import Rule
from reputation.tallies import VERDICTS, RuleTally, of_action
from reputation.tallies import Tally as CountedTally
from reputation.verdict import Action

ASKING = "asking"
BUSIEST = 10
"""Rules on the overview."""

# Rules


async def rules_of(engine: Engine) -> Rules:
    """Rules in force, with their counts. Raises `StoreError`."""
    policy = engine.policy
    each: tuple[Rule | PolicyFunction, ...] = (*policy.rules, *policy.functions)
    tallies = await engine.tallies()
    return Rules(rules=tuple(_rule_row(rule, tally) for rule, tally in zip(each, tallies, strict=True)))


def _rule_row(rule: Rule | PolicyFunction, tally: RuleTally) -> RuleRow:
    hits, would = _tally(tally.hits), _tally(tally.would)
    if not isinstance(rule, Rule):
        return RuleRow(rule=rule.name, stage=rule.stage, mode=rule.mode, hits=hits, would_hit=would)
    return RuleRow(
        rule=rule.name,
        stage=rule.stage,
        mode=rule.mode,
        hits=hits,
        would_hit=would,
        action=rule.action,
        when=rule.when,
        key=tuple(rule.key),
        count=rule.count,
        limits=tuple(str(limit) for limit in rule.limits),
        on_store_failure=rule.on_store_failure,
    )


def _tally(tally: CountedTally) -> Tally:
    last_5m, last_1h, last_1d = tally.counts
    return Tally(last_5m=last_5m, last_1h=last_1h, last_1d=last_1d, last_at=tally.last)


# How the site is


async def overview_of(engine: Engine, settings: Settings) -> Overview:
    """The site at a glance; says so where the store is away."""
    store = await _store_health(engine, settings)
    index = engine.registrar.register.index
    actions: tuple[ActionCount, ...] = ()
    busiest: tuple[RuleRow, ...] = ()
    if store.up:
        try:
            actions = await _actions(engine)
            busiest = _busiest((await rules_of(engine)).rules)
        except StoreError:  # it has gone in between, or a part of it
            actions, busiest = (), ()
    return Overview(
        at=engine.now,
        store=store,
        actions=actions,
        rules=busiest,
        bans=index.count("ban"),
        overrides=index.count("override"),
        lists=index.count("list"),
    )


async def _store_health(engine: Engine, settings: Settings) -> StoreHealth:
    started = time.monotonic()
    live = engine.upkeep.live
    try:
        name, up = await engine.store.ping(), True
        seconds = time.monotonic() - started
        live = await engine.store.beat(ASKING, 0.0)  # who only asks does not count
    except StoreError as error:
        name, up, seconds = str(error), False, 0.0
    return StoreHealth(
        up=up,
        whole=up and engine.store.whole,
        name=name,
        url=without_password(settings.store.url),
        answer_ms=round(seconds * 1e3, 3) if up else None,
        processes=live,
    )


async def _actions(engine: Engine) -> tuple[ActionCount, ...]:
    counted = await engine.upkeep.tallies.of_actions()
    series = await asyncio.gather(*(engine.store.series(of_action(action), (VERDICTS,)) for action in counted))
    return tuple(
        _action_count(action, counts, rows) for (action, counts), rows in zip(counted.items(), series, strict=True)
    )


def _action_count(action: Action, counts: Sequence[int], rows: Iterable[Series]) -> ActionCount:
    hour = next((row for row in rows if row.window == WINDOWS["1h"] and not row.scope), None)
    last_5m, last_1h, last_1d = counts
    return ActionCount(
        action=action,
        last_5m=last_5m,
        last_1h=last_1h,
        last_1d=last_1d,
        buckets=() if hour is None else buckets_of(hour),
    )


def _busiest(rules: Iterable[RuleRow]) -> tuple[RuleRow, ...]:
    def acts(row: RuleRow) -> int:
        return row.hits.last_1d + row.would_hit.last_1d

    return tuple(sorted((row for row in rules if acts(row)), key=acts, reverse=True)[:BUSIEST])
