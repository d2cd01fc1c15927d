"""What every Store promises of the other kinds of keys: different members, leases, evidence, seen; and of tokens."""

import asyncio
from dataclasses import replace

import pytest

from reputation.charges import Answer, Charge, Charging, Meter, Over, receipt_of
from reputation.contracts import Store
from reputation.keys import Key, Metric
from reputation.score import KINDS, Evidence, EvidenceKind
from reputation.store.redis_store import RedisStore
from reputation.windows import Window
from tests.builders import (
    ALICE,
    BOB,
    KNOWN,
    REMEMBERED,
    SESSIONS,
    charge,
    evidence,
    lease,
    met,
    meter,
    seen,
    tracked,
    us,
)
from tests.contracts.asking import ONE_MICROSECOND, PATIENCE_SECONDS, ask, give_back, held

DAY = 86_400


def count_of(answer: Answer, charge: int = 0, window: int = 0) -> int:
    return answer.readings[charge][0][window].count


def wait_of(answer: Answer, charge: int = 0, window: int = 0) -> float:
    return answer.readings[charge][0][window].retry_after_seconds


# --- different members


async def inside(store: Store, at: float, *limits: str) -> list[int]:
    """How many different members there are in the windows."""
    asked = met("somebody-new", *limits, charging=Charging.NEVER, over=Over.NOTES)
    return [reading.count for reading in (await ask(store, at, asked)).readings[0][0]]


async def test_different_members_are_counted_once_each_and_exactly(store: Store) -> None:
    answers = [await ask(store, at, met(member, "3/1m")) for at, member in enumerate("abacbca")]
    assert [answer.allowed for answer in answers] == [True] * 7
    assert [count_of(answer) for answer in answers] == [1, 2, 2, 3, 3, 3, 3]


async def test_a_member_beyond_the_limit_is_refused_and_those_inside_are_free(store: Store) -> None:
    for at, member in enumerate("ab"):
        await ask(store, at, met(member, "2/1m"))
    refused = await ask(store, 2, met("c", "2/1m"))
    assert (refused.allowed, count_of(refused)) == (False, 2)
    assert (await ask(store, 3, met("a", "2/1m"))).allowed
    assert not (await ask(store, 4, met("c", "2/1m"))).allowed
    assert await inside(store, 5, "2/1m") == [2]


async def test_a_member_is_in_the_window_to_the_microsecond(store: Store) -> None:
    await ask(store, 10, met("a", "1/1m"))
    refused = await ask(store, 20, met("b", "1/1m"))
    assert wait_of(refused) == 50
    assert not (await ask(store, 70 - ONE_MICROSECOND, met("b", "1/1m"))).allowed
    assert (await ask(store, 70, met("b", "1/1m"))).allowed


async def test_a_member_that_comes_again_stays_longer(store: Store) -> None:
    for at in (0, 50):
        await ask(store, at, met("a", "1/1m"))
    assert not (await ask(store, 109, met("b", "1/1m"))).allowed
    assert (await ask(store, 110, met("b", "1/1m"))).allowed


async def test_the_wait_for_room_is_until_enough_members_have_left(store: Store) -> None:
    """The limit was lowered: more are inside than it admits."""
    for at, member in enumerate("abcd"):
        await ask(store, at, met(member, "4/1m"))
    assert wait_of(await ask(store, 10, met("e", "2/1m"))) == 62 - 10
    assert not (await ask(store, 62 - ONE_MICROSECOND, met("e", "2/1m"))).allowed
    assert (await ask(store, 62, met("e", "2/1m"))).allowed


async def test_members_have_several_windows(store: Store) -> None:
    both = ("2/1m", "3/1h")
    allowed = [(await ask(store, at, met(member, *both))).allowed for at, member in ((0, "a"), (1, "b"), (2, "c"))]
    assert allowed == [True, True, False]
    assert (await ask(store, 70, met("c", *both))).allowed
    refused = await ask(store, 140, met("d", *both))
    assert (refused.allowed, wait_of(refused, window=0), wait_of(refused, window=1)) == (False, 0, 3_600 - 140)
    again = await ask(store, 141, met("a", *both))
    assert again.allowed, "it is inside the hour, and the minute has room"
    assert [reading.count for reading in again.readings[0][0]] == [1, 3]


