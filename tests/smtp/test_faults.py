"""What goes wrong: clients that hang up or hang on, next hops that die, our own errors, and the end of the process.

The same is asked each time: the client hears 4xx or nothing, no message is lost or doubled by us, what came to
nothing is given back to the sender, and other sessions do not notice.
"""

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest

from reputation.keys import Metric
from smtp_frontend.next_hop import NextHop, open_next_hop
from smtp_frontend.next_hop.contract import NO_OPTIONS, Connection, MailOptions, Part
from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.rehearsal.front_end import HOSTNAME, FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import CLOSE, HANG, RESET, Action, ScriptedHop
from smtp_frontend.reply import Reply

ALICE = "sender:alice@example.com"
LIMIT = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["1/1h"]
action = "tempfail"
"""
HASTY = """
[smtp]
command_timeout_seconds = 0.3
data_timeout_seconds = 0.3
next_hop_timeout_seconds = 0.3
drain_seconds = 0.3
"""


async def serves(mx: FrontEnd, sender: str = "carol@example.com") -> None:
    """Another client is served as if nothing was."""
    async with mx.client() as client:
        await client.begin("bob@example.net", sender=sender)
        assert (await client.message()).code == 250
        assert (await client.ask("QUIT")).code == 221


def no_traces(mx: FrontEnd) -> None:
    gc.collect()  # a task that failed unheard complains when it is collected
    assert not mx.log.traces, mx.log.traces


# Clients that hang up

Steps = Callable[[Client], Awaitable[object]]


async def nothing(client: Client) -> None:
    """Before the greeting is read."""


async def greeted(client: Client) -> None:
    await client.greeting()


async def introduced(client: Client) -> None:
    await client.greeting()
    await client.ask("EHLO client.example.com")


async def mailed(client: Client) -> None:
    await client.begin()


async def with_recipient(client: Client) -> None:
    await client.begin("bob@example.net")


async def asked_for_data(client: Client) -> None:
    await client.begin("bob@example.net")
    assert (await client.ask("DATA")).code == 354


async def in_the_header(client: Client) -> None:
    await asked_for_data(client)
    await client.send(b"Subject: he")


async def before_the_dot(client: Client) -> None:
    await asked_for_data(client)
    await client.send(b"Subject: hello\r\n\r\nhello\r\n")


async def in_the_end(client: Client) -> None:
    await asked_for_data(client)
    await client.send(b"Subject: hello\r\n\r\nhello\r\n.\r")


async def in_a_command(client: Client) -> None:
    await client.begin()
    await client.send(b"RCPT TO:<bob@ex")


UNFINISHED = [
    nothing,
    greeted,
    introduced,
    mailed,
    with_recipient,
    asked_for_data,
    in_the_header,
    before_the_dot,
    in_the_end,
    in_a_command,
]


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("step", UNFINISHED)
async def test_pitfall_02_a_client_that_hangs_up_leaves_nothing_behind(step: Steps, how: str, hop: ScriptedHop) -> None:
    async with front_end(LIMIT, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await step(client)
            if how == "reset":
                client.reset()
            elif how == "half-close":
                client.half_close()
                if step is nothing:
                    await client.greeting()
                assert await client.closed()
            else:
                await client.hang_up()
            await mx.nobody_left()
        assert hop.received == []
        assert await mx.counted(ALICE) == 0  # given back
        await serves(mx, sender="alice@example.com")
        no_traces(mx)


async def test_a_hundred_connections_that_are_reset_at_once(mx: FrontEnd) -> None:
    """They are gone before they are accepted."""
    for _ in range(100):
        connection = socket.create_connection(("127.0.0.1", mx.port))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    await serves(mx)
    await mx.nobody_left()
    no_traces(mx)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_client_that_leaves_right_after_the_dot_has_sent_its_message(how: str, hop: ScriptedHop) -> None:
    async with front_end(LIMIT, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await asked_for_data(client)
            await client.send(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
            await until(lambda: bool(hop.received), "the message is on its way")
            client.reset() if how == "reset" else await client.hang_up()
        await mx.nobody_left()
        assert len(hop.messages) == 1
        assert await mx.counted(ALICE) == 1
        no_traces(mx)


async def test_a_client_that_half_closes_after_the_dot_hears_the_answer(mx: FrontEnd, hop: ScriptedHop) -> None:
    async with mx.client() as client:
        await asked_for_data(client)
        await client.send(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
        client.half_close()
        assert (await client.reply()).code == 250
        assert await client.closed()
    assert len(hop.messages) == 1


async def test_a_client_that_says_all_at_once_and_half_closes_hears_all_answers(mx: FrontEnd, hop: ScriptedHop) -> None:
    commands = b"HELO client.example.com\r\nMAIL FROM:<alice@example.com>\r\n"
    commands += b"RCPT TO:<bob@example.net>\r\nDATA\r\nhello\r\n.\r\n"
    async with mx.client() as client:
        await client.send(commands + b"QUIT\r\n")
        client.half_close()
        assert [(await client.reply()).code for _ in range(7)] == [220, 250, 250, 250, 354, 250, 221]
        assert await client.closed()
    assert len(hop.messages) == 1


async def test_a_client_that_sends_on_does_not_lose_the_last_answer(hop: ScriptedHop) -> None:
    """A socket that is closed with octets unread resets the connection, and takes the answer along."""
    for _ in range(3):
        async with front_end("[smtp]\nmax_errors = 1", next_hop=hop.url) as mx, mx.client() as client:
            client.writer.write(b"NONSENSE\r\n" + b"x" * 4_000_000)
            assert (await client.greeting()).code == 220
            assert str(await client.reply()) == "421 4.7.0 Too many errors"
            assert (await client.reader.read()) == b""


# Clients that hang on


@pytest.mark.parametrize("step", UNFINISHED)
async def test_a_client_that_falls_silent_is_told_so_and_closed(step: Steps, hop: ScriptedHop) -> None:
    async with front_end(HASTY + LIMIT, next_hop=hop.url) as mx, mx.client() as client:
        await step(client)
        if step is nothing:
            assert (await client.greeting()).code == 220
        reply = await client.reply()
        assert str(reply) == "421 4.4.2 Timed out waiting for you"
        assert await client.closed()
        await mx.nobody_left()
        assert await mx.counted(ALICE) == 0
        no_traces(mx)


async def test_one_byte_at_a_time_is_one_command_in_time_and_none_too_late(hop: ScriptedHop) -> None:
    """The time is for the whole line: a client cannot stretch it byte by byte."""
    async with front_end(HASTY, next_hop=hop.url) as mx, mx.client() as client:
        await client.greeting()
        for byte in b"NOOP\r\n":
            await client.send(bytes([byte]))
        assert (await client.reply()).code == 250
        answer = asyncio.create_task(client.reply())
        while not answer.done():
            await client.send(b"X")
            await asyncio.wait({answer}, timeout=0.02)
        assert answer.result().code == 421


async def test_a_message_that_trickles_in_runs_out_of_time(hop: ScriptedHop) -> None:
    async with front_end(HASTY + LIMIT, next_hop=hop.url) as mx, mx.client() as client:
        await asked_for_data(client)
        answer = asyncio.create_task(client.reply())
        while not answer.done():
            await client.send(b"trickle\r\n")
            await asyncio.wait({answer}, timeout=0.02)
        assert answer.result().code == 421
        assert await client.closed()
        await mx.nobody_left()
        assert hop.received == []
        assert await mx.counted(ALICE) == 0


async def test_a_client_that_never_reads_its_answers_is_let_go(hop: ScriptedHop) -> None:
    async with front_end(HASTY, next_hop=hop.url) as mx, mx.client(receive_buffer=4_096) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined] # a stream has no other way
        flood = asyncio.create_task(client.send(b"HELP\r\n" * 2_000_000))
        await until(lambda: not mx.server.sessions, "the session is over")
        await client.hang_up()
        await asyncio.gather(flood, return_exceptions=True)
        await serves(mx)


async def test_ten_thousand_recipients_of_one_message(hop: ScriptedHop) -> None:
    async with front_end("[smtp]\nmax_recipients = 100", next_hop=hop.url) as mx, mx.client() as client:
        await client.begin()
        asking = asyncio.create_task(client.send(b"".join(b"RCPT TO:<u%d@example.net>\r\n" % n for n in range(10_000))))
        codes = [(await client.reply()).code for _ in range(10_000)]
        await asking
        assert codes == [250] * 100 + [452] * 9_900
        assert (await client.message()).code == 250
        assert len(hop.messages[0].recipients) == 100


# Next hops that fail


@pytest.mark.parametrize(
    ("script", "replies", "received"),
    [
        ({"connect": CLOSE}, [451], 0),
        ({"connect": "421 4.3.2 Busy"}, [451], 0),
        ({"connect": "554 5.3.2 Never"}, [451], 0),
        ({"connect": HANG}, [451], 0),
        ({"connect": b"\x00\xff not SMTP\r\n"}, [451], 0),
        ({"EHLO": CLOSE}, [451], 0),
        ({"EHLO": ("500 5.5.1 No", CLOSE), "HELO": CLOSE}, [451], 0),
        ({"MAIL": CLOSE}, [451], 0),
        ({"MAIL": HANG}, [451], 0),
        ({"MAIL": "421 4.3.2 Shutting down"}, [451], 0),
        ({"RCPT": RESET}, [451], 0),
        ({"RCPT": HANG}, [451], 0),
        ({"RCPT": "421 4.3.2 Shutting down"}, [451], 0),
        ({"DATA": CLOSE}, [250, 451], 0),
        ({"DATA": HANG}, [250, 451], 0),
        ({"DATA": "451 4.3.0 Not now"}, [250, 451], 0),
        ({"message": CLOSE}, [250, 451], 0),
        ({"message": RESET}, [250, 451], 0),
        ({"end": CLOSE}, [250, 451], 1),
        ({"end": RESET}, [250, 451], 1),
        ({"end": "421 4.3.2 Shutting down"}, [250, 451], 1),
    ],
    ids=repr,
)
async def test_a_next_hop_that_fails_is_the_clients_4xx_and_costs_the_sender_nothing(
    script: dict[str, Action], replies: list[int], received: int
) -> None:
    async with ScriptedHop(script) as hop, front_end(HASTY + LIMIT, next_hop=hop.url) as mx:
        async with mx.client() as client:
            *_, rcpt = await client.begin("bob@example.net")
            codes = [rcpt.code]
            if rcpt.code == 250:
                codes.append((await client.message()).code)
            assert codes == replies
            assert (await client.ask("RSET")).code == 250  # the session lives
            assert (len(hop.messages), len(hop.received)) == (0, received)
            assert await mx.counted(ALICE) == 0
            # The next hop is well again: on the same connection the client may try once more.
            hop.script.clear()
            await client.transaction("bob@example.net")
            assert (await client.message()).code == 250
        assert len(hop.messages) == 1
        assert await mx.counted(ALICE) == 1
        assert mx.metric("reputon_smtp_errors_total") == 0
        no_traces(mx)


async def test_a_next_hop_that_is_not_there_is_4xx(hop: ScriptedHop) -> None:
    hop.stop_listening()
    async with front_end(LIMIT, next_hop=hop.url) as mx, mx.client() as client:
        *_, reply = await client.begin("bob@example.net")
        assert str(reply) == "451 4.4.1 Next hop cannot be reached, try again later"
        await client.ask("RSET")
        assert await mx.counted(ALICE) == 0
        assert await mx.counted("ip:127.0.0.1", Metric.RECIPIENTS) == 0


async def test_a_next_hop_that_hangs_for_one_session_holds_no_other(hop: ScriptedHop) -> None:
    hop.script["stuck@example.net"] = HANG
    async with front_end(next_hop=hop.url) as mx, mx.client() as stuck:
        await stuck.begin()
        await stuck.say("RCPT TO:<stuck@example.net>")
        await until(lambda: any("RCPT" in s.verbs for s in hop.sessions), "the next hop was asked")
        for _ in range(3):
            await serves(mx)
        stuck.reset()
        hop.sessions[0].hang_up()
        await mx.nobody_left()


@pytest.mark.parametrize("unknown", [1, 3])
async def test_refused_recipients_are_given_back(unknown: int, mx: FrontEnd) -> None:
    async with mx.client() as client:
        await client.begin(*["unknown@example.com"] * unknown, "bob@example.net")
        assert await mx.counted(ALICE, Metric.RECIPIENTS) == 1
        assert await mx.counted(ALICE, Metric.INVALID_RECIPIENTS) == unknown
        assert await mx.counted("recipient:unknown@example.com") == 0
        assert (await client.message()).code == 250
    assert await mx.counted(ALICE, Metric.RECIPIENTS) == 1
    assert await mx.counted(ALICE) == 1


async def test_our_own_4xx_is_no_evidence_against_anybody() -> None:
    async with ScriptedHop({"connect": "554 5.1.1 No"}) as hop, front_end(next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.begin("bob@example.net")
        await mx.nobody_left()
        assert await mx.counted(ALICE, Metric.INVALID_RECIPIENTS) == 0
        assert mx.metric("reputon_outcomes_total", kind="unknown-recipient") == 0


# Our own errors

SECRET = "the secret detail of an error"


@pytest.mark.parametrize("step", [greeted, introduced, mailed, with_recipient, asked_for_data])
async def test_an_error_of_ours_is_a_fixed_451_and_the_session_lives(step: Steps, hop: ScriptedHop) -> None:
    following = {
        greeted: "MAIL FROM:<alice@example.com>",
        introduced: "MAIL FROM:<alice@example.com>",
        mailed: "RCPT TO:<bob@example.net>",
        with_recipient: "RCPT TO:<carol@example.net>",
        asked_for_data: "hello\r\n.",
    }
    async with front_end(next_hop=hop.url) as mx, mx.client() as client:
        await step(client)
        if step is greeted:
            await client.ask("EHLO client.example.com")
        mx.store.trouble = RuntimeError(SECRET)
        reply = await client.ask(following[step])  # type: ignore[index] # a function is a key like any other
        assert str(reply) == "451 4.3.0 Temporary local problem, please try again later"
        assert mx.metric("reputon_smtp_errors_total") >= 1
        assert any(SECRET in str(record.exc_info) for record in mx.log.traces)
        assert not any("store down" in line for line in mx.log.lines)
        mx.store.trouble = None
        assert (await client.ask("NOOP")).code == 250
        await client.ask("RSET")
        await client.transaction("bob@example.net")
        assert (await client.message()).code == 250
        assert len(hop.messages) == 1


async def test_an_error_of_ours_before_the_greeting_is_421(mx: FrontEnd) -> None:
    """There is no other 4xx to greet with (RFC 5321 section 4.3.2)."""
    mx.store.trouble = RuntimeError(SECRET)
    async with mx.client() as client:
        assert str(await client.greeting()) == "421 4.3.0 Temporary local problem, please try again later"
        assert await client.closed()
    await mx.nobody_left()
    mx.store.trouble = None
    assert any(SECRET in str(record.exc_info) for record in mx.log.traces)
    mx.log.records.clear()
    await serves(mx)


async def test_an_error_of_ours_at_the_very_end_leaves_no_connection_open(mx: FrontEnd, hop: ScriptedHop) -> None:
    async with mx.client() as client:
        await client.begin("bob@example.net")
        mx.store.trouble = RuntimeError(SECRET)
        await client.hang_up()
    await mx.nobody_left()
    async with asyncio.timeout(10):
        await hop.sessions[0].ended.wait()
    mx.log.records.clear()


async def test_an_error_of_ours_after_the_delivery_does_not_unsay_it(mx: FrontEnd, hop: ScriptedHop) -> None:
    """The message is delivered: 451 now would double it."""
    hop.script["end"] = HANG
    async with mx.client() as client:
        await asked_for_data(client)
        await client.send(b"hello\r\n.\r\n")
        await until(lambda: bool(hop.received), "the message is on its way")
        mx.store.trouble = RuntimeError(SECRET)
        hop.sessions[0].say(b"250 2.0.0 Queued\r\n")
        assert (await client.reply()).code == 250
        assert (await client.ask("QUIT")).code == 221


# Limits of ours


async def test_more_sessions_than_allowed_are_told_421(hop: ScriptedHop) -> None:
    async with front_end("[smtp]\nmax_sessions = 2", next_hop=hop.url) as mx:
        async with mx.client() as one, mx.client() as two:
            await one.greeting()
            await two.greeting()
            async with mx.client() as third:
                assert str(await third.greeting()) == "421 4.3.2 Too many sessions, please try again later"
                assert await third.closed()
            assert mx.metric("reputon_smtp_sessions") == 2
        await mx.nobody_left()
        assert mx.metric("reputon_smtp_sessions") == 0
        await serves(mx)


TARPIT = """
[smtp]
max_sleepers = 2
drain_seconds = 0.3

