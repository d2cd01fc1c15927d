"""How many sessions each client has at once: a bound of this process, so that nobody takes all places.

A rule with ``count = "concurrent"`` counts on the whole fleet and can do more; this holds without any rule, and costs
the store nothing.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from reputation.events import ClientAddress
from reputation.spelling import network_id

log = logging.getLogger("reputon.smtp")


class Crowd:
    """The sessions of one process, by their clients' networks: IPv4 addresses, and a /64 of IPv6."""

    def __init__(self, most_of_one: int) -> None:
        self._most = most_of_one
        self._sessions: dict[str, int] = {}
        self._told: set[str] = set()
        """Who has too many, and the log has said so; until he has none."""

    def enter(self, client: ClientAddress) -> bool:
        """Count one more session of `client`; False, and nothing is counted, when it has as many as it may have."""
        if self.is_full(client):
            return False
        who = network_id(client, v4=32, v6=64)
        self._sessions[who] = self._sessions.get(who, 0) + 1
        return True

    def is_full(self, client: ClientAddress) -> bool:
        """Whether `client` has as many as it may have. The log is told once."""
        who = network_id(client, v4=32, v6=64)
        if self._sessions.get(who, 0) < self._most:
            return False
        if who not in self._told:
            self._told.add(who)
            log.warning("sessions of %s are turned away: it has %d, as many as it may have", who, self._most)
        return True

    def leave(self, client: ClientAddress) -> None:
        """One that has entered is over."""
        who = network_id(client, v4=32, v6=64)
        self._sessions[who] -= 1
        if not self._sessions[who]:
            del self._sessions[who]
            self._told.discard(who)

    def __len__(self) -> int:
        """Clients that have a session."""
        return len(self._sessions)


class Turns:
    """Waits for a turn: so many of one client have theirs at once, and the others wait, for so long at most."""

    def __init__(self, most_of_one: int, patience_seconds: float) -> None:
        self._most = most_of_one
        self._patience_seconds = patience_seconds
        self._queues: dict[str, tuple[asyncio.Semaphore, int]] = {}
        """Client -> its turns, and how many have or want one."""

    @asynccontextmanager
    async def place(self, client: ClientAddress) -> AsyncIterator[None]:
        """Raises TimeoutError when it takes too long until it is this one's turn."""
        who = network_id(client, v4=32, v6=64)
        turns, wanted = self._queues.get(who, (asyncio.Semaphore(self._most), 0))
        self._queues[who] = turns, wanted + 1
        try:
            async with asyncio.timeout(self._patience_seconds):
                await turns.acquire()
            try:
                yield
            finally:
                turns.release()
        finally:
            turns, wanted = self._queues[who]
            if wanted > 1:
                self._queues[who] = turns, wanted - 1
            else:
                del self._queues[who]

    def __len__(self) -> int:
        """Clients that have or want a turn."""
        return len(self._queues)
