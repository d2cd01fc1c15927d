"""The verdict: what to do with an event, and why.

A verdict knows nothing of SMTP: the front ends turn its action into codes and delays. Its reason is one
stable word, and the same word appears in the reply, the log line, the header, the API and the history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from reputation.charges import Answer, Receipt, receipt_of
from reputation.facts import NOTHING_LOOKED_UP, LookedUp
from reputation.keys import Entity, Metric
from reputation.windows import Reading


class Action(StrEnum):
    """What to do, mildest first. When several rules are over, the strictest action wins."""

    ACCEPT = "accept"
    TAG = "tag"
    TARPIT = "tarpit"
    THROTTLE = "throttle"
    TEMPFAIL = "tempfail"
    DISCARD = "discard"
    REJECT = "reject"

    @property
    def severity(self) -> int:
        """0 for accept, growing with what it costs the sender."""
        return _SEVERITY[self]


_SEVERITY = {action: rank for rank, action in enumerate(Action)}

DENYING = frozenset({Action.THROTTLE, Action.TEMPFAIL, Action.DISCARD, Action.REJECT})
"""Actions after which the event did not take place, so that nothing is charged for it."""

REFUSING = (Action.REJECT, Action.TEMPFAIL, Action.DISCARD)
"""What can be done to somebody for as long as he is banned."""


class Reason(StrEnum):
    """Why. These words are an interface: they are added to, never renamed."""

    NO_RULE = "no-rule"
    """No rule applied to the event."""
    WITHIN_LIMITS = "within-limits"
    """Rules applied, and all had room."""
    OVER_LIMIT = "over-limit"
    """A rule in force had no room."""
    MATCHED = "matched"
    """A rule without limits, or a policy in Python, was about the event."""
    STORE_UNAVAILABLE = "store-unavailable"
    """The counters could not be asked; the action is the rules' `on_store_failure`."""
    BANNED = "banned"
    """An operator has banned something of the event."""
    BLOCKLISTED = "blocklisted"
    """Something of the event is on the list "block"."""
    ALLOWLISTED = "allowlisted"
    """Something of the event is on the list "allow": no rule was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One reading that a verdict rests on."""

    rule: str
    entity: Entity
    metric: str
    reading: Reading

    def __str__(self) -> str:
        return f"{self.rule} {self.entity} {self.metric} {self.reading.count} of {self.limit}"

    @property
    def limit(self) -> str:
        """The limit as it is written in the rule: `concurrent` has a plain number of sessions."""
        limit = self.reading.limit
        return str(limit.count) if limit and self.metric == Metric.CONCURRENT else str(limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do with one event, and everything needed to explain it."""

    action: Action
    reason: Reason
    rule: str = ""
    """The rule that decided; empty when none did."""
    entry: str = ""
    """The entry of the register that decided (`reputation.entries`); empty when none did."""
    reply: str = ""
    """Text for the client, without an SMTP code; empty for the front end's own words."""
    retry_after_seconds: float = 0.0
    delay_seconds: float = 0.0
    """How long to hold the answer back (tarpit), before the caps of the front end."""
    tags: tuple[str, ...] = ()
    service: str = ""
    """The class of service that a rule put the message in; empty when none did."""
    fired: tuple[str, ...] = ()
    """Rules in force that were over their limits or met their conditions, whatever decided in the end."""
    would: tuple[str, ...] = ()
    """Rules in shadow mode that would have acted."""
    findings: Sequence[Finding] = ()
    """The readings of all rules that applied; those of `rule` first."""
    answer: Answer | None = None
    """What the store said; None where it was not asked, or did not answer."""
    subject_prefixes: tuple[str, ...] = ()
    """What rules that tag want before the subject."""
    looked_up: LookedUp = NOTHING_LOOKED_UP
    """What was found out about the event."""
    local: bool = False
    """Whether that was the store of this process alone, while the shared one was away."""

    @property
    def receipt(self) -> Receipt:
        """What was charged for the event, so that it can be given back."""
        return () if self.answer is None else receipt_of(self.answer)

    @property
    def denied(self) -> bool:
        """Whether the event did not take place."""
        return self.action in DENYING

    @property
    def deciding(self) -> Finding | None:
        """The finding to show when there is room for one: the fullest of the deciding rule, or of all."""
        return self.findings[0] if self.findings else None
