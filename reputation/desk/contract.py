"""What the abuse desk can do: the one contract of command line, API and console.

`tests/contracts/test_desk.py` holds both implementations against it.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol

from reputation.desk.documents import (
    Audit,
    CaseFile,
    EntityPage,
    EntitySeries,
    EntryRow,
    EntryRows,
    Explained,
    Forgotten,
    MadeToken,
    NewEntry,
    NewToken,
    OutcomeReport,
    OutcomeResults,
    Overview,
    Released,
    Reloaded,
    Rules,
    Suspects,
    TokenRow,
    TokenRows,
    Top,
    VerdictLine,
    WouldDo,
)

MAX_TOP = 1_000
MAX_ENTRIES = 1_000
"""On one page."""
MAX_SUSPECTS = 1_000
"""On one page."""
MAX_AUDIT = 10_000
MAX_RECENT = 50


class Wanted(NamedTuple):
    """Which verdicts of the live stream somebody wants: those that fit all that is named."""

    actions: frozenset[str] = frozenset()
    stages: frozenset[str] = frozenset()
    rule: str = ""
    """One that fired, decided or would have."""
    entity: str = ""
    """``DIMENSION:VALUE`` of one of the event's."""

    def fits(self, line: VerdictLine) -> bool:
        """Whether a verdict is wanted."""
        return (
            (not self.actions or line.action in self.actions)
            and (not self.stages or line.stage in self.stages)
            and (not self.rule or self.rule in (line.rule, *line.fired, *line.would))
            and (not self.entity or self.entity in line.entities)
        )


class Desk(Protocol):
    """All that operators ask and do. What is done is signed by whom the desk was opened for.

    Every method raises `ConfigError` (`EntityError`) for what cannot be, with what to do instead, `NothingThere` for
    what there is none of, and `StoreError` when the store does not answer. A remote one raises `Unreachable` and
    `Refused` besides (`reputation.errors`).
    """

    async def overview(self) -> Overview:
        """The site at a glance. Says so, and raises nothing, while the store is away."""
        ...

    async def top(self, dimension: str, metric: str, window: str, n: int, *, at: float | None = None) -> Top:
        """Who has the most; of now, or of a time of the last two days. `window`: 5m, 1h, 1d; `n` up to `MAX_TOP`."""
        ...

    async def page(self, entity: str) -> EntityPage:
        """All that is known of an entity; one that nothing is known of has an empty page."""
        ...

    async def explain(self, entity: str) -> Explained:
        """How an entity stands, without its history."""
        ...

    async def series(self, entity: str) -> EntitySeries:
        """Its counters over time."""
        ...

    async def forget(self, entity: str, *, reason: str) -> Forgotten:
        """Erase all that is counted and remembered of an entity, alone or joined with others. The audit says that
        somebody was forgotten, and not who."""
        ...

    async def entries(self, *, kind: str = "", matching: str = "", after: str = "", n: int = 100) -> EntryRows:
        """What operators have put down, in the order of ids. `matching`: text in id, author or reason."""
        ...

    async def entry(self, id: str) -> EntryRow:
        """One of them."""
        ...

    async def put(self, entry: NewEntry) -> EntryRow:
        """Put one down, in place of one with its id; in force on every process within a second."""
        ...

    async def lift(self, id: str, *, reason: str) -> EntryRow:
        """Take one out; what was lifted."""
        ...

    async def release(self, target: str, *, reason: str) -> Released:
        """Let go of somebody whom a rule holds, or an operator has banned, with a fresh allowance."""
        ...

    async def audit(self, n: int = 100) -> Audit:
        """What was done lately."""
        ...

    async def rules(self) -> Rules:
        """Rules in force, with their counts."""
        ...

    async def would_do(self, rule: str) -> WouldDo:
        """What a rule in shadow mode would have done if it were enforced."""
        ...

    async def reload(self, *, reason: str) -> Reloaded:
        """Have every process of the fleet read its rules anew, if they can be read here."""
        ...

    async def suspects(self, *, after: str = "", n: int = 100) -> Suspects:
        """Who is held, the latest first; `after`: `next` of the page before. `n` up to `MAX_SUSPECTS`."""
        ...

    async def case_file(self, entity: str) -> CaseFile:
        """Why, and all that is known of him."""
        ...

    async def learn(self, reports: Sequence[OutcomeReport]) -> OutcomeResults:
        """Count what somebody learned later. `StoreUnavailable` when some of it was not counted: tell it again, with
        its keys."""
        ...

    def verdicts(self, wanted: Wanted, *, after: str | None = None) -> AsyncGenerator[VerdictLine | None, None]:
        """Verdicts as they are given, from now on or after one of the stream; None now and then, when there is none."""
        ...

    async def tokens(self) -> TokenRows:
        """All tokens of the API."""
        ...

    async def make_token(self, new: NewToken) -> MadeToken:
        """Make one; its secret is told this once."""
        ...

    async def revoke_token(self, token_id: str, *, reason: str) -> TokenRow:
        """Take one back, by its id or its name; refused everywhere within a second."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...
