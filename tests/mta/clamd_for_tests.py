"""ClamAV's clamd of our own: on a free port of loopback and on a socket, with a database of one signature.

What has "reputon test virus" in it is Test.Signature (clamd adds ".UNOFFICIAL"). Messages of up to 1 MB are taken.
"""

import os
import pwd
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import ServerProcess, free_port, require_binary

VIRUS = b"reputon test virus"
MAX_OCTETS = 2**20
CONFIG = """
Foreground yes
DatabaseDirectory {directory}/database
LocalSocket {directory}/clamd.sock
TCPSocket {port}
TCPAddr 127.0.0.1
StreamMaxLength {most}
MaxThreads 2
TemporaryDirectory {directory}
User {user}
"""


class Clamd(ServerProcess):
    """The running server."""

    def __init__(self, binary: str, directory: Path) -> None:
        self.port = free_port()
        self.socket = directory / "clamd.sock"
        (directory / "database").mkdir()
        (directory / "database" / "test.ndb").write_text(f"Test.Signature:0:*:{VIRUS.hex()}\n")
        user = pwd.getpwuid(os.geteuid()).pw_name
        config = CONFIG.format(directory=directory, port=self.port, most=MAX_OCTETS, user=user)
        (directory / "clamd.conf").write_text(config)
        command = [binary, f"--config-file={directory / 'clamd.conf'}"]
        super().__init__(command, directory, lambda: "Self checking" in self.log)


@contextmanager
def clamd() -> Iterator[Clamd]:
    """Debian's clamd for as long as the block runs; without it the test is skipped."""
    binary = require_binary("clamd", "clamav-daemon")
    with tempfile.TemporaryDirectory(prefix="reputon-clamd-") as directory:
        server = Clamd(binary, Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.stop()
