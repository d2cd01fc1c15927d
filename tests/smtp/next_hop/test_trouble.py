"""Next hops that are away, slow, rude or hostile: always 451 of ours, never an exception, never a wrong 250."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from reputation.front_end_settings import FINAL_ANSWER_FACTOR
from smtp_frontend.next_hop import Connection
from smtp_frontend.next_hop.replies import BROKEN
from smtp_frontend.next_hop.smtp import SmtpConnection
from smtp_frontend.next_hop.wire import MAX_LINE_OCTETS
from smtp_frontend.rehearsal.next_hop import CLOSE, HANG, RESET, STALL, Action, Endless, ScriptedHop
from smtp_frontend.reply import MAX_LINES, Reply
from tests.smtp.next_hop.conftest import HASTY_SECONDS, PATIENT_SECONDS, open_hastily, open_patiently

ALICE, BOB = "alice@example.org", "bob@example.com"
HELLO = b"Subject: hello\r\n\r\nhello\r\n"
LARGE = [b"x" * 78 + b"\r\n"] * 200_000
"""More than the buffers of two sockets hold."""


async def transaction(connection: Connection, parts: list[bytes]) -> list[Reply]:
    """The answers to MAIL, RCPT and DATA, as far as it comes."""
    steps: list[Callable[[], Awaitable[Reply]]] = [
        lambda: connection.mail(ALICE),
        lambda: connection.rcpt(BOB),
        lambda: connection.data(parts),
    ]
    answers: list[Reply] = []
    for step in steps:
        answers.append(await step())
        if not answers[-1].positive:
            break
    return answers


def assert_trouble(reply: Reply, enhanced: str) -> None:
    assert (reply.code, reply.enhanced, reply.ours) == (451, enhanced, True)


async def assert_recovers(hop: ScriptedHop, connection: Connection) -> None:
    """The same session can deliver once the server behaves, over a new connection."""
    sessions, messages = len(hop.sessions), len(hop.messages)
    hop.script.clear()
    assert (await transaction(connection, [HELLO]))[-1].positive
    assert (len(hop.sessions), len(hop.messages)) == (sessions + 1, messages + 1)
    await connection.close()


GARBAGE: list[Action] = [
    b"HTTP/1.1 400 Bad Request\r\n",
    b"\x00\x01\x02\r\n",
    b"\r\n",
    b"199 low\r\n",
    b"600 high\r\n",
    b"250-one\r\n550 two\r\n",
    b"2" * (MAX_LINE_OCTETS + 1),
    b"250-more\r\n" * MAX_LINES + b"250 end\r\n",
    Endless(b"250-more\r\n"),
    Endless(b"2" * 1_000),
    (b"250-half an answer\r\n", CLOSE),
    (b"250 half a li", CLOSE),
]
GONE: list[Action] = [CLOSE, RESET]
SILENT: list[Action] = [HANG, STALL, (b"250-half an answer\r\n", HANG)]

INTRODUCTION = ["connect", "EHLO"]
TRANSACTION = ["MAIL", "RCPT", "DATA", "end"]


def name_of(action: object) -> str:
    return repr(action)[:24]


@pytest.mark.parametrize("action", [*GARBAGE, *GONE, "450 4.3.2 Not now", "554 5.7.1 Never", "421 Bye"], ids=name_of)
@pytest.mark.parametrize("step", INTRODUCTION)
async def test_no_introduction_means_unreachable(step: str, action: Action) -> None:
    async with ScriptedHop({step: action, "HELO": "554 5.7.1 Never"}) as hop:
        connection = open_patiently(hop.url).connect()
        [answer] = await transaction(connection, [HELLO])
        assert_trouble(answer, "4.4.1")
        await assert_recovers(hop, connection)


@pytest.mark.parametrize("action", [*GARBAGE, *GONE], ids=name_of)
@pytest.mark.parametrize("step", TRANSACTION)
@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_trouble_in_the_middle_means_lost(lmtp: bool, step: str, action: Action) -> None:
    async with ScriptedHop({step: action}, lmtp=lmtp) as hop:
        connection = open_patiently(hop.url).connect()
        answers = await transaction(connection, [HELLO])
        assert len(answers) == min(TRANSACTION.index(step) + 1, 3)
        assert_trouble(answers[-1], "4.4.2")
        for answer in (await connection.rcpt(BOB), await connection.data([HELLO])):
            assert_trouble(answer, "4.4.2")
        await connection.reset()
        await assert_recovers(hop, connection)


@pytest.mark.parametrize("action", SILENT, ids=name_of)
@pytest.mark.parametrize("step", [*INTRODUCTION, *TRANSACTION[:-1]])
async def test_silence_has_an_end(step: str, action: Action) -> None:
    async with ScriptedHop({step: action}) as hop:
        answers = await transaction(open_hastily(hop.url).connect(), [HELLO])
        assert_trouble(answers[-1], "4.4.1" if step in INTRODUCTION else "4.4.2")
        assert len(hop.sessions) == 1


async def test_silence_after_the_message_has_a_later_end() -> None:
    async with ScriptedHop({"end": HANG}) as hop:
        begun = asyncio.get_running_loop().time()
        answers = await transaction(open_hastily(hop.url).connect(), [HELLO])
        assert asyncio.get_running_loop().time() - begun >= FINAL_ANSWER_FACTOR * HASTY_SECONDS
        assert_trouble(answers[-1], "4.4.2")


async def test_a_server_that_reads_no_more_has_an_end() -> None:
    async with ScriptedHop({"message": STALL}) as hop:
        answers = await transaction(open_hastily(hop.url).connect(), LARGE)
        assert_trouble(answers[-1], "4.4.2")
        assert hop.messages == []


@pytest.mark.parametrize("action", GONE, ids=name_of)
@pytest.mark.parametrize("parts", [[HELLO], LARGE], ids=["small", "large"])
async def test_hanging_up_in_the_message_means_lost(action: Action, parts: list[bytes]) -> None:
    async with ScriptedHop({"message": action}) as hop:
        connection = open_patiently(hop.url).connect()
        answers = await transaction(connection, parts)
        assert_trouble(answers[-1], "4.4.2")
        await assert_recovers(hop, connection)


@pytest.mark.parametrize("after", [CLOSE, STALL], ids=name_of)
async def test_a_refusal_in_the_message_is_passed_on(after: Action) -> None:
    assert not isinstance(after, tuple | list)
    async with ScriptedHop({"message": ("552 5.3.4 Too big", after)}) as hop:
        connection = open_patiently(hop.url).connect()
        answers = await transaction(connection, LARGE)
        assert answers[-1] == Reply(552, "Too big", "5.3.4")
        await assert_recovers(hop, connection)


@pytest.mark.parametrize("after", [CLOSE, STALL], ids=name_of)
async def test_nobody_can_accept_half_a_message(after: Action) -> None:
    assert not isinstance(after, tuple | list)
    async with ScriptedHop({"message": ("250 2.0.0 Queued", after)}) as hop:
        answers = await transaction(open_patiently(hop.url).connect(), LARGE)
        assert_trouble(answers[-1], "4.4.2")


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("MAIL", b"250 OK\r\n250 for RCPT\r\n"),
        ("RCPT", b"250 OK\r\n354 for DATA\r\n"),
        ("DATA", b"354 Go ahead\r\n250 for the message\r\n"),
    ],
)
async def test_an_answer_ahead_of_its_command_does_not_count(step: str, said: bytes) -> None:
    async with ScriptedHop({step: said}) as hop:
        connection = open_patiently(hop.url).connect()
        answers = await transaction(connection, LARGE)
        assert_trouble(answers[-1], "4.4.2")
        assert hop.received == []
        await assert_recovers(hop, connection)


@pytest.mark.parametrize(
    ("step", "said"), [("MAIL", "354 Go ahead"), ("RCPT", "354 Go ahead"), ("DATA", "250 OK"), ("end", "334 Go on")]
)
async def test_an_answer_of_the_wrong_kind_is_nonsense(step: str, said: str) -> None:
    async with ScriptedHop({step: said}) as hop:
        connection = open_patiently(hop.url).connect()
        assert_trouble((await transaction(connection, [HELLO]))[-1], "4.4.2")
        await assert_recovers(hop, connection)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("MAIL", "530 5.7.0 Must issue a STARTTLS command first"),
        ("MAIL", "503 5.5.1 Say EHLO first"),
        ("RCPT", "530 5.7.0 Authentication required"),
        ("RCPT", "221 2.0.0 Bye"),
        ("DATA", "502 5.5.2 Not known"),
    ],
)
async def test_what_the_server_wants_of_us_never_bounces_the_client_s_mail(step: str, said: str) -> None:
    async with ScriptedHop({step: said}) as hop:
        connection = open_patiently(hop.url).connect()
        assert_trouble((await transaction(connection, [HELLO]))[-1], "4.4.2")
        await assert_recovers(hop, connection)


def closed_port() -> int:
    """A port of 127.0.0.1 on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.mark.parametrize("scheme", ["smtp", "lmtp"])
