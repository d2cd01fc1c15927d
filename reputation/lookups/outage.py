"""Whether the DNS answers at all: said once when it stops and once when it begins again.

It is away when nothing has come back after many attempts, over a while; one name whose servers are away does not look
like that as long as anything else is asked about. While it is away, one question at a time goes out to see, and all
others are a temperror at once: an event that waits for each of them would wait for its whole deadline.
"""

import logging

from reputation.clock import Clock
from reputation.lookups.exchange import Server

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
        if not self.is_on and self._silences >= SILENT_ATTEMPTS and now - self._since >= SILENT_SECONDS:
            self.is_on = True
            log.warning("the DNS does not answer, look-ups are temperrors: %s", ", ".join(map(str, self._servers)))
