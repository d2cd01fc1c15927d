"""Refusals that are remembered: for the rule that refused, for as long as it has no room, and only passing ones."""

from collections.abc import Sequence

import pytest

from reputation.charges import Answer, Charge, Charging
from reputation.clock import ManualClock
from reputation.denials import MAX_SECONDS
from reputation.engine import Engine
from reputation.keys import Dimension
from reputation.policy import Policy
from reputation.rules import Mode, Rule
from reputation.store.memory import MemoryStore
from reputation.verdict import Action
from reputation.windows import MICROSECONDS
from tests.builders import mail, rule


class TimedStore(MemoryStore):
    """A store with the clock of its engine, that counts how often it was asked."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.asked = 0
        self._clock = clock

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        self.asked += 1
        return self.decide_now(charges, token=token, now_us=round(self._clock.now() * MICROSECONDS))


def engine_of(*rules: Rule) -> tuple[Engine, TimedStore, ManualClock]:
    clock = ManualClock(1_000.0)
    store = TimedStore(clock)
    return Engine(policy=Policy(rules=rules, tracked=frozenset()), store=store, clock=clock), store, clock


BURST = rule("burst", key=(Dimension.IP,), limits=("1/1s",), action=Action.TEMPFAIL)
DAY = rule("day", limits=("1/24h",), action=Action.THROTTLE)


async def test_nobody_waits_for_the_room_of_another_rule() -> None:
    """The first is over both limits, and is told the wait of the day; his neighbour is over the burst alone."""
    engine, store, clock = engine_of(BURST, DAY)
    await engine.judge(mail("spammer@example.com"))
    refused = await engine.judge(mail("spammer@example.com"))
    assert (refused.rule, refused.retry_after_seconds > 80_000) == ("burst", True)
    asked = store.asked
    neighbour = await engine.judge(mail("neighbour@example.com"))
    assert store.asked == asked, "it is remembered"
    assert (neighbour.action, neighbour.rule) == (Action.TEMPFAIL, "burst")
    assert 1.0 < neighbour.retry_after_seconds < 1.2
    assert "try again in 2 s" in neighbour.reply
    assert ({finding.rule for finding in neighbour.findings}, neighbour.would) == ({"burst"}, ())
    clock.advance(1.2)
    assert (await engine.judge(mail("neighbour@example.com"))).action is Action.ACCEPT


@pytest.mark.parametrize("action", [Action.REJECT, Action.DISCARD])
async def test_what_is_for_good_is_asked_each_time(action: Action) -> None:
    engine, store, _ = engine_of(rule(limits=("1/1h",), action=action))
    verdicts = [await engine.judge(mail()) for _ in range(4)]
    assert [verdict.action for verdict in verdicts[1:]] == [action] * 3
    assert store.asked == 4
    await engine.refund(verdicts[0])
    assert (await engine.judge(mail())).action is Action.ACCEPT, "room that is given back is there at once"


@pytest.mark.parametrize(
    "beside",
    [
        rule("seen", limits=("1/24h",), mode=Mode.SHADOW),
        rule("marked", limits=("1/24h",), action=Action.TAG),
        rule("slowed", limits=("1/24h",), action=Action.TARPIT),
        rule("tried", limits=("99/24h",), charge=Charging.ALWAYS),
    ],
    ids=lambda beside: beside.name,
)
async def test_what_another_rule_has_to_see_is_asked_each_time(beside: Rule) -> None:
    engine, store, _ = engine_of(rule(limits=("1/1h",)), beside)
    for _ in range(4):
        await engine.judge(mail())
    assert store.asked == 4


async def test_the_wait_that_is_told_shrinks() -> None:
    engine, store, clock = engine_of(rule(limits=("1/1h",)))
    await engine.judge(mail())
    first = await engine.judge(mail())
    clock.advance(MAX_SECONDS / 2)
    again = await engine.judge(mail())
    assert store.asked == 2
    assert again.retry_after_seconds == pytest.approx(first.retry_after_seconds - MAX_SECONDS / 2)
