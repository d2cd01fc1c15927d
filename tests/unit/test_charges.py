"""Plans as the store reads them, answers as they are looked at, and receipts: what can be given back of a decision."""

import pytest

from reputation.charges import Answer, Charge, Charging, Given, Kind, Meter, Over, Plan, receipt_of
from reputation.score import EvidenceKind
from reputation.windows import Limit, Reading, Window
from tests.builders import ALICE, BOB, came, charge, evidence, lease, met, meter, seen, tracked, us


def answered(*charges: Charge, over: frozenset[str] = frozenset(), prior_us: int = 0, **more: object) -> Answer:
    """An answer in which the meters of the scopes `over` are over, and each count is one."""
    numbers: list[int] = []
    for made in charges:
        for each in made.plan.meters:
            numbers += (1, 1_000_000 if each.scope in over else 0) * len(each.windows)
        numbers += [prior_us] * (made.plan.kind is Kind.DISTINCT) + [0] * 18 * (made.plan.kind is Kind.EVIDENCE)
        numbers += [prior_us, prior_us + 1] * (made.plan.kind is Kind.SEEN)
    times = (us(0),) * len(charges)
    return Answer(charges=charges, numbers=numbers, times_us=times, **more)  # type: ignore[arg-type]  # what a test passes on


# --- plans


def test_a_plan_names_its_kind_then_scope_over_charging_and_every_window() -> None:
    plan = Plan(
        (
            tracked(60, 86_400),
            meter("r", "5/1m", "100/400s", charging=Charging.ALWAYS, over=Over.SKIPS),
            meter("peek", "1/1s", charging=Charging.NEVER),
        )
    )
    assert plan.text == "r|;n;a;60:10:0,86400:24:0|r;s;+;60:10:5,400:12:100|peek;d;-;1:10:1"
    assert (plan.size, plan.own, plan.scoped) == (10, 2, True)


@pytest.mark.parametrize(
    ("plan", "text", "size"),
    [
        (met("m", "5/1h").plan, "d|r;d;a;3600:12:5", 3),
        (lease("m", 7).plan, "c|r;d;a;60:10:7", 2),
        (came("5/1m", "9/1h").plan, "m|r;d;a;60:10:5,3600:12:9", 4),
        (evidence().plan, "e", 18),
        (Plan((Meter(scope="r", windows=(Window(7_776_000),)),), Kind.SEEN), "s|r;n;a;7776000:24:0", 4),
        (Plan(), "r", 0),
    ],
)
def test_a_plan_of_another_kind(plan: Plan, text: str, size: int) -> None:
    assert (plan.text, plan.size, plan.own) == (text, size, 0)


def test_only_a_meter_without_a_rule_that_stands_first_is_the_entity_s_own() -> None:
    assert Plan((tracked(60, 300), meter("r", "1/1m"))).own == 2
    assert Plan((meter("r", "1/1m"), tracked(60))).own == 0
    assert not Plan((tracked(60),)).scoped


def test_plans_of_the_same_meters_are_the_same() -> None:
    assert Plan((meter("r", "1/1m"),)) == Plan((meter("r", "1/1m"),)) != Plan((meter("r", "2/1m"),))
    assert Plan((meter("r", "1/1m"),)) != Plan((meter("r", "1/1m"),), Kind.DISTINCT)


def test_a_limited_meter_has_one_window_for_each_limit() -> None:
    limits = [Limit.parse("5/1m"), Limit.parse("9/1h")]
    made = Meter.limited("r", limits, Charging.ACCEPTED, Over.DENIES)
    assert made.windows == tuple(limit.window for limit in limits)
    assert made.limits == tuple(limits)


# --- answers


def test_readings_are_made_of_the_numbers_charge_by_charge() -> None:
    charges = (charge(tracked(60), meter("r", "5/1m", "9/1h")), met("m", "3/1h"), charge(tracked(300), key=BOB))
    numbers = [7, 0, 5, 1_500_000, 6, 0, 2, 0, us(3), 8, 0]
    answer = Answer(charges, allowed=False, numbers=numbers, times_us=(us(0), us(2), us(1)))
    [[own], [minute, hour]], [[members]], [[bobs]] = answer.readings
    assert own == Reading(window=Window(60), count=7)
    assert (minute.count, str(minute.limit), minute.retry_after_seconds) == (5, "5/1m", 1.5)
    assert (hour.count, str(hour.limit), hour.over) == (6, "9/1h", False)
    assert (members.count, members.limit) == (2, Limit.parse("3/1h"))
    assert bobs == Reading(window=Window(300), count=8)
    assert answer.at_us == us(2), "the latest: servers of a cluster have a clock each"


