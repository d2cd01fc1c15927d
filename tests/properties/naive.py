"""The naive truth that the stores are held against: a list of everything that was charged, and nothing clever.

A unit counts in a window for as long as its bucket is among the youngest of the ring (`reputation.windows`). Where
limits are interpolated it is the microsecond: a history here is too short to be inexact (`reputation.moments`). Waits
are not calculated but searched: the first microsecond at which there is room. What a store keeps in cells and sums is
here a list of (moment, cost), so that no mistake can be made in both alike.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from reputation.charges import Answer, Charge, Charging, Given, Kind, Meter, Over
from reputation.keys import Key
from reputation.windows import MICROSECONDS, Window

MAX_TOKENS = 64
Leaves = Callable[[int, Window], int]
"""When a unit of some moment counts no more."""


@dataclass
class Counter:
    """All that was charged to one key."""

    latest_us: int = 0
    units: dict[tuple[str, Window], list[tuple[int, int]]] = field(default_factory=dict)
    """(moment, cost) of what counts in each ring of each scope."""
    tokens: list[str] = field(default_factory=list)
    members: dict[str, int] = field(default_factory=dict)
    """When each was seen last, or when its lease ends."""
    sightings: list[int] = field(default_factory=list)
    """When the key itself was seen, since it was last unknown."""


@dataclass
class Log:
    """A store that remembers everything."""

    counters: dict[Key, Counter] = field(default_factory=dict)

    def check(self, answer: Answer, now_us: int) -> None:
        """Hold an answer to a decision against the truth, then charge what it says that it charged."""
        over, position, repeated = [], 0, 0
        for index, charge in enumerate(answer.charges):
            self._forget_leases(charge, now_us)
            known = self._is_repeated(charge, answer.token, now_us)
            repeated |= known << index
            for meter in charge.plan.meters:
                waits = answer.numbers[position + 1 : position + 2 * len(meter.windows) : 2]
                for number, window in enumerate(meter.windows):
                    self._check_wait(charge, meter, number, window, waits[number], known, now_us)
                over.append(any(waits))
                position += 2 * len(meter.windows)
            position += charge.plan.kind is Kind.DISTINCT
            if charge.plan.kind is Kind.SEEN:
                self._check_seen(charge, answer.numbers[position - 2 : position + 2], now_us)
                position += 2
        meters = [meter for charge in answer.charges for meter in charge.plan.meters]
        refused = any(is_over and meter.over is Over.DENIES for meter, is_over in zip(meters, over, strict=True))
        assert answer.allowed is not refused
        assert answer.repeated == repeated
        self._charge(answer, over, now_us)
        self._check_counts(answer, now_us)

    def _forget_leases(self, charge: Charge, now_us: int) -> None:
        """What has ended has ended, even if the clock goes back after somebody has seen it."""
        counter = self.counters.get(charge.key)
        if counter and charge.plan.kind is Kind.LEASES:
            counter.members = {name: ends for name, ends in counter.members.items() if ends > now_us}

    def _is_repeated(self, charge: Charge, token: str, now_us: int) -> bool:
        counter = self.counters.get(charge.key, Counter())
        if charge.plan.kind is Kind.LEASES:
            return counter.members.get(charge.member, 0) > now_us
        return charge.plan.kind in UNITS and token in counter.tokens

    # Waits

    def _check_wait(
        self, charge: Charge, meter: Meter, number: int, window: Window, wait: int, known: bool, now_us: int
    ) -> None:
        if not meter.limits or known:
            assert wait == 0
            return
        limit, counter = meter.limits[number].count, self.counters.get(charge.key, Counter())
        if charge.plan.kind in UNITS:
            self._check_wait_for_units(counter, charge, meter, window, limit, wait, now_us)
        elif charge.plan.kind is Kind.DISTINCT:
            length = window.seconds * MICROSECONDS
            if counter.members.get(charge.member, 0) > now_us - length:
                assert wait == 0
            else:
                leave = [seen + length for seen in counter.members.values() if seen > now_us - length]
                assert wait == _wait_until(leave, limit, now_us)
        else:
            assert wait == _wait_until([ends for ends in counter.members.values() if ends > now_us], limit, now_us)

    def _check_wait_for_units(
        self, counter: Counter, charge: Charge, meter: Meter, window: Window, limit: int, wait: int, now_us: int
    ) -> None:
        units = counter.units.get((meter.scope, window), [])
        time_us, leaves = max(now_us, counter.latest_us), LEAVES[charge.plan.kind]

        def is_room(at_us: int) -> bool:
            return _counted(units, leaves, window, max(at_us, time_us)) + charge.cost <= limit

        gone_us = max((leaves(moment, window) for moment, cost in units if cost), default=time_us)
        if charge.cost > limit:  # never
            assert wait > 0
        elif is_room(now_us):
            assert wait == 0
        else:
            assert now_us + wait == _first(is_room, now_us, gone_us)

    def _check_seen(self, charge: Charge, numbers: Sequence[int], now_us: int) -> None:
        known = self._known(charge, now_us)
        assert list(numbers) == ([1, 0, known[0], max(known)] if known else [0, 0, 0, 0])

    def _known(self, charge: Charge, now_us: int) -> list[int]:
        """When a key was seen, if that is known at all."""
        sightings = self.counters.get(charge.key, Counter()).sightings
        [window] = charge.plan.meters[0].windows
        return sightings if any(_leaves_window(moment, window) > now_us for moment in sightings) else []

    # Charges

    def _charge(self, answer: Answer, over: Sequence[bool], now_us: int) -> None:
        position = 0
        for index, charge in enumerate(answer.charges):
            meters = charge.plan.meters
            due = [
                meter
                for meter, is_over in zip(meters, over[position : position + len(meters)], strict=True)
                if meter.charging is Charging.ALWAYS
                or (
                    meter.charging is Charging.ACCEPTED
                    and answer.allowed
                    and not (meter.over is Over.SKIPS and is_over)
                )
            ]
            position += len(meters)
            if not due or answer.repeated >> index & 1:
                continue
            if charge.plan.kind in UNITS:
                if charge.cost:
                    self._charge_units(charge, due, answer.token if answer.allowed else "", now_us)
                continue
            if charge.plan.kind is Kind.SEEN:
                sightings = [*self._known(charge, now_us), now_us]
                self.counters[charge.key] = Counter(sightings=sightings)
                continue
            counter = self.counters.setdefault(charge.key, Counter())
            if charge.plan.kind is Kind.DISTINCT:
                counter.members[charge.member] = max(now_us, counter.members.get(charge.member, 0))
                longest_us = max(charge.plan.meters[0].windows).seconds * MICROSECONDS
                counter.members = {name: seen for name, seen in counter.members.items() if seen > now_us - longest_us}
            else:
                counter.members[charge.member] = now_us + due[0].windows[0].seconds * MICROSECONDS

    def _charge_units(self, charge: Charge, due: Sequence[Meter], token: str, now_us: int) -> None:
        counter = self.counters.setdefault(charge.key, Counter())
        counter.latest_us = max(now_us, counter.latest_us)
        for meter in due:
            for window in meter.windows:
                counter.units.setdefault((meter.scope, window), []).append((counter.latest_us, charge.cost))
        if token:
            counter.tokens = [*counter.tokens, token][-MAX_TOKENS:]

    def _check_counts(self, answer: Answer, now_us: int) -> None:
        position = 0
        for charge in answer.charges:
            if charge.plan.kind is Kind.SEEN:  # was checked before it was charged
                position += charge.plan.size
                continue
            for meter in charge.plan.meters:
                for window in meter.windows:
                    assert answer.numbers[position] == self.count(charge, meter.scope, window, now_us)
                    position += 2
            position += charge.plan.kind is Kind.DISTINCT

    def count(self, charge: Charge, scope: str, window: Window, now_us: int) -> int:
        """What a window of a key holds."""
        counter = self.counters.get(charge.key, Counter())
        if charge.plan.kind in UNITS:
            units, leaves = counter.units.get((scope, window), []), LEAVES[charge.plan.kind]
            return _counted(units, leaves, window, max(now_us, counter.latest_us))
        since = now_us - window.seconds * MICROSECONDS if charge.plan.kind is Kind.DISTINCT else now_us
        return sum(moment > since for moment in counter.members.values())

    # Giving back

    def refund(self, given: Given) -> None:
        """Take back one line of a receipt."""
        counter, charge = self.counters.get(given.charge.key), given.charge
        if counter is None:
            return
        if charge.plan.kind in UNITS:
            self._refund_units(counter, given)
            return
        if charge.plan.kind is Kind.SEEN:
            if counter.sightings[0] == given.at_us:
                del self.counters[charge.key]
        elif charge.plan.kind is Kind.LEASES:
            counter.members.pop(charge.member, None)
        elif counter.members.get(charge.member) == given.at_us:
            del counter.members[charge.member]
            if given.prior_us:
                counter.members[charge.member] = given.prior_us

    def _refund_units(self, counter: Counter, given: Given) -> None:
        leaves = LEAVES[given.charge.plan.kind]
        for meter in given.charge.plan.meters:
            for window in meter.windows:
                units = counter.units.get((meter.scope, window), [])
                if given.charge.plan.kind is Kind.RINGS:
                    bucket = min(given.at_us, counter.latest_us) // window.bucket_us
                    there = [moment for moment, _ in units if moment // window.bucket_us == bucket]
                else:  # of that moment, or of the last one before it
                    longest = max(meter.windows)
                    held = [moment for moment, cost in units if cost and leaves(moment, longest) > counter.latest_us]
                    there = [moment for moment in held if moment <= given.at_us][-1:]
                inside = {moment for moment in there if leaves(moment, window) > counter.latest_us}
                _take(units, inside, given.charge.cost)
        if given.token in counter.tokens:
            counter.tokens.remove(given.token)
        held = [_counted(units, leaves, window, counter.latest_us) for (_, window), units in counter.units.items()]
        if not any(held):
            del self.counters[given.charge.key]


def _leaves_ring(moment: int, window: Window) -> int:
    """When a unit of that moment has left the ring."""
    return (moment // window.bucket_us + window.buckets + 1) * window.bucket_us


def _leaves_window(moment: int, window: Window) -> int:
    return moment + window.seconds * MICROSECONDS


LEAVES = {Kind.RINGS: _leaves_ring, Kind.MOMENTS: _leaves_window}
UNITS = LEAVES.keys()


def _counted(units: Sequence[tuple[int, int]], leaves: Leaves, window: Window, at_us: int) -> int:
    return sum(cost for moment, cost in units if leaves(moment, window) > at_us)


def _take(units: list[tuple[int, int]], moments: Collection[int], left: int) -> None:
    """Take so much out of units of some moments."""
    for position, (moment, cost) in enumerate(units):
        if moment in moments:
            taken = min(left, cost)
            units[position] = (moment, cost - taken)
            left -= taken


def _wait_until(ends: Sequence[int], limit: int, now_us: int) -> int:
    """Until one more fits beside those that end then."""
    too_many = len(ends) + 1 - limit
    return max(1, sorted(ends)[too_many - 1] - now_us) if too_many > 0 else 0


def _first(is_so: Callable[[int], bool], low: int, high: int) -> int:
    """The first number for which something is so that stays so; it is at the latest for `high`."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if is_so(middle) else (middle + 1, high)
    return low
