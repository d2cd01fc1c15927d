"""Messages a second through the SMTP front end, held against a relay that asks nobody.

Each server is one process on loopback, and the same load goes to each in turn: 20 sessions at once, messages of 2 kB,
no pipelining (`benchmarks.smtp_load`, which says why it is not smtp-source).

* **ours**: ``python -m smtp_frontend`` with the policy that comes with reputon (``include = ["default"]``), which asks
  a Valkey over its unix socket at every stage, and its log in a file. It relays to Postfix' smtp-sink. With two workers
  as well: they need more than two cores to show what they can.
* **bare relay**: aiosmtpd that relays to the same smtp-sink in the same way (`benchmarks.bare_smtp`).
* **bare sink**: aiosmtpd that says 250.

No rule fires, nobody is held back: a connection comes from one of 12,500 addresses, each in a network of its own.
``rules_fired`` counts lines of the log that say otherwise, or that the store did not answer in time, and
``verdicts_per_message`` those of MAIL, RCPT and DATA: three, when all is judged.

Two kinds of load: ``one`` message on each connection (CONNECT, HELO and the goodbye are judged for each), and ``many``,
50 of them. ``ratio_to_bare_relay`` is the worse of the two.

* ``messages_per_second_*``: by the clock on the wall. Load, smtp-sink and Valkey run beside the server, so this needs
  two cores that nobody else uses.
* ``ratio_to_*``: of one round, ours by theirs; the median of the rounds. A round has all servers, one right after the
  other, and the next round has them the other way round.
* ``cpu_us_per_message_*`` and ``cpu_ratio_to_*`` are the same by CPU time of the server's process, and so less shaken
  by neighbours; without Valkey, for which ``store_cpu_us_per_message_*`` stands.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from benchmarks import bare_smtp
from benchmarks.report import Report, at_least, exactly, main
from tests.servers import SYSTEM_PATH, RedisServer, ServerProcess, free_port, valkey_server
from tests.smtp.programs import READY, Program, descendants, front_end, listens

KINDS = {"one": 1, "many": 50}
"""Kind of load -> messages on a connection."""
OURS, TWO_WORKERS, RELAY, SINK = "ours", "two_workers", "bare_relay", "bare_sink"
UNITS = {
    OURS: "one front end with the default policy",
    TWO_WORKERS: "one front end with two workers",
    RELAY: "aiosmtpd, relaying",
    SINK: "aiosmtpd, taking all",
}
JUDGED = re.compile(" stage=(?:mail|rcpt|data) ")
PLAIN = re.compile(" action=accept reason=(?:no-rule|within-limits) ")
ROUND_SECONDS = 120.0
WARM_UP = 40
CONFIG = """
include = ["default"]

[store]
url = "{store}"
deadline_seconds = 5.0  # a machine that stands still is to be seen in the figures, not in fallbacks

[smtp]
listen = ["127.0.0.1:0"]
hostname = "mx.example.net"
next_hop = "{hop}"
"""


def sink_binary() -> str | None:
    """Where Postfix' smtp-sink is; None where it is not installed."""
    return shutil.which("smtp-sink", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}:/usr/lib/postfix/sbin")


@contextmanager
def smtp_sink(binary: str) -> Iterator[str]:
    """Postfix' smtp-sink; HOST:PORT."""
    port = free_port()
    user = () if os.geteuid() else ("-u", "nobody")  # it does not run as root
    with tempfile.TemporaryDirectory(prefix="reputon-bench-") as directory:
        command = [binary, *user, "-m", "4096", f"127.0.0.1:{port}", "1024"]
        server = ServerProcess(command, Path(directory), lambda: listens(port))
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop()


class Bare(ServerProcess):
    """One of `benchmarks.bare_smtp`."""

    def __init__(self, directory: Path, *options: str) -> None:
        directory.mkdir()
        ready = re.compile(READY)
        super().__init__(
            [sys.executable, bare_smtp.__file__, *options], directory, lambda: ready.search(self.log) is not None
        )

    @property
    def port(self) -> int:
        return int(re.findall(READY, self.log)[-1])


