"""What every Store promises of interpolated limits: all but exact (`reputation.moments`)."""

from random import Random

import pytest

from reputation.charges import Charging, Over, Receipt, receipt_of
from reputation.contracts import Store
from reputation.moments import KEPT_STRETCHES, Moments
from tests.builders import RECENT, came, charge, tracked, us
from tests.contracts.asking import ONE_MICROSECOND, ask, give_back

HOUR = 3_600


async def held(store: Store, at: float, *limits: str) -> list[int]:
    """How many units there are in the windows."""
    asked = came(*limits, charging=Charging.NEVER, over=Over.NOTES)
    return [reading.count for reading in (await ask(store, at, asked)).readings[0][0]]


async def test_an_interpolated_limit_is_right_to_the_microsecond(store: Store) -> None:
    for at in (1, 2, 3.5):
        await ask(store, at, came("3/1m"))
    refused = await ask(store, 4, came("3/1m"))
    assert (refused.allowed, refused.readings[0][0][0].retry_after_seconds) == (False, 57.0)
    assert not (await ask(store, 61 - ONE_MICROSECOND, came("3/1m"))).allowed
    assert (await ask(store, 61, came("3/1m"))).allowed
    assert await held(store, 61.5, "3/1m") == [3]
    assert not (await ask(store, 61.999_999, came("3/1m"))).allowed
    assert (await ask(store, 62, came("3/1m"))).allowed


async def test_each_window_of_the_rule_has_its_own_count(store: Store) -> None:
    limits = ("2/1m", "3/1h")
    allowed = [at for at in range(0, 300, 20) if (await ask(store, at, came(*limits))).allowed]
    assert allowed == [0, 20, 60]
    assert await held(store, 300, *limits) == [0, 3]
    refused = await ask(store, 300, came(*limits))
    assert [reading.retry_after_seconds for reading in refused.readings[0][0]] == [0, 3_300]


async def test_a_cost_beyond_what_is_left_waits_for_as_many_units_as_it_needs(store: Store) -> None:
    for at, cost in ((0, 2), (10, 3)):
        await ask(store, at, came("6/1m", cost=cost))
    waits = [(await ask(store, 20, came("6/1m", cost=cost))).readings[0][0][0].retry_after_seconds for cost in (2, 4)]
    assert waits == [40, 50]
    never = await ask(store, 20, came("6/1m", cost=9))
    assert never.readings[0][0][0].retry_after_seconds == 50, "until the window is empty"


async def test_what_is_given_back_was_never_there(store: Store) -> None:
    answers = [await ask(store, at, came("3/1m")) for at in (0, 10, 10, 20)]
    assert [answer.allowed for answer in answers] == [True, True, True, False]
    await give_back(store, receipt_of(answers[0]))
    assert (await ask(store, 21, came("3/1m"))).allowed
    await give_back(store, receipt_of(answers[1]))
    assert await held(store, 22, "3/1m") == [2]
    await give_back(store, receipt_of(answers[2]))
    assert await held(store, 22, "3/1m") == [1]
    assert await held(store, 82, "3/1m") == [0]


async def test_a_message_that_comes_back_is_charged_once(store: Store) -> None:
    for at in (0, 1, 2):
        answer = await ask(store, at, came("2/1m"), token="a message")
        assert (answer.allowed, answer.repeated) == (True, at > 0)
    assert await held(store, 3, "2/1m") == [1]


async def test_an_interpolated_rule_shares_no_count_with_the_entity(store: Store) -> None:
    strict = charge(tracked(60), cost=5)
    assert strict.key != RECENT
    await ask(store, 0, strict, came("9/1m"))
    assert await held(store, 1, "9/1m") == [1]


async def test_a_clock_that_goes_back_counts_at_the_latest_moment(store: Store) -> None:
    await ask(store, 100, came("2/1m"))
    await ask(store, 50, came("2/1m"))
    refused = await ask(store, 50, came("2/1m"))
    assert refused.readings[0][0][0].retry_after_seconds == 110
    assert await held(store, 159, "2/1m") == [2]
    assert await held(store, 160, "2/1m") == [0]


async def test_an_override_with_short_windows_forgets_nothing_that_the_long_ones_need(store: Store) -> None:
    for at in range(3):
        await ask(store, at, came("3/24h"))
    assert (await ask(store, 10, came("9/5m"))).allowed, "somebody has given him other limits"
    refused = await ask(store, 400, came("3/24h"))
    assert (refused.allowed, refused.readings[0][0][0].count) == (False, 4)
    for day in range(1, 4):  # ... and nobody counts by the day any more
        await ask(store, day * 86_400 + 20, came("9/5m"))
    assert await held(store, 3 * 86_400 + 21, "9/24h") == [1]


@pytest.mark.parametrize("cost", [1, 3])
@pytest.mark.parametrize("windows", [("1h",), ("1m", "1h"), ("5m", "24h", "1m")])
async def test_more_than_is_kept_apart_is_counted_as_the_reference_counts_it(
    store: Store, cost: int, windows: tuple[str, ...]
) -> None:
    """Many times as many stretches as are kept, in bursts: what has become one is still right in number."""
    random, reference, at = Random(5), Moments(), 0.0
    receipts: list[Receipt] = []
    many = came(*(f"999999/{window}" for window in windows), cost=cost)
    for _ in range(5 * KEPT_STRETCHES if cost == 1 else 2 * KEPT_STRETCHES):
        at += random.choice([0.000_1, 0.5, 5.0])
        answer = await ask(store, at, many)
        reference.charge(cost, us(at), many.plan.meters[0].windows)
        if random.random() < 0.2:
            given = random.choice([receipt_of(answer), *receipts])
            await give_back(store, given)
            reference.refund(cost, given[0].at_us)
        receipts.append(receipt_of(answer))
    assert sum(count for _, _, count in reference.stretches) > 3 * len(reference.stretches), "many have become one"
    for later in range(0, HOUR, 100):
        asked = came("40/1h", "30/1m", charging=Charging.NEVER)
        [[readings]] = (await ask(store, at + later, asked)).readings
        for reading, limit in zip(readings, (40, 30), strict=True):
            window = reading.window
            assert reading.count == reference.count(window, us(at + later))
            assert round(reading.retry_after_seconds * 1e6) == reference.retry_after_us(
                1, limit, window, us(at + later)
            )
