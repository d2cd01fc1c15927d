"""The keeper of the register in one process: reads it from the store, and writes into it for operators.

    operator -> put, lift -> store -> every process: told at once (pub/sub), or finds out within `REREAD_SECONDS`
                                      -> what has changed is read -> `Registrar.register`, the next snapshot

What is put down or lifted is in force on every process that reaches the store within a second. While the store is away
the last snapshot stays in force; entries that end by themselves still do, by the store's clock as it was last heard, so
that a machine whose clock is wrong decides as the others do. Everything that is done has a line in the audit.

Lists of files, sets and the configuration lie under it (`reputation.list_keeper`, `Registrar.lists`). They are in every
snapshot, and each process reads them for itself.

An entry that cannot be read, say of a newer release, is passed over, counted and logged once. Who may put down what is
checked here: nothing that is never to be banned, no override that could not apply.

Tokens of the API (`reputation.access`) are kept beside the entries, spread and audited in the same way, and judge
nobody. A remark in the audit is heard by every process (`reputation.remarks`): one of them has it read its rules anew.

Bugs: a process that starts while the store is away knows no entry.
"""

import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from reputation.access import TOKEN, Token, token_of
from reputation.access import to_json as token_to_json
from reputation.clock import Clock
from reputation.contracts import RegisterStore, Texts
from reputation.entries import (
    MAX_AUTHOR_LENGTH,
    MAX_REASON_LENGTH,
    OVERRIDE,
    Entry,
    Override,
    Target,
    check_ban,
    check_text,
    entry_of,
    to_json,
)
from reputation.errors import ConfigError, StoreError
from reputation.list_keeper import ListKeeper
from reputation.lists import Lists
from reputation.metrics import Metrics
from reputation.overrides import check_override
from reputation.policy import Policy
from reputation.register import Register
from reputation.remarks import REMARKS, Listeners
from reputation.windows import MICROSECONDS

REREAD_SECONDS = 0.5
SETTLE_SECONDS = 0.05
"""Between two readings, so that many changes in a row are read together."""
MANY = 200
"""Changes that would keep the event loop for longer than a millisecond or a few; they are read in a thread."""


log = logging.getLogger("reputon.engine")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditLine:
    """One thing that was done to the register."""

    at: float
    """The store's time, seconds since the epoch."""
    what: str
    """put, lift, expired, or what a remark is about."""
    id: str
    author: str
    """Who did it; empty for what ended by itself."""
    reason: str
    entry: str
    """The entry as JSON, as far as it was known; see `reputation.entries.entry_of`."""


