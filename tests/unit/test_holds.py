"""Holds: whom a rule refuses is banned for a while, everywhere, and released by an operator or by time."""

import asyncio
import logging

import pytest

from reputation.clock import ManualClock
from reputation.contracts import MAX_REGISTERED
from reputation.engine import Engine
from reputation.entries import MAX_REASON_LENGTH, Target
from reputation.errors import ConfigError, StoreUnavailable
from reputation.events import Stage
from reputation.holds import held
from reputation.keys import Dimension, Entity, Metric
from reputation.policy import Policy
from reputation.rules import Mode, OnStoreFailure, Rule
from reputation.store.memory import MemoryStore
from reputation.verdict import Action, Finding, Reason
from reputation.windows import Limit, Reading
from tests.builders import connect, mail, rule
from tests.clocked_store import MIDNIGHT, ClockedStore
from tests.entries_for_tests import ban, target

HOUR = 3_600.0
HOLDING = rule("burst", key=(Dimension.IP,), limits=("2/1m",), action=Action.REJECT, hold_seconds=HOUR)
ID = "ban|ip:192.0.2.1"


def finding(entity: Entity, count: int = 3) -> Finding:
    limit = Limit.parse("2/1m")
    reading = Reading(window=limit.window, count=count, limit=limit, retry_after_seconds=30.0)
    return Finding(rule="burst", entity=entity, metric=Metric.MESSAGES, reading=reading)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(MIDNIGHT)


@pytest.fixture
def store(clock: ManualClock) -> ClockedStore:
    return ClockedStore(clock)


def engine_of(store: ClockedStore, *rules: Rule, never_ban: tuple[Target, ...] = ()) -> Engine:
    policy = Policy(rules=rules, tracked=frozenset())
    return Engine(policy=policy, store=store, clock=store.clock, never_ban=never_ban, fallback=MemoryStore())


def holds(engine: Engine, result: str) -> float:
    return engine.metrics.registry.get_sample_value("reputon_holds_total", {"rule": "burst", "result": result}) or 0.0


async def refused(engine: Engine) -> None:
    """Somebody goes over the limit of `HOLDING`."""
    verdicts = [await engine.judge(mail()) for _ in range(3)]
    assert [verdict.denied for verdict in verdicts] == [False, False, True]
    assert (verdicts[-1].reason, verdicts[-1].rule) == (Reason.OVER_LIMIT, "burst"), "of his own event the rule tells"


# --- the ban


def test_a_hold_is_a_ban_signed_by_its_rule_with_the_evidence() -> None:
    entry = held(HOLDING, finding(Entity("ip", "192.0.2.1")), 1_000.0)
    assert (entry.id, entry.action, entry.author) == (ID, Action.REJECT, "rule burst")
    assert entry.reason == "ip:192.0.2.1 has 3 messages of 2/1m allowed by burst"
    assert (entry.created_at, entry.expires_at) == (1_000.0, 1_000.0 + HOUR)


@pytest.mark.parametrize(
    "entity",
    [
        Entity("user", "x" * 200),
        Entity("ip+sender", "192.0.2.1," + "~" + "0" * 32),
        Entity("subject", "0" * 32),
        Entity("prefix", "2001:db8::/48"),
    ],
)
def test_whatever_a_rule_counts_can_be_held(entity: Entity) -> None:
    long_name = rule("r" * 64, key=(Dimension.IP,), hold_seconds=HOUR)
    entry = held(long_name, finding(entity, count=10**15), 1_000.0)
    assert len(entry.reason) <= MAX_REASON_LENGTH


# --- rules that hold


@pytest.mark.parametrize("action", [Action.TAG, Action.TARPIT, Action.ACCEPT, Action.THROTTLE])
def test_only_what_refuses_for_a_while_can_hold(action: Action) -> None:
    with pytest.raises(ConfigError, match="hold_seconds: only for limits whose action is tempfail, reject or discard"):
        rule(action=action, hold_seconds=HOUR)


def test_a_rule_without_limits_has_nobody_to_hold() -> None:
    with pytest.raises(ConfigError, match="hold_seconds: only for limits"):
        Rule(name="odd", stage=Stage.MAIL, when="!tls", action=Action.REJECT, hold_seconds=HOUR)


# --- on the main path


@pytest.mark.parametrize("action", [Action.REJECT, Action.TEMPFAIL, Action.DISCARD])
async def test_who_was_refused_is_refused_from_memory_on_every_process(store: ClockedStore, action: Action) -> None:
    rules = (rule("burst", key=(Dimension.IP,), limits=("2/1m",), action=action, hold_seconds=HOUR),)
    here, there = engine_of(store, *rules), engine_of(store, *rules)
    await refused(here)
    await there.registrar.refresh()
    store.asked.clear()
    for engine in (here, there):
        verdict = await engine.judge(mail("somebody@else.example"))
        assert (verdict.action, verdict.reason, verdict.entry) == (action, Reason.BANNED, ID)
    assert store.asked == [], "it costs no round trip"
    [entry] = there.registrar.register.entries
    assert entry.author == "rule burst"
    assert holds(here, "held") == 1
    assert holds(there, "held") == 0
    [line] = await there.registrar.audit(9)
    assert (line.what, line.id, line.author) == ("put", ID, "rule burst")


async def test_only_whom_the_rule_counts_is_held(store: ClockedStore) -> None:
    engine = engine_of(store, HOLDING)
    await refused(engine)
    assert not (await engine.judge(mail(client="192.0.2.2"))).denied


