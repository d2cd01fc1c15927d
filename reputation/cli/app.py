"""The sub-commands of `reputon`: where each one stands, and those that run things."""

import asyncio
import platform
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reputation.assemble import settings_of
from reputation.cli import (
    asn,
    entity,
    entries,
    exporting,
    old_logs,
    outcome,
    rules,
    status,
    suspects,
    tokens,
    top,
    verdicts,
)
from reputation.cli import passwd as passwords
from reputation.cli import policy as rehearsing
from reputation.cli import serve as serving
from reputation.cli.desks import path_of
from reputation.cli.options import ConfigOption, Watchable
from reputation.config import Settings, doubts, effective_lines

RUNNING, LOOKING, ACTING, POLICY, DATA = "Running", "Looking", "Acting", "Policy", "Data"

app = typer.Typer(
    name="reputon",
    help="Reputation and rate limits for mail, shared by a fleet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)
policy = typer.Typer(help="Try out a policy.", no_args_is_help=True)


# Running


def serve(
    config: ConfigOption = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", "-w", min=1, max=256, help="Processes that share the ports; else smtp.workers."),
    ] = None,
) -> None:
    """Run everything on this machine.

    The SMTP front end, and the API with its console, over the configured store.
    """
    path = path_of(config)
    code = asyncio.run(serving.serve(path, settings_of(path), workers))
    raise typer.Exit(code)


def check_config(
    file: Annotated[Path | None, typer.Argument(help="TOML file; the quick start's when none is named.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Print all settings in force, without secrets.")] = False,
) -> None:
    """Say whether a configuration can be used.

    Exit status 0 or 1, one line per mistake. Asks no server.
    """
    path = path_of(file)
    settings = settings_of(path)
    if show:
        for line in effective_lines(settings):
            typer.echo(line)
        return
    for doubt in doubts(settings):
        typer.echo(f"{path}: {doubt}", err=True)
    if status := serving.checked_programs(path, settings):
        raise typer.Exit(status)
    typer.echo(f"{path}: good, {_counted(settings)}")


def _counted(settings: Settings) -> str:
    shadow = sum(rule.mode == "shadow" for rule in settings.rule)
    return f"{len(settings.rule)} rules, {shadow} of them in shadow mode"


def version() -> None:
    """Print the version."""
    typer.echo(f"reputon {version_of('reputon')}, Python {platform.python_version()}")


# Policy and data


@policy.command("test")
def policy_test(
    scripts: Annotated[list[Path], typer.Argument(help="Scripts, or directories with *.smtp in them.")],
    config: ConfigOption = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show all dialogues.")] = False,
) -> None:
    """Play SMTP dialogues about a policy.

    Exit status 0 when all go as they are written. Counts nothing, asks nobody. A script without a configuration of its
    own is about the rules of --config.
    """
    raise typer.Exit(rehearsing.test(Console(), scripts, path_of(config), verbose=verbose))


def passwd(
    login: Annotated[str, typer.Argument(help="Whose password it is, such as alice@example.net.")],
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Put the line there, instead of printing it.")
    ] = None,
) -> None:
    """Make a line for a file of passwords.

    For the file of smtp.auth.url = "passwd:FILE". Asks for the password, or reads a line of stdin.
    """
    line = passwords.line_for(login)
    if file is None:
        typer.echo(line)
    else:
        was_there = passwords.put(file, line)
        typer.echo(f"{file}: {login} {'has a new password' if was_there else 'stands in it now'}")


# Where each one stands

COMMANDS = (
    (RUNNING, "serve", serve),
    (RUNNING, "status", status.status),
    (RUNNING, "version", version),
    (LOOKING, "top", top.top),
    (LOOKING, "show", entity.show),
    (LOOKING, "series", entity.series),
    (LOOKING, "explain", entity.explain),
    (LOOKING, "tail", verdicts.tail),
    (LOOKING, "bans", entries.bans),
    (LOOKING, "overrides", entries.overrides),
    (LOOKING, "audit", status.audit),
    (ACTING, "ban", entries.ban),
    (ACTING, "unban", entries.unban),
    (ACTING, "release", entries.release),
    (ACTING, "override", entries.override),
    (ACTING, "outcome", outcome.outcome),
    (ACTING, "forget", entity.forget),
    (POLICY, "check-config", check_config),
    (POLICY, "rules", rules.rules),
    (POLICY, "would-do", rules.would_do),
    (POLICY, "reload", rules.reload),
    (POLICY, "replay", old_logs.replay),
    (POLICY, "tune", old_logs.tune),
    (DATA, "passwd", passwd),
)
GROUPS = (
    (LOOKING, "suspects", suspects.commands),
    (ACTING, "list", entries.lists),
    (POLICY, "policy", policy),
    (DATA, "export", exporting.commands),
    (DATA, "token", tokens.commands),
    (DATA, "asn", asn.commands),
)
WATCHABLE = {"status", "top", "show", "rules"}
"""Those with an option --watch, which may go without its number."""

for panel, name, command in COMMANDS:
    app.command(name, rich_help_panel=panel, cls=Watchable if name in WATCHABLE else None)(command)
for panel, name, group in GROUPS:
    app.add_typer(group, name=name, rich_help_panel=panel)
