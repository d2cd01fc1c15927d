"""What every Store promises of counting in windows, whatever it is made of. Other kinds of keys: ``test_kinds.py``.

Times are given (`us(seconds)` after a midnight), so that windows are tested at their very edges. A minute has ten
buckets of six seconds: what was counted in the bucket 0..6 s leaves at 66 s.
"""

import asyncio
import time
from dataclasses import replace

import pytest

from reputation.charges import Charging, Given, Over, receipt_of
from reputation.contracts import Store
from reputation.keys import Dimension, Entity, Key, Metric, composite, entities_of
from reputation.spelling import Spelling
from reputation.windows import MAX_LIMIT_COUNT, Window
from tests.builders import ALICE, BOB, charge, mail, meter, tracked, us
from tests.contracts.asking import ONE_MICROSECOND, ask, give_back, held

# --- the window


async def test_a_limit_admits_its_count_and_refuses_the_next(store: Store) -> None:
    answers = [await ask(store, at, charge(meter("r", "3/1m"))) for at in (0, 1, 2, 3)]
    assert [answer.allowed for answer in answers] == [True, True, True, False]
    assert [answer.readings[0][0][0].count for answer in answers] == [1, 2, 3, 3]
    assert [answer.readings[0][0][0].remaining for answer in answers] == [2, 1, 0, 0]


@pytest.mark.parametrize("charged_at", [0, 5.999_999])
async def test_a_charge_counts_until_its_bucket_has_wholly_left_the_window(store: Store, charged_at: float) -> None:
    one = charge(meter("r", "1/1m"))
    assert (await ask(store, charged_at, one)).allowed
    assert not (await ask(store, charged_at + 60 - ONE_MICROSECOND, one)).allowed
    assert not (await ask(store, 66 - ONE_MICROSECOND, one)).allowed
    assert (await ask(store, 66, one)).allowed


async def test_pitfall_08_fixed_windows_let_twice_the_limit_through(store: Store) -> None:
    ten = charge(meter("r", "10/1m"))
    around_the_edge = [59 + step / 20 for step in range(40)]
    admitted = [at for at in around_the_edge if (await ask(store, at, ten)).allowed]
    assert len(admitted) == 10


async def test_several_windows_are_held_at_once(store: Store) -> None:
    both = charge(meter("r", "2/1m", "3/1h"))
    allowed = [(await ask(store, at, both)).allowed for at in (0, 1, 2, 70, 140)]
    assert allowed == [True, True, False, True, False]
    assert await held(store, 140, *both.plan.meters) == [0, 3]


async def test_each_window_says_for_itself_how_long_it_is_full(store: Store) -> None:
    both = charge(meter("r", "1/1m", "1/1h"))
    await ask(store, 0, both)
    minute, hour = (await ask(store, 1, both)).readings[0][0]
    assert minute.retry_after_seconds == 65
    assert hour.retry_after_seconds == 13 * 300 - 1


@pytest.mark.parametrize("limits", [("2/1m",), ("5/5m",), ("3/7m",), ("2/1m", "3/1h", "4/24h"), ("3/400s", "7/2d")])
async def test_retry_after_is_exact(store: Store, limits: tuple[str, ...]) -> None:
    one, at = charge(meter("r", *limits)), 1.5
    for _ in range(9):
        answer = await ask(store, at, one)
        if not answer.allowed:
            wait = max(reading.retry_after_seconds for reading in answer.readings[0][0])
            assert not (await ask(store, at + wait - ONE_MICROSECOND, one)).allowed
            at += wait
            assert (await ask(store, at, one)).allowed
        at += 2.25


async def test_room_for_several_units_is_waited_for_until_all_of_them_fit(store: Store) -> None:
    limit = meter("r", "3/1m")
    for at in (0, 10, 20):
        await ask(store, at, charge(limit))
    answer = await ask(store, 25, charge(limit, cost=2))
    assert answer.readings[0][0][0].retry_after_seconds == (1 + 11) * 6 - 25
    assert not (await ask(store, 72 - ONE_MICROSECOND, charge(limit, cost=2))).allowed
    assert (await ask(store, 72, charge(limit, cost=2))).allowed


async def test_a_clock_that_goes_back_counts_in_the_youngest_bucket(store: Store) -> None:
    two = charge(meter("r", "2/1m"))
    await ask(store, 100, two)
    assert (await ask(store, 50, two)).allowed
    [series] = await store.series(ALICE.entity, now_us=us(50))
    assert series.buckets[-1] == (us(96) / 1e6, 2)


