"""The abuse desk over an engine of this process: its store, its register, its rules."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

from reputation.config import Settings
from reputation.config_files import load
from reputation.contracts import MAX_STREAMED
from reputation.desk import acting, case_files, describing, overviews
from reputation.desk.contract import MAX_AUDIT, MAX_ENTRIES, MAX_RECENT, MAX_SUSPECTS, Wanted
from reputation.desk.documents import (
    Audit,
    AuditRow,
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
from reputation.desk.watching import Watch, following, line_of, lines_before
from reputation.engine import Engine
from reputation.entries import Ban, Target, parse_target
from reputation.errors import ConfigError
from reputation.keys import Dimension
from reputation.python_policies import load_functions
from reputation.releases import released
from reputation.remarks import FORGOTTEN, RELOAD

MAX_IN_CASE = 5_000
"""Lines of the stream that a case file is made of."""


class EngineDesk:
    """Fulfils `reputation.desk.contract.Desk`. `author` signs what is done.

    With a `watch` what the live stream remembers is at hand; without one it is read from the store each time. `path` is
    the configuration file that a reload reads.
    """

    def __init__(
        self, engine: Engine, author: str, *, settings: Settings, path: Path, watch: Watch | None = None
    ) -> None:
        self._engine = engine
        self._author = author
        self._settings = settings
        self._path = path
        self._watch = watch

    # Looking

    async def overview(self) -> Overview:
        return await overviews.overview_of(self._engine, self._settings)

    async def top(self, dimension: str, metric: str, window: str, n: int, *, at: float | None = None) -> Top:
        return await describing.top_of(self._engine, dimension, metric, window, n=n, at=at)

    async def page(self, entity: str) -> EntityPage:
        named = describing.named_entity(self._engine, entity)
        return await describing.page_of(self._engine, named, await self._lines_of(str(named), MAX_RECENT))

    async def explain(self, entity: str) -> Explained:
        return await describing.explained(self._engine, describing.named_entity(self._engine, entity))

    async def series(self, entity: str) -> EntitySeries:
        return await describing.series_of(self._engine.store, describing.named_entity(self._engine, entity))

    async def entries(self, *, kind: str = "", matching: str = "", after: str = "", n: int = 100) -> EntryRows:
        if not 1 <= n <= MAX_ENTRIES:
            raise ConfigError(f"n: from 1 to {MAX_ENTRIES}")
        register, now = self._engine.registrar.register, self._engine.now
        return await acting.entries_among(register, now, kind=kind, matching=matching, after=after, n=n)

    async def entry(self, id: str) -> EntryRow:
        return describing.entry_row(acting.entry_named(id, self._engine))

    async def audit(self, n: int = 100) -> Audit:
        if not 1 <= n <= MAX_AUDIT:
            raise ConfigError(f"n: from 1 to {MAX_AUDIT}")
        lines = await self._engine.registrar.audit(n)
        return Audit(
            lines=tuple(
                AuditRow(at=line.at, what=line.what, id=line.id, author=line.author, reason=line.reason)
                for line in lines
            )
        )

    async def rules(self) -> Rules:
        return await overviews.rules_of(self._engine)

    async def would_do(self, rule: str) -> WouldDo:
        name = describing.named_rule(self._engine, rule)
        if self._watch is not None:
            lines = [line for line in self._watch.latest() if name in line.would]
            return case_files.would_do(name, lines, self._watch.since, key=self._key_of(name))
        lines = [line async for line in lines_before(self._engine.store, MAX_STREAMED, name)]
        return case_files.would_do(name, lines, await self._since(), key=self._key_of(name))

    def _key_of(self, rule: str) -> Sequence[Dimension]:
        named = self._engine.policy.named.get(rule)
        return named.key if named is not None else ()

    async def _since(self) -> float | None:
        first = await self._engine.store.published("0", 1)
        line = line_of(first[0]) if first else None
        return None if line is None else line.at

    async def suspects(self, *, after: str = "", n: int = 100) -> Suspects:
        if not 1 <= n <= MAX_SUSPECTS:
            raise ConfigError(f"n: from 1 to {MAX_SUSPECTS}")
        return case_files.suspects_of(self._engine.registrar.register, self._engine.now, after=after, n=n)

    async def case_file(self, entity: str) -> CaseFile:
        named = describing.named_entity(self._engine, entity)
        lines = await self._lines_of(str(named), MAX_IN_CASE)
        page = await describing.page_of(self._engine, named, lines[:MAX_RECENT])
        ban = self._engine.registrar.register.standing_of(named, self._engine.now).ban
        suspect = case_files.suspect_of(ban) if isinstance(ban, Ban) and case_files.is_hold(ban) else None
        return case_files.case_file(page, suspect, lines)

    async def _lines_of(self, entity: str, n: int) -> Sequence[VerdictLine]:
        if self._watch is not None:
            return self._watch.lines_of(entity, n)
        found: list[VerdictLine] = []
        async for line in lines_before(self._engine.store, MAX_STREAMED, entity):
            if entity in line.entities:
                found.append(line)
            if len(found) >= n:
                break
        return found

    async def verdicts(self, wanted: Wanted, *, after: str | None = None) -> AsyncGenerator[VerdictLine | None, None]:
        if wanted.entity:
            wanted = wanted._replace(entity=str(describing.named_entity(self._engine, wanted.entity)))
        if self._watch is not None:
            lines = self._watch.follow(after)
        else:
            lines = following(self._engine.store, after)
        async with aclosing(lines):
            async for line in lines:
                if line is None or wanted.fits(line):
                    yield line

    # Acting

    async def put(self, entry: NewEntry) -> EntryRow:
        made = acting.entry_to_put(entry, self._engine, self._author)
        await self._engine.registrar.put(made, wide=entry.wide)
        return describing.entry_row(made)

    async def lift(self, id: str, *, reason: str) -> EntryRow:
        return await acting.lifted(id, self._engine, self._author, reason)

    async def release(self, target: str, *, reason: str) -> Released:
        named: Target = parse_target(target, self._engine.spelling)
        bans = await released(self._engine, named, author=self._author, reason=reason, now=self._engine.now)
        return Released(lifted=tuple(map(describing.entry_row, bans)))

    async def forget(self, entity: str, *, reason: str) -> Forgotten:
        named = describing.named_entity(self._engine, entity)
        return await acting.forgotten(self._engine, named, self._author, reason)

    async def reload(self, *, reason: str) -> Reloaded:
        settings = await asyncio.to_thread(_read, self._path)  # what cannot be read here is read nowhere
        await self._engine.registrar.remark(RELOAD, str(self._path), author=self._author, reason=reason)
        return Reloaded(rules=len(settings.rule))

    async def learn(self, reports: Sequence[OutcomeReport]) -> OutcomeResults:
        return await acting.learned(self._engine, reports, self._author)

    # Tokens

    async def tokens(self) -> TokenRows:
        now = self._engine.now
        found = [token for token in self._engine.registrar.tokens.values() if token.in_force(now)]
        return TokenRows(tokens=tuple(map(acting.token_row, sorted(found, key=lambda each: each.name))))

    async def make_token(self, new: NewToken) -> MadeToken:
        return await acting.made_token(self._engine, new, self._author)

    async def revoke_token(self, token_id: str, *, reason: str) -> TokenRow:
        return await acting.revoked(self._engine, token_id, self._author, reason)

    async def close(self) -> None:
        """Nothing of its own to let go of."""


def _read(path: Path) -> Settings:
    """The configuration of a file, whose rules can be used; raises `ConfigError`."""
    settings = load(path)
    settings.policy(load_functions(settings.python))
    return settings


@asynccontextmanager
async def watching(engine: Engine) -> AsyncIterator[Watch]:
    """A watch over the engine's stream for as long as the block runs, for a process that serves many."""
    watch = Watch(engine.store)
    engine.registrar.listeners.add(FORGOTTEN, watch.begin_anew)
    task = asyncio.create_task(watch.run(), name="watch")
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
