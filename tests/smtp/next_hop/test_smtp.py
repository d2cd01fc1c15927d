"""What is special about SMTP and LMTP: the dialogue, extensions, answers that are passed on, reuse."""

import pytest

from smtp_frontend.next_hop import MailOptions
from smtp_frontend.rehearsal.next_hop import BUSY, CLOSE, RESET, UNKNOWN, Action, ScriptedHop, Session, Single
from smtp_frontend.reply import Reply
from tests.smtp.next_hop.conftest import open_patiently

ALICE, BOB = "alice@example.org", "bob@example.com"
HELLO = b"Subject: hello\r\n\r\nhello\r\n"


async def deliver(hop: ScriptedHop, options: MailOptions | None = None) -> Reply:
    """One message by one session; the first answer that is not 2xx, or the last."""
    connection = open_patiently(hop.url).connect()
    try:
        reply = await connection.mail(ALICE, options or MailOptions())
        if reply.positive:
            reply = await connection.rcpt(BOB)
        if reply.positive:
            reply = await connection.data([HELLO])
    finally:
        await connection.close()
    return reply


async def ended(hop: ScriptedHop) -> Session:
    """The first session, when it is over."""
    await hop.sessions[0].ended.wait()
    return hop.sessions[0]


async def test_the_dialogue() -> None:
    async with ScriptedHop() as hop:
        await deliver(hop)
        session = await ended(hop)
    assert session.commands == [
        "EHLO mx.example.net",
        "MAIL FROM:<alice@example.org>",
        "RCPT TO:<bob@example.com>",
        "DATA",
        "QUIT",
    ]


async def test_the_dialogue_in_lmtp() -> None:
    async with ScriptedHop(lmtp=True) as hop:
        await deliver(hop)
        session = await ended(hop)
    assert session.commands[0] == "LHLO mx.example.net"
    assert session.verbs == ["LHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_nothing_is_connected_before_mail() -> None:
    async with ScriptedHop() as hop:
        connection = open_patiently(hop.url).connect()
        await connection.reset()
        await connection.close()
        assert hop.sessions == []


@pytest.mark.parametrize(
    ("options", "parameters"),
    [
        (MailOptions(), ()),
        (MailOptions(declared_bytes=1234), ("SIZE=1234",)),
        (MailOptions(eight_bit=True), ("BODY=8BITMIME",)),
        (MailOptions(smtputf8=True), ("SMTPUTF8",)),
        (MailOptions(declared_bytes=9, eight_bit=True, smtputf8=True), ("SIZE=9", "BODY=8BITMIME", "SMTPUTF8")),
    ],
)
async def test_extensions_are_used_where_offered(options: MailOptions, parameters: tuple[str, ...]) -> None:
    async with ScriptedHop(extensions=["size", "8bitmime", "SmtpUtf8"]) as hop:
        assert (await deliver(hop, options)).positive
        assert hop.messages[0].parameters == parameters


@pytest.mark.parametrize(
    ("options", "answer"),
    [
        (MailOptions(declared_bytes=1234), Reply(250, "Queued", "2.0.0")),
        (MailOptions(eight_bit=True), Reply(550, "Next hop does not take 8-bit content", "5.6.3", ours=True)),
        (MailOptions(smtputf8=True), Reply(553, "Next hop does not take internationalized mail", "5.6.7", ours=True)),
    ],
)
@pytest.mark.parametrize("script", [{}, {"EHLO": "500 What?"}], ids=["EHLO", "HELO"])
async def test_extensions_that_are_not_offered(options: MailOptions, answer: Reply, script: dict[str, Action]) -> None:
    async with ScriptedHop(script, extensions=()) as hop:
        assert await deliver(hop, options) == answer
        assert [message.parameters for message in hop.messages] == [()] * answer.positive


async def test_an_international_recipient_needs_smtputf8() -> None:
    async with ScriptedHop(extensions=()) as hop:
        connection = open_patiently(hop.url).connect()
        assert (await connection.mail("jörg@example.org")).enhanced == "5.6.7"
        assert (await connection.mail(ALICE)).positive
        assert (await connection.rcpt("jörg@example.com")).enhanced == "5.6.7"
        assert (await connection.rcpt(BOB)).positive
        await connection.close()


async def test_helo_where_ehlo_is_unknown() -> None:
    async with ScriptedHop({"EHLO": "502 5.5.1 No"}) as hop:
        assert (await deliver(hop)).positive
        assert (await ended(hop)).verbs == ["EHLO", "HELO", "MAIL", "RCPT", "DATA", "QUIT"]


REFUSALS = [
    ("450 4.2.1 Later", Reply(450, "Later", "4.2.1")),
    ("550 5.7.1 No", Reply(550, "No", "5.7.1")),
    ("550 no enhanced code", Reply(550, "no enhanced code")),
    ("554-5.7.1 See\n554 5.7.1 https://example.com", Reply(554, ("See", "https://example.com"), "5.7.1")),
    ("421 4.3.2 Going down", Reply(451, "Going down", "4.3.2")),
    ("421 Going down", Reply(451, "Going down", "4.4.2")),
]


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "end"])
@pytest.mark.parametrize(("said", "answer"), REFUSALS)
async def test_refusals_are_passed_on(lmtp: bool, step: str, said: str, answer: Reply) -> None:
    async with ScriptedHop({step: said}, lmtp=lmtp) as hop:
        assert await deliver(hop) == answer
        assert hop.messages == []
        assert len(hop.sessions) == 1


