"""Who may ask for reputations: whoever may read, or everybody where the settings say so.

Everybody is bounded: each address (of IPv6 each /64) by `PER_SECOND`, `BURST` of them at once. Whoever shows a token is
held to that alone, and to nothing by his address.

Bugs: behind a proxy all clients have its address, and share its bound. It holds for each process.
"""

import math
import time
from collections.abc import Callable
from ipaddress import ip_address

from starlette.requests import Request

from api.limits import Limits
from api.problems import Problem, ProblemType
from api.surroundings import surroundings_of
from reputation.access import Scope
from reputation.spelling import network_id

PER_SECOND = 10.0
"""What somebody without a token may ask for. A message has some five identifiers."""
BURST = 100
MAX_CLIENTS = 10_000
"""Whose questions are remembered."""


class Strangers:
    """Those who ask without a token."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._spent = Limits(MAX_CLIENTS)

    def wait_seconds(self, client: str) -> float:
        """How long somebody has to wait; 0.0 when he need not, and then it counts."""
        return self._spent.wait_seconds(_network(client), self._monotonic(), per_second=PER_SECOND, burst=BURST)


def let_in(request: Request) -> bool:
    """Let somebody ask; whether what he gets may be known to everybody. Raises `Problem` 401, 403 or 429."""
    shared = surroundings_of(request)
    if not shared.settings.api.reputation_for_everybody or "authorization" in request.headers:
        shared.gate.admitted(request, Scope.READ)
        return False
    state = request.app.state
    if not hasattr(state, "strangers"):
        state.strangers = Strangers()
    wait = state.strangers.wait_seconds(request.client.host if request.client else "")
    if wait:
        shared.engine.metrics.api_refused.labels("too-many").inc()
        seconds = math.ceil(wait)
        detail = f"without a token {PER_SECOND:g} questions a second are answered: try again in {seconds} s"
        raise Problem(429, ProblemType.TOO_MANY, detail, headers={"retry-after": str(seconds)})
    return True


def _network(client: str) -> str:
    try:
        return network_id(ip_address(client), v4=32, v6=64)
    except ValueError:  # a unix-domain socket has no address
        return client
