"""How charges are written for the server's functions, and their replies read."""

from reputation.charges import Charging, Over
from reputation.keys import Key, Metric
from reputation.store import functions
from reputation.windows import Window
from tests.builders import ALICE, BOB, charge, meter, tracked, us


def test_a_plan_names_scope_over_charging_and_every_window() -> None:
    meters = (
        tracked(60, 86_400),
        meter("r", "5/1m", "100/400s", charging=Charging.ALWAYS, over=Over.SKIPS),
        meter("peek", "1/1s", charging=Charging.NEVER, over=Over.DENIES),
    )
    assert functions.plan_of(meters) == (
        ";n;a;60:10:6000000:0,86400:24:3600000000:0|r;s;+;60:10:6000000:5,400:12:33333334:100|peek;d;-;1:10:100000:1"
    )


def test_a_call_has_its_keys_first_then_the_time_then_plan_and_cost_of_each() -> None:
    charges = [charge(tracked(60), key=ALICE, cost=2), charge(meter("r", "5/1m"), key=BOB, cost=3)]
    assert functions.call_of(charges, 17, "rp") == [
        *(2, "rp:{sender:alice@example.com}:messages", "rp:{sender:bob@example.com}:messages", 17),
        *(";n;a;60:10:6000000:0", 2, "r;d;a;60:10:6000000:5", 3),
    ]


def test_an_answer_has_a_count_and_a_wait_for_each_window() -> None:
    charges = [charge(tracked(60), meter("r", "5/1m", "9/1h")), charge(tracked(60), key=BOB)]
    answer = functions.answer_of(charges, [0, us(0), 7, 0, 5, 1_500_000, 6, 0, 8, 0])
    assert (answer.allowed, answer.at_us) == (False, us(0))
    [[own], [minute, hour]], [[bobs]] = answer.readings
    assert (own.count, own.limit, own.over) == (7, None, False)
    assert (minute.count, str(minute.limit), minute.retry_after_seconds) == (5, "5/1m", 1.5)
    assert (hour.count, str(hour.limit), hour.over) == (6, "9/1h", False)
    assert bobs.count == 8


def test_series_are_read_with_the_start_of_each_bucket() -> None:
    key = Key(ALICE.entity, Metric.BYTES)
    [series] = functions.series_of(key, [[b"a-rule:60:10", 20, *range(11)]])
    assert (series.key, series.scope, series.window, series.count) == (key, "a-rule", Window(60), 55)
    assert series.buckets[0] == (60.0, 0)
    assert series.buckets[-1] == (120.0, 10)


def test_names_carry_the_version_so_that_releases_live_side_by_side() -> None:
    assert functions.SOURCE.startswith(f"#!lua name=reputon_{functions.VERSION}\n")
    for name in (functions.DECIDE, functions.REFUND, functions.SERIES):
        assert f"'{name}'" in functions.SOURCE
    assert "@VERSION@" not in functions.SOURCE
