"""What the store is asked about an event before it is judged, because a condition looks at it.

==================== ============================================================================
name in a condition  what it is
==================== ============================================================================
reputation.DIM.FIELD score, confidence, active_now, repeat_offender, base or volume of DIM's entity
last_5m.DIM.METRIC   what is counted of DIM's entity, in 5 minutes; last_1h, last_1d
age.DIM              days since DIM's entity was first seen; 0 for who is new, endless where that is not known
first_time           whether the sender is new to the recipient, of users who have logged in
==================== ============================================================================

An `Inquiry` is all that the conditions of one stage name. It is answered in one round trip, before the decision's own:
which counters an event touches depends on what its conditions say. Stages whose conditions ask for nothing of this have
no such round trip.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from reputation.bookkeeping import (
    CONTACT,
    LOOKING,
    MEETING,
    MEMORY,
    SEEN,
    SITE,
    TRACKED_WINDOWS,
    WEIGHED_OF_ALL,
    WEIGHING,
    counted_of,
)
from reputation.charges import Answer, Charge, Charging, Kind, Meter, Plan
from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.facts import Known, Score
from reputation.keys import EVIDENCE, Dimension, Entities, Entity, Key, composite
from reputation.score import NO_EVIDENCE, Evidence
from reputation.stages import KNOWN_AT
from reputation.standing import LEVELS, Level, MessageStanding, Standing, base_rate, standing_of, standing_of_message
from reputation.windows import MICROSECONDS, Window

COUNTED: Mapping[str, Window] = dict(zip(("last_5m", "last_1h", "last_1d"), TRACKED_WINDOWS, strict=True))
REPUTATION, AGE, FIRST_TIME = "reputation", "age", "first_time"
ROOTS = (REPUTATION, *COUNTED, AGE)
"""Names that are followed by others."""
MESSAGE = "message"
SCORE_FIELDS = tuple(Score.__dataclass_fields__)
AGED = (Dimension.IP, Dimension.PREFIX, Dimension.USER, Dimension.SENDER, Dimension.SENDER_DOMAIN)
JUDGED = tuple(dict.fromkeys(names[-1] for names in WEIGHED_OF_ALL if len(names) == 1))
"""Dimensions that have a reputation."""
UNTOLD_AGE = math.inf
"""Days since somebody was first seen, where the store did not say."""
UNKNOWN_BASE = 0.5
"""The base rate of a site, where the store did not say."""
DAY_SECONDS = 86_400
FIRST_DAYS = 1.0
"""The days after the beginning of its memory in which nobody is new to a site."""
_ASKED = Plan((Meter(windows=TRACKED_WINDOWS, charging=Charging.NEVER),))

Path = tuple[str, ...]


class Inquiry(NamedTuple):
    """What is to be asked."""

    scores: frozenset[str] = frozenset()
    counts: frozenset[tuple[str, str, str]] = frozenset()
    ages: frozenset[str] = frozenset()
    first_time: bool = False

    @classmethod
    def of(cls, paths: Sequence[Path]) -> "Inquiry":
        """What these names ask for."""
        return cls(
            scores=frozenset(path[1] for path in paths if path[0] == REPUTATION),
            counts=frozenset((path[0], path[1], path[2]) for path in paths if path[0] in COUNTED),
            ages=frozenset(path[1] for path in paths if path[0] == AGE),
            first_time=(FIRST_TIME,) in paths,
        )

    @property
    def rests_on(self) -> frozenset[str]:
        """The dimensions that have to be tracked, or the answer would always be nothing."""
        found = (self.scores - {MESSAGE}) | {dimension for _, dimension, _ in self.counts}
        return found | {Dimension.USER} if self.first_time else found

    def __bool__(self) -> bool:
        return self != NOTHING

    def __or__(self, other: "Inquiry") -> "Inquiry":
        return Inquiry(
            self.scores | other.scores,
            self.counts | other.counts,
            self.ages | other.ages,
            self.first_time or other.first_time,
        )


NOTHING = Inquiry()


# Names in conditions

_TEXT = re.compile(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'|//[^\n]*")
_PATH = re.compile(rf"(?<![\w.])({'|'.join(ROOTS)})\b((?:\s*\.\s*\w+)*)")


def without_texts(condition: str) -> str:
    """The condition with empty texts in place of what stands between quotes, and of comments."""
    return _TEXT.sub('""', condition)


def paths_in(condition: str, stage: Stage, setting: str = "when") -> Iterator[Path]:
    """The names with dots in a condition; raises `ConfigError` that says what can be written in the `setting`."""
    for match in _PATH.finditer(without_texts(condition)):
        path = (match[1], *(part.strip() for part in match[2].split(".")[1:]))
        _check(path, stage, setting)
        yield path


def _check(path: Path, stage: Stage, setting: str) -> None:
    root, wanted = path[0], (2 if path[0] == AGE else 3)
    example = {REPUTATION: "reputation.ip.score", AGE: "age.sender"}.get(root, f"{root}.ip.messages")
    if len(path) != wanted:
        raise ConfigError(f'{setting}: write {root} with {wanted - 1} names behind it, such as "{example}"')
    possible = [name for name in _dimensions(root) if name in (*KNOWN_AT[stage], MESSAGE)]
    if path[1] not in possible:
        raise ConfigError(f"{setting}: there is no {root}.{path[1]} at stage {stage}, but: {', '.join(possible)}")
    fields = _fields(root, path[1])
    if fields and path[2] not in fields:
        raise ConfigError(f'{setting}: there is no "{".".join(path)}"; {root}.{path[1]} has: {", ".join(fields)}')


def _dimensions(root: str) -> Sequence[str]:
    if root == REPUTATION:
        return (*JUDGED, MESSAGE)
    return AGED if root == AGE else [dimension for dimension in Dimension if counted_of(dimension)]


def _fields(root: str, dimension: str) -> Sequence[str]:
    if root == AGE:
        return ()
    return SCORE_FIELDS if root == REPUTATION else sorted(counted_of(Dimension(dimension)))


# Asking, and what the answer means


def charges_of(inquiry: Inquiry, entities: Entities, *, with_site: bool, meeting: bool = True) -> tuple[Charge, ...]:
    """What the store is asked; nothing is counted, but with `meeting` who is asked for his age is known from now on.

    `with_site` asks for the base rate as well, and since when anybody is remembered.
    """
    judged, counted, aged = _in_order(inquiry)
    of_wanted = [composite(entities, names) for names in judged]
    charges = [Charge(Key(entity, EVIDENCE), WEIGHING) for entity in of_wanted if entity is not None]
    for dimension, metric in counted:
        if (found := entities.get(dimension)) is not None:
            charges.append(Charge(Key(found, metric), _ASKED))
    plan = MEETING if meeting else LOOKING
    met = [Charge(Key(found, SEEN), plan) for dimension in aged if (found := entities.get(dimension)) is not None]
    contact = contact_of(entities) if inquiry.first_time else None
    asked = (*charges, *met, *([Charge(Key(contact, SEEN), LOOKING)] if contact is not None else []))
    return (*asked, *_of_site(inquiry)) if with_site and asked else asked


def _of_site(inquiry: Inquiry) -> Iterator[Charge]:
    if inquiry.scores:
        yield Charge(Key(SITE, EVIDENCE), WEIGHING)
    if inquiry.ages:
        yield Charge(Key(SITE, SEEN), MEMORY)


@lru_cache(maxsize=64)
def _in_order(
    inquiry: Inquiry,
) -> tuple[Sequence[tuple[Dimension, ...]], Sequence[tuple[Dimension, str]], Sequence[Dimension]]:
    """Whose evidence, what of whom, and whose age an inquiry asks for: each once."""
    wanted = {names for dimension in inquiry.scores for names in _evidence_of(dimension)}
    judged = [names for names in WEIGHED_OF_ALL if names in wanted]
    counted = sorted({(Dimension(dimension), metric) for _, dimension, metric in inquiry.counts})
    return judged, counted, sorted(map(Dimension, inquiry.ages))


def contact_of(entities: Entities) -> Entity | None:
    """The pair of a user's sender and recipient; None for others' mail."""
    return composite(entities, CONTACT) if Dimension.USER in entities else None


def _evidence_of(dimension: str) -> Sequence[tuple[Dimension, ...]]:
    """Whose evidence the score of a dimension rests on."""
    if dimension == MESSAGE:
        return [tuple(map(Dimension, names.split("+"))) for levels in LEVELS.values() for names in levels]
    return [(Dimension(name),) for name in levels_to(dimension)]


def levels_to(dimension: str) -> tuple[str, ...]:
    """The levels that the standing of a dimension goes through, the broadest first.

    >>> levels_to("ip"), levels_to("user")
    (('asn', 'prefix', 'ip'), ('user',))
    """
    for levels in LEVELS.values():
        if dimension in levels:
            return levels[: levels.index(dimension) + 1]
    return (dimension,)


def known_of(inquiry: Inquiry, entities: Entities, answer: Answer, base: float, memory_days: float = math.inf) -> Known:
    """What the answer says, where the site has a memory of so many days.

    What a server of the store did not tell counts as nothing known, but nobody is new by it: what rules do to newcomers
    must not happen to everybody while the store is away.
    """
    evidence, counts, contact_is_new = dict[Entity, Evidence](), {}, False
    ages = {dimension: UNTOLD_AGE for dimension in inquiry.ages if Dimension(dimension) in entities}
    for (entity, metric, _), kind, numbers, at_us in _told(answer):
        if kind is Kind.EVIDENCE:
            evidence[entity] = Evidence.of(numbers)
        elif kind is Kind.RINGS:
            counts.update({(window, entity.dimension, metric): numbers[2 * n] for n, window in enumerate(COUNTED)})
        elif "+" in entity.dimension:
            contact_is_new = not numbers[0]
        elif entity != SITE:
            known_us = at_us - numbers[2] if numbers[0] else 0
            age = known_us / MICROSECONDS / DAY_SECONDS
            # Whom the site has met on its first day may have been there for ever.
            ages[entity.dimension] = UNTOLD_AGE if age > memory_days - FIRST_DAYS else age
    return Known(
        scores={dimension: _score(dimension, entities, evidence, base) for dimension in inquiry.scores},
        counts=counts,
        ages=ages,
        told=not answer.missing,
        first_time=contact_is_new,
    )


def _told(answer: Answer) -> Iterator[tuple[Key, Kind, Sequence[int], int]]:
    """What the answer tells about each key that is not missing from it: its numbers, and the store's time."""
    position = 0
    for index, charge in enumerate(answer.charges):
        start, position = position, position + charge.plan.size
        if index not in answer.missing:
            yield charge.key, charge.plan.kind, answer.numbers[start:position], answer.times_us[index]


