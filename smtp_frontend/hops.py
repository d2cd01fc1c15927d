"""The next hops of one session: one for ordinary mail, and one for each class of service that has its own.

Connections are made when they are first needed, and kept for the transactions that follow.
"""

from collections.abc import Mapping

from smtp_frontend.next_hop.contract import Connection, NextHop

ORDINARY = ""


class Hops:
    """Connections by class of service."""

    def __init__(self, next_hop: NextHop, services: Mapping[str, NextHop]) -> None:
        self._next_hops = {ORDINARY: next_hop, **services}
        self._connections: dict[str, Connection] = {}

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
