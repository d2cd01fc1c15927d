"""HTTP as uvicorn speaks it, with bounds on what a client may keep us waiting for, and keep us storing.

A request's head has at most `MAX_HEAD_OCTETS` and comes within `HEAD_SECONDS`; the whole request comes within
`REQUEST_SECONDS`. Who is slower is cut off: he could hold a descriptor for ever otherwise, before anybody has asked him
for a token. So is who takes nothing of what he is sent for `TAKING_SECONDS`; if he takes some of it, it may last. A
connection may rest between requests for `KEEP_ALIVE_SECONDS`. Bodies are bounded at the door (`api.door`), connections
where they are accepted (`api.connections`).

Bugs: what the system has taken for the client counts as taken: a few hundred kB.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_OCTETS = 65_536
"""Besides what comes in one read."""
HEAD_SECONDS = 20.0
REQUEST_SECONDS = 120.0
TAKING_SECONDS = 30.0
"""How long a client may take nothing; as for streams (`api.rest.events`)."""
KEEP_ALIVE_SECONDS = 75
SWEEP_SECONDS = 1.0


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, on_over: Callable[[], None] = lambda: None, **named: Any) -> None:
        """`on_over` is called when the connection is over."""
        super().__init__(*arguments, **named)
        self._on_over = on_over
        self._unsent, self._taken_at = 0, 0.0
        self._is_in_head = True
        self._head_octets = 0
        self._began_at = time.monotonic()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        super().connection_lost(exc)
        self._on_over()

    def data_received(self, data: bytes) -> None:
        """Take the next octets."""
        super().data_received(data)
        if self._is_in_head:
            self._head_octets += len(data)
            if self._head_octets > MAX_HEAD_OCTETS and not self.transport.is_closing():
                self.send_400_response("Request header fields too large")

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._is_in_head, self._head_octets, self._began_at = True, 0, time.monotonic()

    def on_headers_complete(self) -> None:
        """Its head is there."""
        self._is_in_head = False
        super().on_headers_complete()

    def is_late(self, now: float) -> bool:
        """Whether we wait for a request, or for its rest, for too long, or for its answer to be taken."""
        if self._takes_nothing(now):
            return True
        if self._is_in_head:
            return now - self._began_at > HEAD_SECONDS
        is_waited_for = self.cycle.more_body and not self.flow.read_paused
        return is_waited_for and now - self._began_at > REQUEST_SECONDS

    def _takes_nothing(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if not self._unsent or unsent < self._unsent:  # it has just begun to wait, or some of it has gone
            self._taken_at = now
        self._unsent = unsent
        return unsent > 0 and now - self._taken_at > TAKING_SECONDS


async def cut_off_late(connections: Iterable[object]) -> None:
    """Close connections whose requests do not come, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = time.monotonic()
        for each in list(connections):
            if isinstance(each, BoundedProtocol) and each.is_late(now):
                each.transport.abort()
