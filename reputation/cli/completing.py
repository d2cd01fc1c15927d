"""What a shell proposes. Asks no server: what is in the engine's tables, and in the configuration."""

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from reputation.access import Scope
from reputation.bookkeeping import counted_of
from reputation.cli.desks import path_of
from reputation.config import Settings
from reputation.config_files import load
from reputation.entries import ALLOW, BLOCK
from reputation.errors import ReputonError
from reputation.events import OutcomeKind, Stage
from reputation.keys import Dimension, Metric
from reputation.verdict import REFUSING, Action

WINDOWS = ("5m", "1h", "1d")
Complete = Callable[[str], list[str]]


def _among(words: Iterable[str]) -> Complete:
    known = tuple(map(str, words))

    def complete(incomplete: str) -> list[str]:
        return [word for word in known if word.startswith(incomplete)]

    return complete


dimensions = _among(dimension for dimension in Dimension if counted_of(dimension))
entities = _among(f"{dimension}:" for dimension in Dimension)
windows = _among(WINDOWS)
times = _among(("30m", "1h", "6h", "1d", "7d", "30d", "ever"))
moments = _among(("30 min ago", "1 h ago", "2 h ago", "6 h ago", "1 d ago"))
scopes = _among(Scope)
actions = _among(Action)
ban_actions = _among(REFUSING)
stages = _among(Stage)
entry_kinds = _among(("ban", "override", "list"))
outcomes = _among(OutcomeKind)


def metrics(ctx: typer.Context, incomplete: str) -> list[str]:
    """Those that are counted of the dimension that was typed."""
    # Where an option still waits for its value, what was typed before it is left over as it is.
    typed = (*ctx.args, ctx.params.get("dimension"), ctx.params.get("entity"))
    found = [name for name in (str(word).partition(":")[0] for word in typed) if name in set(Dimension)]
    counted = counted_of(Dimension(found[0])) if found else frozenset(Metric)
    return _among(sorted(counted))(incomplete)


def rules(ctx: typer.Context, incomplete: str) -> list[str]:
    """Those of the configuration."""
    settings = _settings(ctx)
    return _among(rule.name for rule in settings.rule)(incomplete) if settings else []


def lists(ctx: typer.Context, incomplete: str) -> list[str]:
    """The two that always are, and those of the configuration."""
    settings = _settings(ctx)
    named = [each.name for each in settings.list_] if settings else []
    return _among((ALLOW, BLOCK, *named))(incomplete)


def _settings(ctx: typer.Context) -> Settings | None:
    config = ctx.params.get("config")
    try:
        return load(path_of(config if isinstance(config, Path) else None))
    except (ReputonError, OSError):  # a shell has no use for it
        return None
