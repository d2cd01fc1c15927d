"""What the store has to be asked about an event before it is judged, so that conditions can look at it.

What only conditions want to know that cannot hold is left out: of twenty rules of a stage most are about other mail.
But not ages, because whoever is asked for his age is known from then on.
"""

from collections.abc import Mapping, Sequence

from reputation.events import Event, Stage
from reputation.inquiry import Inquiry
from reputation.keys import Entities
from reputation.opinions import PolicyFunction, asked_at
from reputation.rules import Rule

MAX_MIXTURES = 512
"""Of conditions that can hold, for each of which what is asked is remembered."""


class Inquiries:
    """What the rules of a policy want to know, by stage."""

    def __init__(self, rules: Sequence[Rule], functions: Sequence[PolicyFunction]) -> None:
        self._rules = rules
        self._functions = functions
        self.everything: Mapping[Stage, Inquiry] = {stage: asked_at(stage, [*rules, *functions]) for stage in Stage}
        self._wanting = {stage: [it for it in rules if it.stage is stage and it.inquiry] for stage in Stage}
        self._found: dict[tuple[Stage, tuple[bool, ...]], Inquiry] = {}

    def about(self, event: Event, entities: Entities) -> Inquiry:
        """What is to be asked about an event."""
        wanting = self._wanting[event.stage]
        met = tuple([rule.condition is None or rule.condition.could_hold(event, entities) for rule in wanting])
        if all(met):
            return self.everything[event.stage]
        found = self._found.get((event.stage, met))
        if found is None:
            if len(self._found) >= MAX_MIXTURES:
                self._found.clear()
            left_out = [rule for rule, is_met in zip(wanting, met, strict=True) if not is_met]
            kept: list[Rule | PolicyFunction] = [rule for rule in self._rules if rule not in left_out]
            kept += self._functions
            found = asked_at(event.stage, kept) | Inquiry(ages=self.everything[event.stage].ages)
            self._found[event.stage, met] = found
        return found
