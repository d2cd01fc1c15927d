"""The keeper of the lists over files and a store in memory: what is in force when, and what is said about it."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest

from reputation import list_files, list_lines
from reputation import list_keeper as module
from reputation.clock import ManualClock
from reputation.config import ListSettings
from reputation.entries import DEFAULT_NEVER_BAN
from reputation.errors import ConfigError, StoreUnavailable
from reputation.keys import Entity
from reputation.list_files import Attempt, attempt
from reputation.list_keeper import ListKeeper
from reputation.lists import Lists
from reputation.metrics import Metrics
from reputation.store.memory import MemoryStore
from tests.entries_for_tests import SPELLING


class Store(MemoryStore):
    """One that fails while there is `trouble`, and counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: Exception | None = None
        self.reads = 0

    async def members(self, name: str) -> frozenset[str]:
        self.reads += 1
        if self.trouble is not None:
            raise self.trouble
        return await super().members(name)


class Fixture:
    """A keeper, what it stands on, and what it has published."""

    def __init__(self) -> None:
        self.store, self.metrics, self.clock = Store(), Metrics(), ManualClock(5_000.0)
        self.published: list[Lists] = []
        self.keeper = ListKeeper(
            self.store, self.metrics, self.clock, never_ban=DEFAULT_NEVER_BAN, publish=self.published.append
        )

    def use(self, *tables: dict[str, object]) -> None:
        settings = [ListSettings.model_validate({"name": "vip", "of": "ip", **table}) for table in tables]
        self.keeper.use(settings, SPELLING)

    def authors(self, client: str = "192.0.2.7") -> list[str]:
        """Where it is said that a client is on a list."""
        return [entry.author for entry in self.keeper.lists.around(32, int(ip_address(client)))]

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, labels)

    @property
    def failures(self) -> float:
        return self.sample("reputon_list_failures_total", list="vip") or 0.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        await self.keeper.start()
        task = asyncio.create_task(self.keeper.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def one(monkeypatch: pytest.MonkeyPatch) -> Fixture:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.002)
    return Fixture()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vip.txt"
    path.write_text("192.0.2.7  # a partner\n")
    return path


