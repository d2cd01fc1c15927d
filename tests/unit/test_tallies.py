"""How often rules have fired: added up, told once in a while, shared by the fleet, not lost while the store is away."""

import pytest

from reputation.clock import ManualClock
from reputation.engine import Engine
from reputation.errors import StoreUnavailable
from reputation.keys import Dimension
from reputation.policy import Policy
from reputation.rules import Mode
from reputation.tallies import Tallies, Tally
from reputation.verdict import Action, Reason, Verdict
from tests.builders import mail, rule
from tests.clocked_store import MIDNIGHT, ClockedStore

NEVER = Tally(counts=(0, 0, 0), last=None)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(MIDNIGHT)


@pytest.fixture
def store(clock: ManualClock) -> ClockedStore:
    return ClockedStore(clock)


def verdict(*fired: str, would: tuple[str, ...] = ()) -> Verdict:
    return Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE, fired=fired, would=would)


async def test_what_was_told_is_counted_by_rule_and_by_whether_it_acted(store: ClockedStore) -> None:
    tallies = Tallies(store)
    for _ in range(3):
        tallies.note(verdict("a", "b", would=("shy",)))
    tallies.note(verdict("a", would=("a",)))
    await tallies.tell()
    a, b, shy, unknown = await tallies.of(["a", "b", "shy", "unknown"])
    assert (a.name, a.hits.counts, a.would.counts) == ("a", (4, 4, 4), (1, 1, 1))
    assert (b.hits.counts, b.would) == ((3, 3, 3), NEVER)
    assert (shy.hits, shy.would.counts) == (NEVER, (3, 3, 3))
    assert (unknown.hits, unknown.would) == (NEVER, NEVER)


async def test_nothing_new_is_nothing_to_tell(store: ClockedStore) -> None:
    tallies = Tallies(store)
    await tallies.tell()
    assert store.asked == []


async def test_every_verdict_is_counted_by_its_action(store: ClockedStore) -> None:
    tallies = Tallies(store)
    for action in (Action.ACCEPT, Action.ACCEPT, Action.REJECT):
        tallies.note(Verdict(action=action, reason=Reason.NO_RULE))
    await tallies.tell()
    counted = await tallies.of_actions()
    assert list(counted) == list(Action)
    assert (counted[Action.ACCEPT], counted[Action.REJECT], counted[Action.TAG]) == ((2, 2, 2), (1, 1, 1), (0, 0, 0))


async def test_what_was_told_is_not_told_again(store: ClockedStore) -> None:
    tallies = Tallies(store)
    tallies.note(verdict("a"))
    await tallies.tell()
    await tallies.tell()
    assert (await tallies.of(["a"]))[0].hits.counts == (1, 1, 1)


async def test_processes_add_up(store: ClockedStore) -> None:
    first, second = Tallies(store), Tallies(store)
    for tallies in (first, second, second):
        tallies.note(verdict("a"))
    await first.tell()
    await second.tell()
    assert (await first.of(["a"]))[0].hits.counts == (3, 3, 3)


async def test_counts_leave_their_windows_and_when_it_was_last_stays(store: ClockedStore, clock: ManualClock) -> None:
    tallies = Tallies(store)
    tallies.note(verdict("a"))
    await tallies.tell()
    clock.advance(7_200)
    tallies.note(verdict("a", would=("a",)))
    await tallies.tell()
    clock.advance(1_200)
    [of_a] = await tallies.of(["a"])
    assert of_a.hits == Tally(counts=(0, 1, 2), last=MIDNIGHT + 7_200)
    clock.advance(200 * 86_400)
    [of_a] = await tallies.of(["a"])
    assert of_a.hits == Tally(counts=(0, 0, 0), last=MIDNIGHT + 7_200)
    clock.advance(201 * 86_400)
    assert (await tallies.of(["a"]))[0].hits == NEVER


async def test_acting_and_what_would_have_been_have_each_their_last_time(
    store: ClockedStore, clock: ManualClock
) -> None:
    tallies = Tallies(store)
    tallies.note(verdict("a"))
    await tallies.tell()
    clock.advance(60)
    tallies.note(verdict(would=("a",)))
    await tallies.tell()
    [of_a] = await tallies.of(["a"])
    assert (of_a.hits.last, of_a.would.last) == (MIDNIGHT, MIDNIGHT + 60)


async def test_what_could_not_be_told_is_told_later_with_what_came_meanwhile(store: ClockedStore) -> None:
    tallies = Tallies(store)
    tallies.note(verdict("a", "b"))
    store.trouble = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        await tallies.tell()
    with pytest.raises(StoreUnavailable):
        await tallies.of(["a"])
    tallies.note(verdict("a"))
    store.trouble = None
    await tallies.tell()
    await tallies.tell()
    a, b = await tallies.of(["a", "b"])
    assert (a.hits.counts[0], b.hits.counts[0]) == (2, 1)


async def test_what_a_part_of_a_cluster_did_not_take_is_told_later_and_the_rest_is_not_told_twice(
    store: ClockedStore,
) -> None:
    tallies = Tallies(store)
    tallies.note(verdict("a", "b", would=("b",)))
    store.away = frozenset({"rule:b"})
    await tallies.tell()
    store.away = frozenset()
    a, b = await tallies.of(["a", "b"])
    assert (a.hits.counts[0], b.hits.counts[0], b.would.counts[0]) == (1, 0, 0)
    await tallies.tell()
    a, b = await tallies.of(["a", "b"])
    assert (a.hits.counts[0], b.hits.counts[0], b.would.counts[0]) == (1, 1, 1)
    await tallies.tell()
    assert (await tallies.of(["b"]))[0].hits.counts[0] == 1


async def test_of_no_rules_there_are_no_tallies(store: ClockedStore) -> None:
    assert await Tallies(store).of([]) == []


async def test_the_engine_tells_of_all_its_rules_with_and_without_limits(store: ClockedStore) -> None:
    policy = Policy(
        rules=(
            rule("once", limits=("1/1h",)),
            rule("odd", key=(), count="", limits=(), when='sender_domain == "odd.example"', action=Action.REJECT),
            rule("shy", key=(), count="", limits=(), when="!tls", action=Action.REJECT, mode=Mode.SHADOW),
            rule("unused", key=(Dimension.USER,)),
        ),
        tracked=frozenset(),
    )
    engine = Engine(policy=policy, store=store, clock=store.clock)
    for event in (mail(), mail(), mail(), mail("x@odd.example")):
        await engine.judge(event)
    await engine.upkeep.tallies.tell()
    fired = {each.name: (each.hits.counts[0], each.would.counts[0]) for each in await engine.tallies()}
    assert fired == {"once": (2, 0), "odd": (1, 0), "shy": (0, 4), "unused": (0, 0)}