@contextmanager
def running(server: Program | Bare) -> Iterator[Program | Bare]:
    """A server for as long as the block runs."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def cpu_seconds(*pids: int) -> float:
    """CPU time of processes and all that they have started."""
    total = 0
    for pid in {each for top in pids for each in (top, *descendants(top))}:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(words[11]) + int(words[12])
    return total / os.sysconf("SC_CLK_TCK")


def sent(port: int, messages: int, per_connection: int, first: int) -> float:
    """Seconds that a load takes."""
    options = {"port": port, "messages": messages, "per-connection": per_connection, "first": first}
    told = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "benchmarks.smtp_load", *told, "--within", str(ROUND_SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=2 * ROUND_SECONDS)
    if done.returncode:
        raise RuntimeError(f"the load has failed:\n{done.stderr}")
    return float(json.loads(done.stdout)["seconds"])


@dataclass(slots=True)
class Subject:
    """A server, and what was measured of it: for each kind of load a list of rounds."""

    server: Program | Bare
    per_second: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    cpu_us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    store_us: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    messages: int = 0

    def warm_up(self, first: int) -> None:
        """What only happens once has happened."""
        sent(self.server.port, WARM_UP, 2, first)
        self.messages += WARM_UP

    def round(self, kind: str, messages: int, first: int, store: RedisServer) -> None:
        """Send, and note what it took."""
        cpu, store_cpu = cpu_seconds(self.server.pid), cpu_seconds(store.pid)
        seconds = sent(self.server.port, messages, KINDS[kind], first)
        self.messages += messages
        self.per_second[kind].append(messages / seconds)
        self.cpu_us[kind].append((cpu_seconds(self.server.pid) - cpu) / messages * 1e6)
        self.store_us[kind].append((cpu_seconds(store.pid) - store_cpu) / messages * 1e6)


def started(stack: ExitStack, store: RedisServer, hop: str) -> dict[str, Subject]:
    """All servers, each until the stack is left."""
    top = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="reputon-bench-")))
    config = CONFIG.format(store=store.unix_url, hop=f"smtp://{hop}")
    programs: dict[str, Program | Bare] = {
        OURS: front_end(top / OURS, config),
        RELAY: Bare(top / RELAY, "relay", hop),
        SINK: Bare(top / SINK, "sink"),
        TWO_WORKERS: front_end(top / TWO_WORKERS, config, "--workers", "2"),
    }
    return {name: Subject(stack.enter_context(running(program))) for name, program in programs.items()}


def measure(report: Report) -> None:
    """The benchmark."""
    binary = sink_binary()
    if binary is None:
        report.add("ratio_to_bare_relay", None, "not installed: apt-get install -y postfix", at_least(0.6))
        return
    rounds, messages = (1, {"one": 40, "many": 200}) if report.quick else (7, {"one": 1_000, "many": 2_000})
    with ExitStack() as stack:
        store = stack.enter_context(valkey_server())
        report.ran_on(store)
        subjects = started(stack, store, stack.enter_context(smtp_sink(binary)))
        for subject in subjects.values():
            subject.warm_up(0)
        first = WARM_UP
        for number in range(rounds):
            for kind, count in messages.items():
                report.calibration.python()
                for subject in [*subjects.values()][:: -1 if number % 2 else 1]:
                    subject.round(kind, count, first, store)
                first += count
        report.calibration.server("valkey", store)
        _tell_ratios(report, subjects)
        _tell_figures(report, subjects)
        _tell_log(report, subjects[OURS])


def _tell_ratios(report: Report, subjects: Mapping[str, Subject]) -> None:
    ours = subjects[OURS]
    for other in (RELAY, SINK):
        theirs = subjects[other]
        ratios = {kind: _ratio(ours.per_second[kind], theirs.per_second[kind]) for kind in KINDS}
        target = at_least(0.6) if other == RELAY else None
        report.add(
            f"ratio_to_{other}", min(ratios.values()), f"messages a second, to {UNITS[other]}; the worse", target
        )
        for kind, each in KINDS.items():
            unit = f"messages a second, to {UNITS[other]}; {each} on a connection"
            report.add(f"ratio_to_{other}_{kind}", ratios[kind], unit)
        for kind in KINDS:
            ratio = _ratio(theirs.cpu_us[kind], ours.cpu_us[kind])
            report.add(f"cpu_ratio_to_{other}_{kind}", ratio, "messages by CPU time of the server's process")
    for kind in KINDS:
        ratio = _ratio(subjects[TWO_WORKERS].per_second[kind], ours.per_second[kind])
        report.add(f"ratio_of_two_workers_{kind}", ratio, f"messages a second, to one process; {os.cpu_count()} cores")


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of each round's."""
    return median(mine / max(other, 1e-9) for mine, other in zip(ours, theirs, strict=True))


def _tell_figures(report: Report, subjects: Mapping[str, Subject]) -> None:
    for kind, each in KINDS.items():
        for name, subject in subjects.items():
            unit = f"messages a second, {UNITS[name]}; {each} on a connection"
            report.add(f"messages_per_second_{name}_{kind}", median(subject.per_second[kind]), unit)
            report.add(f"cpu_us_per_message_{name}_{kind}", median(subject.cpu_us[kind]), "us of the server's process")
        report.add(f"store_cpu_us_per_message_{kind}", median(subjects[OURS].store_us[kind]), "us of Valkey")


def _tell_log(report: Report, ours: Subject) -> None:
    """What the log says: that all was judged, and nobody was held back."""
    lines = ours.server.log.splitlines()
    verdicts = [line for line in lines if " verdict stage=" in line]
    judged = [line for line in verdicts if JUDGED.search(line)]
    plain = [line for line in judged if PLAIN.search(line) and " would=" not in line]
    assert sum(" result=delivered " in line for line in lines) == ours.messages
    unit = "lines of the log about MAIL, RCPT, DATA"
    report.add("verdicts_per_message", len(judged) / ours.messages, unit, exactly(3))
    unit = "lines of the log with another verdict than a plain yes"
    report.add("rules_fired", len(verdicts) - len(plain), unit, exactly(0))


if __name__ == "__main__":
    main("smtp", measure)
