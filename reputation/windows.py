"""Sliding windows: how "100 messages in any hour" is counted in a few bytes.

The idea
--------
A window of length W is cut into ``n`` buckets of width ``w = ceil(W / n)``. Time is an integer number of
microseconds, so a moment falls into bucket ``i = now // w``. A *ring* holds ``n + 1`` buckets::

    W = 60 s, n = 10, w = 6 s, now = 100 s -> i = 16

      bucket   6    7    8    9   10   11   12   13   14   15   16
      time    36   42   48   54   60   66   72   78   84   90   96 ..102
               |<- the rolling window (40 s, 100 s] needs part of bucket 6 ->|

The window ``(now - W, now]`` always lies inside the ``n + 1`` youngest buckets. Their sum is therefore
never smaller than the true count: a limit checked against that sum is **strict**, no rolling window
of length W ever admits more than the limit. The price is that the oldest bucket counts in full while
only a part of it is in the window: at most one bucket's worth less is admitted than an exact log would allow.

``retry_after`` follows from the same picture: bucket ``j`` has left the ring once the current bucket
is ``j + n + 1``, so the wait for enough room is found by adding up the oldest buckets.

Where that is too much, a limit may be **interpolated**: `reputation.moments`.

The clock may go back (a failover to a replica that is behind): the current bucket never does.
An event that seems older than the youngest bucket is counted in the youngest bucket, which is strict too.

`Ring` is the reference; ``store/lua/2_rings.lua`` does the same arithmetic inside the store, and
property tests hold both against a plain list of timestamps.

Sources: the bucketed sliding window is the "sliding window counter" of the literature; the extra
bucket that makes it strict, instead of the usual interpolation, is what differs here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from reputation.errors import LimitError

MICROSECONDS = 1_000_000
MAX_WINDOW_SECONDS = 400 * 86_400
MAX_LIMIT_COUNT = 2**48
"""Counts stay exact in the store's numbers (IEEE doubles) far beyond this."""

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_PRINT_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
_LIMIT = re.compile(r"\s*(\d{1,18})\s*/\s*(\d{0,9})\s*(s|min|m|h|d|w)\s*", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A rolling stretch of time of whole seconds.

    >>> Window(300).buckets, Window(300).bucket_us
    (10, 30000000)
    >>> str(Window(5400)), str(Window(86400))
    ('90m', '24h')
    """

    seconds: int

    def __post_init__(self) -> None:
        if not 1 <= self.seconds <= MAX_WINDOW_SECONDS:
            raise LimitError(
                f"a window of {self.seconds} s cannot be counted: use 1 s to {MAX_WINDOW_SECONDS // 86_400} days"
            )

    @property
    def buckets(self) -> int:
        """How many buckets the window is cut into: finer in proportion for the long ones."""
        if self.seconds <= 300:
            return 10
        return 12 if self.seconds < 86_400 else 24

    @property
    def bucket_us(self) -> int:
        """Width of one bucket in microseconds, rounded up so that the ring never covers less than the window."""
        return -(-self.seconds * MICROSECONDS // self.buckets)

    def __str__(self) -> str:
        if self.seconds == 86_400:
            return "24h"  # how operators say it
        for unit, size in _PRINT_UNITS:
            if self.seconds % size == 0:
                return f"{self.seconds // size}{unit}"
        raise AssertionError("one second divides every window")


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` in any rolling `window`.

    Parses and prints the same text, so that a configuration can be shown as it was written:

    >>> Limit.parse("100/1h")
    Limit(count=100, window=Window(seconds=3600))
    >>> str(Limit.parse("100 / 60m")), str(Limit.parse("30/min"))
    ('100/1h', '30/1m')
    """

    count: int
    window: Window

    def __post_init__(self) -> None:
        if not 1 <= self.count <= MAX_LIMIT_COUNT:
            raise LimitError(f"a limit of {self.count} admits nothing or anything: use 1 to {MAX_LIMIT_COUNT}")

    @classmethod
    def parse(cls, text: str) -> "Limit":
        """Read ``COUNT/TIME``; raises `LimitError` that says how a limit is written."""
        match = _LIMIT.fullmatch(text)
        if match is None:
            raise LimitError(f'"{text}" is not a limit: write COUNT/TIME, such as "30/1m", "100/1h" or "1000/24h"')
        count, number, unit = match.groups()
        return cls(int(count), Window(int(number or 1) * _UNITS[unit]))

    def __str__(self) -> str:
        return f"{self.count}/{self.window}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a counter said at one moment about one window."""

    window: Window
    count: int
    """Units in the window, this event included when it was charged."""
    limit: Limit | None = None
    retry_after_seconds: float = 0.0
    """When the event would be admitted if nothing else comes; 0 when it is admitted now."""

    @property
    def over(self) -> bool:
        """Whether the event was more than the limit allows."""
        return self.retry_after_seconds > 0

    @property
    def remaining(self) -> int | None:
        """Units still free in the window, None where no limit applies."""
        return None if self.limit is None else max(0, self.limit.count - self.count)


class Ring:
    """The counts of one window, one cell a bucket. The reference for what the store does in Lua."""

    __slots__ = ("cells", "last", "total", "window")

    def __init__(self, window: Window) -> None:
        self.window = window
        self.last = 0
        self.total = 0
        self.cells = [0] * (window.buckets + 1)

    def copy(self) -> "Ring":
        """The same counts, to go on alone."""
        twin = Ring(self.window)
        twin.last, twin.total, twin.cells = self.last, self.total, self.cells.copy()
        return twin

    def advance(self, now_us: int) -> None:
        """Make the bucket of `now_us` the youngest and drop what has aged out. Never goes back."""
        size = len(self.cells)
        index = now_us // self.window.bucket_us
        for bucket in range(max(self.last + 1, index - size + 1), index + 1):
            self.total -= self.cells[bucket % size]
            self.cells[bucket % size] = 0
        self.last = max(self.last, index)

    def retry_after_us(self, cost: int, limit: int, now_us: int) -> int:
        """Microseconds until `cost` more fits under `limit`; 0 when it fits now. Call after `advance`.

        A cost above the limit never fits; the answer is then the time until the ring is empty.
        """
        excess = self.total + cost - limit
        if excess <= 0:
            return 0
        size, last_filled = len(self.cells), self.last
        for bucket in range(self.last - size + 1, self.last + 1):
            count = self.cells[bucket % size]
            if count:
                last_filled = bucket
                excess -= count
                if excess <= 0:
                    break
        return max(1, (last_filled + size) * self.window.bucket_us - now_us)

    def charge(self, cost: int) -> None:
        """Add `cost` to the youngest bucket."""
        self.cells[self.last % len(self.cells)] += cost
        self.total += cost

    def refund(self, cost: int, charged_at_us: int) -> None:
        """Take back what was charged at `charged_at_us`, if that bucket is still in the ring."""
        size = len(self.cells)
        index = min(charged_at_us // self.window.bucket_us, self.last)
        if index <= self.last - size:
            return
        taken = min(cost, self.cells[index % size])
        self.cells[index % size] -= taken
        self.total -= taken

    def series(self) -> Iterator[tuple[float, int]]:
        """(start of the bucket in seconds, count), oldest first."""
        size = len(self.cells)
        for bucket in range(self.last - size + 1, self.last + 1):
            yield bucket * self.window.bucket_us / MICROSECONDS, self.cells[bucket % size]
