"""What tests of look-ups share: a DNS server, a clock that stands still, a resolver between them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from reputation.clock import ManualClock
from reputation.lookups.resolver import Resolver
from reputation.metrics import Metrics
from tests.dns_server import DnsServer, dns_server

IMPATIENT = (0.05, 0.05)
"""Waits of a resolver that meets silence."""
PATIENT = (5.0,)
"""Waits of one that must not give up on a busy machine."""


@pytest_asyncio.fixture
async def server() -> AsyncIterator[DnsServer]:
    """A server without any name; tests `load` their zone."""
    async with dns_server() as server:
        yield server


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_000.0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


@pytest_asyncio.fixture
async def resolver(server: DnsServer, clock: ManualClock, metrics: Metrics) -> AsyncIterator[Resolver]:
    """A resolver that asks the server and waits for it."""
    resolver = Resolver([server.address], most_cached=1_000, clock=clock, metrics=metrics, waits=PATIENT)
    yield resolver
    await resolver.close()


@pytest_asyncio.fixture
async def hasty(server: DnsServer, clock: ManualClock, metrics: Metrics) -> AsyncIterator[Resolver]:
    """A resolver that soon gives up."""
    resolver = Resolver([server.address], most_cached=1_000, clock=clock, metrics=metrics, waits=IMPATIENT)
    yield resolver
    await resolver.close()
