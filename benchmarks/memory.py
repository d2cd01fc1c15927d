"""What an entity takes in the memory of a server, key and expiry included.

Method: the difference of ``used_memory`` before and after so many entities have been counted, each in three windows.
The hash tables of a server double, so what an entity takes depends on how many there are: ``bytes_per_entity`` is the
worst of several sizes, one of them just after the tables have doubled. Keys are as long as those of real clients,
senders, domains and recipients; a key is six of them in turn.

The other rows are for one kind of key each.
"""

import time
from collections.abc import Callable

from benchmarks.load import TRACKED, Pipe, key_of
from benchmarks.report import Report, at_most, main
from reputation.bookkeeping import WEIGHING, WEIGHT
from reputation.charges import Charge, Charging, Kind, Meter, Over, Plan
from reputation.keys import EVIDENCE, Dimension, Key, Metric, distinct
from reputation.rules import LEASE
from reputation.store import functions
from reputation.windows import Limit, Window
from tests.servers import RedisServer, redis_server, valkey_server

SETTLE_SECONDS = 5.0
MEMBERS = 100
MET = Plan((Meter.limited("a-rule", [Limit.parse("200/24h")], Charging.ACCEPTED, Over.DENIES),), Kind.DISTINCT)
KNOWN = Plan((Meter(windows=(Window(90 * 86_400),)),), Kind.SEEN)
HELD = Plan((Meter.limited("a-rule", [Limit(200, LEASE)], Charging.ACCEPTED, Over.DENIES),), Kind.LEASES)
PREFIX = "rp"


def counted(cost: int) -> Callable[[int], list[Charge]]:
    """Charges of the n-th entity, with so many units."""
    return lambda number: [Charge(key_of(number), TRACKED, cost)]


def members(number: int) -> list[Charge]:
    """So many different members of the n-th entity."""
    key = Key(key_of(number).entity, distinct(Dimension.RECIPIENT), "a-rule")
    return [Charge(key, MET, 1, f"{number * MEMBERS + member:016x}") for member in range(MEMBERS)]


def session(number: int) -> list[Charge]:
    """An open session of the n-th entity."""
    return [Charge(Key(key_of(number).entity, Metric.CONCURRENT, "a-rule"), HELD, 1, f"{number:016x}")]


def evidence(number: int) -> list[Charge]:
    """Evidence of the n-th entity."""
    return [Charge(Key(key_of(number).entity, EVIDENCE), WEIGHING, WEIGHT, str(position)) for position in range(4)]


def known(number: int) -> list[Charge]:
    """That the n-th entity was seen."""
    return [Charge(Key(key_of(number).entity, "seen"), KNOWN)]


KINDS = {
    "bytes_beyond_255": (counted(300), "bytes, with more than 255 messages"),
    "bytes_beyond_65535": (counted(70_000), "bytes, with more than 65,535 messages"),
    "bytes_distinct_100": (members, f"bytes of a set of {MEMBERS} different members"),
    "bytes_lease": (session, "bytes of a session that is open"),
    "bytes_evidence": (evidence, "bytes of evidence of four kinds"),
    "bytes_seen": (known, "bytes of when an entity was first and last seen"),
}


class Scales:
    """Weighs what is put on a server."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def weigh(self, charges: Callable[[int], list[Charge]], sizes: list[int]) -> dict[int, float]:
        """Bytes an entity, at each of some numbers of entities."""
        self._server.command("FLUSHALL", "SYNC")
        empty, filled, found = self._settled(), 0, {}
        for size in sizes:
            with Pipe(self._server) as pipe:
                for start in range(filled, size, Pipe.AT_ONCE):
                    pipe.exchange(
                        [
                            functions.decide_command([charge], PREFIX, "", None)
                            for number in range(start, min(size, start + Pipe.AT_ONCE))
                            for charge in charges(number)
                        ]
                    )
            filled = size
            assert self._server.command("DBSIZE") == size
            found[size] = (self._settled() - empty) / size
        return found

    def _settled(self) -> int:
        """Memory in use, when tables have stopped growing and buffers are gone."""
        deadline, used = time.monotonic() + SETTLE_SECONDS, -1
        while time.monotonic() < deadline:
            before, used = used, int(self._server.command("INFO", "memory")["used_memory"])
            if abs(used - before) < 10_000:
                break
            time.sleep(0.15)
        return used


def measure(report: Report) -> None:
    """The benchmark."""
    sizes, size = ([4_300, 8_000], 1_000) if report.quick else ([33_000, 64_000, 70_000, 128_000], 20_000)
    for name, running in (("valkey", valkey_server), ("redis", redis_server)):
        with running() as server:
            report.ran_on(server)
            scales = Scales(server)
            weights = scales.weigh(counted(1), sizes)
            unit = f"bytes, with three windows, key and expiry included; the worst of {len(sizes)} sizes"
            report.add(f"bytes_per_entity_{name}", max(weights.values()), unit, at_most(380))
            for of, weight in weights.items():
                report.add(f"bytes_at_{of}_{name}", weight, f"bytes, when there are {of:,} entities")
            for kind, (charges, unit) in KINDS.items():
                of = size // 10 if charges is members else size
                report.add(f"{kind}_{name}", scales.weigh(charges, [of])[of], unit)


if __name__ == "__main__":
    main("memory", measure)