async def test_a_clock_that_goes_back_neither_frees_room_nor_lies_about_the_wait(store: Store) -> None:
    one = charge(meter("r", "1/1m"))
    await ask(store, 100, one)
    answer = await ask(store, 50, one)
    assert not answer.allowed
    assert answer.readings[0][0][0].retry_after_seconds == 162 - 50
    assert not (await ask(store, 162 - ONE_MICROSECOND, one)).allowed
    assert (await ask(store, 162, one)).allowed


async def test_what_was_only_read_leaves_no_trace_for_a_clock_that_goes_back(store: Store) -> None:
    one = charge(meter("r", "1/1m"))
    await ask(store, 0, one)
    await held(store, 500, *one.plan.meters)
    await store.series(ALICE.entity, now_us=us(500))
    assert not (await ask(store, 30, one)).allowed


# --- cost


async def test_cost_is_admitted_whole_or_not_at_all(store: Store) -> None:
    limit = meter("r", "10/1m")
    allowed = [(await ask(store, at, charge(limit, cost=cost))).allowed for at, cost in enumerate((7, 4, 3, 1))]
    assert allowed == [True, False, True, False]
    assert await held(store, 4, limit) == [10]


async def test_cost_above_the_limit_is_never_admitted_and_charges_nothing(store: Store) -> None:
    limit = meter("r", "10/1m")
    empty = await ask(store, 0, charge(limit, cost=11))
    assert not empty.allowed
    assert empty.readings[0][0][0].over
    assert not (await ask(store, 1_000, charge(limit, cost=11))).allowed
    assert await held(store, 1_000, limit) == [0]


async def test_cost_of_nothing_is_admitted_into_a_full_window(store: Store) -> None:
    limit = meter("r", "1/1m")
    await ask(store, 0, charge(limit))
    assert (await ask(store, 1, charge(limit, cost=0))).allowed


