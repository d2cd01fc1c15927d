"""How fast old logs are read, replayed and tuned, and how much memory that takes.

Method: a log as Postfix writes it is made up (the same in every run): 3,000 senders, of which the n-th sends as much as
1/n, two messages a second with one to three recipients, one message in ten with a recipient that does not exist. It is
read from a file. Each step is timed by itself, in CPU time, over what the one before gave: lines into records
(`reading`), records into steps (`flow`), steps through the rules of `THREE_RULES` and of the quick start (`running`),
and through the peaks of five keys in three windows (`tuning`).

``peak_mb`` is the most memory of a process of its own that runs ``reputon tune`` on a longer file, and
``peak_mb_of_a_tenth`` the same of the first tenth of it: the difference is what more lines cost.
"""

import asyncio
import gc
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from benchmarks.report import Report, Target, at_least, main
from reputation.assemble import settings_of
from reputation.cli.tune import KEYS, WINDOWS, wanted_of
from reputation.config import Settings, quickstart_path
from reputation.replay.flow import Flow
from reputation.replay.reading import Reading
from reputation.replay.running import Replay
from reputation.replay.steps import Timed
from reputation.replay.tuning import Tuning
from reputation.spelling import Spelling, organisational_domain

MESSAGES, QUICK_MESSAGES = 30_000, 3_000
LONGER = 10
"""How many times as many messages the file has that is tuned for its memory."""
SENDERS = 3_000
BEGIN = datetime(2026, 11, 2, tzinfo=UTC)
ROUNDS = 3
THREE_RULES = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["30/1m"]
action = "tempfail"

[[rule]]
name = "directory-harvest"
stage = "rcpt"
key = ["ip"]
count = "invalid_recipients"
limits = ["20/10m"]
action = "tempfail"

