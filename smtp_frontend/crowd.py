"""How many sessions each client has at once: a bound of this process, so that nobody takes all places.

A rule with ``count = "concurrent"`` counts on the whole fleet and can do more; this holds without any rule, and costs
the store nothing.
"""

from reputation.events import ClientAddress
from reputation.spelling import network_id


class Crowd:
    """The sessions of one process, by their clients' networks: IPv4 addresses, and a /64 of IPv6."""

    def __init__(self, most_of_one: int) -> None:
        self._most = most_of_one
        self._sessions: dict[str, int] = {}

    def enter(self, client: ClientAddress) -> bool:
        """Count one more session of `client`; False, and nothing is counted, when it has as many as it may have."""
        who = network_id(client, v4=32, v6=64)
        count = self._sessions.get(who, 0)
        if count >= self._most:
            return False
        self._sessions[who] = count + 1
        return True

    def leave(self, client: ClientAddress) -> None:
        """One that has entered is over."""
        who = network_id(client, v4=32, v6=64)
        self._sessions[who] -= 1
        if not self._sessions[who]:
            del self._sessions[who]

    def __len__(self) -> int:
        """Clients that have a session."""
        return len(self._sessions)