def replace(path: Path, text: str) -> None:
    """Put another file in a file's place, as operators are told to."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def some_rounds(one: Fixture, number: int = 5) -> None:
    """Time for whatever is going to happen."""
    until_round = one.keeper._rounds + number
    await until(lambda: one.keeper._rounds >= until_round)


# Sources


async def test_all_sources_are_in_force_when_it_has_started(one: Fixture, file: Path) -> None:
    one.store.sets["partners"] = frozenset({"192.0.2.8", "192.0.2.0/24"})
    one.use(
        {"values": ["192.0.2.7", "192.0.2.9 # ours"], "file": str(file)}, {"name": "other", "redis_set": "partners"}
    )
    await one.keeper.start()
    assert one.authors() == ["configuration", str(file), "redis set partners"]
    assert one.published == [one.keeper.lists]
    assert (one.keeper.lists.size, one.sample("reputon_list_entries", list="vip")) == (5, 3)
    assert one.sample("reputon_list_entries", list="other") == 2


async def test_a_file_says_when_it_was_written(one: Fixture, file: Path) -> None:
    os.utime(file, (1_000_000_000, 1_000_000_000))
    one.use({"file": str(file)}, {"values": ["192.0.2.8"]})
    await one.keeper.start()
    entries = [*one.keeper.lists.around(32, 0xC0000207), *one.keeper.lists.around(32, 0xC0000208)]
    assert [entry.created_at for entry in entries] == [1_000_000_000, 5_000]


@pytest.mark.parametrize("text", ["\ufeff192.0.2.7\r\n\r\n# none\r\n", "192.0.2.7", "\n\n  192.0.2.7 # ü\n"])
async def test_files_of_all_editors_are_read(one: Fixture, file: Path, text: str) -> None:
    file.write_bytes(text.encode())
    one.use({"file": str(file)})
    await one.keeper.start()
    assert (one.keeper.lists.size, len(one.authors())) == (1, 1)


# A file that changes


async def test_a_file_that_is_replaced_is_read_again(
    one: Fixture, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one.use({"file": str(file)})
    async with one.running():
        with caplog.at_level(logging.INFO, "reputon.engine"):
            replace(file, "192.0.2.8\n192.0.2.7\n192.0.2.9\n")
            await until(lambda: one.keeper.lists.size == 3)
            replace(file, "192.0.2.8\n")
            await until(lambda: one.keeper.lists.size == 1)
        assert (one.authors(), one.failures) == ([], 0)
    assert caplog.messages == [
        f"list vip: 3 values of {file} (2 new, 0 gone)",
        f"list vip: 1 values of {file} (0 new, 2 gone)",
    ]


async def test_a_file_that_is_being_written_is_left_alone(one: Fixture, file: Path) -> None:
    one.use({"file": str(file)})
    await one.keeper.start()
    with file.open("a") as writing:
        for number in range(10):
            writing.write(f"192.0.2.1{number}\n")
            writing.flush()
            await one.keeper._round()
            assert one.keeper.lists.size == 1
    await one.keeper._round()
    assert one.keeper.lists.size == 11


async def test_a_file_that_changes_while_it_is_read_is_read_again(
    one: Fixture, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.use({"file": str(file)})
    await one.keeper.start()
    torn: list[Attempt] = []

    def meddled(*arguments: object) -> Attempt:
        result = attempt(*arguments)  # type: ignore[arg-type]  # as they came
        torn.append(Attempt(reader=result.reader, file=result.file, torn=len(torn) < 2))
        return torn[-1]

    monkeypatch.setattr(module, "attempt", meddled)
    replace(file, "192.0.2.8\n192.0.2.9\n")
    for _ in range(3):
        await one.keeper._round()
        assert one.keeper.lists.size == 1
    await one.keeper._round()
    assert (one.keeper.lists.size, len(torn)) == (2, 3)


async def test_a_file_is_not_read_without_need(one: Fixture, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one.use({"file": str(file), "values": ["192.0.2.1"]})
    await one.keeper.start()
    monkeypatch.setattr(module, "attempt", lambda *_: pytest.fail("it was read"))
    for _ in range(10):
        await one.keeper._round()
    assert len(one.published) == 1


async def test_a_mistake_in_a_changed_file_leaves_the_list_as_it_was_and_is_told_once(
    one: Fixture, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one.use({"file": str(file)})
    async with one.running():
        caplog.clear()
        replace(file, "192.0.2.8\n192.0.2.300\n*.example.com\n")
        await until(lambda: one.failures == 1)
        await some_rounds(one)
        assert (one.authors(), one.failures) == ([str(file)], 1)
        assert [message[:90] for message in caplog.messages] == [
            f'a list stays as it was: [[list]] "vip" file: {file}:{line}: '[:90] for line in (2, 3)
        ]
        caplog.clear()
        replace(file, "192.0.2.8\n192.0.2.300\n")
        await until(lambda: one.failures == 2)
        assert caplog.messages == [], "that was said already"
        replace(file, "192.0.2.8\n")
        await until(lambda: one.authors("192.0.2.8") == [str(file)])


async def test_a_file_that_vanishes_leaves_the_list_as_it_was_until_it_is_back(
    one: Fixture, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one.use({"file": str(file)})
    async with one.running():
        caplog.clear()
        file.unlink()
        await until(lambda: one.failures == 1)
        await some_rounds(one)
        assert (one.authors(), one.failures) == ([str(file)], 1)
        (message,) = caplog.messages
        assert message.endswith(f'"vip" file: {file}: cannot be read: No such file or directory')
        file.write_text("192.0.2.9\n")
        await until(lambda: one.authors("192.0.2.9") == [str(file)])


# At the start


async def test_all_mistakes_at_the_start_are_named_at_once_and_not_more_than_twenty(
    one: Fixture, file: Path, tmp_path: Path
) -> None:
    file.write_text("192.0.2.7\n" + "nonsense\n" * 25)
    one.use({"file": str(file), "values": ["192.0.2.7", "192.0.2.*"]}, {"file": str(tmp_path / "none.txt")})
    with pytest.raises(ConfigError) as caught:
        await one.keeper.start()
    first, second, *_, last = lines = str(caught.value).splitlines()
    assert first.startswith('[[list]] "vip" values, item 2: "192.0.2.*"')
    assert second.startswith(f'[[list]] "vip" file: {file}:2: "nonsense" is no network')
    assert (len(lines), last) == (21, "and 7 more")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"192.0.2.7\n\xff\n", ":2: is not UTF-8 text"),
        ("192.0.2.7\n".encode("utf-16"), ":1: is not UTF-8 text"),
        (b"192.0.2.7\n" + b"x" * 2_000, ":2: a line has at most 1,000 bytes"),
    ],
)
async def test_a_file_of_another_kind_is_refused(one: Fixture, file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    one.use({"file": str(file)})
    with pytest.raises(ConfigError, match=message):
        await one.keeper.start()


async def test_a_directory_or_a_pipe_is_no_list(one: Fixture, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        one.use({"file": str(path)})
        async with asyncio.timeout(5):
            with pytest.raises(ConfigError, match="cannot be read: it is no file"):
                await one.keeper.start()


async def test_there_is_room_for_so_many_values_in_all(
    one: Fixture, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_VALUES", 3)
    one.use({"values": ["192.0.2.1", "192.0.2.2"], "file": str(file)})
    await one.keeper.start()
    other = Fixture()
    other.use({"values": ["192.0.2.1", "192.0.2.2", "192.0.2.3"], "file": str(file)})
    with pytest.raises(ConfigError, match=r"vip\.txt:1: here is one value too many"):
        await other.keeper.start()


async def test_a_file_has_at_most_so_many_lines(one: Fixture, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_files, "MAX_LINES", 10)
    file.write_text("\n" * 11)
    one.use({"file": str(file)})
    with pytest.raises(ConfigError, match=":11: a file has at most 10 lines"):
        await one.keeper.start()


# What is surprising


async def test_what_a_blocklist_does_not_block_is_told_once(
    one: Fixture, file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(list_lines, "MAX_NOTES", 2)
    file.write_text("127.0.0.1\n127.0.0.2\n127.0.0.3\n")
    one.use({"name": "block", "file": str(file)})
    async with one.running():
        assert [message.removeprefix(f'[[list]] "block" file: {file}') for message in caplog.messages] == [
            ':1: "ip:127.0.0.1" does not block "ip:127.0.0.0/8", which is never banned',
            ':2: "ip:127.0.0.2" does not block "ip:127.0.0.0/8", which is never banned',
            ": 1 more lines like these",
        ]
        caplog.clear()
        replace(file, "# moved down by this\n127.0.0.1\n127.0.0.2\n")
        await until(lambda: one.keeper.lists.size == 2)
    assert caplog.messages == []


# Sets


async def test_a_set_is_read_again_and_again_and_only_made_anew_when_it_has_changed(
    one: Fixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SET_EVERY", 2)
    one.store.sets["partners"] = frozenset({"192.0.2.7"})
    one.use({"redis_set": "partners"})
    async with one.running():
        await until(lambda: one.store.reads > 3)
        assert len(one.published) == 1
        one.store.sets["partners"] = frozenset({"192.0.2.8"})
        await until(lambda: one.authors("192.0.2.8") == ["redis set partners"])
        del one.store.sets["partners"]
        await until(lambda: one.keeper.lists.empty)


async def test_without_the_store_the_last_reading_stays_and_that_is_told_once(
    one: Fixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SET_EVERY", 1)
    one.store.sets["partners"] = frozenset({"192.0.2.7"})
    one.use({"redis_set": "partners"})
    async with one.running():
        one.store.trouble = StoreUnavailable("it is down")
        await until(lambda: one.failures > 3)
        assert one.authors() == ["redis set partners"]
        one.store.trouble = None
        await until(lambda: len(caplog.messages) == 2)
    assert caplog.messages == [
        'a list stays as it was: [[list]] "vip" redis_set: partners: it is down',
        '[[list]] "vip" redis_set: partners: is read again',
    ]
    assert one.sample("reputon_store_failures_total", call="members", error="StoreUnavailable") == one.failures


async def test_a_process_starts_without_the_store_and_reads_its_sets_when_it_is_there(one: Fixture) -> None:
    one.store.sets["partners"] = frozenset({"192.0.2.7"})
    one.store.trouble = StoreUnavailable("it is down")
    one.use({"redis_set": "partners"}, {"values": ["192.0.2.9"]})
    async with one.running():
        assert one.keeper.lists.size == 1
        one.store.trouble = None
        await until(lambda: one.authors() == ["redis set partners"])


async def test_a_member_that_cannot_be_read_is_passed_over_and_told_once(
    one: Fixture, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "SET_EVERY", 1)
    one.store.sets["partners"] = frozenset({"192.0.2.7", "nonsense", "\udcff@example.com"})
    one.use({"redis_set": "partners"})
    async with one.running():
        await until(lambda: one.store.reads > 3)
        assert (one.authors(), one.failures) == (["redis set partners"], 1)
    assert sorted(message[:75] for message in caplog.messages) == [
        'a member is passed over: [[list]] "vip" redis_set: partners: "nonsense" is ',
        'a member is passed over: [[list]] "vip" redis_set: partners: \'\\udcff@exampl',
    ]


async def test_a_set_with_too_many_leaves_the_list_as_it_was(one: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SET_EVERY", 1)
    monkeypatch.setattr(module, "MAX_VALUES", 2)
    one.store.sets["partners"] = frozenset({"192.0.2.7"})
    one.use({"redis_set": "partners"})
    async with one.running():
        one.store.sets["partners"] = frozenset({"192.0.2.1", "192.0.2.2", "192.0.2.3"})
        await until(lambda: one.failures == 1)
        assert (one.keeper.lists.size, one.authors()) == (1, ["redis set partners"])


# Other settings


async def test_other_lists_come_and_go_without_a_moment_in_between(one: Fixture, file: Path) -> None:
    one.use({"values": ["192.0.2.7"]}, {"name": "old", "values": ["192.0.2.8"]})
    async with one.running():
        one.use({"values": ["192.0.2.7", "192.0.2.9"]}, {"name": "new", "file": str(file)})
        await until(lambda: len(one.published) == 2)
        assert one.authors() == ["configuration", str(file)]
        assert one.sample("reputon_list_entries", list="old") is None
        assert one.sample("reputon_list_entries", list="new") == 1
        one.use()
        await until(lambda: one.keeper.lists.empty)
    assert [lists.size for lists in one.published] == [2, 3, 0]


async def test_a_new_list_whose_file_is_bad_is_empty_and_told(one: Fixture, file: Path) -> None:
    """Whoever reloads has checked it; but then it changes."""
    file.write_text("nonsense\n")
    async with one.running():
        one.use({"file": str(file)})
        await until(lambda: one.failures == 1)
        assert one.keeper.lists.empty
        replace(file, "192.0.2.7\n")
        await until(lambda: one.authors() == [str(file)])


async def test_an_error_that_nobody_thought_of_does_not_end_the_watch(
    one: Fixture, file: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.use({"file": str(file)})
    async with one.running():
        with monkeypatch.context() as patched:
            patched.setattr(module, "fingerprints_of", lambda _: {})
            await until(lambda: (one.sample("reputon_store_failures_total", call="lists", error="KeyError") or 0) > 1)
            assert one.authors() == [str(file)]
        replace(file, "192.0.2.9\n")
        await until(lambda: one.authors("192.0.2.9") == [str(file)])
    assert all(record.exc_info for record in caplog.records)


async def test_whoever_is_stopped_while_he_reads_ends_soon(
    one: Fixture, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("".join(f"10.{n >> 8 & 255}.{n & 255}.0/24\n" for n in range(50_000)))
    begun, ended = list[object](), list[type[BaseException]]()

    def noted(*arguments: object) -> Attempt:
        begun.append(arguments)
        try:
            return attempt(*arguments)  # type: ignore[arg-type]  # as they came
        except BaseException as error:
            ended.append(type(error))
            raise

    monkeypatch.setattr(module, "attempt", noted)
    monkeypatch.setattr(list_files, "PAUSE_SECONDS", 0.05)  # so that it takes half a minute
    one.use({"file": str(file)})
    starting = asyncio.create_task(one.keeper.start())
    await until(lambda: bool(begun))
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    await until(lambda: ended == [list_files.StoppedError])


async def test_entities_are_found_too(one: Fixture) -> None:
    one.use({"of": "recipient+sender", "values": ["bob@example.net alice@example.com  # moved away"]})
    await one.keeper.start()
    (entry,) = one.keeper.lists.about(Entity("recipient+sender", "bob@example.net,alice@example.com"))
    assert entry.reason == "moved away"
    assert one.keeper.lists.combinations == {"recipient+sender"}
