"""rspamd's ratelimit module on loopback, for `benchmarks.peers`: a worker that is asked over HTTP, as an MTA asks it.

One worker with no other module loaded, on a Redis-compatible server of ours. Eighteen leaky buckets: each of the six
entities of a recipient in three windows. A bucket has a rate of its own, because rspamd keeps only the last of
several buckets with one selector. rspamd asks its server once for each bucket before the scan, and once more after it
to charge.

    with rspamd(binary(), server) as scanner:
        await scanner.ask(event)
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

from reputation.events import Rcpt
from tests.servers import SYSTEM_PATH, RedisServer, ServerProcess, free_port

SELECTORS = {
    "ip": "ip",
    "prefix": "ip.ipmask(24)",
    "sender": "from('smtp'):addr",
    "sender_domain": "from('smtp'):domain",
    "recipient": "rcpts('smtp'):addr.first",
    "recipient_domain": "rcpts('smtp'):domain.first",
}
WINDOWS = {"5m": "100000 / 5m", "1h": "1000000 / 1h", "24h": "10000000 / 1d"}
BUCKETS = len(SELECTORS) * len(WINDOWS)
MESSAGE = b"From: a@example.com\r\nSubject: hello\r\nMessage-ID: <1@example.com>\r\n\r\nhello\r\n"


def binary() -> str | None:
    """Where rspamd is; None where it is not installed."""
    return shutil.which("rspamd", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}:/usr/bin")


def _configuration(directory: Path, port: int, server: RedisServer) -> str:
    rates = "\n".join(
        f"""    {name}_{window} {{
      selector = "id('{window}');id('{name}');{selector}";
      bucket {{ burst = {rate.split()[0]}; rate = "{rate}"; }}
    }}"""
        for name, selector in SELECTORS.items()
        for window, rate in WINDOWS.items()
    )
    return f"""
options {{
  pidfile = "{directory}/rspamd.pid";
  filters = "";
  url_tld = "{directory}/domains";
  dns {{ nameserver = ["127.0.0.1:9:1"]; }}
  control_socket = "{directory}/rspamd.sock mode=0600";
  hs_cache_dir = "{directory}";
  history_file = "{directory}/history";
  cache_file = "{directory}/cache";
}}
logging {{ type = "console"; level = "error"; }}
worker "normal" {{ bind_socket = "127.0.0.1:{port}"; count = 1; }}
modules {{ path = "/usr/share/rspamd/plugins/ratelimit.lua"; }}
redis {{ servers = "127.0.0.1:{server.port}"; }}
ratelimit {{
  rates {{
{rates}
  }}
}}
"""


class Rspamd(ServerProcess):
    """The running scanner."""

    def __init__(self, program: str, directory: Path, server: RedisServer) -> None:
        self.port = free_port()
        configuration = directory / "rspamd.conf"
        (directory / "domains").write_text("com\nnet\n")  # to compile all of them takes a minute
        configuration.write_text(_configuration(directory, self.port, server))
        as_root = ["-i"] if os.geteuid() == 0 else []  # or it refuses
        super().__init__([program, "-f", *as_root, "-c", str(configuration)], directory, self._answers)

    @property
    def cpu_us(self) -> float:
        """CPU time of the main process and its workers."""
        ticks = 0
        for process in (self.pid, *_children(self.pid)):
            numbers = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            ticks += int(numbers[11]) + int(numbers[12])
        return ticks * 1e6 / os.sysconf("SC_CLK_TCK")

    async def ask(self, event: Rcpt) -> None:
        """Have an event judged; it closes each connection by itself."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(_request(event))
        answer = await reader.read()
        writer.close()
        if b"\r\n\r\n{" not in answer or b'"no action"' not in answer:
            raise RuntimeError(f"rspamd: {answer!r}")

    def _answers(self) -> bool:
        with suppress(OSError):
            connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
            connection.request("GET", "/ping")
            return connection.getresponse().status == 200
        return False


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _request(event: Rcpt) -> bytes:
    lines = (
        "POST /checkv2 HTTP/1.1",
        "Host: localhost",
        f"IP: {event.session.client}",
        f"Helo: {event.session.helo}",
        f"From: <{event.sender}>",
        f"Rcpt: <{event.recipient}>",
        f"Content-Length: {len(MESSAGE)}",
    )
    return "\r\n".join((*lines, "", "")).encode() + MESSAGE


@contextmanager
def rspamd(program: str, server: RedisServer) -> Iterator[Rspamd]:
    """rspamd, for as long as the block runs."""
    with tempfile.TemporaryDirectory(prefix="reputon-bench-") as directory:
        process = Rspamd(program, Path(directory), server)
        process.start()
        try:
            yield process
        finally:
            process.stop()
