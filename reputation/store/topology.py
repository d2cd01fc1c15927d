"""Which server holds which key: one server, the primary that Sentinel names, or the primaries of a cluster.

A topology answers one question on the hot path, without I/O: the node of a hash slot. It learns in the
background: from redirections (``MOVED``), and by asking again when a node is lost.

On a cluster every entity has its own hash tag, so all its keys are in one slot: CRC16 of what stands between the
braces, modulo 16384 (Redis cluster specification, "Hash tags").
"""

import asyncio
import logging
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import hiredis
from redis.asyncio import Sentinel
from redis.exceptions import RedisError

from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.store.address import Address, StoreUrl
from reputation.store.connection import Reply
from reputation.store.functions import SLOTS
from reputation.store.node import CONNECT_SECONDS, Node, again, error_of

REFRESH_PAUSE_SECONDS = 0.1
"""Between two questions for the map, so that many redirections at once are one question."""
LONGEST_PAUSE_SECONDS = 0.5
"""While a server of the map is away: a fail-over must be noticed soon."""

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

    async def relearned(self, deadline: float) -> None:
        """The map is wrong: wait until it has been asked for once more, if there is one to be asked for."""
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

    async def relearned(self, deadline: float) -> None:
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

    def learn_soon(self, *_: object) -> None:
        """Ask for the map again, if nobody is asking already."""
        if not self._closed and (self._learning is None or self._learning.done()):
            self._learning = asyncio.create_task(self._keep_learning(), name="store topology")

    async def _keep_learning(self) -> None:
        pause = REFRESH_PAUSE_SECONDS
        while True:
            try:
                await self._learn()
            except StoreError as error:
                self._failed = error
            else:
                self._known, self._failed = True, None
            self._asked.set()
            self._asked = asyncio.Event()
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            if self._failed is None and all(node.connected for node in self.nodes()):
                return
            # A server of the map is away: a fail-over is under way, and will change the map.
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _learn(self) -> None:
        raise NotImplementedError

    def nodes(self) -> Collection[Node]:
        """Every primary."""
        raise NotImplementedError

    async def known(self, deadline: float) -> None:
        """Wait until the map has been asked for once. Raises `StoreError` when that failed."""
        if not self._known and self._failed is None:
            await self.relearned(deadline)
        if not self._known:
            raise again(self._failed) or StoreUnavailable("where the servers are is not known yet")

    async def relearned(self, deadline: float) -> None:
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


async def primary_of(url: StoreUrl) -> Address:
    """The primary that the Sentinels of a URL name. Raises `StoreUnavailable`.

    Sentinels that want a password get the one of the servers.
    """
    ways_in: list[dict[str, str | None]] = [{}]
    if url.password:
        ways_in.append({"username": url.username or None, "password": url.password})
    for credentials in ways_in:
        try:
            return await _named_by_sentinel(url, credentials)
        except (RedisError, OSError) as error:
            failed: Exception = error
    raise StoreUnavailable(f"Sentinel names no primary for {url.service!r}: {failed}") from failed


async def _named_by_sentinel(url: StoreUrl, credentials: Mapping[str, str | None]) -> Address:
    options: dict[str, Any] = {"socket_timeout": CONNECT_SECONDS, **credentials}
    if url.tls is not None:
        of = url.tls_options
        trusting = of.get("verify") == "no"
        options |= {
            "ssl": True,
            "ssl_ca_certs": of.get("ca"),
            "ssl_certfile": of.get("cert"),
            "ssl_keyfile": of.get("key"),
            "ssl_cert_reqs": "none" if trusting else "required",
            "ssl_check_hostname": not trusting,
        }
    places = [(address.host, address.port) for address in url.addresses]
    sentinel = Sentinel(places, sentinel_kwargs=options)  # type: ignore[no-untyped-call] # untyped there
    try:
        host, port = await sentinel.discover_master(url.service)
    finally:
        for client in sentinel.sentinels:
            await client.aclose()
    return Address(str(host), int(port))


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

    def node(self, slot: int) -> Node:
        node = self._slots[slot]
        if node is None:
            self.learn_soon()
            raise again(self._failed) or StoreUnavailable(f"no server holds slot {slot}")
        return node

    def moved(self, slot: int, address: Address) -> Node:
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

    async def _learn(self) -> None:
        errors: list[StoreError] = []
        for node in self._to_ask():
            try:
                (reply,) = await node.ask(("CLUSTER", "SLOTS"))
                if isinstance(reply, hiredis.ReplyError):
                    raise error_of(f"{node.address}: CLUSTER SLOTS", str(reply))
                self._take(node.address, reply)
            except StoreError as error:
                errors.append(error)
            else:
                return
        raise errors[-1] if errors else StoreUnavailable("no server of the cluster is known")

    def _to_ask(self) -> Sequence[Node]:
        """Everybody that could know the map, those that we are connected to first."""
        known = {node.address: node for node in self.nodes()}
        for address in self._url.addresses:
            known.setdefault(address, self._node_at(address))
        return sorted(known.values(), key=lambda node: not node.connected)

    def _take(self, asked: Address, ranges: Reply) -> None:
        """A new map: (first slot, last slot, [host, port, id ...], replicas ...) of each range."""
        slots: list[Node | None] = [None] * SLOTS
        for first, last, primary, *_ in ranges:
            host = primary[0].decode() if primary[0] else asked.host  # empty: the one that we have asked
            node = self._node_at(Address(host, int(primary[1])))
            slots[first : last + 1] = [node] * (last + 1 - first)
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
