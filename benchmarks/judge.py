"""What a decision costs the client: `Engine.judge` with the rules of ``benchmarks/three_rules.toml``.

The stream is of recipients (`benchmarks.load.events`): client, prefix, sender, sender's domain, recipient and
recipient's domain, three windows each, and what the policy's own rule at RCPT reads besides.

* ``..._decisions_per_second``: 32 in flight; decisions divided by the CPU time of this process, which is what one
  core of a mail server can do. On one server over its unix socket, as an embedded one is asked, and over TCP; on a
  cluster of three over TCP. Rounds take turns; medians.
* ``cluster_p99_ms_half_load``: an open loop at half of the measured throughput, with Poisson arrivals. Latency counts
  from the moment at which an arrival was due, so that a stall is charged to all that should have come meanwhile (no
  coordinated omission). `benchmarks.arrivals` is a process of its own; what it is late counts as latency, too. The
  median of the rounds' percentiles. Beside it the same of a PING to each server, at the same rate on the same kind of
  connection: no client can be below that on this machine. Client, generator and servers need four cores not to be in
  each other's way; ``cluster_p99_ms_2000_a_second`` is the same at a rate at which two will do.
* ``round_trips_per_decision``: decisions one after another. Counted three times: turns of sending and waiting by the
  store itself, function calls by the server, reads of the server from its socket; whichever is farthest from one. On
  a cluster only the turns are counted, and no server may have read more often than there were decisions.

Any verdict that was not the store's ends the run: a fallback is fast.
"""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median, quantiles

from benchmarks.arrivals import due
from benchmarks.load import Meterman, events
from benchmarks.report import Report, at_least, at_most, exactly, main
from reputation.config_files import load
from reputation.engine import Engine
from reputation.events import Event
from reputation.spelling import organisational_domain
from reputation.store.address import StoreUrl
from reputation.store.connection import Call, packed
from reputation.store.node import Node
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action, Reason, Verdict
from tests.clusters import valkey_cluster
from tests.servers import RedisServer, valkey_server

POLICY = Path(__file__).resolve().parent / "three_rules.toml"
IN_FLIGHT = 32
PATIENCE_SECONDS = 5.0
"""Instead of the store's deadline: a machine that stands still is to be seen in the figures, not in fallbacks."""
BUSY_SITE = 2_000
"""Recipients a second of one mail server that has much to do."""
GENERATOR_SECONDS = 0.5
"""Until the generator of arrivals is up."""
PING = packed("PING")
LOOP_NS = 38.0
"""A step of the plain loop on the machine of the first measurements, undisturbed."""


Judge = Callable[[Event], Awaitable[Verdict]]


@dataclass(slots=True)
class Subject:
    """An engine on some servers."""

    name: str
    url: str
    servers: Sequence[RedisServer]
    engine: Engine
    store: RedisStore
    meterman: Meterman
    per_second: list[float] = field(default_factory=list)
    wall_per_second: list[float] = field(default_factory=list)
    normalised_us: list[float] = field(default_factory=list)

    @classmethod
    async def open(cls, name: str, url: str, servers: Sequence[RedisServer]) -> "Subject":
        store = RedisStore(url, deadline_seconds=PATIENCE_SECONDS)
        await store.ping()
        return cls(name, url, servers, Engine(policy=load(POLICY).policy(), store=store), store, Meterman(servers))

    async def close(self) -> None:
        self.meterman.close()
        await self.store.close()


def checked(verdict: Verdict) -> None:
    """See that a verdict is the store's."""
    if verdict.reason is Reason.STORE_UNAVAILABLE:
        raise RuntimeError("the store gave no answer, so nothing was measured")


async def saturate(engine: Engine, stream: Sequence[Event]) -> tuple[float, float]:
    """CPU and wall-clock seconds for a stream, `IN_FLIGHT` at a time."""
    waiting = iter(stream)

    async def one_after_another(mine: Iterable[Event]) -> None:
        for event in mine:
            checked(await engine.judge(event))

    cpu, wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(one_after_another(waiting) for _ in range(IN_FLIGHT)))
    return time.process_time() - cpu, time.perf_counter() - wall


async def pinger(url: str) -> tuple[Judge, Sequence[Node]]:
    """A judge who only sends a PING to each server and awaits the replies: what the machine itself takes."""
    parsed, loop = StoreUrl.parse(url), asyncio.get_running_loop()
    nodes = [Node(address, parsed) for address in parsed.addresses]
    for node in nodes:
        await node.ready(loop.time() + PATIENCE_SECONDS)

    async def judge(_event: Event) -> Verdict:
        call = Call(loop, len(nodes), loop.time() + PATIENCE_SECONDS)
        for position, node in enumerate(nodes):
            node.send(PING, call, position)
        await call.future
        return Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE)

    return judge, nodes


async def pace(judge: Judge, stream: Sequence[Event], per_second: float) -> list[float]:
    """Milliseconds from when each event was due until its verdict."""
    clock, loop = time.perf_counter, asyncio.get_running_loop()
    latencies: list[float] = []
    async with asyncio.TaskGroup() as judging:

        async def judged(event: Event, moment: float) -> None:
            checked(await judge(event))
            latencies.append((clock() - moment) * 1e3)

        start = clock() + GENERATOR_SECONDS
        waiting = iter(zip(stream, due(start, per_second, len(stream)), strict=True))
        with _arrivals(start, per_second, len(stream)) as arrivals:
            over = loop.create_future()

            def arrived() -> None:
                told = os.read(arrivals, 4_096)
                for event, moment in islice(waiting, len(told)):
                    judging.create_task(judged(event, moment))
                if not told:
                    loop.remove_reader(arrivals)
                    over.set_result(None)

            loop.add_reader(arrivals, arrived)
            await over
    assert len(latencies) == len(stream)
    return latencies


