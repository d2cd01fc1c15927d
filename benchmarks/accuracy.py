"""How often a decision near a limit is wrong, against an exact log.

Method: senders who send in bursts, near their limit or beyond it, are counted by `reputation.windows.Ring`, and by
`reputation.moments.Moments` for interpolated limits (the store does the same arithmetic in Lua, and tests hold them
together). Beside it runs a plain list of the moments of what *this counter* admitted.
A decision is wrong when the exact sliding window, over that list, would have said otherwise:
a **false allow** when it has no room, a **false denial** when it has. A smaller part of the same senders is replayed
on a real server through `RedisStore`, with explicit times, and counted alike.

The senders, each against five limits from 20/1m to 1000/24h, at 50 % to 130 % of the limit on average:

    bursts      bursts of 2 to a third of the limit, at random times
    on-off      sends steadily for a while, then is silent for as long or longer
    newsletter  one burst of 70 % to 130 % of the limit within a twentieth of the window, about once in a window
    steady      evenly, with a little jitter
    retrying    as bursts, and every refused message comes back after a while, up to five times

``interpolated_wrong_share`` is over all decisions of all senders. Beside it stand the shares of each kind of sender,
and of senders by how much they want to send. Once this counter has refused somebody whom the log would have admitted,
the next try meets the same difference: whoever keeps trying is counted each time.

Interpolated limits are exact up to a thousand messages, and so they are here. ``interpolated_wrong_share_beyond`` is
the same for a limit that is far above that.
"""

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

from benchmarks.report import Report, at_most, exactly, main
from reputation.charges import Charge, Charging, Kind, Meter, Over, Plan
from reputation.keys import Entity, Key, Metric
from reputation.moments import Moments
from reputation.store.redis_store import RedisStore
from reputation.windows import MICROSECONDS, Limit, Ring
from tests.servers import valkey_server

LIMITS = tuple(map(Limit.parse, ("20/1m", "50/5m", "100/1h", "500/1h", "1000/24h")))
BEYOND = Limit.parse("5000/24h")
"""Above what interpolated limits count exactly."""
WINDOWS_LONG = 12
"""How long each sender is watched, in windows of its limit."""
LOADS = (0.5, 1.3)
LOAD_CLASSES = ((0.5, 0.8), (0.8, 1.0), (1.0, 1.3))
BEGIN_US = 1_700_000_000_000_000
MAX_TRIES = 5

Arrivals = Callable[[Random, Limit, float], Iterator[float]]
"""Moments in seconds, in any order, for a mean rate as a part of the limit's."""


def _span(limit: Limit) -> float:
    return float(limit.window.seconds * WINDOWS_LONG)


def bursts(random: Random, limit: Limit, load: float) -> Iterator[float]:
    """Bursts at random times."""
    largest = max(2, limit.count // 3)
    sent, wanted = 0, limit.count * WINDOWS_LONG * load
    while sent < wanted:
        moment, size = random.uniform(0, _span(limit)), random.randint(2, largest)
        for _ in range(size):
            moment += random.expovariate(1 / (limit.window.seconds / 500))
            yield moment
        sent += size


def on_off(random: Random, limit: Limit, load: float) -> Iterator[float]:
    """Busy stretches, and silence between them."""
    moment, share = 0.0, random.uniform(0.2, 0.5)
    per_second = limit.count * load / limit.window.seconds / share
    while moment < _span(limit):
        busy = random.expovariate(1 / (limit.window.seconds / 3))
        until = moment + busy
        while moment < until:
            yield moment
            moment += random.expovariate(per_second)
        moment = until + busy * (1 - share) / share


def newsletter(random: Random, limit: Limit, load: float) -> Iterator[float]:
    """All at once, about once in a window."""
    for number in range(WINDOWS_LONG):
        begin = (number + random.uniform(0, 0.3)) * limit.window.seconds
        for _ in range(round(limit.count * load * random.uniform(0.9, 1.1))):
            yield begin + random.uniform(0, limit.window.seconds / 20)


def steady(random: Random, limit: Limit, load: float) -> Iterator[float]:
    """Evenly."""
    pause = limit.window.seconds / limit.count / load
    for number in range(int(_span(limit) / pause)):
        yield (number + random.uniform(0, 0.5)) * pause


KINDS: dict[str, tuple[Arrivals, bool]] = {
    "bursts": (bursts, False),
    "on_off": (on_off, False),
    "newsletter": (newsletter, False),
    "steady": (steady, False),
    "retrying": (bursts, True),
}
"""How messages arrive, and whether refused ones come back."""


@dataclass(slots=True)
class Tally:
    """Decisions and mistakes."""

    decisions: int = 0
    false_allows: int = 0
    false_denials: int = 0

    def note(self, allowed: bool, exact: bool) -> None:
        self.decisions += 1
        self.false_allows += allowed and not exact
        self.false_denials += exact and not allowed

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.decisions + other.decisions,
            self.false_allows + other.false_allows,
            self.false_denials + other.false_denials,
        )

    @property
    def wrong_share(self) -> float:
        return (self.false_allows + self.false_denials) / self.decisions


