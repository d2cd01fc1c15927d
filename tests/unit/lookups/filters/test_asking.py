"""Filters that hang, lie, break off or are not there, as servers on loopback play them; real ones are in tests/mta."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reputation.clock import ManualClock, SystemClock
from reputation.facts import NOT_FILTERED, TEMPERROR, Filtered
from reputation.front_end_settings import FilterSettings
from reputation.lookups.filters import asking as module
from reputation.lookups.filters.asking import Filters
from reputation.metrics import Metrics
from tests.servers import free_port
from tests.unit.lookups.filters.conftest import HAM, count, filter_at, message, saying, server, silence, until

SCHEMES = ("rspamd", "spamd", "clamd")
FAILED = Filtered(verdict=TEMPERROR)
ANSWERS = {
    "rspamd": b'HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"action": "reject"}',
    "spamd": b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: True ; 6.5 / 5.0\r\n\r\n",
    "clamd": b"stream: Worm FOUND\0",
}
LARGE = HAM + b"x" * 3_000_000


@asynccontextmanager
async def asking(*of: FilterSettings, metrics: Metrics | None = None) -> AsyncIterator[Filters]:
    """Filters for as long as the block runs."""
    filters = Filters(of, metrics or Metrics(), SystemClock())
    try:
        yield filters
    finally:
        await filters.close()


@pytest.fixture(params=SCHEMES)
def scheme(request: pytest.FixtureRequest) -> str:
    """One kind of filter."""
    return str(request.param)


async def test_nobody_is_asked_where_there_is_no_filter_and_about_no_message() -> None:
    async with asking() as filters:
        assert await filters.ask(message()) == NOT_FILTERED
    async with asking(filter_at(f"rspamd://127.0.0.1:{free_port()}")) as filters:
        assert await filters.ask(message(b"")) == NOT_FILTERED


async def test_filters_may_be_made_before_the_event_loop() -> None:
    filters = await asyncio.to_thread(
        lambda: Filters([filter_at(f"rspamd://127.0.0.1:{free_port()}")], Metrics(), ManualClock())
    )
    assert await filters.ask(message()) == FAILED
    await filters.close()


@pytest.mark.parametrize("content", [HAM, LARGE], ids=["small", "large"])
async def test_one_that_says_nothing_costs_its_deadline(scheme: str, content: bytes) -> None:
    loop = asyncio.get_running_loop()
    async with (
        server(silence) as port,
        asking(filter_at(f"{scheme}://127.0.0.1:{port}", deadline_seconds=0.2)) as filters,
    ):
        began = loop.time()
        assert await filters.ask(message(content)) == FAILED
        assert 0.19 < loop.time() - began < 5.0


@pytest.mark.parametrize("content", [HAM, LARGE], ids=["small", "large"])
async def test_one_that_answers_before_it_has_heard_all_is_heard(scheme: str, content: bytes) -> None:
    async with server(saying(ANSWERS[scheme])) as port, asking(filter_at(f"{scheme}://127.0.0.1:{port}")) as filters:
        said = await filters.ask(message(content))
    assert said.verdict in ({"malware"} if scheme == "clamd" else {"spam"})


async def test_one_that_does_not_read_and_does_not_answer_costs_its_deadline(scheme: str) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket's transport, which this is
        await asyncio.Event().wait()

    async with (
        server(deaf) as port,
        asking(filter_at(f"{scheme}://127.0.0.1:{port}", deadline_seconds=0.3)) as filters,
    ):
        assert await filters.ask(message(HAM + b"x" * 20_000_000)) == FAILED


async def test_what_was_not_sent_to_one_that_does_not_read_does_not_stay_open(scheme: str) -> None:
    """asyncio closes a socket when all has been sent, which here is never."""
    go_on = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a socket's transport, which this is
        await go_on.wait()

    async with (
        server(deaf) as port,
        asking(filter_at(f"{scheme}://127.0.0.1:{port}", deadline_seconds=0.3)) as filters,
    ):
        large = message(HAM + b"x" * 20_000_000)
        assert await asyncio.gather(*(filters.ask(large) for _ in range(5))) == [FAILED] * 5
        await until(lambda: not sending_to(port), "their sockets are closed")
        go_on.set()


def sending_to(port: int) -> list[str]:
    """The sockets of loopback that have something to send to a port; all processes' are listed."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return [line for line in lines if line.split()[2].endswith(f":{port:04X}") and line.split()[4][:8] != "00000000"]


