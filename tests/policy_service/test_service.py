"""The service over loopback: what it answers, what it counts, and that it answers whatever happens."""

import asyncio
import socket
import struct
import time
from pathlib import Path

import pytest

from reputation.errors import StoreUnavailable
from reputation.events import Event
from reputation.keys import Metric
from reputation.verdict import Verdict
from smtp_frontend.policy_service.connection import FULL_BYTES, READ_BYTES
from smtp_frontend.rehearsal.expectations import until
from tests.policy_service.asking import Asked, policy_service, question

BOB, CAROL = "bob@example.net", "carol@example.net"
SENDER_RATE = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["2/1h"]
action = "tempfail"
reply = "Slow down"
"""


def rule(stage: str, action: str, *, when: str = "true", more: str = "") -> str:
    return f'[[rule]]\nname = "{stage}-{action}"\nstage = "{stage}"\nwhen = \'{when}\'\naction = "{action}"\n{more}\n'


async def test_a_limit_holds_and_what_is_deferred_costs_nothing() -> None:
    async with policy_service(SENDER_RATE) as service, service.line() as line:
        assert await line.message(BOB, CAROL) == ["DUNNO"] * 3
        assert await line.message(BOB) == ["DUNNO"] * 2
        assert await line.message(BOB, CAROL) == ["DEFER_IF_PERMIT 4.7.1 Slow down"] * 2
        assert await service.counted("sender:alice@example.com") == 2
        assert await service.counted("sender:alice@example.com", Metric.RECIPIENTS) == 3
        assert await service.counted("sender:alice@example.com", Metric.BYTES) == 2_000
        assert await service.counted("ip:192.0.2.7", Metric.CONNECTIONS) == 1
        assert service.metric("reputon_smtp_messages_total", result="passed") == 2


async def test_asked_twice_it_counts_once() -> None:
    async with policy_service(SENDER_RATE) as service, service.line() as line:
        for _ in range(3):
            assert await line.ask() == "DUNNO"
        async with service.line(process=line.process) as again:
            assert await again.ask() == "DUNNO"
        for _ in range(2):
            assert await line.ask("END-OF-MESSAGE", recipient=BOB, recipient_count=1, size=7) == "DUNNO"
        assert await service.counted("sender:alice@example.com") == 1
        assert await service.counted("recipient:bob@example.net") == 1
        assert await service.counted("sender:alice@example.com", Metric.BYTES) == 7


async def test_asked_twice_it_counts_once_even_where_nobody_remembers() -> None:
    async with policy_service(SENDER_RATE) as service, service.line() as line:
        await line.ask()
        service.service._visits._visits.clear()  # a restart in between
        async with service.line(process=line.process) as again:
            assert await again.ask() == "DUNNO"
            assert await again.ask(recipient=CAROL) == "DUNNO"
        assert await service.counted("sender:alice@example.com") == 1
        assert await service.counted("sender:alice@example.com", Metric.RECIPIENTS) == 2


async def test_what_comes_to_nothing_is_given_back() -> None:
    async with policy_service(SENDER_RATE) as service, service.line() as line:
        await line.message(BOB)
        for _ in range(5):
            assert await line.ask(recipient=CAROL) == "DUNNO"
            line.next_message()  # RSET
        assert await service.counted("recipient:carol@example.net") == 1, "the last one may still come"
        line.next_session()
        await line.ask("EHLO", instance="")
        await line.ask(recipient=CAROL, sender="else@example.com")
        assert await service.counted("sender:alice@example.com") == 1
        assert await service.counted("recipient:carol@example.net") == 1


async def test_who_is_silent_is_over() -> None:
    async with policy_service(SENDER_RATE) as service, service.line() as line:
        await line.message(BOB)
        await line.ask()
        assert await service.counted("sender:alice@example.com") == 2
        await service.service._swept(asyncio.get_running_loop().time() + 2_000)
        assert await service.counted("sender:alice@example.com") == 1
        assert await line.is_closed(), "and so is a connection on which nobody asks"


async def test_a_message_that_is_refused_at_its_end_is_given_back() -> None:
    size = """
