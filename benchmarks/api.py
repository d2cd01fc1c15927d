"""What the API does: checks a second, and how long the abuse desk waits for a page.

The API is the program itself, a process of its own. It is asked by this process over HTTP/1.1 connections that are kept
alive (`benchmarks.api_load`). A refusal ends the run, and so does a verdict that was not the store's: both are fast.

* ``check_requests_per_second``: ``POST /v1/check`` about one recipient each, the default policy, one Valkey over its
  unix socket, `CONNECTIONS` connections that ask again as soon as they are answered. The median of the rounds, by the
  clock on the wall: this process and Valkey have to have cores of their own. ``..._of_cpu``: by the API's CPU time.
* ``check_p50_ms``, ``check_p99_ms``: of the same, and so with all connections busy.
* ``check_batched_per_second``: the same events, `BATCH` in a request.
* ``top20_p99_ms``: ``GET /v1/top`` for twenty senders, of a million that a cluster of three servers knows; four
  connections, each of which asks again as soon as it is answered.
* ``entity_p99_ms``: likewise ``GET /v1/entities/sender/...`` of one of these after the other.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random
from statistics import quantiles

from benchmarks.api_load import Api, Connection, running
from benchmarks.policy_service import cpu_seconds
from benchmarks.report import Report, at_least, at_most, main
from reputation.bookkeeping import TRACKING
from reputation.charges import Charge, Plan
from reputation.keys import Entity, Key, Metric
from reputation.upkeep import OFFERED_EVERY
from tests.clusters import valkey_cluster
from tests.servers import valkey_server

CONNECTIONS = 32
BATCH = 100
CLIENTS, RECIPIENTS = 10_000, 1_000_000
"""So many that no limit is reached: what a rule has a part in goes to the live stream as well."""
ACCEPTED = b'"action":"accept","reason":"within-limits"'
ASKING = 4
ENTITIES = 1_000_000
CHARGED_AT_ONCE = 200
DECISIONS_AT_ONCE = 16
TRACKED = Plan(TRACKING)


# Checks


def bodies(seed: int) -> Iterator[bytes]:
    """What one connection asks about: a recipient each time, of a sender that nobody has heard of."""
    chance = Random(seed)
    for number in range(10**9):
        client = chance.randrange(CLIENTS)
        yield json.dumps(
            {
                "stage": "rcpt",
                "client": f"10.{client >> 8}.{client & 255}.25",
                "helo": f"mail{client:04d}.example.com",
                "sender": f"user{seed:02d}{number:07d}@dom{number % 997:03d}.example.com",
                "recipient": f"user{chance.randrange(RECIPIENTS):06d}@dom{number % 97:02d}.example.net",
            }
        ).encode()


def batches(seed: int) -> Iterator[bytes]:
    """The same, many in a request."""
    each = bodies(seed)
    while True:
        yield b"[" + b",".join(islice(each, BATCH)) + b"]"


async def saturated(
    connections: Sequence[Connection], asked: Sequence[Iterator[bytes]], each: int, verdicts: int = 0
) -> tuple[float, list[float]]:
    """Seconds for `each` requests of every connection, and the milliseconds of each. An answer has so many verdicts."""
    latencies: list[float] = []

    async def one_after_another(connection: Connection, requests: Sequence[bytes]) -> None:
        for request in requests:
            begun = time.perf_counter()
            answer = await connection.ask(request)
            latencies.append((time.perf_counter() - begun) * 1e3)
            if verdicts and answer.count(ACCEPTED) != verdicts:
                raise RuntimeError(f"answered {answer[:500]!r}, so nothing was measured")

    prepared = [list(islice(mine, each)) for mine in asked]
    begun = time.perf_counter()
    await asyncio.gather(*map(one_after_another, connections, prepared))
    return time.perf_counter() - begun, latencies


async def checks(report: Report) -> None:
    """Checks a second."""
    rounds, each = (2, 20) if report.quick else (7, 300)
    with valkey_server() as server:
        report.ran_on(server)
        async with running(server.unix_url) as api:
            connections = await api.connected(CONNECTIONS)

            def asked(make: Callable[[int], Iterator[bytes]]) -> list[Iterator[bytes]]:
                return [(api.post("/v1/check", body) for body in make(seed)) for seed in range(len(connections))]

            single, many = asked(bodies), asked(batches)
            await saturated(connections, single, each, 1)  # warms up
            per_second, of_cpu, p50, p99 = [], [], [], []
            for _ in range(rounds):
                report.calibration.python()
                cpu = cpu_seconds(api.process.pid)
                seconds, latencies = await saturated(connections, single, each, 1)
                per_second.append(each * CONNECTIONS / seconds)
                of_cpu.append(each * CONNECTIONS / max(cpu_seconds(api.process.pid) - cpu, 0.01))
                cuts = quantiles(latencies, n=100)
                p50.append(cuts[49])
                p99.append(cuts[98])
            requests = max(1, each // BATCH)
            batched = []
            for _ in range(rounds):
                seconds, _ = await saturated(connections, many, requests, BATCH)
                batched.append(requests * BATCH * CONNECTIONS / seconds)
            unit = f"requests a second at {CONNECTIONS} connections"
            report.add_rounds("check_requests_per_second", per_second, unit, at_least(2_000))
            report.add_rounds("check_requests_per_second_of_cpu", of_cpu, "requests a second of the API's CPU")
            report.add_rounds("check_p50_ms", p50, "ms with all connections busy")
            report.add_rounds("check_p99_ms", p99, "ms with all connections busy")
            report.add_rounds("check_batched_per_second", batched, f"events a second, {BATCH} in a request")
            report.calibration.server("valkey", server)
            for connection in connections:
                connection.close()


# Pages


def sender(number: int) -> Entity:
    """One of the many."""
    return Entity("sender", f"user{number:07d}@example{number % 997:03d}.com")


async def filled(api: Api, n: int) -> None:
    """Have the store know so many senders, and the leaderboards those with the most."""
    chance, engine = Random(6), api.engine
    turns = asyncio.Semaphore(DECISIONS_AT_ONCE)

    async def some(first: int) -> None:
        numbers = range(first, min(first + CHARGED_AT_ONCE, n))
        charges = [
            Charge(Key(sender(number), Metric.MESSAGES), TRACKED, min(100_000, int(chance.paretovariate(0.8))))
            for number in numbers
        ]
        async with turns:
            engine.upkeep.note(await engine.store.decide(charges))

    for first in range(0, n, CHARGED_AT_ONCE * DECISIONS_AT_ONCE):
        last = min(n, first + CHARGED_AT_ONCE * DECISIONS_AT_ONCE)
        await asyncio.gather(*(some(start) for start in range(first, last, CHARGED_AT_ONCE)))
    for _ in range(OFFERED_EVERY[-1]):
        await engine.upkeep.offer()


async def pages(report: Report) -> None:
    """How long the abuse desk waits."""
    entities, each = (10_000, 25) if report.quick else (ENTITIES, 500)
    with valkey_cluster(nodes=3) as cluster:
        async with running(cluster.url) as api:
            begun = time.perf_counter()
            await filled(api, entities)
            report.add("filled_seconds", time.perf_counter() - begun, f"s for {entities} entities")
            connections = await api.connected(ASKING)
            chance = Random(7)
            ranking = api.get("/v1/top?dimension=sender&metric=messages&window=1h&n=20")
            ranked = json.loads(await connections[0].ask(ranking))
            if len(ranked["rows"]) != 20 or ranked["rows"][0]["count"] < ranked["rows"][-1]["count"]:
                raise RuntimeError("the leaderboard is not full, so nothing was measured")
            top = [iter([ranking] * each)] * ASKING
            names = (f"/v1/entities/sender/{sender(chance.randrange(entities)).id}" for _ in iter(int, 1))
            page = [map(api.get, names)] * ASKING
            for name, asked, most in (("top20", top, 50), ("entity", page, 20)):
                _, latencies = await saturated(connections, asked, each // ASKING)
                cuts = quantiles(latencies, n=100)
                unit = f"ms, {ASKING} connections, {entities} entities on 3 servers"
                report.add(f"{name}_p50_ms", cuts[49], unit)
                report.add(f"{name}_p99_ms", cuts[98], unit, at_most(most))
            for connection in connections:
                connection.close()


async def run(report: Report) -> None:
    """The benchmark, with servers of its own."""
    await checks(report)
    await pages(report)


def measure(report: Report) -> None:
    """The benchmark."""
    asyncio.run(run(report))


if __name__ == "__main__":
    main("api", measure)
