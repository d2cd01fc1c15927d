"""The same stream through other limiters, side by side.

Of each recipient of the stream (`benchmarks.load.events`) six entities are held against a limit in each of three
windows: 5 minutes, an hour, a day. All limits are so high that nobody is refused. 32 decisions in flight, one Valkey
server over its unix socket for all, rounds take turns. How each is asked:

* **ours**: one `RedisStore.decide` with six keys of three limits each; one call. `ours_judge` is the whole of
  `Engine.judge` besides: from the event to the verdict, and only that is compared with rspamd.
* **limits** (PyPI), its asyncio strategies over redis-py: it knows one limit of one key in a call, so 18 calls one
  after another, which takes the least CPU; together they would only be sooner. `MovingWindowRateLimiter` keeps every
  moment, `SlidingWindowCounterRateLimiter` two counters. `ratio_to_limits` is the ratio to the cheaper one.
* **throttled** (PyPI throttled-py), its asyncio `Throttled` with the sliding window: likewise 18 calls.
* **rspamd**, where it is installed: `benchmarks.rspamd`; 18 buckets, asked over HTTP. Its scanner is counted as the
  client; what asks it is not counted.

None of them is all-or-nothing over several limits: when the last of 18 refuses, 17 have been charged.

A ratio is the CPU time of client and server together, theirs to ours; above 1 ours is cheaper. The libraries are the
dependency group ``bench``, imported nowhere else; one that is missing has no value, and its unit says what to
install.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from statistics import median

from benchmarks import rspamd as scanner
from benchmarks.judge import POLICY
from benchmarks.load import Meterman, events
from benchmarks.report import Report, main
from reputation.charges import Charge, Charging, Meter, Over, Plan
from reputation.config_files import load
from reputation.engine import Engine
from reputation.events import Rcpt
from reputation.keys import Dimension, Entity, Key, Metric, entities_of
from reputation.spelling import Spelling, organisational_domain
from reputation.store.redis_store import RedisStore
from reputation.windows import Limit
from tests.servers import RedisServer, valkey_server

IN_FLIGHT = 32
LIMITS = tuple(map(Limit.parse, ("100000/5m", "1000000/1h", "10000000/24h")))
DIMENSIONS = (
    Dimension.IP,
    Dimension.PREFIX,
    Dimension.SENDER,
    Dimension.SENDER_DOMAIN,
    Dimension.RECIPIENT,
    Dimension.RECIPIENT_DOMAIN,
)
CALLS = len(DIMENSIONS) * len(LIMITS)
INSTALL = "pip install --group bench"


@dataclass(frozen=True, slots=True)
class Request:
    """One decision: the event, and the six entities that everybody is asked about."""

    event: Rcpt
    entities: Sequence[Entity]


Decide = Callable[[Request], Awaitable[None]]


@dataclass(slots=True)
class Contender:
    """One way to decide."""

    name: str
    decide: Decide
    how: str
    helper_cpu_us: Callable[[], float] | None = None
    """CPU of the process that stands for the client; None for this one."""
    client_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)

    @property
    def cost_us(self) -> float:
        return median(map(sum, zip(self.client_us, self.server_us, strict=True)))

    def _cpu_us(self) -> float:
        return time.process_time() * 1e6 if self.helper_cpu_us is None else self.helper_cpu_us()

    async def round(self, meterman: Meterman, requests: Sequence[Request]) -> None:
        """Measure once."""
        waiting = iter(requests)

        async def one_after_another() -> None:
            for request in waiting:
                await self.decide(request)

        before, cpu = meterman.read(), self._cpu_us()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        self.client_us.append((self._cpu_us() - cpu) / len(requests))
        self.server_us.append((meterman.read() - before).cpu_us / len(requests))


def of_ours(server: RedisServer, running: AsyncExitStack) -> list[Contender]:
    """The store alone, and the engine."""
    store = RedisStore(server.unix_url, prefix="ours", deadline_seconds=5)
    running.push_async_callback(store.close)
    plan = Plan((Meter.limited("a-rule", LIMITS, Charging.ACCEPTED, Over.DENIES),))
    engine = Engine(policy=load(POLICY).policy(), store=store)

    async def decide(request: Request) -> None:
        answer = await store.decide([Charge(Key(entity, Metric.MESSAGES), plan) for entity in request.entities])
        assert answer.allowed

    async def judge(request: Request) -> None:
        verdict = await engine.judge(request.event)
        assert verdict.answer is not None

    return [
        Contender("ours", decide, "one call"),
        Contender("ours_judge", judge, "one call, from event to verdict"),
    ]


def of_limits(server: RedisServer, _running: AsyncExitStack) -> list[Contender]:
    """The strategies of `limits`."""
    import limits.aio  # noqa: PLC0415 - where it is missing the others are measured

    storage = limits.aio.storage.RedisStorage(f"async+redis+unix://{server.socket}", implementation="redispy")
    items = [limits.RateLimitItemPerSecond(limit.count, limit.window.seconds) for limit in LIMITS]
    found = []
    for name, strategy in (
        ("limits_moving", limits.aio.strategies.MovingWindowRateLimiter(storage)),
        ("limits_counter", limits.aio.strategies.SlidingWindowCounterRateLimiter(storage)),
    ):

        async def decide(
            request: Request, name: str = name, strategy: limits.aio.strategies.RateLimiter = strategy
        ) -> None:
            for dimension, id in request.entities:
                for item in items:
                    assert await strategy.hit(item, name, dimension, id)

        found.append(Contender(name, decide, f"{CALLS} calls"))
    return found


def of_throttled(server: RedisServer, _running: AsyncExitStack) -> list[Contender]:
    """The sliding window of `throttled-py`."""
    from throttled import asyncio as throttled  # noqa: PLC0415 - where it is missing the others are measured

    store = throttled.store.RedisStore(server=f"unix://{server.socket}")
    throttles = [
        throttled.Throttled(
            using=throttled.RateLimiterType.SLIDING_WINDOW.value,
            quota=throttled.rate_limiter.per_duration(timedelta(seconds=limit.window.seconds), limit.count),
            store=store,
        )
        for limit in LIMITS
    ]

    async def decide(request: Request) -> None:
        for entity in request.entities:
            for limit, throttle in zip(LIMITS, throttles, strict=True):
                result = await throttle.limit(f"{limit}:{entity}")
                assert not result.limited

    return [Contender("throttled", decide, f"{CALLS} calls")]


def of_rspamd(server: RedisServer, running: AsyncExitStack) -> list[Contender]:
    """A scanner with nothing but its ratelimit module."""
    program = scanner.binary()
    if program is None:
        raise ModuleNotFoundError("apt-get install -y rspamd")
    process = running.enter_context(scanner.rspamd(program, server))

    async def decide(request: Request) -> None:
        await process.ask(request.event)

    how = f"one HTTP request, {2 * scanner.BUCKETS} calls of its own; the scanner's CPU as client's"
    return [Contender("rspamd", decide, how, lambda: process.cpu_us)]


PEERS: dict[str, tuple[Callable[[RedisServer, AsyncExitStack], list[Contender]], str, str]] = {
    "limits": (of_limits, "ours", INSTALL),
    "throttled": (of_throttled, "ours", INSTALL),
    "rspamd": (of_rspamd, "ours_judge", "apt-get install rspamd"),
}
"""How to open each, what of ours it is compared with, and what to type where it is missing."""


async def run(report: Report, server: RedisServer) -> None:
    """All rounds, in turns."""
    rounds, number = (2, 100) if report.quick else (5, 1_000)
    organisational_domain("localhost")  # loads the public suffix list
    async with AsyncExitStack() as running:
        contenders = {contender.name: contender for contender in of_ours(server, running)}
        belonging: dict[str, list[Contender]] = {}
        for name, (opened, _, _) in PEERS.items():
            try:
                belonging[name] = opened(server, running)
            except ModuleNotFoundError:
                belonging[name] = []
            contenders |= {contender.name: contender for contender in belonging[name]}
        requests = [_request(event) for event in events(number)]
        meterman = Meterman([server])
        for contender in contenders.values():
            await contender.round(meterman, requests[:100])  # warms up
            contender.client_us.clear()
            contender.server_us.clear()
        for _ in range(rounds):
            for contender in contenders.values():
                report.calibration.python()
                await contender.round(meterman, requests)
            report.calibration.server("valkey", server)
        meterman.close()
    for name, (_, ours, install) in PEERS.items():
        cheapest = min((contender.cost_us for contender in belonging[name]), default=None)
        value = None if cheapest is None else cheapest / contenders[ours].cost_us
        unit = f"their CPU to that of {ours}" if value else f"not installed: {install}"
        report.add(f"ratio_to_{name}", value, unit)
    for contender in contenders.values():
        client, served = median(contender.client_us), median(contender.server_us)
        report.add(f"{contender.name}_client_us", client, f"us of client CPU for each decision: {contender.how}")
        report.add(f"{contender.name}_server_us", served, "us of server CPU for each decision")


def _request(event: Rcpt) -> Request:
    entities = entities_of(event, Spelling())
    return Request(event, [entities[dimension] for dimension in DIMENSIONS])


def measure(report: Report) -> None:
    """The benchmark."""
    with valkey_server() as server:
        report.ran_on(server)
        asyncio.run(run(report, server))


if __name__ == "__main__":
    main("peers", measure)
