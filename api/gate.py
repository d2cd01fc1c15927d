"""Who is let in: bearer tokens (RFC 6750), their scopes and their limits.

    caller = surroundings_of(request).gate.admitted(request, Scope.READ)

Every process has all tokens in memory (`Registrar.tokens`), so a token that was taken back is refused everywhere within
a second, and no request waits for the store. When one ends is told by the store's clock, as for bans.

What is refused, and how often, is counted (``reputon_api_refused``):

====  =========================================================================================================
401   no token; or none that is in force, whatever is wrong with it: with ``error="invalid_token"``
403   a token without the scope, with ``error="insufficient_scope"`` and the scope that it takes
429   a token that asks for more than it may: its own number, or what the settings say, for some seconds at once
429   a client that has come with `MAX_FAILURES` bad tokens within a minute, and comes with one more
====  =========================================================================================================

A good token is let in from wherever it comes, however many bad ones came from there: nobody is locked out by others who
share his address. Secrets have 256 bits, so the bound on failures is against noise, not for security.

Checks are what mail servers wait for: they are bounded by a token's own number only.

Bugs: behind a proxy all clients have its address. Limits hold for each process.
"""

import math
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import NamedTuple

from starlette.requests import Request
from starlette.types import Scope as RequestScope

from api.limits import Limits
from api.problems import Problem, ProblemType
from reputation.access import Scope, Token, parse_token
from reputation.engine import Engine

BURST_SECONDS = 3.0
"""A token may spend so many seconds' worth at once."""
MAX_FAILURES = 20
FAILURES_SECONDS = 60.0
MAX_CLIENTS = 10_000
"""Whose failures are remembered."""
MAX_TOKENS = 10_000
CHALLENGE = 'Bearer realm="reputon"'
"""What a client is to do. RFC 6750 section 3."""
TOKEN_OF_REQUEST = "reputon.token"  # noqa: S105 - where a request has its token
_AUTHORIZATION = b"authorization"

_NOBODY = Token(
    token_id="00000000",  # noqa: S106 - opens nothing
    name="nobody",
    digest="0" * 64,
    scopes=(Scope.READ,),
    author="nobody",
    reason="compared with where there is no such token",
    created_at=0.0,
    expires_at=None,
)


class Caller(NamedTuple):
    """Who asks."""

    name: str
    """Signs what is done."""
    token: Token


