"""What operators put down and lift: `ban`, `unban`, `override`, `release`, and who is meant: `bans`, `overrides`.

Without a target `ban` is wrong usage, and shows nothing: a script whose variable is empty must not seem to have banned
somebody. What is put down is shown by the plural, as the API has it.
"""

from dataclasses import replace
from shlex import quote
from typing import Annotated

import typer
from rich.console import Console

from reputation.cli import completing
from reputation.cli.answering import answer
from reputation.cli.desks import Where
from reputation.cli.explain import entries_table
from reputation.cli.moments import left, seconds_of, stamp
from reputation.cli.options import ForOption, JsonOption, MatchingOption, ReasonOption, TargetArgument, asking
from reputation.cli.printing import BESIDE, REFUSED, TITLE, WELL, line, show_table
from reputation.desk.contract import Desk
from reputation.desk.documents import EntryRow, EntryRows, NewEntry, Released

AT_ONCE = 1_000
"""Entries of one question."""
WideOption = Annotated[bool, typer.Option("--wide", help="So much is meant: a large network, or a whole class.")]


@asking
def ban(
    where: Where,
    target: TargetArgument,
    *,
    lasting: ForOption,
    reason: ReasonOption,
    action: Annotated[
        str,
        typer.Option(metavar="ACTION", help="reject, tempfail or discard.", autocompletion=completing.ban_actions),
    ] = "reject",
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Refuse somebody, within a second and everywhere."""
    new = NewEntry(
        kind="ban",
        target=target,
        reason=reason,
        expires_in_seconds=seconds_of(lasting),
        action=action,
        wide=wide,
    )
    answer(where, lambda desk: desk.put(new), show_put, as_json=as_json)


@asking
def unban(
    where: Where, target: TargetArgument, *, reason: ReasonOption = "lifted by hand", as_json: JsonOption = False
) -> None:
    """Lift a ban.

    Whom a rule holds for what is counted is better released: that gives a fresh allowance.
    """
    answer(where, lambda desk: desk.lift(f"ban|{target}", reason=reason), show_lifted, as_json=as_json)


@asking
def release(
    where: Where,
    entity: TargetArgument,
    *,
    reason: ReasonOption = "released",
    as_json: JsonOption = False,
) -> None:
    """Let go of somebody who is held or banned.

    Lifts the ban; whom a rule held gets a fresh allowance of it.
    """
    answer(where, lambda desk: desk.release(entity, reason=reason), show_released, as_json=as_json)


RuleArgument = Annotated[str, typer.Argument(metavar="RULE", help="The rule's name.", autocompletion=completing.rules)]
LimitArguments = Annotated[list[str] | None, typer.Argument(metavar="LIMIT", help='Such as "500/1h".')]
LiftOption = Annotated[bool, typer.Option("--lift", help="Take it back.")]


@asking
def override(
    where: Where,
    rule: RuleArgument,
    target: TargetArgument,
    limits: LimitArguments = None,
    *,
    lasting: ForOption = "",
    reason: ReasonOption = "",
    lift: LiftOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give somebody other limits of a rule.

    With --lift the rule's own hold again.
    """
    if lift and limits:
        raise typer.BadParameter("--lift takes the override back: name no limits")
    if lift:
        id = f"override|{rule}|{target}"
        answer(where, lambda desk: desk.lift(id, reason=reason or "lifted by hand"), show_lifted, as_json=as_json)
        return
    if not limits or not lasting or not reason:
        raise typer.BadParameter("name the limits, such as 500/1h, --for how long, and --reason; or --lift")
    new = NewEntry(kind="override", target=target, reason=reason, rule=rule, limits=tuple(limits))
    new = replace(new, expires_in_seconds=seconds_of(lasting))
    answer(where, lambda desk: desk.put(new), show_put, as_json=as_json)


@asking
def bans(where: Where, *, matching: MatchingOption = "", as_json: JsonOption = False) -> None:
    """Show who is banned, until when and why.

    Those whom rules hold are among them.
    """
    answer(where, lambda desk: entries_of(desk, "ban", matching), show, as_json=as_json)


@asking
def overrides(where: Where, *, matching: MatchingOption = "", as_json: JsonOption = False) -> None:
    """Show who has other limits of a rule, until when and why."""
    answer(where, lambda desk: entries_of(desk, "override", matching), show, as_json=as_json)


async def entries_of(desk: Desk, kind: str, matching: str) -> EntryRows:
    """All that fit, of all pages."""
    found: list[EntryRow] = []
    after = ""
    while True:
        page = await desk.entries(kind=kind, matching=matching, after=after, n=AT_ONCE)
        found += page.entries
        if not page.next or page.next == after:
            return EntryRows(entries=tuple(found), total=len(found))
        after = page.next


# For a person


def show(console: Console, found: EntryRows, now: float) -> None:
    """Print what was put down."""
    if not found.entries:
        line(console, "There is none.", BESIDE)
        return
    show_table(console, entries_table(found.entries, now))
    line(console, f"{found.total:,} in all", BESIDE)


def show_put(console: Console, entry: EntryRow, now: float) -> None:
    """Say what is in force now, and how to take it back."""
    lasting = f"until {stamp(entry.expires_at)} UTC, {left(entry.expires_at, now)}" if entry.expires_at else "no end"
    target = quote(entry.target)
    match entry.kind:
        case "ban":
            said, undo, style = f"banned: {entry.target}, {entry.action}", f"unban {target}", REFUSED
        case "override":
            said = f"{entry.rule} allows {entry.target} {', '.join(entry.limits)}"
            undo, style = f"override --lift {entry.rule} {target}", WELL
        case _:
            said, undo, style = f"on the list {entry.list}: {entry.target}", f"list remove {entry.list} {target}", TITLE
    line(console, f"{said}; {lasting}", style)
    line(console, f"take it back: reputon {undo}", BESIDE)


def show_lifted(console: Console, entry: EntryRow, _now: float) -> None:
    """Say what was lifted."""
    line(console, f"lifted: {entry.id}, put down by {entry.author} because {entry.reason}", WELL)


def show_released(console: Console, released: Released, _now: float) -> None:
    """Say which bans were lifted."""
    for ban in released.lifted:
        line(console, f"released: {ban.id}, put down by {ban.author} because {ban.reason}", WELL)


# Lists

lists = typer.Typer(help="Put somebody on a list, and show who is.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="The list's name.", autocompletion=completing.lists)]


@lists.command("all")
@asking
def list_all(where: Where, *, matching: MatchingOption = "", as_json: JsonOption = False) -> None:
    """Show who is on any list."""
    answer(where, lambda desk: entries_of(desk, "list", matching), show, as_json=as_json)


@lists.command("show")
@asking
def list_show(where: Where, name: NameArgument, *, as_json: JsonOption = False) -> None:
    """Show who is on a list."""
    answer(where, lambda desk: on_list(desk, name), show, as_json=as_json)


async def on_list(desk: Desk, name: str) -> EntryRows:
    """Who is on a list."""
    found = await entries_of(desk, "list", f"list|{name}|")
    rows = tuple(entry for entry in found.entries if entry.list == name)
    return EntryRows(entries=rows, total=len(rows))


@lists.command("add")
@asking
def list_add(
    where: Where,
    name: NameArgument,
    target: TargetArgument,
    *,
    lasting: ForOption,
    reason: ReasonOption,
    wide: WideOption = False,
    as_json: JsonOption = False,
) -> None:
    """Put somebody on a list."""
    new = NewEntry(
        kind="list", target=target, reason=reason, expires_in_seconds=seconds_of(lasting), list=name, wide=wide
    )
    answer(where, lambda desk: desk.put(new), show_put, as_json=as_json)


@lists.command("remove")
@asking
def list_remove(
    where: Where,
    name: NameArgument,
    target: TargetArgument,
    *,
    reason: ReasonOption = "taken off by hand",
    as_json: JsonOption = False,
) -> None:
    """Take somebody off a list."""
    answer(where, lambda desk: desk.lift(f"list|{name}|{target}", reason=reason), show_lifted, as_json=as_json)