@pytest.mark.parametrize("over", [Over.NOTES, Over.SKIPS, Over.DENIES])
@pytest.mark.parametrize("charging", Charging)
async def test_members_are_charged_as_the_meter_says(store: Store, charging: Charging, over: Over) -> None:
    await ask(store, 0, met("a", "2/1m"))
    await ask(store, 1, met("b", "2/1m", charging=charging, over=over))
    assert await inside(store, 2, "2/1m") == [1 if charging is Charging.NEVER else 2]


async def test_attempts_of_members_count_where_the_rule_says_so(store: Store) -> None:
    """c and d were refused, and keep e out."""
    for at, member in ((0, "a"), (1, "b"), (50, "c"), (51, "d")):
        await ask(store, at, met(member, "2/1m", charging=Charging.ALWAYS))
    refused = await ask(store, 62, met("e", "2/1m", charging=Charging.ALWAYS))
    assert (refused.allowed, wait_of(refused)) == (False, 110 - 62)


async def test_a_member_given_back_is_gone(store: Store) -> None:
    answer = await ask(store, 0, met("a", "1/1m"))
    await give_back(store, receipt_of(answer))
    assert await inside(store, 1, "1/1m") == [0]
    assert (await ask(store, 2, met("b", "1/1m"))).allowed


async def test_a_member_given_back_that_was_there_before_is_as_it_was(store: Store) -> None:
    await ask(store, 0, met("a", "1/1m"))
    again = await ask(store, 40, met("a", "1/1m"))
    await give_back(store, receipt_of(again))
    assert not (await ask(store, 59, met("b", "1/1m"))).allowed
    assert (await ask(store, 60, met("b", "1/1m"))).allowed


async def test_a_member_seen_since_is_not_taken_by_a_late_refund(store: Store) -> None:
    early = await ask(store, 0, met("a", "1/1m"))
    await ask(store, 40, met("a", "1/1m"))
    await give_back(store, receipt_of(early))
    assert not (await ask(store, 99, met("b", "1/1m"))).allowed


async def test_members_by_a_clock_that_goes_back_still_count(store: Store) -> None:
    await ask(store, 100, met("a", "2/1m"))
    assert (await ask(store, 50, met("b", "2/1m"))).allowed
    assert not (await ask(store, 50, met("c", "2/1m"))).allowed
    assert not (await ask(store, 101, met("c", "2/1m"))).allowed
    assert (await ask(store, 50, met("a", "2/1m"))).allowed
    assert await inside(store, 159, "2/1m") == [1], "a was last seen at 100, whatever the clock said since"


# --- leases


async def open_now(store: Store, at: float) -> int:
    return count_of(await ask(store, at, lease("nobody", 1, charging=Charging.NEVER, over=Over.NOTES)))


async def test_so_many_leases_are_held_at_once(store: Store) -> None:
    answers = [await ask(store, at, lease(member, 2)) for at, member in enumerate("abc")]
    assert [answer.allowed for answer in answers] == [True, True, False]
    assert [count_of(answer) for answer in answers] == [1, 2, 2]
    assert wait_of(answers[2]) == 60 - 2


async def test_who_holds_a_lease_holds_it_once(store: Store) -> None:
    answers = [await ask(store, at, lease("a", 1)) for at in range(3)]
    assert [(answer.allowed, count_of(answer)) for answer in answers] == [(True, 1)] * 3


async def test_a_lease_ends_by_itself(store: Store) -> None:
    await ask(store, 0, lease("a", 1))
    assert not (await ask(store, 60 - ONE_MICROSECOND, lease("b", 1))).allowed
    assert (await ask(store, 60, lease("b", 1))).allowed
    assert await open_now(store, 61) == 1


