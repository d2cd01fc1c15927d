"""What the policy service does for a Postfix: questions a second, and how long an answer takes.

The service is a process of its own (`benchmarks.policy_process`) with one Valkey over its unix socket as its store, as
an embedded one is asked, and writes its log to a file. The mail server is this process: `CONNECTIONS` connections, each
of which asks as one smtpd does. Every message comes in a session of its own and has one recipient, and is asked about
twice, at RCPT and at END-OF-MESSAGE: five decisions of the engine (connect, helo, mail, rcpt, data) for two questions.
The limits are so high that nobody is refused.

* ``requests_per_second``: all connections ask again as soon as they are answered. The median of the rounds, by the
  clock on the wall: this process and Valkey have to have cores of their own.
* ``requests_per_second_of_cpu``: the same by the CPU time of the service.
* ``recipients_per_second``: questions about the further recipients of messages that have many, one decision each.
* ``p99_ms_half_load``: an open loop at half of that rate with Poisson arrivals (`benchmarks.arrivals.due`), spread over
  the connections in turn. Latency counts from the moment at which a question was due, so that a stall is charged to all
  that should have come meanwhile; a question whose connection has another one under way waits for it. Beside it the
  same of a question that is answered at once, ``nothing_p99_ms_half_load``: nobody can be below that on this machine.
* ``postfwd_requests_per_second``: the same stream through Debian's postfwd, where it is installed
  (`benchmarks.postfwd`). It keeps three counters in its own memory, and knows nothing of other hosts.

An answer that is not DUNNO ends the run: a fallback is fast.
"""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, repeat
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

from benchmarks import postfwd as other
from benchmarks.arrivals import due
from benchmarks.load import events
from benchmarks.report import Report, at_least, at_most, main
from tests.servers import RedisServer, valkey_server

CONNECTIONS = 32
OF_ONE_MESSAGE = 99
"""Recipients, where it is they that are measured; with END-OF-MESSAGE a hundred questions."""
DUNNO = b"action=DUNNO\n\n"
GENERATOR_SECONDS = 0.2
QUESTION = """request=smtpd_access_policy
protocol_state={state}
protocol_name=ESMTP
client_address={client}
client_name=mail.example.com
client_port={port}
reverse_client_name=mail.example.com
server_address=192.0.2.25
server_port=25
helo_name={helo}
sender={sender}
recipient={recipient}
recipient_count={count}
queue_id={queue}
instance={process:x}.66f1a0b3.{number:x}.0
size={size}
etrn_domain=
stress=
sasl_method=
sasl_username=
sasl_sender=
ccert_subject=
ccert_issuer=
ccert_fingerprint=
ccert_pubkey_fingerprint=
encryption_protocol=TLSv1.3
encryption_cipher=TLS_AES_256_GCM_SHA384
encryption_keysize=256
policy_context=

"""
NOTHING = QUESTION.format(
    state="NONE", client="", port="", helo="", sender="", recipient="", count=0, queue="", process=0, number=0, size=0
).encode()


def stream(process: int, count: int) -> list[bytes]:
    """What one smtpd process asks about `count` messages: two questions each."""
    asked = []
    for number, event in enumerate(events(count, seed=process)):
        said = {
            "client": event.session.client,
            "port": 1_024 + number % 60_000,
            "helo": event.session.helo,
            "sender": event.sender,
            "recipient": event.recipient,
            "process": 4_096 + process,
            "number": number,
        }
        asked.append(QUESTION.format(state="RCPT", count=0, queue="", size=0, **said).encode())
        end = QUESTION.format(state="END-OF-MESSAGE", count=1, queue=f"4F{number:06X}", size=4_000 + number, **said)
        asked.append(end.encode())
    return asked


