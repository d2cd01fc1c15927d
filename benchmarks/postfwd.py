"""postfwd on loopback, for `benchmarks.policy_service`: one process of version 1, its counters in its own memory.

Three rates by sender, client and recipient, so high that nobody is refused. Its cache of answers is off: every
question of the stream is another one.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.servers import SYSTEM_PATH, free_port, wait_until

RULES = """
id=SENDER; protocol_state==RCPT; action=rate(sender/1000000/3600/450 4.7.1 too many messages)
id=CLIENT; protocol_state==RCPT; action=rate(client_address/1000000/3600/450 4.7.1 too many connections)
id=RCPT; protocol_state==RCPT; action=rate(recipient/1000000/3600/450 4.7.1 too many recipients)
"""


def binary() -> str | None:
    """Where postfwd is; None where it is not installed."""
    return shutil.which("postfwd1", path=f"{os.environ.get('PATH', '')}:{SYSTEM_PATH}")


@contextmanager
def postfwd(program: str) -> Iterator[int]:
    """The port of a postfwd that runs for as long as the block does. It is a daemon, which is stopped by its own id."""
    with tempfile.TemporaryDirectory(prefix="reputon-bench-") as name:
        directory, port = Path(name), free_port()
        directory.chmod(0o777)  # it is nobody, and writes its id here
        rules, own_id = directory / "rules", directory / "pid"
        rules.write_text(RULES)
        options = ["-d", "-P", "-n", "-c", "0", "-u", "nobody", "-g", "nogroup", "--pidfile", str(own_id)]
        command = [program, *options, "-i", "127.0.0.1", "-p", str(port), "-f", str(rules)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)
        wait_until(lambda: own_id.exists() and _listens(port), "postfwd is ready")
        try:
            yield port
        finally:
            os.kill(int(own_id.read_text()), signal.SIGTERM)
            wait_until(lambda: not _listens(port), "postfwd has ended")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
