"""Refusals that are remembered for a moment, so that a flood costs no round trips.

When a rule has refused an entity, and says that there is no room for some seconds, the next event that this rule would
refuse is refused from memory. The store said when there will be room at the earliest, so nobody is refused who would
be admitted, but for one case: room that is given back earlier (a refund) is noticed `MAX_SECONDS` late. Therefore only
refusals that ask the client to come back are remembered; what a rejection or a discard does is for good.

Not for events that the store has to hear of all the same: where attempts count (`charge = "always"`), or a rule in
shadow mode, a tag or a tarpit is in play. Nor for rules whose events differ in cost, because a small one may fit
where a large one did not.
"""

from collections.abc import Sequence
from dataclasses import replace

from reputation.charges import Charge
from reputation.keys import Entity
from reputation.verdict import Finding

MAX_SECONDS = 1.0
MAX_REMEMBERED = 20_000


class Denials:
    """The refusals of one process."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Entity, str, str], tuple[float, Finding]] = {}
        """When it was found, by entity, metric and rule."""

    def clear(self) -> None:
        """Forget everything: there may be room now."""
        self._kept.clear()

    def remember(self, finding: Finding, now: float) -> None:
        """Keep what a rule found when it refused; `now` is a monotonic time in seconds."""
        if len(self._kept) >= MAX_REMEMBERED:
            self._kept.clear()
        self._kept[finding.entity, finding.metric, finding.rule] = (now, finding)

    def recall(self, charges: Sequence[Charge], now: float) -> Finding | None:
        """What would refuse these charges again, with the time that is left to wait."""
        if not self._kept or any(charge.plan.counts_refused for charge in charges):
            return None
        for charge in charges:
            for meter in charge.plan.meters if charge.plan.scoped else ():
                place = (charge.key.entity, charge.key.metric, meter.scope)
                if meter.scope and (kept := self._kept.get(place)):
                    found_at, finding = kept
                    wait = found_at + finding.reading.retry_after_seconds - now
                    if wait > 0 and now < found_at + MAX_SECONDS:
                        return replace(finding, reading=replace(finding.reading, retry_after_seconds=wait))
                    del self._kept[place]
        return None
