"""Where the time of one decision goes in this process, part by part.

    python -m benchmarks.profile [--json] [--quick]

Each part of `Engine.judge` is run by itself, many times over on the same RCPT (seven keys: six entities with three
windows, and a rule of its own), so the caches of the processor are warm: `benchmarks.judge` measures the whole on a
population, where they are not. What is missing from the sum is the event loop: sockets, futures, the turns of tasks.
"""

import statistics
import timeit
from collections.abc import Callable
from functools import partial
from typing import Any

import hiredis

from benchmarks.judge import POLICY
from benchmarks.load import events
from benchmarks.report import Report, main
from reputation.config_files import load
from reputation.engine import Engine
from reputation.keys import entities_of
from reputation.store import functions
from reputation.store.memory import MemoryStore
from reputation.vocabulary import Moment

NOW_US = 1_700_000_000_000_000


def measure(report: Report) -> None:
    """The benchmark."""
    rounds, runs = (3, 200) if report.quick else (15, 5_000)
    for name, part in _parts().items():
        taken = [seconds / runs * 1e6 for seconds in timeit.repeat(part, repeat=rounds, number=runs)]
        report.add(f"us_{name}", statistics.median(taken), "us of this process")
        report.calibration.python()


def _parts() -> dict[str, Callable[[], object]]:
    """The parts in the order of a decision."""
    policy = load(POLICY).policy()
    engine = Engine(policy=policy, store=MemoryStore())
    (event,) = events(1)
    entities = entities_of(event, engine.spelling)
    charges = policy.charges_for(Moment(event, entities, 0.0))
    sizes = [charge.plan.size for charge in charges]
    reply = [1, NOW_US, 0, *[5, 0] * (sum(sizes) // 2)]
    replies: list[list[int] | None] = [[1, NOW_US, 0, *[5, 0] * (size // 2)] for size in sizes]
    answer = functions.one_answer(charges, "", reply)
    verdict = policy.decide(answer)
    wire = b"*%d\r\n" % len(reply) + b"".join(b":%d\r\n" % number for number in reply)
    return {
        "entities": partial(entities_of, event, engine.spelling),
        "standing": partial(engine.registrar.register.standing, entities, event.session.client, 0.0),
        "charges": partial(policy.charges_for, Moment(event, entities, 0.0)),
        "command_standalone": partial(functions.decide_command, charges, "rp", "", None),
        "commands_cluster": partial(functions.decide_commands, charges, "rp", "", None),
        "reply_parsed": partial(_parse, hiredis.Reader(), wire),
        "answer_standalone": partial(functions.one_answer, charges, "", reply),
        "answer_cluster": partial(functions.joint_answer, charges, "", replies),
        "verdict": partial(policy.decide, answer),
        "leaders_noted": partial(engine.upkeep.note, answer),
        "leases_held": partial(engine.upkeep.leases.hold, "session", answer),
        "metrics_counted": partial(engine.metrics.count, event.stage, verdict.action, verdict.reason, 0.001),
    }


def _parse(reader: Any, wire: bytes) -> object:
    reader.feed(wire)
    return reader.gets()


if __name__ == "__main__":
    main("profile", measure)
