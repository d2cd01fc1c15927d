"""Refusals that are remembered for a moment, so that a flood costs no round trips.

When a rule has refused, and says that there is no room for some seconds, the next event that the same rule would
refuse is refused from memory. The store said when there will be room at the earliest, so nobody is refused who would
be admitted, but for one case: room that is given back earlier (a refund) is noticed `MAX_SECONDS` late.

Not where attempts count (`charge = "always"`), because the store has to hear of them; nor for rules whose events
differ in cost, because a small one may fit where a large one did not.
"""

from collections.abc import Sequence
from dataclasses import replace

from reputation.charges import Charge
from reputation.keys import Key
from reputation.verdict import Verdict

MAX_SECONDS = 1.0
MAX_REMEMBERED = 20_000


class Denials:
    """The refusals of one process."""

    def __init__(self) -> None:
        self._until: dict[tuple[Key, str], tuple[float, float, Verdict]] = {}

    def clear(self) -> None:
        """Forget everything: there may be room now."""
        self._until.clear()

    def remember(self, verdict: Verdict, now: float) -> None:
        """Keep a refusal; `now` is a monotonic time in seconds."""
        finding = verdict.deciding
        if finding is None:
            return
        if len(self._until) >= MAX_REMEMBERED:
            self._until.clear()
        key = Key(finding.entity, finding.metric)
        room_at = now + verdict.retry_after_seconds
        self._until[key, verdict.rule] = (min(room_at, now + MAX_SECONDS), room_at, replace(verdict, answer=None))

    def recall(self, charges: Sequence[Charge], now: float) -> Verdict | None:
        """The refusal that these charges would meet, if one is remembered."""
        if not self._until or any(charge.plan.always for charge in charges):
            return None
        for charge in charges:
            for meter in charge.plan.meters if charge.plan.scoped else ():
                if meter.scope and (kept := self._until.get((charge.key, meter.scope))):
                    until, room_at, verdict = kept
                    if now < until:
                        return replace(verdict, retry_after_seconds=room_at - now)
                    del self._until[charge.key, meter.scope]
        return None
