"""`reputon serve`: everything on one machine, kept running until a signal comes.

Opens the store first (an embedded one belongs to this process, so that it outlives a program that is restarted), then
starts the SMTP front end and the API (unless `api.listen` is empty), each as a process of its own, and each is started
again when it dies (`programs`). One that ends before it was ready once ends everything, with its exit status: a port
that is taken, say. SIGHUP is passed on to both: they read the rules anew.

Under systemd the front end speaks for all: the unit is ready when mail is taken, and a front end that is stuck is
noticed. The unit needs ``NotifyAccess=all``.
"""

import asyncio
import logging
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import typer

from reputation.access import TOKEN
from reputation.assemble import open_store
from reputation.cli.programs import Addresses, Program
from reputation.config import Settings, without_password
from reputation.contracts import Store
from reputation.errors import StoreError, StoreUnavailable
from reputation.log_lines import start_log
from reputation.rule_settings import RuleSettings

API_DRAIN_SECONDS = 5.0
"""As long as `api.server` takes."""


async def serve(path: Path, settings: Settings, workers: int | None = None) -> int:
    """Run until SIGTERM or SIGINT; returns the exit status. `workers` are in place of those of the settings."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is somebody to pass it on to
    start_log(logging.WARNING, settings.log.format)  # the store's troubles; the programs have logs of their own
    store = await open_store(settings.store)
    try:
        store_name = await _store_name(store)
        programs = _programs(path, settings, stop, workers)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _reload, programs)
        running = [asyncio.create_task(each.run(), name=each.name) for each in programs]
        showing = asyncio.create_task(_shown(path, settings, store, store_name, programs))
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        is_told = stop.is_set()
        stop.set()  # what could not be started takes the others with it
        showing.cancel()
        first = next(task for task in running if task.done())
        statuses = await asyncio.gather(*running)
        return next((status for status in statuses if status), 0) if is_told else first.result()
    finally:
        await store.close()


def _programs(path: Path, settings: Settings, stop: asyncio.Event, workers: int | None) -> list[Program]:
    front_end = Program(
        "the SMTP front end",
        [*_command("smtp_frontend", path), *(("--workers", str(workers)) if workers else ())],
        stop=stop,
        drain_seconds=settings.smtp.longest_drain_seconds,
        speaks=True,
    )
    api = Program("the API", _command("api", path), stop=stop, drain_seconds=API_DRAIN_SECONDS)
    return [front_end, api] if settings.api.listen else [front_end]


def _reload(programs: list[Program]) -> None:
    for each in programs:
        each.reload()


def _command(program: str, path: Path) -> list[str]:
    return [sys.executable, "-m", program, "--config", str(path)]


async def _store_name(store: Store) -> str:
    try:
        return await store.ping()
    except StoreUnavailable as error:
        return f"not reached yet ({error}); rules act as their on_store_failure says"


async def _has_token(store: Store) -> bool:
    """Whether there is any token of the API; so it is held where nobody can tell."""
    try:
        return any(id.startswith(TOKEN) for id in (await store.entries(0)).texts)
    except StoreError:
        return True


async def _shown(path: Path, settings: Settings, store: Store, store_name: str, programs: list[Program]) -> None:
    """Where each thing is, and commands to try, as soon as everything is ready."""
    addresses = [address for found in await asyncio.gather(*(each.ready for each in programs)) for address in found]
    wants_token = settings.store.url != "memory:" and not await _has_token(store)
    places = _places(settings, store_name, addresses)
    width = max(len(name) for name, _ in places)
    typer.echo(f"reputon is ready, configured by {path}")
    for name, told in places:
        typer.echo(f"  {name:<{width}}  {told}")
    for rule in settings.rule:
        if rule.mode != "shadow":
            typer.echo(f"  {'':<{width}}  {rule.name}: {_sentence(rule)}")
    typer.echo("Try, in another terminal:")
    kinds = dict(reversed(addresses))
    if "smtp" in kinds:
        typer.echo(f"  {_command_to_try(kinds['smtp'])}")
    typer.echo(f"  {sys.argv[0]} explain sender:alice@example.com --config {path}")
    if "api" in kinds and wants_token:
        typer.echo("API and console want a token, and there is none yet. This makes one:")
        typer.echo(f"  {sys.argv[0]} token create --name you --scope admin --for 90d --config {path}")
    typer.echo("Ctrl-C stops it.")
    sys.stdout.flush()


def _places(settings: Settings, store_name: str, addresses: Addresses) -> list[tuple[str, str]]:
    """What is where, in the order in which it is told."""
    scheme = "http" if settings.api.tls is None else "https"
    of_kind: dict[str, list[str]] = {}
    for kind, address in addresses:
        of_kind.setdefault(kind, []).append(f"{scheme}://{address}" if kind == "api" else address)
    places = [(kind, ", ".join(told)) for kind, told in of_kind.items()]
    if settings.api.console and "api" in of_kind:
        places.append(("console", f"{of_kind['api'][0]}/console/"))
    shadow = sum(rule.mode == "shadow" for rule in settings.rule)
    places.append(("next hop", without_password(settings.smtp.next_hop)))
    places += [(f"  {service}", without_password(hop)) for service, hop in settings.smtp.services.items()]
    places.append(("store", f"{without_password(settings.store.url)}: {store_name}"))
    places.append(("rules", f"{len(settings.rule)}, {shadow} of them in shadow mode, which only count; in force:"))
    return places


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


def checked_programs(path: Path, settings: Settings) -> int:
    """Have each program look at the files that its settings name, and say what is wrong; the first bad exit status."""
    names = ["smtp_frontend", *(["api"] if settings.api.tls is not None else [])]
    commands = [[*_command(name, path), "--check"] for name in names]
    statuses = [subprocess.run(each, check=False, stdin=subprocess.DEVNULL).returncode for each in commands]
    return next((status for status in statuses if status), 0)
