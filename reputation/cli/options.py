"""The options that commands share: whom to ask, for whom to print, how often."""

import inspect
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from typer.core import TyperCommand, TyperGroup

from reputation.cli import completing
from reputation.cli.desks import TOKEN_VARIABLE, Where

P = ParamSpec("P")

WHOM = "Whom it asks"
"""The panel of these options in a command's help."""
WATCH = "--watch"
WATCH_SECONDS = "2"
"""What ``--watch`` without a number means."""

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="TOML file; the quick start's when none is named.", envvar="REPUTON_CONFIG"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
WatchOption = Annotated[
    float | None,
    typer.Option(WATCH, "-w", metavar="[SECONDS]", min=0.1, help="Ask again and again, every 2 s if nothing is said."),
]
EntityArgument = Annotated[
    str,
    typer.Argument(
        metavar="ENTITY",
        help='DIMENSION:VALUE, such as "sender:alice@example.com".',
        autocompletion=completing.entities,
    ),
]
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help='DIMENSION:VALUE, such as "user:alice", or a network, such as "ip:192.0.2.0/24".',
        autocompletion=completing.entities,
    ),
]
ForOption = Annotated[
    str,
    typer.Option("--for", metavar="TIME", help='How long: 30m, 1h, 7d, or "ever".', autocompletion=completing.times),
]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the audit.")]
MatchingOption = Annotated[str, typer.Option("--matching", metavar="TEXT", help="In target, author or reason.")]


def _file(variable: str, text: str) -> Any:
    return typer.Option(metavar="FILE", help=text, envvar=variable, rich_help_panel=WHOM)


WhichOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="TOML file whose store is asked; the quick start's when none is named.",
        envvar="REPUTON_CONFIG",
        rich_help_panel=WHOM,
    ),
]
ApiOption = Annotated[
    str,
    typer.Option(
        metavar="URL",
        help=f"API that is asked instead, with the token in {TOKEN_VARIABLE}.",
        envvar="REPUTON_API",
        rich_help_panel=WHOM,
    ),
]
TokenOption = Annotated[Path | None, _file("REPUTON_TOKEN_FILE", "Its first line is the token.")]
CaOption = Annotated[str, _file("REPUTON_CA", "PEM file of the authority that signed the API's certificate.")]
CertificateOption = Annotated[
    str, _file("REPUTON_CERTIFICATE", "PEM file with our own certificate, where the API asks for one.")
]
KeyOption = Annotated[str, _file("REPUTON_CERTIFICATE_KEY", "PEM file with its key, if it is not in the same.")]


def _whom(
    *,
    config: WhichOption = None,
    api: ApiOption = "",
    token_file: TokenOption = None,
    ca: CaOption = "",
    certificate: CertificateOption = "",
    certificate_key: KeyOption = "",
) -> None:
    """The options of every command that asks."""


_WHOM = inspect.signature(_whom).parameters
CONTEXT = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)


def asking(command: Callable[Concatenate[Where, P], None]) -> Callable[..., None]:
    """A command that asks: it gets whom as its first argument, and the options that say so."""
    own = tuple(inspect.signature(command).parameters.values())[1:]
    signature = inspect.Signature([CONTEXT, *own, *_WHOM.values()])

    @wraps(command)
    def run(ctx: typer.Context, **given: Any) -> None:
        if ctx.invoked_subcommand is not None:
            _nothing_before(ctx, given)
            return
        whom = {name: given.pop(name) for name in _WHOM}
        command(_where(ctx, **whom), **given)  # type: ignore[call-arg]  # by name, as the signature below says

    run.__signature__ = signature  # type: ignore[attr-defined]  # what typer reads the options from
    run.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    return run


def _nothing_before(ctx: typer.Context, given: Iterable[str]) -> None:
    """A group's own options are not those of its commands."""
    if any(_is_typed(ctx, name) for name in given):
        raise typer.BadParameter(f"write the options behind {ctx.invoked_subcommand}")


def _is_typed(ctx: typer.Context, name: str) -> bool:
    return str(ctx.get_parameter_source(name)).endswith("COMMANDLINE")


def _where(ctx: typer.Context, **whom: Any) -> Where:
    """Whom to ask: what was typed comes before what the environment says."""
    typed = {name for name in ("config", "api") if _is_typed(ctx, name)}
    if typed == {"config", "api"}:
        raise typer.BadParameter("--config asks a store, and --api an API: name one of them")
    if typed == {"config"}:
        whom["api"] = ""
    return Where(**whom)


class Watchable(TyperCommand):
    """A command whose option ``--watch`` may go without its number."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_seconds(args))


class WatchableGroup(TyperGroup):
    """Likewise a group that does something when it is called without a command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_seconds(args))


def with_seconds(arguments: list[str]) -> list[str]:
    """Arguments in which ``--watch`` has its number.

    >>> with_seconds(["ip", "--watch", "--n", "5"]), with_seconds(["-w", "0.5"])
    (['ip', '--watch=2', '--n', '5'], ['-w', '0.5'])
    """
    following = (*arguments, "")[1:]
    return [
        f"{WATCH}={WATCH_SECONDS}" if each in {WATCH, "-w"} and not _is_number(then) else each
        for each, then in zip(arguments, following, strict=True)
    ]


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
