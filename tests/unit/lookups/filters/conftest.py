"""What tests of content filters share: messages, settings, and servers that say what a test wants, or nothing."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import pytest

from reputation.events import Content, Data, Session
from reputation.front_end_settings import FilterSettings
from reputation.lookups.filters import health
from reputation.metrics import Metrics

HAM = b"Subject: hello\r\n\r\nhello\r\n"
GTUBE = b"Subject: buy\r\n\r\nXJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X\r\n"
"""What all spam filters take for spam."""


def message(
    content: Content = HAM,
    *,
    client: str = "192.0.2.7",
    helo: str = "mail.example.org",
    user: str = "",
    sender: str = "a@b.example",
    recipients: tuple[str, ...] = ("bob@example.net",),
    id: str = "S1",
    tls: bool = False,
) -> Data:
    """A message as the front end tells of it."""
    session = Session(id=id, client=ip_address(client), helo=helo, user=user, tls=tls)
    return Data(session=session, sender=sender, recipients=recipients, message_bytes=len(content), content=content)


def filter_at(url: str, **others: object) -> FilterSettings:
    """The settings of a filter with a deadline that no busy machine misses."""
    return FilterSettings.model_validate({"url": url, "deadline_seconds": 20.0, **others})


def count(metrics: Metrics, name: str, verdict: str) -> float:
    """How many messages a filter has had this verdict about."""
    return metrics.registry.get_sample_value("reputon_filter_answers_total", {"filter": name, "verdict": verdict}) or 0


async def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    try:
        async with asyncio.timeout(seconds):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"{what}: not within {seconds:g} s") from None


Answering = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(answering: Answering, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback that does with each connection what `answering` does; its port."""
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        served.add(task)
        try:
            await answering(reader, writer)
        except (ConnectionError, asyncio.CancelledError):  # hung up, or the end of the test
            pass
        finally:
            writer.transport.abort()

    running = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    try:
        yield running.sockets[0].getsockname()[1]
    finally:
        running.close()
        for task in served:
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Take what comes, and say nothing."""
    while await reader.read(65_536):
        pass


def saying(octets: bytes) -> Answering:
    """Say this after the first octets of the question and no more; what comes then is taken, and means nothing."""

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(octets)
        writer.write_eof()
        await silence(reader, writer)

    return say


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a filter is there is asked with little patience, and often."""
    monkeypatch.setattr(health, "PING_SECONDS", 0.5)
    monkeypatch.setattr(health, "LOOK_SECONDS", 0.05)
