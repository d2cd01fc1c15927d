"""A HAProxy of our own, from the snippet that operators get (deploy/mta/haproxy.cfg), before servers on loopback.

    with haproxy({"smtp": mx.port}) as balancer:
        connect to balancer.ports["smtp"] from 127.0.0.2
        balancer.health("smtp")     "UP", or "DOWN", and what the last check has found: ("UP", "L7OK")

Only the addresses, the ports and the time between two checks are others than in the snippet; `changed` may change more
of it. The second server of the snippet is left out. HAProxy connects from 127.0.0.1.
"""

import csv
import re
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.servers import ServerProcess, free_port, require_binary

SNIPPET = Path(__file__).resolve().parents[2] / "deploy" / "mta" / "haproxy.cfg"
GLOBAL = """
global
    log stdout format raw local0
    stats socket {directory}/haproxy.sock level admin
"""


class HaProxy(ServerProcess):
    """The running load balancer."""

    def __init__(self, program: str, directory: Path, ports: Mapping[str, int]) -> None:
        self.ports = ports
        """Where clients connect to, by the name of the frontend."""
        super().__init__([program, "-db", "-f", "haproxy.cfg"], directory, self._listens)

    def _listens(self) -> bool:
        try:
            self._told("show info")
        except OSError:
            return False
        return True

    def health(self, backend: str) -> tuple[str, str]:
        """(state, outcome of the last check) of a server, such as ("UP", "L7OK"); see HAProxy's `show stat`."""
        rows = csv.DictReader(self._told("show stat").removeprefix("# ").splitlines())
        (row,) = [each for each in rows if (each["pxname"], each["svname"]) == (backend, "mx1")]
        return row["status"], row["check_status"].removeprefix("* ")

    def _told(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.directory / "haproxy.sock"))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65_536), b"")).decode()


@contextmanager
def haproxy(servers: Mapping[str, int], changed: Callable[[str], str] = str) -> Iterator[HaProxy]:
    """A HAProxy before the ports of `servers`, by the name of the backend; the snippet's others lead nowhere."""
    program = require_binary("haproxy", "haproxy")
    directory = Path(tempfile.mkdtemp(prefix="reputon-haproxy-"))
    try:
        snippet = changed(SNIPPET.read_text(encoding="utf-8"))
        names = re.findall(r"^frontend (\w+)", snippet, re.MULTILINE)
        ports = {name: free_port() for name in names}
        text = GLOBAL.format(directory=directory) + on_loopback(snippet, ports, servers)
        (directory / "haproxy.cfg").write_text(text, encoding="utf-8")
        balancer = HaProxy(program, directory, ports)
        balancer.start()
        try:
            yield balancer
        finally:
            balancer.stop()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def on_loopback(snippet: str, ports: Mapping[str, int], servers: Mapping[str, int]) -> str:
    """The snippet for `ports` to listen on and `servers` to connect to, on loopback."""
    section, lines = "", []
    for line in snippet.splitlines():
        if found := re.match(r"(?:frontend|backend) (\w+)", line):
            section = found[1]
        if re.match(r" +(?:bind \[::\]|server mx2)", line):
            continue
        bound = re.sub(r"^( +bind ):\d+", rf"\g<1>127.0.0.1:{ports.get(section)}", line)
        led = re.sub(r"^( +server mx1 )[\d.:]+", rf"\g<1>127.0.0.1:{servers.get(section, 1)}", bound)
        lines.append(re.sub(r"\binter 10s", "inter 50ms", led))
    return "\n".join(lines) + "\n"
