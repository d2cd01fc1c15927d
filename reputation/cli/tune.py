"""`reputon tune`: limits out of old logs, as a table, as JSON, or as rules to be put into a configuration."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from reputation.cli.logs import (
    Logs,
    add_row,
    check_read,
    entities_in,
    files_as_dicts,
    line,
    notes_of,
    print_json,
    progress_of,
    show_files,
    table,
)
from reputation.errors import ConfigError, LimitError
from reputation.keys import Dimension, Entity
from reputation.replay.flow import Flow
from reputation.replay.reading import LogFile
from reputation.replay.tuning import SHOWN_QUANTILES, Proposal, Tuning, rules_toml
from reputation.spelling import Spelling
from reputation.windows import Limit, Window

KEYS = ("user", "sender", "sender_domain", "ip", "prefix")
WINDOWS = ("5m", "1h", "1d")
POSSIBLE = (*KEYS, "recipient", "recipient_domain", "class")
QUANTILE, MARGIN = 0.999, 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for."""

    keys: tuple[tuple[Dimension, ...], ...]
    windows: tuple[Window, ...]
    quantile: float
    margin: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What came of it."""

    logs: Logs
    files: list[LogFile]
    notes: list[str]
    wanted: Wanted
    messages: int
    first_us: int
    last_us: int
    proposals: list[Proposal]


def wanted_of(*, keys: Sequence[str], windows: Sequence[str], quantile: float, margin: float) -> Wanted:
    """What was typed; raises `ConfigError` that says what to write."""
    if not 0 < quantile <= 1:
        raise ConfigError(
            f"--quantile {quantile:g}: write a share of the entity-days above 0 and up to 1, such as 0.999"
        )
    if not 0 < margin <= 1_000:
        raise ConfigError(f"--margin {margin:g}: write a factor above 0, such as 1.5")
    return Wanted(
        keys=tuple(dict.fromkeys(_key(text) for text in keys or KEYS)),
        windows=tuple(_window(text) for text in windows or WINDOWS),
        quantile=quantile,
        margin=margin,
    )


def _key(text: str) -> tuple[Dimension, ...]:
    names = text.split("+")
    if not set(names) <= set(POSSIBLE) or len(set(names)) < len(names):
        raise ConfigError(f'--key: "{text}" cannot be tuned: write {", ".join(POSSIBLE)}, or several joined by "+"')
    return tuple(Dimension(name) for name in names)


def _window(text: str) -> Window:
    try:
        return Limit.parse(f"1/{text}").window
    except LimitError:
        raise ConfigError(f'--window: "{text}" is no stretch of time: write 5m, 1h or 1d') from None


def run(
    logs: Logs, wanted: Wanted, spelling: Spelling, *, known_bad: Path | None, as_json: bool, as_toml: bool
) -> None:
    """The command: look and print."""
    bad = entities_in(known_bad, spelling)
    tuned = tune(logs, wanted, spelling, known_bad=bad, quiet=as_json or as_toml)
    if as_json:
        print_json(as_dict(tuned))
    elif as_toml:
        print("\n".join(toml_lines(tuned)))
    else:
        show(Console(), tuned)


def tune(
    logs: Logs, wanted: Wanted, spelling: Spelling, *, known_bad: Collection[Entity] = (), quiet: bool = False
) -> Tuned:
    """Look at what everybody has sent. Raises `ConfigError`."""
    flow = Flow(logs.skip)
    tuning = Tuning(wanted.keys, wanted.windows, spelling, known_bad=known_bad, zone=logs.zone)
    with progress_of(logs, quiet=quiet) as reading:
        for timed in flow.steps(reading.records()):
            tuning.take(timed)
    check_read(reading.files, anything=bool(tuning.messages))
    notes = notes_of(reading.files, flow)
    if tuning.overflowed:
        notes.append("there were more senders at once than can be followed: some peaks are too low")
    return Tuned(
        logs=logs,
        files=reading.files,
        notes=notes,
        wanted=wanted,
        messages=tuning.messages,
        first_us=tuning.first_us,
        last_us=tuning.last_us,
        proposals=tuning.proposals(quantile=wanted.quantile, margin=wanted.margin),
    )


def as_dict(tuned: Tuned) -> dict[str, Any]:
    """The outcome as plain values."""
    first, last = tuned.logs.time(tuned.first_us), tuned.logs.time(tuned.last_us)
    return {
        "logs": files_as_dicts(tuned.files),
        "notes": tuned.notes,
        "from": first.isoformat(timespec="seconds"),
        "until": last.isoformat(timespec="seconds"),
        "messages": tuned.messages,
        "quantile": tuned.wanted.quantile,
        "margin": tuned.wanted.margin,
        "proposals": [_proposal(proposal) for proposal in tuned.proposals],
    }


def _proposal(proposal: Proposal) -> dict[str, Any]:
    return {
        "key": list(proposal.series.key),
        "metric": proposal.series.metric,
        "stage": proposal.series.stage,
        "window": str(proposal.window),
        "entity_days": proposal.entity_days,
        "quantiles": {f"{share:g}": peak for share, peak in proposal.quantiles.items()},
        "max": proposal.most,
        "limit": f"{proposal.limit}/{proposal.window}",
        "false_positives": proposal.false_positives,
        "entities_above": proposal.entities_above,
        "top": [{"entity": str(entity), "peak": peak} for entity, peak in proposal.top],
        "known_bad": {"entity_days": proposal.known_bad_days, "above": proposal.known_bad_above},
    }


def toml_lines(tuned: Tuned) -> Sequence[str]:
    """The proposals as rules in shadow mode."""
    share = f"{tuned.wanted.quantile:.6g} of the entity-days, times {tuned.wanted.margin:g}"
    span = f"{tuned.logs.time(tuned.first_us):%Y-%m-%d} to {tuned.logs.time(tuned.last_us):%Y-%m-%d}"
    return [f"# {tuned.messages:,} messages of {span}; limits: {share}, rounded up", "", *rules_toml(tuned.proposals)]


def show(console: Console, tuned: Tuned) -> None:
    """Print for a person."""
    show_files(console, tuned.files, tuned.notes)
    first, last = tuned.logs.time(tuned.first_us), tuned.logs.time(tuned.last_us)
    line(console, f"{tuned.messages:,} messages from {first:%Y-%m-%d %H:%M:%S} to {last:%Y-%m-%d %H:%M:%S}")
    console.print(_table(tuned))
    line(console, '"above" are days on which somebody would have been hit, "of" how many different ones')
    for proposal in tuned.proposals:
        if proposal.top:
            who = ", ".join(f"{entity} ({peak:,})" for entity, peak in proposal.top)
            line(console, f"{proposal.series} above {proposal.limit}/{proposal.window}: {who}")
    if few := sorted({str(it.series) for it in tuned.proposals if it.entity_days * (1 - tuned.wanted.quantile) < 1}):
        line(console, f"so few days that the quantile is the maximum: {', '.join(few)}", "yellow")


def _table(tuned: Tuned) -> Table:
    shares = [*SHOWN_QUANTILES, *({tuned.wanted.quantile} - set(SHOWN_QUANTILES))]
    bad = any(proposal.known_bad_days for proposal in tuned.proposals)
    rows = table(
        f"Peaks of entity-days, and limits: quantile {tuned.wanted.quantile:g}, times {tuned.wanted.margin:g}",
        *("what", "days", *(f"{100 * share:g} %" for share in shares), "max"),
        *("limit", "above", "of", *(("bad above",) if bad else ())),
    )
    for proposal in tuned.proposals:
        add_row(
            rows,
            str(proposal.series),
            f"{proposal.entity_days:,}",
            *(f"{proposal.quantiles[share]:,}" for share in shares),
            f"{proposal.most:,}",
            f"{proposal.limit}/{proposal.window}",
            f"{proposal.false_positives:,}",
            f"{proposal.entities_above:,}",
            *((f"{proposal.known_bad_above:,} of {proposal.known_bad_days:,}",) if bad else ()),
            style="" if proposal.false_positives else "dim",
        )
    return rows
