"""Receipts: what can be given back of a decision."""

from reputation.charges import Answer, Charge, Charging, Meter, Over, Receipt, receipt_of
from reputation.windows import Limit, Reading
from tests.builders import ALICE, BOB, charge, meter, tracked, us


def answered(*charges: Charge, allowed: bool = True, over: frozenset[str] = frozenset()) -> Answer:
    """An answer in which the meters of the scopes `over` are over."""

    def reading(each: Meter, position: int) -> Reading:
        limit = each.limits[position] if each.limits else None
        wait = 1.0 if each.scope in over else 0.0
        return Reading(window=each.windows[position], count=1, limit=limit, retry_after_seconds=wait)

    readings = tuple(
        tuple(tuple(reading(each, position) for position in range(len(each.windows))) for each in made.meters)
        for made in charges
    )
    return Answer(allowed=allowed, at_us=us(0), readings=readings)


def test_an_allowed_decision_gives_a_receipt_with_its_time() -> None:
    charges = (charge(tracked(60), key=ALICE, cost=2), charge(meter("r", "5/1m"), key=BOB))
    assert receipt_of(charges, answered(*charges)) == Receipt(charges=charges, at_us=us(0))


def test_a_refused_decision_charged_nothing_that_could_be_given_back() -> None:
    one = charge(meter("r", "5/1m"))
    assert receipt_of([one], answered(one, allowed=False)) is None


def test_meters_that_were_not_charged_or_count_attempts_are_in_no_receipt() -> None:
    skipped = meter("skipped", "5/1m", over=Over.SKIPS)
    charged = meter("charged", "5/1m", over=Over.SKIPS)
    noted = meter("noted", "5/1m", over=Over.NOTES)
    always = meter("always", "5/1m", charging=Charging.ALWAYS)
    never = meter("never", "5/1m", charging=Charging.NEVER)
    one = charge(skipped, charged, noted, always, never)
    receipt = receipt_of([one], answered(one, over=frozenset({"skipped", "noted"})))
    assert receipt is not None
    assert receipt.charges == (charge(charged, noted),)


def test_a_key_without_such_a_meter_is_left_out_and_nothing_at_all_is_no_receipt() -> None:
    never = charge(meter("never", "5/1m", charging=Charging.NEVER), key=ALICE)
    own = charge(tracked(60), key=BOB)
    receipt = receipt_of([never, own], answered(never, own))
    assert receipt is not None
    assert receipt.charges == (own,)
    assert receipt_of([never], answered(never)) is None
    assert receipt_of([], answered()) is None


def test_a_limited_meter_has_one_window_for_each_limit() -> None:
    limits = [Limit.parse("5/1m"), Limit.parse("9/1h")]
    made = Meter.limited("r", limits, Charging.ACCEPTED, Over.DENIES)
    assert made.windows == tuple(limit.window for limit in limits)
    assert made.limits == tuple(limits)
