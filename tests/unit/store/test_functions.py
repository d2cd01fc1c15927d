"""How calls are written for the server's functions, and their replies read."""

import hiredis
import pytest

from reputation.charges import Answer, Charge, Charging, Given, Kind, Over
from reputation.keys import Key, Metric
from reputation.score import EvidenceKind
from reputation.store import functions
from reputation.windows import Window
from tests.builders import ALICE, BOB, charge, evidence, lease, met, meter, seen, tracked, us

ALICE_KEY = "rp:{sender:alice@example.com}:messages"
BOB_KEY = "rp:{sender:bob@example.com}:messages"


def words_of(command: bytes) -> list[bytes]:
    """The words of a command, read by a parser that is not ours."""
    reader = hiredis.Reader()
    reader.feed(command)
    words: list[bytes] = reader.gets()
    assert reader.gets() is False, "one command, and nothing after it"
    return words


def encoded(*words: str | int) -> list[bytes]:
    return [str(word).encode() for word in words]


# --- calls


def test_a_decision_has_its_keys_first_then_time_and_token_then_plan_and_amount_of_each() -> None:
    charges = [charge(tracked(60), key=ALICE, cost=2), charge(meter("r", "5/1m"), key=BOB, cost=3_000)]
    words = words_of(functions.decide_command(charges, "rp", "", 17))
    assert words == encoded(
        *("FCALL", functions.DECIDE, 2, ALICE_KEY, BOB_KEY, 17, ""),
        *("r|;n;a;60:10:0", 2, "r|r;d;a;60:10:5", 3_000),
    )


def test_without_a_time_the_server_s_clock_rules_and_a_token_is_eight_bytes() -> None:
    words = words_of(functions.decide_command([charge(tracked(60))], "rp", "a message", None))
    assert words[4] == b""
    assert words[5] == functions.token_of("a message")
    assert len(words[5]) == functions.TOKEN_BYTES
    assert functions.token_of("another") != words[5] != functions.token_of("")


@pytest.mark.parametrize(
    ("asked", "amount"),
    [
        (met("a-member", "5/1h"), "a-member"),
        (lease("a-session", 5), "a-session"),
        (evidence(EvidenceKind.SPAM, 2.5), "1:2500"),
        (evidence(), ""),
        (charge(tracked(60), cost=0), "0"),
        (charge(tracked(60), cost=2**48), str(2**48)),
    ],
)
def test_the_amount_of_each_kind(asked: Charge, amount: str) -> None:
    assert words_of(functions.decide_command([asked], "rp", "", None))[-1] == amount.encode()


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 250])
def test_a_decision_may_have_any_number_of_keys(size: int) -> None:
    keys = [Key(ALICE.entity._replace(id=str(number)), Metric.SPAM) for number in range(size)]
    words = words_of(functions.decide_command([charge(tracked(60), key=key) for key in keys], "rp", "", None))
    assert words[2] == str(size).encode()
    assert words[3 : 3 + size] == [key.spelled("rp").encode() for key in keys]
    assert len(words) == 3 + size + 2 + 2 * size


def test_on_a_cluster_each_key_is_a_decision_of_its_own_for_its_slot() -> None:
    charges = [charge(tracked(60)), met("m", "5/1m"), charge(meter("r", "5/1m"), key=BOB, cost=3)]
    assert functions.decide_commands(charges, "rp", "t", 17) == [
        (functions.slot_of(each.key.spelled("rp")), functions.decide_command([each], "rp", "t", 17)) for each in charges
    ]


def test_a_refund_has_time_plan_amount_prior_and_token_of_each_key() -> None:
    receipt = (Given(charge(tracked(60), cost=2), 17, 0, "t"), Given(met("m", "5/1m"), 18, 9))
    assert words_of(functions.refund_command(receipt, "rp")) == [
        *encoded("FCALL", functions.REFUND, 2, ALICE_KEY, receipt[1].charge.key.spelled("rp")),
        *(*encoded(17, "r|;n;a;60:10:0", 2, 0), functions.token_of("t")),
        *encoded(18, "d|r;d;a;60:10:5", "m", 9, ""),
    ]


def test_any_other_call_has_its_keys_and_arguments() -> None:
    words = words_of(functions.command(functions.COUNTS, ["a", "ö"], "", 5, b"\xff"))
    assert words == [*encoded("FCALL", functions.COUNTS, 2, "a", "ö", "", 5), b"\xff"]


@pytest.mark.parametrize("id", ["a", "ö\udcff", "x" * 2_000])
@pytest.mark.parametrize("scope", ["", "a-rule"])
def test_a_key_is_spelled_as_a_bulk_string_of_its_bytes(id: str, scope: str) -> None:
    key = Key(ALICE.entity._replace(id=id), Metric.SPAM, scope)
    tag, name = functions.named(key, functions.opening("rp"))
    assert (tag, name) == (f"{key.entity}".encode("utf-8", "surrogatepass"), functions.bulk(key.spelled("rp")))


