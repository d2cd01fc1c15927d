"""Whether a next hop is there, and whether it hears whom we speak for: found out by one session, and known to all.

    there --a connection fails--> away --a probe succeeds--> there
                                  |  ^
                                  +--+ at most one probe at a time, `PAUSE_SECONDS` after the last failure

While it is away, nobody waits for it but the one session that tries; all others hear at once that it cannot be reached.

Promises: one line in the log when it goes away and one when it is back, however many ask meanwhile. A server that
answers and refuses us is there: it may have refused this connection only, because it has too many of them.
And one line when a server that is to be told who the clients are does not offer that any more, or never has, and one
when it does again.

Does not do: anything about connections that exist, those of a server that has stopped to answer included.

Bugs: until the first connection has failed, which takes the whole time limit where packets are lost, others wait too.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from reputation.clock import Clock, SystemClock
from smtp_frontend.next_hop.wire import HopRefuses, HopUnreachable

PAUSE_SECONDS = 1.0
"""Between a failed connection and the next try."""

NO_XCLIENT = (
    "does not offer us XCLIENT, and takes all clients for us: mail goes on without it. "
    "In Postfix, put the address that we connect from into smtpd_authorized_xclient_hosts"
)
XCLIENT_IS_BACK = "offers XCLIENT: it is told who the clients are"

LOG = logging.getLogger("reputon.next_hop")


class HopWatch:
    """What all sessions know of one next hop."""

    def __init__(self, url: str, *, pause_seconds: float = PAUSE_SECONDS, clock: Clock | None = None) -> None:
        self._url = url
        self._pause_seconds = pause_seconds
        self._clock = clock or SystemClock()
        self._away_at: float | None = None
        self._failed_at = 0.0
        self._probing = False
        self._told = 0
        self._listens = True

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Around the making of a connection. Raises `HopUnreachable` where that is not to be tried now."""
        probe = self._away_at is not None
        if probe and (self._probing or self._clock.monotonic() < self._failed_at + self._pause_seconds):
            self._told += 1
            raise HopUnreachable("is away")
        self._probing = self._probing or probe
        try:
            yield
        except HopRefuses:
            self._back()
            raise
        except HopUnreachable as trouble:
            self._away(trouble)
            raise
        else:
            self._back()
        finally:
            self._probing = self._probing and not probe

    def was_told(self, told: bool) -> None:
        """Whether a server that is to be told who the clients are has been."""
        if told != self._listens:
            self._listens = told
            LOG.warning("%s: %s", self._url, XCLIENT_IS_BACK if told else NO_XCLIENT)

    def _away(self, trouble: HopUnreachable) -> None:
        self._told += 1
        self._failed_at = self._clock.monotonic()
        if self._away_at is None:
            self._away_at = self._failed_at
            LOG.warning("%s: away: %s", self._url, str(trouble))

    def _back(self) -> None:
        if self._away_at is not None:
            seconds = self._clock.monotonic() - self._away_at
            LOG.warning("%s: back after %.1f s, %d transactions were put off", self._url, seconds, self._told)
            self._away_at, self._told = None, 0
