"""How a parent hears its workers, and how the world hears that mail is taken (`reputation.notify` tells systemd).

A parent hears a worker with an `Ear`: a pair of sockets, of which the worker inherits one (``--report``). Nobody else
can speak into it, as somebody could into a socket that has a name.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence

from reputation.notify import Notifier
from smtp_frontend.listeners import Listener

MAX_REPORT_BYTES = 4_096


def announce(listeners: Sequence[Listener], notifier: Notifier) -> None:
    """Say that we take mail: on standard output, where `reputon serve` reads it, and to the supervisor."""
    for listener in listeners:
        print(f"ready {listener.kind} {listener.name}")  # noqa: T201 - the supervisor reads it
    print("ready", flush=True)  # noqa: T201 - the supervisor reads it
    notifier.ready("ready on " + ", ".join(f"{each.kind} {each.name}" for each in listeners))


class Ear:
    """Where a parent hears one worker. `mouth` is what the worker inherits; close it here when he has it."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self._own, self.mouth = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._own.setblocking(False)
        self._hear = hear
        asyncio.get_running_loop().add_reader(self._own, self._read)

    def _read(self) -> None:
        try:
            report = self._own.recv(MAX_REPORT_BYTES)
        except OSError:
            report = b""
        if not report:  # the worker has ended
            self.close()
            return
        self._hear(report.decode(errors="replace").partition("\n")[0])

    def close(self) -> None:
        """Hear no more."""
        if self._own.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._own)
        self._own.close()
        self.mouth.close()
