"""`reputon status`: the site at a glance. `reputon audit`: what was done lately."""

from typing import Annotated

import typer
from rich.console import Console

from reputation.cli.answering import answer
from reputation.cli.desks import Where
from reputation.cli.moments import stamp
from reputation.cli.options import JsonOption, WatchOption, asking
from reputation.cli.printing import (
    BESIDE,
    REFUSED,
    TITLE,
    WELL,
    add_row,
    bars,
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
from reputation.cli.rules import rules_table
from reputation.desk.documents import Audit, Overview, StoreHealth


@asking
def status(where: Where, *, as_json: JsonOption = False, watch: WatchOption = None) -> None:
    """Show the site at a glance.

    The store, verdicts by action, the busiest rules.
    """
    answer(where, lambda desk: desk.overview(), show_overview, as_json=as_json, watch=watch)


@asking
def audit(
    where: Where,
    *,
    n: Annotated[int, typer.Option("--n", min=1, metavar="NUMBER", help="How many lines.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what was done lately, by whom and why."""
    answer(where, lambda desk: desk.audit(n), show_audit, as_json=as_json)


def show_overview(console: Console, overview: Overview, now: float) -> None:
    """Print for a person."""
    _show_store(console, overview.store)
    line(console, f"{overview.bans:,} bans, {overview.overrides:,} overrides, {overview.lists:,} places on lists")
    if not overview.store.up:
        return
    title(console, "Verdicts")
    rows = table("action", *(number(window) for window in ("5 min", "1 h", "1 d")), word("the last hour"))
    for each in overview.actions:
        drawn = f"|{bars(bucket.count for bucket in each.buckets)}|" if each.buckets else ""
        style = "" if each.last_1d else BESIDE
        add_row(rows, of_action(each.action), each.last_5m, each.last_1h, each.last_1d, styled(drawn), style=style)
    show_table(console, rows)
    title(console, "Busiest rules of the last day")
    if overview.rules:
        show_table(console, rules_table(overview.rules, now))
    else:
        line(console, "None has acted, or would have.", BESIDE)


def _show_store(console: Console, store: StoreHealth) -> None:
    if not store.up:
        line(console, f"the store is away: {store.name} ({store.url})", f"{TITLE} {REFUSED}")
        return
    whole = "" if store.whole else ", but not all of its servers answer"
    line(console, f"{store.name} at {store.url}{whole}", WELL if store.whole else REFUSED)
    took = f", an answer took {store.answer_ms:.1f} ms" if store.answer_ms is not None else ""
    if not store.processes:
        line(console, f"No process of reputon lives: nothing is judged, until `reputon serve` runs{took}", REFUSED)
        return
    line(console, f"{store.processes:,} {'process' if store.processes == 1 else 'processes'} of reputon{took}")


def show_audit(console: Console, done: Audit, _now: float) -> None:
    """Print for a person, the latest first."""
    if not done.lines:
        line(console, "Nothing was done yet.", BESIDE)
        return
    rows = table(word("when (UTC)"), "what", named("about"), "by", named("reason"))
    for each in done.lines:
        add_row(rows, stamp(each.at), each.what, each.id, each.author, each.reason)
    show_table(console, rows)
