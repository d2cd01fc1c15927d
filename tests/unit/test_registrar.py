"""The keeper of the register over a store in memory: what it takes, keeps while the store is away, and tells."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from reputation import registrar as module
from reputation.clock import ManualClock
from reputation.config import ListSettings
from reputation.contracts import Texts
from reputation.entries import DEFAULT_NEVER_BAN, Entry, Override, Target, entry_of, to_json
from reputation.errors import ConfigError, StoreMisuse, StoreUnavailable
from reputation.keys import Dimension, Entity
from reputation.metrics import Metrics
from reputation.policy import Policy
from reputation.registrar import MANY, Registrar
from reputation.store.memory import MemoryStore
from tests.builders import rule
from tests.entries_for_tests import SPELLING, ban, listing, override, target

CLIENT = ip_address("192.0.2.7")
STORE_SECONDS = 5_000.0
LEASES = rule("sessions", key=(Dimension.IP,), count="concurrent", limits=("5/1m",))
RULES = (
    rule("sender-messages"),
    rule("by-network", key=(Dimension.PREFIX,)),
    rule("both", key=(Dimension.SENDER, Dimension.IP)),
    rule("correspondents", key=(Dimension.SENDER,), count="distinct(ip)", limits=("10/1h",)),
    LEASES,
)


class Store(MemoryStore):
    """One whose clock stands at `now_us`, which counts what it is asked, and fails while there is `trouble`."""

    def __init__(self) -> None:
        super().__init__()
        self.now_us = round(STORE_SECONDS * 1_000_000)
        self.trouble: Exception | None = None
        self.reads = 0

    async def enter(
        self, id: str, entry_json: str, *, expires_us: int | None, line: str, now_us: int | None = None
    ) -> int:
        if self.trouble is not None:
            raise self.trouble
        return await super().enter(id, entry_json, expires_us=expires_us, line=line, now_us=self.now_us)

    async def strike(self, id: str, line: str, *, now_us: int | None = None) -> int:
        return await super().strike(id, line, now_us=self.now_us)

    async def entries(self, known_version: int, *, now_us: int | None = None) -> Texts:
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        return await super().entries(known_version, now_us=self.now_us)


class Fixture:
    """A registrar, what it stands on, and how often it said that limits have changed."""

    def __init__(self, store: Store, *, wall: float = STORE_SECONDS, never_ban: tuple[Target, ...] = ()) -> None:
        self.store, self.metrics = store, Metrics()
        self.clock = ManualClock(wall)
        self.new_limits = 0
        self.keeper = Registrar(
            store,
            Policy(rules=RULES),
            self.metrics,
            self.clock,
            never_ban=never_ban or DEFAULT_NEVER_BAN,
            on_new_limits=self._on_new_limits,
        )

    def _on_new_limits(self) -> None:
        self.new_limits += 1

    @property
    def banned(self) -> bool:
        now = self.keeper.time_at(self.clock.monotonic())
        return self.keeper.register.standing({}, CLIENT, now).ban is not None

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def one(store: Store) -> Fixture:
    return Fixture(store)


@asynccontextmanager
async def running(*fixtures: Fixture) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(fixture.keeper.run()) for fixture in fixtures]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


# What operators do


async def test_what_is_put_down_is_in_force_here_at_once_until_it_is_lifted(one: Fixture) -> None:
    await one.keeper.put(ban("ip:192.0.2.0/24"))
    assert one.banned
    assert await one.keeper.lift("ban|ip:192.0.2.0/24", author="bob", reason="a mistake")
    assert not one.banned
    assert not await one.keeper.lift("ban|ip:192.0.2.0/24", author="bob", reason="again")
    assert one.new_limits == 0


async def test_all_that_is_done_has_a_line_with_author_reason_and_entry(one: Fixture) -> None:
    entry = ban("ip:192.0.2.7", expires_at=STORE_SECONDS + 60)
    await one.keeper.put(entry)
    await one.keeper.lift(entry.id, author="bob", reason="a mistake")
    await one.keeper.put(entry)
    one.store.now_us += 61_000_000
    await one.keeper.refresh()
    ended, again, lifted, put = await one.keeper.audit(10)
    assert [line.what for line in (put, lifted, again, ended)] == ["put", "lift", "put", "expired"]
    assert (put.author, put.reason, put.at) == ("eve", "spam run", STORE_SECONDS)
    assert (lifted.author, lifted.reason) == ("bob", "a mistake")
    assert (ended.author, ended.at) == ("", STORE_SECONDS + 61)
    assert {entry_of(line.entry, line.id) for line in (put, lifted, again, ended)} == {entry}
    assert await one.keeper.audit(1) == (ended,)


async def test_a_line_that_is_no_json_is_shown_as_it_is(one: Fixture) -> None:
    await one.store.enter("ban|x", "{}", expires_us=None, line="by hand")
    (line,) = await one.keeper.audit(5)
    assert (line.what, line.reason) == ("unreadable", "by hand")


@pytest.mark.parametrize(("author", "reason"), [("", "because"), ("bob", " "), ("bob\n", "because"), ("b" * 101, "x")])
async def test_who_lifts_says_who_he_is_and_why(one: Fixture, author: str, reason: str) -> None:
    with pytest.raises(ConfigError, match="write one line"):
        await one.keeper.lift("ban|user:x", author=author, reason=reason)


async def test_pitfall_20_what_is_never_banned_cannot_be(store: Store) -> None:
    fixture = Fixture(store, never_ban=(target("ip:192.0.2.7"),))
    with pytest.raises(ConfigError, match="never banned"):
        await fixture.keeper.put(ban("ip:192.0.2.0/24"))
    with pytest.raises(ConfigError, match="say that so much is meant: --wide"):
        await fixture.keeper.put(ban("ip:10.0.0.0/8"))
    await fixture.keeper.put(ban("ip:10.0.0.0/8"), wide=True)
    # Another process may think otherwise; here it is void.
    await Fixture(store).keeper.put(ban("ip:192.0.2.7"))
    await fixture.keeper.refresh()
    assert (len(fixture.keeper.register), fixture.banned) == (2, False)


async def test_what_is_over_already_is_not_put_down(one: Fixture) -> None:
    await one.keeper.refresh()
    with pytest.raises(ConfigError, match="expires_at: that time is over"):
        await one.keeper.put(ban("ip:192.0.2.7", expires_at=STORE_SECONDS))


async def test_a_store_that_does_not_take_it_says_so(one: Fixture) -> None:
    one.store.trouble = StoreMisuse("full")
    with pytest.raises(StoreMisuse):
        await one.keeper.put(ban("ip:192.0.2.7"))
    assert not one.banned


# Overrides that cannot be


@pytest.mark.parametrize(
    "good",
    [
        override("sender:alice@example.com", "5/1h", "50/24h"),
        override("ip:192.0.2.0/24", "5/1h", rule="by-network"),
        override("ip:192.0.0.0/16", "5/1h", rule="by-network"),
        override("ip:2001:db8::/48", "5/1h", rule="by-network"),
        override("sender+ip:alice@example.com,192.0.2.7", rule="both"),
        override("sender:alice@example.com", "1000/1h", rule="correspondents"),
        override("ip:192.0.2.7", "50/1m", rule="sessions"),
    ],
    ids=lambda each: each.id,
)
async def test_an_override_that_can_apply_is_taken(one: Fixture, good: Override) -> None:
    await one.keeper.put(good)
    assert (one.keeper.register.entries, one.new_limits) == ((good,), 1)
    await one.keeper.lift(good.id, author="bob", reason="over")
    assert (one.keeper.register.entries, one.new_limits) == ((), 2)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (override("user:bob", rule="nobody"), 'there is no rule "nobody"; there are: sender-messages, by-network'),
        (override("user:bob"), 'rule "sender-messages" counts by sender, not by user'),
        (override("ip:192.0.2.7"), "counts by sender, not by networks"),
        (override("sender:a@example.com", rule="both"), "counts by sender.ip, not by sender"),
        (override("ip:192.0.2.7", rule="by-network"), 'counts by /24: type "ip:192.0.2.0/24"'),
        (override("ip:2001:db8::/64", rule="by-network"), 'counts by /48: type "ip:2001:db8::/48"'),
        (override("sender:a@example.com", "1001/1h", rule="correspondents"), "counted exactly up to 1000"),
        (override("ip:192.0.2.7", "5/1h", rule="sessions"), "counts sessions that are open now"),
        (override("ip:192.0.2.7", "5/1m", "50/1h", rule="sessions"), "counts sessions that are open now"),
    ],
    ids=lambda each: each.id if isinstance(each, Override) else "",
)
async def test_an_override_that_could_never_apply_is_refused(one: Fixture, bad: Override, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        await one.keeper.put(bad)
    assert await one.keeper.audit(1) == ()


# Keeping up


async def test_a_change_is_told_and_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD_SECONDS", 1_000.0)
    one, other = Fixture(store), Fixture(store)
    async with running(one, other):
        await until(lambda: store.reads >= 2)
        await one.keeper.put(ban("ip:192.0.2.7"))
        await until(lambda: other.banned)
        await other.keeper.lift("ban|ip:192.0.2.7", author="bob", reason="over")
        await until(lambda: not one.banned)


class DeafStore(Store):
    """One whose changes nobody hears."""

    async def changes(self) -> AsyncIterator[None]:  # type: ignore[override]  # no generator is closed here
        await asyncio.Event().wait()
        yield


async def test_what_was_not_told_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REREAD_SECONDS", 0.01)
    store = DeafStore()
    one, other = Fixture(store), Fixture(store)
    async with running(other):
        await one.keeper.put(ban("ip:192.0.2.7"))
        await until(lambda: other.banned)


async def test_without_the_store_the_last_snapshot_stays_and_that_is_counted_and_logged_once(
    one: Fixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REREAD_SECONDS", 0.001)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.001)
    await one.keeper.put(ban("ip:192.0.2.7"))
    one.store.trouble = StoreUnavailable("it is down")
    with caplog.at_level(logging.WARNING, "reputon.engine"):
        async with running(one):
            await until(
                lambda: one.sample("reputon_store_failures_total", call="register", error="StoreUnavailable") > 2
            )
            assert one.banned
            one.store.trouble = None
            await until(lambda: len(caplog.messages) == 2)
    assert caplog.messages == [
        "the register cannot be read, 1 entries stay in force: it is down",
        "the register is read again: 1 entries",
    ]


class DumbStore(Store):
    """One that has an error which nobody thought of, twice, before it tells of changes."""

    def __init__(self) -> None:
        super().__init__()
        self.tried = 0

    async def changes(self) -> AsyncGenerator[None, None]:
        self.tried += 1
        if self.tried <= 2:
            raise TypeError("nonsense")
        async for _ in super().changes():
            yield


async def test_an_error_that_nobody_thought_of_does_not_end_the_listening(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REREAD_SECONDS", 0.001)
    store = DumbStore()
    one, other = Fixture(store), Fixture(store)
    async with running(one):
        await until(lambda: store.tried > 2)
        monkeypatch.setattr(module, "REREAD_SECONDS", 1_000.0)
        await other.keeper.put(ban("ip:192.0.2.7"))
        await until(lambda: one.banned)
    assert one.sample("reputon_store_failures_total", call="register", error="TypeError") == 2
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


async def test_an_error_that_nobody_thought_of_does_not_end_the_reading(
    one: Fixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "REREAD_SECONDS", 0.001)
    monkeypatch.setattr(module, "SETTLE_SECONDS", 0.001)
    await one.store.enter("ban|ip:192.0.2.7", to_json(ban("ip:192.0.2.7")), expires_us=None, line="{}")
    one.store.trouble = TypeError("nonsense")
    await one.keeper.start()  # a process that serves starts all the same
    async with running(one):
        await until(lambda: one.sample("reputon_store_failures_total", call="register", error="TypeError") > 2)
        one.store.trouble = None
        await until(lambda: one.banned)
    assert all(record.exc_info for record in caplog.records)


async def test_whoever_asks_for_it_hears_that_the_store_is_away(one: Fixture) -> None:
    one.store.trouble = StoreUnavailable("it is down")
    with pytest.raises(StoreUnavailable):
        await one.keeper.refresh()
    await one.keeper.start()  # a process that serves starts all the same


async def test_only_what_has_changed_is_read_anew(one: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def noted(text: str, id: str) -> Entry:
        read.append(id)
        return entry_of(text, id)

    monkeypatch.setattr(module, "entry_of", noted)
    for number in range(3):
        await one.keeper.put(ban(f"ip:192.0.2.{number}"))
    assert read == ["ban|ip:192.0.2.0", "ban|ip:192.0.2.1", "ban|ip:192.0.2.2"]
    one.keeper._version = 17  # as after a fail-over that has lost a change: everything is told
    await one.keeper.refresh()
    assert len(read) == 3
    del one.store._entries["ban|ip:192.0.2.1"]
    one.keeper._version = 17
    await one.keeper.refresh()
    assert [entry.id for entry in one.keeper.register.entries] == ["ban|ip:192.0.2.0", "ban|ip:192.0.2.2"]


async def test_many_at_once_are_read_beside_the_loop(one: Fixture) -> None:
    for number in range(MANY + 50):
        entry = ban(f"user:u{number}")
        await one.store.enter(entry.id, to_json(entry), expires_us=None, line="{}")
    await one.keeper.refresh()
    assert len(one.keeper.register) == MANY + 50
    assert one.sample("reputon_register_entries") == MANY + 50


async def test_an_entry_that_cannot_be_read_is_passed_over_counted_and_logged_once(
    one: Fixture, caplog: pytest.LogCaptureFixture
) -> None:
    await one.store.enter("ban|ip:192.0.2.8", '{"action": "explode"}', expires_us=None, line="{}")
    for _ in range(2):
        await one.keeper.put(ban("ip:192.0.2.7"))
    assert (len(one.keeper.register), one.banned) == (1, True)
    assert one.sample("reputon_register_unreadable") == 1
    (told,) = [record.getMessage() for record in caplog.records]
    assert told.startswith('an entry is passed over: "ban|ip:192.0.2.8" in the register: ')
    await one.store.strike("ban|ip:192.0.2.8", "{}")
    await one.keeper.refresh()
    assert one.sample("reputon_register_unreadable") == 0


@pytest.mark.parametrize("wall", [STORE_SECONDS - 60, STORE_SECONDS, STORE_SECONDS + 60])
async def test_the_store_s_clock_says_when_an_entry_ends(store: Store, wall: float) -> None:
    fixture = Fixture(store, wall=wall)
    await fixture.keeper.refresh()
    await fixture.keeper.put(ban("ip:192.0.2.7", expires_at=STORE_SECONDS + 10))
    fixture.clock.advance(9.99)
    assert fixture.banned
    fixture.clock.advance(0.01)
    assert not fixture.banned, "without having asked the store"


async def test_a_register_of_another_kind_of_entries_is_kept_too(one: Fixture) -> None:
    await one.keeper.put(listing("allow", "ip:192.0.2.7"))
    await one.keeper.put(override("sender:alice@example.com", "5/1h"))
    found = one.keeper.register.override_of("sender-messages", Entity("sender", "alice@example.com"), STORE_SECONDS)
    assert found is not None
    assert {entry.id for entry in one.keeper.register.entries} == {
        "list|allow|ip:192.0.2.7",
        "override|sender-messages|sender:alice@example.com",
    }
    text = (await one.store.entries(0)).texts["list|allow|ip:192.0.2.7"]
    assert json.loads(text)["author"] == "eve"


# Over lists


def listed(fixture: Fixture, *values: str) -> None:
    settings = [ListSettings.model_validate({"name": "vip", "of": "ip", "values": list(values)})] if values else []
    fixture.keeper.lists.use(settings, SPELLING)


async def test_lists_lie_under_the_register_from_the_start_and_change_with_the_settings(one: Fixture) -> None:
    await one.keeper.put(ban("ip:192.0.2.7"))
    listed(one, "192.0.2.0/24")
    await one.keeper.start()
    async with running(one):
        assert one.banned
        assert {entry.id for entry in one.keeper.register.about(Entity("ip", "192.0.2.7"), STORE_SECONDS)} == {
            "ban|ip:192.0.2.7",
            "list|vip|ip:192.0.2.0/24",
        }
        await one.keeper.lift("ban|ip:192.0.2.7", author="bob", reason="over")
        listed(one, "192.0.2.7")
        await until(lambda: [entry.id for entry in about(one)] == ["list|vip|ip:192.0.2.7"])
        assert len(one.keeper.register) == one.sample("reputon_register_entries") == 0


def about(one: Fixture) -> tuple[Entry, ...]:
    return one.keeper.register.about(Entity("ip", "192.0.2.7"), STORE_SECONDS)


async def test_what_stands_on_a_list_is_not_lifted(one: Fixture) -> None:
    listed(one, "192.0.2.7")
    await one.keeper.start()
    assert not await one.keeper.lift("list|vip|ip:192.0.2.7", author="bob", reason="over")
    mine = listing("vip", "ip:192.0.2.7")
    await one.keeper.put(mine)
    assert about(one) == (mine,)
    assert await one.keeper.lift(mine.id, author="bob", reason="over")
    assert [(entry.id, entry.author) for entry in about(one)] == [(mine.id, "configuration")]


async def test_lists_that_change_while_many_entries_are_read_are_not_lost(
    one: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that reads has begun with the lists of before."""
    for number in range(MANY + 1):
        entry = ban(f"user:u{number}")
        await one.store.enter(entry.id, to_json(entry), expires_us=None, line="{}")
    listed(one, "192.0.2.7")

    async def meanwhile(work: Callable[..., object], *arguments: object) -> object:
        result = work(*arguments)
        await one.keeper.lists.start()
        return result

    with monkeypatch.context() as patched:
        patched.setattr(asyncio, "to_thread", meanwhile)
        patched.setattr("reputation.list_keeper._in_thread", at_once)
        await one.keeper.refresh()
    assert len(one.keeper.register) == MANY + 1
    assert [entry.id for entry in about(one)] == ["list|vip|ip:192.0.2.7"]


async def at_once(_: object, work: Callable[..., object], *arguments: object) -> object:
    return work(*arguments)


async def test_a_process_does_not_start_with_a_list_that_cannot_be_read(one: Fixture) -> None:
    listed(one, "192.0.2.300")
    with pytest.raises(ConfigError, match=r'\[\[list\]\] "vip" values, item 1: "192.0.2.300" is no network'):
        await one.keeper.start()
