"""Tells a supervisor how a program is: systemd (sd_notify(3)), or a parent of ours.

    READY=1            we serve, or the rules have been read anew
    RELOADING=1        they are being read, with MONOTONIC_USEC= beside it as `Type=notify-reload` wants
    STOPPING=1         nobody new is let in
    STATUS=...         for people
    WATCHDOG=1         the event loop turns, said at half of WATCHDOG_USEC

One datagram each, on the socket that NOTIFY_SOCKET names; ``@`` begins an abstract one. A supervisor that does not
listen is nobody's trouble: what it was to be told is lost (a line in the log says so), and the program goes on.

Bugs: systemd takes word of the unit's main process only, unless the unit has ``NotifyAccess=all``.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress

PATIENCE_SECONDS = 1.0
"""A supervisor that does not empty its socket holds us up no longer."""
READY, RELOADING, STOPPING, ALIVE = "READY=1", "RELOADING=1", "STOPPING=1", "WATCHDOG=1"

log = logging.getLogger("reputon.notify")


class Notifier:
    """Speaks to a supervisor, if there is one."""

    def __init__(self, to: socket.socket | None = None, *, alive_within_seconds: float = 0.0) -> None:
        self._to = to
        self.alive_within_seconds = alive_within_seconds
        """How long the supervisor waits for the next `alive`; 0: for ever."""

    @classmethod
    def of(cls, environ: Mapping[str, str], report: int | None = None) -> "Notifier":
        """For the supervisor of `environ`, or the parent at the other end of the descriptor `report`."""
        if report is not None:
            to: socket.socket | None = socket.socket(fileno=report)
        else:
            to = _connected(environ.get("NOTIFY_SOCKET", ""))
        if to is None:
            return cls()
        to.set_inheritable(False)
        to.settimeout(PATIENCE_SECONDS)
        is_ours = report is not None or environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        within = environ.get("WATCHDOG_USEC", "0") if is_ours else "0"
        return cls(to, alive_within_seconds=int(within) / 1e6 if within.isdigit() else 0.0)

    def ready(self, status: str = "") -> None:
        """We serve; after `reloading`: the rules were read."""
        self._tell(READY, status)

    def reloading(self) -> None:
        """The rules are being read anew."""
        self._tell(f"{RELOADING}\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}", "")

    def stopping(self, status: str = "") -> None:
        """Nobody new is let in."""
        self._tell(STOPPING, status)

    def alive(self) -> None:
        """We are not stuck."""
        self._tell(ALIVE, "")

    async def stay_alive(self) -> None:
        """Say so for as long as this task runs, twice as often as the supervisor wants to hear it."""
        while self.alive_within_seconds:
            self.alive()
            await asyncio.sleep(self.alive_within_seconds / 2)

    def _tell(self, state: str, status: str) -> None:
        if self._to is not None:
            with suppress(OSError):
                self._to.send("\n".join([state, *([f"STATUS={status}"] if status else [])]).encode())


def _connected(address: str) -> socket.socket | None:
    if not address.startswith(("/", "@")):
        return None  # nobody, or a supervisor of a virtual machine
    to = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        to.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.warning("the supervisor at NOTIFY_SOCKET=%s is not told how we are: %s", address, error)
        to.close()
        return None
    return to
