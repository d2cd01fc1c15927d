"""Limits out of a log: what does anybody send in 5 minutes, an hour, a day, and which limit would hit next to nobody?

The population are *entity-days*: one value of a key on one day on which it sent something. Of each the peak is taken:
the most units in any window ``(t - W, t]`` that ends on that day, exactly, by the times of the log, with a pointer at
the newest unit and one at the oldest that is still inside. The quantile that was asked for, times a margin,
rounded up to 1, 2, 3 or 5 times a power of ten, is the proposal::

    user messages in 1h:  99.9 % of 41,230 entity-days stay at or below 26     26 * 1.5 = 39     proposed: 50/1h

An entity-day above the limit is a false positive, unless something of it is known to be bad. Known-bad days are no part
of the population.

What counts are messages and recipients that the logged server took; of our own log attempts, too. Memory: the times of
the longest window of those who sent in it, of at most `MAX_ENTITIES` (with the usual keys less than a gigabyte).

Bugs: days are of the log's zone. A `strict` rule counts up to one step of its window more than is in it (a tenth
of 5 minutes), so try the proposal with a replay. Of who is above a limit at most `MAX_TOP` days are remembered by name.
"""

import heapq
import math
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, tzinfo

from reputation.events import Mail, Rcpt, Stage
from reputation.keys import Dimension, Entity, Metric, composite, entities_of
from reputation.replay.steps import Judge, Timed
from reputation.spelling import Spelling
from reputation.stages import ONLY_AT_RCPT
from reputation.windows import MICROSECONDS, Window

MAX_ENTITIES = 200_000
"""Values of one key and metric that are followed at the same time, of about 350 bytes each. Then the day ends early for
whoever was not heard of for the longest time."""
MAX_TOP = 1_000
"""Entities with the highest peaks that are remembered for each limit."""
COMPACT_AT = 1_024
SHOWN_QUANTILES = (0.5, 0.99, 0.999)
STEPS = (1, 2, 3, 5)


@dataclass(frozen=True, slots=True)
class Series:
    """What is counted of whom, and where a rule about it stands."""

    key: tuple[Dimension, ...]
    metric: Metric
    stage: Stage

    def __str__(self) -> str:
        return f"{'+'.join(self.key)} {self.metric}"


def series_of(key: tuple[Dimension, ...]) -> Iterator[Series]:
    """What can be counted of a key: of whoever sends messages and recipients, of whoever receives messages."""
    if ONLY_AT_RCPT.isdisjoint(key):
        yield Series(key, Metric.MESSAGES, Stage.MAIL)
        yield Series(key, Metric.RECIPIENTS, Stage.RCPT)
    else:
        yield Series(key, Metric.MESSAGES, Stage.RCPT)


class Track:
    """The units of one entity within the longest window, and the peaks of its day."""

    __slots__ = ("bad", "day", "heads", "peaks", "times")

    def __init__(self, windows: int) -> None:
        self.times = array("q")
        self.heads = [0] * windows
        self.peaks = [0] * windows
        self.day = 0
        self.bad = False

    def add(self, at_us: int, lengths_us: Sequence[int]) -> None:
        """Count one unit."""
        times, heads, peaks = self.times, self.heads, self.peaks
        if times and at_us < times[-1]:  # lines of one second may stand in any order
            at_us = times[-1]
        times.append(at_us)
        count = len(times)
        for position, length_us in enumerate(lengths_us):
            head, since = heads[position], at_us - length_us
            while times[head] <= since:
                head += 1
            heads[position] = head
            peaks[position] = max(peaks[position], count - head)
        oldest = min(heads)
        if oldest > COMPACT_AT and 2 * oldest > count:
            del times[:oldest]
            self.heads = [head - oldest for head in heads]


