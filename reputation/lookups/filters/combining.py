"""What content filters say together: the worst verdict decides. Pure.

    nothing < temperror < ham < unsure < defer < spam < malware

Action, reply and whether it is evidence are those of whoever gave the verdict, of the first when several did; the score
as well, unless he does not count (a scanner), then that of the next worse who does. Tests that hit and fields are those
of all, in the order of the filters. A filter that had no answer is outvoted by one that had, and yet
`failed_closed` says so where it is to be heard.
"""

from collections.abc import Iterable, Sequence

from reputation.facts import NOT_FILTERED, TEMPERROR, Filtered, Judgement

RANKS = {"": 0, TEMPERROR: 1, **{str(judgement): rank for rank, judgement in enumerate(Judgement, start=2)}}
EVIDENCE = (Judgement.HAM, Judgement.SPAM, Judgement.MALWARE)
"""The verdicts that say something about whoever sent the message."""

assert list(RANKS) == ["", TEMPERROR, "ham", "unsure", "defer", "spam", "malware"]


def is_evidence(verdict: str) -> bool:
    """Whether a verdict says something about whoever sent the message."""
    return verdict in EVIDENCE


def combined(answers: Sequence[Filtered]) -> Filtered:
    """One answer of several, which come in the order of the filters."""
    if len(answers) < 2:
        return answers[0] if answers else NOT_FILTERED
    by_rank = sorted(answers, key=lambda answer: -RANKS[answer.verdict])  # stable: the first of several decides
    first = by_rank[0]
    return Filtered(
        verdict=first.verdict,
        score=next((answer.score for answer in by_rank if answer.score), 0.0),
        action=first.action,
        symbols=_distinct(symbol for answer in answers for symbol in answer.symbols),
        malware=next((answer.malware for answer in answers if answer.malware), ""),
        headers=tuple(field for answer in answers for field in answer.headers),
        removed=_distinct(name for answer in answers for name in answer.removed),
        reply=first.reply,
        learns=first.learns,
        failed_closed=any(answer.failed_closed for answer in answers),
    )


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