[[rule]]
name = "client-rate"
stage = "connect"
key = ["ip"]
count = "connections"
limits = ["500/1h", "10000/24h"]
action = "tempfail"
mode = "shadow"
"""


def lines(messages: int) -> Iterator[str]:
    """The log."""
    random = Random(3)
    senders = random.choices(range(SENDERS), weights=[1 / (n + 1) for n in range(SENDERS)], k=messages)
    seconds = 0.0
    for number, sender in enumerate(senders):
        seconds += random.expovariate(2)
        yield from message(random, number, sender, seconds)


def message(random: Random, number: int, sender: int, seconds: float) -> Iterator[str]:
    """The lines of one message."""
    address, where = (
        f"user{sender}@dom{sender % 300}.example",
        f"mail{sender}.example[10.{sender % 200}.{sender % 97}.1]",
    )
    id, smtpd, recipients = (
        f"{0x4000000000 + number:X}",
        f"smtpd[{1_000 + number % 50}]",
        random.choice([1, 1, 1, 2, 3]),
    )
    login = f", sasl_method=PLAIN, sasl_username={address}" if sender % 2 else ""
    yield line(seconds, smtpd, f"connect from {where}")
    if number % 10 == 0:
        why = f"550 5.1.1 <x{number}@example.net>: Recipient address rejected: User unknown in virtual mailbox table"
        envelope = f"from=<{address}> to=<x{number}@example.net> proto=ESMTP helo=<x>"
        yield line(seconds, smtpd, f"NOQUEUE: reject: RCPT from {where}: {why}; {envelope}")
    yield line(seconds, smtpd, f"{id}: client={where}{login}")
    yield line(seconds, "cleanup[77]", f"{id}: message-id=<{number}@example.com>")
    queued = f"from=<{address}>, size={random.randrange(100_000)}, nrcpt={recipients} (queue active)"
    yield line(seconds + 0.3, "qmgr[9]", f"{id}: {queued}")
    yield line(seconds + 0.4, smtpd, f"disconnect from {where} ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5")
    for _ in range(recipients):
        to = f"to=<r{random.randrange(5_000)}@example{random.randrange(300)}.net>, relay=mx.example.net[192.0.2.1]:25"
        how = "delay=0.6, delays=0.1/0/0.1/0.3, dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 12345)"
        yield line(seconds + 0.6, "smtp[12]", f"{id}: {to}, {how}")
    yield line(seconds + 0.6, "qmgr[9]", f"{id}: removed")


def line(seconds: float, daemon: str, text: str) -> str:
    """One line."""
    at = BEGIN + timedelta(seconds=seconds)
    return f"{at:%b} {at.day:2} {at:%H:%M:%S} mx postfix/{daemon}: {text}\n"


def timed_rounds(report: Report, path: Path) -> None:
    """All steps, some times over."""
    organisational_domain("localhost")  # loads the public suffix list
    policies = {"three_rules": Settings.model_validate(tomllib.loads(THREE_RULES)), "quickstart": quickstart()}
    rates: dict[str, list[float]] = defaultdict(list)
    for _ in range(1 if report.quick else ROUNDS):
        report.calibration.python()
        reading = Reading([path], zone=UTC, year=BEGIN.year)
        with clocked() as seconds:
            records = list(reading.records())
        rates["lines_read"].append(reading.files[0].lines / seconds())
        with clocked() as seconds:
            steps = list(Flow().steps(records))
        rates["records_ordered"].append(len(records) / seconds())
        for name, settings in policies.items():
            replay = Replay(settings.policy(), settings.spelling())
            with clocked() as seconds:
                asyncio.run(take_all(replay, steps))
            rates[f"events_judged_{name}"].append(replay.figures.events / seconds())
        wanted = wanted_of(keys=KEYS, windows=WINDOWS, quantile=0.999, margin=1.5)
        tuning = Tuning(wanted.keys, wanted.windows, Spelling(), zone=UTC)
        with clocked() as seconds:
            for timed in steps:
                tuning.take(timed)
        rates["messages_tuned"].append(tuning.messages / seconds())
    for name, (unit, target) in UNITS.items():
        report.add_rounds(f"{name}_per_second", rates[name], unit, target)


UNITS: dict[str, tuple[str, Target | None]] = {
    "lines_read": ("lines of a log", at_least(50_000)),
    "records_ordered": ("lines about mail, put together and in order of time", None),
    "events_judged_three_rules": ("events through three rules", at_least(10_000)),
    "events_judged_quickstart": ("events through the rules of the quick start", None),
    "messages_tuned": ("messages: five keys, two metrics, three windows", None),
}


def quickstart() -> Settings:
    """The rules that reputon comes with."""
    return settings_of(quickstart_path())


@contextmanager
def clocked() -> Iterator[Callable[[], float]]:
    """How much CPU time the block took, once it is over; what was made before is no work for the garbage collector."""
    gc.collect()
    gc.freeze()
    begun = time.process_time()
    ended: list[float] = []
    yield lambda: ended[0] - begun
    ended.append(time.process_time())
    gc.unfreeze()


async def take_all(replay: Replay, steps: Sequence[Timed]) -> None:
    """Judge."""
    for timed in steps:
        await replay.take(timed)


def peak_mb(path: Path) -> float:
    """The most memory of `reputon tune`, by /proc; what `getrusage` says is at least this process' own."""
    program = "import sys\nfrom reputation.cli import main\ntry: main()\n"
    program += "finally: print(open('/proc/self/status').read(), file=sys.stderr)"
    command = [sys.executable, "-c", program, "tune", str(path), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(run.stderr.partition("VmHWM:")[2].split()[0]) / 1024


def measure(report: Report) -> None:
    """The benchmark."""
    messages = QUICK_MESSAGES if report.quick else MESSAGES
    with tempfile.TemporaryDirectory() as directory:
        path, longer = Path(directory) / "mail.log", Path(directory) / "mail.log.1"
        for each, count in ((path, messages), (longer, LONGER * messages)):
            with each.open("w", encoding="utf-8") as file:
                file.writelines(lines(count))
        timed_rounds(report, path)
        report.add("peak_mb", peak_mb(longer), f"MB, {LONGER * messages:,} messages tuned")
        report.add("peak_mb_of_a_tenth", peak_mb(path), f"MB, {messages:,} messages tuned")


if __name__ == "__main__":
    main("replay", measure)
