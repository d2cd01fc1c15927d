"""What a server spends on one entity check with three windows.

Method: six entities in each call, 64 calls in each write, over a unix socket. The entities are drawn at random out of
10,000, most with few messages, every tenth with hundreds and every hundredth with more than 65,535, which take wider
numbers. ``now`` is given and moves so that an entity is seen about every ten minutes: buckets age out in every check,
as they do in a mail system and not in a benchmark of a few seconds. `server_us_per_check_clock_*` is the same with
the server's own clock, where nothing ages.

``server_us_per_check`` is the time inside the function by ``INFO commandstats``; ``checks_per_second`` counts against
all CPU time of the server process, sockets and parsing included. Rounds of all variants on both servers take turns;
medians.
"""

from collections.abc import Callable, Sequence
from random import Random

from benchmarks.load import ENTITIES, TRACKED, Cost, Meterman, Pipe, charges_of
from benchmarks.report import Report, at_least, at_most, main
from reputation.charges import Charge, Charging, Meter, Over, Plan, receipt_of
from reputation.store import functions
from reputation.windows import Limit
from tests.servers import RedisServer, redis_server, valkey_server

POPULATION = 10_000
SEEN_EVERY_US = 600_000_000
BEGIN_US = 1_700_000_000_000_000
STEP_US = SEEN_EVERY_US * ENTITIES // POPULATION
LIMITED = Plan(
    (
        *TRACKED.meters,
        Meter.limited(
            "a-rule", [Limit(10**9, window) for window in TRACKED.meters[0].windows], Charging.ACCEPTED, Over.DENIES
        ),
    )
)


class Subject:
    """One server under measurement, with its moving time."""

    def __init__(self, name: str, server: RedisServer) -> None:
        self.name = name
        self.server = server
        self.pipe = Pipe(server)
        self.prefixes = {variant: f"rp{variant}" for variant in VARIANTS}
        self.meterman = Meterman([server])
        self.random = Random(5)
        self.now_us = BEGIN_US

    def populate(self) -> None:
        """Give every tenth entity hundreds of messages, and every hundredth very many; for each variant by itself."""
        for variant, prefix in self.prefixes.items():
            plan = LIMITED if VARIANTS[variant][0] is checks_with_limits else TRACKED
            commands = [
                functions.decide_command(charges_of([number], plan, cost), prefix, "", self.now_us)
                for number in range(POPULATION)
                if (cost := 100_000 if number % 100 == 0 else 300 if number % 10 == 0 else 1)
            ]
            self.pipe.exchange(commands)

    def some(self, plan: Plan) -> tuple[Charge, ...]:
        return charges_of(self.random.sample(range(POPULATION), ENTITIES), plan)

    def moment(self) -> int:
        self.now_us += STEP_US
        return self.now_us

    def cost_of(self, commands: Sequence[bytes]) -> Cost:
        before = self.meterman.read()
        self.pipe.exchange(commands)
        return self.meterman.read() - before

    def close(self) -> None:
        self.meterman.close()
        self.pipe.__exit__()


Variant = Callable[[Subject, str, int], list[bytes]]
"""Commands that check `ENTITIES` times so many entities."""


def checks(subject: Subject, prefix: str, calls: int, plan: Plan = TRACKED) -> list[bytes]:
    """Six entities a call, and time moves on."""
    return [functions.decide_command(subject.some(plan), prefix, "", subject.moment()) for _ in range(calls)]


def checks_with_limits(subject: Subject, prefix: str, calls: int) -> list[bytes]:
    """The same with a rule's limits."""
    return checks(subject, prefix, calls, LIMITED)


def checks_with_clock(subject: Subject, prefix: str, calls: int) -> list[bytes]:
    """The same by the server's own clock."""
    return [functions.decide_command(subject.some(TRACKED), prefix, "", None) for _ in range(calls)]


def checks_one_by_one(subject: Subject, prefix: str, calls: int) -> list[bytes]:
    """The same with a call for each entity."""
    return [
        functions.decide_command([charge], prefix, "", now_us)
        for _ in range(calls)
        for now_us in [subject.moment()]
        for charge in subject.some(TRACKED)
    ]


def refunds(subject: Subject, prefix: str, calls: int) -> list[bytes]:
    """Refunds of what has just been charged, not measured, for that purpose."""
    charged = [subject.some(TRACKED) for _ in range(calls)]
    asked = [functions.decide_command(charges, prefix, "", subject.moment()) for charges in charged]
    answers = [
        functions.one_answer(charges, "", reply)
        for charges, reply in zip(charged, subject.pipe.exchange(asked), strict=True)
    ]
    return [functions.refund_command(receipt_of(answer), prefix) for answer in answers]


VARIANTS: dict[str, tuple[Variant, str]] = {
    "": (checks, "us of server time for an entity with three windows, six in a call"),
    "_clock": (checks_with_clock, "us, with the server's own clock, so that nothing ages"),
    "_limits": (checks_with_limits, "us, with a rule's limits on three more windows"),
    "_one_key": (checks_one_by_one, "us, one entity in a call, as on a cluster"),
    "_refund": (refunds, "us to give one back"),
}


def measure(report: Report) -> None:
    """The benchmark."""
    rounds, calls = (3, 400) if report.quick else (15, 2_500)
    with valkey_server() as valkey, redis_server() as redis:
        subjects = [Subject("valkey", valkey), Subject("redis", redis)]
        function_us: dict[tuple[str, str], list[float]] = {}
        per_second: dict[str, list[float]] = {}
        for subject in subjects:
            report.ran_on(subject.server)
            subject.populate()
        for _ in range(rounds):
            for subject in subjects:
                report.calibration.python()
                report.calibration.server(subject.name, subject.server)
                for variant, (commands, _) in VARIANTS.items():
                    cost = subject.cost_of(commands(subject, subject.prefixes[variant], calls))
                    function_us.setdefault((variant, subject.name), []).append(cost.function_us / calls / ENTITIES)
                    if not variant:
                        per_second.setdefault(subject.name, []).append(1e6 * calls * ENTITIES / cost.cpu_us)
        for subject in subjects:
            subject.close()
    for (variant, name), values in function_us.items():
        target = None if variant else at_most(15)
        report.add_rounds(f"server_us_per_check{variant}_{name}", values, VARIANTS[variant][1], target)
    for name, values in per_second.items():
        unit = "entity checks a second of the server's CPU time"
        report.add_rounds(f"checks_per_second_{name}", values, unit, at_least(60_000))


if __name__ == "__main__":
    main("store", measure)
