"""What operators do: put down, lift, forget, report, give tokens. Each deed is signed, and stands in the audit."""

import asyncio
import secrets
from collections.abc import Sequence
from typing import TypedDict

from reputation.access import TOKEN, Token, digest_of, scopes_of, spelled_token
from reputation.bookkeeping import COMPLAINED_OF, those_proven
from reputation.contracts import MAX_STREAMED
from reputation.desk.describing import entry_row
from reputation.desk.documents import (
    EntryRow,
    EntryRows,
    Forgotten,
    MadeToken,
    NewEntry,
    NewToken,
    OutcomeReport,
    OutcomeResult,
    OutcomeResults,
    TokenRow,
)
from reputation.desk.reports import outcome_of
from reputation.desk.watching import lines_before
from reputation.engine import Engine
from reputation.entries import Ban, Entry, Listing, Override, Target, parse_target, spelled
from reputation.errors import ConfigError, NothingThere, StoreUnavailable
from reputation.events import Outcome
from reputation.keys import Entity, entities_of, is_about
from reputation.register import Register
from reputation.remarks import FORGET, FORGOTTEN
from reputation.spelling import Spelling
from reputation.verdict import Action
from reputation.windows import Limit

KINDS = ("ban", "override", "list")
FORGET_SECONDS = 1.2
"""Until every process has heard that it is to drop what it remembers."""
CLAIM_SECONDS = 30 * 86_400.0
"""How long an outcome that was told by its key is known."""
TOKEN_ID_OCTETS = 4
UNLINKED_AT_ONCE = 1_000

# Bans, overrides, lists


def entry_to_put(new: NewEntry, engine: Engine, author: str) -> Entry:
    """The entry that is to be put down; raises `ConfigError` that names the field at fault."""
    now = engine.now
    signature = _Signature(
        target=parse_target(new.target, engine.spelling),
        author=author,
        reason=new.reason,
        created_at=now,
        expires_at=_end(now, new.expires_in_seconds),
    )
    match new.kind:
        case "ban":
            return Ban(**signature, action=_action(new.action))
        case "override":
            return Override(**signature, rule=new.rule, limits=tuple(Limit.parse(text) for text in new.limits))
        case "list":
            return Listing(**signature, list=new.list)
        case _:
            raise ConfigError(f"kind: one of {', '.join(KINDS)}")


class _Signature(TypedDict):
    """What all entries share."""

    target: Target
    author: str
    reason: str
    created_at: float
    expires_at: float | None


def _end(now: float, seconds: float | None) -> float | None:
    if seconds is None:
        return None
    if not 0 < seconds < 2**40:
        raise ConfigError("expires_in_seconds: more than 0; null for no end")
    return now + seconds


def _action(word: str) -> Action:
    try:
        return Action(word)
    except ValueError:
        raise ConfigError(f'action: "{word:.40}" is none of {", ".join(Action)}') from None


def canonical_id(id: str, spelling: Spelling) -> str:
    """The id of an entry, however its target is written; raises `EntityError`, `NothingThere`.

    >>> canonical_id("ban|ip:192.0.2.7/32", Spelling()), canonical_id("list|vip|sender:Bob@Example.Com", Spelling())
    ('ban|ip:192.0.2.7', 'list|vip|sender:bob@example.com')
    """
    kind, _, rest = id.partition("|")
    if kind == "ban":
        return f"ban|{spelled(parse_target(rest, spelling))}"
    name, bar, target = rest.partition("|")
    if kind not in KINDS or not bar:
        raise NothingThere(f'"{id:.300}" is no entry: write ban|TARGET, override|RULE|TARGET or list|NAME|TARGET')
    return f"{kind}|{name}|{spelled(parse_target(target, spelling))}"


def entry_named(id: str, engine: Engine) -> Entry:
    """The entry of that id; raises `NothingThere`."""
    found = engine.registrar.register.entry(canonical_id(id, engine.spelling))
    if found is None or not found.in_force(engine.now):
        raise NothingThere(f'there is no entry "{id:.300}", or it has ended')
    return found


def entries_among(register: Register, now: float, *, kind: str, matching: str, after: str, n: int) -> EntryRows:
    """One page of what is in force; raises `ConfigError`."""
    if kind not in ("", *KINDS):
        raise ConfigError(f"kind: one of {', '.join(KINDS)}")
    wanted = matching.casefold()
    rows = [
        entry
        for entry in register.entries
        if entry.in_force(now)
        and (not kind or entry.id.startswith(f"{kind}|"))
        and any(wanted in text.casefold() for text in (entry.id, entry.author, entry.reason))
    ]
    page = [entry for entry in rows if entry.id > after] if after else rows
    return EntryRows(
        entries=tuple(map(entry_row, page[:n])),
        total=len(rows),
        next=page[n - 1].id if len(page) > n else None,
    )


