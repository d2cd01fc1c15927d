"""Interpolated limits: how "100 messages in any hour" is counted all but exactly.

The idea
--------
What came is kept as **stretches**, each with the moment of its first unit, that of its last, and how many there are.
The units between the two are taken to have come evenly::

    units        |  | |                ||||| | |
    stretches    [2 ] [1]              [   7   ]
                                      first   last

A new unit joins the youngest stretch where that loses nothing: two units are a stretch with two ends. So 512 units,
and 1024 that came one by one, are known to the microsecond, and a limit up to that is as good as a list of all moments.
When there are many more stretches than that (`MERGED_AT_ONCE`), neighbours become one. A rolling window
``(now - W, now]`` that begins inside a stretch counts the part of it that is left, which is the only thing that can be
wrong: by some units out of hundreds, in either direction.

One list serves all windows of a rule. What matters about a stretch is how long it is compared with the window that it
will leave next, so neighbours that are short in that sense are merged; and none in the shortest window, unless there
is not enough else.

How long units are kept does not follow the windows of one charge: an override may have a short one, and the long one
must find its units when the override is lifted. It is the longest window of any charge, until nobody has charged by it
for as long as it lasts.

The list takes 20 bytes for two units, so whoever sends little takes little; `reputation.windows` takes the same few
bytes for anybody, which is why strict limits are the usual ones.

The clock may go back: what comes then is counted at the latest moment that there was.

`Moments` is the reference; ``store/lua/3_moments.lua`` does the same arithmetic inside the store, in the same order, so
that both round alike.

Source: an exponential histogram (Datar, Gionis, Indyk, Motwani, 2002) merges old buckets by their counts, to bound the
error of a count; this one merges by length, because what decides here is when units leave.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from reputation.windows import MICROSECONDS, Window

KEPT_STRETCHES = 512
MERGED_AT_ONCE = 64
"""Mergers are made together, because each looks at all stretches."""

Stretch = tuple[int, int, int]
"""Moments of the first and of the last unit in microseconds, and how many there are."""


class Moments:
    """When the units of one rule about one entity came."""

    __slots__ = ("latest", "longest_us", "stretches", "until_us")

    def __init__(self) -> None:
        self.latest = 0
        """When something was charged last."""
        self.longest_us = 0
        """How long units are kept ..."""
        self.until_us = 0
        """... until then, if nobody charges by as long a window before."""
        self.stretches: list[Stretch] = []
        """Oldest first."""

    def count(self, window: Window, now_us: int) -> int:
        """Units in the window."""
        return sum(inside for _, inside in self._inside(window, now_us))

    def retry_after_us(self, cost: int, limit: int, window: Window, now_us: int) -> int:
        """Microseconds until `cost` more fits under `limit`; 0 when it fits now.

        A cost above the limit never fits; the answer is then the time until the window is empty.
        """
        held = list(self._inside(window, now_us))
        excess = sum(inside for _, inside in held) + cost - limit
        if excess <= 0:
            return 0
        leaves = max(now_us, self.latest)
        for (first, last, count), inside in reversed(held):
            leaves = _moment((first, last, count), count - inside + min(excess, inside) - 1)
            excess -= inside
            if excess <= 0:
                break
        return max(1, leaves + window.seconds * MICROSECONDS - now_us)

    def charge(self, cost: int, now_us: int, windows: Sequence[Window]) -> None:
        """Add units, and forget those that have left the longest window."""
        self.latest = max(now_us, self.latest)
        lengths = sorted(window.seconds * MICROSECONDS for window in windows)
        if lengths[-1] >= self.longest_us or self.latest >= self.until_us:
            self.longest_us, self.until_us = lengths[-1], self.latest + lengths[-1]
        self._forget()
        first, last, count = self.stretches[-1] if self.stretches else (0, 0, 0)
        if (count == 1 and cost == 1) or (count and first == last == self.latest):
            self.stretches[-1] = (first, self.latest, count + cost)
        else:
            self.stretches.append((self.latest, self.latest, cost))
        if len(self.stretches) > KEPT_STRETCHES + MERGED_AT_ONCE:
            self._merge(lengths)

    def refund(self, cost: int, charged_at_us: int) -> None:
        """Take back what was charged then, if that stretch is still there."""
        self._forget()
        for position in range(len(self.stretches) - 1, -1, -1):
            first, last, count = self.stretches[position]
            if first > charged_at_us:
                continue
            left = count - min(cost, 1 if count == 2 and first < last else count)
            if left == 1:  # of two it is the other one
                first = last = first if charged_at_us >= last else last
            self.stretches[position : position + 1] = [(first, last, left)] if left else []
            return

    def _forget(self) -> None:
        since = self.latest - self.longest_us
        self.stretches = [stretch for stretch in self.stretches if stretch[1] > since]

    def _inside(self, window: Window, now_us: int) -> Iterator[tuple[Stretch, int]]:
        """The stretches that reach into the window, and how many units of each are in it, youngest first."""
        since = max(now_us, self.latest) - window.seconds * MICROSECONDS
        for first, last, count in reversed(self.stretches):
            if last <= since:
                return
            gone = 0 if first > since else math.floor((since - first) / (last - first) * (count - 1)) + 1
            yield (first, last, count), count - gone

    def _merge(self, lengths: Sequence[int]) -> None:
        """Make one of two neighbours, for those that lose the least by it; nobody is merged twice."""
        losses = [self._loss(sooner, later, lengths) for sooner, later in pairwise(self.stretches)]
        young_us = self.latest - lengths[0]
        old = sum(last <= young_us for _, last, _ in self.stretches[1:])
        considered = losses[:old] if old >= MERGED_AT_ONCE else losses
        most, left, fresh = sorted(considered)[MERGED_AT_ONCE - 1], MERGED_AT_ONCE, False
        merged: list[Stretch] = []
        for position, (first, last, count) in enumerate(self.stretches):
            if fresh and left and position <= len(considered) and losses[position - 1] <= most:
                merged[-1] = (merged[-1][0], last, merged[-1][2] + count)
                left, fresh = left - 1, False
            else:
                merged.append((first, last, count))
                fresh = True
        self.stretches = merged

    def _loss(self, sooner: Stretch, later: Stretch, lengths: Sequence[int]) -> float:
        """How long two are together, as a part of the window that they will leave next."""
        age = self.latest - later[1]
        return (later[1] - sooner[0]) / next((length for length in lengths if length > age), lengths[-1])


def _moment(stretch: Stretch, index: int) -> int:
    """When a unit of a stretch came, the first being number 0."""
    first, last, count = stretch
    return last if count == 1 else first + math.ceil(index / (count - 1) * (last - first))
