"""Several processes that share the ports: a parent that starts them, keeps them running, and ends them.

    parent   binds sockets for each worker, passes SIGHUP on, starts again who dies; takes no mail itself
    worker   ``python -m smtp_frontend --config FILE --sockets smtp=5,... --report 9``, the front end

The parent holds the sockets, so who waits in the queue of a worker that has died is served by the one that comes after
it. The first worker is ready before the others start: what is wrong with the configuration or the store is told once.
One that dies before it was ever ready is such a mistake, and ends everything with its exit status.

SIGTERM to the parent: it listens no more, and all workers drain. SIGTERM to a worker: another one takes its place at
once, while it drains. SIGKILL to the parent: the kernel tells the workers (Linux), and they drain. A worker whose event
loop is stuck is killed, where a supervisor asks for a watchdog.

Bugs: limits on numbers, such as `smtp.max_sessions`, hold for each worker. A worker that is started again reads the
configuration as it is then, so what takes effect "at the next start" is in force in that one already.
"""

import asyncio
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from reputation.config import Settings
from reputation.notify import READY, STOPPING, Notifier
from smtp_frontend.listeners import Listener, close, doubled, handed_down, opened
from smtp_frontend.notify import Ear, announce

RESTART_SECONDS = 1.0
MAX_RESTART_SECONDS = 16.0
"""The pause before a worker is started again doubles up to this while it does not get ready."""
STOP_MARGIN_SECONDS = 5.0
EXIT_NOT_STARTED = 3
"""When a worker is killed before it was ready, and so has no exit status of its own."""
LEAVES = 256
"""In place of an exit status: it drains, and takes nobody new."""

log = logging.getLogger("reputon.workers")