async def lifted(id: str, engine: Engine, author: str, reason: str) -> EntryRow:
    """Take an entry out; what it was. Raises `NothingThere`, `StoreError`."""
    entry = entry_named(id, engine)
    if not await engine.registrar.lift(entry.id, author=author, reason=reason):
        raise NothingThere(f'there is no entry "{id:.300}" any more')
    return entry_row(entry)


# Forgetting


async def forgotten(engine: Engine, entity: Entity, author: str, reason: str) -> Forgotten:
    """Erase all of an entity. Raises `StoreError`; what was erased by then is, so it may be asked for again.

    Every process drops its candidates for the leaderboards first, or would put the name there again. The audit has a
    short hash of the name, by which somebody who knows it can find the line, and nobody can find the name.
    """
    about = f"{entity.dimension}:#{digest_of(str(entity))[:12]}"
    await engine.registrar.remark(FORGET, about, author=author, reason=reason)
    await asyncio.sleep(FORGET_SECONDS)
    counters = await engine.store.forget(entity)
    verdicts = await _unpublished(engine, entity)
    await engine.registrar.remark(FORGOTTEN, about, author=author, reason=reason)
    register = engine.registrar.register
    named = [entry.id for entry in register.entries if _names(entry, entity)]
    return Forgotten(entity=str(entity), counters=counters, verdicts=verdicts, entries=tuple(named))


def _names(entry: Entry, entity: Entity) -> bool:
    """Whether an entry is about an entity, alone or joined with others."""
    target = entry.target
    return is_about(target, entity) if isinstance(target, Entity) else spelled(target) == str(entity)


async def _unpublished(engine: Engine, entity: Entity) -> int:
    name = str(entity)
    found = [
        line.id
        async for line in lines_before(engine.store, MAX_STREAMED * 2, entity.id)
        if name in line.entities or entity.id in (line.user, line.sender, *line.recipients)
    ]
    taken = 0
    for start in range(0, len(found), UNLINKED_AT_ONCE):
        taken += await engine.store.unpublish(found[start : start + UNLINKED_AT_ONCE])
    return taken


# Outcomes


async def learned(engine: Engine, reports: Sequence[OutcomeReport], author: str) -> OutcomeResults:
    """Count reports, those with a key once. Raises `ConfigError` before any is counted, `StoreUnavailable` when one was
    not: those before it were."""
    outcomes = [outcome_of(report) for report in reports]
    results = []
    for report, outcome in zip(reports, outcomes, strict=True):
        results.append(await _learned(engine, report, outcome, author))
    return OutcomeResults(results=tuple(results))


async def _learned(engine: Engine, report: OutcomeReport, outcome: Outcome, author: str) -> OutcomeResult:
    claim = f"outcome:{author}:{report.key}"
    if report.key and await engine.store.keep(claim, "1", CLAIM_SECONDS) is not None:
        return OutcomeResult(status="duplicate", key=report.key)
    if not await engine.learn(outcome):
        if report.key:
            await engine.store.drop(claim)
        raise StoreUnavailable("the store did not take it: tell it again, with its keys")
    blamed = those_proven(outcome, entities_of(outcome.event, engine.spelling))
    named = tuple(str(blamed[each]) for each in COMPLAINED_OF if each in blamed)
    return OutcomeResult(status="counted", entities=named, key=report.key)


# Tokens


async def made_token(engine: Engine, new: NewToken, author: str) -> MadeToken:
    """Make a token. Raises `ConfigError`, `StoreError`."""
    now = engine.now
    taken = [token for token in engine.registrar.tokens.values() if token.name == new.name and token.in_force(now)]
    if taken:
        raise ConfigError(
            f'name: there is a token "{new.name:.64}" already; take another name, or revoke that one first'
        )
    secret = secrets.token_urlsafe(32)
    token = Token(
        token_id=secrets.token_hex(TOKEN_ID_OCTETS),
        name=new.name,
        digest=digest_of(secret),
        scopes=scopes_of(new.scopes),
        author=author,
        reason=new.reason,
        created_at=now,
        expires_at=_end(now, new.expires_in_seconds),
        requests_per_second=new.requests_per_second,
    )
    await engine.registrar.put_token(token)
    return MadeToken(token=spelled_token(token.token_id, secret), row=token_row(token))


async def revoked(engine: Engine, named: str, author: str, reason: str) -> TokenRow:
    """Take a token back, by its id or name. Raises `NothingThere`, `StoreError`."""
    tokens = engine.registrar.tokens
    found = [token for token in tokens.values() if named in (token.token_id, token.name)]
    if not found:
        raise NothingThere(f'there is no token "{named:.64}"; `reputon token list` shows those that are')
    token = max(found, key=lambda each: each.created_at)
    await engine.registrar.lift(f"{TOKEN}{token.token_id}", author=author, reason=reason)
    return token_row(token)


def token_row(token: Token) -> TokenRow:
    """A token as a document."""
    return TokenRow(
        token_id=token.token_id,
        name=token.name,
        scopes=tuple(token.scopes),
        author=token.author,
        reason=token.reason,
        created_at=token.created_at,
        expires_at=token.expires_at,
        requests_per_second=token.requests_per_second,
    )
