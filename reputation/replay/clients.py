"""Who is connected, and whose mail is passed over because it comes back from a content filter."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network

from reputation.events import ClientAddress, Session
from reputation.replay.steps import Message

LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""What is passed over if nothing else is said."""
MAX_REMEMBERED = 100_000


class Connection:
    """A session as far as the log has told."""

    __slots__ = ("announced", "pending", "session")

    def __init__(self, session: Session | None) -> None:
        self.session = session
        """None where the log does not know the address."""
        self.announced = False
        """Whether it was judged as a connection."""
        self.pending: Message | None = None
        """What was refused in the transaction that is under way."""


class Skipping:
    """Networks, and of whom it is known whether they are in one."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self._known: dict[ClientAddress, bool] = {}

    def covers(self, client: ClientAddress) -> bool:
        """Whether a client is in one of the networks."""
        found = self._known.get(client)
        if found is None:
            if len(self._known) > MAX_REMEMBERED:
                self._known.clear()
            found = self._known[client] = any(client in network for network in self._networks)
        return found