async def test_a_lease_that_is_given_back_makes_room(store: Store) -> None:
    answer = await ask(store, 0, lease("a", 1))
    assert not (await ask(store, 1, lease("b", 1))).allowed
    await give_back(store, receipt_of(answer))
    assert (await ask(store, 2, lease("b", 1))).allowed


async def test_a_lease_that_is_renewed_lasts(store: Store) -> None:
    for member in "ab":
        await ask(store, 0, lease(member, 2))
    assert await store.renew(SESSIONS, ["a"], Window(60), now_us=us(50)) == 1
    assert await open_now(store, 60) == 1
    assert await open_now(store, 110 - ONE_MICROSECOND) == 1
    assert await open_now(store, 110) == 0


async def test_only_leases_that_are_held_are_renewed(store: Store) -> None:
    await ask(store, 0, lease("a", 3))
    given_back = await ask(store, 0, lease("b", 3))
    await give_back(store, receipt_of(given_back))
    assert await store.renew(SESSIONS, ["a", "b", "never"], Window(60), now_us=us(1)) == 1
    assert await open_now(store, 2) == 1
    assert await store.renew(Key(BOB.entity, Metric.CONCURRENT, "r"), ["a"], Window(60), now_us=us(1)) == 0


async def test_a_lease_that_has_ended_is_not_taken_again(store: Store) -> None:
    await ask(store, 0, lease("a", 1))
    assert await store.renew(SESSIONS, ["a"], Window(60), now_us=us(60)) == 0
    assert (await ask(store, 61, lease("b", 1))).allowed


async def test_leases_that_only_note_are_remembered_up_to_twice_the_limit(store: Store) -> None:
    answers = [await ask(store, 0, lease(str(number), 2, over=Over.NOTES)) for number in range(6)]
    assert [answer.allowed for answer in answers] == [True] * 6
    assert [count_of(answer) for answer in answers] == [1, 2, 3, 4, 4, 4]
    assert [wait_of(answer) > 0 for answer in answers] == [False, False, True, True, True, True]


async def test_leases_are_charged_as_the_meter_says(store: Store) -> None:
    await ask(store, 0, lease("a", 1, charging=Charging.NEVER))
    assert await open_now(store, 1) == 0
    await ask(store, 2, lease("a", 1))
    skipped = await ask(store, 3, lease("b", 1, over=Over.SKIPS))
    assert (skipped.allowed, wait_of(skipped) > 0) == (True, True)
    assert await open_now(store, 4) == 1


# --- all or nothing, of several kinds


async def test_a_refusal_charges_no_kind_of_key(store: Store) -> None:
    full = charge(meter("r", "1/1h"))
    await ask(store, 0, full)
    answer = await ask(store, 1, lease("s", 5), met("m", "5/1m"), full, charge(tracked(60), key=BOB, cost=4))
    assert not answer.allowed
    assert [count_of(answer, index) for index in range(4)] == [0, 0, 1, 0]
    assert await open_now(store, 2) == 0
    assert await inside(store, 2, "5/1m") == [0]
    assert await held(store, 2, tracked(60), key=BOB) == [0]


@pytest.mark.parametrize("refuses", [met("m", "1/1m"), lease("s", 1)], ids=["members", "leases"])
async def test_any_kind_of_key_refuses_for_all(store: Store, refuses: Charge) -> None:
    await ask(store, 0, refuses._replace(member="other"))
    answer = await ask(store, 1, charge(tracked(60)), refuses)
    assert (answer.allowed, count_of(answer)) == (False, 0)
    assert await held(store, 2, tracked(60)) == [0]


async def test_a_refusal_takes_nothing_that_was_there_before(store: Store) -> None:
    """The session holds its lease, and the member was met, when another key refuses."""
    full = charge(meter("r", "1/1h"))
    for asked in (lease("s", 5), met("m", "5/1m"), full):
        await ask(store, 0, asked)
    answer = await ask(store, 30, lease("s", 5), met("m", "5/1m"), full)
    assert not answer.allowed
    assert [count_of(answer, index) for index in range(3)] == [1, 1, 1]
    assert [await open_now(store, 31), *await inside(store, 31, "5/1m")] == [1, 1]
    assert [await open_now(store, 60), *await inside(store, 60, "5/1m")] == [0, 0], "nor was it prolonged"