def test_the_slot_is_that_of_the_entity() -> None:
    """The example of the cluster specification's CRC16: 123456789 gives 31C3."""
    assert functions.slot_of("rp:{123456789}:messages") == 0x31C3 % functions.SLOTS
    assert functions.slot_of("rp:{a}:messages:rule") == functions.slot_of("other:{a}:bytes")
    tag, _ = functions.named(ALICE, functions.opening("rp"))
    assert functions.slot_of_tag(tag) == functions.slot_of(ALICE.spelled("rp"))


# --- replies


def test_an_answer_has_time_repeats_and_numbers() -> None:
    charges = [charge(tracked(60), meter("r", "5/1m")), charge(tracked(60), key=BOB)]
    answer = functions.one_answer(charges, "t", [0, us(0), 2, 7, 0, 5, 1_500_000, 8, 0])
    expected = Answer(tuple(charges), False, [7, 0, 5, 1_500_000, 8, 0], times_us=(us(0), us(0)), token="t", repeated=2)
    assert answer == expected


def joint(*parts: tuple[Charge, list[int] | None]) -> Answer:
    return functions.joint_answer([asked for asked, _ in parts], "", [reply for _, reply in parts])


def test_keys_that_all_allow_answer_as_one() -> None:
    one, two = charge(tracked(60), cost=2), charge(meter("r", "5/1m"), key=BOB)
    answer = joint((one, [1, us(1), 0, 7, 0]), (two, [1, us(2), 1, 5, 0]))
    assert answer == Answer((one, two), True, [7, 0, 5, 0], [us(1), us(2)], "", 0b10)


def test_when_one_key_refuses_the_others_are_told_without_what_they_were_charged() -> None:
    shadow, attempts = meter("shadow", "5/1m", over=Over.SKIPS), meter("attempts", "9/1m", charging=Charging.ALWAYS)
    allows = charge(tracked(60, 300), shadow, attempts, cost=2)
    refuses = charge(meter("r", "5/1m"), key=BOB)
    answer = joint((allows, [1, us(1), 0, 7, 0, 9, 0, 5, 1_000, 4, 0]), (refuses, [0, us(1), 0, 5, 2_000]))
    assert not answer.allowed
    assert answer.numbers == [5, 0, 7, 0, 5, 1_000, 4, 0, 5, 2_000], "over and skipped, or counted in any case: as told"


def test_a_member_that_was_inside_before_is_not_taken_off_a_refused_count() -> None:
    refuses = (charge(meter("r", "5/1m")), [0, us(100), 0, 5, 2_000])
    inside = joint((met("m", "5/1m", "9/1h"), [1, us(100), 0, 3, 0, 4, 0, us(30)]), refuses)
    assert inside.numbers[:4] == [2, 0, 4, 0], "outside of the minute, inside of the hour"
    new = joint((met("m", "5/1m", "9/1h"), [1, us(100), 0, 3, 0, 4, 0, 0]), refuses)
    assert new.numbers[:4] == [2, 0, 3, 0]


def test_having_been_seen_before_is_told_as_it_was_when_another_key_refuses() -> None:
    refuses = (charge(meter("r", "5/1m")), [0, us(100), 0, 5, 2_000])
    for numbers in ([0, 0, 0, 0], [1, 0, us(1), us(30)]):
        assert joint((seen(), [1, us(100), 0, *numbers]), refuses).numbers == [*numbers, 5, 2_000]


def test_what_was_charged_for_the_token_before_is_not_taken_off_a_refused_count() -> None:
    answer = joint((charge(tracked(60)), [1, us(1), 1, 7, 0]), (charge(meter("r", "5/1m")), [0, us(1), 0, 5, 2_000]))
    assert answer.numbers[:2] == [7, 0]


def test_a_key_without_an_answer_is_missing_and_its_numbers_are_zeros() -> None:
    answer = joint((charge(tracked(60)), None), (charge(tracked(60), key=BOB), [1, us(1), 0, 7, 0]))
    assert (answer.allowed, answer.missing) == (True, frozenset({0}))
    assert (answer.numbers, answer.times_us) == ([0, 0, 7, 0], [0, us(1)])


def test_series_are_read_with_the_start_of_each_bucket() -> None:
    key = Key(ALICE.entity, Metric.BYTES)
    [series] = functions.series_of(key, [[b"a-rule:60:10", 20, *range(11)]])
    assert (series.key, series.scope, series.window, series.count) == (key, "a-rule", Window(60), 55)
    assert series.buckets[0] == (60.0, 0)
    assert series.buckets[-1] == (120.0, 10)


# --- the library


def test_names_carry_the_version_so_that_releases_live_side_by_side() -> None:
    assert functions.SOURCE.startswith(f"#!lua name=reputon_{functions.VERSION}\n")
    called = {
        *(functions.DECIDE, functions.REFUND, functions.RENEW, functions.SERIES, functions.COUNTS, functions.SAW),
        *(functions.SKETCH, functions.OFFER, functions.BOARD, functions.BEAT, functions.NOW),
        *(functions.ENTER, functions.STRIKE, functions.ENTRIES, functions.AUDIT),
    }
    for name in called:
        assert f"'{name}'" in functions.SOURCE
    assert "@VERSION@" not in functions.SOURCE


def test_every_kind_is_known_to_the_library() -> None:
    assert all(f"\nkinds.{kind} = {{" in functions.SOURCE for kind in Kind)