async def test_each_recipient_has_its_answer() -> None:
    async with ScriptedHop() as hop:
        connection = open_patiently(hop.url).connect()
        await connection.mail(ALICE)
        answers = [await connection.rcpt(address) for address in (UNKNOWN, BOB, BUSY)]
        assert [(answer.code, answer.enhanced) for answer in answers] == [
            (550, "5.1.1"),
            (250, "2.1.0"),
            (450, "4.2.1"),
        ]
        assert (await connection.data([HELLO])).positive
        await connection.close()
        assert [message.recipients for message in hop.messages] == [(BOB,)]


@pytest.mark.parametrize("lmtp", [False, True], ids=["smtp", "lmtp"])
@pytest.mark.parametrize(
    ("script", "verbs_between"),
    [
        ({}, []),
        ({"MAIL": ["550 5.7.1 No"]}, []),
        ({"RCPT": ["550 5.1.1 No"]}, ["RSET"]),
        ({"DATA": ["450 4.3.0 No"]}, ["RSET"]),
        ({"end": ["550 5.7.1 No"]}, []),
    ],
    ids=["accepted", "MAIL", "RCPT", "DATA", "end"],
)
async def test_the_connection_is_used_again(lmtp: bool, script: dict[str, Action], verbs_between: list[str]) -> None:
    async with ScriptedHop(script, lmtp=lmtp) as hop:
        connection = open_patiently(hop.url).connect()
        for _ in range(2):
            reply = await connection.mail(ALICE)
            reply = await connection.rcpt(BOB) if reply.positive else reply
            reply = await connection.data([HELLO]) if reply.positive else reply
        assert reply.positive
        await connection.close()
        session = await ended(hop)
    assert len(hop.sessions) == 1
    assert session.verbs[-4 - len(verbs_between) :] == [*verbs_between, "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize("farewell", [b"", b"421 4.4.2 Idle for too long\r\n", b"250 what?\r\n"])
async def test_a_connection_that_died_idle_is_replaced(farewell: bytes) -> None:
    async with ScriptedHop() as hop:
        connection = open_patiently(hop.url).connect()
        for _ in range(2):
            assert (await connection.mail(ALICE)).positive
            assert (await connection.rcpt(BOB)).positive
            assert (await connection.data([HELLO])).positive
            hop.sessions[-1].say(farewell)
            hop.sessions[-1].hang_up()
            await hop.sessions[-1].ended.wait()
        await connection.close()
        assert len(hop.messages) == len(hop.sessions) == 2


@pytest.mark.parametrize("action", ["421 4.4.2 Idle for too long", CLOSE, RESET], ids=["421", "CLOSE", "RESET"])
@pytest.mark.parametrize("step", ["MAIL", "RSET"])
async def test_mail_on_a_dying_connection_is_tried_once_more(step: str, action: Single) -> None:
    async with ScriptedHop() as hop:
        connection = open_patiently(hop.url).connect()
        assert (await connection.mail(ALICE)).positive
        if step == "MAIL":
            await connection.reset()  # otherwise the next MAIL begins with RSET
        hop.script[step] = [action]
        assert (await connection.mail(ALICE)).positive
        await connection.close()
        assert len(hop.sessions) == 2


@pytest.mark.parametrize("action", ["421 4.3.2 Going down", CLOSE], ids=["421", "CLOSE"])
async def test_a_new_connection_is_not_tried_twice(action: Action) -> None:
    async with ScriptedHop({"MAIL": action}) as hop:
        connection = open_patiently(hop.url).connect()
        for number in (1, 2):
            assert (await connection.mail(ALICE)).code == 451
            assert len(hop.sessions) == number
        await connection.close()


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "end"])
async def test_after_421_the_connection_is_gone(step: str) -> None:
    async with ScriptedHop({step: ["421 4.3.2 Going down"]}) as hop:
        connection = open_patiently(hop.url).connect()
        for code in (451, 250):
            reply = await connection.mail(ALICE)
            reply = await connection.rcpt(BOB) if reply.positive else reply
            reply = await connection.data([HELLO]) if reply.positive else reply
            assert reply.code == code
        assert len(hop.sessions) == 2
        await hop.sessions[0].ended.wait()
        await connection.close()


async def test_a_refused_reset_costs_the_connection() -> None:
    async with ScriptedHop({"RSET": "500 5.5.1 What?"}) as hop:
        connection = open_patiently(hop.url).connect()
        assert (await connection.mail(ALICE)).positive
        await connection.reset()
        assert (await connection.mail(ALICE)).positive
        assert len(hop.sessions) == 2
        await connection.close()
