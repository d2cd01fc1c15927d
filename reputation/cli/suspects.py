"""`reputon suspects`: whom rules hold. `reputon suspects show`: the case file of one."""

from collections.abc import Iterable, Mapping
from shlex import quote

import typer
from rich.console import Console
from rich.table import Table

from reputation.cli.answering import answer
from reputation.cli.desks import Where
from reputation.cli.entity import show_page
from reputation.cli.moments import ago, left, stamp
from reputation.cli.options import EntityArgument, JsonOption, WatchableGroup, WatchOption, asking
from reputation.cli.printing import (
    BESIDE,
    REFUSED,
    TITLE,
    WELL,
    add_row,
    line,
    named,
    number,
    show_table,
    styled,
    table,
    title,
    word,
)
from reputation.desk.contract import MAX_SUSPECTS
from reputation.desk.documents import CaseFile, Suspect, Suspects

commands = typer.Typer(cls=WatchableGroup, invoke_without_command=True)
MAX_NAMED = 8
"""Of each kind in a case file."""


@commands.callback()
@asking
def suspects(where: Where, *, as_json: JsonOption = False, watch: WatchOption = None) -> None:
    """Show whom rules hold, since when and why."""
    answer(where, lambda desk: desk.suspects(n=MAX_SUSPECTS), show, as_json=as_json, watch=watch)


@commands.command("show")
@asking
def suspects_show(where: Where, entity: EntityArgument, *, as_json: JsonOption = False) -> None:
    """Show the case file of one: what he did, from where, to whom, and what to do about it."""
    answer(where, lambda desk: desk.case_file(entity), show_case, as_json=as_json)


def show(console: Console, found: Suspects, now: float) -> None:
    """Print for a person, the latest first."""
    if not found.suspects:
        line(console, "Nobody is held.", WELL)
        return
    show_table(console, _table(found.suspects, now))
    if found.next:
        line(console, f"the latest {len(found.suspects):,} of {found.total:,}; all of them: reputon bans", BESIDE)
    first = quote(found.suspects[0].entity)
    line(console, f"see why: reputon suspects show {first}; let go: reputon release {first}", BESIDE)


def _table(suspects: Iterable[Suspect], now: float) -> Table:
    rows = table(named("who"), "held by", number("ago"), word("until (UTC)"), number("left"), named("reason"))
    for each in suspects:
        since, until = ago(each.since, now), stamp(each.until)
        add_row(rows, styled(each.entity, REFUSED), each.rule, since, until, left(each.until, now), each.reason)
    return rows


def show_case(console: Console, case: CaseFile, now: float) -> None:
    """Why somebody is suspected, and all that is known of him."""
    if case.suspect is None:
        line(console, f"{case.page.entity} is not held.", WELL)
    else:
        show_table(console, _table([case.suspect], now))
    for advice in case.advice:
        line(console, f"* {advice}")
    if case.first_seen is not None and case.last_seen is not None:
        line(console, f"verdicts from {stamp(case.first_seen)} to {stamp(case.last_seen)} UTC", BESIDE)
    counted = {
        "actions": case.actions,
        "clients": case.clients,
        "networks": {f"AS{number}": n for number, n in case.asns.items()},
        "countries": case.countries,
        "recipients": case.recipients,
    }
    if any(counted.values()):
        title(console, "In these verdicts")
        show_table(console, _most(counted))
    title(console, "How it stands")
    show_page(console, case.page, now)


def _most(counted: Mapping[str, Mapping[str, int]]) -> Table:
    rows = table("", "most often")
    for name, numbers in counted.items():
        told = [f"{each} ({n:,})" for each, n in list(numbers.items())[:MAX_NAMED]]
        more = [f"and {len(numbers) - MAX_NAMED:,} more"] if len(numbers) > MAX_NAMED else []
        if told:
            add_row(rows, styled(name, TITLE), ", ".join([*told, *more]))
    return rows
