"""The rules are read anew, at SIGHUP or when an operator has told the whole fleet to. Nobody who is being served
notices, but by his verdicts.

A signal that comes while the program still starts is remembered from `remember` on, which is before it reads the file.
While it drains, signals mean nothing any more. Each process of the fleet reads its own file: one that cannot be read
leaves the rules of that process as they were, and says so in its log.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from reputation.assemble import read
from reputation.config import Settings
from reputation.engine import Engine
from reputation.errors import ConfigError
from reputation.notify import Notifier
from reputation.remarks import RELOAD

UNREAD = ("store", "register_table", "lookups", "log")
"""Tables of which a change takes effect at the next start, in every program."""

LISTS_SECONDS = 5.0
"""How long a supervisor may think that we still reload, when new lists take their time."""

_early = threading.Event()


def remember() -> None:
    """From now on a SIGHUP does not end the process, and is heeded when there are rules to read anew."""
    signal.signal(signal.SIGHUP, lambda *_: _early.set())


class Reloader:
    """Reads the rules of a program anew."""

    def __init__(
        self, engine: Engine, settings: Settings, path: Path, log: logging.Logger, unread: Sequence[str] = ()
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._path = path
        self._log = log
        self._unread = (*UNREAD, *unread)

    async def run(self, wanted: asyncio.Event, notifier: Notifier) -> None:
        """Read them anew each time that it is wanted, until cancelled."""
        while True:
            await wanted.wait()
            wanted.clear()
            notifier.reloading()
            try:
                await self.reload()
            except Exception:  # the top of a job that must not end: no SIGHUP would be heard any more
                self._log.exception("not reloaded, the rules stay as they were")
            notifier.ready()

    async def reload(self) -> None:
        """Put the policy of the file in force. Reading one takes as long as hundreds of decisions, so in a thread."""
        try:
            fresh, policy = await asyncio.to_thread(read, self._path)
        except ConfigError as error:
            for line in str(error).splitlines():
                self._log.error("not reloaded, the rules stay as they were: %s", line)
            return
        is_in_force = asyncio.Event()

        def in_force() -> None:
            self._engine.use(policy)
            self._log.info("reloaded: %d rules of %s are in force", len(policy.rules), self._path)
            is_in_force.set()

        # In one turn of the loop: between rules and the lists that they ask for nobody must be judged.
        self._engine.registrar.lists.use(fresh.list_, self._engine.spelling, in_force)
        self._tell_unread(fresh)
        with suppress(TimeoutError):
            async with asyncio.timeout(LISTS_SECONDS):
                await is_in_force.wait()

    def _tell_unread(self, fresh: Settings) -> None:
        for name in self._unread:
            if getattr(fresh, name) != getattr(self._settings, name):
                table = "[[filter]]" if name == "filter_" else f"[{name.removesuffix('_table')}]"
                self._log.warning("%s has changed: that takes effect at the next start", table)
        if fresh.spelling() != self._settings.spelling():
            self._log.warning("[keys] has changed: how addresses are spelled takes effect at the next start")


@asynccontextmanager
async def reloading(
    engine: Engine,
    settings: Settings,
    path: Path,
    notifier: Notifier,
    *,
    log: logging.Logger,
    unread: Sequence[str] = (),
) -> AsyncIterator[None]:
    """Read the rules anew whenever somebody wants it, for as long as the block runs.

    `unread` are the tables of the program of which a change takes effect at the next start.
    """
    loop, wanted = asyncio.get_running_loop(), asyncio.Event()
    reloader = Reloader(engine, settings, path, log, unread)
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    engine.registrar.listeners.add(RELOAD, wanted.set)
    if _early.is_set():
        wanted.set()

    task = asyncio.create_task(reloader.run(wanted, notifier), name="reload")
    try:
        yield
    finally:
        task.cancel()
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # who drains is not to be killed by it
