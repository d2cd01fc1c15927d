"""The counter store on Redis or Valkey: one server, a group watched by Sentinel, or a cluster.

Promises: one round trip per decision, however many keys and windows; the servers' clocks rule; every key expires; an
answer or `StoreUnavailable` by the deadline. A call that timed out is never sent again, because it may have been
carried out; one that a server refused to carry out (``MOVED``, ``ASK``, functions missing) is, within the same
deadline.

On one server a decision is one atomic call. On a cluster it is one call per key, all at once, each
atomic by itself; when one key refuses, what the others charged is given back. In between another decision may find them
fuller than they are, which refuses more and never admits more. Keys whose server is away are `missing` from the answer.

Bugs: a charge that a server carries out after the deadline stays until it ages out.
"""

import asyncio
import logging
import random
from collections.abc import Sequence

import hiredis

from reputation.charges import Answer, Charge, Receipt, receipt_of
from reputation.contracts import MAX_MEMBERS
from reputation.errors import StoreError, StoreMisuse, StoreUnavailable
from reputation.keys import Key
from reputation.store import functions
from reputation.store.address import Address, StoreUrl
from reputation.store.connection import Call, Reply, packed
from reputation.store.node import FUNCTION_MISSING, LOAD_FUNCTIONS, Node, error_of, harmless, name_of
from reputation.store.redis_notes import Part, RedisNotes
from reputation.store.topology import Topology, open_topology
from reputation.windows import MICROSECONDS, Window

DEFAULT_PREFIX = "rp"
DEFAULT_DEADLINE_SECONDS = 0.05
PATIENCE_SECONDS = 2.0
"""How long administration (ping, series) waits, where no mail does."""
ASKING = 64
"""Decisions that are under way at once. Further ones wait for their turn before their deadline begins."""
REFUNDING = 16
"""Refunds likewise, apart: whoever gives a thousand recipients up must not stand before everybody's decisions."""
TURN_SECONDS = 2.0
"""The longest wait for a turn."""
MEMBERS_AT_ONCE = 1_000
MAX_REDIRECTIONS = 8
TRY_AGAIN_SECONDS = 0.005
SPARE_SECONDS = 0.005
"""With less than this left, a redirection is not followed: the server could not be in time, and would seem overdue."""

log = logging.getLogger("reputon.store")


