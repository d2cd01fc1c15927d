"""The leases that the sessions of one process hold: who is connected, for `concurrent`.

A lease is taken by a decision, kept alive by `Leases.renew` for as long as its session lasts, and given back at the
end. When the process dies nobody renews it, and it ends by itself.

Bugs: a session has at most `MAX_OF_SESSION` leases that are kept alive; further ones end after a minute.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from reputation.charges import Answer, Given, Kind
from reputation.contracts import Store
from reputation.errors import StoreError
from reputation.keys import Key
from reputation.rules import LEASE

MAX_OF_SESSION = 100
"""A rule by sender takes one for each sender, and a client can name many."""
TOLD_AT_ONCE = 500
"""Members in one call."""
CALLS_AT_ONCE = 32


class Leases:
    """The leases of one process in one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._held: dict[str, dict[Key, Given]] = {}

    def hold(self, session: str, answer: Answer) -> None:
        """Remember the leases that a session has now; those that it had before, too: an answer may have been lost."""
        if not answer.allowed or Kind.LEASES not in [charge.plan.kind for charge in answer.charges]:
            return
        held = self._held.setdefault(session, {})
        for index, charge in enumerate(answer.charges):
            if charge.plan.kind is Kind.LEASES and index not in answer.missing and len(held) < MAX_OF_SESSION:
                held[charge.key] = Given(charge, answer.at_us)

    def let_go(self, session: str) -> tuple[Given, ...]:
        """The leases of a session that is over, to be given back."""
        return tuple(self._held.pop(session, {}).values())

    async def renew(self) -> None:
        """Prolong all of them. Raises `StoreError` after every key was tried: a server that is away ends no others'."""
        by_key: dict[Key, list[str]] = {}
        for given in [given for held in self._held.values() for given in held.values()]:
            by_key.setdefault(given.charge.key, []).append(given.charge.member)
        await each(
            lambda part: self._store.renew(part[0], part[1], LEASE),
            [(key, some) for key, members in by_key.items() for some in batched(members, TOLD_AT_ONCE)],
        )


async def each(
    call: Callable[[tuple[Key, Sequence[str]]], Awaitable[object]], parts: Sequence[tuple[Key, Sequence[str]]]
) -> None:
    """Make a call for each part, some at once. Raises the first `StoreError` after all have been made."""
    failed: StoreError | None = None
    for start in range(0, len(parts), CALLS_AT_ONCE):
        calls: Iterable[Awaitable[object]] = (call(part) for part in parts[start : start + CALLS_AT_ONCE])
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, StoreError):
                failed = failed or result
            elif isinstance(result, BaseException):
                raise result
    if failed is not None:
        raise failed


def batched(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The items, `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