class Gate:
    """Lets in whoever has a token that is in force, and may do what he asks for."""

    def __init__(
        self, engine: Engine, requests_per_second: float = 100.0, *, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._requests_per_second = requests_per_second
        self._monotonic = monotonic
        self._spent = Limits(MAX_TOKENS)
        self._failures = Limits(MAX_CLIENTS)

    def admitted(self, request: Request, scope: Scope) -> Caller:
        """Who asks; raises `Problem` 401 without a good token, 403 for one that may not, 429 for too many requests."""
        return self.either(request, scope)

    def either(self, request: Request, *scopes: Scope) -> Caller:
        """Who asks, where one of several scopes is enough; raises like `admitted`."""
        token = self.identified(request.scope)
        scope = next((scope for scope in scopes if token.allows(scope)), None)
        if scope is None:
            raise self._refused("wrong-scope", _wrong_scope(scopes))
        self.charge(token, scope)
        return Caller(token.name, token)

    def identified(self, request: RequestScope) -> Token:
        """The token of a request that is not charged for yet; raises `Problem` 400, 401 or 429."""
        found: Token | None = request.get(TOKEN_OF_REQUEST)
        if found is None:
            text = _bearer(request)
            if text is None:
                detail = 'a token is needed: send "Authorization: Bearer rpt_..."; `reputon token create` makes one'
                raise self._refused("no-token", Problem(401, ProblemType.BAD_TOKEN, detail, headers=_challenge()))
            client = request.get("client")
            found = self.token_of(text, client[0] if client else "")
            if found is None:
                raise Problem(
                    401, ProblemType.BAD_TOKEN, "this token is not in force", headers=_challenge("invalid_token")
                )
            request[TOKEN_OF_REQUEST] = found
        return found

    def token_of(self, text: str, client: str = "") -> Token | None:
        """The token of a text, if it is in force; raises `Problem` 429 when too many of that client were not.

        Takes as long whether the id or the secret is wrong.
        """
        parsed = parse_token(text.strip())
        known = self._engine.registrar.tokens.get(parsed[0]) if parsed else None
        is_opened = parsed is not None and (known or _NOBODY).is_opened_by(parsed[1])
        if known is None or not is_opened:
            self._failed("bad-token", client)
        elif not known.in_force(self._engine.now):
            self._failed("expired-token", client)
        else:
            return known
        return None

    def by_id(self, token_id: str) -> Token | None:
        """The token of an id, if it is in force now: for somebody who has shown it before."""
        token = self._engine.registrar.tokens.get(token_id)
        return token if token is not None and token.in_force(self._engine.now) else None

    def charge(self, token: Token, scope: Scope) -> None:
        """Count a request that a token makes by one of its scopes; raises `Problem` 429 when that is too many."""
        rate = token.requests_per_second
        if not rate:
            if scope is Scope.CHECK:
                return
            rate = self._requests_per_second
        burst = max(rate * BURST_SECONDS, 1.0)
        wait = self._spent.wait_seconds(token.token_id, self._monotonic(), per_second=rate, burst=burst)
        if wait:
            raise self._refused("too-many", _too_many(f"this token may ask {rate:g} times a second", wait, burst))

    def _failed(self, why: str, client: str) -> None:
        """Note that somebody has come without a good token; raises `Problem` 429 when that was too often."""
        rate = MAX_FAILURES / FAILURES_SECONDS
        wait = self._failures.wait_seconds(network_of(client), self._monotonic(), per_second=rate, burst=MAX_FAILURES)
        if wait:
            raise self._refused("too-many-failures", _too_many("too many bad tokens", wait, MAX_FAILURES))
        self._count(why)

    def _refused(self, why: str, problem: Problem) -> Problem:
        self._count(why)
        return problem

    def _count(self, why: str) -> None:
        self._engine.metrics.api_refused.labels(why).inc()


def _bearer(request: RequestScope) -> str | None:
    """The token that a request came with; empty for credentials of another kind, None for no credentials.

    Raises `Problem` 400 for several: whoever is on the way may have looked at another one. RFC 9110 section 5.3.
    """
    told = [value for name, value in request["headers"] if name == _AUTHORIZATION]
    if len(told) > 1:
        raise Problem(400, ProblemType.BAD_REQUEST, "there are several Authorization fields: send one")
    if not told:
        return None
    kind, _, text = told[0].decode("latin-1").partition(" ")
    return str(text) if kind.lower() == "bearer" else ""


def _challenge(error: str = "", scope: str = "") -> dict[str, str]:
    """What a client is told to do. RFC 6750 section 3."""
    told = [CHALLENGE, *([f'error="{error}"'] if error else []), *([f'scope="{scope}"'] if scope else [])]
    return {"www-authenticate": ", ".join(told)}


def _wrong_scope(scopes: tuple[Scope, ...]) -> Problem:
    needed = " or ".join(scopes)
    return Problem(
        403,
        ProblemType.WRONG_SCOPE,
        f"this takes a token with the scope {needed}",
        headers=_challenge("insufficient_scope", " ".join(scopes)),
    )


def _too_many(why: str, wait_seconds: float, burst: float) -> Problem:
    seconds = max(1, math.ceil(wait_seconds))
    headers = {  # draft-ietf-httpapi-ratelimit-headers
        "retry-after": str(seconds),
        "ratelimit-policy": f'"default";q={int(burst)}',
        "ratelimit": f'"default";r=0;t={seconds}',
    }
    return Problem(429, ProblemType.TOO_MANY, f"{why}: try again in {seconds} s", headers=headers)


def network_of(client: str) -> str:
    """Whom failures and connections are counted against: an IPv4 address, or the network of an IPv6 address (/64)."""
    try:
        address = ip_address(client)
    except ValueError:  # a unix-domain socket has none
        return client
    return client if address.version == 4 else f"{int(address) >> 64:x}"