def test_a_meter_is_over_when_any_of_its_windows_is() -> None:
    made = charge(meter("a", "5/1m", "9/1h"), meter("b", "5/1m"))
    answer = Answer((made,), numbers=[5, 0, 9, 1, 0, 0], times_us=(us(0),))
    first, second = made.plan.meters
    assert (answer.is_over(0, first), answer.is_over(4, second)) == (True, False)


def test_an_answer_says_when_a_key_was_first_and_last_seen() -> None:
    answer = answered(charge(tracked(60)), seen(), seen(key=BOB), prior_us=us(-9))
    assert answer.seen_at(2) == answer.seen_at(6) == (us(-9), us(-9) + 1)
    assert [readings[0][0].count for readings in answer.readings] == [1, 1, 1]


def test_an_answer_to_nothing_allows() -> None:
    assert (Answer().allowed, Answer().at_us, Answer().readings, receipt_of(Answer())) == (True, 0, (), ())


# --- receipts


def test_an_allowed_decision_gives_a_receipt_with_its_time_and_token() -> None:
    charges = (charge(tracked(60), key=ALICE, cost=2), charge(meter("r", "5/1m"), key=BOB))
    given = tuple(Given(each, us(0), 0, "message") for each in charges)
    assert receipt_of(answered(*charges, token="message")) == given


def test_each_line_has_the_time_of_its_own_server() -> None:
    charges = (charge(tracked(60), key=ALICE), charge(tracked(60), key=BOB))
    answer = answered(*charges)._replace(times_us=(us(1), us(2)))
    assert [given.at_us for given in receipt_of(answer)] == [us(1), us(2)]


def test_a_refused_decision_charged_nothing_that_could_be_given_back() -> None:
    assert receipt_of(answered(charge(meter("r", "5/1m")), allowed=False)) == ()


def test_meters_that_were_not_charged_or_count_attempts_are_in_no_receipt() -> None:
    skipped = meter("skipped", "5/1m", over=Over.SKIPS)
    charged = meter("charged", "5/1m", over=Over.SKIPS)
    noted = meter("noted", "5/1m", over=Over.NOTES)
    always = meter("always", "5/1m", charging=Charging.ALWAYS)
    never = meter("never", "5/1m", charging=Charging.NEVER)
    one = charge(skipped, charged, noted, always, never)
    receipt = receipt_of(answered(one, over=frozenset({"skipped", "noted"})))
    assert receipt == (Given(charge(charged, noted), us(0)),)


def test_a_key_without_such_a_meter_is_left_out() -> None:
    never = charge(meter("never", "5/1m", charging=Charging.NEVER), key=ALICE)
    own = charge(tracked(60), key=BOB)
    assert receipt_of(answered(never, own)) == (Given(own, us(0)),)
    assert receipt_of(answered(never)) == ()


def test_a_member_s_line_says_when_it_was_seen_before() -> None:
    asked = met("m", "3/1h")
    receipt = receipt_of(answered(charge(tracked(60)), asked, prior_us=us(-9)))
    assert receipt[1] == Given(asked, us(0), us(-9))


def test_having_been_seen_is_given_back_by_its_time_alone() -> None:
    receipt = receipt_of(answered(charge(tracked(60)), seen(), met("m", "3/1h"), prior_us=us(-9)))
    assert receipt[1:] == (Given(seen(), us(0)), Given(met("m", "3/1h"), us(0), us(-9)))
    looked = (seen(charging=Charging.NEVER), seen(charging=Charging.ALWAYS, key=BOB))
    assert receipt_of(answered(*looked)) == ()


def test_evidence_is_not_given_back() -> None:
    held = lease("m", 5)
    assert receipt_of(answered(evidence(EvidenceKind.SPAM), held)) == (Given(held, us(0)),)


def test_what_got_no_answer_or_was_charged_before_is_in_no_receipt() -> None:
    charges = (charge(tracked(60), key=ALICE), charge(tracked(60, 300), key=BOB), lease("m", 5))
    assert receipt_of(answered(*charges, missing=frozenset({0}), repeated=0b10)) == (Given(charges[2], us(0)),)