async def test_what_was_held_before_is_not_given_back_with_a_later_decision(store: Store) -> None:
    await ask(store, 0, lease("s", 5))
    again = await ask(store, 1, lease("s", 5))
    await give_back(store, receipt_of(again))
    assert await open_now(store, 2) == 1


# --- evidence


async def sums(store: Store, at: float) -> Evidence:
    return Evidence.of((await ask(store, at, evidence())).numbers)


async def test_evidence_is_summed_by_kind_over_both_horizons(store: Store) -> None:
    await ask(store, 0, evidence(EvidenceKind.SPAM, 2.0))
    answer = await ask(store, 0, evidence(EvidenceKind.SPAM, 0.5))
    await ask(store, 0, evidence(EvidenceKind.TRAPS))
    told = Evidence.of(answer.numbers)
    assert (told.short[EvidenceKind.SPAM], told.long[EvidenceKind.SPAM]) == (2.5, 2.5), "this one included"
    found = await sums(store, 0)
    expected = dict.fromkeys(KINDS, 0.0) | {EvidenceKind.SPAM: 2.5, EvidenceKind.TRAPS: 1.0}
    assert found == Evidence(short=expected, long=expected)


@pytest.mark.parametrize("days", [0.5, 1, 2, 30, 60])
async def test_evidence_fades_by_half_in_its_half_life(store: Store, days: float) -> None:
    await ask(store, 0, evidence(EvidenceKind.HAM, 64.0))
    found = await sums(store, days * DAY)
    assert found.short[EvidenceKind.HAM] == pytest.approx(64 * 0.5**days, abs=0.000_6)
    assert found.long[EvidenceKind.HAM] == pytest.approx(64 * 0.5 ** (days / 30), abs=0.000_6)


async def test_evidence_fades_before_more_is_added(store: Store) -> None:
    for day in range(3):
        await ask(store, day * DAY, evidence(EvidenceKind.SPAM))
    found = await sums(store, 2 * DAY)
    assert found.short[EvidenceKind.SPAM] == pytest.approx(1.75, abs=0.000_6)
    assert found.long[EvidenceKind.SPAM] == pytest.approx(1 + 0.5 ** (1 / 30) + 0.5 ** (2 / 30), abs=0.000_6)


async def test_reading_evidence_leaves_no_trace(store: Store) -> None:
    await sums(store, 400 * DAY)
    await ask(store, 0, evidence(EvidenceKind.SPAM, 8.0))
    await sums(store, DAY)
    assert (await sums(store, 0)).short[EvidenceKind.SPAM] == 8.0


async def test_evidence_by_a_clock_that_goes_back_neither_fades_nor_grows(store: Store) -> None:
    await ask(store, DAY, evidence(EvidenceKind.SPAM, 4.0))
    await ask(store, 0, evidence(EvidenceKind.SPAM, 4.0))
    assert (await sums(store, 0)).short[EvidenceKind.SPAM] == 8.0
    assert (await sums(store, 2 * DAY)).short[EvidenceKind.SPAM] == 4.0


async def test_evidence_comes_with_the_counters_and_is_not_given_back(store: Store) -> None:
    answer = await ask(store, 0, charge(tracked(60), cost=3), evidence(EvidenceKind.HAM), lease("s", 1))
    assert [count_of(answer), count_of(answer, 2)] == [3, 1]
    await give_back(store, receipt_of(answer))
    assert (await sums(store, 0)).short[EvidenceKind.HAM] == 1.0
    assert await held(store, 0, tracked(60)) == [0]


# --- when it was first and last seen

REMEMBERED_SECONDS = REMEMBERED.seconds
FULL = charge(meter("r", "1/1h"))


def numbers_of(asked: Charge, answer: Answer) -> list[int]:
    """The numbers of one of the charges of an answer."""
    index = answer.charges.index(asked)
    start = sum(before.plan.size for before in answer.charges[:index])
    return list(answer.numbers[start : start + asked.plan.size])


