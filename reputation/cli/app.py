"""The sub-commands of `reputon` and their options."""

import asyncio
import json
import platform
import sys
import time
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reputation.assemble import settings_of
from reputation.cli import asn as asn_tables
from reputation.cli import explain as explaining
from reputation.cli import passwd as passwords
from reputation.cli import policy as rehearsing
from reputation.cli import replay as replaying
from reputation.cli import rules as ruling
from reputation.cli import serve as serving
from reputation.cli import tune as tuning
from reputation.cli.logs import logs_of, print_json
from reputation.config import Settings, doubts, effective_lines, quickstart_path, without_password

app = typer.Typer(
    name="reputon",
    help="Reputation and rate limits for mail, shared by a fleet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
app.add_typer(asn_tables.commands, name="asn")

policy = typer.Typer(help="Try out a policy.", no_args_is_help=True)
app.add_typer(policy, name="policy")

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; the quick start's when none is named.", envvar="REPUTON_CONFIG"),
]


def _path(config: Path | None) -> Path:
    return quickstart_path() if config is None else config


def _asked(config: Path | None) -> Settings:
    """The settings of a command that asks about a running site; it says whom it asks when nobody has said so."""
    settings = settings_of(_path(config))
    if config is None:
        print(
            f"asking {without_password(settings.store.url)}, the store of {_path(None)}: no --config was given",
            file=sys.stderr,
        )
    return settings


@app.command()
def serve(
    config: ConfigOption = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=1, max=256, help="Processes that share the ports; else smtp.workers."),
    ] = None,
) -> None:
    """Run everything on this machine: the SMTP front end over the configured store."""
    path = _path(config)
    code = asyncio.run(serving.serve(path, settings_of(path), workers))
    raise typer.Exit(code)


@app.command("check-config")
def check_config(
    file: Annotated[Path | None, typer.Argument(help="TOML file; the quick start's when none is named.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print all settings in force, without secrets.")] = False,
) -> None:
    """Say whether a configuration can be used: exit status 0 or 1, one line per mistake. Asks no server."""
    path = _path(file)
    settings = settings_of(path)
    if show:
        for line in effective_lines(settings):
            typer.echo(line)
        return
    for doubt in doubts(settings):
        typer.echo(f"{path}: {doubt}", err=True)
    if status := serving.checked_front_end(path):
        raise typer.Exit(status)
    typer.echo(f"{path}: good, {_counted(settings)}")


def _counted(settings: Settings) -> str:
    shadow = sum(rule.mode == "shadow" for rule in settings.rule)
    return f"{len(settings.rule)} rules, {shadow} of them in shadow mode"


