"""What the site keeps about everybody, whatever its rules: the tables of it.

Counts in three windows are the console's and the analysts' numbers, and conditions can look at them. Evidence is what
reputation rests on. Different values are estimated for reports.
"""

from collections.abc import Mapping

from reputation.charges import Charging, Kind, Meter, Plan
from reputation.events import Outcome, OutcomeKind, Stage
from reputation.keys import Dimension, Entities, Entity, Metric
from reputation.score import EvidenceKind
from reputation.windows import Window

CLIENT = (Dimension.IP, Dimension.PREFIX, Dimension.ASN, Dimension.COUNTRY)
SENDING = (*CLIENT, Dimension.USER, Dimension.SENDER, Dimension.SENDER_DOMAIN)
RECEIVING = (Dimension.RECIPIENT, Dimension.RECIPIENT_DOMAIN)

TRACKED: Mapping[Stage, Mapping[str, tuple[Dimension, ...]]] = {
    Stage.CONNECT: {Metric.CONNECTIONS: CLIENT},
    Stage.MAIL: {Metric.MESSAGES: SENDING},
    Stage.RCPT: {Metric.RECIPIENTS: SENDING, Metric.MESSAGES: RECEIVING},
    Stage.DATA: {Metric.BYTES: SENDING, Metric.MESSAGES: (Dimension.SUBJECT,)},
}
"""What is counted as mail flows."""

SKETCHED: Mapping[Stage, Mapping[Dimension, tuple[Dimension, ...]]] = {
    Stage.MAIL: {Dimension.USER: (Dimension.IP, Dimension.ASN, Dimension.COUNTRY)},
    Stage.RCPT: {Dimension.USER: (Dimension.RECIPIENT,)},
    Stage.DATA: {Dimension.USER: (Dimension.SUBJECT,)},
}
"""Of whom different values are estimated, for reports: of which dimensions. Only of users, who have logged in: anybody
can name recipients and senders that there are none of."""

TRACKED_WINDOWS = (Window(300), Window(3_600), Window(86_400))
TRACKING = (Meter(windows=TRACKED_WINDOWS),)

LEARNED: Mapping[OutcomeKind, Metric] = {
    OutcomeKind.UNKNOWN_RECIPIENT: Metric.INVALID_RECIPIENTS,
    OutcomeKind.AUTH_FAILED: Metric.AUTH_FAILURES,
    OutcomeKind.SPAM: Metric.SPAM,
    OutcomeKind.MALWARE: Metric.MALWARE,
    OutcomeKind.BOUNCE: Metric.BOUNCES,
    OutcomeKind.COMPLAINT: Metric.COMPLAINTS,
    OutcomeKind.JUNK: Metric.COMPLAINTS,
    OutcomeKind.TRAP: Metric.SPAM,
    OutcomeKind.FRAUD: Metric.SPAM,
    OutcomeKind.ABUSIVE: Metric.COMPLAINTS,
}
"""The metric that an outcome is counted under."""
COMPLAINED_OF = (*SENDING, Dimension.SUBJECT)
"""Whom an outcome is counted against: whoever sent, never who received."""


def counted_of(dimension: Dimension) -> frozenset[Metric]:
    """The metrics that are kept of an entity of this dimension."""
    flowing = {Metric(metric) for table in TRACKED.values() for metric, found in table.items() if dimension in found}
    return frozenset(flowing | (set(LEARNED.values()) if dimension in COMPLAINED_OF else set()))


_SENDER = frozenset({Dimension.SENDER, Dimension.SENDER_DOMAIN})
_AUTHOR = frozenset({Dimension.AUTHOR, Dimension.AUTHOR_DOMAIN})


def those_proven(outcome: Outcome, entities: Entities) -> Entities:
    """Whom an outcome is about, without names that somebody else may have written."""
    claimed = (frozenset() if outcome.is_sender_proven else _SENDER) | (
        frozenset() if outcome.is_author_proven else _AUTHOR
    )
    claimed |= frozenset() if outcome.is_client_known else frozenset(CLIENT)
    return {dimension: entity for dimension, entity in entities.items() if dimension not in claimed}