async def test_a_hold_ends_by_itself(store: ClockedStore, clock: ManualClock) -> None:
    engine = engine_of(store, HOLDING)
    await refused(engine)
    clock.advance(HOUR - 1)
    assert (await engine.judge(mail())).reason is Reason.BANNED
    clock.advance(1)
    assert not (await engine.judge(mail())).denied


async def test_whom_an_operator_releases_passes_where_there_is_room_again(
    store: ClockedStore, clock: ManualClock
) -> None:
    here, there = engine_of(store, HOLDING), engine_of(store, HOLDING)
    await refused(here)
    clock.advance(120)
    assert await there.registrar.lift(ID, author="bob", reason="a newsletter")
    await here.registrar.refresh()
    assert not (await here.judge(mail())).denied


async def test_without_hold_seconds_and_in_shadow_nobody_is_held(store: ClockedStore) -> None:
    limit = rule("plain", key=(Dimension.IP,), limits=("1/1m",), action=Action.REJECT)
    shadow = rule(
        "burst", key=(Dimension.IP,), limits=("1/1m",), action=Action.REJECT, hold_seconds=HOUR, mode=Mode.SHADOW
    )
    engine = engine_of(store, limit, shadow)
    for _ in range(4):
        await engine.judge(mail())
    assert engine.registrar.register.entries == ()


async def test_pitfall_20_who_must_never_be_banned_is_refused_by_the_rule_alone(
    store: ClockedStore, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(store, HOLDING, never_ban=(target("ip:192.0.2.0/24"),))
    with caplog.at_level(logging.DEBUG, "reputon.engine"):
        await refused(engine)
    assert engine.registrar.register.entries == ()
    assert holds(engine, "refused") == 1
    [line] = [record.message for record in caplog.records if record.message.startswith("not held")]
    assert '"ip:192.0.2.1" touches "ip:192.0.2.0/24", which is never banned' in line
    assert (await engine.judge(mail())).reason is Reason.OVER_LIMIT


async def test_a_hold_that_cannot_be_put_down_leaves_the_verdict_as_it_is(store: ClockedStore) -> None:
    engine = engine_of(store, HOLDING)
    for number in range(MAX_REGISTERED):
        store._entries[f"ban|user:{number}"] = "{}"
    await refused(engine)
    labels = {"call": "hold", "error": "StoreMisuse"}
    assert engine.metrics.registry.get_sample_value("reputon_store_failures_total", labels) == 1
    assert holds(engine, "held") == 0
    store._entries.clear()
    assert (await engine.judge(mail())).reason is Reason.OVER_LIMIT
    assert holds(engine, "held") == 1, "the next refusal tries again"


async def test_an_operator_s_ban_is_not_replaced_by_a_shorter_one(store: ClockedStore) -> None:
    """What is to be discarded passes at connect, where there is nothing to discard yet, and is counted."""
    one_rule = rule(
        "burst", connect(), key=(Dimension.IP,), count=Metric.CONNECTIONS, limits=("1/1m",), hold_seconds=HOUR
    )
    engine = engine_of(store, one_rule)
    theirs = ban("ip:192.0.2.1", Action.DISCARD)
    await engine.registrar.put(theirs)
    verdicts = [await engine.judge(connect()) for _ in range(3)]
    assert verdicts[-1].rule == "burst"
    assert engine.registrar.register.entries == (theirs,)


async def test_pitfall_31_of_many_that_are_refused_at_once_one_puts_the_ban_down(store: ClockedStore) -> None:
    """One entry, one line of the audit, one notification."""
    engine = engine_of(store, HOLDING)
    await asyncio.gather(*(engine.judge(mail(f"{number}@example.com")) for number in range(50)))
    assert holds(engine, "held") == 1
    assert len(await engine.registrar.audit(9)) == 1
    await engine.registrar.lift(ID, author="bob", reason="a mistake")
    assert (await engine.judge(mail())).reason is Reason.OVER_LIMIT
    assert holds(engine, "held") == 2, "it is free to do so again"


async def test_a_refusal_by_a_guessed_share_of_the_limit_holds_nobody(store: ClockedStore) -> None:
    """Counting locally is what a process does without the counters; a part of a cluster may still take bans."""
    guess = rule(
        "burst",
        key=(Dimension.IP,),
        limits=("2/1m",),
        action=Action.REJECT,
        hold_seconds=HOUR,
        on_store_failure=OnStoreFailure.LOCAL,
    )
    engine = engine_of(store, guess)
    engine.upkeep.live = 9
    store.away = frozenset({"ip"})
    verdicts = [await engine.judge(mail()) for _ in range(3)]
    assert verdicts[-1].action is Action.TEMPFAIL
    assert engine.registrar.register.entries == ()


async def test_the_log_tells_who_is_held_why_and_how_to_let_go(
    store: ClockedStore, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of(store, HOLDING)
    with caplog.at_level(logging.WARNING, "reputon.engine"):
        await refused(engine)
    assert [record.message for record in caplog.records] == [
        "held for 3600 s: ip:192.0.2.1 has 2 messages of 2/1m allowed by burst; to let go: reputon release ip:192.0.2.1"
    ]


async def test_a_hold_without_the_store_is_no_hold(store: ClockedStore) -> None:
    engine = engine_of(store, HOLDING)
    await engine.judge(mail())
    store.trouble = StoreUnavailable("away")
    assert (await engine.judge(mail())).reason is Reason.STORE_UNAVAILABLE
    assert engine.registrar.register.entries == ()
