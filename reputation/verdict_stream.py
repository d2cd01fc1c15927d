"""What one process puts into the live stream of verdicts, which consoles and `reputon tail` watch.

A verdict that is worth telling (`reputation.verdict_lines`) waits in a bounded buffer; `VerdictStream.tell` sends what
has come together. The mail path only appends: what finds no room is counted and lost, and so is what the store does not
take in time. Nobody is judged by what stands in the stream.
"""

import os
import socket
from collections import deque

from reputation.contracts import Store
from reputation.errors import StoreError
from reputation.events import Event
from reputation.keys import Entities
from reputation.metrics import Metrics
from reputation.verdict import Verdict
from reputation.verdict_lines import Told, is_worth_telling, spelled, told

MAX_WAITING = 10_000
TOLD_AT_ONCE = 500
"""Texts in one round trip: a few hundred microseconds of the server."""


class VerdictStream:
    """The verdicts of one process on their way."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._waiting: deque[Told] = deque()
        self._node = f"{socket.gethostname()}/{os.getpid()}"

    def note(self, event: Event, entities: Entities, verdict: Verdict, at: float) -> None:
        """Remember a verdict until it is told; `at` in seconds since the epoch."""
        if not is_worth_telling(event, verdict):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._metrics.stream_lost.labels("no-room").inc()
            return
        self._waiting.append(told(event, entities, verdict, at))

    async def tell(self) -> None:
        """Tell what waits. Raises `StoreError`; what was not taken is lost then, and counted."""
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(TOLD_AT_ONCE, len(self._waiting)))]
            try:
                await self._store.publish([spelled(each, self._node) for each in some])
            except StoreError:
                self._metrics.stream_lost.labels("store").inc(len(some))
                raise
