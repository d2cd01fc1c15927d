"""The program: ``python -m api --config FILE``.

Once it listens it prints a line ``ready api HOST:PORT`` for each address on standard output, and then ``ready``; it
tells systemd too. It logs to standard error. SIGTERM and SIGINT drain, SIGHUP reads the rules anew (`api.server`).

Exit status: 0 after a signal, 1 for a configuration that cannot be used (an address that is taken, too),
3 when the store refuses us or the embedded one does not start.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import uvloop

from api.files import certificates_of
from reputation.assemble import settings_of
from reputation.config import Settings, effective_lines
from reputation.errors import ConfigError, StoreError
from reputation.log_lines import start_log
from reputation.notify import Notifier
from reputation.reloading import remember

log = logging.getLogger("reputon.api")


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
        certificates_of(settings.api)
        return 0
    start_log(settings.log.level.upper(), settings.log.format)
    _log_settings(settings, path)
    from api.server import serve  # noqa: PLC0415 - who only checks needs no web server

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, path, Notifier.of(os.environ)))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="api", description="The REST API and console of reputon.")
    parser.add_argument("--config", type=Path, required=True, help="TOML file")
    parser.add_argument("--check", action="store_true", help="only say whether the configuration can be used")
    return parser


def _log_settings(settings: Settings, path: Path) -> None:
    """The tables that are about us; the front end logs all of them."""
    is_ours = False
    for line in effective_lines(settings):
        is_ours = line.startswith(("[api", "[store]")) if line.startswith("[") else is_ours
        if is_ours:
            log.info("config %s", line)
    log.info("config %s: %d rules; check-config --print shows all", path, len(settings.rule))


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        sys.exit(main())
