"""What a replay has found: for each rule whom it hit, when first, and how much of that the logged server delivered.

A log knows no truth about who is an abuser. So a message that a rule would have hit and that the server delivered
counts as a false positive, unless it is of somebody who is known to be bad; what such a one sent is a hit that is true.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from reputation.keys import Dimension, Entities, Entity

MAX_REMEMBERED = 100_000
"""Different values that one rule remembers, of each kind; the rest is only counted."""
SPREAD = (Dimension.SENDER, Dimension.USER, Dimension.IP)
"""Of whom it is told how many different ones a rule hit."""


@dataclass(slots=True)
class Hits:
    """What happened to one entity."""

    hits: int = 0
    delivered: int = 0
    """Messages that were hit, and that the server delivered."""
    first_us: int = 0
    last_us: int = 0

    def add(self, at_us: int) -> None:
        """Count one more."""
        self.hits += 1
        self.first_us = min(self.first_us or at_us, at_us)
        self.last_us = max(self.last_us, at_us)


@dataclass(slots=True)
class Tally:
    """What one rule did."""

    judged: int = 0
    """Events that it was asked about."""
    total: Hits = field(default_factory=Hits)
    messages: int = 0
    """Messages of which it would have refused something (or tagged, or held back)."""
    false_positives: int = 0
    """Of these, those that were delivered and are of nobody who is known to be bad."""
    known_bad: int = 0
    """Of these, those of somebody who is."""
    entities: dict[Entity, Hits] = field(default_factory=dict)
    spread: dict[Dimension, set[str]] = field(default_factory=lambda: {dimension: set() for dimension in SPREAD})
    overflowed: bool = False
    """Whether there were more than could be remembered, so that the numbers of different ones are too small."""

    def hit(self, entity: Entity, entities: Entities, at_us: int) -> None:
        """Count an event that was over a limit of `entity`."""
        self.total.add(at_us)
        found = self.entities.get(entity)
        if found is None and len(self.entities) < MAX_REMEMBERED:
            found = self.entities[entity] = Hits()
        if found is not None:
            found.add(at_us)
        self.overflowed = self.overflowed or found is None
        for dimension, values in self.spread.items():
            value = entities.get(dimension)
            if value is not None and len(values) < MAX_REMEMBERED:
                values.add(value.id)

    def message(self, entity: Entity, *, delivered: bool, bad: bool, costs_mail: bool = True) -> None:
        """Count a message that was hit, now that it is known what became of it; what accepts it costs nobody mail."""
        self.messages += 1
        self.known_bad += bad
        self.false_positives += delivered and costs_mail and not bad
        self.total.delivered += delivered
        found = self.entities.get(entity)
        if found is not None:
            found.delivered += delivered

    def top(self, n: int) -> list[tuple[Entity, Hits]]:
        """Whom it hit most."""
        return sorted(self.entities.items(), key=lambda row: (-row[1].hits, row[0]))[:n]


@dataclass(slots=True)
class Watched:
    """What happened to an entity that somebody asked about."""

    messages: int = 0
    delivered: int = 0
    by_rule: dict[str, Hits] = field(default_factory=dict)

    def of(self, rule: str) -> Hits:
        """What a rule did to it."""
        return self.by_rule.setdefault(rule, Hits())


@dataclass(slots=True)
class Figures:
    """Everything that a replay has found."""

    events: int = 0
    """That the policy was asked about."""
    messages: int = 0
    delivered: int = 0
    given_back: int = 0
    """Messages that came to nothing in the log."""
    outcomes: int = 0
    """Unknown recipients, bounces and failed log-ins that were learned."""
    forgotten: int = 0
    """Counters that there was no room for; more might have been hit."""
    first_us: int = 0
    last_us: int = 0
    rules: Mapping[str, Tally] = field(default_factory=dict)
    watched: dict[Entity, Watched] = field(default_factory=dict)
    unjudged: dict[str, str] = field(default_factory=dict)
    """Rule -> why it could not be judged."""
