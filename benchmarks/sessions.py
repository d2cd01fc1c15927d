"""What a session takes in memory, idle or busy, and whether anything is left when all are gone.

A front end in a process of its own, with the policy that comes with reputon, a Valkey and Postfix' smtp-sink behind it
(`benchmarks.smtp`). A round: 1,000 sessions that have said EHLO and are silent from then on; then 200 more, each of
which sends messages of 20 kB one after the other for a minute; then all leave. Two rounds.

* ``rss_mb_*``: resident memory of the process: before, with the idle ones, the most with the busy ones beside them, and
  after each round, once every descriptor is back.
* ``kb_per_idle_session``, ``kb_per_busy_session``: what the first round adds, by the number of sessions. What the
  process remembers of senders and clients fills in that time, and is counted as the busy ones'.
* ``rss_growth_mb``: after the second round, more than after the first: what would be a leak.
* ``descriptors_left``: open files more than before, the worst of the rounds. ``sessions_left``: what the process says
  when it is told to stop.
"""

import asyncio
import itertools
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import smtp_load
from benchmarks.report import Report, at_most, exactly, main
from benchmarks.smtp import CONFIG, running, sink_binary, smtp_sink
from tests.servers import ServerProcess, valkey_server
from tests.smtp.programs import Program, front_end

OCTETS = 20_000
MESSAGES = 5_000
"""Different ones; they are sent again and again."""
WITHIN_SECONDS = 30.0
SAMPLE_SECONDS = 0.25
OPENED_AT_ONCE = 50
KB_PER_IDLE, KB_PER_BUSY = 40.0, 400.0


class Idle(smtp_load.Client):
    """A session that says EHLO, and then nothing."""

    def __init__(self) -> None:
        super().__init__(iter(()), self._gone)
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _begin(self) -> None:
        self.ready.set_result(None)  # the answer to EHLO has come

    def _gone(self, error: Exception | None) -> None:
        if not self.ready.done():
            self.ready.set_exception(error or ConnectionResetError())

    def leave(self) -> None:
        """Hang up, without a QUIT as often happens."""
        self._transport.abort()


@dataclass(slots=True)
class Process:
    """The front end, looked at from outside."""

    pid: int
    descriptors_before: int = 0
    rss_mb: dict[str, float] = field(default_factory=dict)
    descriptors_left: list[int] = field(default_factory=list)

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def rss(self) -> float:
        """Resident memory, in MB."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def settled(self) -> None:
        """Every descriptor is back, or its time is up."""
        deadline = time.monotonic() + WITHIN_SECONDS
        while self.descriptors() > self.descriptors_before and time.monotonic() < deadline:  # noqa: ASYNC110 - of another process
            await asyncio.sleep(SAMPLE_SECONDS)
        self.descriptors_left.append(self.descriptors() - self.descriptors_before)


@asynccontextmanager
async def idle_sessions(port: int, count: int, first: int) -> AsyncIterator[None]:
    """So many for as long as the block runs."""
    clients: list[Idle] = []

    async def come(number: int) -> None:
        client = Idle()
        clients.append(client)
        await smtp_load.connect(port, number, lambda: client)
        await client.ready

    try:
        for start in range(0, count, OPENED_AT_ONCE):
            numbers = range(first + start, first + min(start + OPENED_AT_ONCE, count))
            async with asyncio.timeout(WITHIN_SECONDS):
                await asyncio.gather(*map(come, numbers))
        yield
    finally:
        for client in clients:
            with suppress(AttributeError):  # one that was never connected
                client.leave()


async def busy_sessions(port: int, count: int, first: int, seconds: float, made: list[tuple[str, str, bytes]]) -> int:
    """So many for so long; the number of messages that they have sent."""
    end, sent = time.monotonic() + seconds, itertools.count()

    def until_the_end(number: int) -> Iterator[tuple[str, str, bytes]]:
        for message in itertools.cycle(made[number % len(made) :] + made[: number % len(made)]):
            if time.monotonic() > end:
                return
            next(sent)
            yield message

    async with asyncio.timeout(seconds + WITHIN_SECONDS), asyncio.TaskGroup() as tasks:
        for number in range(count):
            mine = until_the_end(number * (len(made) // count or 1))
            tasks.create_task(smtp_load.session(port, first + number, mine))
    return next(sent)


async def _most(process: Process, work: asyncio.Task[int]) -> float:
    """The most memory while something is done."""
    most = process.rss()
    while not work.done():
        await asyncio.wait({work}, timeout=SAMPLE_SECONDS)
        most = max(most, process.rss())
    return most


async def rounds(report: Report, program: Program) -> Process:
    """Two of them."""
    idle, busy, seconds = (100, 20, 2.0) if report.quick else (1_000, 200, 60.0)
    made = smtp_load.made(MESSAGES // 10 if report.quick else MESSAGES, 1, OCTETS)
    process, first, messages = Process(program.pid), 0, 0
    process.descriptors_before, process.rss_mb["before"] = process.descriptors(), process.rss()
    for number in (1, 2):
        async with idle_sessions(program.port, idle, first):
            process.rss_mb[f"idle_{number}"] = process.rss()
            work = asyncio.create_task(busy_sessions(program.port, busy, first + idle, seconds, made))
            process.rss_mb[f"busy_{number}"] = await _most(process, work)
            messages += await work
        await process.settled()
        process.rss_mb[f"after_{number}"] = process.rss()
        first += idle + busy
        report.calibration.python()
    rss = process.rss_mb
    per_idle = (rss["idle_1"] - rss["before"]) * 1_024 / idle
    per_busy = (rss["busy_1"] - rss["idle_1"]) * 1_024 / busy
    report.add("kb_per_idle_session", max(per_idle, 0.0), f"kB, of {idle:,} that have said EHLO", at_most(KB_PER_IDLE))
    unit = f"kB, of {busy} that send messages of {OCTETS // 1_000} kB"
    report.add("kb_per_busy_session", max(per_busy, 0.0), unit, at_most(KB_PER_BUSY))
    report.add("busy_messages_per_second", messages / seconds / 2, f"messages a second, {idle:,} idle sessions beside")
    return process


def measure(report: Report) -> None:
    """The benchmark."""
    binary = sink_binary()
    if binary is None:
        report.add("kb_per_idle_session", None, "not installed: apt-get install -y postfix", at_most(KB_PER_IDLE))
        return
    with (
        valkey_server() as store,
        smtp_sink(binary) as hop,
        tempfile.TemporaryDirectory(prefix="reputon-bench-") as top,
    ):
        report.ran_on(store)
        program = front_end(Path(top) / "ours", CONFIG.format(store=store.unix_url, hop=f"smtp://{hop}"))
        with running(program):
            process = asyncio.run(rounds(report, program))
        report.calibration.server("valkey", store)
        _tell(report, process, program)


def _tell(report: Report, process: Process, program: ServerProcess) -> None:
    for name, value in process.rss_mb.items():
        report.add(f"rss_mb_{name}", value, "MB resident")
    growth = process.rss_mb["after_2"] - process.rss_mb["after_1"]
    report.add("rss_growth_mb", max(growth, 0.0), "MB, after the second round more than after the first", at_most(4))
    report.add("descriptors_before", process.descriptors_before, "open files")
    report.add("descriptors_left", max(process.descriptors_left), "open files more than before", exactly(0))
    told = re.findall(r" draining (\d+) sessions", program.log)
    report.add("sessions_left", int(told[-1]), "sessions, when it is told to stop", exactly(0))


if __name__ == "__main__":
    main("sessions", measure)
