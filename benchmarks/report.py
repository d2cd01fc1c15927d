"""The results of a benchmark, and the machine they were measured on: as a table, or as one JSON object.

Each result has a name, a value and a unit; those that the project promises have a target, and are met or missed.

The machine is part of the result. A virtual one may halve its clock for minutes, so while a benchmark runs it also
times two things that never change: a step of a plain Python loop, and a plain GET + SET inside a Lua loop on the same
server. When their extremes lie far apart, or far from those of another run, the figures do so too.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from operator import ge, le
from pathlib import Path
from typing import Any

from redis.exceptions import ResponseError
from rich.console import Console
from rich.table import Table

from tests.servers import RedisServer

LOOP_STEPS = 200_000
LUA_LOOPS = 2_000
LUA_LOOP = """
for _ = 1, ARGV[1] do
  local value = redis.call('GET', KEYS[1])
  redis.call('SET', KEYS[1], value, 'PX', 60000)
end
return 0
"""
LUA_VALUE = "v" * 130  # as long as what is kept about an entity

_HOLDS: dict[str, Callable[[float, float], bool]] = {"<=": le, ">=": ge, "=": lambda value, target: value == target}


@dataclass(frozen=True, slots=True)
class Target:
    """What a value is held against.

    >>> str(Target("<=", 15)), Target("<=", 15).met(15.1)
    ('<= 15', False)
    """

    relation: str
    number: float

    def met(self, value: float) -> bool:
        return _HOLDS[self.relation](value, self.number)

    def __str__(self) -> str:
        return f"{self.relation} {self.number:,g}".replace(",", "")


def at_most(number: float) -> Target:
    """A target that the value must not exceed."""
    return Target("<=", number)


def at_least(number: float) -> Target:
    """A target that the value must reach."""
    return Target(">=", number)


def exactly(number: float) -> Target:
    """A target that the value must be."""
    return Target("=", number)


@dataclass(frozen=True, slots=True)
class Result:
    """One line. Without a value it could not be measured here, and the unit says why."""

    name: str
    value: float | None
    unit: str
    target: Target | None = None

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None else self.value is not None and self.target.met(self.value)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": None if self.target is None else str(self.target),
            "met": self.met,
        }


@dataclass(slots=True)
class Calibration:
    """How fast the machine was, sampled in between what is measured."""

    python_step_ns: list[float] = field(default_factory=list)
    lua_get_set_us: dict[str, list[float]] = field(default_factory=dict)

    def python(self) -> float:
        """Nanoseconds of CPU for a step of a plain loop, now."""
        begun, total = time.process_time_ns(), 0
        for step in range(LOOP_STEPS):
            total += step
        taken = (time.process_time_ns() - begun) / LOOP_STEPS
        self.python_step_ns.append(taken)
        return taken

    def server(self, name: str, server: RedisServer) -> float:
        """Microseconds for a GET and a SET of one key inside a Lua loop of a server, now."""
        with server.client() as client:
            key = _own_key(client)
            before = client.info("commandstats").get("cmdstat_eval", {"usec": 0})["usec"]
            client.eval(LUA_LOOP, 1, key, str(LUA_LOOPS))
            taken = (client.info("commandstats")["cmdstat_eval"]["usec"] - before) / LUA_LOOPS
            client.delete(key)
        self.lua_get_set_us.setdefault(name, []).append(taken)
        return float(taken)

    def as_json(self) -> dict[str, Any]:
        found = {"python_step_ns": self.python_step_ns, **self._by_server()}
        return {name: _spread(samples) for name, samples in found.items() if samples}

    def _by_server(self) -> dict[str, list[float]]:
        return {f"lua_get_set_us_{name}": samples for name, samples in self.lua_get_set_us.items()}


def _own_key(client: Any) -> str:
    """A key with a value that this server has a slot for; one of a cluster does not have them all."""
    for number in range(1_000):
        with suppress(ResponseError):
            client.set(f"calibration:{number}", LUA_VALUE)
            return f"calibration:{number}"
    raise RuntimeError("the server has no slots")


def _spread(samples: Sequence[float]) -> dict[str, float]:
    return {
        "min": round(min(samples), 2),
        "median": round(statistics.median(samples), 2),
        "max": round(max(samples), 2),
    }


@dataclass(slots=True)
class Report:
    """What a benchmark fills while it runs."""

    benchmark: str
    quick: bool
    results: list[Result] = field(default_factory=list)
    calibration: Calibration = field(default_factory=Calibration)
    servers: set[str] = field(default_factory=set)

    def add(self, name: str, value: float | None, unit: str, target: Target | None = None) -> None:
        self.results.append(Result(name, value, unit, target))

    def add_rounds(self, name: str, rounds: Sequence[float], unit: str, target: Target | None = None) -> None:
        """The median of some rounds, and beside it the best: the lowest, or of what is done in a second the highest."""
        self.add(name, statistics.median(rounds), unit, target)
        best = max if "per_second" in name else min
        self.add(f"{name}_best", best(rounds), f"{unit}, best of {len(rounds)}")

    def ran_on(self, server: RedisServer) -> None:
        """Note the name and the version of a server."""
        info = server.command("INFO", "server")
        name = "Valkey" if "valkey_version" in info else "Redis"
        self.servers.add(f"{name} {info.get('valkey_version') or info['redis_version']}")

    def as_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "machine": machine() | {"servers": sorted(self.servers), "calibration": self.calibration.as_json()},
            "results": [result.as_json() for result in self.results],
        }

    def print_table(self) -> None:
        table = Table(title=f"{self.benchmark}{' (quick)' if self.quick else ''}", title_justify="left")
        for heading in ("result", "value", "unit", "target", ""):
            table.add_column(heading, justify="right" if heading == "value" else "left", overflow="fold")
        for result in self.results:
            verdict = {True: "met", False: "MISSED", None: ""}[result.met]
            value = "-" if result.value is None else _readable(result.value)
            table.add_row(result.name, value, result.unit, str(result.target or ""), verdict)
        console = Console(width=None if sys.stdout.isatty() else 140)
        console.print(table)
        for name, fact in self.as_json()["machine"].items():
            console.print(f"{name}: {fact}", highlight=False, soft_wrap=True)


def _readable(value: float) -> str:
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": next(_cpu_models(), platform.processor() or "unknown"),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _cpu_models() -> Iterator[str]:
    information = Path("/proc/cpuinfo")
    for line in information.read_text().splitlines() if information.exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            yield value.strip()


def main(benchmark: str, measure: Callable[[Report], None]) -> None:
    """Run a benchmark as a command."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")
    parser.add_argument("--quick", action="store_true", help="the small size, of a few seconds")
    arguments = parser.parse_args()
    report = Report(benchmark, arguments.quick)
    report.calibration.python()
    measure(report)
    report.calibration.python()
    if arguments.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        report.print_table()
