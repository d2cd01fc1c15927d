"""How far the assertions of RFC 7073 are true of somebody: by his own evidence, by his neighbours', and until when."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.clock import ManualClock
from reputation.engine import Engine
from reputation.errors import StoreUnavailable
from reputation.events import Outcome, OutcomeKind
from reputation.explanation import Grounds, grounds_of
from reputation.keys import Entity
from reputation.policy import Policy
from reputation.ratings import (
    LONGEST_SECONDS,
    NOT_HEARD,
    SHORTEST_SECONDS,
    SUPPORT,
    Assertion,
    Rating,
    is_heard,
    rating_of,
    valid_seconds,
)
from reputation.score import KINDS, SHORT_HALF_LIFE_SECONDS, Evidence, EvidenceKind
from tests.builders import mail, session
from tests.clocked_store import MIDNIGHT, ClockedStore

ASN, PREFIX, IP = Entity("asn", "64500"), Entity("prefix", "192.0.2.0/24"), Entity("ip", "192.0.2.7")
SENDER_DOMAIN, SENDER = Entity("sender_domain", "example.com"), Entity("sender", "alice@example.com")
NOTHING = Evidence(short={}, long={})
DAY = 86_400

counts = st.floats(0, 1_000)
kinds = st.sampled_from(KINDS)
assertions = st.sampled_from(Assertion)


def evidence(lately: float = 0.0, **long: float) -> Evidence:
    """So many of each kind, `lately` of them in the short sums."""
    sums = dict.fromkeys(KINDS, 0.0) | {EvidenceKind(name.replace("_", "-")): value for name, value in long.items()}
    return Evidence(long=sums, short={kind: lately * value for kind, value in sums.items()})


SITE = evidence(ham=80, spam=20)

some_evidence = st.dictionaries(kinds, counts).map(
    lambda sums: evidence(0.1, **{kind.replace("-", "_"): value for kind, value in sums.items()})
)
three_levels = st.tuples(some_evidence, some_evidence, some_evidence)


def of_client(assertion: Assertion, *levels: Evidence, site: Evidence = SITE) -> Rating:
    """The last level is the address, before it its network, before that its provider."""
    return rating_of(assertion, list(zip((ASN, PREFIX, IP)[-len(levels) :], levels, strict=True)), site)


def plus(before: Evidence, kind: EvidenceKind, more: float) -> Evidence:
    sums = dict.fromkeys(KINDS, 0.0) | before.long
    return Evidence(long={**sums, kind: sums[kind] + more}, short=before.short)


# The rating


@given(three_levels, some_evidence, assertions)
def test_every_number_is_a_share(levels: Sequence[Evidence], site: Evidence, assertion: Assertion) -> None:
    found = of_client(assertion, *levels, site=site)
    assert found.normal is not None
    assert all(0.0 <= share <= 1.0 for share in (found.rating, found.normal, found.confidence))
    assert found.sample_size >= 0


@given(three_levels, assertions, kinds, st.integers(0, 2), st.floats(0.1, 100))
def test_what_supports_it_raises_a_rating_what_is_good_lowers_it_and_all_else_is_not_heard(
    levels: Sequence[Evidence], assertion: Assertion, kind: EvidenceKind, place: int, more: float
) -> None:
    changed = [plus(each, kind, more if n == place else 0.0) for n, each in enumerate(levels)]
    before, after = of_client(assertion, *levels), of_client(assertion, *changed)
    if not before.sample_size:
        return
    if kind in SUPPORT[assertion]:
        assert after.rating >= before.rating - 1e-12
    elif kind is EvidenceKind.HAM:
        assert after.rating <= before.rating + 1e-12
    else:
        assert after == before


@pytest.mark.parametrize("assertion", Assertion)
def test_one_rating_hears_only_its_own_kind(assertion: Assertion) -> None:
    kind = next(iter(SUPPORT[assertion]))
    accused = evidence(ham=10, **{kind.replace("-", "_"): 30})
    rated = {each: of_client(each, accused) for each in Assertion}
    assert rated[assertion].rating > 0.7
    assert all(found.rating < 0.1 for each, found in rated.items() if each is not assertion)


def test_everything_that_nobody_asked_for_is_spam_and_no_bounce_is_anything() -> None:
    assert of_client(Assertion.SPAM, evidence(spam=2, complaints=3, traps=5)).sample_size == 10
    bounced = evidence(bounces=500)
    assert {of_client(each, bounced).sample_size for each in Assertion} == {0}


def test_the_scale_is_linear() -> None:
    """RFC 7073 section 3.1; with so much evidence that nobody else is heard."""
    third, two_thirds = evidence(ham=20_000, traps=10_000), evidence(ham=10_000, traps=20_000)
    ratio = of_client(Assertion.SPAM, two_thirds).rating / of_client(Assertion.SPAM, third).rating
    assert ratio == pytest.approx(2.0, abs=0.001), (
        "a trap counts for one message, although it counts for two in a score"
    )


@pytest.mark.parametrize("assertion", Assertion)
def test_without_data_in_its_support_a_rating_is_nought_however_little_else_is_known(assertion: Assertion) -> None:
    for own in (NOTHING, evidence(ham=1), evidence(ham=1_000)):
        assert of_client(assertion, NOTHING, own, own, site=evidence(ham=5)).rating == 0.0


@pytest.mark.parametrize("assertion", Assertion)
def test_where_all_data_supports_it_a_rating_comes_to_one(assertion: Assertion) -> None:
    bad = evidence(**{next(iter(SUPPORT[assertion])).replace("-", "_"): 5_000})
    assert of_client(assertion, bad, bad, bad, site=bad).rating > 0.999


@given(st.lists(st.floats(0.5, 10_000), min_size=2, max_size=6, unique=True).map(sorted))
def test_rating_confidence_and_sample_size_grow_with_evidence(volumes: list[float]) -> None:
    found = [of_client(Assertion.SPAM, NOTHING, evidence(spam=volume)) for volume in volumes]
    for fewer, more in pairwise(found):
        assert more.rating >= fewer.rating
        assert more.confidence > fewer.confidence
        assert more.sample_size >= fewer.sample_size
        assert valid_seconds([more]) >= valid_seconds([fewer])


# Its neighbours


def test_an_unknown_address_in_a_bad_network_is_rated_bad_with_little_confidence() -> None:
    unknown = of_client(Assertion.SPAM, evidence(spam=50), NOTHING)
    network = of_client(Assertion.SPAM, evidence(spam=50))
    assert unknown.rating > 0.9
    assert unknown.confidence < 0.5 < network.confidence
    assert (unknown.sample_size, network.sample_size) == (2, 50), "as many of theirs as their rating weighs"


def test_the_worked_example() -> None:
    unknown = of_client(Assertion.SPAM, evidence(spam=50), NOTHING)
    assert (round(unknown.rating, 2), round(unknown.confidence, 2), unknown.sample_size) == (0.97, 0.48, 2)


def test_its_own_history_outweighs_its_network() -> None:
    assert of_client(Assertion.SPAM, evidence(spam=50), evidence(ham=60)).rating < 0.05
    assert of_client(Assertion.SPAM, evidence(ham=50), evidence(spam=60)).rating > 0.95


def test_the_provider_is_heard_through_the_network() -> None:
    found = of_client(Assertion.SPAM, evidence(spam=100), NOTHING, NOTHING)
    assert found.rating > 0.9
    assert found.confidence < of_client(Assertion.SPAM, evidence(spam=100), NOTHING).confidence


def test_of_whom_nothing_is_known_nothing_is_said_but_what_the_site_expects() -> None:
    found = of_client(Assertion.SPAM, NOTHING, NOTHING, NOTHING)
    assert (found.rating, found.confidence, found.sample_size) == (0.0, 0.0, 0)
    assert found.normal == pytest.approx(20 / 102)


def test_of_nobody_nothing_is_known() -> None:
    assert rating_of(Assertion.SPAM, (), SITE) == NOT_HEARD


def test_of_senders_nobody_hears_that_they_guess_recipients() -> None:
    """Who guesses makes them up: such evidence is kept of clients, and good mail of a sender does not speak of it."""
    known = [(SENDER_DOMAIN, evidence(ham=500)), (SENDER, evidence(ham=500))]
    assert rating_of(Assertion.INVALID_RECIPIENTS, known, SITE) == NOT_HEARD
    assert rating_of(Assertion.SPAM, known, SITE).sample_size == 502
    assert [is_heard(Assertion.INVALID_RECIPIENTS, each) for each in (ASN, PREFIX, IP, SENDER, SENDER_DOMAIN)] == [
        *(True, True, True, False, False)
    ]
    assert all(is_heard(each, SENDER) for each in Assertion if each is not Assertion.INVALID_RECIPIENTS)


def test_what_is_normal_for_somebody_is_his_own_history_and_not_the_site_s_nor_today_s() -> None:
    bad, today_good = evidence(spam=95, ham=5), Evidence(short={**evidence().short, EvidenceKind.HAM: 9.0}, long={})
    found = of_client(Assertion.SPAM, NOTHING, Evidence(short=today_good.short, long=bad.long))
    assert found.normal == pytest.approx(0.94, abs=0.02)
    assert found.rating < 0.1


# Until when


def test_a_rating_that_is_certain_holds_until_today_s_has_faded_by_a_hundredth() -> None:
    left = 0.5 ** (LONGEST_SECONDS / SHORT_HALF_LIFE_SECONDS)
    assert left == pytest.approx(0.99, abs=1e-4)
    certain = of_client(Assertion.SPAM, evidence(spam=100_000))
    assert LONGEST_SECONDS - 5 <= valid_seconds([certain]) <= LONGEST_SECONDS


def test_several_ratings_hold_as_long_as_the_least_certain_and_what_nobody_hears_of_does_not_change() -> None:
    little, much = of_client(Assertion.SPAM, evidence(spam=1)), of_client(Assertion.SPAM, evidence(spam=1_000))
    assert valid_seconds([little, much, NOT_HEARD]) == valid_seconds([little]) < valid_seconds([much])
    assert valid_seconds([of_client(Assertion.SPAM, NOTHING)]) == SHORTEST_SECONDS
    assert valid_seconds([NOT_HEARD]) == valid_seconds([]) == LONGEST_SECONDS


# Out of an engine


def whole_engine() -> tuple[Engine, ClockedStore]:
    clock = ManualClock(MIDNIGHT)
    store = ClockedStore(clock)
    return Engine(policy=Policy(), store=store, clock=clock), store


async def learn(engine: Engine, kind: OutcomeKind, times: int, client: str = "192.0.2.7") -> None:
    for _ in range(times):
        await engine.learn(Outcome(kind=kind, event=replace(mail(), session=session(client))))


async def grounds(engine: Engine, entity: Entity) -> Grounds | None:
    return await grounds_of(entity, engine.store, engine.lookups)


async def rated(engine: Engine, assertion: Assertion, entity: Entity) -> Rating:
    found = await grounds(engine, entity)
    assert found is not None and found.site is not None
    return rating_of(assertion, found.levels, found.site)


@pytest.mark.parametrize(
    ("kind", "assertion"),
    [
        (OutcomeKind.SPAM, Assertion.SPAM),
        (OutcomeKind.COMPLAINT, Assertion.SPAM),
        (OutcomeKind.JUNK, Assertion.SPAM),
        (OutcomeKind.TRAP, Assertion.SPAM),
        (OutcomeKind.MALWARE, Assertion.MALWARE),
        (OutcomeKind.FRAUD, Assertion.FRAUD),
        (OutcomeKind.ABUSIVE, Assertion.ABUSIVE),
        (OutcomeKind.UNKNOWN_RECIPIENT, Assertion.INVALID_RECIPIENTS),
    ],
)
async def test_what_is_learned_becomes_a_rating(kind: OutcomeKind, assertion: Assertion) -> None:
    engine, _ = whole_engine()
    await learn(engine, OutcomeKind.HAM, 3)
    before = await rated(engine, assertion, IP)
    await learn(engine, kind, 20)
    after = await rated(engine, assertion, IP)
    assert before.rating == 0.0 and after.rating > 0.8
    assert (before.sample_size, after.sample_size) == (5, 25), "its own, and two of its network's"
    others = [await rated(engine, each, IP) for each in Assertion if each is not assertion]
    assert {found.rating for found in others} == {0.0}
    neighbour = await rated(engine, assertion, Entity("ip", "192.0.2.99"))
    assert neighbour.rating > 0.7 and neighbour.confidence < 0.5


async def test_as_time_passes_sample_size_and_confidence_fade_and_in_the_end_nothing_is_known() -> None:
    engine, store = whole_engine()
    await learn(engine, OutcomeKind.SPAM, 40)
    found = []
    for days in (0, 30, 60, 400):
        store.clock = ManualClock(MIDNIGHT + days * DAY)
        found.append(await rated(engine, Assertion.SPAM, IP))
    assert [each.sample_size for each in found] == [42, 22, 12, 0]
    assert all(later.confidence < earlier.confidence for earlier, later in pairwise(found))
    assert found[-1].rating == 0.0


async def test_who_was_good_for_long_and_is_bad_today_is_rated_so_against_what_is_normal_for_him() -> None:
    engine, store = whole_engine()
    await learn(engine, OutcomeKind.HAM, 200)
    store.clock.advance(20 * DAY)
    await learn(engine, OutcomeKind.SPAM, 10)
    found = await rated(engine, Assertion.SPAM, IP)
    assert found.normal is not None
    assert found.normal < 0.2 and found.rating > 0.8
    store.clock.advance(10 * DAY)
    assert (await rated(engine, Assertion.SPAM, IP)).rating < 0.3, "and some days after it has ended"


async def test_of_recipients_there_are_no_grounds() -> None:
    engine, _ = whole_engine()
    assert await grounds(engine, Entity("recipient", "alice@example.com")) is None


async def test_what_the_store_does_not_tell_is_not_nothing() -> None:
    engine, store = whole_engine()
    await learn(engine, OutcomeKind.SPAM, 5)
    for away in ({"prefix"}, {"ip"}, {"site"}):
        store.away = frozenset(away)
        with pytest.raises(StoreUnavailable, match="no answer about the evidence of 1"):
            await grounds(engine, IP)
    store.away, store.trouble = frozenset(), StoreUnavailable("away")
    with pytest.raises(StoreUnavailable, match="away"):
        await grounds(engine, IP)


async def test_a_reputation_rests_on_the_same_grounds() -> None:
    engine, _ = whole_engine()
    await learn(engine, OutcomeKind.SPAM, 5)
    found, reputation = await grounds(engine, IP), (await engine.explain(IP)).reputation
    assert found is not None and reputation is not None
    assert [entity for entity, _ in found.levels] == [level.entity for level in reputation.levels]
