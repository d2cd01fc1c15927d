"""Whether a content filter answers at all: said once when it stops and once when it begins again.

A message that has no answer is only a suspicion: it may be one that takes long, and strangers choose their messages. So
a question decides in which no stranger has a hand, the filter's own PING. While that has no answer either, the filter
is away: no message waits for it, and it is asked each second whether it is back, so that the first message that comes
then is filtered. A message that is answered in the meantime says that it is there, however busy.

Bugs: a filter that answers PING and no message is not away: messages wait for their deadlines, as many at once as may.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from reputation.clock import Clock
from reputation.metrics import Metrics

PING_SECONDS = 3.0
LOOK_SECONDS = 1.0
"""Between two questions whether it is back."""
TOLD_SECONDS = 60.0
"""Between two log lines about messages without an answer."""

log = logging.getLogger("reputon.lookups")


class Health:
    """What is known about the health of one filter."""

    def __init__(self, name: str, ping: Callable[[], Awaitable[bool]], *, clock: Clock, metrics: Metrics) -> None:
        self._name = name
        self._ping = ping
        self._clock = clock
        self._up = metrics.filter_up.labels(name)
        self._up.set(1)
        self._watch: asyncio.Task[None] | None = None
        self._heard = 0
        self._told = float("-inf")
        self.is_away = False
        """Whether it is away, as far as is known."""

    def heard(self) -> None:
        """It has answered about a message."""
        self._heard += 1
        self._back()

    def failed(self, reason: str) -> None:
        """It has not answered about a message, or not in its words."""
        if not self.is_away and self._clock.monotonic() - self._told >= TOLD_SECONDS:
            self._told = self._clock.monotonic()
            log.warning("the content filter %s has no answer about a message: %s", self._name, reason)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.create_task(self._look(), name="content filter: is it there?")

    async def close(self) -> None:
        """Ask no more."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])

    async def _look(self) -> None:
        """Ask until it is there."""
        while not await self._is_there():
            if not self.is_away:
                self.is_away = True
                self._up.set(0)
                log.warning("the content filter %s is away, messages are judged without it", self._name)
            await asyncio.sleep(LOOK_SECONDS)
        self._back()

    async def _is_there(self) -> bool:
        before = self._heard
        try:
            async with asyncio.timeout(PING_SECONDS):
                answers = await self._ping()
        except (OSError, TimeoutError):
            answers = False
        except Exception:  # the top of a job
            log.exception("the content filter %s could not be asked", self._name)
            answers = False
        return answers or self._heard > before

    def _back(self) -> None:
        if self.is_away:
            self.is_away = False
            self._up.set(1)
            log.warning("the content filter %s answers again", self._name)
