"""MAIL and the first RCPT in one packet (RFC 2920): what is sent, and whose answer is whose when things go wrong."""

import asyncio

import pytest

from smtp_frontend.next_hop import NO_OPTIONS, Connection, MailOptions
from smtp_frontend.rehearsal.next_hop import CLOSE, HANG, RESET, UNKNOWN, Action, ScriptedHop
from smtp_frontend.reply import Reply
from tests.smtp.next_hop.conftest import EXTENSIONS, open_hastily, open_patiently

ALICE, BOB = "alice@example.org", "bob@example.com"
HELLO = b"Subject: hello\r\n\r\nhello\r\n"
OFFERED = (*EXTENSIONS, "pipelining")


async def begin(connection: Connection, recipient: str = BOB, options: MailOptions = NO_OPTIONS) -> list[Reply]:
    return list(await connection.begin(ALICE, options, recipient))


async def assert_delivers(hop: ScriptedHop, connection: Connection) -> None:
    """The session goes on, in step with the server."""
    hop.script.clear()
    messages = len(hop.messages)
    assert [answer.code for answer in await begin(connection)] == [250, 250]
    assert (await connection.data([HELLO])).positive
    await connection.close()
    assert [message.recipients for message in hop.messages[messages:]] == [(BOB,)]


@pytest.mark.parametrize(("offered", "sent"), [(OFFERED, True), (EXTENSIONS, False)], ids=["offered", "not offered"])
async def test_both_go_out_at_once_where_that_is_offered(offered: tuple[str, ...], sent: bool) -> None:
    read_on = asyncio.Event()
    async with ScriptedHop({"MAIL": [read_on]}, extensions=offered) as hop:
        beginning = asyncio.create_task(begin(open_patiently(hop.url).connect()))
        await hop.until(lambda: bool(hop.sessions) and "MAIL" in hop.sessions[0].verbs)
        waits = hop.sessions[0].reader._buffer  # type: ignore[attr-defined] # what came with MAIL
        assert bytes(waits) == b"RCPT TO:<bob@example.com>\r\n" * sent
        read_on.set()
        assert [answer.code for answer in await beginning] == [250, 250]


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
async def test_the_recipient_s_answer_is_the_recipient_s(lmtp: bool) -> None:
    async with ScriptedHop(lmtp=lmtp, extensions=OFFERED) as hop:
        connection = open_patiently(hop.url).connect()
        mail, rcpt = await begin(connection, UNKNOWN)
        assert (mail.code, rcpt.code, rcpt.enhanced) == (250, 550, "5.1.1")
        assert (await connection.rcpt(BOB)).positive
        assert (await connection.data([HELLO])).positive
        await assert_delivers(hop, connection)
        assert len(hop.sessions) == 1


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ("550 5.7.1 No", Reply(550, "No", "5.7.1")),
        ("451 4.7.1 Later", Reply(451, "Later", "4.7.1")),
        ("421 4.3.2 Going down", Reply(451, "Going down", "4.3.2")),
    ],
)
@pytest.mark.parametrize("then", ["503 5.5.1 MAIL first", "250 2.1.5 Strange", CLOSE, "garbage"], ids=repr)
async def test_a_refused_sender_is_refused_whatever_is_said_to_the_recipient(
    said: str, answer: Reply, then: Action
) -> None:
    async with ScriptedHop({"MAIL": [said], "RCPT": [then]}, extensions=OFFERED) as hop:  # type: ignore[list-item] # no list
        connection = open_patiently(hop.url).connect()
        assert await begin(connection) == [answer, answer]
        await assert_delivers(hop, connection)


async def test_a_recipient_that_was_accepted_without_a_sender_is_forgotten() -> None:
    async with ScriptedHop({"MAIL": ["550 5.7.1 No"]}, extensions=OFFERED) as hop:
        connection = open_patiently(hop.url).connect()
        assert (await begin(connection))[0].code == 550
        await assert_delivers(hop, connection)
        assert hop.sessions[0].verbs == ["EHLO", "MAIL", "RCPT", "RSET", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("action", [CLOSE, RESET, b"garbage\r\n", "354 Go ahead", "503 5.5.1 MAIL first"], ids=repr)
async def test_trouble_at_the_recipient_means_lost(action: Action) -> None:
    async with ScriptedHop({"RCPT": action}, extensions=OFFERED) as hop:
        connection = open_patiently(hop.url).connect()
        mail, rcpt = await begin(connection)
        # A reset throws away what was said before it, so it may be MAIL that was not answered.
        assert (mail.code, rcpt.code, rcpt.enhanced) in {(250, 451, "4.4.2"), (451, 451, "4.4.2")}
        assert rcpt.ours
        await assert_delivers(hop, connection)


async def test_silence_at_the_recipient_has_an_end() -> None:
    async with ScriptedHop({"RCPT": HANG}, extensions=OFFERED) as hop:
        mail, rcpt = await begin(open_hastily(hop.url).connect())
        assert (mail.code, rcpt.code, rcpt.enhanced) == (250, 451, "4.4.2")


@pytest.mark.parametrize("farewell", [b"", b"421 4.4.2 Idle for too long\r\n", b"250 what?\r\n"])
async def test_a_connection_that_died_idle_is_replaced(farewell: bytes) -> None:
    async with ScriptedHop(extensions=OFFERED) as hop:
        connection = open_patiently(hop.url).connect()
        for _ in range(2):
            assert [answer.code for answer in await begin(connection)] == [250, 250]
            assert (await connection.data([HELLO])).positive
            hop.sessions[-1].say(farewell)
            hop.sessions[-1].hang_up()
            await hop.sessions[-1].ended.wait()
        await connection.close()
        assert len(hop.messages) == len(hop.sessions) == 2


@pytest.mark.parametrize("action", ["421 4.4.2 Idle for too long", CLOSE, RESET], ids=repr)
async def test_a_dying_connection_is_tried_once_more(action: Action) -> None:
    async with ScriptedHop(extensions=OFFERED) as hop:
        connection = open_patiently(hop.url).connect()
        assert (await begin(connection))[1].positive
        await connection.reset()
        hop.script["MAIL"] = [action]  # type: ignore[list-item] # no list
        assert [answer.code for answer in await begin(connection)] == [250, 250]
        assert (await connection.data([HELLO])).positive
        await connection.close()
        assert len(hop.sessions) == 2


async def test_what_the_server_cannot_take_is_not_sent() -> None:
    async with ScriptedHop(extensions=["PIPELINING"]) as hop:
        connection = open_patiently(hop.url).connect()
        assert [answer.enhanced for answer in await begin(connection, options=MailOptions(eight_bit=True))] == [
            "5.6.3",
            "5.6.3",
        ]
        mail, rcpt = await begin(connection, "jörg@example.com")
        assert (mail.code, rcpt.enhanced) == (250, "5.6.7")
        await assert_delivers(hop, connection)
        assert "jörg" not in " ".join(hop.sessions[0].commands)


@pytest.mark.parametrize("step", ["MAIL", "RCPT"])
async def test_a_cancelled_call_costs_the_connection(step: str) -> None:
    async with ScriptedHop({step: [HANG]}, extensions=OFFERED) as hop:
        connection = open_patiently(hop.url).connect()
        task = asyncio.create_task(begin(connection))
        await hop.until(lambda: bool(hop.sessions) and step in hop.sessions[0].verbs)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await hop.sessions[0].ended.wait()
        await assert_delivers(hop, connection)
        assert len(hop.sessions) == 2
