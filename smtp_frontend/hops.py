"""The next hops of one session: one for ordinary mail, and one for each class of service that has its own.

Connections are made when they are first needed, and kept for the transactions that follow. A next hop that wants to
know hears who the client is: as far as we believe it ourselves, and as he is when a transaction begins.
"""

from collections.abc import Callable, Mapping

from smtp_frontend.next_hop.contract import Connection, NextHop
from smtp_frontend.next_hop.xclient import Introduction, Protocol
from smtp_frontend.visitor import Visitor

ORDINARY = ""


class Hops:
    """Connections by class of service."""

    def __init__(self, next_hop: NextHop, services: Mapping[str, NextHop], visitor: Callable[[], Visitor]) -> None:
        """`visitor` says with whom the session is now."""
        self._next_hops = {ORDINARY: next_hop, **services}
        self._visitor = visitor
        self._connections: dict[str, Connection] = {}

    @property
    def introduction(self) -> Introduction:
        """Who the client is now."""
        return introduction_of(self._visitor())

    def name_for(self, service: str) -> str:
        """The name of the hop that mail of a class takes: its own, or `ORDINARY`."""
        return service if service in self._next_hops else ORDINARY

    def connection(self, name: str) -> Connection:
        """The session's connection to a hop; does no I/O."""
        found = self._connections.get(name)
        if found is None:
            found = self._connections[name] = self._next_hops[name].connect()
        return found

    async def close(self) -> None:
        """Let go of all of them."""
        while self._connections:
            _, connection = self._connections.popitem()
            await connection.close()


def introduction_of(visitor: Visitor) -> Introduction:
    """Somebody as a next hop is told of him. His reverse name is known only where a rule had it looked up.

    The address of our own proxy is not that of somebody whom it does not know: the next hop may trust the proxy.
    """
    facts = visitor.facts
    names = (verdict.looked_up.rdns for verdict in visitor.verdicts.values())
    return Introduction(
        address=None if visitor.is_unknown else facts.client,
        helo=facts.helo,
        user=facts.user,
        name=next(filter(None, names), ""),
        protocol=Protocol.ESMTP if visitor.esmtp else Protocol.SMTP,
    )