async def known(store: Store, at: float, *, key: Key = KNOWN) -> tuple[int, int]:
    """When it was first and last seen, without being seen now."""
    answer = await ask(store, at, seen(charging=Charging.NEVER, key=key))
    first_us, last_us = answer.seen_at(0)
    assert list(answer.numbers) == [1 if first_us else 0, 0, first_us, last_us]
    return first_us, last_us


async def test_who_was_never_seen_is_unknown_and_known_ever_since(store: Store) -> None:
    answers = [await ask(store, at, seen()) for at in (0, 10, DAY)]
    assert [list(answer.numbers) for answer in answers] == [
        [0, 0, 0, 0],
        [1, 0, us(0), us(0)],
        [1, 0, us(0), us(10)],
    ], "as it was before each of them"
    assert [(answer.allowed, answer.repeated) for answer in answers] == [(True, 0)] * 3
    assert await known(store, DAY + 1) == (us(0), us(DAY))


async def test_each_key_is_seen_for_itself(store: Store) -> None:
    other = Key(BOB.entity, KNOWN.metric)
    await ask(store, 0, seen())
    await ask(store, 1, seen(key=other), seen())
    assert [await known(store, 2), await known(store, 2, key=other)] == [(us(0), us(1)), (us(1), us(1))]


async def test_times_are_kept_to_the_microsecond(store: Store) -> None:
    await ask(store, 0.123_457, seen())
    await ask(store, 86_399.999_999, seen())
    assert await known(store, DAY) == (us(0.123_457), us(86_399.999_999))


async def test_who_was_not_seen_for_the_window_is_new_again(store: Store) -> None:
    await ask(store, 0, seen())
    await ask(store, 10, seen())
    assert await known(store, 10 + REMEMBERED_SECONDS - ONE_MICROSECOND) == (us(0), us(10))
    again = await ask(store, 10 + REMEMBERED_SECONDS, seen())
    assert list(again.numbers) == [0, 0, 0, 0]
    assert await known(store, 20 + REMEMBERED_SECONDS) == (us(10 + REMEMBERED_SECONDS),) * 2


async def test_who_comes_again_and_again_is_known_for_longer_than_the_window(store: Store) -> None:
    for turn in range(5):
        await ask(store, turn * 0.9 * REMEMBERED_SECONDS, seen())
    last = 4 * 0.9 * REMEMBERED_SECONDS
    assert await known(store, last + 1) == (us(0), us(last))


async def test_what_is_only_read_was_not_seen(store: Store) -> None:
    assert [await known(store, at) for at in (0, 1)] == [(0, 0)] * 2
    await ask(store, 2, seen())
    assert [await known(store, at) for at in (3, 4)] == [(us(2), us(2))] * 2


async def test_being_seen_denies_nothing_whatever_the_meter_says(store: Store) -> None:
    answers = [await ask(store, at, seen(over=over)) for at, over in enumerate(Over)]
    assert [(answer.allowed, answer.numbers[1]) for answer in answers] == [(True, 0)] * 3
    assert await known(store, 3) == (us(0), us(2))


async def test_nobody_was_seen_with_what_was_denied(store: Store) -> None:
    await ask(store, 0, FULL)
    denied = await ask(store, 1, seen(), FULL)
    assert (denied.allowed, numbers_of(seen(), denied)) == (False, [0, 0, 0, 0])
    assert await known(store, 2) == (0, 0)


async def test_what_was_denied_makes_nobody_known_for_less_long(store: Store) -> None:
    """Last seen may be the time of the denied one on a cluster, where each key is asked for itself."""
    await ask(store, 0, seen(), FULL)
    denied = await ask(store, 10, seen(), FULL)
    assert (denied.allowed, numbers_of(seen(), denied)) == (False, [1, 0, us(0), us(0)])
    first_us, last_us = await known(store, 11)
    clustered = isinstance(store, RedisStore) and store._topology.clustered
    assert (first_us, last_us) == (us(0), us(10 if clustered else 0))