# Evidence

EVIDENCE_OF: Mapping[OutcomeKind, EvidenceKind] = {
    OutcomeKind.HAM: EvidenceKind.HAM,
    OutcomeKind.SPAM: EvidenceKind.SPAM,
    OutcomeKind.MALWARE: EvidenceKind.MALWARE,
    OutcomeKind.UNKNOWN_RECIPIENT: EvidenceKind.INVALID_RECIPIENTS,
    OutcomeKind.BOUNCE: EvidenceKind.BOUNCES,
    OutcomeKind.COMPLAINT: EvidenceKind.COMPLAINTS,
    OutcomeKind.JUNK: EvidenceKind.COMPLAINTS,
    OutcomeKind.TRAP: EvidenceKind.TRAPS,
    OutcomeKind.FRAUD: EvidenceKind.FRAUD,
    OutcomeKind.ABUSIVE: EvidenceKind.ABUSIVE,
}
"""What an outcome is evidence of. A failed log-in is none: it says nothing of anybody's mail."""
Dimensions = tuple[Dimension, ...]
WEIGHED_OF_ALL: tuple[Dimensions, ...] = (
    (Dimension.ASN,),
    (Dimension.PREFIX,),
    (Dimension.IP,),
    (Dimension.IP, Dimension.CLASS),
    (Dimension.USER,),
    (Dimension.SENDER_DOMAIN,),
    (Dimension.SENDER,),
    (Dimension.AUTHOR_DOMAIN,),
    (Dimension.AUTHOR,),
    (Dimension.AUTHOR_DOMAIN, Dimension.CLASS),
    (Dimension.SUBJECT,),
)
"""Of whom an outcome is evidence: all levels of `reputation.standing`, and the user."""
WEIGHED: Mapping[OutcomeKind, tuple[Dimensions, ...]] = {
    OutcomeKind.UNKNOWN_RECIPIENT: ((Dimension.ASN,), (Dimension.PREFIX,), (Dimension.IP,), (Dimension.USER,)),
}
"""Where that is not all of them: whoever guesses recipients makes senders up as well, a new one each time."""
WEIGHT = 1_000
"""Thousandths that one outcome adds to a sum of evidence."""
WEIGHING = Plan(kind=Kind.EVIDENCE)
SITE = Entity("site", "all")
"""Whose evidence is that of all mail: the base rate."""

# When somebody was first seen

SEEN = "seen"
"""The metric of such a key."""
REMEMBERED = Window(90 * 86_400)
"""How long somebody is remembered after he was last seen."""
SEEING = Plan((Meter(windows=(REMEMBERED,)),), Kind.SEEN)
LOOKING = Plan((Meter(windows=(REMEMBERED,), charging=Charging.NEVER),), Kind.SEEN)
MEMORY = Plan((Meter(windows=(Window(400 * 86_400),), charging=Charging.ALWAYS),), Kind.SEEN)
"""Since when anybody is remembered at all (of `SITE`), and when rules have fired (`reputation.tallies`)."""
MEETING = Plan((Meter(windows=(REMEMBERED,), charging=Charging.ALWAYS),), Kind.SEEN)
"""Whoever is asked for his age is known from then on, whatever becomes of his mail: who is refused for being new must
grow older all the same."""
RETURNED = "returned"
"""The scope of when a message from somebody to somebody was last reported to have come back."""
RETURNING = Plan((Meter(windows=(Window(86_400),), charging=Charging.ALWAYS),), Kind.SEEN)
"""Reports can be made up, so they count once a day for a pair."""
CONTACT = (Dimension.SENDER, Dimension.RECIPIENT)
"""Whether somebody has written to somebody before: kept of users, who have logged in."""