class RedisStore(RedisNotes):
    """Fulfils `reputation.contracts.Store`. `url` is one of `reputation.store.address.StoreUrl`'s."""

    def __init__(
        self, url: str, *, prefix: str = DEFAULT_PREFIX, deadline_seconds: float = DEFAULT_DEADLINE_SECONDS
    ) -> None:
        super().__init__(StoreUrl.parse(url), prefix)
        self._topology: Topology = open_topology(self._url)
        self._deadline_seconds = deadline_seconds
        self._turns = asyncio.Semaphore(ASKING)
        self._refund_turns = asyncio.Semaphore(REFUNDING)
        self._refunds: dict[asyncio.Task[None], str] = {}
        """What is being given back behind decisions' backs, and for which tokens."""
        self.round_trips = 0
        """Turns of sending and waiting; a decision takes one."""

    # The contract

    @property
    def whole(self) -> bool:
        nodes = self._topology.nodes()
        return bool(nodes) and all(node.answers for node in nodes)

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        if not charges:
            return Answer()
        try:
            if self._topology.clustered:
                return await self._decide_by_keys(charges, token, now_us)
            (reply,) = await self._exchange(((0, functions.decide_command(charges, self._prefix, token, now_us)),))
            return functions.one_answer(charges, token, reply)
        except (TypeError, ValueError, IndexError) as error:  # no reply of our functions
            raise StoreUnavailable(f"the server talks nonsense: {error}") from error

    async def _decide_by_keys(self, charges: Sequence[Charge], token: str, now_us: int | None) -> Answer:
        if token:
            await self._given_back(token)
        replies = await self._exchange(functions.decide_commands(charges, self._prefix, token, now_us))
        known = [None if isinstance(reply, StoreError) else reply for reply in replies]
        answer = functions.joint_answer(charges, token, known)
        if not answer.allowed:
            self._give_back(charges, token, known)
        return answer

    async def refund(self, receipt: Receipt) -> None:
        if not receipt:
            return
        groups = [(given,) for given in receipt] if self._topology.clustered else [receipt]
        slots = [functions.slot_of(group[0].charge.key.spelled(self._prefix)) for group in groups]
        commands = [functions.refund_command(group, self._prefix) for group in groups]
        _raise_any(await self._exchange(list(zip(slots, commands, strict=True)), self._refund_turns))

    async def renew(self, key: Key, members: Sequence[str], window: Window, *, now_us: int | None = None) -> int:
        arguments = (functions.moment(now_us), window.seconds * MICROSECONDS, *members)
        return int(await self._ask(functions.RENEW, [key.spelled(self._prefix)], *arguments))

    async def beat(self, process: str, lifetime_seconds: float) -> int:
        lifetime_us = int(lifetime_seconds * MICROSECONDS)
        return int(await self._ask(functions.BEAT, [f"{self._prefix}:{{processes}}"], "", process, lifetime_us))

    async def _somewhere(self) -> Address:
        await self._topology.known(asyncio.get_running_loop().time() + PATIENCE_SECONDS)
        nodes = list(self._topology.nodes())
        if not nodes:
            raise StoreUnavailable("no server is known")
        return random.choice([node for node in nodes if node.connected] or nodes).address  # noqa: S311 - no secret

    async def ping(self) -> str:
        await self._topology.known(asyncio.get_running_loop().time() + PATIENCE_SECONDS)
        alone = not self._topology.clustered
        names = [await name_of(it, alone=alone, timeout_seconds=PATIENCE_SECONDS) for it in self._topology.nodes()]
        await self._ask(functions.COUNTS, [f"{self._prefix}:{{ping}}"], "", "")  # whether we may have our keys
        return names[0] + (f", {len(names)} primaries" if self._topology.clustered else "")

    async def members(self, name: str) -> frozenset[str]:
        """Read in pieces (SSCAN): the server does nothing else meanwhile."""
        slot, cursor, asked = functions.slot_of_name(name), b"0", set[Node]()
        found: set[str] = set()
        for _ in range(MAX_MEMBERS):
            command = packed("SSCAN", name, cursor, "COUNT", MEMBERS_AT_ONCE)
            try:
                (reply,) = await self._sent_patiently(((slot, command),))
            except StoreMisuse as error:
                lacks = f'; for this set, too: "%R~{name}"' if "NOPERM" in str(error) else ""
                raise StoreMisuse(f"{error}{lacks}") from None
            asked.add(self._topology.node(slot))
            if len(asked) > 1:  # the cursor of one server says nothing to another
                raise StoreUnavailable("the set has moved to another server while it was read")
            cursor, page = reply
            found.update(member.decode("utf-8", "surrogateescape") for member in page)
            if len(found) > MAX_MEMBERS:
                raise StoreMisuse(f"the set has more than {MAX_MEMBERS:,} members")
            if cursor == b"0":
                return frozenset(found)
        raise StoreUnavailable("the set cannot be read to its end")

    async def close(self) -> None:
        for refund in self._refunds:
            refund.cancel()
        self._topology.close()

    # How

    def _part(self, function: str, keys: Sequence[str], *arguments: functions.Word) -> Part:
        return functions.slot_of(keys[0]), functions.command(function, keys, *arguments)

    async def _ask_each(self, function: str, keys: Sequence[str], *arguments: functions.Word) -> list[Reply]:
        return await self._sent_patiently([self._part(function, [key], *arguments) for key in keys])

    async def _sent_patiently(self, parts: Sequence[Part]) -> list[Reply]:
        return _raise_any(await self._sent(parts, PATIENCE_SECONDS))

    async def _holders(self) -> frozenset[Node]:
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        await self._topology.known(deadline)
        await self._topology.relearned(deadline)
        return frozenset(map(self._topology.node, range(functions.SLOTS if self._topology.clustered else 1)))

    async def _ask(self, function: str, keys: Sequence[str], *arguments: functions.Word) -> Reply:
        (reply,) = await self._sent_patiently((self._part(function, keys, *arguments),))
        return reply

    def _give_back(self, charges: Sequence[Charge], token: str, replies: Sequence[Reply | None]) -> None:
        """Refund, behind the decision's back, what some keys of it have charged and others have refused."""
        charged = [
            given
            for charge, reply in zip(charges, replies, strict=True)
            if reply is not None and reply[0]
            for given in receipt_of(functions.one_answer((charge,), token, reply))
        ]
        if charged:
            task = asyncio.create_task(self._refund_quietly(tuple(charged)))
            self._refunds[task] = token
            task.add_done_callback(self._refunds.pop)

    async def _given_back(self, token: str) -> None:
        """Wait for what is being given back for a token: a retry must not find it charged, and then lose it."""
        if pending := [task for task, given in self._refunds.items() if given == token]:
            await asyncio.wait(pending, timeout=self._deadline_seconds)

    async def _refund_quietly(self, receipt: Receipt) -> None:
        try:
            await self.refund(receipt)
        except StoreError as error:
            log.debug("what was charged for a refused decision ages out: %s", error)

    async def _exchange(self, parts: Sequence[Part], turns: asyncio.Semaphore | None = None) -> list[Reply]:
        """Send what mail waits for. The deadline begins with the turn: a crowd of ours is no store that is slow."""
        turns = turns or self._turns
        if turns.locked():
            try:
                async with asyncio.timeout(TURN_SECONDS):
                    await turns.acquire()
            except TimeoutError:
                raise StoreUnavailable(f"no turn within {TURN_SECONDS:g} s") from None
        else:
            await turns.acquire()
        try:
            return await self._sent(parts, self._deadline_seconds)
        finally:
            turns.release()

    async def _sent(self, parts: Sequence[Part], seconds: float) -> list[Reply]:
        """Send all parts, await all replies; a part that failed has its `StoreError` in place of the reply.

        Raises `StoreError` when all have failed.
        """
        if not parts:
            return []
        loop = asyncio.get_running_loop()
        call = Call(loop, len(parts), loop.time() + seconds)
        node, late = self._topology.node, []
        for position, part in enumerate(parts):
            try:
                node(part[0]).send(part[1], call, position)
            except StoreError:
                late.append(self._send_late(part, call, position))
        if late:  # all at once, and after the others: one server that is away holds nobody up
            await asyncio.gather(*late)
        self.round_trips += 1
        replies = await call.future
        refused = [position for position, reply in enumerate(replies) if isinstance(reply, hiredis.ReplyError)]
        if refused:
            again = [self._again(parts[position], str(replies[position]), call.deadline) for position in refused]
            for position, reply in zip(refused, await asyncio.gather(*again), strict=True):
                replies[position] = reply
        if isinstance(replies[0], StoreError) and all(isinstance(reply, StoreError) for reply in replies):
            raise replies[0]
        return replies

    async def _send_late(self, part: Part, call: Call, position: int) -> None:
        """Wait for a connection that has not been tried yet; while the last try has failed, fail at once."""
        try:
            await self._topology.known(call.deadline)
            node = self._topology.node(part[0])
            await node.ready(call.deadline)
            node.send(part[1], call, position)
        except StoreError as error:
            call.answered(position, error)

    async def _again(self, part: Part, error: str, deadline: float) -> Reply:
        """Deal with an error reply: the command was not carried out, so it may be sent to where it belongs."""
        loop = asyncio.get_running_loop()
        node: Node | None = None  # that has refused; not known at first, because the map may have changed meanwhile
        try:
            for _ in range(MAX_REDIRECTIONS):
                node, commands = await self._redirected(part, node, error, deadline)
                if loop.time() > deadline - SPARE_SECONDS:
                    break
                call = Call(loop, len(commands), deadline)
                for position, command in enumerate(commands):
                    node.send(command, call, position)
                self.round_trips += 1
                replies = await call.future
                for command, reply in zip(commands, replies, strict=True):
                    if isinstance(reply, hiredis.ReplyError) and not harmless(command, str(reply)):
                        error = str(reply)
                        break
                else:
                    return replies[-1]
                if FUNCTION_MISSING in error and LOAD_FUNCTIONS in commands:  # and it could not be loaded
                    return error_of(str(node.address), str(replies[0]))
        except (StoreError, ValueError) as failure:  # the latter where a redirection names no address
            return failure if isinstance(failure, StoreError) else StoreUnavailable(f"nonsense: {failure}")
        return StoreUnavailable(f"no end of redirections within the deadline: {error}")

    async def _redirected(
        self, part: Part, asked: Node | None, error: str, deadline: float
    ) -> tuple[Node, list[bytes]]:
        """Where to send a part that `asked` has refused with `error`, and what; raises what cannot be helped."""
        word, _, rest = error.partition(" ")
        topology = self._topology
        node = asked or topology.node(part[0])
        if word in ("MOVED", "ASK"):
            slot, _, place = rest.partition(" ")
            host, _, port = place.rpartition(":")
            address = Address.told(host.strip("[]") or node.address.host, int(port))
            node = topology.moved(int(slot), address) if word == "MOVED" else topology.at(address)
            await node.ready(deadline)
            return node, [part[1]] if word == "MOVED" else [packed("ASKING"), part[1]]
        if word == "TRYAGAIN":  # several keys of a slot that is moving: not all are here, nor there
            await asyncio.sleep(TRY_AGAIN_SECONDS)
            return node, [part[1]]
        if FUNCTION_MISSING in error:
            return node, [LOAD_FUNCTIONS, part[1]]
        if word in ("READONLY", "CLUSTERDOWN", "MASTERDOWN"):  # a fail-over, and our map is of before
            await topology.relearned(deadline, doubted=node)
            elsewhere = topology.node(part[0])
            if elsewhere is not asked:
                await elsewhere.ready(deadline)
                return elsewhere, [part[1]]
        raise error_of(str(node.address), error)


def _raise_any(replies: list[Reply]) -> list[Reply]:
    for reply in replies:
        if isinstance(reply, StoreError):
            raise reply
    return replies