async def test_attempts_are_seen_where_the_meter_says_so(store: Store) -> None:
    attempt = seen(charging=Charging.ALWAYS)
    await ask(store, 0, FULL)
    for at in (1, 2):
        assert not (await ask(store, at, attempt, FULL)).allowed
    assert await known(store, 3) == (us(1), us(2))


async def test_who_became_known_by_what_is_given_back_is_unknown(store: Store) -> None:
    answer = await ask(store, 0, seen())
    await give_back(store, receipt_of(answer))
    assert await known(store, 1) == (0, 0)
    await ask(store, 2, seen())
    assert await known(store, 3) == (us(2), us(2))


async def test_who_was_known_before_what_is_given_back_stays_known(store: Store) -> None:
    """That it was seen last by what came to nothing stays, which does no harm."""
    await ask(store, 0, seen())
    again = await ask(store, 10, seen())
    await give_back(store, receipt_of(again))
    assert await known(store, 11) == (us(0), us(10))


async def test_who_became_known_anew_is_unknown_when_that_is_given_back(store: Store) -> None:
    await ask(store, 0, seen())
    again = await ask(store, REMEMBERED_SECONDS, seen())
    await give_back(store, receipt_of(again))
    assert await known(store, REMEMBERED_SECONDS + 1) == (0, 0)


async def test_giving_back_who_is_not_known_does_nothing(store: Store) -> None:
    receipt = receipt_of(await ask(store, 0, seen()))
    for _ in range(2):
        await give_back(store, receipt)
    assert await known(store, 1) == (0, 0)


async def test_attempts_that_were_seen_are_not_given_back(store: Store) -> None:
    answer = await ask(store, 0, seen(charging=Charging.ALWAYS))
    assert receipt_of(answer) == ()


async def test_first_and_last_seen_never_go_back(store: Store) -> None:
    await ask(store, 100, seen())
    back = await ask(store, 50, seen())
    assert list(back.numbers) == [1, 0, us(100), us(100)]
    assert await known(store, 101) == (us(100), us(100))
    await ask(store, 200, seen())
    await ask(store, 150, seen())
    assert await known(store, 201) == (us(100), us(200))
    assert await known(store, -2 * REMEMBERED_SECONDS) == (us(100), us(200)), "nor does the clock make anybody unknown"


async def test_a_token_cost_or_member_makes_no_difference(store: Store) -> None:
    for at in (0, 1):
        odd = seen()._replace(cost=at * 7, member="m" * at)
        answer = await ask(store, at, odd, charge(tracked(60)), token="message")
        assert answer.repeated == at * 0b10, "the counter knows the token"
    assert await known(store, 2) == (us(0), us(1))


async def test_being_seen_comes_with_all_other_kinds(store: Store) -> None:
    others = (charge(tracked(60), key=BOB), met("m", "5/1m"), lease("s", 5), evidence(EvidenceKind.HAM))
    for at in (0, 1):
        asked = (*others[:2], seen(), *others[2:])
        answer = await ask(store, at, *asked)
        assert numbers_of(seen(), answer) == [at, 0, us(0) * at, us(0) * at]
        assert [count_of(answer, index) for index in (0, 1, 3)] == [1 + at, 1, 1]
    assert Evidence.of(answer.numbers[-18:]).short[EvidenceKind.HAM] == pytest.approx(2, abs=0.001)
    await give_back(store, receipt_of(answer))
    assert await held(store, 2, tracked(60), key=BOB) == [1]


async def test_when_somebody_was_seen_is_in_no_series(store: Store) -> None:
    await ask(store, 0, seen(), charge(tracked(60)))
    assert [series.key for series in await store.series(ALICE.entity, now_us=us(1))] == [ALICE]


async def test_many_at_once_are_first_seen_once(store: Store) -> None:
    answers = await asyncio.gather(*(store.decide([seen()], now_us=us(at)) for at in range(20)))
    first = [answer for answer in answers if answer.seen_at(0) == (0, 0)]
    assert [answer.times_us[0] for answer in first] == [(await known(store, 21))[0]]