def evidence_in(answer: Answer) -> Mapping[Entity, Evidence]:
    """All evidence that the answer tells of."""
    return {key.entity: Evidence.of(numbers) for key, kind, numbers, _ in _told(answer) if kind is Kind.EVIDENCE}


def memory_of(answer: Answer) -> float | None:
    """Since when anybody is remembered, in seconds of the store's time, where the answer tells of the site."""
    for (entity, metric, _), kind, numbers, at_us in _told(answer):
        if entity == SITE and kind is Kind.SEEN and metric == SEEN:
            return (numbers[2] if numbers[0] else at_us) / MICROSECONDS
    return None


def base_of(answer: Answer) -> float | None:
    """The base rate, where the answer tells of the site."""
    return next(
        (base_rate(Evidence.of(numbers)) for key, kind, numbers, _ in _told(answer) if key == Key(SITE, EVIDENCE)), None
    )


def _score(dimension: str, entities: Entities, evidence: Mapping[Entity, Evidence], base: float) -> Score:
    if all(each is NO_EVIDENCE for each in evidence.values()):
        return _of_nobody(base, is_message=dimension == MESSAGE)
    if dimension != MESSAGE:
        return score_of(dimension, standing_of_entity(dimension, entities, evidence, base))
    standing = standing_of_message(evidence, base)
    return _scored(standing, [part.levels[-1] for part in standing.parts.values()])


@lru_cache(maxsize=64)
def _of_nobody(base: float, *, is_message: bool) -> Score:
    """The score where there is no evidence about anybody, as of most: made once for as long as a base rate holds."""
    return _scored(standing_of_message({}, base) if is_message else standing_of((), base), ())


def score_of(dimension: str, standing: Standing) -> Score:
    """What a standing comes to for the entity of a dimension, which is the last of its levels if it is known."""
    return _scored(standing, [each for each in standing.levels if each.entity.dimension == dimension])


def _scored(standing: Standing | MessageStanding, last: Sequence[Level]) -> Score:
    return Score(
        score=standing.score,
        confidence=standing.confidence,
        active_now=standing.active_now,
        repeat_offender=standing.repeat_offender,
        base=standing.base,
        volume=sum((level.long.total for level in last), 0.0),  # CEL takes 0 and 0.0 for different types
    )


def standing_of_entity(
    dimension: str, entities: Entities, evidence: Mapping[Entity, Evidence], base: float
) -> Standing:
    """The standing of the event's entity of a dimension, through its levels as far as they are known."""
    found = [entities.get(Dimension(name)) for name in levels_to(dimension)]
    return standing_of([(each, evidence[each]) for each in found if each is not None and each in evidence], base)
