"""The only module of the engine that reads a clock.

The *counters* never use it: the store owns their time. It measures how long a call took and stamps
log lines; tests put a `ManualClock` in its place.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """What the engine asks of a clock."""

    def now(self) -> float:
        """Seconds since the epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


class ManualClock:
    """A clock that stands still until it is moved; for tests and replays.

    >>> clock = ManualClock(100.0)
    >>> clock.advance(2.5)
    >>> clock.now()
    102.5
    """

    def __init__(self, now: float = 0.0) -> None:
        self._now = now

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._now

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds`; a negative step plays a clock that was set back."""
        self._now += seconds
