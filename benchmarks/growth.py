"""Whether a decision costs the same with more entities and with more servers.

Method: six entities with three windows, drawn evenly from all that are tracked (the hardest case for every cache), 32
decisions in flight through `RedisStore.decide`. Two series:

* ``size``: one Valkey server each with 10 k, 100 k, 1 M and 5 M tracked entities, all running at the same time.
* ``nodes``: Valkey clusters of 1, 2 and 3 primaries, with 100 k entities each.

Short rounds of all subjects take turns. Of each round: server time inside the functions (``INFO commandstats``, the
sum of all servers) and CPU time of this process, per decision. Both are divided by how fast the machine was just
before and after the round, by the GET + SET loop on one key of that server and by the plain Python loop, so that a
clock that changes does not decide; the loop's one key is always in the caches, so that what a big table costs is not
divided away. Medians of the rounds.

``worst_cost_ratio`` is the largest ratio of dearest to cheapest of the four: server and client, by size and by nodes.
Beside it stands the same GET + SET on keys drawn from all that are tracked: what growth costs any command on this
machine.

Bugs: with fewer cores than servers and client together, servers interrupt each other inside their functions.
"""

import asyncio
import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random
from statistics import median

from benchmarks.load import ENTITIES, TRACKED, Cost, Meterman, Pipe, charges_of, key_of
from benchmarks.report import Report, at_most, main
from reputation.store import functions
from reputation.store.connection import packed
from reputation.store.redis_store import RedisStore
from tests.clusters import ClusterServers, valkey_cluster
from tests.servers import RedisServer, valkey_server

SIZES = (10_000, 100_000, 1_000_000, 5_000_000)
QUICK_SIZES = (10_000, 50_000)
NODES = (1, 2, 3)
IN_FLIGHT = 32
EXPIRY_MS = 3_600_000
FILLED_AT_ONCE = 20_000
SPELLED_ALIKE = """
-- The keys of benchmarks.load.key_of, from one number up to another, each with one of some values.
local first, last, expiry, values = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], #ARGV - 3
for number = first, last do
  local of, kind = math.floor(number / 6), number % 6
  local a, b, c = math.floor(of / 65536) % 256, math.floor(of / 256) % 256, of % 256
  local name
  if kind == 0 then name = string.format('ip:10.%d.%d.%d}:recipients', a, b, c)
  elseif kind == 1 then name = string.format('prefix:%d.%d.%d.0/24}:recipients', 10 + a, b, c)
  elseif kind == 2 then name = string.format('sender:user%07d@example%03d.com}:recipients', of, of % 997)
  elseif kind == 3 then name = string.format('sender_domain:example%07d.com}:recipients', of)
  elseif kind == 4 then name = string.format('recipient:user%07d@example%03d.com}:messages', of, of % 997)
  else name = string.format('recipient_domain:example%07d.com}:messages', of) end
  redis.call('SET', 'rp:{' .. name, ARGV[4 + number % values], 'PX', expiry + number % 1000000)
end
return redis.call('DBSIZE')
"""
TOUCH = """
for i = 1, #KEYS do
  redis.call('SET', KEYS[i], redis.call('GET', KEYS[i]), 'PX', 3600000)
end
"""


@dataclass(slots=True)
class Subject:
    """Servers that track so many entities."""

    series: str
    label: int
    entities: int
    servers: Sequence[RedisServer]
    url: str
    store: RedisStore = field(init=False)
    meterman: Meterman = field(init=False)
    random: Random = field(default_factory=lambda: Random(11))
    server_us: list[float] = field(default_factory=list)
    client_us: list[float] = field(default_factory=list)
    cpu_us: list[float] = field(default_factory=list)
    touch_us: list[float] = field(default_factory=list)
    server_norm: list[float] = field(default_factory=list)
    client_norm: list[float] = field(default_factory=list)

    async def open(self) -> None:
        self.store = RedisStore(self.url, deadline_seconds=5)
        self.meterman = Meterman(self.servers)
        await self.store.ping()

    async def close(self) -> None:
        self.meterman.close()
        await self.store.close()

    async def decide(self, decisions: int) -> tuple[Cost, float]:
        """What some decisions cost the servers, and this process in CPU microseconds."""
        population = range(self.entities)
        waiting = iter([charges_of(self.random.sample(population, ENTITIES), TRACKED) for _ in range(decisions)])

        async def one_after_another() -> None:
            for charges in waiting:
                answer = await self.store.decide(charges)
                assert answer.allowed and not answer.missing

        before, cpu = self.meterman.read(), time.process_time()
        await asyncio.gather(*(one_after_another() for _ in range(IN_FLIGHT)))
        cpu = time.process_time() - cpu
        return self.meterman.read() - before, cpu * 1e6

    def touch(self, keys: int) -> float:
        """Microseconds of server time for a plain GET + SET of keys out of all."""
        names = [key_of(number).spelled("rp") for number in self.random.sample(range(self.entities), keys)]
        before = self.meterman.read()
        with Pipe(self.servers[0]) as pipe:
            for start in range(0, keys, 100):
                pipe.command("EVAL", TOUCH, 100, *names[start : start + 100])
        return (self.meterman.read() - before).script_us / keys

    async def round(self, report: Report, decisions: int) -> None:
        """Measure once."""
        pace = [self._pace(report)]
        cost, client_us = await self.decide(decisions)
        pace.append(self._pace(report))
        step_ns, get_set_us = (sum(both) / 2 for both in zip(*pace, strict=True))
        self.server_us.append(cost.function_us / decisions)
        self.cpu_us.append(cost.cpu_us / decisions)
        self.client_us.append(client_us / decisions)
        self.server_norm.append(cost.function_us / decisions / get_set_us)
        self.client_norm.append(client_us / decisions / step_ns)
        if self.series == "size":
            self.touch_us.append(self.touch(decisions) / get_set_us)

    def _pace(self, report: Report) -> tuple[float, float]:
        return report.calibration.python(), report.calibration.server(f"{self.series}_{self.label}", self.servers[0])


