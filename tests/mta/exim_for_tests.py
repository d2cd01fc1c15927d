"""An Exim of our own: unpacked by `unpack_exim.sh`, running in a directory of its own, on a free port of loopback.

    with exim("inet:127.0.0.1:10040") as server:
        with smtplib.SMTP("127.0.0.1", server.port) as smtp:
            smtp.sendmail("a@example.com", ["bob@example.net"], "Subject: x\\n\\nx\\n")
        server.wait_for_log("Completed", 1)

It asks the policy service with the ACLs of `deploy/mta/exim/acl.conf`. It takes mail for example.net, where everybody
is there but ``nobody``, and throws it away; its log says which X-Reputon field a message had.
"""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import SYSTEM_PATH, free_port, missing, wait_until

SNIPPET = Path(__file__).resolve().parents[2] / "deploy" / "mta" / "exim" / "acl.conf"
UNPACK = "tests/mta/unpack_exim.sh"
UNPACKED = Path(os.environ.get("REPUTON_EXIM", "/opt/reputon-exim")) / "usr" / "sbin"
USER = "Debian-exim"

MAIN = """
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
pid_file_path = {directory}/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
primary_hostname = mx.example.net
smtp_accept_max = 50
host_lookup =
rfc1413_hosts =
keep_environment =
tls_advertise_hosts =
acl_smtp_rcpt = acl_check_rcpt
acl_smtp_data = acl_check_data
"""
REST = """
acl_check_rcpt:
  require verify = recipient
  require acl = acl_reputon_rcpt
  discard acl = acl_reputon_discards
  accept

acl_check_data:
  require acl = acl_reputon_data
  discard acl = acl_reputon_discards
  warn log_message = tagged: $h_X-Reputon:
       condition = ${if def:h_X-Reputon:}
  accept

begin routers

nobody:
  driver = redirect
  local_parts = nobody
  allow_fail
  data = :fail: no such user

all:
  driver = redirect
  domains = example.net
  data = :blackhole:
"""


class Exim:
    """The running server."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self.log = log

    def wait_for_log(self, text: str, times: int) -> None:
        """Wait until the log has so many lines with a text."""
        wait_until(lambda: self.log.read_text().count(text) >= times, f"{times} times {text!r} in the log", 30)


def program() -> str:
    """Where Exim is; without it the test is skipped."""
    path = shutil.which("exim4", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}:{UNPACKED}")
    if path is None:
        missing(UNPACK)
    return path


@contextmanager
def exim(asked: str, away: str = "action=DUNNO") -> Iterator[Exim]:
    """An Exim for as long as the block runs, which asks `asked`, such as "inet:127.0.0.1:10040"."""
    path = program()
    if os.geteuid():
        missing("an Exim of our own is started by root only")
    directory = Path(tempfile.mkdtemp(prefix="reputon-exim-"))
    try:
        directory.chmod(0o755)
        (directory / "spool").mkdir()
        port = free_port()
        configuration = directory / "exim.conf"
        configuration.write_text(_configuration(directory, port, asked, away, program=path))
        for each in (directory, directory / "spool"):
            shutil.chown(each, USER, USER)
        with (directory / "output").open("wb") as output:
            daemon = subprocess.Popen([path, "-C", str(configuration), "-bdf"], stdout=output, stderr=output)
        try:
            wait_until(lambda: daemon.poll() is not None or _listens(port), "Exim is ready")
            assert daemon.poll() is None, (directory / "output").read_text()
            yield Exim(port, directory / "mainlog")
        finally:
            daemon.terminate()
            daemon.wait(10)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _configuration(directory: Path, port: int, asked: str, away: str, *, program: str) -> str:
    snippet = SNIPPET.read_text().replace("inet:127.0.0.1:10040", asked).replace("= action=DUNNO", f"= {away}")
    macros, acls = snippet.split("\nbegin acl\n")
    return "".join((macros, MAIN.format(directory=directory, port=port, program=program), "\nbegin acl\n", acls, REST))


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
