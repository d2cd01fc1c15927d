"""`reputon serve`: everything on one machine, kept running until a signal comes.

Opens the store first (an embedded one belongs to this process, so that it outlives a front end that is
restarted), then starts the SMTP front end as a process of its own and starts it again when it dies.
A program that ends before it was ready once is a mistake to be read, not to be repeated. When this process dies,
however it dies, the front end is told (on Linux), so that it does not keep the port from the next one. SIGHUP is passed
on: the front end reads the rules anew.
"""

import asyncio
import ctypes
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

import typer

from reputation.assemble import open_store
from reputation.config import Settings, without_password
from reputation.contracts import Store
from reputation.errors import StoreUnavailable
from reputation.rule_settings import RuleSettings

RESTART_SECONDS = 1.0
STOP_MARGIN_SECONDS = 10.0


async def serve(path: Path, settings: Settings) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody to pass it on to
    store = await open_store(settings.store)
    try:
        return await _front_end(path, settings, await _store_name(store), stop)
    finally:
        await store.close()


async def _store_name(store: Store) -> str:
    try:
        return await store.ping()
    except StoreUnavailable as error:
        return f"not reached yet ({error}); rules act as their on_store_failure says"


async def _front_end(path: Path, settings: Settings, store_name: str, stop: asyncio.Event) -> int:
    """Start the front end, again when it dies; its exit status when it never became ready."""
    stopping = asyncio.create_task(stop.wait())
    shown = False
    while True:
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "smtp_frontend", "--config", str(path)),
            stdout=asyncio.subprocess.PIPE,
            preexec_fn=_before_program,
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _pass_on, program)
        addresses = await _ready(program, len(settings.smtp.listen))
        if not addresses and not shown:
            return await program.wait()
        if shown and addresses:
            typer.echo("the SMTP front end is ready again", err=True)
        elif not shown:
            _show(path, settings, store_name, addresses)
            shown = True
        ended = asyncio.create_task(program.wait())
        await asyncio.wait({ended, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            return await _stopped(program, settings.smtp.longest_drain_seconds)
        typer.echo(f"the SMTP front end ended with {program.returncode} and is started again", err=True)
        await asyncio.wait({stopping}, timeout=RESTART_SECONDS)


async def _ready(program: asyncio.subprocess.Process, expected: int) -> list[str]:
    """The addresses that the front end says it listens on; none when it ends instead."""
    assert program.stdout is not None
    addresses: list[str] = []
    while len(addresses) < expected and (line := await program.stdout.readline()):
        word, _, address = line.decode().strip().rpartition(" ")
        if word == "ready smtp":
            addresses.append(address)
    return addresses if len(addresses) == expected else []


def _pass_on(program: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):  # it has just ended, and the next one reads the file anyway
        program.send_signal(signal.SIGHUP)


def _before_program() -> None:
    """In the child: be told when the parent dies (Linux: PR_SET_PDEATHSIG); be deaf to SIGHUP until it has an ear."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


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


def _show(path: Path, settings: Settings, store_name: str, addresses: list[str]) -> None:
    """Where each thing is, and one command to try."""
    typer.echo(f"reputon is ready, configured by {path}")
    typer.echo(f"  smtp      {', '.join(addresses)}")
    typer.echo(f"  next hop  {without_password(settings.smtp.next_hop)}")
    typer.echo(f"  store     {without_password(settings.store.url)}: {store_name}")
    shadow = sum(rule.mode == "shadow" for rule in settings.rule)
    typer.echo(f"  rules     {len(settings.rule)}, {shadow} of them in shadow mode, which only count; in force:")
    for rule in settings.rule:
        if rule.mode != "shadow":
            typer.echo(f"            {rule.name}: {_sentence(rule)}")
    typer.echo("Try, in another terminal:")
    typer.echo(f"  {_command_to_try(addresses[0])}")
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
