"""Programs of ours as processes, each kept running until a signal comes.

    program = Program("the API", command, stop=stop, drain_seconds=5)
    await program.run()         its exit status, when it never became ready; 0 or its status after `stop`
    await program.ready         what it says that it listens on, as soon as it does

A program says on its standard output where it listens, a line ``ready KIND HOST:PORT`` for each address, and then
``ready``. One that dies after that is started again; one that ends before is a mistake to be read, not to be repeated.
When this process dies, however it dies, its programs are told (on Linux), so that they keep no port from the next one.

Under systemd one of them is the one that `speaks`: it inherits NOTIFY_SOCKET, and what is meant for the process that
systemd has started (LISTEN_PID, WATCHDOG_PID) is made to mean it, each time anew. The others are not told of systemd.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

RESTART_SECONDS = 1.0
STOP_MARGIN_SECONDS = 10.0
FIRST_FROM_SYSTEMD = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""
MEANT_FOR = ("LISTEN_PID", "WATCHDOG_PID")
OF_SYSTEMD = (*MEANT_FOR, "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_USEC", "NOTIFY_SOCKET")

log = logging.getLogger("reputon.serve")

Addresses = list[tuple[str, str]]
"""What is spoken, and where."""


class Program:
    """One program. Make it inside the event loop."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        stop: asyncio.Event,
        drain_seconds: float,
        speaks: bool = False,
    ) -> None:
        self.name = name
        self.ready: asyncio.Future[Addresses] = asyncio.get_running_loop().create_future()
        """Where it listens, when it did for the first time."""
        self._command = command
        self._stop = stop
        self._drain_seconds = drain_seconds
        self._speaks = speaks
        self._process: asyncio.subprocess.Process | None = None

    def reload(self) -> None:
        """Have it read the rules anew."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has just ended, and the next one reads the file anyway
                self._process.send_signal(signal.SIGHUP)

    async def run(self) -> int:
        """Start it, and again when it dies, until `stop`; its exit status."""
        stopping = asyncio.create_task(self._stop.wait())
        try:
            while True:
                process = self._process = await self._started()
                addresses = asyncio.create_task(_addresses(process))
                await asyncio.wait({addresses, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    addresses.cancel()
                    return await self._stopped(process)
                if not addresses.result() and not self.ready.done():
                    return await process.wait()
                self._is_ready(addresses.result())
                reading = asyncio.create_task(_read_on(process))
                reading.add_done_callback(lambda task: task.cancelled() or task.exception())
                ended = asyncio.create_task(process.wait())
                await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    return await self._stopped(process)
                log.error("%s ended with %d and is started again", self.name, process.returncode)
                await asyncio.wait({stopping}, timeout=RESTART_SECONDS)
        finally:
            stopping.cancel()

    def _is_ready(self, addresses: Addresses) -> None:
        if not self.ready.done():
            self.ready.set_result(addresses)
        elif addresses:
            log.warning("%s is ready again", self.name)

    async def _started(self) -> asyncio.subprocess.Process:
        own = str(os.getpid())
        passes = self._speaks and os.environ.get("LISTEN_PID") == own
        passed = int(os.environ.get("LISTEN_FDS", "0")) if passes else 0
        unsaid = {name: value for name, value in os.environ.items() if name not in OF_SYSTEMD}
        return await asyncio.create_subprocess_exec(
            *self._command,
            stdout=asyncio.subprocess.PIPE,
            env=None if self._speaks else unsaid,
            pass_fds=range(FIRST_FROM_SYSTEMD, FIRST_FROM_SYSTEMD + passed),
            preexec_fn=_before_program([name for name in MEANT_FOR if os.environ.get(name) == own]),
        )

    async def _stopped(self, process: asyncio.subprocess.Process) -> int:
        """End it; its exit status, 0 when a signal of ours met it on its way out."""
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(self._drain_seconds + STOP_MARGIN_SECONDS):
                status = await process.wait()
        except TimeoutError:
            process.kill()
            return await process.wait()
        return 0 if status in (-signal.SIGTERM, -signal.SIGINT) else status


async def _addresses(process: asyncio.subprocess.Process) -> Addresses:
    """What a program says it listens on; nothing when it ends instead."""
    assert process.stdout is not None
    addresses: Addresses = []
    while line := await process.stdout.readline():
        match line.decode().split():
            case ["ready", kind, address]:
                addresses.append((kind, address))
            case ["ready"]:
                return addresses
    return []


async def _read_on(process: asyncio.subprocess.Process) -> None:
    """Read what a program prints later, such as a policy in Python: nobody else does, and it would wait for ever."""
    assert process.stdout is not None
    while await process.stdout.read(65_536):
        pass


def _before_program(meant_for: list[str]) -> Callable[[], None]:
    """In the child: be told when the parent dies (Linux: PR_SET_PDEATHSIG); be deaf to SIGHUP until it has an ear.

    Only here is it known which process what systemd says is `meant_for`.
    """

    def in_child() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)
        for name in meant_for:
            os.environ[name] = str(os.getpid())

    return in_child
