"""Which server holds which key: one server, the primary that Sentinel names, or the primaries of a cluster.

A topology answers one question on the hot path, without I/O: the node of a hash slot. It learns in the
background: from redirections (``MOVED``), and by asking again when a node is lost.

A server that has left its cluster, or sees a part of it, still has a map, of little or of nothing. The first map of
all slots ends the search; without one the largest is taken, and what it says nothing about stays as it was.

On a cluster every entity has its own hash tag, so all its keys are in one slot: CRC16 of what stands between the
braces, modulo 16384 (Redis cluster specification, "Hash tags").
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Protocol

from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.store.address import Address, StoreUrl
from reputation.store.functions import SLOTS
from reputation.store.node import CONNECT_SECONDS, Node, again
from reputation.store.sentinel import primary_of
from reputation.store.slot_map import SlotMap, map_of

REFRESH_PAUSE_SECONDS = 0.1
"""Between two questions for the map, so that many redirections at once are one question."""
LONGEST_PAUSE_SECONDS = 0.5
"""While a server of the map is away: a fail-over must be noticed soon."""

HEAD_START_SECONDS = 0.1
"""For each server that is asked for the map, before the next one is asked, too."""
RETIRE_SECONDS = 5.0

log = logging.getLogger("reputon.store")


class Topology(Protocol):
    """Where keys are."""

    clustered: bool
    """Whether a command may touch keys of one slot only."""

    def node(self, slot: int) -> Node:
        """The node that holds a slot, as far as is known. Raises `StoreUnavailable` when nobody does."""
        ...

    def moved(self, slot: int, address: Address) -> Node:
        """A server said that the slot is elsewhere."""
        ...

    def at(self, address: Address) -> Node:
        """The server that was named in an ASK redirection."""
        ...

    def nodes(self) -> Collection[Node]:
        """Every primary."""
        ...

    def learn_soon(self, *_: object) -> None:
        """The map may be wrong: ask for it again."""
        ...

    async def known(self, deadline: float) -> None:
        """Wait until the map has been asked for once. Raises `StoreError` when that failed."""
        ...

    async def relearned(self, deadline: float, *, doubted: Node | None = None) -> None:
        """The map is wrong: wait until it has been asked for once more, if there is one to be asked for.

        What a `doubted` server says counts only where nobody else knows as much: it may be cut off from the others.
        """
        ...

    def close(self) -> None:
        """Let go of all connections."""
        ...


class SingleServer:
    """One server, for every slot."""

    clustered = False

    def __init__(self, url: StoreUrl) -> None:
        self._node = Node(url.addresses[0], url)

    def node(self, slot: int) -> Node:  # noqa: ARG002 - all slots are here
        return self._node

    def moved(self, slot: int, address: Address) -> Node:
        raise StoreMisuse(
            f"{self._node.address} is part of a cluster (slot {slot} is at {address}): use redis+cluster://"
        )

    def at(self, address: Address) -> Node:
        return self.moved(0, address)

    def learn_soon(self, *_: object) -> None:
        """There is nothing to learn."""

    def nodes(self) -> Collection[Node]:
        return (self._node,)

    async def known(self, deadline: float) -> None:
        """There is no map."""

    async def relearned(self, deadline: float, *, doubted: Node | None = None) -> None:
        """There is no map."""

    def close(self) -> None:
        self._node.close()


class Watched:
    """What Sentinel and cluster have in common: a map that is learned in the background, one question at a time."""

    def __init__(self) -> None:
        self._learning: asyncio.Task[None] | None = None
        self._closed = False
        self._failed: StoreError | None = None
        self._known = False
        self._asked = asyncio.Event()
        """Set when the present round of asking is over; each round has its own."""
        self._wanted = False
        """Whether somebody has wanted another round since the present one began."""

    def learn_soon(self, *_: object) -> None:
        """Ask for the map again, once more after the round that is under way."""
        self._wanted = True
        if not self._closed and (self._learning is None or self._learning.done()):
            self._learning = asyncio.create_task(self._keep_learning(), name="store topology")

    async def _keep_learning(self) -> None:
        pause = REFRESH_PAUSE_SECONDS
        while True:
            self._wanted = False
            try:
                await self._learn()
            except StoreError as error:
                self._failed = error
            except Exception as error:  # the top of a job that must not end: the map would never be right again
                self._failed = StoreUnavailable(f"where the servers are cannot be found out: {error}")
                log.exception("store topology")
            else:
                self._known, self._failed = True, None
            self._asked.set()
            self._asked = asyncio.Event()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            if self._failed is not None or not self._whole():
                # A server of the map is away, or a slot is nobody's: a fail-over is under way, and will change the map.
                pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            elif self._wanted:
                pause = REFRESH_PAUSE_SECONDS
            else:
                return

    async def _learn(self) -> None:
        raise NotImplementedError

    def nodes(self) -> Collection[Node]:
        """Every primary."""
        raise NotImplementedError

    def _whole(self) -> bool:
        """Whether nothing is missing."""
        return all(node.connected for node in self.nodes())

    async def known(self, deadline: float) -> None:
        """Wait until the map has been asked for once. Raises `StoreError` when that failed."""
        if not self._known and self._failed is None:
            await self.relearned(deadline)
        if not self._known:
            raise again(self._failed) or StoreUnavailable("where the servers are is not known yet")

    async def relearned(self, deadline: float, *, doubted: Node | None = None) -> None:  # noqa: ARG002 - of a cluster
        """Wait until the map has been asked for once more; not beyond the deadline."""
        asked = self._asked
        self.learn_soon()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await asked.wait()

    def close(self) -> None:
        self._closed = True
        if self._learning is not None:
            self._learning.cancel()


class SentinelGroup(Watched):
    """The primary that Sentinel names; another one after a fail-over."""

    clustered = False

    def __init__(self, url: StoreUrl) -> None:
        super().__init__()
        self._url = url
        self._node: Node | None = None

    def node(self, slot: int) -> Node:  # noqa: ARG002 - all slots are on the primary
        if self._node is None:
            self.learn_soon()
            raise again(self._failed) or StoreUnavailable("Sentinel has not named a primary yet")
        return self._node

    def moved(self, slot: int, address: Address) -> Node:
        raise StoreMisuse(f"{self._url.service} is part of a cluster (slot {slot} is at {address})")

    def at(self, address: Address) -> Node:
        return self.moved(0, address)

    def nodes(self) -> Collection[Node]:
        return () if self._node is None else (self._node,)

    async def _learn(self) -> None:
        address = await primary_of(self._url)
        if self._node is None or self._node.address != address:
            if self._node is not None:
                log.warning("the primary of %s is now %s", self._url.service, address)
                self._node.close()
            self._node = Node(address, self._url, on_lost=self.learn_soon)
        await self._node.ready(asyncio.get_running_loop().time() + CONNECT_SECONDS)

    def close(self) -> None:
        super().close()
        for node in self.nodes():
            node.close()


class Cluster(Watched):
    """The primaries of a Redis or Valkey cluster, slot by slot."""

    clustered = True

    def __init__(self, url: StoreUrl) -> None:
        super().__init__()
        self._url = url
        self._nodes: dict[Address, Node] = {}
        self._retired: set[Node] = set()
        self._slots: list[Node | None] = [None] * SLOTS
        self._primaries: tuple[Node, ...] = ()
        self._doubted: set[Node] = set()

    def node(self, slot: int) -> Node:
        node = self._slots[slot]
        if node is None:
            self.learn_soon()
            raise again(self._failed) or StoreUnavailable(f"no server holds slot {slot}")
        return node

    def moved(self, slot: int, address: Address) -> Node:
        if not 0 <= slot < SLOTS:
            raise ValueError(f"there is no slot {slot}")
        node = self._node_at(address)
        self._slots[slot] = node
        if node not in self._primaries:
            self._primaries = (*self._primaries, node)
        self.learn_soon()
        return node

    def at(self, address: Address) -> Node:
        """The node of a server that was named in an ASK redirection."""
        return self._node_at(address)

    def nodes(self) -> Collection[Node]:
        return self._primaries

    def _node_at(self, address: Address) -> Node:
        node = self._nodes.get(address)
        if node is None:
            node = self._nodes[address] = Node(address, self._url, on_lost=self.learn_soon)
        return node

    async def relearned(self, deadline: float, *, doubted: Node | None = None) -> None:
        if doubted is not None:
            self._doubted.add(doubted)
        await super().relearned(deadline)

    def _whole(self) -> bool:
        return super()._whole() and None not in self._slots

    async def _learn(self) -> None:
        """Take the map of whoever knows the most. Raises `StoreError` when nobody knows anything."""
        doubted = {node.address for node in self._doubted}
        said = await self._told(doubted)
        self._doubted.clear()
        errors = [each for each in said if isinstance(each, StoreError)]
        maps = [each for each in said if isinstance(each, SlotMap)]
        if not maps:
            raise errors[-1]
        best = max(maps, key=lambda known: (known.covered, known.asked not in doubted))
        if not best.covered:
            asked = ", ".join(str(known.asked) for known in maps)
            raise StoreUnavailable("; ".join((f"no slot is anybody's, say {asked}", *map(str, errors))))
        self._take(best)

    async def _told(self, doubted: Collection[Address]) -> list[SlotMap | StoreError]:
        """What is said about the map until somebody knows all of it; nobody is waited for longer than a head start."""
        upcoming, asked = self._to_ask(doubted), set[asyncio.Task[SlotMap | StoreError]]()
        said: list[SlotMap | StoreError] = []
        async with asyncio.TaskGroup() as tasks:
            while upcoming or asked:
                if upcoming:
                    asked.add(tasks.create_task(map_of(upcoming.pop(0))))
                head_start = HEAD_START_SECONDS if upcoming else None
                done, asked = await asyncio.wait(asked, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
                said += [task.result() for task in done]
                if any(isinstance(it, SlotMap) and it.covered == SLOTS and it.asked not in doubted for it in said):
                    break
            for task in asked:
                task.cancel()
        return said

    def _to_ask(self, doubted: Collection[Address]) -> list[Node]:
        """Everybody that could know the map, those that we are connected to first, those in doubt last."""
        known = {node.address: node for node in self.nodes()}
        for address in self._url.addresses:
            known.setdefault(address, self._node_at(address))
        return sorted(known.values(), key=lambda node: (node.address in doubted, not node.connected))

    def _take(self, known: SlotMap) -> None:
        slots = list(self._slots)  # who holds what the map says nothing about is asked again, too
        for first, last, address in known.ranges:
            slots[first : last + 1] = [self._node_at(address)] * (last + 1 - first)
        self._slots = slots
        current = {node for node in slots if node is not None}
        self._primaries = tuple(sorted(current, key=lambda node: str(node.address)))
        for address, node in list(self._nodes.items()):
            if node not in current and address not in self._url.addresses:
                del self._nodes[address]
                # What is under way there still gets its answer.
                self._retired.add(node)
                asyncio.get_running_loop().call_later(RETIRE_SECONDS, self._retire, node)
        for node in current:
            node.connect_soon()

    def _retire(self, node: Node) -> None:
        self._retired.discard(node)
        node.close()

    def close(self) -> None:
        super().close()
        for node in (*self._nodes.values(), *self._retired):
            node.close()


def open_topology(url: StoreUrl) -> Topology:
    """The topology that a URL names. Connects when it is first used."""
    kinds: dict[str, Callable[[StoreUrl], Topology]] = {
        "standalone": SingleServer,
        "sentinel": SentinelGroup,
        "cluster": Cluster,
    }
    return kinds[url.kind](url)
