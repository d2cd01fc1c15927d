"""A command at a terminal of its own: what it writes there, and Ctrl-C.

with at_terminal(site, "top", "--watch", columns=80) as terminal:
    terminal.until("Ctrl-C ends")
    assert terminal.interrupt() == 0
"""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.cli.site_for_tests import REPUTON, SECONDS, Site

OCTETS_AT_ONCE = 65_536


class Terminal:
    """The screen's side of a terminal, and the command at it."""

    def __init__(self, screen: int, process: "subprocess.Popen[bytes]") -> None:
        self._screen = screen
        self._process = process
        self.shown = ""
        """All that was written to it so far."""

    def until(self, text: str, times: int = 1) -> str:
        """Wait until a text was written so often; all that was written."""
        deadline = time.monotonic() + SECONDS
        while self.shown.count(text) < times:
            assert time.monotonic() < deadline, f"{text!r} is not in {self.shown!r}"
            assert self._read(1.0) or self._process.poll() is None, f"it ended: {self.shown!r}"
        return self.shown

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended; the exit status."""
        deadline = time.monotonic() + SECONDS
        while self._process.poll() is None:
            assert time.monotonic() < deadline, f"it does not end: {self.shown!r}"
            self._read(0.05)
        while self._read(0.0):
            pass
        return self._process.returncode

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._screen], [], [], seconds)
        try:
            octets = os.read(self._screen, OCTETS_AT_ONCE) if ready else b""
        except OSError:  # the other side is closed
            return False
        self.shown += octets.decode(errors="replace")
        return bool(octets)


@contextmanager
def at_terminal(site: Site, *arguments: str, columns: int = 80, lines: int = 24) -> Iterator[Terminal]:
    """The command at a terminal of that size, for as long as the block runs."""
    screen, own = pty.openpty()
    fcntl.ioctl(own, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    environment = {name: value for name, value in site.surroundings().items() if name not in {"COLUMNS", "LINES"}}
    process = subprocess.Popen(
        [REPUTON, *arguments],
        env=environment | {"TERM": "xterm-256color"},
        stdin=own,
        stdout=own,
        stderr=own,
        start_new_session=True,
    )
    os.close(own)
    try:
        yield Terminal(screen, process)
    finally:
        process.kill()
        process.wait()
        os.close(screen)
