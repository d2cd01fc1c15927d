"""Sessions that are held back on purpose: bounded in time and in number.

A delay costs us a session; without a bound on sleepers, a tarpit would be the attacker's tool. Above the
bound the answer comes at once, and is counted.
"""

import asyncio

from reputation.metrics import Metrics


class Sleepers:
    """The sessions of one process that sleep now."""

    def __init__(self, *, max_sleepers: int, metrics: Metrics) -> None:
        self._max_sleepers = max_sleepers
        self._metrics = metrics
        self._sleeping = 0

    async def sleep(self, seconds: float, unless: asyncio.Event) -> bool:
        """Hold the calling session back, `unless` something happens; False, at once, when too many sleep already."""
        if self._sleeping >= self._max_sleepers:
            self._metrics.sleepers_refused.inc()
            return False
        self._sleeping += 1
        self._metrics.sleepers.set(self._sleeping)
        try:
            async with asyncio.timeout(seconds):
                await unless.wait()
        except TimeoutError:
            pass
        finally:
            self._sleeping -= 1
            self._metrics.sleepers.set(self._sleeping)
        return True
