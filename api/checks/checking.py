"""``POST /v1/check``: the decision for any mail server. An event in, a verdict out; an array in, an array out.

A mistake in one of several events, a key that was another event's too, refuses the whole request before anything is
counted. Events of a request are judged at the same time: order matters only between requests.

A question with a key is counted once (`reputation.events`: its token) and its answer is kept for `KEPT_SECONDS`, so
that whoever asks again after a time-out gets the same one. That costs such a question two round trips besides; it is
the caller's own key, whatever others call theirs. Where the store does not answer, the verdict is what the rules say
for that case: our trouble is nobody's refusal.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from api.answers import encoded
from api.checks.events import MAX_KEY, CheckedEvent, events_of, told_in
from api.checks.verdicts import checked
from api.problems import Problem, ProblemType
from api.surroundings import Surroundings, surroundings_of
from reputation.access import Scope, Token
from reputation.errors import StoreError
from reputation.events import Data, Event, Mail, Rcpt
from reputation.verdict import Reason

KEPT_SECONDS = 600.0
"""As long as a mail server may ask again after a time-out; what is kept is memory that counters could have."""
AT_ONCE = 64
"""Events of a request that are judged at the same time."""
JSON = "application/json"

T = TypeVar("T")


async def check(request: Request) -> Response:
    """Judge an event, or an array of them, and count it.

    Actions: `accept`; `tag` (accept, with the tags); `tarpit` (accept after `delay_seconds`); `throttle` and `tempfail`
    (4xx, the client may come again after `retry_after_seconds`); `discard` (accept, and drop it); `reject` (5xx).
    """
    surroundings = surroundings_of(request)
    caller = surroundings.gate.admitted(request, Scope.CHECK)
    told, is_array = told_in(await request.body(), surroundings.settings.api.max_batch)
    keys = _keys(request.headers.get("idempotency-key", ""), told, is_array=is_array)
    events = events_of(told, is_array=is_array)
    if not is_array and not keys[0]:
        return Response(encoded(checked(await surroundings.engine.judge(events[0]))), media_type=JSON)
    questions = [
        _Question(surroundings, caller.token, key, one, event)
        for key, one, event in zip(keys, told, events, strict=True)
    ]
    await _all([each.recall for each in questions if each.is_named])
    answers = await _all([each.answered for each in questions])
    return Response(b"[" + b",".join(answers) + b"]" if is_array else answers[0], media_type=JSON)


async def _all(calls: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """What they come to, some at a time."""
    found: list[T] = []
    for start in range(0, len(calls), AT_ONCE):
        found += await asyncio.gather(*(call() for call in calls[start : start + AT_ONCE]))
    return found


def _keys(header: str, told: Sequence[CheckedEvent], *, is_array: bool) -> list[str]:
    """The key of each event: its own, or the request's where it has but one event."""
    if header and is_array:
        raise _key_mistake("Idempotency-Key names one event: give each one of an array a key of its own")
    if len(header) > MAX_KEY:
        raise _key_mistake(f"Idempotency-Key has at most {MAX_KEY} characters")
    keys = [each.key or header for each in told]
    if header and keys != [header]:
        raise _key_mistake("Idempotency-Key and the event's key are not the same")
    named = [key for key in keys if key]
    if len(set(named)) < len(named):
        raise _key_mistake("two events of the request have the same key")
    return keys


def _key_mistake(detail: str) -> Problem:
    return Problem(400, ProblemType.BAD_REQUEST, detail)


class _Question:
    """One event, and what was answered when it was asked before."""

    def __init__(self, surroundings: Surroundings, token: Token, key: str, told: CheckedEvent, event: Event) -> None:
        self._engine = surroundings.engine
        self._deadline_seconds = surroundings.settings.store.deadline_seconds
        self._name = f"check:{token.token_id}:{key}" if key else ""
        self._told = told
        self._answer: bytes | None = None
        self._event = _with_token(event, self._name) if key else event

    @property
    def is_named(self) -> bool:
        """Whether it has a key."""
        return bool(self._name)

    async def recall(self) -> None:
        """Hear what was answered before; raises `Problem` 422 for a key that another event had."""
        kept = await self._in_time(self._engine.store.kept(self._name))
        self._answer = None if kept is None else self._same(kept)

    async def answered(self) -> bytes:
        """The verdict as JSON; raises `Problem` 422 for a key that another event has got meanwhile."""
        if self._answer is not None:
            return self._answer
        verdict = await self._engine.judge(self._event)
        answer = encoded(checked(verdict))
        if not self._name or verdict.reason is Reason.STORE_UNAVAILABLE or verdict.local:
            return answer  # our trouble passes, and must not be told again when it has
        kept = await self._in_time(self._engine.store.keep(self._name, self._text(answer), KEPT_SECONDS))
        return answer if kept is None else self._same(kept)

    async def _in_time(self, asked: Awaitable[str | None]) -> str | None:
        """What the store says, as fast as a decision must be; None where it says nothing."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(self._deadline_seconds):
                return await asked
        return None

    def _digest(self) -> str:
        told = self._told.model_dump_json(exclude={"key"})
        return hashlib.blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()

    def _text(self, answer: bytes) -> str:
        return json.dumps({"event": self._digest(), "answer": answer.decode()})

    def _same(self, kept: str) -> bytes:
        read: dict[str, Any] = json.loads(kept)
        if read["event"] != self._digest():
            raise Problem(
                422,
                ProblemType.KEY_REUSED,
                f'the key "{self._name.rpartition(":")[2]:.60}" was another event\'s: take one key for each event',
            )
        return str(read["answer"]).encode()


def _with_token(event: Event, token: str) -> Event:
    """The event, so that it is counted once; stages before MAIL cannot be told apart by a token."""
    return replace(event, token=token) if isinstance(event, Mail | Rcpt | Data) else event