[[rule]]
name = "size"
stage = "data"
key = ["sender"]
count = "bytes"
limits = ["1000/1h"]
action = "reject"
reply = "550 5.7.1 Too big"
"""
    async with policy_service(size) as service, service.line() as line:
        assert await line.message(BOB, CAROL, size=1_001) == ["DUNNO", "DUNNO", "550 5.7.1 Too big"]
        assert await service.counted("sender:alice@example.com") == 0
        assert await service.counted("sender:alice@example.com", Metric.RECIPIENTS) == 0
        assert service.metric("reputon_smtp_messages_total", result="refused") == 1
        [told] = [each for each in service.log.lines if each.startswith("message ")]
        assert "result=refused" in told and 'reply="550 5.7.1 Too big"' in told


async def test_a_recipient_that_the_server_refused_after_us_is_given_back_where_that_can_be_told() -> None:
    async with policy_service() as service, service.line() as line:
        await line.ask(recipient=BOB)
        await line.ask(recipient=CAROL)
        await line.ask("END-OF-MESSAGE", recipient=CAROL, recipient_count=1, size=5)
        assert await service.counted("recipient:bob@example.net") == 0
        assert await service.counted("recipient:carol@example.net") == 1


# What is answered


async def test_a_refusal_at_connect_is_that_of_the_whole_session() -> None:
    async with policy_service(rule("connect", "reject")) as service, service.line() as line:
        refusal = await line.ask()
        assert refusal.startswith("554 5.7.1 ")
        line.next_message()
        assert await line.ask(recipient=CAROL) == refusal
        assert service.metric("reputon_verdicts_total", stage="connect", action="reject", reason="matched") == 1
        assert service.metric("reputon_verdicts_total", stage="mail", action="accept", reason="no-rule") == 0


async def test_a_refusal_of_the_sender_is_that_of_all_recipients() -> None:
    bad = rule("mail", "reject", when='sender == "alice@example.com"')
    async with policy_service(bad) as service, service.line() as line:
        assert {await line.ask(), await line.ask(recipient=CAROL)} == {
            "550 5.7.1 Refused by policy (matched, mail-reject)"
        }
        line.next_message()
        line.sender = "other@example.com"
        assert await line.ask() == "DUNNO"
        assert await service.counted("recipient:carol@example.net") == 0


async def test_tags_are_told_once_and_of_all_stages() -> None:
    rules = rule("connect", "tag") + rule(
        "rcpt", "tag", when='recipient == "carol@example.net"', more='service = "bulk"'
    )
    async with policy_service(rules) as service, service.line() as line:
        first = await line.ask()
        assert first.startswith("PREPEND X-Reputon: tag reason=matched tags=connect-tag id=")
        assert await line.ask() == "DUNNO", "the same question again"
        second = await line.ask(recipient=CAROL)
        assert "tags=connect-tag,rcpt-tag service=bulk id=" in second
        assert await line.ask(recipient="dave@example.net") == "DUNNO"
        assert await line.ask("END-OF-MESSAGE", recipient_count=3) == "DUNNO"
        line.next_message()
        assert "tags=connect-tag id=" in await line.ask()


async def test_a_tag_at_the_end_of_the_message_cannot_be_told() -> None:
    async with policy_service(rule("data", "tag")) as service, service.line() as line:
        assert await line.message(BOB) == ["DUNNO", "DUNNO"]
        assert any("action=tag" in each for each in service.log.lines)
    async with policy_service(rule("data", "tag")) as service, service.line() as line:
        await line.ask()
        assert (await line.ask("DATA", recipient=BOB)).startswith("PREPEND X-Reputon: tag")


async def test_no_field_where_none_is_wanted() -> None:
    async with (
        policy_service("[policy_service]\nprepend = false\n" + rule("rcpt", "tag")) as service,
        service.line() as line,
    ):
        assert await line.ask() == "DUNNO"


async def test_a_discarded_message_is_given_back() -> None:
    async with policy_service(rule("rcpt", "discard")) as service, service.line() as line:
        assert (await line.message(BOB, CAROL))[:2] == ["DUNNO", "DUNNO"]
        assert service.metric("reputon_policy_answers_total", answer="discard") == 1
        assert await service.counted("sender:alice@example.com") == 0
    async with policy_service(rule("mail", "discard")) as service, service.line() as line:
        assert (await line.ask()).startswith("DISCARD ")
        assert await service.counted("recipient:bob@example.net") == 0


async def test_what_is_not_known_is_passed_over() -> None:
    async with policy_service(rule("connect", "reject")) as service, service.line() as line:
        assert await line.ask("XYZZY", new_attribute="1") == "DUNNO"
        assert await line.ask(client_address="unknown") == "DUNNO"
    closed = '[policy_service]\non_trouble = "DEFER_IF_PERMIT"\n'
    async with policy_service(closed) as service, service.line() as line:
        assert (await line.ask(client_address="unknown")).startswith("DEFER_IF_PERMIT 4.3.0 ")


async def test_the_queue_id_is_in_the_log() -> None:
    async with policy_service() as service, service.line() as line:
        await line.ask(queue_id="4F1234")
        await line.ask("END-OF-MESSAGE", recipient=BOB, recipient_count=1, queue_id="4F1234")
        assert [each.split()[1] for each in service.log.lines if "queue=4F1234" in each] == [
            *["stage=connect", "stage=helo", "stage=mail", "stage=rcpt", "stage=data", "result=passed"]
        ]


# Holding back


async def test_a_tarpit_holds_the_answer_back_within_the_deadline() -> None:
    rules = "[policy_service]\ndeadline_seconds = 0.5\n" + rule("rcpt", "tarpit", more="delay_seconds = 60")
    async with policy_service(rules) as service, service.line() as line:
        begun = time.monotonic()
        assert await line.ask() == "DUNNO"
        assert 0.35 <= time.monotonic() - begun < 5
        assert service.service._late == 0


async def test_a_throttle_waits_for_room_and_is_a_tempfail_when_there_is_none_in_time() -> None:
    def throttle(limit: str) -> str:
        return (
            f'[[rule]]\nname = "t"\nstage = "rcpt"\nkey = ["sender"]\ncount = "recipients"\nlimits = ["{limit}"]\n'
            'action = "throttle"\nreply = "Wait"\n'
        )

    async with policy_service(throttle("1/1s"), instant=True) as service, service.line() as line:
        assert [await line.ask(), await line.ask(recipient=CAROL)] == ["DUNNO", "DUNNO"]
        assert any("held=" in each for each in service.log.lines)
    async with policy_service(throttle("1/1h"), instant=True) as service, service.line() as line:
        assert [await line.ask(), await line.ask(recipient=CAROL)] == ["DUNNO", "DEFER_IF_PERMIT 4.7.1 Wait"]


async def test_who_is_held_back_holds_up_nobody_else_and_is_bounded() -> None:
    rules = rule("rcpt", "tarpit", when='sender == "slow@example.com"', more="delay_seconds = 60")
    async with policy_service(rules, max_sleepers=1) as service, service.line() as slow, service.line() as other:
        slow.send(sender="slow@example.com")
        await until(lambda: service.metric("reputon_smtp_sleepers") == 1, "it is held back")
        assert await other.ask() == "DUNNO"
        other.next_message()
        assert await other.ask(sender="slow@example.com") == "DUNNO", "there is no more room to hold anybody back"
        # With a reset: who has only said all that it has to say still waits for its answer.
        slow.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        slow.writer.transport.abort()
        await until(lambda: service.metric("reputon_smtp_sleepers") == 0, "it has gone")
        assert service.metric("reputon_policy_connections") == 1


# Trouble


class Stuck:
    """Takes the place of `Engine.judge`, and never comes back."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, event: Event) -> Verdict:
        self.asked += 1
        await asyncio.Event().wait()
        raise AssertionError


