"""The live stream of verdicts: told within seconds, filtered, gone on with, bounded, ended in good order."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple
from weakref import WeakSet

import aiohttp
import pytest
from starlette.types import Message

from api.console.pages.live import row_of
from api.rest import events
from api.rest import stream as rest_stream
from api.rest.events import Event, EventStream
from reputation.desk.documents import VerdictLine
from tests.api.conftest import PATIENCE_SECONDS, Api
from tests.builders import mail, rcpt

RULES = """
[[rule]]
name = "shy"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["1/1h"]
action = "tempfail"
mode = "shadow"

[[rule]]
name = "strict"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["2/1h"]
action = "reject"
"""
MAX_STREAMS = events.MAX_OF_TOKEN + 2


@pytest.fixture(scope="module")
def more_config() -> str:
    return RULES


@pytest.fixture(scope="module")
def api_table() -> str:
    return f"max_streams = {MAX_STREAMS}"


class Told(NamedTuple):
    """One event of a stream."""

    name: str
    id: str
    data: Any


class Stream:
    """A stream that somebody listens to."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self, seconds: float = PATIENCE_SECONDS) -> Told | None:
        """The next event; None at the end of the stream."""
        fields = dict[str, str]()
        async with asyncio.timeout(seconds):
            while line := (await self.answer.content.readline()).decode():
                name, _, value = line.rstrip("\n").partition(": ")
                if name in ("id", "event", "data"):
                    fields[name] = value
                elif not name and fields:
                    return Told(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
        return None

    async def verdict(self, seconds: float = PATIENCE_SECONDS) -> Any:
        """The next event, which is a verdict."""
        told = await self.next(seconds)
        assert told is not None
        assert (told.name, told.id) == ("verdict", told.data["id"])
        return told.data


@asynccontextmanager
async def listening(
    asked: aiohttp.ClientSession, query: str = "", last_event_id: str | None = None
) -> AsyncIterator[Stream]:
    """A stream that has begun."""
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    timeout = aiohttp.ClientTimeout(total=None)
    async with asked.get(f"/v1/stream{query}", headers=headers, timeout=timeout) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"
        assert (await answer.content.readline()).startswith(b"retry: ")
        yield Stream(answer)


async def refused(api: Api, sender: str, times: int = 3) -> None:
    """So many messages of a sender: the second would have been refused by one rule, the third is by another."""
    for _ in range(times):
        await api.engine.judge(mail(sender))


async def test_a_verdict_of_another_process_is_told_within_two_seconds(
    api: Api, reading: aiohttp.ClientSession
) -> None:
    async with listening(reading, "?entity=sender:told@example.com") as stream:
        await refused(api, "told@example.com")
        began = time.monotonic()
        would, rejected = await stream.verdict(), await stream.verdict()
        assert time.monotonic() - began < 2.0
    assert (would["action"], would["would"]) == ("accept", ["shy"])
    assert (rejected["action"], rejected["rule"], rejected["sender"]) == ("reject", "strict", "told@example.com")
    assert "sender:told@example.com" in rejected["entities"]


@pytest.mark.parametrize(
    ("query", "actions"),
    [
        ("action=reject", ["reject"]),
        ("action=reject&action=accept", ["accept", "reject"]),
        ("stage=mail&stage=data", ["accept", "reject"]),
        ("rule=shy&action=accept", ["accept"]),
        ("rule=strict", ["reject"]),
        ("entity=sender:Filters@EXAMPLE.com&action=reject", ["reject"]),
    ],
)
async def test_only_what_fits_all_filters_is_told(
    api: Api, reading: aiohttp.ClientSession, query: str, actions: list[str]
) -> None:
    sender = f"filters@{abs(hash(query))}.example.com" if "entity" not in query else "filters@example.com"
    async with listening(reading, f"?{query}") as stream:
        await api.engine.judge(rcpt("bob@example.net", sender=sender))
        await refused(api, sender)
        found = [await stream.verdict() for _ in actions]
        assert [each["action"] for each in found] == actions
        assert {each["sender"] for each in found} == {sender}
        with pytest.raises(TimeoutError):
            await stream.next(0.6)


async def test_who_comes_again_goes_on_where_he_was(api: Api, reading: aiohttp.ClientSession) -> None:
    query = "?entity=sender:again@example.com&action=reject"
    async with listening(reading, query) as stream:
        await refused(api, "again@example.com", 3)
        first = await stream.verdict()
    await refused(api, "again@example.com", 2)
    async with listening(reading, query, first["id"]) as stream:
        missed = [await stream.verdict(), await stream.verdict()]
    assert first["at"] <= missed[0]["at"] <= missed[1]["at"]
    async with listening(reading, query, missed[0]["id"]) as stream:
        assert await stream.verdict() == missed[1]


@pytest.mark.parametrize(
    ("query", "last"),
    [
        ("", "nothing"),
        ("", "-"),
        ("", "1-2-3"),
        ("?action=nothing", None),
        ("?stage=x", None),
        ("?entity=x", None),
        ("?x=y", None),
    ],
)
async def test_what_names_nothing_is_a_mistake(reading: aiohttp.ClientSession, query: str, last: str | None) -> None:
    headers = {} if last is None else {"last-event-id": last}
    async with reading.get(f"/v1/stream{query}", headers=headers) as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"


async def test_one_stream_too_many_is_told_to_come_again_and_can_when_another_has_gone(
    reading: aiohttp.ClientSession, writing: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as streams:
        for number in range(MAX_STREAMS):
            await begun((reading, writing)[number % 2], streams)
        async with reading.get("/v1/stream") as answer:
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
            assert (await answer.json())["type"] == "/problems/too-many-requests"
    async with AsyncExitStack() as streams:
        await begun(reading, streams)


async def test_one_token_does_not_take_the_streams_of_all(
    reading: aiohttp.ClientSession, writing: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as streams:
        for _ in range(events.MAX_OF_TOKEN):
            await begun(reading, streams)
        async with reading.get("/v1/stream") as answer:
            assert answer.status == 429
            assert int(answer.headers["retry-after"]) > 0
            assert (await answer.json())["type"] == "/problems/too-many-requests"
        await begun(writing, streams)


async def begun(asked: aiohttp.ClientSession, streams: AsyncExitStack) -> None:
    """Listen to a stream, too; those of a moment ago may still have their places."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (await streams.enter_async_context(asked.get("/v1/stream"))).status != 200:
        assert time.monotonic() < deadline, "no place is free"
        await asyncio.sleep(0.02)


async def test_a_stream_ends_when_its_token_is_taken_back(api: Api) -> None:
    text = await api.token("read")
    async with api.client(text) as asked, listening(asked) as stream:
        await api.engine.registrar.lift(f"token|{text.split('_')[1]}", author="tests", reason="lost")
        assert await stream.next(5.0) is None


async def test_a_stream_ends_when_its_token_runs_out(api: Api) -> None:
    text = await api.token("read", expires_at=api.engine.now + 2.0)
    async with api.client(text) as asked, listening(asked) as stream:
        assert await stream.next(8.0) is None


async def test_a_stream_ends_in_good_order_when_the_process_does(own_api: Api) -> None:
    async with own_api.client(await own_api.token("read")) as asked, listening(asked) as stream:
        began = time.monotonic()
        stopping = asyncio.create_task(own_api.stop())
        assert await stream.next(5.0) is None  # and no error of a connection that was cut off
        assert await stopping == 0
        assert time.monotonic() - began < 4.0


async def test_a_stream_says_when_the_store_is_away_and_goes_on_when_it_is_back(own_api: Api) -> None:
    async with own_api.client(await own_api.token("read")) as asked, listening(asked) as stream:
        own_api.store.pause()
        told = await stream.next(20.0)
        assert told is not None
        assert told.name == "trouble"
        assert "store" in told.data["detail"]
        own_api.store.resume()
        told = await stream.next(30.0)
        assert told is not None
        assert told.name == "recovered"
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await own_api.engine.judge(mail("back@example.com"))).action != "reject":
                await asyncio.sleep(0.05)
        assert "sender:back@example.com" in (await stream.verdict())["entities"]


def test_a_line_is_encoded_once_for_all_who_listen() -> None:
    lines = [VerdictLine(id="1-0", at=1.0, node="a/1", stage="mail", action="accept", reason="ok") for _ in range(2)]
    first, second = (rest_stream._event_of(line) for line in lines)
    assert first is second
    assert first.spelled() is second.spelled()
    assert first.spelled().startswith(b"id: 1-0\nevent: verdict\ndata: {")
    assert row_of(lines[0]) is row_of(lines[1])


# The stream itself, with events of the test's, and nobody in between


async def quiet(closed: asyncio.Event) -> AsyncGenerator[Event, None]:
    """One event, and then nothing for a long time; says when it is closed."""
    try:
        yield Event("verdict", b"{}", "1-0")
        await asyncio.sleep(PATIENCE_SECONDS * 2)
    finally:
        closed.set()


async def never_gone() -> Message:
    """A client that stays."""
    await asyncio.sleep(PATIENCE_SECONDS * 2)
    return {"type": "http.disconnect"}


async def test_a_comment_comes_when_there_is_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "TICK_SECONDS", 0.01)
    monkeypatch.setattr(events, "HEARTBEAT_SECONDS", 0.05)
    sent, closed, among = list[bytes](), asyncio.Event(), WeakSet[EventStream]()

    async def send(message: Message) -> None:
        sent.append(message.get("body", b""))

    stream = EventStream(quiet(closed), lambda: sent.count(b": still there\n\n") < 3, among)
    assert list(among) == [stream]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await stream({}, never_gone, send)
    assert b"".join(sent) == b"retry: 2000\n\nid: 1-0\nevent: verdict\ndata: {}\n\n" + 3 * b": still there\n\n"
    assert closed.is_set()
    assert not among


async def test_a_client_that_takes_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "SEND_SECONDS", 0.05)
    closed, among = asyncio.Event(), WeakSet[EventStream]()

    async def send(message: Message) -> None:
        if b"verdict" in message.get("body", b""):
            await asyncio.sleep(PATIENCE_SECONDS * 2)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await EventStream(quiet(closed), lambda: True, among)({}, never_gone, send)
    assert closed.is_set()
    assert not among


async def test_a_client_that_goes_ends_his_stream_at_once() -> None:
    closed, told, among = asyncio.Event(), asyncio.Event(), WeakSet[EventStream]()

    async def send(message: Message) -> None:
        if b"verdict" in message.get("body", b""):
            told.set()

    async def receive() -> Message:
        await told.wait()
        return {"type": "http.disconnect"}

    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await EventStream(quiet(closed), lambda: True, among)({}, receive, send)
    assert time.monotonic() - began < events.TICK_SECONDS
    assert closed.is_set()
