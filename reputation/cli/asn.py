"""`reputon asn`: the table of the world's networks."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from reputation.errors import ConfigError
from reputation.lookups.asn_build import build

commands = typer.Typer(help="Make the table of the world's networks.", no_args_is_help=True)


@commands.command("build")
def build_table(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE", help="MRT RIB dumps, CSV ranges, PREFIX<tab>NUMBER or location.db; .gz, .bz2."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The table to write; see lookups.asn_table.")],
    force: Annotated[bool, typer.Option("--force", help="Write it even if it is much smaller than the last.")] = False,
) -> None:
    """Make the table that look-ups of networks use. Of what is said twice the last source decides."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {file: progress.add_task(file.name, total=_octets(file)) for file in sources}
        built = build(
            sources,
            out,
            even_if_smaller=force,
            on_progress=lambda file, octets: progress.update(bars[file], completed=octets),
        )
        for bar in bars.values():
            progress.update(bar, completed=progress.tasks[bar].total)
    typer.echo(
        f"{out}: {built.prefixes_v4} IPv4 and {built.prefixes_v6} IPv6 prefixes "
        f"of {built.asns} autonomous systems, {built.countries} countries"
    )


def _octets(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from None