class ExactLog:
    """The moments of what was admitted, as long as they are in the window ``(now - W, now]``."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._moments: deque[int] = deque()

    def has_room(self, now_us: int) -> bool:
        while self._moments and self._moments[0] <= now_us - self._limit.window.seconds * MICROSECONDS:
            self._moments.popleft()
        return len(self._moments) < self._limit.count

    def admit(self, now_us: int) -> None:
        self._moments.append(now_us)


class Sender:
    """One sender's messages, in order of time; what is refused may come back."""

    def __init__(self, kind: str, limit: Limit, seed: int) -> None:
        arrivals, self._retries = KINDS[kind]
        self._random = Random(f"{kind} {limit} {seed}")
        self._limit = limit
        self.load = self._random.uniform(*LOADS)
        self._queue = [(moment, 1) for moment in arrivals(self._random, limit, self.load)]
        heapq.heapify(self._queue)
        self._tries = 1

    def __iter__(self) -> Iterator[int]:
        while self._queue:
            self._moment, self._tries = heapq.heappop(self._queue)
            yield BEGIN_US + round(self._moment * MICROSECONDS)

    def refused(self) -> None:
        """The last message was."""
        if self._retries and self._tries < MAX_TRIES:
            pause = self._limit.window.seconds * self._random.uniform(0.05, 0.3)
            heapq.heappush(self._queue, (self._moment + pause, self._tries + 1))


class Strict:
    """The reference of strict limits."""

    def __init__(self, limit: Limit) -> None:
        self._limit, self._ring = limit, Ring(limit.window)

    def admits(self, now_us: int) -> bool:
        self._ring.advance(now_us)
        if self._ring.retry_after_us(1, self._limit.count, now_us):
            return False
        self._ring.charge(1)
        return True


class Interpolated:
    """The reference of interpolated limits."""

    def __init__(self, limit: Limit) -> None:
        self._limit, self._moments = limit, Moments()

    def admits(self, now_us: int) -> bool:
        if self._moments.retry_after_us(1, self._limit.count, self._limit.window, now_us):
            return False
        self._moments.charge(1, now_us, (self._limit.window,))
        return True


def by_reference(sender: Sender, limit: Limit, *, interpolated: bool) -> Tally:
    """Count a sender in this process."""
    counter, log, tally = (Interpolated if interpolated else Strict)(limit), ExactLog(limit), Tally()
    for now_us in sender:
        allowed = counter.admits(now_us)
        tally.note(allowed, log.has_room(now_us))
        if allowed:
            log.admit(now_us)
        else:
            sender.refused()
    return tally