def templates(server: RedisServer) -> list[bytes]:
    """What the store keeps about an entity, after a few messages each."""
    with Pipe(server) as pipe:
        found = []
        for number in range(16):
            command = functions.decide_command(charges_of([number], TRACKED), "template", "", None)
            pipe.exchange([command] * (1 + number))
            found.append(pipe.command("GET", key_of(number).spelled("template")))
            pipe.command("DEL", key_of(number).spelled("template"))
    return found


def fill(server: RedisServer, entities: int, values: Sequence[bytes]) -> None:
    """Put so many entities on a server."""
    with Pipe(server) as pipe:
        count = 0
        for first in range(0, entities, FILLED_AT_ONCE):
            last = min(entities, first + FILLED_AT_ONCE) - 1
            count = pipe.command("EVAL", SPELLED_ALIKE, 0, first, last, EXPIRY_MS, *values)
        sample = [key_of(number).spelled("rp") for number in (0, 1, 2, 3, 4, 5, entities - 1)]
        if count != entities or pipe.command("EXISTS", *sample) != len(sample):
            raise RuntimeError(f"{count} keys instead of {entities}, or spelled otherwise")


def fill_cluster(cluster: ClusterServers, entities: int, values: Sequence[bytes]) -> None:
    """The same, on servers that have some slots each."""
    commands: dict[int, list[bytes]] = {}
    slots = {slot: index for index, server in enumerate(cluster.servers) for slot in _slots(server)}
    for number in range(entities):
        name = key_of(number).spelled("rp")
        command = packed("SET", name, values[number % len(values)], "PX", EXPIRY_MS)
        commands.setdefault(slots[functions.slot_of(name)], []).append(command)
    for index, sets in commands.items():
        with Pipe(cluster.servers[index]) as pipe:
            pipe.exchange(sets)


def _slots(server: RedisServer) -> Iterator[int]:
    (mine,) = [line for line in server.command("CLUSTER", "NODES").decode().splitlines() if "myself" in line]
    for piece in mine.split()[8:]:
        first, _, last = piece.partition("-")
        yield from range(int(first), int(last or first) + 1)


@contextmanager
def subjects(report: Report) -> Iterator[list[Subject]]:
    """All servers, filled."""
    sizes, of_cluster = (QUICK_SIZES, 10_000) if report.quick else (SIZES, 100_000)
    with ExitStack() as running:
        single = [(size, running.enter_context(valkey_server())) for size in sizes]
        clusters = [(nodes, running.enter_context(valkey_cluster(nodes))) for nodes in NODES]
        values = templates(single[0][1])
        report.ran_on(single[0][1])
        for size, server in single:
            fill(server, size, values)
        for _, cluster in clusters:
            fill_cluster(cluster, of_cluster, values)
        yield [
            *(Subject("size", size, size, [server], server.unix_url) for size, server in single),
            *(Subject("nodes", nodes, of_cluster, cluster.servers, cluster.url) for nodes, cluster in clusters),
        ]


def ratio(values: Sequence[float]) -> float:
    """Dearest to cheapest."""
    return max(values) / min(values)


def publish(report: Report, all_of_them: Sequence[Subject]) -> None:
    """Put the medians of all rounds into the report."""
    worst = []
    for series in ("size", "nodes"):
        group = [subject for subject in all_of_them if subject.series == series]
        for side in ("server", "client"):
            values = [median(getattr(subject, f"{side}_norm")) for subject in group]
            worst.append(ratio(values))
            report.add(f"{side}_ratio_by_{series}", worst[-1], f"dearest to cheapest, {side} by {series}, calibrated")
    report.add("worst_cost_ratio", max(worst), "dearest to cheapest decision, the worst of the four", at_most(1.2))
    touched = [median(subject.touch_us) for subject in all_of_them if subject.touch_us]
    report.add("get_set_ratio_by_size", ratio(touched), "the same of a plain GET + SET of any tracked key, calibrated")
    for subject in all_of_them:
        of = f"{subject.series}_{subject.label}"
        report.add(f"server_us_{of}", median(subject.server_us), "us inside functions, for each decision")
        report.add(f"server_cpu_us_{of}", median(subject.cpu_us), "us of CPU of all servers, sockets and all")
        report.add(f"client_us_{of}", median(subject.client_us), "us of client CPU for each decision")


async def run(report: Report, all_of_them: Sequence[Subject]) -> None:
    """All rounds, in turns."""
    rounds, decisions = (2, 200) if report.quick else (25, 600)
    for subject in all_of_them:
        await subject.open()
        await subject.decide(decisions)  # warms up
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for subject in all_of_them:
            await subject.round(report, decisions)
    for subject in all_of_them:
        await subject.close()


def measure(report: Report) -> None:
    """The benchmark."""
    with subjects(report) as all_of_them:
        asyncio.run(run(report, all_of_them))
        publish(report, all_of_them)


if __name__ == "__main__":
    main("growth", measure)