async def test_counts_are_exact_far_beyond_32_bits(store: Store) -> None:
    limit = meter("r", f"{MAX_LIMIT_COUNT}/1h")
    half = charge(limit, cost=MAX_LIMIT_COUNT // 2)
    assert [(await ask(store, at, half)).allowed for at in (0, 400)] == [True, True]
    assert not (await ask(store, 401, charge(limit))).allowed
    assert await held(store, 401, limit) == [MAX_LIMIT_COUNT]
    [series] = await store.series(ALICE.entity, now_us=us(401))
    assert [count for _, count in series.buckets if count] == [MAX_LIMIT_COUNT // 2] * 2


@pytest.mark.parametrize("edge", [2**8, 2**16, 2**32])
async def test_counts_stay_exact_where_the_store_needs_wider_numbers(store: Store, edge: int) -> None:
    """A total that passes the edge, at once or by one, comes back when something is refunded, and ages out."""
    wide, small = meter("wide", "100/1m", f"{MAX_LIMIT_COUNT}/1h", over=Over.NOTES), meter("small", "9/1h")
    await ask(store, 0, charge(small, wide, cost=1), token="first")
    below = await ask(store, 1, charge(wide, cost=edge - 2), token="second")
    assert await held(store, 2, small, wide) == [1, edge - 1, edge - 1]
    above = await ask(store, 30, charge(wide, cost=1))
    assert above.readings[0][0][1].count == edge
    assert await held(store, 31, small, wide) == [1, edge, edge]
    [series] = [each for each in await store.series(ALICE.entity, now_us=us(31)) if each.window == Window(60)]
    assert [count for _, count in series.buckets if count] == [edge - 1, 1]
    for token in ("first", "second"):
        await ask(store, 32, charge(wide), token=token)
    assert await held(store, 33, small, wide) == [1, edge, edge], "the tokens were kept"
    await give_back(store, receipt_of(below))
    assert await held(store, 34, small, wide) == [1, 2, 2]
    assert await held(store, 66, small, wide) == [1, 1, 2]
    assert await held(store, 96, small, wide) == [1, 0, 2]


async def test_one_wide_number_is_exact_beside_many_small_ones(store: Store) -> None:
    for number in range(13):
        await ask(store, 300 * number, charge(tracked(3_600), cost=3))
    await ask(store, 3_600, charge(tracked(3_600), cost=2**40 + 1))
    [series] = await store.series(ALICE.entity, now_us=us(3_600))
    assert [count for _, count in series.buckets] == [3] * 12 + [2**40 + 4]
    assert series.count == 2**40 + 40


async def test_many_rules_on_one_counter_are_still_counted_right(store: Store) -> None:
    """More numbers than Lua unpacks at once (8,000): as after many changes of limits."""
    many = charge(*(meter(f"rule-{number}", "9/24h") for number in range(400)))
    for cost, expected in ((1, 1), (300, 301), (70_000, 70_301)):
        asked = charge(*(replace(each, over=Over.NOTES) for each in many.plan.meters), cost=cost)
        readings = (await ask(store, cost, asked)).readings[0]
        assert {reading.count for (reading,) in readings} == {expected}
    assert (await ask(store, 70_001, charge(tracked(60), meter("rule-399", "9/24h"), cost=1))).readings[0][1][
        0
    ].count == (70_301)


# --- who is charged


@pytest.mark.parametrize(
    ("charging", "over", "room", "allowed", "charged"),
    [
        (Charging.ACCEPTED, Over.DENIES, True, True, True),
        (Charging.ACCEPTED, Over.DENIES, False, False, False),
        (Charging.ACCEPTED, Over.SKIPS, True, True, True),
        (Charging.ACCEPTED, Over.SKIPS, False, True, False),
        (Charging.ACCEPTED, Over.NOTES, True, True, True),
        (Charging.ACCEPTED, Over.NOTES, False, True, True),
        (Charging.ALWAYS, Over.DENIES, True, True, True),
        (Charging.ALWAYS, Over.DENIES, False, False, True),
        (Charging.ALWAYS, Over.SKIPS, False, True, True),
        (Charging.ALWAYS, Over.NOTES, False, True, True),
        (Charging.NEVER, Over.DENIES, True, True, False),
        (Charging.NEVER, Over.DENIES, False, False, False),
        (Charging.NEVER, Over.SKIPS, False, True, False),
        (Charging.NEVER, Over.NOTES, False, True, False),
    ],
)
async def test_who_is_charged(
    store: Store, charging: Charging, over: Over, room: bool, allowed: bool, charged: bool
) -> None:
    before = 0 if room else 1
    if before:
        await ask(store, 0, charge(meter("r", "1/1m")))
    answer = await ask(store, 1, charge(meter("r", "1/1m", charging=charging, over=over)))
    [[reading]] = answer.readings[0]
    assert answer.allowed is allowed
    assert reading.over is not room
    assert reading.count == before + charged
    assert await held(store, 1, meter("r", "1/1m")) == [before + charged]


async def test_a_refusal_charges_no_key_at_all(store: Store) -> None:
    narrow, wide = meter("narrow", "1/1m"), meter("wide", "100/1m")
    await ask(store, 0, charge(narrow, key=BOB))
    answer = await ask(store, 1, charge(wide, tracked(60), key=ALICE), charge(narrow, tracked(60), key=BOB))
    assert not answer.allowed
    assert await held(store, 1, wide, tracked(60), key=ALICE) == [0, 0]
    assert await held(store, 1, narrow, tracked(60), key=BOB) == [1, 0]


async def test_a_refusal_still_charges_the_meters_that_count_attempts(store: Store) -> None:
    full = meter("full", "1/1m")
    attempts = meter("attempts", "100/1m", charging=Charging.ALWAYS)
    await ask(store, 0, charge(full, key=BOB))
    answer = await ask(store, 1, charge(full, key=BOB), charge(attempts, tracked(60), key=ALICE))
    assert not answer.allowed
    assert await held(store, 1, attempts, tracked(60), key=ALICE) == [1, 0]


async def test_pitfall_06_a_refused_retry_is_not_charged_so_the_message_gets_in(store: Store) -> None:
    one = charge(meter("r", "1/1m"))
    await ask(store, 0, one)
    retries = [(at, (await ask(store, at, one)).allowed) for at in range(1, 80, 5)]
    assert next(at for at, allowed in retries if allowed) == 66


async def test_a_rule_in_shadow_counts_what_it_would_have_let_pass_and_stops_nothing(store: Store) -> None:
    shadow, real = meter("shadow", "2/1m", over=Over.SKIPS), meter("real", "100/1m")
    answers = [await ask(store, at, charge(shadow, real)) for at in range(5)]
    assert all(answer.allowed for answer in answers)
    assert [answer.readings[0][0][0].over for answer in answers] == [False, False, True, True, True]
    assert await held(store, 5, shadow, real) == [2, 5]


async def test_pitfall_07_two_rules_with_the_same_numbers_do_not_share_a_count(store: Store) -> None:
    await ask(store, 0, charge(meter("one", "1/1m")))
    assert (await ask(store, 1, charge(meter("other", "1/1m")))).allowed
    assert not (await ask(store, 2, charge(meter("one", "1/1m")))).allowed


async def test_pitfall_07_joined_parts_do_not_collide(store: Store) -> None:
    def pair(sender: str, user: str) -> Key:
        entities = entities_of(mail(sender, user=user), Spelling())
        entity = composite(entities, (Dimension.SENDER, Dimension.USER))
        assert entity is not None
        return Key(entity, Metric.MESSAGES)

    one = meter("r", "1/1m")
    pairs = [pair("a,b", "c"), pair("a", "b,c"), pair("a", "b%2Cc"), pair("a+b", "c")]
    assert [(await ask(store, 0, charge(one, key=key))).allowed for key in pairs] == [True] * 4


async def test_metrics_of_one_entity_are_counted_apart(store: Store) -> None:
    size = Key(ALICE.entity, Metric.BYTES)
    await ask(store, 0, charge(tracked(60), key=size, cost=5_000), charge(tracked(60)))
    assert await held(store, 1, tracked(60), key=size) == [5_000]
    assert await held(store, 1, tracked(60)) == [1]


async def test_pitfall_10_decisions_at_the_same_time_lose_no_count(store: Store) -> None:
    one = charge(meter("r", "10/1h"))
    answers = await asyncio.gather(*(ask(store, 0, one) for _ in range(50)))
    assert sorted(answer.readings[0][0][0].count for answer in answers if answer.allowed) == list(range(1, 11))


# --- giving back


async def test_a_refund_makes_room_again(store: Store) -> None:
    one = charge(meter("r", "1/1m"))
    answer = await ask(store, 0, one)
    await give_back(store, receipt_of(answer))
    assert await held(store, 1, *one.plan.meters) == [0]
    assert (await ask(store, 1, one)).allowed


async def test_a_refund_goes_to_the_bucket_that_was_charged(store: Store) -> None:
    limit = meter("r", "10/1m", "100/1h")
    early = await ask(store, 0, charge(limit, cost=2))
    await ask(store, 30, charge(limit, cost=3))
    await give_back(store, receipt_of(early))
    assert await held(store, 31, limit) == [3, 3]
    assert await held(store, 66, limit) == [3, 3]
    assert await held(store, 96, limit) == [0, 3]


async def test_a_refund_that_has_aged_out_of_a_window_takes_nothing_from_it(store: Store) -> None:
    limit = meter("r", "10/1m", "100/1h")
    early = await ask(store, 0, charge(limit))
    await ask(store, 66, charge(limit))
    await give_back(store, receipt_of(early))
    assert await held(store, 67, limit) == [1, 1]


async def test_a_refund_never_takes_more_than_the_bucket_holds(store: Store) -> None:
    one = charge(meter("r", "10/1m"))
    answer = await ask(store, 0, one)
    for _ in range(3):
        await give_back(store, receipt_of(answer))
    assert await held(store, 1, *one.plan.meters) == [0]


async def test_a_refund_gives_back_only_what_its_decision_charged(store: Store) -> None:
    shadow = meter("shadow", "1/1m", over=Over.SKIPS)
    attempts = meter("attempts", "9/1m", charging=Charging.ALWAYS)
    peeked = meter("peeked", "9/1m", charging=Charging.NEVER)
    real = meter("real", "9/1m")
    asked = charge(shadow, attempts, peeked, real)
    await ask(store, 0, asked)
    answer = await ask(store, 1, asked)
    assert receipt_of(answer) == (Given(charge(real), us(1)),)
    await give_back(store, receipt_of(answer))
    assert await held(store, 2, shadow, attempts, peeked, real) == [1, 2, 0, 1]


async def test_a_refund_of_something_unknown_does_nothing(store: Store) -> None:
    await give_back(store, (Given(charge(meter("r", "1/1m")), us(0)),))
    assert await store.series(ALICE.entity, now_us=us(0)) == []


async def test_a_refund_of_nothing_does_nothing(store: Store) -> None:
    await give_back(store, ())


async def test_a_refund_of_several_keys_reaches_each(store: Store) -> None:
    charges = [charge(tracked(60), key=ALICE, cost=2), charge(tracked(60), key=BOB, cost=3)]
    answer = await ask(store, 0, *charges)
    await give_back(store, receipt_of(answer))
    assert [await held(store, 1, tracked(60), key=key) for key in (ALICE, BOB)] == [[0], [0]]


# --- the rules change while the counters live on


async def test_pitfall_34_a_changed_limit_keeps_the_count(store: Store) -> None:
    for at in range(3):
        await ask(store, at, charge(meter("r", "3/1m")))
    assert not (await ask(store, 3, charge(meter("r", "2/1m")))).allowed
    raised = await ask(store, 4, charge(meter("r", "4/1m")))
    assert raised.allowed
    assert raised.readings[0][0][0].count == 4


async def test_pitfall_34_a_changed_action_keeps_the_count(store: Store) -> None:
    await ask(store, 0, charge(meter("r", "1/1m", over=Over.SKIPS)))
    assert not (await ask(store, 1, charge(meter("r", "1/1m", over=Over.DENIES)))).allowed


async def test_pitfall_34_an_added_window_starts_at_zero_and_the_others_keep_their_counts(store: Store) -> None:
    await ask(store, 0, charge(meter("r", "5/1m")))
    await ask(store, 1, charge(meter("r", "5/1m", "5/1h")))
    assert await held(store, 2, meter("r", "5/1m", "5/1h")) == [2, 1]


async def test_pitfall_34_a_removed_window_stands_still_and_comes_back_with_what_it_held(store: Store) -> None:
    await ask(store, 0, charge(meter("r", "5/1m", "5/1h")))
    await ask(store, 1, charge(meter("r", "5/1m")))
    assert await held(store, 2, meter("r", "5/1m", "5/1h")) == [2, 1]


async def test_pitfall_34_a_renamed_rule_starts_at_zero(store: Store) -> None:
    await ask(store, 0, charge(meter("old-name", "1/1m")))
    assert (await ask(store, 1, charge(meter("new-name", "1/1m")))).allowed


async def test_rules_that_a_process_does_not_know_keep_their_counts(store: Store) -> None:
    old, new = meter("old", "5/1m", "5/1h"), meter("new", "5/5m")
    await ask(store, 0, charge(tracked(60), old))
    for at in (1, 2):
        await ask(store, at, charge(new, tracked(60)))
    assert await held(store, 3, tracked(60), old, new) == [3, 1, 1, 2]


async def test_order_of_meters_and_windows_does_not_matter(store: Store) -> None:
    await ask(store, 0, charge(meter("a", "5/1m", "5/1h"), meter("b", "5/1m"), cost=2))
    await ask(store, 1, charge(meter("b", "5/1m"), meter("a", "5/1h", "5/1m")))
    assert await held(store, 2, meter("a", "5/1m", "5/1h"), meter("b", "5/1m")) == [3, 3, 3]


async def test_a_ring_of_another_rule_stays_while_it_holds_something_and_not_longer(store: Store) -> None:
    other, mine = meter("other", "9/1m"), meter("mine", "9/1m", "9/1h")
    await ask(store, 0, charge(other, cost=2))
    await ask(store, 10, charge(other, cost=3))
    await ask(store, 66, charge(mine))
    assert await held(store, 66, other, mine) == [3, 1, 1]
    await ask(store, 72 - ONE_MICROSECOND, charge(meter("third", "9/1m")))
    assert await held(store, 72 - ONE_MICROSECOND, other, mine) == [3, 1, 1]
    await ask(store, 72, charge(mine))
    assert {(each.scope, each.window.seconds) for each in await store.series(ALICE.entity, now_us=us(72))} == {
        *(("mine", 60), ("mine", 3_600), ("third", 60)),
    }


async def test_a_rule_that_is_gone_for_longer_than_its_window_leaves_nothing_behind(store: Store) -> None:
    await ask(store, 0, charge(meter("gone", "5/1m"), meter("stays", "5/1h")))
    await ask(store, 70, charge(meter("added", "5/1m")))
    scopes = {series.scope for series in await store.series(ALICE.entity, now_us=us(70))}
    assert scopes == {"stays", "added"}


# --- telling


async def test_series_show_each_window_bucket_by_bucket(store: Store) -> None:
    asked = charge(tracked(3_600), meter("r", "9/1m"))
    for at in (0, 5, 13, 40):
        await ask(store, at, asked)
    own, ruled = await store.series(ALICE.entity, now_us=us(45))
    assert (own.key, own.scope, own.window, own.count) == (ALICE, "", Window(3_600), 4)
    assert own.buckets[-1] == (us(0) / 1e6, 4)
    assert len(own.buckets) == 13
    assert (ruled.scope, ruled.window, ruled.count) == ("r", Window(60), 4)
    assert ruled.buckets == tuple(
        (us(start) / 1e6, {0: 2, 12: 1, 36: 1}.get(start, 0)) for start in range(42 - 60, 43, 6)
    )


async def test_series_cover_all_metrics_of_the_entity_and_no_other_entity(store: Store) -> None:
    keys = [Key(ALICE.entity, Metric.SPAM), ALICE, Key(ALICE.entity, Metric.BYTES), BOB]
    for key in keys:
        await ask(store, 0, charge(tracked(60), key=key))
    found = [series.key for series in await store.series(ALICE.entity, now_us=us(1))]
    assert found == [ALICE, Key(ALICE.entity, Metric.BYTES), Key(ALICE.entity, Metric.SPAM)]


async def test_series_of_what_has_aged_out_or_never_was_are_empty(store: Store) -> None:
    await ask(store, 0, charge(tracked(60, 3_600)))
    assert [series.window for series in await store.series(ALICE.entity, now_us=us(66))] == [Window(3_600)]
    assert await store.series(ALICE.entity, now_us=us(4_000)) == []
    assert await store.series(BOB.entity, now_us=us(0)) == []


async def test_now_is_the_clock_of_the_store_when_none_is_given(store: Store) -> None:
    before = time.time_ns() // 1_000
    answer = await store.decide([charge(meter("r", "1/1h"))])
    after = time.time_ns() // 1_000
    assert before <= answer.at_us <= after  # one machine, so one clock
    assert not (await store.decide([charge(meter("r", "1/1h"))])).allowed
    [series] = await store.series(ALICE.entity)
    assert series.count == 1


async def test_the_answer_repeats_the_time_it_was_given(store: Store) -> None:
    assert (await ask(store, 12.345_678, charge(tracked(60)))).at_us == us(12.345_678)


async def test_nothing_asked_is_allowed(store: Store) -> None:
    assert (await ask(store, 0)).allowed


# --- ids

STRANGE_IDS = [
    "brace}s{and{}@example.com",
    "nul\x00and\x7fbell\x07@example.com",
    "undecodable-\udcff\udc80@example.com",
    "lone-\ud800-surrogate@example.com",
    "long-" + "x" * 4_096 + "@example.com",
    "white \t\r\n space@example.com",
    "semi;colon|pipe:and,comma@example.com",
    "日本語@例え.テスト",
    "percent%00@example.com",
]


@pytest.mark.parametrize("address", STRANGE_IDS, ids=range(len(STRANGE_IDS)))
async def test_pitfall_14_ids_may_hold_anything(store: Store, address: str) -> None:
    entity = entities_of(mail(address), Spelling())[Dimension.SENDER]
    key = Key(entity, Metric.MESSAGES)
    one = charge(meter("r", "1/1m"), key=key)
    assert (await ask(store, 0, one)).allowed
    answer = await ask(store, 1, one)
    assert not answer.allowed
    [series] = await store.series(entity, now_us=us(1))
    assert (series.key, series.count) == (key, 1)


async def test_pitfall_14_strange_ids_are_counted_apart(store: Store) -> None:
    entities: set[Entity] = {entities_of(mail(address), Spelling())[Dimension.SENDER] for address in STRANGE_IDS}
    one = meter("r", "1/1m")
    allowed = [(await ask(store, 0, charge(one, key=Key(entity, Metric.MESSAGES)))).allowed for entity in entities]
    assert allowed == [True] * len(STRANGE_IDS)


async def test_a_store_says_what_it_is(store: Store) -> None:
    assert (await store.ping()).split()[0] in {"memory", "Redis", "Valkey"}
