"""Whether the DNS answers at all: said once when it stops and once when it begins again.

When nothing has come back after many attempts, over a while, it may be away; or strangers have had us ask about names
whose servers are silent, as many and as unrelated as they like, while nothing else was asked about. So silence is only
a suspicion, and a question decides that no stranger has a hand in (`NEUTRAL`): it is away when that is not answered
either. While it is away, one question at a time goes out to see, with the neutral one beside it, and all others are a
temperror at once: an event that waits for each of them would wait for its whole deadline.

Bugs: a resolver that has the root's records and reaches nobody else is not away; events wait for their deadlines until
it says SERVFAIL by itself. A server that answers all but the neutral question can still be made to look away.
"""

import logging

from reputation.clock import Clock
from reputation.lookups.exchange import Server

NEUTRAL = ("", "SOA")
"""The root's: each resolver has or gets it, and it is small."""
SILENT_ATTEMPTS = 8
SILENT_SECONDS = 2.0
SHUNNED_SECONDS = 30.0
"""For how long a server that has been silent is asked after the others."""

log = logging.getLogger("reputon.lookups")


class Outage:
    """What is known about the health of the servers."""

    def __init__(self, servers: tuple[Server, ...], clock: Clock) -> None:
        self._servers = servers
        self._clock = clock
        self._shunned: dict[Server, float] = {}
        self._silences = 0
        self._since = 0.0
        self.is_on = False
        """Whether the DNS is away, as far as is known."""

    @property
    def is_suspected(self) -> bool:
        """Whether it is time for the neutral question."""
        lasted = self._clock.monotonic() - self._since
        return not self.is_on and self._silences >= SILENT_ATTEMPTS and lasted >= SILENT_SECONDS

    def order(self) -> tuple[Server, ...]:
        """All servers, those first that have not been silent of late."""
        if not self._shunned:
            return self._servers
        now = self._clock.monotonic()
        return tuple(sorted(self._servers, key=lambda server: self._shunned.get(server, 0.0) > now))

    def heard(self, server: Server) -> None:
        """Something has come from a server."""
        self._shunned.pop(server, None)
        self._silences = 0
        if self.is_on:
            self.is_on = False
            log.warning("the DNS answers again: %s", server)

    def silence(self, server: Server) -> None:
        """A server has not answered in time, or cannot be reached."""
        now = self._clock.monotonic()
        self._shunned[server] = now + SHUNNED_SECONDS
        if not self._silences:
            self._since = now
        self._silences += 1

    def conclude(self) -> None:
        """The neutral question has had its time."""
        if self.is_suspected:  # and nothing was heard since
            self.is_on = True
            log.warning("the DNS does not answer, look-ups are temperrors: %s", ", ".join(map(str, self._servers)))