class Registrar:
    """Keeps `register` up to date while `run` runs. `on_new_limits` is called after overrides in it have changed."""

    def __init__(
        self,
        store: RegisterStore,
        policy: Policy,
        metrics: Metrics,
        clock: Clock,
        *,
        never_ban: Sequence[Target],
        on_new_limits: Callable[[], None],
    ) -> None:
        self.register = Register.of((), never_ban)
        """The snapshot that is in force."""
        self.tokens: dict[str, Token] = {}
        """Those of the API, by their ids."""
        self.listeners = Listeners()
        """Who hears of remarks."""
        self._store, self._policy = store, policy
        self._metrics, self._clock = metrics, clock
        self._never_ban = never_ban
        self._on_new_limits = on_new_limits
        self._texts: dict[str, str] = {}
        self._unreadable: frozenset[str] = frozenset()
        self._version, self._has_begun = 0, False
        self._offset = clock.now() - clock.monotonic()
        self._reading, self._news = asyncio.Lock(), asyncio.Event()
        self._failing = False
        self.lists = ListKeeper(store, metrics, clock, never_ban=never_ban, publish=self._put_under)
        """The keeper of what lies under the register."""

    def time_at(self, monotonic: float) -> float:
        """The store's time, in seconds since the epoch, at a moment of this process' monotonic clock."""
        return monotonic + self._offset

    # For operators

    async def put(self, entry: Entry, *, wide: bool = False) -> None:
        """Put an entry down, in place of one with its id. It is in force here at once, elsewhere within a second.

        Raises `ConfigError` for what must not be, `StoreError` when the store does not take it, or does not say so.
        """
        check_ban(entry, self._never_ban, wide=wide)
        if isinstance(entry, Override):
            check_override(entry, self._policy)
        if not entry.in_force(self.time_at(self._clock.monotonic())):
            raise ConfigError("expires_at: that time is over")
        text = to_json(entry)
        line = _line("put", entry.id, entry.author, entry.reason, text)
        expires_us = None if entry.expires_at is None else round(entry.expires_at * MICROSECONDS)
        await self._store.enter(entry.id, text, expires_us=expires_us, line=line)
        await self._refresh_or_count()

    async def lift(self, id: str, *, author: str, reason: str) -> bool:
        """Take an entry out; whether there was one. Raises like `put`."""
        check_text("author", author, MAX_AUTHOR_LENGTH)
        check_text("reason", reason, MAX_REASON_LENGTH)
        told = "" if id.startswith(TOKEN) else self._texts.get(id, "")
        version = await self._store.strike(id, _line("lift", id, author, reason, told))
        await self._refresh_or_count()
        return version > 0

    async def put_token(self, token: Token) -> None:
        """Put a token of the API down. Raises like `put`."""
        expires_us = None if token.expires_at is None else round(token.expires_at * MICROSECONDS)
        line = _line("put", token.id, token.author, token.reason, "")  # the audit has no digest
        await self._store.enter(token.id, token_to_json(token), expires_us=expires_us, line=line)
        await self._refresh_or_count()

    async def remark(self, what: str, id: str, *, author: str, reason: str) -> None:
        """Put a line into the audit about what is no entry; every process hears of `what`. Raises like `put`."""
        check_text("author", author, MAX_AUTHOR_LENGTH)
        check_text("reason", reason, MAX_REASON_LENGTH)
        await self._store.remark(what, _line(what, id, author, reason, ""))
        await self._refresh_or_count()

    async def audit(self, n: int) -> tuple[AuditLine, ...]:
        """What was done lately, the latest first. Raises `StoreError`."""
        return tuple(_read_line(at_us, line) for at_us, line in await self._store.audit(n))

    # Keeping up

    def use(self, policy: Policy) -> None:
        """Check overrides by the rules of another policy from now on."""
        self._policy = policy

    async def start(self) -> None:
        """Read register and lists for the first time; without the store there is no register yet.

        Raises `ConfigError` for a list that cannot be read.
        """
        await self._refresh_or_count()
        await self.lists.start()

    async def run(self) -> None:
        """Keep `register` up to date until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="register changes")
            tasks.create_task(self._reread(), name="register reader")
            tasks.create_task(self.lists.run(), name="lists")

    async def _listen(self) -> None:
        while True:
            try:
                async with aclosing(self._store.changes()) as changes:
                    async for _ in changes:
                        self._news.set()
            except Exception as error:  # the top of a job that must not end: changes would be heard of late
                self._metrics.store_failures.labels("register", type(error).__name__).inc()
                log.exception("changes of the register are not heard")
            await asyncio.sleep(REREAD_SECONDS)

    async def _reread(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(REREAD_SECONDS):
                    await self._news.wait()
            self._news.clear()
            await self._refresh_or_count()
            await asyncio.sleep(SETTLE_SECONDS)

    async def _refresh_or_count(self) -> None:
        try:
            await self.refresh()
        except StoreError as error:
            self._metrics.store_failures.labels("register", type(error).__name__).inc()
            if not self._failing:
                self._failing = True
                log.warning("the register cannot be read, %d entries stay in force: %s", len(self.register), error)
        except Exception as error:  # the top of a job that must not end: no ban would be heard of any more
            self._metrics.store_failures.labels("register", type(error).__name__).inc()
            log.exception("the register cannot be read, %d entries stay in force", len(self.register))
        else:
            if self._failing:
                self._failing = False
                log.warning("the register is read again: %d entries", len(self.register))

    async def refresh(self) -> None:
        """Read what has changed. Raises `StoreError`, and leaves the last snapshot in force then."""
        async with self._reading:
            before = self._clock.monotonic()
            texts = await self._store.entries(self._version)
            self._offset = texts.now_us / MICROSECONDS - (before + self._clock.monotonic()) / 2
            if texts.version != self._version:
                known, self._has_begun = self._version if self._has_begun else None, True
                await self._take(texts)
                self.listeners.tell(await self._remarked(texts, known))
            self._has_begun = True

    async def _take(self, texts: Texts) -> None:
        changed = _difference(self._texts, texts.texts) if texts.whole else texts.texts
        if texts.whole and not texts.texts and len(self._texts) > 1:
            log.error(
                "the store knows none of %d entries of the register any more: has it lost its data?", len(self._texts)
            )
        tokens = {id: text for id, text in changed.items() if id.startswith(TOKEN)}
        entries = {id: text for id, text in changed.items() if id not in tokens}
        many = len(entries) > MANY
        read = asyncio.to_thread(_changed, self.register, entries) if many else None
        register, failed = _changed(self.register, entries) if read is None else await read
        failed |= self._take_tokens(tokens)
        _apply(changed, self._texts)
        self._unreadable = (self._unreadable - changed.keys()) | failed.keys()
        # Over the lists of now: there may be others than when the thread began.
        self.register, self._version = register.over(self.lists.lists), texts.version
        self._metrics.register_entries.set(len(register))
        self._metrics.register_unreadable.set(len(self._unreadable))
        for error in failed.values():
            log.error("an entry is passed over: %s", error)
        if any(id.startswith(OVERRIDE) for id in changed):
            self._on_new_limits()

    async def _remarked(self, texts: Texts, known: int | None) -> Iterable[str]:
        """What was remarked since a version; nothing for who has just begun, and has nothing old."""
        if known is None:
            return ()
        if not texts.whole:
            return texts.texts
        if known:  # something may have been remarked that cannot be told any more
            return REMARKS
        return {_read_line(at_us, line).what for at_us, line in await self._store.audit(len(REMARKS))}

    def _take_tokens(self, texts: Mapping[str, str]) -> dict[str, ConfigError]:
        """Take up tokens; why some of them could not be read, which open nothing then."""
        failed = {}
        for id, text in texts.items():
            self.tokens.pop(id.removeprefix(TOKEN), None)
            try:
                if text:
                    token = token_of(text, id)
                    self.tokens[token.token_id] = token
            except ConfigError as error:
                failed[id] = error
        return failed

    def _put_under(self, lists: Lists) -> None:
        self.register = self.register.over(lists)


def _apply(changed: Mapping[str, str], texts: dict[str, str]) -> None:
    for id, text in changed.items():
        if text:
            texts[id] = text
        else:
            texts.pop(id, None)


def _difference(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """What has changed between two registers; struck entries as empty texts."""
    struck = dict.fromkeys(before.keys() - now.keys(), "")
    return struck | {id: text for id, text in now.items() if before.get(id) != text}


def _changed(register: Register, texts: Mapping[str, str]) -> tuple[Register, dict[str, ConfigError]]:
    """The register with these texts in it, and why some of them could not be read."""
    entries: dict[str, Entry | None] = {}
    failed = {}
    for id, text in texts.items():
        try:
            entries[id] = entry_of(text, id) if text else None
        except ConfigError as error:
            entries[id], failed[id] = None, error
    return register.changed(entries), failed


def _line(what: str, id: str, author: str, reason: str, entry: str) -> str:
    fields = {"what": what, "id": id, "author": author, "reason": reason, "entry": entry}
    return json.dumps(fields, ensure_ascii=False)


def _read_line(at_us: int, line: str) -> AuditLine:
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    fields = read if isinstance(read, dict) else {"what": "unreadable", "reason": line}
    words = {name: str(fields.get(name, "")) for name in ("what", "id", "author", "reason", "entry")}
    return AuditLine(at=at_us / MICROSECONDS, **words)
