"""How many newcomers each network has brought lately, so that nobody fills the store with names that he makes up.

Whoever is asked for his age is remembered for months (`reputation.inquiry`), whatever becomes of his mail. A network
that brings more than `MOST` of them in an hour brings no more that are remembered, until the hour is over.
"""

from reputation.keys import Dimension, Entities

MOST = 100
"""New names of one network in an hour, of each process."""
SECONDS = 3_600.0
MAX_NETWORKS = 50_000


class Newcoming:
    """The newcomers of one network."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    @property
    def welcome(self) -> bool:
        """Whether more are remembered."""
        return self.count < MOST


class Newcomers:
    """Those of all networks, in this hour."""

    def __init__(self) -> None:
        self._hour = 0.0
        self._networks: dict[str, Newcoming] = {}

    def of(self, entities: Entities, now: float) -> Newcoming:
        """Those of the client's network, at a moment in seconds."""
        if now // SECONDS != self._hour or len(self._networks) >= MAX_NETWORKS:
            self._hour, self._networks = now // SECONDS, {}
        return self._networks.setdefault(entities[Dimension.PREFIX].id, Newcoming())