@pytest.mark.parametrize("on_failure", ["accept", "tempfail"])
async def test_where_nobody_listens_there_is_no_answer(scheme: str, on_failure: str) -> None:
    metrics, url = Metrics(), f"{scheme}://127.0.0.1:{free_port()}"
    async with asking(filter_at(url, on_failure=on_failure), metrics=metrics) as filters:
        said = await filters.ask(message())
    assert said == Filtered(verdict=TEMPERROR, failed_closed=on_failure == "tempfail")
    assert count(metrics, url, TEMPERROR) == 1


async def test_a_socket_that_is_not_there_is_no_answer() -> None:
    async with asking(filter_at("clamd:///nowhere/clamd.sock")) as filters:
        assert await filters.ask(message()) == FAILED


async def test_an_answer_without_end_is_none(scheme: str) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(ANSWERS[scheme][:10] if scheme != "rspamd" else b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"{" * 65_536)
            await writer.drain()

    async with server(babble) as port, asking(filter_at(f"{scheme}://127.0.0.1:{port}")) as filters:
        assert await filters.ask(message()) == FAILED


@pytest.mark.parametrize("status", [b"403 Forbidden", b"500 Oops", b"302 Found\r\nLocation: http://127.0.0.1:1/"])
async def test_a_refusal_of_rspamd_is_no_answer_and_nothing_is_followed(
    status: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answer = b"HTTP/1.1 " + status + b"\r\nContent-Length: 20\r\n\r\n" + ANSWERS["rspamd"][-20:]
    async with server(saying(answer)) as port, asking(filter_at(f"rspamd://127.0.0.1:{port}")) as filters:
        assert await filters.ask(message()) == FAILED
    assert f"HTTP {status[:3].decode()}" in caplog.text


async def test_no_answer_whatsoever_raises(scheme: str) -> None:
    heads = st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\n\r\n", *ANSWERS.values()])
    spoken = [b""]
    examples: list[bytes] = []

    @settings(max_examples=60, suppress_health_check=list(HealthCheck), database=None)
    @given(head=heads, tail=st.binary(max_size=100))
    def collect(head: bytes, tail: bytes) -> None:
        examples.append(head + tail)

    collect()

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await saying(spoken[0])(reader, writer)

    async with server(speak) as port:
        for octets in examples:
            spoken[0] = octets
            async with asking(filter_at(f"{scheme}://127.0.0.1:{port}")) as filters:
                assert (await filters.ask(message())).verdict in {TEMPERROR, "", "spam", "malware", "unsure"}


async def test_filters_are_asked_at_the_same_time_and_one_that_hangs_does_not_hide_the_others() -> None:
    async with server(silence) as silent, server(saying(ANSWERS["clamd"])) as clamd:
        hanging = filter_at(f"rspamd://127.0.0.1:{silent}", deadline_seconds=0.3, on_failure="tempfail")
        async with asking(hanging, filter_at(f"clamd://127.0.0.1:{clamd}", learn=False)) as filters:
            assert await filters.ask(message()) == Filtered(verdict="malware", malware="Worm", failed_closed=True)


async def test_one_that_hangs_collects_no_more_messages_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNDER_WAY", 5)
    asked = asyncio.Semaphore(0)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.release()
        await silence(reader, writer)

    async with server(hang) as port, asking(filter_at(f"clamd://127.0.0.1:{port}")) as filters:
        waiting = [asyncio.create_task(filters.ask(message())) for _ in range(5)]
        async with asyncio.timeout(20):
            for _ in range(5):
                await asked.acquire()
            assert await filters.ask(message()) == FAILED
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        under_way = asyncio.create_task(filters.ask(message()))  # a place that was given up is free again
        async with asyncio.timeout(20):
            await asked.acquire()
        under_way.cancel()
        await asyncio.wait([under_way])


async def test_one_that_is_slow_about_messages_and_answers_a_ping_is_not_away(
    hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A stranger could send what takes long, and then what is not filtered."""
    pings = asyncio.Semaphore(0)

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.read(65_536)).startswith(b"zPING"):
            writer.write(b"PONG\0")
            await writer.drain()
            pings.release()
        else:
            await silence(reader, writer)

    metrics = Metrics()
    async with server(slow) as port:
        url = f"clamd://127.0.0.1:{port}"
        async with asking(filter_at(url, deadline_seconds=0.1), metrics=metrics) as filters:
            for _ in range(3):
                assert await filters.ask(message()) == FAILED
                async with asyncio.timeout(20):
                    await pings.acquire()
            assert metrics.registry.get_sample_value("reputon_filter_up", {"filter": url}) == 1
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert told == [f"the content filter {url} has no answer about a message: nothing came within 0.1 s"]


async def test_one_that_is_busy_and_answers_messages_is_not_away(hasty: None) -> None:
    """All processes of a spamd may be at work while a ping waits in line."""
    asked = asyncio.Semaphore(0)
    go_on = asyncio.Event()
    first = [True]

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = await reader.read(65_536)
        if question.startswith(b"zPING"):
            asked.release()
            await silence(reader, writer)
        elif first:
            first.clear()
        else:
            await go_on.wait()
            writer.write(ANSWERS["clamd"])
            await writer.drain()

    metrics = Metrics()
    async with server(busy) as port:
        url = f"clamd://127.0.0.1:{port}"
        up = {"filter": url}
        async with asking(filter_at(url), metrics=metrics) as filters:
            assert await filters.ask(message()) == FAILED
            async with asyncio.timeout(20):
                await asked.acquire()
                other = asyncio.create_task(filters.ask(message()))
                go_on.set()
                assert (await other).verdict == "malware"
            health = filters._filters[0]._health
            await until(lambda: health._watch is not None and health._watch.done(), "it has been looked after")
            assert metrics.registry.get_sample_value("reputon_filter_up", up) == 1


async def test_it_is_told_once_that_one_is_away_and_once_that_it_is_back(
    hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, port = Metrics(), free_port()
    url = f"clamd://127.0.0.1:{port}"
    up = {"filter": url}

    async def well(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"PONG\0" if (await reader.read(65_536)).startswith(b"zPING") else ANSWERS["clamd"])
        await writer.drain()
        writer.close()

    async with asking(filter_at(url), metrics=metrics) as filters:
        assert await filters.ask(message()) == FAILED
        await until(lambda: metrics.registry.get_sample_value("reputon_filter_up", up) == 0, "it is away")
        assert [await filters.ask(message()) for _ in range(10)] == [FAILED] * 10
        running = await asyncio.start_server(well, "127.0.0.1", port)
        await until(lambda: metrics.registry.get_sample_value("reputon_filter_up", up) == 1, "it is back")
        assert (await filters.ask(message())).verdict == "malware"
        running.close()
    lines = [record.getMessage() for record in caplog.records if record.name == "reputon.lookups"]
    assert lines[1:] == [
        f"the content filter {url} is away, messages are judged without it",
        f"the content filter {url} answers again",
    ]
    assert lines[0].startswith(f"the content filter {url} has no answer about a message: ")
    assert count(metrics, url, TEMPERROR) == 11


async def test_close_ends_what_looks_after_one_that_is_away(hasty: None) -> None:
    async with asking(filter_at(f"clamd://127.0.0.1:{free_port()}")) as filters:
        await filters.ask(message())
        watch = filters._filters[0]._health._watch
        assert watch is not None
    assert watch.done()
