"""The program: ``python -m smtp_frontend --config FILE``.

Once it listens it prints a line ``ready KIND HOST:PORT`` for each address on standard output, such as
``ready smtp 127.0.0.1:2525``, and then ``ready``; it tells systemd too. It logs to standard error. SIGTERM and SIGINT
drain: nobody new is let in, open transactions finish within `smtp.drain_seconds`. SIGHUP reads the rules anew.

With more than one worker this process is their parent (`workers`), and takes no mail itself.

Exit status: 0 after a signal, 1 for a configuration that cannot be used (an address that is taken, too),
3 when the embedded store does not start.
"""

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from reputation.assemble import open_engine, settings_of
from reputation.config import Settings, doubts, effective_lines
from reputation.engine import Engine
from reputation.errors import ConfigError, StoreError
from reputation.front_end_settings import SmtpSettings
from reputation.log_lines import start_log
from reputation.lookups.filters.asking import MAX_UNDER_WAY
from reputation.notify import Notifier
from reputation.reloading import reloading, remember
from smtp_frontend.auth.next_hop import MAX_CONNECTIONS
from smtp_frontend.listeners import Kind, Listener, adopted, opened, withdraw
from smtp_frontend.notify import announce
from smtp_frontend.server import Server
from smtp_frontend.surroundings import open_surroundings, opened_files
from smtp_frontend.workers import supervise

DESCRIPTORS_PER_SESSION = 3
"""The client, the next hop, and a message that is spooled to a file."""
OTHER_DESCRIPTORS = 150
"""Files that are open besides those of sessions: listeners, the store, logs, turned-away clients."""
MAX_WORKERS = 256
UNREAD = ("smtp", "policy_service", "filter_")
"""Tables of which a change takes effect at the next start, besides those of all programs."""
THREADS = 40

log = logging.getLogger("reputon.smtp")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until a signal comes; returns the exit status."""
    given = _parser().parse_args(arguments)
    remember()
    try:
        return _run(given)
    except ConfigError as error:
        text = str(error)
        named = text if text.startswith(str(given.config)) else f"{given.config}: {text}"
        print(named, file=sys.stderr)  # noqa: T201 - there may be no log yet
        return 1
    except StoreError as error:
        log.critical("cannot start: %s", error)
        return 3


def _run(given: argparse.Namespace) -> int:
    path: Path = given.config
    settings = settings_of(path)
    if given.check:
        asyncio.run(checked(settings))
        return 0
    start_log(settings.log.level.upper(), settings.log.format)
    notifier = Notifier.of(os.environ, given.report)
    if given.sockets is not None:
        asyncio.run(serve(settings, path, notifier, given.sockets))
        return 0
    _log_settings(settings, path)
    workers: int = given.workers or settings.smtp.workers
    if workers > 1:
        return asyncio.run(supervise(settings, path, workers, notifier))
    asyncio.run(serve(settings, path, notifier))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="smtp_frontend", description="The SMTP front end of reputon.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    parser.add_argument(
        *("--workers", "-w"),
        type=int,
        choices=range(1, MAX_WORKERS + 1),
        metavar="N",
        help="processes that share the ports, in place of smtp.workers",
    )
    parser.add_argument("--check", action="store_true", help="only say whether the configuration can be used")
    # What a parent says to its workers.
    parser.add_argument("--sockets", help=argparse.SUPPRESS)
    parser.add_argument("--report", type=int, help=argparse.SUPPRESS)
    return parser


def _log_settings(settings: Settings, path: Path) -> None:
    level = logging.INFO
    for line in effective_lines(settings):
        level = logging.DEBUG if line == "[[rule]]" else level  # hundreds of lines, which check-config shows
        log.log(level, "config %s", line)
    rules, shadow = len(settings.rule), sum(rule.mode == "shadow" for rule in settings.rule)
    for warning in doubts(settings):
        log.warning("config %s: %s", path, warning)
    log.info("config %s: %d rules, %d of them in shadow mode; check-config --print shows them", path, rules, shadow)


async def checked(settings: Settings) -> None:
    """Open the files that the front end's settings name, certificates and passwords. Raises `ConfigError`."""
    async with opened_files(settings.smtp):
        pass


async def serve(settings: Settings, path: Path, notifier: Notifier, sockets: str | None = None) -> None:
    """Take mail until a signal comes, and drain; `path` is what SIGHUP reads again.

    `sockets` are those of a parent, None for a process without one.
    """
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    # Names are looked up in threads, too: a DNS that hangs must not hold up who writes a file.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS, "blocking"))
    alive = asyncio.create_task(notifier.stay_alive(), name="watchdog")
    async with (
        open_engine(settings) as engine,
        reloading(engine, settings, path, notifier, log=log, unread=UNREAD),
    ):
        listeners = opened(settings) if sockets is None else adopted(sockets)
        async with _front_ends(settings, engine, listeners, alone=sockets is None) as server:
            # What was loaded stays for good; going through it again and again held every session up for 20 ms.
            gc.collect()
            gc.freeze()
            if sockets is None:
                announce(listeners, notifier)
            else:
                notifier.ready()
            await stop.wait()
            log.info("draining %d sessions", len(server.sessions))
            notifier.stopping(f"draining {len(server.sessions)} sessions")
    alive.cancel()
    log.info("stopped")


@asynccontextmanager
async def _front_ends(
    settings: Settings, engine: Engine, listeners: Sequence[Listener], *, alone: bool
) -> AsyncIterator[Server]:
    """The SMTP server, and the policy service where one is wanted, for as long as the block runs; then they drain."""
    asks = settings.policy_service
    smtp = within_descriptors(settings.smtp, other_connections(settings))
    async with open_surroundings(smtp, engine) as shared:
        server, closing = Server(shared), []
        asked = [listener.socket for listener in listeners if listener.kind is Kind.POLICY]
        try:
            closing.append(server.close)
            await server.listen(listeners)
            if asked:
                from smtp_frontend.policy_service import PolicyService  # noqa: PLC0415 - few sites have both

                policy = PolicyService(engine, asks, shared.sleepers, alone=alone)
                closing.append(lambda: policy.close(settings.smtp.drain_seconds))
                await policy.listen(asked)
            yield server
        finally:
            withdraw(listeners)
            await asyncio.gather(*(close() for close in closing))  # each stops to listen before it waits for anybody


def other_connections(settings: Settings) -> int:
    """Descriptors that go to mail servers that ask, to filters, and to whoever knows the passwords."""
    asks = settings.policy_service
    asked = asks.max_connections if asks.listen else 0
    of_filters = (MAX_UNDER_WAY + 1) * len(settings.filter_)  # each has its pings besides
    return asked + of_filters + (MAX_CONNECTIONS if settings.smtp.auth is not None else 0)


def within_descriptors(smtp: SmtpSettings, connections: int = 0) -> SmtpSettings:
    """The settings with as many sessions as this process may have files open; raises its limit as far as it may.

    Without descriptors nobody could even be told 421. `connections` are those of others than clients.
    """
    others = OTHER_DESCRIPTORS + connections
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    each = DESCRIPTORS_PER_SESSION + bool(smtp.services)
    wanted = each * smtp.max_sessions + others
    if soft < wanted:
        soft = min(wanted, hard) if hard != resource.RLIM_INFINITY else wanted
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    sessions = max(1, (soft - others) // each)
    if sessions >= smtp.max_sessions:
        return smtp
    log.warning("max_sessions is %d, not %d: only %d files may be open (ulimit -n)", sessions, smtp.max_sessions, soft)
    return smtp.model_copy(update={"max_sessions": sessions})


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