@app.command()
def explain(
    entity: Annotated[str, typer.Argument(help='DIMENSION:VALUE, such as "sender:alice@example.com".')],
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what is counted about an entity, and what its next event would get. Counts nothing."""
    explanation = asyncio.run(explaining.explain(_asked(config), entity))
    if as_json:
        typer.echo(json.dumps(explaining.as_dict(explanation)))
    else:
        explaining.show(Console(), explanation)


@app.command()
def rules(
    config: ConfigOption = None, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show the rules in force, and how often each has acted on the whole fleet, or would have."""
    rows = asyncio.run(ruling.rules(_asked(config)))
    if as_json:
        print_json([ruling.as_dict(row) for row in rows])
    else:
        ruling.show(Console(), rows, time.time())


@app.command()
def release(
    entity: Annotated[str, typer.Argument(help='DIMENSION:VALUE, such as "user:alice" or "ip:192.0.2.7".')],
    config: ConfigOption = None,
    reason: Annotated[str, typer.Option("--reason", help="For the audit.")] = "released",
) -> None:
    """Let go of somebody whom a rule holds, or an operator has banned; in force on all servers within a second."""
    for ban in asyncio.run(ruling.release(_asked(config), entity, reason=reason)):
        typer.echo(f"released: {ban.id}, put down by {ban.author} because {ban.reason}")


LogsArgument = Annotated[
    list[Path], typer.Argument(metavar="LOG", help="Logs of Postfix, Exim or reputon, packed or not; - for stdin.")
]
YearOption = Annotated[
    int | None, typer.Option("--year", help="Year of the first line, where dates have none; else by the file's age.")
]
ZoneOption = Annotated[
    str, typer.Option("--timezone", help='Zone of dates that have none, such as "Europe/Berlin"; else this machine\'s.')
]
SkipOption = Annotated[
    list[str] | None,
    typer.Option("--skip-client", help='Network whose mail comes back from a filter; "none"; else loopback.'),
]
KnownBadOption = Annotated[
    Path | None, typer.Option("--known-bad", help="File of abusers, one a line: sender:x, user:y, ip:z.")
]


@app.command()
def replay(
    *,
    logs: LogsArgument,
    config: ConfigOption = None,
    known_bad: KnownBadOption = None,
    watch: Annotated[list[str] | None, typer.Option("--watch", help="DIMENSION:VALUE to be told about.")] = None,
    top: Annotated[int, typer.Option("--top", min=0, help="How many are named for each rule.")] = 5,
    skip_client: SkipOption = None,
    year: YearOption = None,
    timezone: ZoneOption = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say whom the rules of a configuration would have hit, by old mail logs. Asks no server."""
    settings = settings_of(_path(config))
    chosen = logs_of(logs, year=year, timezone=timezone, skip_client=skip_client or ())
    replaying.run(settings, chosen, known_bad=known_bad, watch=watch or (), top=top, as_json=as_json)


@app.command()
def tune(
    *,
    logs: LogsArgument,
    config: ConfigOption = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="Whose mail is counted; may be repeated.")] = None,
    window: Annotated[list[str] | None, typer.Option("--window", help="5m, 1h, 1d; may be repeated.")] = None,
    quantile: Annotated[float, typer.Option("--quantile", help="Share that no limit may hit.")] = tuning.QUANTILE,
    margin: Annotated[float, typer.Option("--margin", help="Room above that.")] = tuning.MARGIN,
    known_bad: KnownBadOption = None,
    skip_client: SkipOption = None,
    year: YearOption = None,
    timezone: ZoneOption = "",
    as_toml: Annotated[bool, typer.Option("--toml", help="Print rules in shadow mode.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Propose limits that would have hit next to nobody, by old mail logs. Asks no server."""
    spelling = settings_of(_path(config)).spelling()
    chosen = logs_of(logs, year=year, timezone=timezone, skip_client=skip_client or ())
    wanted = tuning.wanted_of(keys=key or (), windows=window or (), quantile=quantile, margin=margin)
    tuning.run(chosen, wanted, spelling, known_bad=known_bad, as_json=as_json, as_toml=as_toml)


@app.command()
def passwd(
    login: Annotated[str, typer.Argument(help="Whose password it is, such as alice@example.net.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Put the line there, instead of printing it.")
    ] = None,
) -> None:
    """Make a line for the file of smtp.auth.url = "passwd:FILE". Asks for the password, or reads a line of stdin."""
    line = passwords.line_for(login)
    if file is None:
        typer.echo(line)
    else:
        was_there = passwords.put(file, line)
        typer.echo(f"{file}: {login} {'has a new password' if was_there else 'stands in it now'}")


@policy.command("test")
def policy_test(
    scripts: Annotated[list[Path], typer.Argument(help="Scripts, or directories with *.smtp in them.")],
    config: ConfigOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all dialogues.")] = False,
) -> None:
    """Play SMTP dialogues about a policy: exit status 0 when all go as they are written. Counts nothing, asks nobody.

    A script without a configuration of its own is about the rules of --config.
    """
    raise typer.Exit(rehearsing.test(Console(), scripts, _path(config), verbose=verbose))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"reputon {version_of('reputon')}, Python {platform.python_version()}")
