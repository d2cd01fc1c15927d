"""SIGHUP: the rules are read anew, and no session notices but by its verdicts.

A signal that comes while the program still starts is remembered from `remember` on, which is before it reads the file.
While it drains, signals mean nothing any more.
"""

import asyncio
import logging
import signal
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from reputation.assemble import read
from reputation.config import Settings
from reputation.engine import Engine
from reputation.errors import ConfigError
from smtp_frontend.notify import Notifier

UNREAD = ("store", "smtp", "policy_service", "filter_", "register_table", "lookups", "log")
"""Tables of which a change takes effect at the next start."""

LISTS_SECONDS = 5.0
"""How long a supervisor may think that we still reload, when new lists take their time."""

log = logging.getLogger("reputon.smtp")
_early = threading.Event()


def remember() -> None:
    """From now on a SIGHUP does not end the process, and is heeded when there are rules to read anew."""
    signal.signal(signal.SIGHUP, lambda *_: _early.set())


@asynccontextmanager
async def reloading(engine: Engine, settings: Settings, path: Path, notifier: Notifier) -> AsyncIterator[None]:
    """Read the rules anew at each SIGHUP, for as long as the block runs."""
    loop, wanted = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, wanted.set)
    if _early.is_set():
        wanted.set()

    async def reload() -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            notifier.reloading()
            try:
                await _reloaded(engine, settings, path)
            except Exception:  # the top of a job that must not end: no SIGHUP would be heard any more
                log.exception("not reloaded, the rules stay as they were")
            notifier.ready()

    task = asyncio.create_task(reload(), name="reload")
    try:
        yield
    finally:
        task.cancel()
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # who drains is not to be killed by it


async def _reloaded(engine: Engine, settings: Settings, path: Path) -> None:
    """Put the policy of a file in force. Reading one takes as long as hundreds of decisions, so in a thread."""
    try:
        fresh, policy = await asyncio.to_thread(read, path)
    except ConfigError as error:
        for line in str(error).splitlines():
            log.error("not reloaded, the rules stay as they were: %s", line)  # noqa: TRY400 - the user's mistake
        return
    is_in_force = asyncio.Event()

    def in_force() -> None:
        engine.use(policy)
        log.info("reloaded: %d rules of %s are in force", len(policy.rules), path)
        is_in_force.set()

    # In one turn of the loop: between rules and the lists that they ask for nobody must be judged.
    engine.registrar.lists.use(fresh.list_, engine.spelling, in_force)
    for name in UNREAD:
        if getattr(fresh, name) != getattr(settings, name):
            table = "[[filter]]" if name == "filter_" else f"[{name.removesuffix('_table')}]"
            log.warning("%s has changed: that takes effect at the next start", table)
    if fresh.spelling() != settings.spelling():
        log.warning("[keys] has changed: how addresses are spelled takes effect at the next start")
    with suppress(TimeoutError):
        async with asyncio.timeout(LISTS_SECONDS):
            await is_in_force.wait()