def crowd(process: int, count: int) -> list[bytes]:
    """What one smtpd process asks about messages of `OF_ONE_MESSAGE` recipients each: `count` questions."""
    asked = []
    for number, event in enumerate(events(count, seed=process)):
        message, position = divmod(number, OF_ONE_MESSAGE + 1)
        is_end = position == OF_ONE_MESSAGE
        said = {
            "state": "END-OF-MESSAGE" if is_end else "RCPT",
            "client": "192.0.2.7",
            "port": 1_024 + message,
            "helo": "mail.example.com",
            "sender": f"list{process}@example.org",
            "recipient": "" if is_end else f"{number}.{event.recipient}",
            "count": OF_ONE_MESSAGE if is_end else 0,
            "queue": "4F00",
            "process": 4_096 + process,
            "number": 1_000_000 + message,
            "size": 0,
        }
        asked.append(QUESTION.format(**said).encode())
    return asked


class Smtpd(asyncio.Protocol):
    """A connection that asks one question after the other."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.endswith(b"\n\n") and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionResetError("the service has hung up"))

    async def ask(self, question: bytes) -> None:
        """Ask, and wait for the answer."""
        assert self._transport is not None
        self._answer, self._waiting = b"", asyncio.get_running_loop().create_future()
        self._transport.write(question)
        await self._waiting
        if self._answer.lower() != DUNNO.lower():  # postfwd spells it in small letters
            raise RuntimeError(f"answered {self._answer!r}, so nothing was measured")

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


async def connected(port: int) -> list[Smtpd]:
    """All connections of a mail server."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Smtpd, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]


async def saturate(smtpds: Sequence[Smtpd], asked: Sequence[Iterator[bytes]], each: int) -> float:
    """Seconds for `each` questions of every connection."""

    async def one_after_another(smtpd: Smtpd, mine: Iterator[bytes]) -> None:
        for question in islice(mine, each):
            await smtpd.ask(question)

    begun = time.perf_counter()
    await asyncio.gather(*map(one_after_another, smtpds, asked))
    return time.perf_counter() - begun


async def pace(smtpds: Sequence[Smtpd], asked: Sequence[Iterator[bytes]], rate: float, count: int) -> list[float]:
    """Milliseconds from when each question was due until its answer, at a rate."""
    clock, latencies = time.perf_counter, []
    queues: list[asyncio.Queue[float | None]] = [asyncio.Queue() for _ in smtpds]
    start = clock() + GENERATOR_SECONDS
    command = [sys.executable, "-m", "benchmarks.arrivals", str(start), str(rate), str(count)]

    async def answered(smtpd: Smtpd, mine: Iterator[bytes], queue: asyncio.Queue[float | None]) -> None:
        while (moment := await queue.get()) is not None:
            await smtpd.ask(next(mine))
            latencies.append((clock() - moment) * 1e3)

    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: ASYNC220 - it takes no time to start
        assert process.stdout is not None
        arrivals, over, loop = process.stdout.fileno(), asyncio.Event(), asyncio.get_running_loop()
        waiting = iter(enumerate(due(start, rate, count)))

        def arrived() -> None:
            told = os.read(arrivals, 4_096)
            for number, moment in islice(waiting, len(told)):
                queues[number % len(queues)].put_nowait(moment)
            if not told:
                loop.remove_reader(arrivals)
                for queue in queues:
                    queue.put_nowait(None)
                over.set()

        loop.add_reader(arrivals, arrived)
        await asyncio.gather(*map(answered, smtpds, asked, queues), over.wait())
    assert len(latencies) == count
    return latencies


@contextmanager
def service(server: RedisServer) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """The policy service in a process of its own, and its port."""
    with TemporaryDirectory(prefix="reputon-bench-") as directory, (Path(directory) / "log").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.policy_process", server.unix_url]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process:
            assert process.stdin is not None and process.stdout is not None
            yield process, int(process.stdout.readline())
            process.stdin.close()


