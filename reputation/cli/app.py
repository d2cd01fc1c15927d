"""The sub-commands of `reputon` and their options."""

import asyncio
import json
import platform
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from reputation.assemble import settings_of
from reputation.cli import explain as explaining
from reputation.cli import serve as serving
from reputation.config import Settings, effective_lines, quickstart_path

app = typer.Typer(
    name="reputon",
    help="Reputation and rate limits for mail, shared by a fleet.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=True,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; the quick start's when none is named.", envvar="REPUTON_CONFIG"),
]


def _path(config: Path | None) -> Path:
    return quickstart_path() if config is None else config


@app.command()
def serve(config: ConfigOption = None) -> None:
    """Run everything on this machine: the SMTP front end over the configured store."""
    path = _path(config)
    code = asyncio.run(serving.serve(path, settings_of(path)))
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
    explanation = asyncio.run(explaining.explain(settings_of(_path(config)), entity))
    if as_json:
        typer.echo(json.dumps(explaining.as_dict(explanation)))
    else:
        explaining.show(Console(), explanation)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"reputon {version_of('reputon')}, Python {platform.python_version()}")