async def by_store(store: RedisStore, name: str, sender: Sender, limit: Limit, *, interpolated: bool) -> Tally:
    """Count a sender on a server."""
    meter = Meter.limited("a-rule", [limit], Charging.ACCEPTED, Over.DENIES)
    plan = Plan((meter,), Kind.MOMENTS if interpolated else Kind.RINGS)
    charges = (Charge(Key(Entity("sender", name), Metric.MESSAGES, "a-rule"), plan),)
    log, tally = ExactLog(limit), Tally()
    for now_us in sender:
        allowed = (await store.decide(charges, now_us=now_us)).allowed
        tally.note(allowed, log.has_room(now_us))
        if allowed:
            log.admit(now_us)
        else:
            sender.refused()
    return tally


async def on_a_server(report: Report, senders: int, limits: tuple[Limit, ...]) -> dict[bool, Tally]:
    """Tallies of a real server, strict and interpolated, one sender after another."""
    found = {True: Tally(), False: Tally()}
    differing = 0
    with valkey_server() as server:
        report.ran_on(server)
        store = RedisStore(server.unix_url, deadline_seconds=5)
        await store.ping()
        for interpolated in found:
            for kind in KINDS:
                for limit in limits:
                    for seed in range(senders):
                        name = f"{kind}-{limit.count}-{limit.window.seconds}-{seed}-{interpolated}"
                        sender = Sender(kind, limit, seed)
                        tally = await by_store(store, name, sender, limit, interpolated=interpolated)
                        differing += tally != by_reference(Sender(kind, limit, seed), limit, interpolated=interpolated)
                        found[interpolated] += tally
        await store.close()
    report.add("server_differs_from_reference", differing, "senders for whom the server decided otherwise", exactly(0))
    return found


@dataclass(frozen=True, slots=True)
class Case:
    """What one sender came to."""

    kind: str
    load: float
    interpolated: bool
    tally: Tally


def cases(senders: int, limits: tuple[Limit, ...], accuracies: Sequence[bool] = (False, True)) -> Iterator[Case]:
    """So many senders of each kind and limit, each counted strictly and interpolated."""
    for kind in KINDS:
        for limit in limits:
            for seed in range(senders):
                for interpolated in accuracies:
                    sender = Sender(kind, limit, seed)
                    yield Case(kind, sender.load, interpolated, by_reference(sender, limit, interpolated=interpolated))


def measure(report: Report) -> None:
    """The benchmark."""
    found = list(cases(3, LIMITS[:3]) if report.quick else cases(40, LIMITS))
    on_server = asyncio.run(on_a_server(report, 1 if report.quick else 4, LIMITS[:2] if report.quick else LIMITS[:4]))
    whole = {
        accuracy: sum((case.tally for case in found if case.interpolated is accuracy), on_server[accuracy])
        for accuracy in (False, True)
    }
    strict, interpolated = whole[False], whole[True]
    report.add("decisions", strict.decisions + interpolated.decisions, "decisions near a limit")
    report.add("strict_false_allows", strict.false_allows, "decisions", exactly(0))
    report.add("strict_false_denials_share", strict.false_denials / strict.decisions, "of all decisions")
    report.add("interpolated_wrong_share", interpolated.wrong_share, "of all decisions", at_most(0.005))
    false_allows = interpolated.false_allows / interpolated.decisions
    report.add("interpolated_false_allows_share", false_allows, "of all decisions")
    beyond = list(cases(1, (Limit.parse("1500/5m"),) if report.quick else (BEYOND,), (True,)))
    _share(report, "interpolated_wrong_share_beyond", beyond)
    for name, accuracy in (("strict", False), ("interpolated", True)):
        mine = [case for case in found if case.interpolated is accuracy]
        for kind in KINDS:
            _share(report, f"{name}_wrong_share_{kind}", [case for case in mine if case.kind == kind])
        for least, most in LOAD_CLASSES:
            some = [case for case in mine if least <= case.load < most]
            _share(report, f"{name}_wrong_share_load_{least * 100:.0f}_to_{most * 100:.0f}", some)


def _share(report: Report, name: str, some: list[Case]) -> None:
    tally = sum((case.tally for case in some), Tally())
    report.add(name, tally.wrong_share if some else None, f"of {tally.decisions:,} decisions of {len(some)} senders")


if __name__ == "__main__":
    main("accuracy", measure)
