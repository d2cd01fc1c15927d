"""One multiplexed connection to a Redis or Valkey server: the hot path.

Many decisions share one connection. Their commands are joined into one write per turn of the event loop, the
server answers in order, and each reply goes to whoever stands first in line::

    callers    a b c        c has been cancelled: its place in the line stays,
    line       [a][b][c]    its reply is dropped, and nobody else ever sees it
    replies    1  2  3  ->  a=1, b=2

Promises:

* A reply never reaches another caller, whoever is cancelled or late.
* A caller hears something by its deadline: the reply, or `StoreUnavailable`. Nothing is sent twice.
* The line is bounded (`MAX_WAITING`); a full one refuses at once.
* While anybody in line is overdue, new callers are refused at once: they would stand behind him. That is the
  circuit breaker, and it closes by itself with the late reply. A server that has owed a reply for `STALL_SECONDS`
  is given up.
* A reply that has arrived in time is delivered, however late this process comes round to reading it: the event loop
  reads before its timers run, and only a timer calls somebody overdue. Nor does it count against the server when this
  process was too busy to write: the time to answer begins when the command is written.

Does not do: connecting again (`reputation.store.node`), knowing what a command means.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, cast

import hiredis

from reputation.errors import StoreError, StoreUnavailable

MAX_WAITING = 8_192
WRITTEN_AT_ONCE = 16
"""Commands that are not kept for the end of the turn: the server can begin while this process goes on asking."""
STALL_SECONDS = 1.0
LATE_SECONDS = 0.005
"""What is written that late puts deadlines off."""

Reply = Any
"""What hiredis makes of RESP: bytes, int, list, None, or an error as a value: `hiredis.ReplyError`, `StoreError`."""

_NO_REPLY = object()


def packed(*words: str | bytes | int) -> bytes:
    """A command as it goes over the wire."""
    command: bytes = hiredis.pack_command(words)  # type: ignore[arg-type] # its stub says that a command has one word
    return command


class Call:
    """Some commands whose replies are awaited together, on one or on several connections."""

    __slots__ = ("deadline", "future", "late", "missing", "replies")

    def __init__(self, loop: asyncio.AbstractEventLoop, size: int, deadline: float) -> None:
        self.future: asyncio.Future[list[Reply]] = loop.create_future()
        self.replies: list[Reply] = [_NO_REPLY] * size
        self.missing = size
        self.deadline = deadline
        self.late = 0.0
        """By how many seconds this process has written late, and has put the deadline off."""

    def answered(self, position: int, reply: Reply) -> None:
        """One reply has come, or a `StoreError` stands for it. A second one for the same place is dropped."""
        if self.replies[position] is not _NO_REPLY:
            return
        self.replies[position] = reply
        self.missing -= 1
        if not self.missing and not self.future.done():
            self.future.set_result(self.replies)

    def put_off(self, late: float) -> None:
        """A part of it was written that late."""
        if late > self.late:
            self.deadline += late - self.late
            self.late = late


class Connection(asyncio.Protocol):
    """A live connection, made by `reputation.store.node`."""

    def __init__(self, on_lost: Callable[["Connection"], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._reader = hiredis.Reader(notEnoughData=Ellipsis)
        self._line: deque[tuple[Call, int]] = deque()
        self._out: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._asked_at = 0.0
        """When the first of what is to be written was sent."""
        self.overdue = False
        """Whether anybody in line should have had its reply before now."""
        self.lost: str = ""
        """Why the connection is of no use any more; empty while it is."""

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # of any event loop, not only of asyncio's own

    def data_received(self, data: bytes) -> None:
        reader, line = self._reader, self._line
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not Ellipsis:
                call, position = line.popleft()
                call.answered(position, reply)
            if self.overdue:
                now = self._loop.time()
                self.overdue = any(call.deadline <= now for call, _ in line)
        except (hiredis.ProtocolError, IndexError) as error:
            self.close(f"the server talks nonsense: {error}")

    def connection_lost(self, error: Exception | None) -> None:
        self.close(str(error or "the server has hung up"))

    # Callers

    def send(self, command: bytes, call: Call, position: int) -> None:
        """Put a packed command into the line; its reply will be number `position` of `call`.

        Raises `StoreUnavailable`, and then the command was not sent.
        """
        if self.overdue or self.lost or len(self._line) >= MAX_WAITING:
            raise StoreUnavailable(self.lost or self._busy())
        if not self._out:
            self._loop.call_soon(self._flush)
            self._asked_at = self._loop.time()
        self._out.append(command)
        self._line.append((call, position))
        if len(self._out) == WRITTEN_AT_ONCE:
            self._flush()
        if self._watch is None or call.deadline < self._watch.when():
            self._look_at(call.deadline)

    async def ask(self, commands: Sequence[bytes], timeout_seconds: float) -> list[Reply]:
        """Send some packed commands and await their replies; for hand-shakes and administration."""
        call = Call(self._loop, len(commands), self._loop.time() + timeout_seconds)
        for position, command in enumerate(commands):
            self.send(command, call, position)
        replies = await call.future
        for reply in replies:
            if isinstance(reply, StoreError):
                raise reply
        return replies

    def close(self, reason: str = "closed") -> None:
        """Give the connection up; whoever waits is told."""
        if self.lost:
            return
        self.lost = reason
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._line:
            call, position = self._line.popleft()
            call.answered(position, StoreUnavailable(f"connection lost: {reason}"))
        self._on_lost(self)

    def _busy(self) -> str:
        return "the server is overdue" if self.overdue else f"{MAX_WAITING} calls are waiting already"

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._transport is None or self.lost or not out:
            return
        self._transport.write(b"".join(out))
        late = self._loop.time() - self._asked_at
        if late > LATE_SECONDS:
            for call, _ in islice(reversed(self._line), len(out)):
                call.put_off(late)

    def _look_at(self, moment: float) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(moment, self._look)

    def _look(self) -> None:
        """Tell those whose time is up. One timer serves the whole line, at the earliest of its deadlines."""
        now = self._loop.time()
        self._watch = None
        if not self._line or self.lost:
            return
        earliest = min(call.deadline for call, _ in self._line)
        if now - earliest > STALL_SECONDS:
            self.close(f"no reply for {STALL_SECONDS:g} s")
            return
        self.overdue = earliest <= now
        upcoming = earliest + STALL_SECONDS + 0.001
        for call, position in self._line:
            if call.deadline > now:
                upcoming = min(upcoming, call.deadline)
            else:
                call.answered(position, StoreUnavailable("no reply within the deadline"))
        self._look_at(upcoming)
