"""The programs as processes: the front end and `reputon serve`, each in a directory of its own, and mail through them.

Every one that was `running` says at the end that nobody of it is left.
"""

import re
import smtplib
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.servers import ServerProcess, wait_until

BIN = Path(sys.executable).parent
ALICE = "alice@example.com"
SENDER_RATE = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["{limit}"]
action = "tempfail"
on_store_failure = "{on_store_failure}"
"""


def config_of(
    url: str, *, prefix: str = "rp", limit: str = "30/1m", on_store_failure: str = "accept", listen: str = "127.0.0.1:0"
) -> str:
    return f"""
[store]
url = "{url}"
prefix = "{prefix}"
deadline_seconds = 5.0

[smtp]
listen = ["{listen}"]
hostname = "mx.example.net"
next_hop = "maildir:mail"
drain_seconds = 5.0

[api]
listen = []
""" + SENDER_RATE.format(limit=limit, on_store_failure=on_store_failure)


class Program(ServerProcess):
    """The front end, or `reputon serve`, with its configuration and mail in `directory`."""

    start_seconds = 30.0  # several processes, one after the other, on a machine that others use as well

    def __init__(self, command: list[str | Path], directory: Path, config: str, port_pattern: str) -> None:
        directory.mkdir(exist_ok=True)
        self.config = directory / "reputon.toml"
        self.config.write_text(config, encoding="utf-8")
        self._port_pattern = port_pattern
        self._started_at = 0
        self.pids: set[int] = set()
        """Everybody who ever belonged to it, as far as we have looked."""
        super().__init__([*command, "--config", self.config], directory, lambda: bool(self._ports()))

    def start(self) -> None:
        self._started_at = len(self.log) if (self.directory / "output.log").exists() else 0
        super().start()
        self.look()

    def stop(self) -> int | None:
        self.look()
        return super().stop()

    def look(self) -> None:
        """Remember who belongs to the program now."""
        if self.running:
            self.pids |= {self.pid, *descendants(self.pid)}

    def _ports(self) -> list[str]:
        return re.findall(self._port_pattern, self.log[self._started_at :])

    @property
    def port(self) -> int:
        return int(self._ports()[-1])

    @property
    def mail(self) -> list[Path]:
        """What was delivered."""
        return sorted((self.directory / "mail" / "new").glob("*"))

    def lines(self, words: str) -> list[str]:
        """Lines of the log that hold `words`."""
        return [line for line in self.log.splitlines() if words in line]


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """The program, for as long as the block runs; nobody of it is left after that."""
    program.start()
    try:
        yield program
    finally:
        program.stop()
    wait_until(lambda: not any(map(is_alive, program.pids)), f"all of {program.pids} are gone")


READY = r"(?m)^ready smtp 127\.0\.0\.1:(\d+)\n(?:ready \S+ \S+\n)*ready$"
SHOWN = r"  smtp +127\.0\.0\.1:(\d+)\n[\s\S]*Ctrl-C stops it"


def front_end(directory: Path, config: str, *options: str) -> Program:
    return Program([sys.executable, "-m", "smtp_frontend", *options], directory, config, READY)


def serve(directory: Path, config: str, *options: str) -> Program:
    return Program([BIN / "reputon", "serve", *options], directory, config, SHOWN)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def listens(port: int) -> bool:
    """Whether somebody listens there, by what the kernel says: to connect would leave a session."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A" for line in lines)


def descendants(pid: int) -> list[int]:
    """Children, and theirs."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [pid for child in children for pid in (child, *descendants(child))]


def child_of(program: Program, word: str) -> int | None:
    """The pid of the child that has `word` in its command line."""
    for pid in descendants(program.pid):
        try:
            if word in Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        except (FileNotFoundError, ProcessLookupError):
            continue
    return None


def send(port: int, count: int = 1, sender: str = ALICE) -> list[str]:
    """Messages on one connection; the answer that each of them got."""
    with smtplib.SMTP("127.0.0.1", port, local_hostname="client.example.com", timeout=30) as client:
        client.ehlo()
        return [_send_one(client, sender, number) for number in range(count)]


def _send_one(client: smtplib.SMTP, sender: str, number: int) -> str:
    for command in (f"MAIL FROM:<{sender}>", "RCPT TO:<bob@example.net>"):
        code, text = client.docmd(command)
        if code != 250:
            client.docmd("RSET")
            return f"{code} {text.decode()}"
    code, text = client.data(f"Subject: number {number}\r\n\r\nhello\r\n")
    return f"{code} {text.decode()}"


@dataclass
class Flow:
    """Messages one after the other, all the time, until it is told to stop."""

    port: int
    answers: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with smtplib.SMTP("127.0.0.1", self.port, local_hostname="client.example.com", timeout=30) as client:
            client.ehlo()
            while not self._stop.is_set():
                self.answers.append(_send_one(client, ALICE, len(self.answers)))

    def goes_on(self, more: int = 10) -> None:
        enough = len(self.answers) + more
        wait_until(lambda: len(self.answers) >= enough, f"mail flows, {more} more messages")

    @contextmanager
    def flowing(self) -> Iterator["Flow"]:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(self.run)
            try:
                self.goes_on()
                yield self
            finally:
                self._stop.set()
                running.result()