@pytest.mark.parametrize(("on_trouble", "word"), [("DUNNO", "DUNNO"), ("DEFER_IF_PERMIT", "DEFER_IF_PERMIT 4.3.0 ")])
async def test_an_answer_comes_in_time_whatever_happens(
    on_trouble: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules = f'[policy_service]\ndeadline_seconds = 0.05\non_trouble = "{on_trouble}"\n'
    async with policy_service(rules) as service, service.line() as line:
        monkeypatch.setattr(service.engine, "judge", Stuck())
        begun = time.monotonic()
        assert (await line.ask()).startswith(word)
        assert time.monotonic() - begun < 2
        await service.service._swept(0.0)
        assert "1 answers were not ready in time, 0 connections too many were closed" in service.log.lines
        monkeypatch.undo()
        assert await line.ask() == "DUNNO", "nothing is remembered of it"


async def test_an_error_of_ours_is_answered_and_logged() -> None:
    async def broken(event: Event) -> Verdict:
        raise ZeroDivisionError

    async with policy_service() as service, service.line() as line:
        judge = service.engine.judge
        service.engine.judge = broken  # type: ignore[method-assign, assignment] # breaks what cannot be broken otherwise
        assert await line.ask() == "DUNNO"
        service.engine.judge = judge  # type: ignore[method-assign] # as before
        assert await line.ask() == "DUNNO"
        assert service.metric("reputon_smtp_errors_total") == 1
        assert len(service.log.traces) == 1
        service.log.records.clear()


async def test_while_the_store_is_away_the_rules_say_what_happens() -> None:
    closed = SENDER_RATE.replace('reply = "Slow down"', 'on_store_failure = "tempfail"')
    for rules, action in ((SENDER_RATE, "DUNNO"), (closed, "DEFER_IF_PERMIT 4.3.0 ")):
        async with policy_service(rules) as service, service.line() as line:
            service.store.trouble = StoreUnavailable("taken away by the test")
            assert (await line.ask()).startswith(action)


@pytest.mark.parametrize(
    "octets", [b"\n\n", b"GET / HTTP/1.1\r\n\r\n\n\n", b"request=other\n\n", question(sender="a\0b"), b"x" * 20_000]
)
async def test_what_is_no_question_ends_the_connection_with_a_line_in_the_log(octets: bytes) -> None:
    async with policy_service() as service, service.line() as line:
        line.send()
        line.writer.write(octets)
        assert await line.answer() == "DUNNO", "what was asked before is answered"
        assert await line.is_closed()
        await until(lambda: not service.service.connections, "the connection is forgotten")
        [told] = [each for each in service.log.lines if "is closed: it sent" in each]
        assert told.startswith("connection of 127.0.0.1 is closed: it sent ")
        assert service.metric("reputon_policy_answers_total", answer="broken") == 1


# Connections


async def test_thousands_of_questions_on_one_connection_in_order() -> None:
    async with policy_service() as service, service.line() as line:
        for number in range(3_000):
            line.send(recipient=f"r{number % 50}@example.net", client_address="x" if number % 3 else line.client)
            if number % 50 == 49:
                line.next_message()
        assert {await line.answer() for _ in range(3_000)} == {"DUNNO"}
        assert service.metric("reputon_policy_answers_total", answer="dunno") == 3_000


async def test_answers_come_in_the_order_of_questions() -> None:
    rules = rule("rcpt", "reject", when='recipient == "bad@example.net"') + rule(
        "rcpt", "tarpit", when='recipient == "slow@example.net"', more="delay_seconds = 0.05"
    )
    async with policy_service(rules) as service, service.line() as line:
        for recipient in ("slow@example.net", "bad@example.net", BOB, "bad@example.net"):
            line.send(recipient=recipient)
        found = [(await line.answer())[:3] for _ in range(4)]
        assert found == ["DUN", "550", "DUN", "550"]


async def test_hundreds_of_connections() -> None:
    async def ask(service: Asked) -> set[str]:
        async with service.line() as line:
            return {action for _ in range(5) for action in await line.message(BOB)}

    async with policy_service() as service:
        answers = await asyncio.gather(*(ask(service) for _ in range(300)))
        assert set().union(*answers) == {"DUNNO"}
        assert await service.counted("sender:alice@example.com") == 1_500
        await until(lambda: not service.service.connections, "all connections are forgotten")
        assert service.metric("reputon_policy_connections") == 0


async def test_one_connection_too_many_is_closed_at_once() -> None:
    async with policy_service("[policy_service]\nmax_connections = 2\n") as service:
        async with service.line() as first, service.line() as second, service.line() as third:
            assert await first.ask() == "DUNNO"
            assert await second.ask() == "DUNNO"
            assert await third.is_closed()
        await until(lambda: not service.service.connections, "they have gone")
        async with service.line() as again:
            assert await again.ask() == "DUNNO"


async def test_who_has_said_all_is_still_answered() -> None:
    async with policy_service() as service, service.line() as line:
        line.send()
        line.send(recipient=CAROL)
        line.writer.write_eof()
        assert [await line.answer(), await line.answer()] == ["DUNNO", "DUNNO"]
        assert await line.is_closed()


async def test_on_a_unix_socket(tmp_path: Path) -> None:
    async with policy_service(SENDER_RATE, unix=tmp_path / "policy") as service, service.line() as line:
        assert await line.message(BOB) == ["DUNNO", "DUNNO"]


# The end


async def test_the_drain_answers_what_is_asked_and_ends_the_rest() -> None:
    rules = rule("rcpt", "tarpit", when='sender == "slow@example.com"', more="delay_seconds = 60")
    async with policy_service(rules) as service, service.line() as slow, service.line() as idle:
        address = service.socket.getsockname()
        assert await idle.ask() == "DUNNO"
        slow.send(sender="slow@example.com")
        await until(lambda: service.metric("reputon_smtp_sleepers") == 1, "it is held back")
        async with asyncio.timeout(10):
            await service.service.close(5)
        assert await slow.answer() == "DUNNO"
        assert await slow.is_closed() and await idle.is_closed()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*address)


async def test_the_drain_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    async with policy_service("[policy_service]\ndeadline_seconds = 60\n") as service, service.line() as line:
        stuck = Stuck()
        monkeypatch.setattr(service.engine, "judge", stuck)
        line.send()
        await until(lambda: stuck.asked == 1, "it is asked")
        async with asyncio.timeout(10):
            await service.service.close(0.05)
        assert await line.is_closed()


async def test_a_server_that_does_not_read_its_answers_is_asked_no_more(tmp_path: Path) -> None:
    many = 60_000  # answers of which neither the kernel nor asyncio keeps as much
    async with policy_service(unix=tmp_path / "policy") as service, service.line() as line:
        line.writer.write(question(protocol_state="VRFY", client_address="192.0.2.7") * many)
        await until(lambda: bool(service.service.connections), "it is connected")
        (connection,) = service.service.connections
        await until(lambda: connection._may_write is not None, "it waits for the other side")
        assert service.metric("reputon_policy_answers_total", answer="dunno") < many
        assert len(connection._decoder) <= FULL_BYTES + READ_BYTES
        assert {await line.answer() for _ in range(many)} == {"DUNNO"}
