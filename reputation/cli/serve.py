"""`reputon serve`: everything on one machine, kept running until a signal comes.

Opens the store first (an embedded one belongs to this process, so that it outlives a front end that is
restarted), then starts the SMTP front end as a process of its own and starts it again when it dies.
A program that ends before it was ready once is a mistake to be read, not to be repeated. When this process dies,
however it dies, the front end is told (on Linux), so that it does not keep the port from the next one. SIGHUP is passed
on: the front end reads the rules anew.

Under systemd the front end speaks for itself: it inherits NOTIFY_SOCKET, and what is meant for the process that systemd
has started (LISTEN_PID, WATCHDOG_PID) is made to mean the front end, each time anew. So the unit is ready when mail is
taken, and a front end that is stuck is noticed. The unit needs ``NotifyAccess=all``.
"""

import asyncio
import ctypes
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import typer

from reputation.assemble import open_store
from reputation.config import Settings, without_password
from reputation.contracts import Store
from reputation.errors import StoreUnavailable
from reputation.log_lines import start_log
from reputation.rule_settings import RuleSettings

RESTART_SECONDS = 1.0
STOP_MARGIN_SECONDS = 10.0
FIRST_FROM_SYSTEMD = 3
"""The first descriptor that systemd passes (sd_listen_fds(3))."""
MEANT_FOR = ("LISTEN_PID", "WATCHDOG_PID")

log = logging.getLogger("reputon.serve")

Addresses = list[tuple[str, str]]
"""What is spoken, and where."""


async def serve(path: Path, settings: Settings, workers: int | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. `workers` are in place of those of the settings."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody to pass it on to
    start_log(logging.WARNING, settings.log.format)  # the store's troubles; the front end has a log of its own
    store = await open_store(settings.store)
    try:
        return await _front_end(path, settings, await _store_name(store), stop, workers)
    finally:
        await store.close()


async def _store_name(store: Store) -> str:
    try:
        return await store.ping()
    except StoreUnavailable as error:
        return f"not reached yet ({error}); rules act as their on_store_failure says"


async def _front_end(path: Path, settings: Settings, store_name: str, stop: asyncio.Event, workers: int | None) -> int:
    """Start the front end, again when it dies; its exit status when it never became ready."""
    stopping = asyncio.create_task(stop.wait())
    shown = False
    while True:
        program = await _started(path, workers)
        ready = asyncio.create_task(_ready(program))
        await asyncio.wait({ready, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            ready.cancel()
            return await _stopped(program, settings.smtp.longest_drain_seconds)
        addresses = ready.result()
        if not addresses and not shown:
            return await program.wait()
        if shown and addresses:
            log.warning("the SMTP front end is ready again")
        elif not shown:
            _show(path, settings, store_name, addresses)
            shown = True
        ended = asyncio.create_task(program.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return await _stopped(program, settings.smtp.longest_drain_seconds)
        log.error("the SMTP front end ended with %d and is started again", program.returncode)
        await asyncio.wait({stopping}, timeout=RESTART_SECONDS)


async def _started(path: Path, workers: int | None) -> asyncio.subprocess.Process:
    own = str(os.getpid())
    passed = int(os.environ.get("LISTEN_FDS", "0")) if os.environ.get("LISTEN_PID") == own else 0
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "smtp_frontend", "--config", str(path)),
        *(("--workers", str(workers)) if workers else ()),
        stdout=asyncio.subprocess.PIPE,
        pass_fds=range(FIRST_FROM_SYSTEMD, FIRST_FROM_SYSTEMD + passed),
        preexec_fn=_before_program([name for name in MEANT_FOR if os.environ.get(name) == own]),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _pass_on, program)
    return program


async def _ready(program: asyncio.subprocess.Process) -> Addresses:
    """What the front end says it listens on; nothing when it ends instead."""
    assert program.stdout is not None
    addresses: Addresses = []
    while line := await program.stdout.readline():
        match line.decode().split():
            case ["ready", kind, address]:
                addresses.append((kind, address))
            case ["ready"]:
                return addresses
    return []


def _pass_on(program: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it has just ended, and the next one reads the file anyway
        program.send_signal(signal.SIGHUP)


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


async def _stopped(program: asyncio.subprocess.Process, drain_seconds: float) -> int:
    """End the front end; its exit status, 0 when a signal of ours met it on its way out."""
    if program.returncode is None:
        program.terminate()
    try:
        async with asyncio.timeout(drain_seconds + STOP_MARGIN_SECONDS):
            status = await program.wait()
    except TimeoutError:
        program.kill()
        return await program.wait()
    return 0 if status in (-signal.SIGTERM, -signal.SIGINT) else status


def _show(path: Path, settings: Settings, store_name: str, addresses: Addresses) -> None:
    """Where each thing is, and one command to try."""
    kinds = dict.fromkeys(kind for kind, _ in addresses)
    shadow = sum(rule.mode == "shadow" for rule in settings.rule)
    places = [(kind, ", ".join(address for each, address in addresses if each == kind)) for kind in kinds]
    places.append(("next hop", without_password(settings.smtp.next_hop)))
    places += [(f"  {service}", without_password(hop)) for service, hop in settings.smtp.services.items()]
    places.append(("store", f"{without_password(settings.store.url)}: {store_name}"))
    places.append(("rules", f"{len(settings.rule)}, {shadow} of them in shadow mode, which only count; in force:"))
    width = max(len(name) for name, _ in places)
    typer.echo(f"reputon is ready, configured by {path}")
    for name, told in places:
        typer.echo(f"  {name:<{width}}  {told}")
    for rule in settings.rule:
        if rule.mode != "shadow":
            typer.echo(f"  {'':<{width}}  {rule.name}: {_sentence(rule)}")
    typer.echo("Try, in another terminal:")
    if "smtp" in kinds:
        typer.echo(f"  {_command_to_try(dict(reversed(addresses))['smtp'])}")
    typer.echo(f"  {sys.argv[0]} explain sender:alice@example.com --config {path}")
    typer.echo("Ctrl-C stops it.")
    sys.stdout.flush()


def _sentence(rule: RuleSettings) -> str:
    """What a rule does, in a line."""
    if not rule.limits:
        return f"{rule.action} at {rule.stage} when {' '.join(rule.when.split())}"
    return f"{rule.action} above {', '.join(rule.limits)} {rule.count} per {'+'.join(rule.key)}"


def _command_to_try(address: str) -> str:
    envelope = ("alice@example.com", "bob@example.net")
    if shutil.which("swaks"):
        return f"swaks --server {address} --from {envelope[0]} --to {envelope[1]}"
    host, _, port = address.rpartition(":")
    return (
        f"{sys.executable} -c \"import smtplib; smtplib.SMTP('{host.strip('[]')}', {port})"
        f".sendmail('{envelope[0]}', '{envelope[1]}', 'Subject: hello\\n\\nhello')\""
    )


def checked_front_end(path: Path) -> int:
    """Have the front end look at the files that its settings name, and say what is wrong; its exit status."""
    command = [sys.executable, "-m", "smtp_frontend", "--config", str(path), "--check"]
    return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
