"""What is to be expected of an entity: by its own evidence, by its network's, and how sure one can be."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.keys import Dimension, Entity
from reputation.score import Evidence, EvidenceKind
from reputation.standing import (
    LEVELS,
    PRIOR_LONG,
    PRIOR_SHORT,
    Hierarchy,
    MessageStanding,
    Standing,
    Tally,
    base_rate,
    standing_of,
    standing_of_message,
)

IP, PREFIX, ASN = Entity("ip", "192.0.2.7"), Entity("prefix", "192.0.2.0/24"), Entity("asn", "64500")
SENDER, SUBJECT = Entity("sender", "alice@example.com"), Entity("subject", "0f")
NOTHING = Evidence(short={}, long={})
ONE_SPAM = 1.0

bases = st.floats(0.01, 0.99)
counts = st.floats(0, 1_000)


def evidence(good: float = 0, bad: float = 0, good_now: float = 0, bad_now: float = 0) -> Evidence:
    ham, spam = EvidenceKind.HAM, EvidenceKind.SPAM
    return Evidence(long={ham: good, spam: bad}, short={ham: good_now, spam: bad_now})


def of_client(*levels: Evidence, base: float = 0.2) -> Standing:
    """The last level is the address, before it its network, before that its provider."""
    return standing_of(list(zip((ASN, PREFIX, IP)[-len(levels) :], levels, strict=True)), base)


some_evidence = st.builds(evidence, counts, counts, counts, counts)
three_levels = st.tuples(some_evidence, some_evidence, some_evidence)


# The score


@given(three_levels, bases)
def test_every_number_is_a_share(levels: tuple[Evidence, ...], base: float) -> None:
    found = of_client(*levels, base=base)
    message = standing_of_message(dict(zip((IP, SENDER, SUBJECT), levels, strict=True)), base)
    for one in (found, message):
        assert all(0 <= share <= 1 for share in (one.score, one.confidence, one.active_now, one.repeat_offender))


@given(bases, st.integers(0, 3))
def test_without_evidence_it_is_the_base_rate_and_nothing_is_certain(base: float, levels: int) -> None:
    found = of_client(*[NOTHING] * levels, base=base) if levels else standing_of([], base)
    message = standing_of_message(dict.fromkeys((ASN, PREFIX, IP)[:levels], NOTHING), base)
    for one in (found, message):
        assert [one.score, one.active_now, one.repeat_offender] == pytest.approx([base] * 3)
        assert one.confidence == 0


@given(three_levels, st.integers(0, 2), st.floats(0.1, 100), bases)
def test_bad_evidence_at_any_level_never_helps_and_good_never_hurts(
    levels: tuple[Evidence, ...], place: int, more: float, base: float
) -> None:
    before = of_client(*levels, base=base)
    for kind, is_worse in ((EvidenceKind.SPAM, True), (EvidenceKind.HAM, False)):
        changed = list(levels)
        changed[place] = Evidence(
            long=plus(levels[place].long, kind, more), short=plus(levels[place].short, kind, more)
        )
        after = of_client(*changed, base=base)
        for name in ("score", "active_now", "repeat_offender"):
            assert getattr(after, name) >= getattr(before, name) - 1e-12 or not is_worse
            assert getattr(after, name) <= getattr(before, name) + 1e-12 or is_worse
        if place == 2:
            assert (after.score > before.score) is is_worse or after.score == pytest.approx(before.score, abs=1e-9)


def plus(sums: dict[EvidenceKind, float], kind: EvidenceKind, more: float) -> dict[EvidenceKind, float]:
    return sums | {kind: sums[kind] + more}


def test_one_bad_message_raises_the_score_and_one_good_lowers_it() -> None:
    bad, good = of_client(evidence(bad=1)), of_client(evidence(good=1))
    assert good.score < 0.2 - 0.05 and bad.score > 0.2 + 0.2


@given(st.floats(200, 10_000), bases)
def test_a_long_history_of_its_own_outweighs_the_network_s(own: float, base: float) -> None:
    spammers = evidence(bad=10_000, bad_now=500)
    assert of_client(spammers, spammers, evidence(good=own, good_now=own / 30), base=base).score < 0.1
    honest = evidence(good=10_000, good_now=500)
    assert of_client(honest, honest, evidence(bad=own, bad_now=own / 30), base=base).score > 0.9


@pytest.mark.parametrize("own", [NOTHING, evidence(good=1), evidence(bad=1)])
@pytest.mark.parametrize("above", [1, 2], ids=["network", "provider"])
def test_the_neighbours_matter_where_little_is_known(own: Evidence, above: int) -> None:
    between = [NOTHING] * (above - 1)
    among_spammers = of_client(evidence(bad=50), *between, own)
    among_others = of_client(evidence(good=50), *between, own)
    assert among_spammers.score > among_others.score + 0.3


def test_the_nearer_neighbours_matter_more() -> None:
    assert of_client(evidence(good=50), evidence(bad=50), NOTHING).score > 0.9
    assert of_client(evidence(bad=50), evidence(good=50), NOTHING).score < 0.1


def test_the_worked_example() -> None:
    provider, network = evidence(good=90, bad=10), evidence(bad=20)
    unknown, known = of_client(provider, network, NOTHING), of_client(provider, network, evidence(good=60))
    assert [level.posterior for level in unknown.levels] == pytest.approx([0.102, 0.9183, 0.9183], abs=1e-4)
    assert known.score == pytest.approx(2 * unknown.score / 62)


@pytest.mark.parametrize("count", [1e-300, 1e18, 1e300])
def test_no_count_is_too_small_or_too_large(count: float) -> None:
    for one in (evidence(good=count, good_now=count), evidence(bad=count, bad_now=count)):
        found = standing_of_message({IP: one, SENDER: one, SUBJECT: one}, 0.5)
        assert 0 <= found.score <= 1 and math.isfinite(found.score)


# Horizons


def test_who_turns_bad_is_active_now_and_no_repeat_offender() -> None:
    found = of_client(evidence(good=500, bad=20, bad_now=20))
    assert found.active_now > 0.9 and found.repeat_offender < 0.1 and found.score > 0.9


def test_who_has_stopped_is_a_repeat_offender_still() -> None:
    found = of_client(evidence(bad=40))
    assert found.repeat_offender > 0.9 and found.active_now == pytest.approx(0.2) and found.score > 0.9


def test_pitfall_26_an_hour_of_spam_moves_the_score() -> None:
    """In an average over time it would hardly."""
    months = {"good": 3_000.0, "good_now": 100.0}
    before, after = of_client(evidence(**months)), of_client(evidence(**months, bad=200, bad_now=200))
    assert before.score < 0.01 and after.score > 0.6


# Confidence


@given(three_levels, st.integers(0, 2), st.floats(0.1, 100), st.sampled_from([EvidenceKind.HAM, EvidenceKind.SPAM]))
def test_more_evidence_of_either_kind_makes_surer(
    levels: tuple[Evidence, ...], place: int, more: float, kind: EvidenceKind
) -> None:
    changed = list(levels)
    changed[place] = Evidence(long=plus(levels[place].long, kind, more), short=levels[place].short)
    before, after = of_client(*levels).confidence, of_client(*changed).confidence
    assert after > before or after == pytest.approx(before, abs=1e-6)


def test_confidence_by_the_amount_alone() -> None:
    assert [of_client(evidence(good=n)).confidence for n in (0, 2, 8, 98)] == pytest.approx([0, 0.5, 0.8, 0.98])
    assert of_client(evidence(good=4, bad=4)).confidence == of_client(evidence(bad=8)).confidence


def test_what_is_inherited_counts_half_at_each_step() -> None:
    much = evidence(bad=1e9)
    assert of_client(much, NOTHING).confidence == pytest.approx(0.5)
    assert of_client(much, NOTHING, NOTHING).confidence == pytest.approx(0.25)
    assert of_client(much, evidence(bad=2)).confidence == pytest.approx(0.5 + 0.5 * 0.5)


def test_a_message_is_as_unknown_as_all_that_is_known_of_it() -> None:
    half = evidence(good=2)
    assert standing_of_message({IP: half}, 0.2).confidence == pytest.approx(0.5)
    assert standing_of_message({IP: half, SENDER: half}, 0.2).confidence == pytest.approx(0.75)


# Inputs


@given(three_levels, bases)
def test_the_inputs_add_up_to_the_score(levels: tuple[Evidence, ...], base: float) -> None:
    found = of_client(*levels, base=base)
    assert [level.entity for level in found.levels] == [ASN, PREFIX, IP]
    assert found.levels[0].prior == found.base == base
    assert found.levels[-1].posterior == found.score and found.levels[-1].confidence == found.confidence
    assert all(broad.posterior == narrow.prior for broad, narrow in pairwise(found.levels))
    for level, given_ in zip(found.levels, levels, strict=True):
        assert level.long == Tally(given_.long[EvidenceKind.HAM], given_.long[EvidenceKind.SPAM])
        assert level.short == Tally(given_.short[EvidenceKind.HAM], given_.short[EvidenceKind.SPAM])
        long = (level.long.bad + PRIOR_LONG * level.prior) / (level.long.good + level.long.bad + PRIOR_LONG)
        short = (level.short.bad + PRIOR_SHORT * long) / (level.short.good + level.short.bad + PRIOR_SHORT)
        assert level.posterior == pytest.approx(short)


@pytest.mark.parametrize("kind", EvidenceKind)
def test_only_ham_is_good(kind: EvidenceKind) -> None:
    found = of_client(Evidence(long={kind: 5.0}, short={kind: 5.0}))
    assert found.score < 0.2 if kind is EvidenceKind.HAM else found.score > 0.2


@pytest.mark.parametrize("kind", [EvidenceKind.TRAPS, EvidenceKind.MALWARE, EvidenceKind.FRAUD])
def test_what_nobody_does_by_mistake_counts_more_than_spam(kind: EvidenceKind) -> None:
    assert weight_of(kind) > weight_of(EvidenceKind.SPAM) == ONE_SPAM


@pytest.mark.parametrize("kind", [EvidenceKind.INVALID_RECIPIENTS, EvidenceKind.BOUNCES])
def test_what_happens_to_everybody_counts_less_than_spam(kind: EvidenceKind) -> None:
    assert 0 < weight_of(kind) < ONE_SPAM


def weight_of(kind: EvidenceKind) -> float:
    return Tally.of({kind: 1.0}).bad


def test_the_base_rate_is_the_site_s() -> None:
    assert base_rate(NOTHING) == 0.5
    assert base_rate(evidence(good=7_000, bad=3_000)) == pytest.approx(0.3, abs=1e-3)
    assert 0 < base_rate(evidence(good=1e9)) < base_rate(evidence(bad=1e9)) < 1


# Messages


def odds(found: MessageStanding) -> float:
    return math.log(found.score / (1 - found.score))


def test_what_several_things_say_adds_up() -> None:
    base = 0.3
    some = {IP: evidence(bad=3), SENDER: evidence(good=1), SUBJECT: evidence(bad=1)}
    begin = math.log(base / (1 - base))
    each = [odds(standing_of_message({entity: one}, base)) - begin for entity, one in some.items()]
    assert odds(standing_of_message(some, base)) - begin == pytest.approx(sum(each))
    assert all(abs(moved) > 0.1 for moved in each)


def test_the_same_evidence_says_most_about_a_subject_and_least_about_a_client() -> None:
    client, author, subject = (
        standing_of_message({entity: evidence(bad=3)}, 0.2).score
        for entity in (IP, Entity("author", "example.com"), SUBJECT)
    )
    assert client < author < subject


def test_levels_are_ordered_by_the_hierarchy_and_shown_by_it() -> None:
    known = {IP: NOTHING, SUBJECT: evidence(bad=1), ASN: evidence(good=5), PREFIX: evidence(bad=9)}
    found = standing_of_message(known, 0.2)
    assert found.parts.keys() == {Hierarchy.CLIENT, Hierarchy.SUBJECT}
    assert [level.entity for level in found.parts[Hierarchy.CLIENT].levels] == [ASN, PREFIX, IP]
    assert found.parts[Hierarchy.CLIENT] == of_client(known[ASN], known[PREFIX], known[IP])


def test_a_message_has_both_horizons() -> None:
    turned = evidence(good=500, bad=20, bad_now=20)
    found = standing_of_message({IP: turned, SENDER: turned}, 0.2)
    assert found.active_now > 0.9 and found.repeat_offender < 0.05 and found.score > 0.9
    stopped = standing_of_message({IP: evidence(bad=40), SENDER: evidence(bad=40)}, 0.2)
    assert stopped.active_now == pytest.approx(0.2) and stopped.repeat_offender > 0.9 and stopped.score > 0.9


def test_a_recipient_has_no_part_in_it() -> None:
    victim = Entity(Dimension.RECIPIENT, "bob@example.com")
    found = standing_of_message({victim: evidence(bad=1_000)}, 0.2)
    assert found.score == pytest.approx(0.2) and not found.parts


def test_levels_are_dimensions_that_exist_or_will() -> None:
    to_come = {"class", "author", "author_domain"}
    names = {part for dimensions in LEVELS.values() for name in dimensions for part in name.split("+")}
    assert names <= set(Dimension) | to_come
