"""What there is to ask for: one row for each method of each path, and no row without a scope."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from reputation.access import Scope

JSON = "application/json"
Handler = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One method of one path. The handler's name is the operation's id, its docstring its description."""

    method: str
    path: str
    handler: Handler
    scope: Scope
    """What a token must allow."""
    summary: str
    example: object
    """The document that is shown as its answer; its type is that of the answers."""
    status: int = 200
    errors: Sequence[int] = ()
    """Besides those that every resource has."""
    is_conditional: bool = False
    """Whether it has an entity tag."""
    is_paged: bool = False
    """Whether it names the next page."""
    has_location: bool = False
    """Whether what it made is found elsewhere, and its answer says where."""
    tag: str
    """The group that it is shown in."""
    media_type: str = JSON

    @property
    def operation_id(self) -> str:
        """What it is called by programs."""
        return self.handler.__name__
