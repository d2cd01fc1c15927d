"""The abuse desk over the API of another process.

An answer of a newer release, with fields that are not known here, is read all the same. Errors are those of the local
desk, in the server's words, besides `Unreachable` and `Refused`, which say what to do. A live stream that breaks off
is taken up where it was, after pauses that grow and are jittered; only the first connection must succeed.

Bugs: a stream that breaks before its first verdict goes on with those of then; what came in between is missed.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict
from functools import lru_cache
from typing import Any, TypeVar, cast
from urllib.parse import quote, urlencode

from pydantic import TypeAdapter, ValidationError

from reputation.access import Scope
from reputation.desk.api_client import ApiClient, Event
from reputation.desk.contract import Wanted
from reputation.desk.documents import (
    Audit,
    CaseFile,
    EntityPage,
    EntitySeries,
    EntryRow,
    EntryRows,
    Explained,
    Forgotten,
    MadeToken,
    NewEntry,
    NewToken,
    OutcomeReport,
    OutcomeResults,
    Overview,
    Released,
    Reloaded,
    Rules,
    Suspects,
    TokenRow,
    TokenRows,
    Top,
    VerdictLine,
    WouldDo,
)
from reputation.errors import ConfigError, EntityError, NothingThere, StoreUnavailable, Unreachable

PAUSE_SECONDS, MAX_PAUSE_SECONDS = 0.5, 30.0
REPORTS_AT_ONCE = 500
VERDICT, TROUBLE = "verdict", "trouble"
"""Kinds of events of the live stream; there may be others."""
ROOMS: Mapping[str, str] = {"": "entries", "ban": "bans", "override": "overrides", "list": "lists"}
"""Kind of entry -> where it is found."""
OF_EVERY_ENTRY = ("target", "reason", "expires_in_seconds")
FIELDS_OF: Mapping[str, tuple[str, ...]] = {
    "ban": ("action", "wide"),
    "override": ("rule", "limits"),
    "list": ("list", "wide"),
}
"""Kind of entry -> what is told of a new one besides."""

T = TypeVar("T")

log = logging.getLogger("reputon.desk")


class RemoteDesk:
    """Fulfils `reputation.desk.contract.Desk`, signed by whom the token was made for."""

    def __init__(self, url: str, token: str, *, ca: str = "", certificate: str = "", key: str = "") -> None:
        """`ca`, `certificate` and `key` name PEM files. Raises `ConfigError`. Asks nobody yet."""
        self._client = ApiClient(url, token, ca=ca, certificate=certificate, key=key)

    async def close(self) -> None:
        """Let go of connections."""
        await self._client.close()

    # Looking

    async def overview(self) -> Overview:
        return await self._get("overview", Overview)

    async def top(self, dimension: str, metric: str, window: str, n: int, *, at: float | None = None) -> Top:
        asked = {"dimension": dimension, "metric": metric, "window": window, "n": n, "at": at}
        return await self._get("top", Top, asked)

    async def page(self, entity: str) -> EntityPage:
        return await self._get(_path("entities", *_parts(entity)), EntityPage)

    async def explain(self, entity: str) -> Explained:
        return await self._get(_path("entities", *_parts(entity)) + "/explain", Explained)

    async def series(self, entity: str) -> EntitySeries:
        return await self._get(_path("entities", *_parts(entity)) + "/series", EntitySeries)

    async def entries(self, *, kind: str = "", matching: str = "", after: str = "", n: int = 100) -> EntryRows:
        return await self._get(_room(kind), EntryRows, {"matching": matching, "after": after, "n": n})

    async def entry(self, id: str) -> EntryRow:
        return await self._get(_entry_path(id), EntryRow)

    async def audit(self, n: int = 100) -> Audit:
        return await self._get("audit", Audit, {"n": n})

    async def rules(self) -> Rules:
        return await self._get("rules", Rules)

    async def would_do(self, rule: str) -> WouldDo:
        return await self._get(_path("rules", rule) + "/would-do", WouldDo)

    async def suspects(self, *, after: str = "", n: int = 100) -> Suspects:
        return await self._get("suspects", Suspects, {"after": after, "n": n} if after or n != 100 else None)

    async def case_file(self, entity: str) -> CaseFile:
        return await self._get(_path("suspects", *_parts(entity)), CaseFile)

    # Acting

    async def put(self, entry: NewEntry) -> EntryRow:
        room, told = _room(entry.kind or "?"), FIELDS_OF.get(entry.kind, ())
        body = {name: getattr(entry, name) for name in (*OF_EVERY_ENTRY, *told)}
        return await self._ask("POST", room, EntryRow, Scope.WRITE, body=body)

    async def lift(self, id: str, *, reason: str) -> EntryRow:
        return await self._ask("DELETE", _entry_path(id), EntryRow, Scope.WRITE, {"reason": reason})

    async def release(self, target: str, *, reason: str) -> Released:
        return await self._ask("POST", "release", Released, Scope.WRITE, body={"target": target, "reason": reason})

    async def forget(self, entity: str, *, reason: str) -> Forgotten:
        path = _path("entities", *_parts(entity))
        return await self._ask("DELETE", path, Forgotten, Scope.ADMIN, {"reason": reason})

    async def reload(self, *, reason: str) -> Reloaded:
        return await self._ask("POST", "rules/reload", Reloaded, Scope.ADMIN, body={"reason": reason})

    async def learn(self, reports: Sequence[OutcomeReport]) -> OutcomeResults:
        results: list[Any] = []
        for start in range(0, len(reports), REPORTS_AT_ONCE):
            body = [_said(report) for report in reports[start : start + REPORTS_AT_ONCE]]
            results += (await self._ask("POST", "outcomes", OutcomeResults, Scope.WRITE, body=body)).results
        return OutcomeResults(results=tuple(results))

    # Tokens

    async def tokens(self) -> TokenRows:
        return await self._ask("GET", "tokens", TokenRows, Scope.ADMIN)

    async def make_token(self, new: NewToken) -> MadeToken:
        return await self._ask("POST", "tokens", MadeToken, Scope.ADMIN, body=asdict(new))

    async def revoke_token(self, token_id: str, *, reason: str) -> TokenRow:
        return await self._ask("DELETE", _path("tokens", token_id), TokenRow, Scope.ADMIN, {"reason": reason})

    # Verdicts as they are given

    async def verdicts(self, wanted: Wanted, *, after: str | None = None) -> AsyncGenerator[VerdictLine | None, None]:
        path, pause, was_there = _stream_path(wanted), PAUSE_SECONDS, False
        while True:
            try:
                async with aclosing(self._client.events(path, Scope.READ, after)) as events:
                    async for event in events:
                        pause, was_there = PAUSE_SECONDS, True
                        after = event.id or after
                        if event.kind == TROUBLE:
                            log.warning("%s: its store does not answer; verdicts go on when it does", self._client.url)
                        yield _verdict(event) if event.kind == VERDICT else None
            except (Unreachable, StoreUnavailable) as error:
                if not was_there:
                    raise
                log.warning("the live stream broke off, and is taken up again: %s", error)
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            pause = min(pause * 2, MAX_PAUSE_SECONDS)

    # Requests

    async def _get(self, path: str, document: type[T], query: Mapping[str, object] | None = None) -> T:
        return await self._ask("GET", path, document, Scope.READ, query)

    async def _ask(
        self,
        method: str,
        path: str,
        document: type[T],
        scope: Scope,
        query: Mapping[str, object] | None = None,
        *,
        body: object = None,
    ) -> T:
        octets = await self._client.ask(method, path, scope, query, body)
        try:
            return _read(document, octets)
        except ValidationError as error:
            where = ".".join(map(str, error.errors(include_url=False, include_input=False)[0]["loc"]))
            raise Unreachable(
                f"{self._client.url}: its answer cannot be read ({document.__name__} {where}): it may be another "
                "release, or not reputon at all"
            ) from None


def _read(document: type[T], octets: bytes | str) -> T:
    return cast(T, _reader(cast(Any, document)).validate_json(octets))


@lru_cache
def _reader(document: Any) -> TypeAdapter[Any]:
    return TypeAdapter(document)


def _verdict(event: Event) -> VerdictLine | None:
    """A verdict; None for one of another release that cannot be read."""
    try:
        return _read(VerdictLine, event.data)
    except ValidationError:
        log.warning("a verdict of the live stream cannot be read: %.60s", event.id)
        return None


# Where things are


def _stream_path(wanted: Wanted) -> str:
    asked = [("action", each) for each in sorted(wanted.actions)] + [("stage", each) for each in sorted(wanted.stages)]
    asked += [(name, text) for name, text in (("rule", wanted.rule), ("entity", wanted.entity)) if text]
    return f"stream?{urlencode(asked)}" if asked else "stream"


def _path(*parts: str) -> str:
    return "/".join(map(_escaped, parts))


def _escaped(part: str) -> str:
    """One part of a path. RFC 3986 section 5.2.4: dots alone would be taken out on the way."""
    return quote(part, safe="", errors="surrogateescape") if part.strip(".") else part.replace(".", "%2E")


def _parts(entity: str) -> tuple[str, str]:
    dimension, _, value = entity.partition(":")
    if not dimension or not value:
        raise EntityError(f'"{entity:.300}" names no entity: write DIMENSION:VALUE, such as "sender:alice@example.com"')
    return dimension, value


def _said(report: OutcomeReport) -> dict[str, object]:
    """What a report says; what it leaves open is left out, so that an older release reads it."""
    return {name: value for name, value in asdict(report).items() if value}


def _room(kind: str) -> str:
    if kind not in ROOMS:
        raise ConfigError(f"kind: one of {', '.join(filter(None, ROOMS))}")
    return ROOMS[kind]


def _entry_path(id: str) -> str:
    """Where an entry is found by its id, in which a target may have a bar, and a name none."""
    kind, _, rest = id.partition("|")
    parts = [rest] if kind == "ban" else rest.split("|", 1)
    if kind not in ROOMS or not all(parts) or len(parts) != (1 if kind == "ban" else 2):
        raise NothingThere(f'"{id:.300}" is no entry: write ban|TARGET, override|RULE|TARGET or list|NAME|TARGET')
    return _path(ROOMS[kind], *parts)
