"""`reputon replay` and `reputon tune`: the commands, and their options."""

from pathlib import Path
from typing import Annotated

import typer

from reputation.assemble import settings_of
from reputation.cli import replay as replaying
from reputation.cli import tune as tuning
from reputation.cli.desks import path_of
from reputation.cli.logs import logs_of
from reputation.cli.options import ConfigOption

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
    """Say whom rules would have hit, by old logs.

    The rules of a configuration; asks no server.
    """
    settings = settings_of(path_of(config))
    chosen = logs_of(logs, year=year, timezone=timezone, skip_client=skip_client or ())
    replaying.run(settings, chosen, known_bad=known_bad, watch=watch or (), top=top, as_json=as_json)


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
    """Propose limits, by old logs.

    Such that would have hit next to nobody; asks no server.
    """
    spelling = settings_of(path_of(config)).spelling()
    chosen = logs_of(logs, year=year, timezone=timezone, skip_client=skip_client or ())
    wanted = tuning.wanted_of(keys=key or (), windows=window or (), quantile=quantile, margin=margin)
    tuning.run(chosen, wanted, spelling, known_bad=known_bad, as_json=as_json, as_toml=as_toml)