@pytest.mark.parametrize("server", ["redis_7", "valkey"])
async def test_when_somebody_was_seen_takes_16_bytes_for_the_window_and_a_tenth(
    server: str, prefix: str, request: pytest.FixtureRequest
) -> None:
    running = request.getfixturevalue(server)
    store, key = RedisStore(running.url, prefix=prefix, deadline_seconds=PATIENCE_SECONDS), KNOWN.spelled(prefix)
    longest_ms = REMEMBERED_SECONDS * 1_100
    await store.decide([seen(charging=Charging.NEVER)])
    assert running.command("EXISTS", key) == 0, "what is only read leaves no key"
    answer = await store.decide([seen()])
    for _ in range(2):
        assert running.command("STRLEN", key) == 16
        assert longest_ms - 60_000 < running.command("PTTL", key) <= longest_ms
        running.command("PEXPIRE", key, 120_000)
        await store.decide([seen(charging=Charging.NEVER)])
        assert running.command("PTTL", key) <= 120_000, "looking does not prolong it"
        await store.decide([seen()])
    await store.refund(receipt_of(answer))
    assert running.command("STRLEN", key) == 16, "it came again since"
    assert running.command("PTTL", key) > 0
    await store.close()


# --- tokens

ONE = charge(meter("r", "1/1m"))


async def test_what_is_asked_twice_is_charged_once(store: Store) -> None:
    asked = charge(meter("r", "9/1m"), meter("attempts", "9/1m", charging=Charging.ALWAYS), tracked(60), cost=2)
    answers = [await ask(store, at, asked, token="message") for at in range(3)]
    assert [count_of(answer) for answer in answers] == [2, 2, 2]
    assert await held(store, 3, *asked.plan.meters) == [2, 2, 2]


async def test_what_was_charged_is_not_over_when_it_is_asked_again(store: Store) -> None:
    await ask(store, 0, ONE, token="message")
    again = await ask(store, 1, ONE, token="message")
    assert (again.allowed, wait_of(again)) == (True, 0)
    assert not (await ask(store, 2, ONE, token="other")).allowed
    assert not (await ask(store, 3, ONE)).allowed


async def test_what_was_charged_is_not_over_for_the_attempts_of_others_since(store: Store) -> None:
    attempts = charge(meter("r", "1/1m", charging=Charging.ALWAYS))
    assert [(await ask(store, 0, attempts, token=token)).allowed for token in ("in", "out")] == [True, False]
    again = await ask(store, 1, attempts, token="in")
    assert (again.allowed, count_of(again), wait_of(again)) == (True, 2, 0)


async def test_what_was_refused_is_charged_when_it_gets_in(store: Store) -> None:
    await ask(store, 0, ONE, token="first")
    assert not (await ask(store, 1, ONE, token="second")).allowed
    assert (await ask(store, 66, ONE, token="second")).allowed
    assert await held(store, 67, *ONE.plan.meters) == [1]


@pytest.mark.parametrize("attempts", [meter("r", "1/1m", charging=Charging.ALWAYS), meter("other", "9/1m")])
async def test_a_refused_attempt_is_no_way_in_for_the_next(store: Store, attempts: Meter) -> None:
    """Attempts are charged where a rule says so; that they were is no charge for the message."""
    limits = charge(meter("limit", "1/1m"), replace(attempts, charging=Charging.ALWAYS))
    assert (await ask(store, 0, limits, token="first")).allowed
    assert [(await ask(store, at, limits, token="second")).allowed for at in (1, 2, 3)] == [False] * 3


async def test_a_retry_beside_a_give_back_is_counted(store: Store) -> None:
    """On a cluster what one key was charged is given back after another has refused, behind the answer's back."""
    full = charge(meter("full", "1/1m"), key=BOB)
    await ask(store, 0, full)
    for number in range(20):
        token = f"message {number}"
        assert not (await store.decide((charge(tracked(60)), full), token=token, now_us=us(1))).allowed
        assert (await store.decide((charge(tracked(60)),), token=token, now_us=us(1))).allowed  # at once
    assert await held(store, 1, tracked(60)) == [20]