def cpu_seconds(pid: int) -> float:
    """CPU time of a process."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


async def measured(report: Report, process: subprocess.Popen[str], port: int) -> None:
    """Ours."""
    rounds, each = (2, 30) if report.quick else (7, 600)
    paced = 500 if report.quick else 10_000
    passes = 1 if report.quick else 3
    messages = (each * (rounds + 1) + passes * (paced // CONNECTIONS + 1)) // 2 + 1
    asked = [iter(stream(number, messages)) for number in range(CONNECTIONS)]
    gc.collect()
    gc.freeze()
    smtpds = await connected(port)
    await saturate(smtpds, asked, each)  # warms up
    per_second, per_cpu_second = [], []
    for _ in range(rounds):
        report.calibration.python()
        cpu = cpu_seconds(process.pid)
        seconds = await saturate(smtpds, asked, each)
        per_second.append(each * CONNECTIONS / seconds)
        per_cpu_second.append(each * CONNECTIONS / max(cpu_seconds(process.pid) - cpu, 0.01))
    unit = f"questions a second at {CONNECTIONS} connections"
    report.add_rounds("requests_per_second", per_second, unit, at_least(5_000))
    report.add_rounds("requests_per_second_of_cpu", per_cpu_second, "questions a second of the service's CPU")
    each = max(each, OF_ONE_MESSAGE + 1)
    many = [iter(crowd(number, each * rounds)) for number in range(CONNECTIONS)]
    of_crowds = [each * CONNECTIONS / await saturate(smtpds, many, each) for _ in range(rounds)]
    report.add_rounds("recipients_per_second", of_crowds, "questions a second about further recipients")
    rate = median(per_second) / 2
    await latency(report, smtpds, asked, rate, (passes, paced))
    for smtpd in smtpds:
        smtpd.close()


async def latency(
    report: Report, smtpds: Sequence[Smtpd], asked: Sequence[Iterator[bytes]], rate: float, paced: tuple[int, int]
) -> None:
    """Percentiles at a rate, of so many passes of so many questions; beside them those of one that is not judged."""
    passes, count = paced
    percentiles: dict[str, list[float]] = {"p50": [], "p99": [], "p999": [], "nothing_p50": [], "nothing_p99": []}
    nothing = [repeat(NOTHING) for _ in smtpds]
    for _ in range(passes):
        report.calibration.python()
        cuts = quantiles(await pace(smtpds, asked, rate, count), n=1_000)
        for name, cut in (("p50", 499), ("p99", 989), ("p999", 998)):
            percentiles[name].append(cuts[cut])
        cuts = quantiles(await pace(smtpds, nothing, rate, count), n=1_000)
        percentiles["nothing_p50"].append(cuts[499])
        percentiles["nothing_p99"].append(cuts[989])
    for name, values in percentiles.items():
        what = "of a question that nothing is judged for" if name.startswith("nothing") else "until its answer"
        unit = f"ms from when it was due, {what}, {rate:.0f} a second"
        report.add_rounds(f"{name}_ms_half_load", values, unit, at_most(10) if name == "p99" else None)


async def compared(report: Report) -> None:
    """postfwd, where it is."""
    name = "postfwd_requests_per_second"
    program = other.binary()
    if program is None:
        report.add(name, None, "not installed: apt-get install -y postfwd")
        return
    rounds, each = (1, 10) if report.quick else (3, 100)
    with other.postfwd(program) as port:
        smtpds = await connected(port)
        asked = [iter(stream(number, each * (rounds + 1) // 2)) for number in range(CONNECTIONS)]
        await saturate(smtpds, asked, each)
        seconds = [await saturate(smtpds, asked, each) for _ in range(rounds)]
        report.add_rounds(name, [each * CONNECTIONS / each_ for each_ in seconds], "the same of postfwd, one process")
        for smtpd in smtpds:
            smtpd.close()


async def run(report: Report) -> None:
    """The benchmark, with servers of its own."""
    with valkey_server() as server:
        report.ran_on(server)
        with service(server) as (process, port):
            await measured(report, process, port)
            report.calibration.server("valkey", server)
    await compared(report)


def measure(report: Report) -> None:
    """The benchmark."""
    asyncio.run(run(report))


if __name__ == "__main__":
    main("policy_service", measure)
