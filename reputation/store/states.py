"""The kinds of keys of the memory store: the reference for what ``lua/`` does in the server.

Each kind has a class with the same three verbs: read, charge, refund. Reading leaves no trace: it answers a state as
of now, which is kept only when something is charged. Sets and leases are small, and are their own state.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from reputation.charges import EVIDENCE_NUMBERS, Charge, Given, Kind, Meter
from reputation.contracts import Series
from reputation.keys import Key
from reputation.moments import Moments
from reputation.score import decayed, kept_seconds
from reputation.windows import MICROSECONDS, Ring, Window

MAX_TOKENS = 64


class State(Protocol):
    """What is kept under one key."""

    expires_us: int
    repeated: bool
    """Whether what was read had been charged for the token before."""

    def read(self, charge: Charge, token: str, now: int) -> tuple["State", list[int]]:
        """A state as of now, not kept yet, and the numbers of the charge."""
        ...

    def charge(self, charge: Charge, token: str, due: Sequence[bool], now: int, numbers: list[int]) -> bool:
        """Charge the meters that are due, and bring their numbers up to date. Says whether to keep the state."""
        ...

    def refund(self, given: Given) -> bool:
        """Take back what was given. Says whether nothing is left."""
        ...


class Rings:
    """Units in sliding windows: `reputation.windows.Ring` by scope and window, all brought up to the same time."""

    def __init__(self) -> None:
        self.expires_us = 0
        self.repeated = False
        self._time = 0
        self._rings: dict[tuple[str, Window], Ring] = {}
        self._tokens: tuple[str, ...] = ()

    def read(self, charge: Charge, token: str, now: int) -> tuple["Rings", list[int]]:
        state = self._at(now)
        state.repeated = token in self._tokens
        cost = 0 if state.repeated else charge.cost
        numbers: list[int] = []
        for meter in charge.plan.meters:
            for position, window in enumerate(meter.windows):
                ring = state._ring(meter.scope, window)
                wait = 0
                if meter.limits and not state.repeated:
                    limit = meter.limits[position].count
                    wait = ring.retry_after_us(cost, limit, now)
                numbers += (ring.total, wait)
        return state, numbers

    def _at(self, now: int) -> "Rings":
        """A copy, as it is then."""
        state = Rings()
        state._time = max(now, self._time)
        state._tokens = self._tokens
        state._rings = {name: ring.copy() for name, ring in self._rings.items()}
        for ring in state._rings.values():
            ring.advance(state._time)
        return state

    def _ring(self, scope: str, window: Window) -> Ring:
        ring = self._rings.get((scope, window))
        if ring is None:
            ring = self._rings[scope, window] = Ring(window)
            ring.advance(self._time)
        return ring

    def charge(self, charge: Charge, token: str, due: Sequence[bool], now: int, numbers: list[int]) -> bool:
        if not any(due) or not charge.cost or self.repeated:
            return False
        position = 0
        for meter, is_due in zip(charge.plan.meters, due, strict=True):
            for window in meter.windows:
                if is_due:
                    ring = self._rings[meter.scope, window]
                    ring.charge(charge.cost)
                    numbers[position] = ring.total
                position += 2
        if token:
            self._tokens = (*self._tokens, token)[-MAX_TOKENS:]
        longest = max(window.seconds for _, window in self._rings)
        self.expires_us = now + longest * MICROSECONDS * 11 // 10
        return True

    def refund(self, given: Given) -> bool:
        self._tokens = tuple(token for token in self._tokens if token != given.token)
        for meter in given.charge.plan.meters:
            for window in meter.windows:
                if ring := self._rings.get((meter.scope, window)):
                    ring.refund(given.charge.cost, given.at_us)
        return not any(ring.total for ring in self._rings.values())

    def series(self, key: Key, now: int) -> Iterable[Series]:
        for (scope, window), ring in self._at(now)._rings.items():
            if ring.total:
                yield Series(key=key, scope=scope, window=window, count=ring.total, buckets=tuple(ring.series()))


class MomentsOfOne:
    """Units of one rule, by when they came."""

    def __init__(self) -> None:
        self.expires_us = 0
        self.repeated = False
        self._moments = Moments()
        self._tokens: tuple[str, ...] = ()

    def read(self, charge: Charge, token: str, now: int) -> tuple["MomentsOfOne", list[int]]:
        self.repeated = token in self._tokens
        numbers: list[int] = []
        for meter in charge.plan.meters:
            for position, window in enumerate(meter.windows):
                wait = 0
                if meter.limits and not self.repeated:
                    limit = meter.limits[position].count
                    wait = self._moments.retry_after_us(charge.cost, limit, window, now)
                numbers += (self._moments.count(window, now), wait)
        return self, numbers

    def charge(self, charge: Charge, token: str, due: Sequence[bool], now: int, numbers: list[int]) -> bool:
        if not due[0] or not charge.cost or self.repeated:
            return False
        [meter] = charge.plan.meters
        self._moments.charge(charge.cost, now, meter.windows)
        for position in range(0, len(numbers), 2):
            numbers[position] += charge.cost
        if token:
            self._tokens = (*self._tokens, token)[-MAX_TOKENS:]
        self.expires_us = now + self._moments.longest_us * 11 // 10
        return True

    def refund(self, given: Given) -> bool:
        self._tokens = tuple(token for token in self._tokens if token != given.token)
        self._moments.refund(given.charge.cost, given.at_us)
        return not self._moments.stretches


class Distinct:
    """Members by the time they were last seen."""

    def __init__(self) -> None:
        self.expires_us = 0
        self.repeated = False
        self._seen: dict[str, int] = {}

    def read(self, charge: Charge, token: str, now: int) -> tuple["Distinct", list[int]]:  # noqa: ARG002 - rings' only
        prior = self._seen.get(charge.member, 0)
        numbers: list[int] = []
        for meter in charge.plan.meters:
            for position, window in enumerate(meter.windows):
                since = now - window.seconds * MICROSECONDS
                times = sorted(seen for seen in self._seen.values() if seen > since)
                limit = meter.limits[position].count
                wait = 0
                if prior <= since and len(times) + 1 > limit:
                    wait = max(1, times[len(times) - limit] + window.seconds * MICROSECONDS - now)
                numbers += (len(times), wait)
        return self, [*numbers, prior]

    def charge(self, charge: Charge, token: str, due: Sequence[bool], now: int, numbers: list[int]) -> bool:  # noqa: ARG002 - rings' only
        position, prior = 0, numbers[-1]
        for meter, is_due in zip(charge.plan.meters, due, strict=True):
            for window in meter.windows:
                if is_due and prior <= now - window.seconds * MICROSECONDS:
                    numbers[position] += 1
                position += 2
            if is_due:
                self._remember(charge.member, meter, now)
        return any(due)

    def _remember(self, member: str, meter: Meter, now: int) -> None:
        longest_us = max(meter.windows).seconds * MICROSECONDS
        self._seen = {name: seen for name, seen in self._seen.items() if seen > now - longest_us}
        self._seen[member] = max(now, self._seen.get(member, 0))
        # As many of the newest as the limit allows say whether it is reached, and until when.
        cap = max(limit.count for limit in meter.limits)
        self._seen = dict(sorted(self._seen.items(), key=lambda row: (row[1], row[0].encode()))[-cap:])
        self.expires_us = now + longest_us * 11 // 10

    def refund(self, given: Given) -> bool:
        member = given.charge.member
        if self._seen.get(member) == given.at_us:
            if given.prior_us:
                self._seen[member] = given.prior_us
            else:
                del self._seen[member]
        return not self._seen


class Leases:
    """Members by the time their lease ends."""

    def __init__(self) -> None:
        self.expires_us = 0
        self.repeated = False
        self._ends: dict[str, int] = {}

    def read(self, charge: Charge, token: str, now: int) -> tuple["Leases", list[int]]:  # noqa: ARG002 - rings' only
        self._ends = {member: ends for member, ends in self._ends.items() if ends > now}
        self.repeated = charge.member in self._ends
        count, numbers = len(self._ends), []
        for meter in charge.plan.meters:
            limit = meter.limits[0].count
            wait = 0
            if not self.repeated and count + 1 > limit:
                wait = max(1, sorted(self._ends.values())[count - limit] - now)
            numbers += [count, wait]
        return self, numbers

    def charge(self, charge: Charge, token: str, due: Sequence[bool], now: int, numbers: list[int]) -> bool:  # noqa: ARG002 - rings' only
        for position, (meter, is_due) in enumerate(zip(charge.plan.meters, due, strict=True)):
            # What only notes lets everybody in; twice the limit is as much as is remembered.
            if is_due and numbers[2 * position] >= 2 * meter.limits[0].count:
                self.repeated = True
            if is_due and not self.repeated:
                numbers[2 * position] += 1
                self._ends[charge.member] = now + meter.windows[0].seconds * MICROSECONDS
            if is_due:
                self.expires_us = now + meter.windows[0].seconds * MICROSECONDS * 11 // 10
        return any(due)

    def refund(self, given: Given) -> bool:
        self._ends.pop(given.charge.member, None)
        return not self._ends

    def renew(self, members: Iterable[str], now: int, ends: int) -> int:
        """Prolong the leases that are still held."""
        held = [member for member in members if self._ends.get(member, 0) > now]
        self._ends.update(dict.fromkeys(held, ends))
        self.expires_us = max(self.expires_us, ends)
        return len(held)


class EvidenceSums:
    """Decayed sums."""

    def __init__(self) -> None:
        self.expires_us = 0
        self.repeated = False
        self._at = 0
        self._sums = [0.0] * EVIDENCE_NUMBERS

    def read(self, charge: Charge, token: str, now: int) -> tuple["EvidenceSums", list[int]]:  # noqa: ARG002 - rings' only
        state = EvidenceSums()
        state._at = max(now, self._at)
        state._sums = decayed(self._sums, max(0, now - self._at) / MICROSECONDS if self._at else 0.0)
        return state, [_thousandths(value) for value in state._sums]

    def charge(self, charge: Charge, token: str, due: Sequence[bool], now: int, numbers: list[int]) -> bool:  # noqa: ARG002 - rings' only
        if not charge.member:
            return False
        for position in (int(charge.member), int(charge.member) + EVIDENCE_NUMBERS // 2):
            self._sums[position] += charge.cost / 1_000
            numbers[position] = _thousandths(self._sums[position])
        self.expires_us = now + round(kept_seconds(max(self._sums[EVIDENCE_NUMBERS // 2 :])) * MICROSECONDS)
        return True

    def refund(self, given: Given) -> bool:  # noqa: ARG002 - what was learned was learned
        return False


class Seen:
    """When a key was first and last seen. Neither amount nor token matters."""

    def __init__(self) -> None:
        self.expires_us = 0
        self.repeated = False
        self._first_us = 0
        self._last_us = 0

    def read(self, charge: Charge, token: str, now: int) -> tuple["Seen", list[int]]:  # noqa: ARG002 - rings' only
        [meter] = charge.plan.meters
        [window] = meter.windows
        if self._last_us and self._last_us > now - window.seconds * MICROSECONDS:
            return self, [1, 0, self._first_us, self._last_us]
        return self, [0, 0, 0, 0]

    def charge(self, charge: Charge, token: str, due: Sequence[bool], now: int, numbers: list[int]) -> bool:  # noqa: ARG002 - rings' only
        if not due[0]:
            return False
        first, last = numbers[2:]
        self._first_us, self._last_us = first or now, max(last, now)
        self.expires_us = now + charge.plan.meters[0].windows[0].seconds * MICROSECONDS * 11 // 10
        return True

    def refund(self, given: Given) -> bool:
        """Forget what became known by just this charge, unless it came again since."""
        if self._first_us == given.at_us and self._last_us > self._first_us:
            self._first_us = self._last_us
            return False
        return self._first_us == given.at_us


KINDS: dict[Kind, Callable[[], State]] = {
    Kind.RINGS: Rings,
    Kind.MOMENTS: MomentsOfOne,
    Kind.DISTINCT: Distinct,
    Kind.LEASES: Leases,
    Kind.EVIDENCE: EvidenceSums,
    Kind.SEEN: Seen,
}
assert KINDS.keys() == set(Kind)


def _thousandths(value: float) -> int:
    return int(value * 1_000 + 0.5)
