"""A Dovecot of our own: only its authentication service, in a directory of its own, on a socket and a port of loopback.

It knows alice@example.net ("open sesame"); forbidden@example.net ("x"), who may not log in; near@example.net ("x"), who
may from 192.0.2.0/24 only. Users of broken.example stand in a file that it cannot read.
"""

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.servers import ServerProcess, free_port, missing, require_binary

PACKAGE = "dovecot-core"
CONFIG = """
base_dir = {directory}/run
state_dir = {directory}/run
log_path = /dev/stderr
auth_verbose = yes
protocols =
ssl = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
auth_cache_size = 0
passdb {{
  driver = passwd-file
  args = {directory}/users
  username_filter = !*@broken.example
}}
passdb {{
  driver = passwd-file
  args = {directory}/unreadable
  username_filter = *@broken.example
}}
userdb {{
  driver = static
  args = uid=65534 gid=65534 home=/nonexistent
}}
service auth {{
  unix_listener {directory}/client {{
    mode = 0666
  }}
  inet_listener {{
    address = 127.0.0.1
    port = {port}
  }}
}}
service stats {{
  chroot =
}}
"""
USERS = """
alice@example.net:{PLAIN}open sesame
forbidden@example.net:{PLAIN}x::::::nologin
near@example.net:{PLAIN}x::::::allow_nets=192.0.2.0/24
"""


class Dovecot(ServerProcess):
    """The running service."""

    def __init__(self, program: str, directory: Path) -> None:
        self.port = free_port()
        self.socket = directory / "client"
        super().__init__([program, "-F", "-c", directory / "dovecot.conf"], directory, self._listens)

    @property
    def url(self) -> str:
        """By its socket."""
        return f"dovecot:{self.socket}"

    @property
    def tcp_url(self) -> str:
        """By TCP."""
        return f"dovecot://127.0.0.1:{self.port}"

    def kill_service(self, name: str) -> None:
        """End one of its processes as a crash does; it starts another when somebody asks."""
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # another process has ended
                pid, command, _, parent, *_ = status.read_text().split(" ", 4)
                if int(parent) == self.pid and command == f"({name})":
                    os.kill(int(pid), signal.SIGKILL)

    def _listens(self) -> bool:
        try:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(self.socket))
        except OSError:
            return False
        return True


@contextmanager
def dovecot(mechanisms: str = "plain") -> Iterator[Dovecot]:
    """Dovecot's service for as long as the block runs."""
    program = require_binary("dovecot", PACKAGE)
    if os.geteuid():
        missing("a Dovecot of our own is started by root only")
    with tempfile.TemporaryDirectory(prefix="reputon-test-dovecot-") as name:
        directory = Path(name)
        directory.chmod(0o755)  # its processes are not root
        server = Dovecot(program, directory)
        (directory / "run").mkdir()
        config = CONFIG.format(directory=directory, port=server.port, mechanisms=mechanisms)
        (directory / "dovecot.conf").write_text(config)
        (directory / "users").write_text(USERS.lstrip())
        (directory / "unreadable").touch(0o000)
        server.start()
        try:
            yield server
        finally:
            server.stop()