@dataclass(slots=True)
class Peaks:
    """The peaks of all entity-days, for one series and window."""

    days: Counter[int] = field(default_factory=Counter)
    """Peak -> how many entity-days had it."""
    bad_days: Counter[int] = field(default_factory=Counter)
    """The same of those who are known to be bad."""
    top: list[tuple[int, Entity]] = field(default_factory=list)
    """A heap of the highest peaks of good days; an entity may be in it with several days."""

    def add(self, peak: int, entity: Entity, *, bad: bool) -> None:
        """Note the peak of one entity-day."""
        if bad:
            self.bad_days[peak] += 1
            return
        self.days[peak] += 1
        if len(self.top) < MAX_TOP:
            heapq.heappush(self.top, (peak, entity))
        elif peak > self.top[0][0]:
            heapq.heapreplace(self.top, (peak, entity))

    def quantile(self, share: float) -> int:
        """The smallest peak that so large a share of the entity-days does not exceed; 0 when there are none."""
        wanted, seen = math.ceil(share * self.days.total() - 1e-9), 0
        for peak in sorted(self.days):
            seen += self.days[peak]
            if seen >= wanted:
                return peak
        return 0

    def above(self, limit: int) -> int:
        """How many entity-days exceed a limit."""
        return sum(number for peak, number in self.days.items() if peak > limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A limit, and whom it would hit."""

    series: Series
    window: Window
    entity_days: int
    quantiles: dict[float, int]
    most: int
    limit: int
    false_positives: int
    """Entity-days above the limit."""
    entities_above: int
    top: tuple[tuple[Entity, int], ...]
    """The entities above it with the highest peaks."""
    known_bad_days: int
    known_bad_above: int


def rounded_up(number: float) -> int:
    """The smallest of 1, 2, 3, 5, 10, 20, 30, 50, ... that is not below `number`.

    >>> [rounded_up(number) for number in (0, 1, 3.1, 39, 100.0, 501)]
    [1, 1, 5, 50, 100, 1000]
    """
    power = 1
    while True:
        for step in STEPS:
            if step * power >= number - 1e-9:
                return step * power
        power *= 10


class Tuning:
    """Takes steps in order of time; `proposals` says what they amount to."""

    def __init__(
        self,
        keys: Sequence[tuple[Dimension, ...]],
        windows: Sequence[Window],
        spelling: Spelling,
        *,
        known_bad: Collection[Entity] = (),
        zone: tzinfo | None = None,
    ) -> None:
        self.windows = tuple(sorted(set(windows)))
        self.series = tuple(each for key in keys for each in series_of(key))
        self.messages = 0
        self.first_us = self.last_us = 0
        self.overflowed = False
        """Whether more entities were active at once than can be followed; some peaks are then too low."""
        self._spelling = spelling
        self._bad = frozenset(known_bad)
        self._zone = zone
        self._lengths_us = [window.seconds * MICROSECONDS for window in self.windows]
        self._of_mail = [each for each in self.series if each.stage is Stage.MAIL]
        self._of_rcpt = [each for each in self.series if each.stage is Stage.RCPT]
        self._tracks: dict[Series, dict[Entity, Track]] = {each: {} for each in self.series}
        self._peaks = {each: tuple(Peaks() for _ in self.windows) for each in self.series}
        self._day = (0, 0, 0)

    def take(self, timed: Timed) -> None:
        """Count what the logged server took."""
        match timed.step:
            case Judge(Mail() as event, message, _) if message is not None and not message.given_back_us:
                self.messages += 1
                self._count(event, self._of_mail, timed.at_us)
            case Judge(Rcpt() as event, message, None) if message is not None and not message.given_back_us:
                self._count(event, self._of_rcpt, timed.at_us)

    def _count(self, event: Mail | Rcpt, series: Sequence[Series], at_us: int) -> None:
        self.first_us = self.first_us or at_us
        self.last_us = max(self.last_us, at_us)
        day = self._day_of(at_us)
        entities = entities_of(event, self._spelling)
        bad = bool(self._bad) and not self._bad.isdisjoint(entities.values())
        for each in series:
            entity = composite(entities, each.key)
            if entity is not None:
                track = self._track(each, entity, day)
                track.bad = track.bad or bad
                track.add(at_us, self._lengths_us)

    def _day_of(self, at_us: int) -> int:
        """The number of a day. With a new one, whoever is not heard of any more is forgotten."""
        number, begins, ends = self._day
        if begins <= at_us < ends:
            return number
        moment = datetime.fromtimestamp(at_us // MICROSECONDS, self._zone)
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
        begins, ends = (round(it.timestamp()) * MICROSECONDS for it in (midnight, midnight + timedelta(days=1)))
        if moment.toordinal() > number:
            self._forget(at_us - self._lengths_us[-1])
        self._day = (moment.toordinal(), begins, ends)
        return self._day[0]

    def _track(self, series: Series, entity: Entity, day: int) -> Track:
        tracks = self._tracks[series]
        track = tracks.pop(entity, None)
        if track is None:
            if len(tracks) >= MAX_ENTITIES:
                self.overflowed = True
                oldest = next(iter(tracks))
                self._end_day(series, oldest, tracks.pop(oldest))
            track = Track(len(self.windows))
        tracks[entity] = track  # the last is who was heard of last
        if track.day != day:
            self._end_day(series, entity, track)
            track.day = day
        return track

    def _end_day(self, series: Series, entity: Entity, track: Track) -> None:
        if track.day:
            for peaks, peak in zip(self._peaks[series], track.peaks, strict=True):
                peaks.add(peak, entity, bad=track.bad)
        track.peaks = [0] * len(self.windows)
        track.bad = False
        track.day = 0

    def _forget(self, before_us: int) -> None:
        for series, tracks in self._tracks.items():
            for entity in [entity for entity, track in tracks.items() if track.times[-1] <= before_us]:
                self._end_day(series, entity, tracks.pop(entity))

    def proposals(self, *, quantile: float, margin: float, top: int = 5) -> list[Proposal]:
        """A limit for each series and window of which there is anything. Ends all days: call it once, at the end."""
        for series, tracks in self._tracks.items():
            for entity, track in tracks.items():
                self._end_day(series, entity, track)
        return [
            self._proposal(series, window, peaks, quantile=quantile, margin=margin, top=top)
            for series in self.series
            for window, peaks in zip(self.windows, self._peaks[series], strict=True)
            if peaks.days
        ]

    def _proposal(
        self, series: Series, window: Window, peaks: Peaks, *, quantile: float, margin: float, top: int
    ) -> Proposal:
        limit = rounded_up(peaks.quantile(quantile) * margin)
        best: dict[Entity, int] = {}
        for peak, entity in peaks.top:
            if peak > limit:
                best[entity] = max(peak, best.get(entity, 0))
        return Proposal(
            series=series,
            window=window,
            entity_days=peaks.days.total(),
            quantiles={share: peaks.quantile(share) for share in (*SHOWN_QUANTILES, quantile)},
            most=max(peaks.days),
            limit=limit,
            false_positives=peaks.above(limit),
            entities_above=len(best),
            top=tuple(sorted(best.items(), key=lambda row: (-row[1], row[0]))[:top]),
            known_bad_days=peaks.bad_days.total(),
            known_bad_above=sum(number for peak, number in peaks.bad_days.items() if peak > limit),
        )


def rules_toml(proposals: Sequence[Proposal]) -> Iterator[str]:
    """The proposals as rules in shadow mode, line by line: ready to be put into a configuration.

    A limit that a longer window has as well says nothing and is left out.
    """
    by_series: dict[Series, list[Proposal]] = {}
    for proposal in proposals:
        by_series.setdefault(proposal.series, []).append(proposal)
    for series, some in by_series.items():
        limits = [
            f'"{each.limit}/{each.window}"'
            for position, each in enumerate(some)
            if all(each.limit < longer.limit for longer in some[position + 1 :])
        ]
        name = "-".join(("tuned", *series.key, series.metric)).replace("_", "-")
        above = ", ".join(f"{each.false_positives:,} above {each.limit}/{each.window}" for each in some)
        yield f"# {some[0].entity_days:,} days of {'+'.join(series.key)}: {above}"
        yield "[[rule]]"
        yield f'name = "{name}"'
        yield f'stage = "{series.stage}"'
        yield f"key = [{', '.join(chr(34) + dimension + chr(34) for dimension in series.key)}]"
        yield f'count = "{series.metric}"'
        yield f"limits = [{', '.join(limits)}]"
        yield 'action = "tempfail"'
        yield 'mode = "shadow"'
        yield ""
