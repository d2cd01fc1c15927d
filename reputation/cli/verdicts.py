"""`reputon tail`: verdicts as they are given; and how verdicts are shown elsewhere."""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import aclosing, suppress
from itertools import groupby
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from reputation.cli import completing
from reputation.cli.desks import Where, opened_desk
from reputation.cli.moments import ago, clock
from reputation.cli.options import JsonOption, asking
from reputation.cli.printing import (
    BESIDE,
    WOULD,
    add_row,
    line,
    named,
    note,
    number,
    of_action,
    print_json_line,
    show_table,
    styled,
    table,
    terminal,
    word,
)
from reputation.desk.contract import Wanted
from reputation.desk.documents import VerdictLine
from reputation.desk.watching import place_of
from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.verdict import Action

ACTION_WIDTH, STAGE_WIDTH, REASON_WIDTH, CLIENT_WIDTH = 8, 7, 13, 15
MAX_NAMED = 3
"""Recipients in one line."""
MAX_ROWS = 12
"""Of recent verdicts."""


@asking
def tail(
    where: Where,
    *,
    action: Annotated[
        list[str] | None,
        typer.Option(metavar="ACTION", help="Only of this one; may be repeated.", autocompletion=completing.actions),
    ] = None,
    stage: Annotated[
        list[str] | None,
        typer.Option(metavar="STAGE", help="Only of this one; may be repeated.", autocompletion=completing.stages),
    ] = None,
    rule: Annotated[
        str,
        typer.Option(metavar="RULE", help="That fired, decided or would have.", autocompletion=completing.rules),
    ] = "",
    entity: Annotated[
        str, typer.Option(metavar="ENTITY", help="DIMENSION:VALUE.", autocompletion=completing.entities)
    ] = "",
    after: Annotated[str, typer.Option(metavar="ID", help="Go on after that verdict; 0 for all there are.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show verdicts as they are given, until Ctrl-C.

    With --json a line of JSON each.
    """
    place_of(after or "0")
    wanted = wanted_of(actions=action or (), stages=stage or (), rule=rule, entity=entity)
    with suppress(KeyboardInterrupt):  # how it is meant to end
        asyncio.run(_follow(where, wanted, after or None, as_json=as_json))


def wanted_of(*, actions: Iterable[str], stages: Iterable[str], rule: str, entity: str) -> Wanted:
    """What was typed; raises `ConfigError` for what would never come."""
    for option, words, known in (("--action", actions, set(Action)), ("--stage", stages, set(Stage))):
        if wrong := [word for word in words if word not in known]:
            raise ConfigError(f'{option}: "{wrong[0]:.40}" is none of {", ".join(sorted(known))}')
    if entity and ":" not in entity:
        raise ConfigError('--entity: write DIMENSION:VALUE, such as "sender:alice@example.com"')
    return Wanted(actions=frozenset(actions), stages=frozenset(stages), rule=rule, entity=entity)


async def _follow(where: Where, wanted: Wanted, after: str | None, *, as_json: bool) -> None:
    console = terminal()
    async with opened_desk(where, following=True) as desk:
        if console.is_terminal and not as_json:
            note("verdicts as they are given, times in UTC; Ctrl-C ends")
        async with aclosing(desk.verdicts(wanted, after=after)) as lines:
            async for verdict in lines:
                if verdict is None:
                    continue
                if as_json:
                    print_json_line(verdict)
                else:
                    line(console, line_of(verdict))
                    console.file.flush()


def line_of(verdict: VerdictLine) -> Text:
    """A verdict in a line: when, what, why, from whom, about what."""
    text = styled(f"{clock(verdict.at)} ", BESIDE)
    text.append_text(_padded(of_action(verdict.action), ACTION_WIDTH))
    text.append_text(_padded(styled(verdict.stage), STAGE_WIDTH))
    text.append_text(_padded(styled(verdict.reason), REASON_WIDTH))
    text.append_text(_padded(styled(verdict.client), CLIENT_WIDTH))
    text.append_text(styled(what_about(verdict)))
    text.append_text(styled(f"  {_because(verdict)}" if _because(verdict) else "", BESIDE))
    if verdict.would:
        text.append_text(styled(f"  would: {', '.join(verdict.would)}", WOULD))
    return text


def _padded(text: Text, width: int) -> Text:
    """A text, with blanks behind it up to a width and one more."""
    return text.append(" " * (max(0, width - text.cell_len) + 1))


def what_about(verdict: VerdictLine) -> str:
    """Whose mail to whom, or who logs in; or else how the client calls itself."""
    named = ", ".join(verdict.recipients[:MAX_NAMED])
    more = max(verdict.recipient_count, len(verdict.recipients)) - min(len(verdict.recipients), MAX_NAMED)
    to = f"{named} and {more:,} more" if more > 0 and named else named
    user = f"{verdict.user} as " if verdict.user and verdict.sender and verdict.user != verdict.sender else ""
    sender = verdict.sender or verdict.user or ("<>" if to else "")
    return f"{user}{sender}{f' > {to}' if to else ''}" or verdict.helo


def _because(verdict: VerdictLine) -> str:
    """What the reason rests on."""
    return verdict.finding or verdict.rule or verdict.entry


def show_recent(console: Console, verdicts: Sequence[VerdictLine], now: float) -> None:
    """Verdicts, the latest first; those in a row that say the same stand in one line."""
    client = word if all(len(verdict.client) <= CLIENT_WIDTH for verdict in verdicts) else named
    texts = (client("client"), named("what about"), named("why"))
    rows = table(number("ago"), number("n"), word("action"), word("stage"), *texts)
    runs = [list(run) for _, run in groupby(verdicts, key=_what_it_says)]
    for run in runs[:MAX_ROWS]:
        latest = run[0]
        reason = styled(" ".join(filter(None, (latest.reason, latest.rule or latest.entry))))
        if latest.would:
            reason.append_text(styled(f" would: {', '.join(latest.would)}", WOULD))
        told = (of_action(latest.action), latest.stage, latest.client, what_about(latest))
        add_row(rows, ago(latest.at, now), len(run), *told, reason)
    show_table(console, rows)
    if older := sum(map(len, runs[MAX_ROWS:])):
        line(console, f"and {older:,} before: --json has them", BESIDE)


def _what_it_says(verdict: VerdictLine) -> object:
    return (
        verdict.action,
        verdict.stage,
        verdict.client,
        verdict.reason,
        what_about(verdict),
        _because(verdict),
        verdict.would,
    )
