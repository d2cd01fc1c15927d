"""HTTP as uvicorn speaks it, with bounds on what a client may keep us waiting for, and keep us storing.

A request's head has at most `MAX_HEAD_OCTETS` and comes within `HEAD_SECONDS`; the whole request comes within
`REQUEST_SECONDS`. Who is slower is cut off: he could hold a descriptor for ever otherwise, before anybody has asked him
for a token. What he is sent may take as long as it likes, and a connection may rest between requests for
`KEEP_ALIVE_SECONDS`. Bodies are bounded at the door (`api.door`).
"""

import asyncio
import time
from collections.abc import Iterable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_OCTETS = 65_536
"""Besides what comes in one read."""
HEAD_SECONDS = 20.0
REQUEST_SECONDS = 120.0
KEEP_ALIVE_SECONDS = 75
SWEEP_SECONDS = 1.0


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._is_in_head = True
        self._head_octets = 0
        self._began_at = time.monotonic()

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
        """Whether we wait for a request, or for its rest, for too long."""
        if self._is_in_head:
            return now - self._began_at > HEAD_SECONDS
        is_waited_for = self.cycle.more_body and not self.flow.read_paused
        return is_waited_for and now - self._began_at > REQUEST_SECONDS


async def cut_off_late(connections: Iterable[object]) -> None:
    """Close connections whose requests do not come, until cancelled."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        now = time.monotonic()
        for each in list(connections):
            if isinstance(each, BoundedProtocol) and each.is_late(now):
                each.transport.abort()
