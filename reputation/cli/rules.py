"""`reputon rules`: what is in force, and how often each rule has acted on the whole fleet, or would have.
`reputon would-do`: what enforcing one would change. `reputon reload`: have all processes read their rules anew."""

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from reputation.cli import completing
from reputation.cli.answering import answer
from reputation.cli.desks import Where
from reputation.cli.moments import ago, stamp
from reputation.cli.options import JsonOption, ReasonOption, WatchOption, asking
from reputation.cli.printing import (
    BESIDE,
    TITLE,
    WELL,
    WOULD,
    add_row,
    line,
    named,
    number,
    of_action,
    show_table,
    styled,
    table,
    title,
    word,
)
from reputation.cli.verdicts import show_recent
from reputation.desk.documents import Reloaded, RuleRow, Rules, WouldDo

SHADOW = "shadow"
RuleArgument = Annotated[str, typer.Argument(metavar="RULE", help="The rule's name.", autocompletion=completing.rules)]


@asking
def rules(where: Where, *, as_json: JsonOption = False, watch: WatchOption = None) -> None:
    """Show the rules in force, and how often they act.

    On the whole fleet; of those in shadow mode, how often they would have.
    """
    answer(where, lambda desk: desk.rules(), show, as_json=as_json, watch=watch)


@asking
def would_do(where: Where, rule: RuleArgument, *, as_json: JsonOption = False) -> None:
    """Show what enforcing a rule would change.

    Whom a rule in shadow mode would have hit, by the verdicts that the live stream remembers.
    """
    answer(where, lambda desk: desk.would_do(rule), show_would_do, as_json=as_json)


@asking
def reload(where: Where, *, reason: ReasonOption = "reloaded by hand", as_json: JsonOption = False) -> None:
    """Have all processes read their rules anew.

    If they can be read here.
    """
    answer(where, lambda desk: desk.reload(reason=reason), show_reloaded, as_json=as_json)


def show(console: Console, found: Rules, now: float) -> None:
    """Print for a person; `now` in seconds since the epoch."""
    if not found.rules:
        line(console, 'There are no rules. Write some, or include those that come with reputon: include = ["default"]')
        return
    line(console, "Rules in force", TITLE)
    show_table(console, rules_table(found.rules, now))
    if any(row.mode == SHADOW for row in found.rules):
        line(console, "Of rules in shadow mode: how often they would have acted.", BESIDE)


def rules_table(rows: Iterable[RuleRow], now: float) -> Table:
    """Rules, and how often they acted: those in shadow mode, would have."""
    headings = (number("5 min"), number("1 h"), number("1 d"), number("last ago"))
    shown = table(word("rule"), word("stage"), word("action"), word("mode"), *headings)
    for row in rows:
        is_shadow = row.mode == SHADOW
        counted = row.would_hit if is_shadow else row.hits
        action = of_action(row.action) if row.action else "(Python)"
        mode = styled(row.mode, WOULD if is_shadow else "")
        counts = (counted.last_5m, counted.last_1h, counted.last_1d, ago(counted.last_at, now))
        add_row(shown, row.rule, row.stage, action, mode, *counts, style="" if counted.last_1d else BESIDE)
    return shown


def show_would_do(console: Console, found: WouldDo, now: float) -> None:
    """Print for a person."""
    line(console, found.rule, TITLE)
    if found.since is None or not found.verdicts:
        since = f"since {stamp(found.since)} UTC" if found.since is not None else "and there are no verdicts yet"
        line(console, f"It would have hit nobody, {since}.", WELL)
        return
    line(
        console,
        f"Since {stamp(found.since)} UTC it would have hit {found.verdicts:,} times; {found.changed:,} of these passed,"
        " which enforcing it would change.",
        WOULD if found.changed else WELL,
    )
    title(console, "Whom")
    rows = table(named("who"), number("would be hit"), number("of these passed"))
    for row in found.rows:
        add_row(rows, row.entity, row.verdicts, row.accepted)
    show_table(console, rows)
    title(console, "Latest")
    show_recent(console, found.recent, now)


def show_reloaded(console: Console, told: Reloaded, _now: float) -> None:
    """Print for a person."""
    line(console, f"all processes read {told.rules:,} rules anew, within a second or two", WELL)