async def supervise(settings: Settings, path: Path, count: int, notifier: Notifier) -> int:
    """Run `count` workers until SIGTERM or SIGINT; returns the exit status. Raises `ConfigError`."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    first = opened(settings, reuse_port=True)
    workers = Workers(path, [first, *(doubled(first) for _ in range(count - 1))], notifier)
    loop.add_signal_handler(signal.SIGHUP, workers.reload)
    watch = asyncio.create_task(workers.watch(), name="watch over workers")
    try:
        return await workers.run(stop)
    finally:
        await workers.end(settings.smtp.longest_drain_seconds + STOP_MARGIN_SECONDS)
        watch.cancel()


async def _first_of(*waited: asyncio.Future[Any]) -> None:
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)


class Worker:
    """One process, as its parent knows it."""

    def __init__(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.ready: asyncio.Future[None] = loop.create_future()
        self.leaving: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Task[int]
        self.heard_at = loop.time()
        self._process: asyncio.subprocess.Process

    async def start(self, command: Sequence[str], listeners: Sequence[Listener], ear: Ear) -> None:
        """Start the process on its sockets."""
        report = ear.mouth.fileno()
        self._process = await asyncio.create_subprocess_exec(
            *(*command, "--sockets", handed_down(listeners), "--report", str(report)),
            pass_fds=[*(listener.socket.fileno() for listener in listeners), report],
            preexec_fn=_die_with(os.getpid()),
        )
        ear.mouth.close()
        self.ended = asyncio.create_task(self._process.wait(), name=f"worker {self.number}")

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        with suppress(ProcessLookupError):
            self._process.send_signal(number)


class Workers:
    """All workers of one parent; `sets` are the sockets of each."""

    def __init__(self, path: Path, sets: Sequence[Sequence[Listener]], notifier: Notifier) -> None:
        self._command = (sys.executable, "-m", "smtp_frontend", "--config", str(path))
        self._sets = sets
        self._notifier = notifier
        self._running: set[Worker] = set()
        self._reloading: set[Worker] = set()
        self._ready: set[int] = set()
        self._first_is_ready = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> int:
        """Keep them running until `stop`; the exit status, that of a worker when one cannot be started."""
        keeping = {asyncio.create_task(self._keep(*each)) for each in enumerate(self._sets, 1)}
        stopping = asyncio.create_task(stop.wait())
        done, _ = await asyncio.wait({*keeping, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in {*keeping, stopping} - done:
            task.cancel()
        await asyncio.gather(*keeping, stopping, return_exceptions=True)
        return 0 if stop.is_set() else max(task.result() for task in done & keeping)

    async def end(self, within_seconds: float) -> None:
        """Listen no more, let all drain, and kill who does not end in time."""
        for listeners in self._sets:
            close(listeners)
        if not self._running:
            return
        self._notifier.stopping(f"draining {len(self._running)} workers")
        log.info("draining %d workers", len(self._running))
        ended = {worker.ended for worker in self._running}
        for worker in self._running:
            worker.send(signal.SIGTERM)
        _, left = await asyncio.wait(ended, timeout=within_seconds)
        for worker in self._running if left else ():
            worker.send(signal.SIGKILL)
        await asyncio.wait(ended)
        log.info("stopped")

    def reload(self) -> None:
        """Have all read the rules anew."""
        if len(self._ready) == len(self._sets):
            self._notifier.reloading()
        self._reloading = set(self._running)
        for worker in self._running:
            worker.send(signal.SIGHUP)

    async def watch(self) -> None:
        """Say that we are alive, and kill workers that do not say so, as often as the supervisor wants it."""
        while within := self._notifier.alive_within_seconds:
            self._notifier.alive()
            for worker in self._running:
                silent = asyncio.get_running_loop().time() - worker.heard_at
                if worker.ready.done() and silent > within:
                    log.error("worker %d has been stuck for %.0f s and is killed", worker.number, silent)
                    worker.send(signal.SIGKILL)
            await asyncio.sleep(within / 2)

    async def _keep(self, number: int, listeners: Sequence[Listener]) -> int:
        """Keep one worker running; returns the exit status of one that never gets ready."""
        if number > 1:
            await self._first_is_ready.wait()
        loop, pause = asyncio.get_running_loop(), RESTART_SECONDS
        while True:
            started = loop.time()
            status = await self._once(number, listeners)
            if number not in self._ready:
                return status if status > 0 else EXIT_NOT_STARTED
            if status == LEAVES:
                log.warning("worker %d was told to stop: another one takes its place", number)
                continue
            log.error("worker %d ended with %d and is started again", number, status)
            await asyncio.sleep(pause)
            pause = (
                RESTART_SECONDS if loop.time() - started > MAX_RESTART_SECONDS else min(2 * pause, MAX_RESTART_SECONDS)
            )

    async def _once(self, number: int, listeners: Sequence[Listener]) -> int:
        """Start a worker; returns its exit status, or `LEAVES` as soon as it begins to drain."""
        try:
            worker = await self._started(number, listeners)
        except OSError as error:  # no memory, no descriptor: that may pass
            log.error("worker %d cannot be started: %s", number, error)  # noqa: TRY400 - not a mistake of the program
            return EXIT_NOT_STARTED
        await _first_of(worker.ready, worker.ended)
        if worker.ready.done():
            self._is_ready(number)
            await _first_of(worker.leaving, worker.ended)
        return LEAVES if worker.leaving.done() else worker.ended.result()

    async def _started(self, number: int, listeners: Sequence[Listener]) -> Worker:
        worker = Worker(number)
        ear = Ear(lambda report: self._hear(worker, report))
        try:
            await worker.start(self._command, listeners, ear)
        except BaseException:
            ear.close()
            raise
        self._running.add(worker)
        worker.ended.add_done_callback(lambda _: self._forget(worker))
        return worker

    def _hear(self, worker: Worker, report: str) -> None:
        worker.heard_at = asyncio.get_running_loop().time()
        if report == READY:
            if not worker.ready.done():
                worker.ready.set_result(None)
            self._has_reloaded(worker)
        if report == STOPPING and not worker.leaving.done():
            worker.leaving.set_result(None)

    def _forget(self, worker: Worker) -> None:
        self._running.discard(worker)
        self._has_reloaded(worker)

    def _is_ready(self, number: int) -> None:
        if number in self._ready:
            log.warning("worker %d is ready again", number)
            return
        self._first_is_ready.set()
        self._ready.add(number)
        if len(self._ready) == len(self._sets):
            log.info("%d workers are ready", len(self._sets))
            announce(self._sets[0], self._notifier)

    def _has_reloaded(self, worker: Worker) -> None:
        if worker in self._reloading:
            self._reloading.discard(worker)
            if not self._reloading and len(self._ready) == len(self._sets):
                self._notifier.ready()


def _die_with(parent: int) -> Callable[[], None]:
    """In the child: be told when the parent dies (Linux: PR_SET_PDEATHSIG); be deaf to SIGHUP until it has an ear."""

    def before_worker() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)
        if os.getppid() != parent:  # it has died in between
            os.kill(os.getpid(), signal.SIGTERM)

    return before_worker
