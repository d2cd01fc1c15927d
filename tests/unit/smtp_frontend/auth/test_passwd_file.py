"""passwd:FILE: who gets in, what it costs, and what becomes of a file that changes."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from reputation.clock import ManualClock
from reputation.errors import ConfigError
from reputation.passwords import UncheckableError, cost_of, matches
from smtp_frontend.auth import passwd_file
from smtp_frontend.auth.contract import DENIED, Accepted, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.passwd_file import REMEMBERED_SECONDS, PasswdVerifier, Remembered

SESAME = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$kyj4KAQPkDHofxQqmZFrtcrDql5eltyrs3W6/tB5JPs"
OTHER = "$argon2id$v=19$m=64,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$BvYTkGmZf5MeMxdpG4ejdNh5dYfFhvxujCGPWIhqBo8"
"""Of "open sesame" and "other", and cheap to check."""
ALICE = Accepted(user="alice@example.net")


class Checks:
    """Checks as ever, and notes what was checked."""

    def __init__(self) -> None:
        self.costs: list[str] = []

    def __call__(self, stored: str, password: str) -> bool:
        self.costs.append(cost_of(stored))
        return matches(stored, password)


def given(login: str, password: str = "open sesame") -> Credentials:
    return Credentials(login=login, password=password)


def replaced(file: Path, text: str) -> None:
    """Another content, as `reputon passwd` writes it: another file."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "logins"
    path.write_text(f"# users\nalice@example.net:{SESAME}\nbob:{OTHER}\n")
    return path


async def test_who_knows_his_password_gets_in(file: Path) -> None:
    verifier = PasswdVerifier(file)
    assert await verifier.verify(given("alice@example.net")) == ALICE
    assert await verifier.verify(given("ALICE@Example.NET")) == ALICE, "the user has one spelling"
    assert await verifier.verify(given("alice@example.net", "Open sesame")) is DENIED
    assert await verifier.verify(given("bob")) is DENIED
    assert await verifier.verify(given("carol")) is DENIED
    await verifier.close()


async def test_an_unknown_login_costs_the_same_hash_as_a_known_one(file: Path) -> None:
    checks = Checks()
    verifier = PasswdVerifier(file, check=checks)
    await verifier.verify(given("alice@example.net", "wrong"))
    await verifier.verify(given("carol", "wrong"))
    assert checks.costs == ["$argon2id$v=19$m=64,t=1,p=1"] * 2
    await verifier.close()


async def test_a_right_password_is_remembered_for_a_while(file: Path) -> None:
    checks, clock = Checks(), ManualClock(1_000.0)
    verifier = PasswdVerifier(file, check=checks, clock=clock)
    for _ in range(3):
        assert await verifier.verify(given("alice@example.net")) == ALICE
    assert len(checks.costs) == 1
    assert await verifier.verify(given("alice@example.net", "wrong")) is DENIED
    assert await verifier.verify(given("alice@example.net", "wrong")) is DENIED
    assert len(checks.costs) == 3, "a wrong one is not"
    clock.advance(REMEMBERED_SECONDS)
    assert await verifier.verify(given("alice@example.net")) == ALICE
    assert len(checks.costs) == 4
    await verifier.close()


async def test_a_changed_password_is_in_force_at_once(file: Path) -> None:
    verifier = PasswdVerifier(file)
    assert await verifier.verify(given("alice@example.net")) == ALICE
    replaced(file, f"alice@example.net:{OTHER}\n")
    assert await verifier.verify(given("alice@example.net")) is DENIED, "what was remembered is worth nothing"
    assert await verifier.verify(given("alice@example.net", "other")) == ALICE
    replaced(file, f"bob:{OTHER}\n")
    assert await verifier.verify(given("alice@example.net", "other")) is DENIED
    await verifier.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda file: replaced(file, "alice@example.net:secret\n"), ":1: this is no argon2", id="mistake"),
        pytest.param(Path.unlink, "cannot be read: No such file", id="gone"),
        pytest.param(lambda file: file.write_bytes(b"\xff"), "no UTF-8", id="no-text"),
    ],
)
async def test_the_last_good_file_stays_in_force_and_the_log_says_so_once(
    file: Path, spoil: Callable[[Path], object], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    verifier = PasswdVerifier(file)
    spoil(file)
    with caplog.at_level(logging.INFO, "reputon.auth"):
        for _ in range(3):
            assert await verifier.verify(given("alice@example.net")) == ALICE
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert said in caplog.text
        assert "secret" not in caplog.text
        replaced(file, f"bob:{OTHER}\n")
        assert await verifier.verify(given("alice@example.net")) is DENIED
        assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]
    await verifier.close()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(Path.unlink, "cannot be read: No such file", id="missing"),
        pytest.param(lambda file: file.write_text("alice"), "logins:1: write LOGIN:HASH", id="mistake"),
        pytest.param(lambda file: os.truncate(file, passwd_file.MAX_FILE_BYTES + 1), "larger than", id="huge"),
    ],
)
def test_a_file_that_cannot_be_right_is_a_mistake_of_the_configuration(
    file: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(file)
    with pytest.raises(ConfigError, match=said):
        PasswdVerifier(file)


async def test_a_hash_that_cannot_be_computed_is_our_trouble(file: Path) -> None:
    def check(stored: str, password: str) -> bool:
        raise UncheckableError("no memory")

    verifier = PasswdVerifier(file, check=check)
    with pytest.raises(VerifierUnavailable, match="no memory"):
        await verifier.verify(given("alice@example.net"))
    await verifier.close()


async def test_only_so_many_hashes_are_computed_at_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwd_file, "MAX_THREADS", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    started, go_on = threading.Semaphore(0), threading.Event()

    def check(stored: str, password: str) -> bool:
        started.release()
        return go_on.wait(10)

    verifier = PasswdVerifier(file, check=check)
    tasks = [asyncio.create_task(verifier.verify(given("alice@example.net", f"x{n}"))) for n in range(5)]
    try:
        assert await asyncio.to_thread(started.acquire, timeout=10)
        assert await asyncio.to_thread(started.acquire, timeout=10)
        assert not await asyncio.to_thread(started.acquire, timeout=0.1), "a third one has begun"
    finally:
        go_on.set()
    assert await asyncio.gather(*tasks) == [ALICE] * 5
    await verifier.close()


def test_what_is_remembered_holds_no_password() -> None:
    remembered = Remembered(ManualClock(0.0))
    remembered.add("alice", "open sesame", SESAME)
    assert remembered.has("alice", "open sesame", SESAME)
    for other in (("alice", "open sesame", OTHER), ("alice", "other", SESAME), ("bob", "open sesame", SESAME)):
        assert not remembered.has(*other)
    assert not any(b"sesame" in digest for digest in remembered._until)
    again = Remembered(ManualClock(0.0))
    again.add("alice", "open sesame", SESAME)
    assert set(remembered._until).isdisjoint(again._until), "each process has a key of its own"


def test_no_more_than_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwd_file, "MAX_REMEMBERED", 2)
    remembered = Remembered(ManualClock(0.0))
    for user in ("alice", "bob", "carol"):
        remembered.add(user, "x", SESAME)
    assert [remembered.has(user, "x", SESAME) for user in ("alice", "bob", "carol")] == [False, True, True]
