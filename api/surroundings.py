"""What all requests of a process share."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request

from api.gate import Gate
from reputation.config import Settings
from reputation.desk.contract import Desk
from reputation.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all requests of a process share; `surroundings_of` finds it."""

    engine: Engine
    settings: Settings
    path: Path
    """The configuration file."""
    gate: Gate
    desk_of: Callable[[str], Desk]
    """The abuse desk, signed by whom it is opened for."""
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the process is told to end. A stream need not look: its client is gone then, as far as it is told."""


def surroundings_of(request: Request) -> Surroundings:
    """Those of the application that a request came to."""
    found: Surroundings = request.app.state.surroundings
    return found
