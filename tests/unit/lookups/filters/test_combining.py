"""What filters say together."""

from hypothesis import given
from hypothesis import strategies as st

from reputation.facts import NOT_FILTERED, TEMPERROR, Filtered, Judgement
from reputation.lookups.filters.combining import RANKS, combined, is_evidence

FAILED = Filtered(verdict=TEMPERROR)
FAILED_CLOSED = Filtered(verdict=TEMPERROR, failed_closed=True)
HAM = Filtered(verdict="ham", score=-1.5, action="no action", symbols=("A", "B"), learns=True, headers=(("X", "1"),))
SPAM = Filtered(
    verdict="spam",
    score=17.0,
    action="reject",
    symbols=("B", "C"),
    reply="Spam",
    headers=(("Y", "2"), ("X", "3")),
    removed=("Z",),
)
WORM = Filtered(verdict="malware", malware="Worm", learns=True)

answers = st.builds(
    Filtered,
    verdict=st.sampled_from(list(RANKS)),
    score=st.sampled_from([0.0, -3.0, 7.5]),
    learns=st.booleans(),
    failed_closed=st.booleans(),
)


def test_nobody_says_nothing() -> None:
    assert combined([]) == NOT_FILTERED
    assert combined([NOT_FILTERED, NOT_FILTERED]) == NOT_FILTERED


def test_the_worst_verdict_decides_whoever_comes_first() -> None:
    for order in ([HAM, SPAM], [SPAM, HAM]):
        said = combined(order)
        assert (said.verdict, said.score, said.action, said.reply) == ("spam", 17.0, "reject", "Spam")
        assert not said.learns
        assert said.removed == ("Z",)


def test_tests_and_fields_are_those_of_all_in_the_order_of_the_filters() -> None:
    assert combined([HAM, SPAM]).symbols == ("A", "B", "C")
    assert combined([HAM, SPAM]).headers == (("X", "1"), ("Y", "2"), ("X", "3"))


def test_a_scanner_that_does_not_count_leaves_the_score_to_who_does() -> None:
    said = combined([HAM, WORM, SPAM])
    assert (said.verdict, said.malware, said.score, said.action, said.reply) == ("malware", "Worm", 17.0, "", "")
    assert said.learns


def test_a_scanner_that_finds_nothing_changes_nothing() -> None:
    assert combined([HAM, NOT_FILTERED]) == HAM


def test_who_has_no_answer_is_outvoted_and_yet_heard_where_that_was_asked_for() -> None:
    assert combined([FAILED, HAM]) == HAM
    assert combined([HAM, FAILED_CLOSED]).verdict == "ham"
    assert combined([HAM, FAILED_CLOSED]).failed_closed
    assert combined([NOT_FILTERED, FAILED]).verdict == TEMPERROR
    assert not combined([NOT_FILTERED, FAILED]).failed_closed


def test_only_a_judgement_about_the_sender_is_evidence() -> None:
    assert [verdict for verdict in RANKS if is_evidence(verdict)] == ["ham", "spam", "malware"]


@given(st.lists(answers, max_size=5))
def test_no_verdict_is_worse_than_that_of_all(several: list[Filtered]) -> None:
    said = combined(several)
    assert all(RANKS[one.verdict] <= RANKS[said.verdict] for one in several)
    assert said.failed_closed == any(one.failed_closed for one in several)
    assert said.verdict in {"", *(one.verdict for one in several)}


def test_verdicts_are_ranked_as_judgements_are() -> None:
    assert list(RANKS)[2:] == [str(judgement) for judgement in Judgement]
