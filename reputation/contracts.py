"""What the engine needs from outside: the Protocols that adapters fulfil.

One suite, ``tests/contracts``, runs against every implementation of a Protocol.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reputation.charges import Answer, Charge, Receipt
from reputation.keys import Entity, Key
from reputation.windows import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One window of one counter over time."""

    key: Key
    scope: str
    """The rule that the count belongs to; empty for the entity's own."""
    window: Window
    count: int
    """Units in the window now."""
    buckets: tuple[tuple[float, int], ...]
    """(start in seconds since the epoch, units), oldest first."""


class Store(Protocol):
    """Shared counters. See `reputation.charges` for what a decision is, `reputation.windows` for how it counts.

    Every method raises `StoreUnavailable` or `StoreMisuse`, and nothing else of its library's.
    `now_us` is for tests and replays; without it the store's own clock rules.
    """

    async def decide(self, charges: Sequence[Charge], *, now_us: int | None = None) -> Answer:
        """Read all meters, and charge all of them or none, in one round trip."""
        ...

    async def refund(self, receipt: Receipt) -> None:
        """Give back what was charged, as far as it is still inside its windows."""
        ...

    async def series(self, entity: Entity, *, now_us: int | None = None) -> Sequence[Series]:
        """Everything that is counted about `entity` now; windows that hold nothing are left out."""
        ...

    async def ping(self) -> str:
        """Name and version of the store, when it is ready to decide."""
        ...

    async def close(self) -> None:
        """Let go of connections, and of a server that was started for this store."""
        ...
