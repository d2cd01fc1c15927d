"""What holds for every verifier: the deadline, the default domain, threads, and one line in the log."""

import asyncio
import logging
import threading

import pytest

from smtp_frontend.auth import threads
from smtp_frontend.auth.bounded import Bounded
from smtp_frontend.auth.contract import DENIED, Accepted, Verified, Verifier, VerifierUnavailable
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.threads import Threads

ALICE = Credentials(login="alice", password="open sesame")


class Asked:
    """A verifier that accepts everybody, until it has `trouble`; one that is `slow` never answers."""

    def __init__(self, *, slow: bool = False) -> None:
        self.slow = slow
        self.trouble = ""
        self.asked: list[tuple[str, str]] = []
        self.is_closed = False

    async def verify(self, credentials: Credentials, client: str = "") -> Verified:
        self.asked.append((credentials.login, client))
        if self.slow:
            await asyncio.Event().wait()
        if self.trouble:
            raise VerifierUnavailable(self.trouble)
        return Accepted(user=credentials.user)

    async def close(self) -> None:
        self.is_closed = True


def bounded(verifier: Verifier, *, domain: str = "", seconds: float = 10.0) -> Bounded:
    return Bounded(verifier, name="ldap://x", default_domain=domain, deadline_seconds=seconds)


async def test_the_default_domain_and_the_client_go_along() -> None:
    asked = Asked()
    assert await bounded(asked, domain="example.net").verify(ALICE, "192.0.2.7") == Accepted(user="alice@example.net")
    assert asked.asked == [("alice@example.net", "192.0.2.7")]


async def test_a_login_that_the_domain_makes_too_long_is_denied() -> None:
    asked = Asked()
    long = Credentials(login="a" * 315, password="x")
    assert await bounded(asked, domain="example.net").verify(long) is DENIED
    assert asked.asked == []


async def test_who_does_not_answer_in_time_is_unavailable() -> None:
    with pytest.raises(VerifierUnavailable, match=r"no answer within 0.02 s"):
        await bounded(Asked(slow=True), seconds=0.02).verify(ALICE)


async def test_trouble_is_logged_when_it_begins_and_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    verifier = bounded(asked)
    with caplog.at_level(logging.INFO, "reputon.auth"):
        asked.trouble = "refuses us"
        for _ in range(3):
            with pytest.raises(VerifierUnavailable):
                await verifier.verify(ALICE)
        asked.trouble = ""
        for _ in range(3):
            await verifier.verify(ALICE)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "refuses us" in caplog.text and "again" in caplog.text
    assert "alice" not in caplog.text and "sesame" not in caplog.text


async def test_it_is_closed_with_its_bounds() -> None:
    asked = Asked()
    await bounded(asked).close()
    assert asked.is_closed


async def test_too_many_who_wait_for_a_thread_are_told_so_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 1)
    go_on = threading.Event()
    pool = Threads(1)
    tasks = [asyncio.create_task(pool.run(lambda: go_on.wait(10))) for _ in range(2)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(VerifierUnavailable, match="too many"):
            await pool.run(lambda: True)
    finally:
        go_on.set()
    assert await asyncio.gather(*tasks) == [True, True]
    assert await pool.run(lambda: True), "there is room again"
    pool.close()


async def test_who_is_cancelled_before_his_turn_costs_nothing() -> None:
    go_on, ran = threading.Event(), threading.Event()
    pool = Threads(1)
    first = asyncio.create_task(pool.run(lambda: go_on.wait(10)))
    second = asyncio.create_task(pool.run(ran.set))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    go_on.set()
    assert await first
    assert await pool.run(lambda: True)
    assert not ran.is_set()
    pool.close()
