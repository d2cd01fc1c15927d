"""Who is connected: leases of sessions, in the shared store and, while that is away, in the process' own."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from reputation.charges import Answer, Charge
from reputation.engine import Engine
from reputation.errors import StoreError, StoreUnavailable
from reputation.events import Connect, Disconnect
from reputation.keys import Dimension, Entity, Key, Metric
from reputation.leases import MAX_OF_SESSION, Leases
from reputation.metrics import Metrics
from reputation.policy import Policy
from reputation.rules import OnStoreFailure
from reputation.store.memory import MemoryStore
from reputation.upkeep import Upkeep
from reputation.verdict import Action
from reputation.windows import Window
from tests.builders import connect, lease, mail, rule

CONNECTED = rule(
    "connected",
    connect(),
    key=(Dimension.IP,),
    count=Metric.CONCURRENT,
    limits=("2/1m",),
    on_store_failure=OnStoreFailure.LOCAL,
)
SENT = rule("sent", mail(), limits=("2/1h",), on_store_failure=OnStoreFailure.LOCAL)


class AwayStore(MemoryStore):
    """A store that is away for decisions, or for some keys only."""

    def __init__(self, away_for: str = "") -> None:
        super().__init__()
        self.away = False
        self.away_for = away_for
        self.renewed: list[str] = []

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        if self.away:
            raise StoreUnavailable("away")
        return self.decide_now(charges, token=token, now_us=now_us)

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        if key.entity.id == self.away_for:
            raise StoreUnavailable(f"the server of {key.entity} is away")
        self.renewed.append(key.entity.id)
        return len(members)


def engine_of(store: AwayStore) -> tuple[Engine, MemoryStore]:
    fallback = MemoryStore()
    policy = Policy(rules=(CONNECTED, SENT), tracked=frozenset())
    return Engine(policy=policy, store=store, fallback=fallback), fallback


def arriving(id: str) -> Connect:
    return Connect(session=replace(connect().session, id=id))


def leaving(id: str) -> Disconnect:
    return Disconnect(session=replace(connect().session, id=id))


async def test_sessions_one_after_the_other_are_never_two_at_once() -> None:
    store = AwayStore()
    engine, _ = engine_of(store)
    store.away = True
    for number in range(10):
        assert (await engine.judge(arriving(f"s{number}"))).action is Action.ACCEPT
        await engine.judge(leaving(f"s{number}"))


async def test_sessions_at_once_are_counted_while_the_store_is_away() -> None:
    store = AwayStore()
    engine, _ = engine_of(store)
    store.away = True
    said = [(await engine.judge(arriving(f"s{number}"))).action for number in range(3)]
    assert said == [Action.ACCEPT, Action.ACCEPT, Action.TEMPFAIL]
    await engine.judge(leaving("s0"))
    assert (await engine.judge(arriving("s3"))).action is Action.ACCEPT


async def test_local_leases_are_prolonged_too(monkeypatch: pytest.MonkeyPatch) -> None:
    store = AwayStore()
    engine, fallback = engine_of(store)
    store.away = True
    renewed: list[str] = []

    async def renew(key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        renewed.extend(members)
        return len(members)

    monkeypatch.setattr(fallback, "renew", renew)
    await engine.judge(arriving("s0"))
    await engine.upkeep.renew()
    assert renewed == ["s0"]


async def test_what_came_to_nothing_costs_nothing_locally_either() -> None:
    store = AwayStore()
    engine, _ = engine_of(store)
    store.away = True
    for _ in range(5):
        verdict = await engine.judge(mail())
        assert (verdict.action, verdict.local) == (Action.ACCEPT, True)
        store.away = False  # it may be back by then
        await engine.refund(verdict)
        store.away = True


async def test_a_server_that_is_away_ends_the_leases_of_no_other() -> None:
    store = AwayStore(away_for="b")
    leases = Leases(store)
    for id in "abc":
        charge = lease("s1", 5, key=Key(Entity("ip", id), Metric.CONCURRENT, "r"))
        leases.hold("s1", await store.decide((charge,)))
    with pytest.raises(StoreUnavailable, match="ip:b is away"):
        await leases.renew()
    assert store.renewed == ["a", "c"]


async def test_a_session_holds_a_bounded_number_of_leases() -> None:
    store = AwayStore()
    leases = Leases(store)
    for number in range(3 * MAX_OF_SESSION):
        charge = lease("s1", 5, key=Key(Entity("sender", f"u{number}"), Metric.CONCURRENT, "r"))
        leases.hold("s1", await store.decide((charge,)))
    assert len(leases.let_go("s1")) == MAX_OF_SESSION


async def test_upkeep_goes_on_after_an_error_that_nobody_thought_of(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    upkeep, beats = Upkeep(store, Metrics()), asyncio.Event()
    answers: Iterator[Exception | int] = iter([TypeError("nonsense"), StoreError("refused"), 7])

    async def beat(process: str, lifetime_seconds: float) -> int:
        answer = next(answers, 7)
        if isinstance(answer, Exception):
            raise answer
        beats.set()
        return answer

    monkeypatch.setattr(store, "beat", beat)
    monkeypatch.setattr("reputation.upkeep.BEAT_SECONDS", 0.001)
    running = asyncio.create_task(upkeep.run())
    await asyncio.wait_for(beats.wait(), 5)
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