async def test_nobody_is_there(scheme: str, tmp_path: Path) -> None:
    for where in (f"127.0.0.1:{closed_port()}", f"{tmp_path}/none", f"{'a' * 64}.localhost"):
        connection = open_patiently(f"{scheme}://{where}").connect()
        assert_trouble(await connection.mail(ALICE), "4.4.1")
        await connection.close()


async def test_the_log_says_what_happened(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedHop({"connect": "554 5.7.1 Go\x1b[31m away"}) as hop:
        await open_patiently(hop.url).connect().mail(ALICE)
    assert caplog.record_tuples == [
        (
            "reputon.next_hop",
            logging.WARNING,
            f"{hop.url}: refuses us at greeting: 554 5.7.1 Go?[31m away",
        )
    ]


@pytest.mark.parametrize("action", [HANG, CLOSE, b"garbage\r\n", "500 No"], ids=name_of)
async def test_closing_ends_whatever_the_server_does(action: Action) -> None:
    async with ScriptedHop({"QUIT": action}) as hop:
        connection = open_hastily(hop.url).connect()
        assert (await connection.mail(ALICE)).positive
        await connection.close()
        await hop.sessions[0].ended.wait()
        assert hop.sessions[0].verbs[-1] == "QUIT"


@pytest.mark.parametrize("step", ["EHLO", "MAIL", "RCPT", "DATA", "end"])
async def test_a_cancelled_call_costs_the_connection(step: str) -> None:
    async with ScriptedHop({step: [HANG]}) as hop:
        connection = open_patiently(hop.url).connect()
        task = asyncio.create_task(transaction(connection, [HELLO]))
        await hop.until(
            lambda: bool(hop.received) if step == "end" else bool(hop.sessions) and step in hop.sessions[0].verbs
        )
        session = hop.sessions[0]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await session.ended.wait()
        assert_trouble(await connection.rcpt(BOB), "4.4.2")
        await assert_recovers(hop, connection)


class Backlog:
    """A message that grows until the server, which does not read, has made our own buffer fill up."""

    def __init__(self, connection: Connection, *, endless: bool = False) -> None:
        assert isinstance(connection, SmtpConnection)
        self._connection = connection
        self._endless = endless
        self.waiting = asyncio.Event()
        """Set when something that was written waits in our buffer."""

    def __iter__(self) -> Iterator[bytes]:
        wire = self._connection._wire
        assert wire is not None
        while self._endless or not wire.unsent:
            yield (b"x" * 62 + b"\r\n") * 256  # a quarter of a block, and a block is no more than the buffer takes
            if wire.unsent:
                self.waiting.set()
        self.waiting.set()


async def begin(connection: Connection) -> None:
    assert (await connection.mail(ALICE)).positive
    assert (await connection.rcpt(BOB)).positive


async def test_what_was_given_up_cannot_complete() -> None:
    """Cancelled with the final dot in our buffer, while the server does not read: it must never get the dot."""
    read_on = asyncio.Event()
    async with ScriptedHop({"message": read_on}) as hop:
        connection = open_patiently(hop.url).connect()
        await begin(connection)
        backlog = Backlog(connection)
        task = asyncio.create_task(connection.data(backlog))
        await backlog.waiting.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        read_on.set()
        await hop.sessions[0].ended.wait()
        assert hop.received == []
        await assert_recovers(hop, connection)


@pytest.mark.parametrize(
    ("said", "answer"), [("250 2.0.0 Queued", BROKEN), ("552 5.3.4 Too big", Reply(552, "Too big", "5.3.4"))]
)
@pytest.mark.parametrize("endless", [False, True], ids=["handed over", "under way"])
async def test_an_answer_while_we_wait_to_send(endless: bool, said: str, answer: Reply) -> None:
    """The server answers, does not read on, and does not hang up."""
    speak = asyncio.Event()
    async with ScriptedHop({"message": (speak, said, STALL)}) as hop:
        connection = open_patiently(hop.url).connect()
        await begin(connection)
        backlog = Backlog(connection, endless=endless)
        task = asyncio.create_task(connection.data(backlog))
        await backlog.waiting.wait()
        speak.set()
        assert await task == answer
        await assert_recovers(hop, connection)


async def test_a_flood_that_nobody_asked_for_is_cut_off() -> None:
    async with ScriptedHop() as hop:
        connection = open_patiently(hop.url).connect()
        await begin(connection)
        hop.sessions[0].say(b"250 2.0.0 OK\r\n" * 10_000)
        async with asyncio.timeout(PATIENT_SECONDS):
            await hop.sessions[0].ended.wait()
        assert_trouble(await connection.data([HELLO]), "4.4.2")
        await assert_recovers(hop, connection)
