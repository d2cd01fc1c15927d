"""What operators do: put down, lift, forget, report, give tokens. Each deed is signed, and stands in the audit."""

import asyncio
import secrets
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from typing import TypedDict

from reputation.access import SECRET_OCTETS, Token, digest_of, scopes_of, spelled_token
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
    VerdictLine,
)
from reputation.desk.feedback_reports import OF_REPORTS
from reputation.desk.reports import outcome_of
from reputation.desk.watching import lines_before
from reputation.engine import Engine
from reputation.entries import Ban, Entry, Listing, Override, Target, parse_target, spelled
from reputation.errors import ConfigError, NothingThere, StoreError, StoreUnavailable
from reputation.events import Outcome
from reputation.keys import Entity, entities_of, is_about
from reputation.register import Register
from reputation.remarks import FORGET, FORGOTTEN
from reputation.spelling import Spelling, canonical_address
from reputation.verdict import Action
from reputation.windows import Limit

KINDS = ("ban", "override", "list")
FORGET_SECONDS = 1.2
"""Until every process has heard that it is to drop what it remembers."""
CLAIM_SECONDS = 3 * 86_400.0
"""How long an outcome that was told by its key is known."""
COUNTING_SECONDS = 10.0
"""How long somebody may take to count it."""
_COUNTING, _COUNTED = "counting", "counted"
TOKEN_ID_OCTETS = 4
UNLINKED_AT_ONCE = 1_000
SEARCHED_AT_ONCE = 5_000
"""Entries that are searched before others have their turn: some tenths of a millisecond."""

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


async def entries_among(register: Register, now: float, *, kind: str, matching: str, after: str, n: int) -> EntryRows:
    """One page of what is in force; raises `ConfigError`.

    Entries that are over are on no page, but count in `total` until the store has swept them.
    """
    if kind not in ("", *KINDS):
        raise ConfigError(f"kind: one of {', '.join(KINDS)}")
    index = register.index
    start, end = index.range_of(kind)
    places: Sequence[int] = range(start, end)
    if matching:
        places = await _places_of(matching, index.rows.texts, start, end)
    first = bisect_left(places, index.place_after(after)) if after else 0
    found = (index.rows.entries[places[i]] for i in range(first, len(places)))
    page = list(islice((entry for entry in found if entry.in_force(now)), n + 1))
    return EntryRows(
        entries=tuple(map(entry_row, page[:n])),
        total=len(places),
        next=page[n - 1].id if len(page) > n else None,
    )


async def _places_of(matching: str, texts: Sequence[str], start: int, end: int) -> list[int]:
    """Where a text is in some texts of an index; others have their turn in between."""
    wanted, found = matching.casefold(), list[int]()
    if "\n" in wanted:  # it would reach from one field into the next
        return found
    for begin in range(start, end, SEARCHED_AT_ONCE):
        searched = texts[begin : min(begin + SEARCHED_AT_ONCE, end)]
        found += [place for place, text in enumerate(searched, begin) if wanted in text]
        await asyncio.sleep(0)
    return found


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
    """Take the lines of an entity out of the stream, however it was written in them; how many there were."""
    found = [line.id async for line in lines_before(engine.store, MAX_STREAMED * 2) if _is_in(line, entity, engine)]
    taken = 0
    for start in range(0, len(found), UNLINKED_AT_ONCE):
        taken += await engine.store.unpublish(found[start : start + UNLINKED_AT_ONCE])
    return taken


def _is_in(line: VerdictLine, entity: Entity, engine: Engine) -> bool:
    """Whether a line names an entity: among those of its event, or as a client wrote it."""
    if str(entity) in line.entities or entity.id in (line.user, line.sender, *line.recipients):
        return True
    separator = engine.spelling.subaddress_separator
    return any(canonical_address(text, separator) == entity.id for text in (line.user, *line.recipients) if text)


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
    """Count one report. One with a key is claimed for a moment first, and for long when it was counted: whoever dies in
    between, or does not hear that he was heard, leaves a claim that ends soon."""
    whose = "" if report.key.startswith(OF_REPORTS) else author  # a report that came by mail is the same for all
    claim = f"outcome:{whose}:{report.key}" if report.key else ""
    if claim:
        there = await engine.store.keep(claim, _COUNTING, COUNTING_SECONDS)
        if there == _COUNTED:
            return OutcomeResult(status="duplicate", key=report.key)
        if there is not None:
            raise StoreUnavailable("this key is being counted: tell it again")
    answer = await engine.learn(replace(outcome, token=claim))
    if answer is None:
        with suppress(StoreError):  # it ends by itself
            await engine.store.drop(claim)
        raise StoreUnavailable("the store did not take it: tell it again, with its keys")
    if claim:
        with suppress(StoreError):  # it is counted all the same
            await engine.store.drop(claim)
            await engine.store.keep(claim, _COUNTED, CLAIM_SECONDS)
    blamed = those_proven(outcome, entities_of(outcome.event, engine.spelling))
    named = tuple(str(blamed[each]) for each in COMPLAINED_OF if each in blamed)
    return OutcomeResult(status="partly" if answer.missing else "counted", entities=named, key=report.key)


# Tokens


async def made_token(engine: Engine, new: NewToken, author: str) -> MadeToken:
    """Make a token. Raises `ConfigError`, `StoreError`."""
    now = engine.now
    taken = [token for token in engine.registrar.tokens.values() if token.name == new.name and token.in_force(now)]
    if taken:
        raise ConfigError(
            f'name: there is a token "{new.name:.64}" already; take another name, or revoke that one first'
        )
    secret = secrets.token_urlsafe(SECRET_OCTETS)
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
    """Take a token back, by its id, or by its name if only one has it. Raises `NothingThere`, `ConfigError` for a name
    that several have, `StoreError`."""
    tokens = engine.registrar.tokens
    found = [tokens[named]] if named in tokens else [token for token in tokens.values() if token.name == named]
    if len(found) > 1:
        ids = ", ".join(sorted(token.token_id for token in found))
        raise ConfigError(f'name: several tokens are called "{named:.64}": name one by its id, {ids}')
    if not found or not await engine.registrar.lift(found[0].id, author=author, reason=reason):
        raise NothingThere(f'there is no token "{named:.64}"; `reputon token list` shows those that are')
    return token_row(found[0])


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
