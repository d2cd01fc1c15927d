"""`reputon token`: tokens of the API are made, shown and taken back.

A token's text is printed once, alone on standard output, so that it can be piped to where it is needed; all else goes
to standard error. It is never an argument: neither the shell's history nor a list of processes has it.
"""

import asyncio
from typing import Annotated

import typer
from rich.console import Console

from reputation.cli import completing
from reputation.cli.answering import answer, asked
from reputation.cli.desks import TOKEN_VARIABLE, Where
from reputation.cli.moments import left, seconds_of, stamp
from reputation.cli.options import ForOption, JsonOption, ReasonOption, asking
from reputation.cli.printing import (
    BESIDE,
    WELL,
    add_row,
    line,
    named,
    note,
    number,
    print_json,
    show_table,
    table,
    word,
)
from reputation.desk.documents import NewToken, TokenRow, TokenRows

commands = typer.Typer(help="Make tokens of the API, and take them back.", no_args_is_help=True)


NameOption = Annotated[str, typer.Option(metavar="NAME", help="Whose it is; signs what is done with it.")]
ScopeOption = Annotated[
    list[str],
    typer.Option(
        metavar="SCOPE", help="read, check, write or admin; may be repeated.", autocompletion=completing.scopes
    ),
]
RateOption = Annotated[
    float, typer.Option(metavar="NUMBER", min=0, help="Requests a second; 0: what the settings say.")
]


@commands.command("create")
@asking
def create(
    where: Where,
    *,
    name: NameOption,
    scope: ScopeOption,
    lasting: ForOption = "90d",
    reason: ReasonOption = "made by hand",
    rate: RateOption = 0.0,
    as_json: JsonOption = False,
) -> None:
    """Make a token, and print it: this once, alone on standard output."""
    seconds = seconds_of(lasting)
    new = NewToken(name=name, scopes=tuple(scope), reason=reason, expires_in_seconds=seconds, requests_per_second=rate)
    made = asyncio.run(asked(where, lambda desk: desk.make_token(new)))
    if as_json:
        print_json(made)
        return
    print(made.token)
    until = "without end" if made.row.expires_at is None else f"until {stamp(made.row.expires_at)} UTC"
    note(f"token {made.row.token_id} of {made.row.name} for {', '.join(made.row.scopes)}, {until}; shown this once:")
    note(f"put it into {TOKEN_VARIABLE}, or into a file of your own for --token-file")


@commands.command("list")
@asking
def show_all(where: Where, *, as_json: JsonOption = False) -> None:
    """Show all tokens that are in force; nobody can see their text again."""
    answer(where, lambda desk: desk.tokens(), show, as_json=as_json)


@commands.command("revoke")
@asking
def revoke(
    where: Where,
    token: Annotated[str, typer.Argument(metavar="TOKEN", help="Its id, or its name.")],
    *,
    reason: ReasonOption = "taken back by hand",
    as_json: JsonOption = False,
) -> None:
    """Take a token back: it is refused everywhere within a second."""
    answer(where, lambda desk: desk.revoke_token(token, reason=reason), show_revoked, as_json=as_json)


def show(console: Console, found: TokenRows, now: float) -> None:
    """Print for a person."""
    if not found.tokens:
        line(console, "There is none.", BESIDE)
        return
    rows = table(
        "name", word("id"), "scopes", word("until (UTC)"), number("left"), number("a second"), "by", named("reason")
    )
    for each in found.tokens:
        rate = f"{each.requests_per_second:g}" if each.requests_per_second else ""
        until, remaining = stamp(each.expires_at), left(each.expires_at, now)
        scopes = ", ".join(each.scopes)
        add_row(rows, each.name, each.token_id, scopes, until, remaining, rate, each.author, each.reason)
    show_table(console, rows)


def show_revoked(console: Console, token: TokenRow, _now: float) -> None:
    """Say which one it was."""
    line(console, f"taken back: token {token.token_id} of {token.name}, made by {token.author}", WELL)
