"""What `reputon replay` and `reputon tune` share: which logs, how far it is, what could not be read."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from reputation.errors import ConfigError, EntityError
from reputation.keys import Entity, parse_entity
from reputation.replay.clients import LOOPBACK
from reputation.replay.flow import Flow
from reputation.replay.reading import LogFile, Reading, visible
from reputation.spelling import Spelling
from reputation.windows import MICROSECONDS

NOBODY = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """Which logs, and how to read them."""

    paths: Sequence[Path]
    year: int | None
    zone: tzinfo | None
    skip: tuple[IPv4Network | IPv6Network, ...]

    def reading(self, on_bytes: Callable[[int], None] = lambda _: None) -> Reading:
        """Open them; raises `ConfigError`."""
        return Reading(self.paths, zone=self.zone, year=self.year, on_bytes=on_bytes)

    def time(self, at_us: int) -> datetime:
        """A moment in the log's zone."""
        return datetime.fromtimestamp(at_us / MICROSECONDS, self.zone)


def logs_of(paths: Sequence[Path], *, year: int | None, timezone: str, skip_client: Sequence[str]) -> Logs:
    """What was typed; raises `ConfigError` that says what to write."""
    return Logs(paths=paths, year=_year(year), zone=_zone(timezone), skip=_networks(skip_client))


def _year(year: int | None) -> int | None:
    if year is not None and not 1980 <= year <= 2200:
        raise ConfigError(f"--year {year}: write the year of the log, such as 2026")
    return year


def _zone(name: str) -> tzinfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # not there, a directory, no name of a file
        raise ConfigError(f'--timezone: there is no "{name}": write a name such as "Europe/Berlin" or "UTC"') from None


def _networks(texts: Sequence[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    if not texts:
        return LOOPBACK
    found = []
    for text in texts:
        try:
            found += [] if text == NOBODY else [ip_network(text, strict=False)]
        except ValueError:
            raise ConfigError(f'--skip-client: "{text}" is no network: write 10.0.0.0/8, ::1 or "{NOBODY}"') from None
    return tuple(found)


def entities_in(path: Path | None, spelling: Spelling) -> frozenset[Entity]:
    """The entities of a file, one a line; ``#`` begins a comment. Raises `ConfigError` with a line per mistake."""
    if path is None:
        return frozenset()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8 text'}") from None
    found, wrong = set(), []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        try:
            found |= {parse_entity(text, spelling)} if text else set()
        except EntityError as error:
            wrong.append(f"{path}:{number}: {error}")
    if wrong:
        raise ConfigError("\n".join(wrong))
    return frozenset(found)


@contextmanager
def progress_of(logs: Logs, *, quiet: bool) -> Iterator[Reading]:
    """The logs, with a bar on standard error that says how far it is; none where nobody looks."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=Console(stderr=True), transient=True, disable=quiet or not sys.stderr.isatty()
    ) as progress:
        task = progress.add_task("reading", total=None)
        reading = logs.reading(lambda octets: progress.advance(task, octets))
        progress.update(task, total=reading.total_bytes)
        yield reading


def check_read(files: Sequence[LogFile], *, anything: bool) -> None:
    """Raises `ConfigError` when nothing came of all the logs together."""
    if not anything:
        names = ", ".join(file.name for file in files)
        raise ConfigError(f"{names}: no message and no connection in it")


def files_as_dicts(files: Sequence[LogFile]) -> list[dict[str, Any]]:
    """What could be read, as plain values."""
    return [
        {
            "file": file.name,
            "lines": file.lines,
            "used": file.used,
            "unreadable": file.unreadable,
            "examples": file.examples,
        }
        for file in files
    ]


def notes_of(files: Sequence[LogFile], flow: Flow) -> list[str]:
    """What a reader of the figures has to know about the logs."""
    notes = []
    if unreadable := sum(file.unreadable for file in files):
        notes.append(f"{unreadable:,} lines could not be read")
    if flow.passed_over:
        notes.append(f"{flow.passed_over:,} messages had no address, or came from clients that are skipped")
    if flow.waiting.without_sender:
        notes.append(f"{flow.waiting.without_sender:,} transactions came to no message, and have no sender in the log")
    if flow.waiting.hurried:
        notes.append(f"{flow.waiting.hurried:,} messages were looked at before all of their lines had come")
    return notes


def show_files(console: Console, files: Sequence[LogFile], notes: Sequence[str]) -> None:
    """Print what could be read, and examples of what could not."""
    lines = sum(file.lines for file in files)
    used = sum(file.used for file in files)
    what = files[0].name if len(files) == 1 else f"{len(files)} files"
    line(console, f"{what}: {lines:,} lines, {used:,} about mail")
    for note in notes:
        line(console, note, "yellow")
    for example in [example for file in files for example in file.examples][:3]:
        line(console, f"  {example}", "dim")


def line(console: Console, text: str, style: str = "") -> None:
    """Print a line as it is, however narrow the terminal, and whatever a stranger wrote into it."""
    console.print(Text(visible(text), style=style), soft_wrap=True)


def table(title: str, *headings: str) -> Table:
    """A table that cuts nothing off. Rows go in by `add_row`."""
    columns = (Column(Text(heading), overflow="fold") for heading in headings)
    return Table(*columns, title=Text(title) if title else None, title_justify="left")


def add_row(rows: Table, *cells: str, style: str = "") -> None:
    """Add a row as it is: a sender may call himself ``[red]`` or worse, and markup is for our own words."""
    rows.add_row(*(Text(visible(cell)) for cell in cells), style=style)


def print_json(values: object) -> None:
    """Print plain values as one JSON object."""
    print(json.dumps(values, indent=2))
