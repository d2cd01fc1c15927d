"""Time limits of one connection, one after the other, by a single timer.

A message takes a dozen of them, and hardly any is ever reached. `asyncio.timeout` sets a timer for each and takes it
away again, which costs more than what is read in between. Here the timer stays: when it looks and a later limit holds
by then, it is set anew.

    limit = TimeLimit(on_over)
    with limit.of(60):
        ...                 # `on_over` is called when it is over

Promises: `on_over` is called once for each limit that is over, never before its time, and not after the limit was left.
Does not do: cancel anybody. `on_over` wakes whoever waits, and he looks at `is_over`.

Bugs: until `close`, or until its last limit would have been over, the timer keeps the connection in memory.
"""

import asyncio
import math
from collections.abc import Callable
from typing import Self


class TimeLimit:
    """The limits of one connection."""

    __slots__ = ("_end", "_loop", "_on_over", "_timer", "is_over", "seconds")

    def __init__(self, on_over: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._on_over = on_over
        self._end = math.inf
        self._timer: asyncio.TimerHandle | None = None
        self.seconds = 0.0
        self.is_over = False

    def of(self, seconds: float) -> Self:
        """The next limit begins now; to be entered, and it ends when it is left."""
        self.is_over, self.seconds = False, seconds
        self._end = self._loop.time() + seconds
        if self._timer is None or self._end < self._timer.when():
            self.close()
            self._timer = self._loop.call_at(self._end, self._look)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._end = math.inf

    def close(self) -> None:
        """There is nothing to wait for any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._end <= self._loop.time():
            self.is_over = True
            self._on_over()
        elif self._end < math.inf:
            self._timer = self._loop.call_at(self._end, self._look)
