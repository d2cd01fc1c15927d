"""Real messages to ClamAV's clamd, with a signature of our own."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from reputation.clock import SystemClock
from reputation.facts import Filtered
from reputation.lookups.filters.asking import Filters
from reputation.metrics import Metrics
from tests.mta.clamd_for_tests import MAX_OCTETS, VIRUS, Clamd, clamd
from tests.unit.lookups.filters.conftest import HAM, count, filter_at, hasty, message, until

__all__ = ["hasty"]


@pytest.fixture(scope="module")
def server() -> Iterator[Clamd]:
    """A clamd for all tests of this module."""
    with clamd() as running:
        yield running


@pytest.fixture(params=["tcp", "socket"])
def url(server: Clamd, request: pytest.FixtureRequest) -> str:
    """Its address."""
    return f"clamd://{server.socket}" if request.param == "socket" else f"clamd://127.0.0.1:{server.port}"


@asynccontextmanager
async def asking(url: str, metrics: Metrics, **settings: object) -> AsyncIterator[Filters]:
    """Filters that ask it."""
    filters = Filters([filter_at(url, **settings)], metrics, SystemClock())
    try:
        yield filters
    finally:
        await filters.close()


async def test_what_it_finds_is_malware_and_evidence(url: str) -> None:
    async with asking(url, Metrics()) as filters:
        said = await filters.ask(message(HAM + b"x" * 300_000 + VIRUS))
    assert said == Filtered(verdict="malware", malware="Test.Signature.UNOFFICIAL", learns=True)


async def test_that_it_finds_nothing_says_nothing(url: str) -> None:
    metrics = Metrics()
    async with asking(url, metrics) as filters:
        assert await filters.ask(message(HAM)) == Filtered()
    assert count(metrics, url, "nothing") == 1


async def test_a_longer_message_than_clamd_takes_has_no_answer_and_the_log_says_why(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(url, Metrics(), on_failure="tempfail") as filters:
        said = await filters.ask(message(HAM + b"x" * 5 * MAX_OCTETS))
        assert said == Filtered(verdict="temperror", failed_closed=True)
        assert (await filters.ask(message(HAM + VIRUS))).verdict == "malware"
    assert "longer than clamd's StreamMaxLength" in caplog.text
    assert "is away" not in caplog.text


async def test_a_frozen_one_is_away_until_it_goes_on(server: Clamd, hasty: None) -> None:
    metrics = Metrics()
    url = f"clamd://127.0.0.1:{server.port}"
    up = {"filter": url}
    async with asking(url, metrics, deadline_seconds=0.3) as filters:
        server.pause()
        try:
            assert (await filters.ask(message(VIRUS))).verdict == "temperror"
            await until(lambda: metrics.registry.get_sample_value("reputon_filter_up", up) == 0, "it is away")
        finally:
            server.resume()
        await until(lambda: metrics.registry.get_sample_value("reputon_filter_up", up) == 1, "it is back")
    async with asking(url, metrics) as filters:
        said = await asyncio.gather(*(filters.ask(message(VIRUS)) for _ in range(30)))
    assert {one.verdict for one in said} == {"malware"}