@contextmanager
def _arrivals(start: float, per_second: float, count: int) -> Iterator[int]:
    """The file on which `benchmarks.arrivals` tells."""
    command = [sys.executable, "-m", "benchmarks.arrivals", str(start), str(per_second), str(count)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        yield process.stdout.fileno()


async def round_trips(subject: Subject, stream: Sequence[Event]) -> float:
    """Turns of sending and waiting for each decision; see the module's text."""
    engine, meterman, servers = subject.engine, subject.meterman, len(subject.servers)
    reading = meterman.read()
    reading = meterman.read() - reading  # what reading itself costs
    before, turns = meterman.read(), subject.store.round_trips
    for event in stream:
        checked(await engine.judge(event))
    cost, turns = meterman.read() - before - reading, subject.store.round_trips - turns
    if cost.reads > len(stream) * servers:
        raise RuntimeError(f"{len(stream)} decisions came in {cost.reads} pieces to {servers} servers")
    counted = (turns, cost.reads, cost.function_calls) if servers == 1 else (turns,)
    return max(counted, key=lambda count: abs(count - len(stream))) / len(stream)


async def throughput(report: Report, subjects: Sequence[Subject], stream: Sequence[Event], rounds: int) -> None:
    """Rounds with as much as this process can do; each subject keeps its own figures."""
    for number in range(rounds + 1):
        for subject in subjects:
            begun = report.calibration.python()
            cpu, wall = await saturate(subject.engine, stream)
            step_ns = (begun + report.calibration.python()) / 2
            report.calibration.server(subject.name, subject.servers[0])
            if number:  # the first one warms up
                subject.per_second.append(len(stream) / cpu)
                subject.wall_per_second.append(len(stream) / wall)
                subject.normalised_us.append(1e6 * cpu / len(stream) * LOOP_NS / step_ns)


async def latency(report: Report, subject: Subject, stream: Sequence[Event], rate: float, name_of_rate: str) -> None:
    """Percentiles at a rate."""
    rounds = 1 if report.quick else 5
    percentiles: dict[str, list[float]] = {"p50": [], "p99": [], "p999": [], "ping_p50": [], "ping_p99": []}
    ping, nodes = await pinger(subject.url)
    for _ in range(rounds):
        report.calibration.python()
        cuts = quantiles(await pace(subject.engine.judge, stream, rate), n=1_000)
        for name, cut in (("p50", 499), ("p99", 989), ("p999", 998)):
            percentiles[name].append(cuts[cut])
        cuts = quantiles(await pace(ping, stream, rate), n=1_000)
        percentiles["ping_p50"].append(cuts[499])
        percentiles["ping_p99"].append(cuts[989])
    for node in nodes:
        node.close()
    for name, values in percentiles.items():
        what = "until a PING to each server was back" if name.startswith("ping") else "until its verdict"
        unit = f"ms from when it was due {what}, {rate:.0f} a second"
        result = f"{subject.name}_{name}_ms_{name_of_rate}"
        report.add_rounds(result, values, unit, at_most(1) if result == "cluster_p99_ms_half_load" else None)


TARGETS = {"standalone": 10_000, "standalone_tcp": None, "cluster": 8_000}


async def measured(report: Report, subjects: Sequence[Subject]) -> None:
    """All figures."""
    number, rounds = (1_000, 2) if report.quick else (10_000, 9)
    stream = events(number)
    organisational_domain("localhost")  # loads the public suffix list
    gc.collect()
    gc.freeze()  # the streams are ours, not the engine's
    await throughput(report, subjects, stream, rounds)
    for subject in subjects:
        least = TARGETS[subject.name]
        target = None if least is None else at_least(least)
        unit = f"decisions a second and client core, {IN_FLIGHT} in flight"
        report.add_rounds(f"{subject.name}_decisions_per_second", subject.per_second, unit, target)
        report.add(f"{subject.name}_wall_per_second", median(subject.wall_per_second), "decisions a second, all in all")
        unit = f"us of client CPU, as if a step of the plain loop took {LOOP_NS:g} ns"
        report.add(f"{subject.name}_normalised_us", median(subject.normalised_us), unit)
    for subject in subjects:
        some = stream[:600] if report.quick else stream
        if subject.name == "cluster" or (subject.name == "standalone" and not report.quick):
            half = median(subject.wall_per_second) / 2
            await latency(report, subject, some, half, "half_load")
        if subject.name == "cluster" and not report.quick:
            await latency(report, subject, some, BUSY_SITE, f"{BUSY_SITE}_a_second")
    trips = [await round_trips(subject, stream[:500]) for subject in subjects]
    farthest = max(trips, key=lambda each: abs(each - 1))
    report.add("round_trips_per_decision", farthest, "turns of sending and waiting, counted on both sides", exactly(1))


async def run(report: Report) -> None:
    """The benchmark, with servers of its own."""
    with valkey_server() as server, valkey_cluster(nodes=3) as cluster:
        report.ran_on(server)
        subjects = [
            await Subject.open("standalone", server.unix_url, [server]),
            await Subject.open("standalone_tcp", server.url, [server]),
            await Subject.open("cluster", cluster.url, cluster.servers),
        ]
        await measured(report, subjects)
        for subject in subjects:
            await subject.close()


def measure(report: Report) -> None:
    """The benchmark."""
    asyncio.run(run(report))


if __name__ == "__main__":
    main("judge", measure)
