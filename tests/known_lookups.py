"""Look-ups whose answers a test has written down, and that say what they were asked."""

import asyncio
from dataclasses import replace

from reputation.events import ClientAddress, Event
from reputation.facts import LookedUp, Lookup, Network

NETWORK = Network(asn=64_500, country="DE", prefix="192.0.2.0/22")


class KnownLookups:
    """Fulfils `reputation.contracts.Lookups`. While `gate` is set, answers wait for it."""

    possible = frozenset(Lookup)

    def __init__(self, found: LookedUp | None = None, *, known: Network = NETWORK) -> None:
        self.found = found or LookedUp()
        self.known = known
        self.asked: list[tuple[Event, frozenset[Lookup]]] = []
        self.gate: asyncio.Event | None = None
        self.waiting = asyncio.Event()
        """Set when somebody waits for an answer."""

    def network(self, client: ClientAddress) -> Network:
        return self.known

    async def look_up(self, event: Event, wanted: frozenset[Lookup], network: Network) -> LookedUp:
        self.asked.append((event, wanted))
        self.waiting.set()
        if self.gate is not None:
            await self.gate.wait()
        return replace(self.found, network=network)

    async def close(self) -> None:
        """Nothing to let go of."""