async def test_each_key_knows_its_own_tokens(store: Store) -> None:
    await ask(store, 0, charge(tracked(60)), token="message")
    await ask(store, 1, charge(tracked(60)), charge(tracked(60), key=BOB), token="message")
    assert [await held(store, 2, tracked(60), key=key) for key in (ALICE, BOB)] == [[1], [1]]


async def test_a_refund_forgets_the_token(store: Store) -> None:
    answer = await ask(store, 0, ONE, token="message")
    await give_back(store, receipt_of(answer))
    await ask(store, 1, ONE, token="message")
    assert await held(store, 2, *ONE.plan.meters) == [1]


async def test_a_refund_forgets_no_other_token(store: Store) -> None:
    limit = meter("r", "9/1m")
    answers = [await ask(store, 0, charge(limit), token=token) for token in ("a", "b", "c")]
    await give_back(store, receipt_of(answers[1]))
    for token in ("a", "c"):
        await ask(store, 1, charge(limit), token=token)
    assert await held(store, 2, limit) == [2]
    await ask(store, 1, charge(limit), token="b")
    assert await held(store, 2, limit) == [3]


async def test_what_was_not_charged_again_is_not_given_back_for_the_second_time(store: Store) -> None:
    limit = meter("r", "9/1m")
    await ask(store, 0, charge(limit), token="message")
    await ask(store, 30, charge(limit, cost=5))
    again = await ask(store, 30, charge(limit), token="message")
    await give_back(store, receipt_of(again))
    assert await held(store, 31, limit) == [6]
    await ask(store, 32, charge(limit), token="message")
    assert await held(store, 33, limit) == [6], "the token is still known"


async def test_a_refusal_leaves_what_the_token_was_charged_before(store: Store) -> None:
    await ask(store, 0, charge(tracked(60)), token="message")
    await ask(store, 0, charge(meter("r", "1/1m"), key=BOB))
    answer = await ask(store, 1, charge(tracked(60)), charge(meter("r", "1/1m"), key=BOB), token="message")
    assert (answer.allowed, count_of(answer)) == (False, 1)
    await ask(store, 2, charge(tracked(60)), token="message")
    assert await held(store, 3, tracked(60)) == [1]


async def test_the_last_64_tokens_of_a_key_are_known(store: Store) -> None:
    limit = meter("r", "999/1h")
    for number in range(65):
        await ask(store, 0, charge(limit), token=f"message-{number}")
    await ask(store, 1, charge(limit), token="message-1")
    assert await held(store, 1, limit) == [65]
    await ask(store, 1, charge(limit), token="message-0")
    assert await held(store, 1, limit) == [66]


async def test_many_at_once_with_one_token_are_charged_once(store: Store) -> None:
    answers = await asyncio.gather(*(store.decide([ONE], token="message", now_us=us(0)) for _ in range(20)))
    assert all(answer.allowed for answer in answers)
    assert await held(store, 1, *ONE.plan.meters) == [1]


async def test_what_costs_nothing_needs_no_token(store: Store) -> None:
    await ask(store, 0, ONE._replace(cost=0), token="message")
    assert count_of(await ask(store, 1, ONE, token="message")) == 1


async def test_a_token_lives_as_long_as_its_key_holds_something(store: Store) -> None:
    """An hour is kept beside the minute, and so is the token."""
    asked = charge(meter("r", "9/1m", "9/1h"))
    for at in (0, 66, 600):
        await ask(store, at, asked, token="message")
    assert await held(store, 600, *asked.plan.meters) == [0, 1]


@pytest.mark.parametrize("token", ["nul\x00", "\udcff", "日本語", "x" * 5_000])
async def test_tokens_may_be_any_text(store: Store, token: str) -> None:
    for at in (0, 1):
        assert (await ask(store, at, ONE, token=token)).allowed
    assert not (await ask(store, 2, ONE, token=token + "x")).allowed