[[rule]]
name = "slow"
stage = "helo"
key = ["ip"]
count = "connections"
limits = ["1/1h"]
action = "tarpit"
delay_seconds = 30
"""


@asynccontextmanager
async def two_sleepers(mx: FrontEnd) -> AsyncIterator[list[Client]]:
    """The first HELO is free; those of these two clients are held."""
    async with mx.client() as first, mx.client() as one, mx.client() as two:
        await first.greeting()
        assert (await first.ask("HELO client.example.com")).code == 250
        for client in (one, two):
            await client.greeting()
            await client.say("HELO client.example.com")
        await until(lambda: mx.metric("reputon_smtp_sleepers") == 2, "two sleep")
        yield [one, two]


async def test_a_tarpit_has_room_for_so_many_and_the_others_pass_at_once(hop: ScriptedHop) -> None:
    async with front_end(TARPIT, next_hop=hop.url) as mx, two_sleepers(mx) as sleepers, mx.client() as third:
        await third.greeting()
        assert (await third.ask("HELO client.example.com")).code == 250
        assert mx.metric("reputon_smtp_sleepers_refused_total") == 1
        assert mx.metric("reputon_smtp_sleepers") == 2
        sleepers[0].reset()
        await until(lambda: mx.metric("reputon_smtp_sleepers") == 1, "one place is free, its client has left")


async def test_a_throttle_that_has_no_place_to_sleep_is_a_tempfail(hop: ScriptedHop) -> None:
    config = LIMIT.replace("tempfail", "throttle").replace("1/1h", "1/10s") + "[smtp]\nmax_sleepers = 0"
    async with front_end(config, next_hop=hop.url) as mx, mx.client() as client:
        await client.begin("bob@example.net")
        await client.message()
        assert (await client.ask("MAIL FROM:<alice@example.com>")).code == 451


# The end


async def test_the_drain_tells_idle_clients_and_turns_away_new_ones(mx: FrontEnd) -> None:
    async with mx.client() as idle, mx.client() as silent:
        await introduced(idle)
        await silent.greeting()
        closing = asyncio.create_task(mx.server.close())
        for client in (idle, silent):
            assert str(await client.reply()) == "421 4.3.2 Service is closing, please try again"
            assert await client.closed()
        await closing
        with pytest.raises(ConnectionRefusedError):
            async with mx.client():
                pass
    no_traces(mx)


async def test_the_drain_lets_an_open_transaction_finish(hop: ScriptedHop) -> None:
    async with front_end(LIMIT, next_hop=hop.url) as mx, mx.client() as client:
        await client.begin("bob@example.net")
        closing = asyncio.create_task(mx.server.close())
        await until(lambda: mx.server.draining, "the drain has begun")
        assert (await client.ask("RCPT TO:<carol@example.net>")).code == 250
        assert (await client.message()).code == 250
        assert (await client.reply()).code == 421
        assert await client.closed()
        await closing
        assert hop.messages[0].recipients == ("bob@example.net", "carol@example.net")
        assert await mx.counted(ALICE) == 1


async def test_the_drain_does_not_wait_for_ever_for_an_open_transaction(hop: ScriptedHop) -> None:
    async with front_end(HASTY.replace("command_timeout_seconds = 0.3", "") + LIMIT, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.begin("bob@example.net")
            async with asyncio.timeout(10):
                await mx.server.close()
            assert (await client.reply()).code == 421
            assert await client.closed()
        assert hop.received == []
        assert await mx.counted(ALICE) == 0
        no_traces(mx)


async def test_the_drain_ends_a_tarpit(hop: ScriptedHop) -> None:
    async with front_end(TARPIT, next_hop=hop.url) as mx:
        async with two_sleepers(mx) as sleepers:
            async with asyncio.timeout(10):
                await mx.server.close()
            for client in sleepers:
                assert (await client.reply()).code == 421
                assert await client.closed()
        no_traces(mx)


async def test_a_delivery_under_way_is_told_to_the_client_even_after_the_drain(hop: ScriptedHop) -> None:
    """It may be delivered at any moment. A client that does not hear of it sends the message again."""
    hop.script["end"] = HANG
    config = "[smtp]\ndrain_seconds = 0.1\n" + LIMIT
    async with front_end(config, next_hop=hop.url) as mx, mx.client() as client:
        await asked_for_data(client)
        await client.send(b"hello\r\n.\r\n")
        await until(lambda: bool(hop.received), "the message is on its way")
        closing = asyncio.create_task(mx.server.close())
        await asyncio.wait({closing}, timeout=0.3)  # longer than the drain
        assert not closing.done()
        hop.sessions[0].say(b"250 2.0.0 Queued\r\n")
        assert (await client.reply()).code == 250
        assert (await client.reply()).code == 421
        assert await client.closed()
        await closing
        assert await mx.counted(ALICE) == 1
        no_traces(mx)


# A next hop that breaks its contract


class BrokenHop:
    """Raises where it must not."""

    max_recipients: int | None = None

    def connect(self) -> Connection:
        return BrokenConnection()


class BrokenConnection:
    async def mail(self, sender: str, options: MailOptions = NO_OPTIONS) -> Reply:
        return Reply(250, "OK")

    async def begin(self, sender: str, options: MailOptions, recipient: str) -> tuple[Reply, Reply]:
        return await self.mail(sender, options), await self.rcpt(recipient)

    async def rcpt(self, recipient: str) -> Reply:
        return Reply(250, "OK")

    async def data(self, parts: Iterable[Part]) -> Reply:
        raise RuntimeError(SECRET)

    async def reset(self) -> None:
        raise RuntimeError(SECRET)

    async def close(self) -> None:
        raise RuntimeError(SECRET)


async def test_an_error_in_the_next_hop_is_451_too() -> None:
    hop: NextHop = BrokenHop()
    async with front_end(LIMIT, next_hop=hop) as mx:
        async with mx.client() as client:
            await client.begin("bob@example.net")
            reply = await client.message()
            assert str(reply) == "451 4.3.0 Temporary local problem, please try again later"
            assert (await client.ask("NOOP")).code == 250
        await mx.nobody_left()
        assert await mx.counted(ALICE) == 0


def test_the_next_hop_that_the_tests_use_is_opened_as_the_program_does(hop: ScriptedHop) -> None:
    assert open_next_hop(hop.url, hostname=HOSTNAME, timeout_seconds=1).max_recipients is None
