"""The program: ``python -m smtp_frontend --config FILE``.

Prints one line ``ready smtp HOST:PORT`` per address on standard output once it listens, and logs to standard
error. SIGTERM and SIGINT drain: no new sessions, open transactions finish within `smtp.drain_seconds`. SIGHUP
reads the rules anew; no session notices but by its verdicts.

Exit status: 0 after a signal, 1 for a configuration that cannot be used (an address that is taken, too),
3 when the embedded store does not start.
"""

import argparse
import asyncio
import gc
import logging
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from reputation.assemble import open_engine, read, settings_of
from reputation.config import Settings, effective_lines
from reputation.engine import Engine
from reputation.errors import ConfigError, StoreError
from reputation.front_end_settings import SmtpSettings
from smtp_frontend.next_hop import open_next_hop
from smtp_frontend.server import Server, tls_context
from smtp_frontend.session import Surroundings
from smtp_frontend.sleepers import Sleepers

OTHER_DESCRIPTORS = 150
"""Files that are open besides those of sessions: listeners, the store, logs, turned-away clients."""

log = logging.getLogger("reputon.smtp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes; returns the exit status."""
    parser = argparse.ArgumentParser(prog="smtp_frontend", description="The SMTP front end of reputon.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    path: Path = parser.parse_args(arguments).config
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there are rules to read anew
    try:
        settings = settings_of(path)
        start_log(settings.log.level)
        asyncio.run(serve(settings, path))
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there may be no log yet
        return 1
    except StoreError as error:
        log.critical("cannot start: %s", error)
        return 3
    return 0


def start_log(level: str) -> None:
    """Log to standard error, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("{asctime}.{msecs:03.0f} {levelname} {name} {message}", "%Y-%m-%dT%H:%M:%S", style="{")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler])


async def serve(settings: Settings, path: Path) -> None:
    """Open engine and next hop, listen, and drain when a signal comes; `path` is what SIGHUP reads again."""
    level = logging.INFO
    for line in effective_lines(settings):
        level = logging.DEBUG if line == "[[rule]]" else level  # hundreds of lines, which check-config shows
        log.log(level, "config %s", line)
    rules, shadow = len(settings.rule), sum(rule.mode == "shadow" for rule in settings.rule)
    log.info("config %s: %d rules, %d of them in shadow mode; check-config --print shows them", path, rules, shadow)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with open_engine(settings) as engine, _reloading(engine, settings, path):
        server = Server(_surroundings(settings, engine))
        # What was loaded stays for good; going through it again and again held every session up for 20 ms.
        gc.collect()
        gc.freeze()
        try:
            for address in await server.listen():
                print(f"ready smtp {address}", flush=True)  # noqa: T201 - the supervisor reads it
            await stop.wait()
            log.info("draining %d sessions", len(server.sessions))
        finally:
            await server.close()
    log.info("stopped")


@asynccontextmanager
async def _reloading(engine: Engine, settings: Settings, path: Path) -> AsyncIterator[None]:
    """Read the rules anew at each SIGHUP, for as long as the block runs."""
    loop, wanted = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, wanted.set)

    async def reload() -> None:
        while True:
            await wanted.wait()
            wanted.clear()
            try:
                await asyncio.to_thread(_reloaded, engine, settings, path, loop)
            except Exception:  # the top of a job that must not end: no SIGHUP would be heard any more
                log.exception("not reloaded, the rules stay as they were")

    task = asyncio.create_task(reload(), name="reload")
    try:
        yield
    finally:
        task.cancel()
        loop.remove_signal_handler(signal.SIGHUP)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # who drains is not to be killed by it


def _reloaded(engine: Engine, settings: Settings, path: Path, loop: asyncio.AbstractEventLoop) -> None:
    """Put the policy of a file in force. Reading one takes as long as hundreds of decisions, so in a thread."""
    try:
        fresh, policy = read(path)
    except ConfigError as error:
        for line in str(error).splitlines():
            log.error("not reloaded, the rules stay as they were: %s", line)  # noqa: TRY400 - the user's mistake
        return

    def in_force() -> None:
        engine.use(policy)
        log.info("reloaded: %d rules of %s are in force", len(policy.rules), path)

    # In one turn of the loop: between rules and the lists that they ask for nobody must be judged.
    loop.call_soon_threadsafe(engine.registrar.lists.use, fresh.list_, engine.spelling, in_force)
    for name in ("store", "smtp", "register_table", "lookups", "log"):
        if getattr(fresh, name) != getattr(settings, name):
            log.warning("[%s] has changed: that takes effect at the next start", name.removesuffix("_table"))
    if fresh.spelling() != settings.spelling():
        log.warning("[keys] has changed: how addresses are spelled takes effect at the next start")


def within_descriptors(smtp: SmtpSettings) -> SmtpSettings:
    """The settings with as many sessions as this process may have files open; raises its limit as far as it may.

    A session has two: the client and the next hop. Without descriptors nobody could even be told 421.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * smtp.max_sessions + OTHER_DESCRIPTORS
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    sessions = max(1, (soft - OTHER_DESCRIPTORS) // 2)
    if sessions >= smtp.max_sessions:
        return smtp
    log.warning("max_sessions is %d, not %d: only %d files may be open (ulimit -n)", sessions, smtp.max_sessions, soft)
    return smtp.model_copy(update={"max_sessions": sessions})


def _surroundings(settings: Settings, engine: Engine) -> Surroundings:
    smtp = within_descriptors(settings.smtp)
    hostname = smtp.hostname or socket.gethostname()
    return Surroundings(
        engine=engine,
        next_hop=open_next_hop(smtp.next_hop, hostname=hostname, timeout_seconds=smtp.next_hop_timeout_seconds),
        settings=smtp,
        hostname=hostname,
        sleepers=Sleepers(max_sleepers=smtp.max_sleepers, metrics=engine.metrics),
        tls=tls_context(smtp),
    )


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
