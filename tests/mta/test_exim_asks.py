"""A real Exim with the ACLs of `deploy/mta/exim/acl.conf` asks the policy service."""

import asyncio
import smtplib
from collections.abc import Callable
from typing import TypeVar

import pytest

from reputation.errors import StoreUnavailable
from reputation.keys import Metric
from tests.mta.exim_for_tests import Exim, exim
from tests.policy_service.asking import MESSAGE, RULES, Asked, policy_service
from tests.servers import free_port

T = TypeVar("T")


def at(service: Asked) -> str:
    """How Exim is told where the service is."""
    return f"inet:127.0.0.1:{service.socket.getsockname()[1]}"


async def with_exim(asked: str, work: Callable[[Exim], T], away: str = "action=DUNNO") -> T:
    """Let an Exim that asks `asked` run in a thread, while the service answers in this one."""

    def run() -> T:
        with exim(asked, away) as server:
            return work(server)

    return await asyncio.to_thread(run)


def send(server: Exim, sender: str, recipients: list[str], message: str = MESSAGE) -> tuple[int, str]:
    """(code, text) of what the first recipient, or else the message, was answered."""
    with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
        try:
            smtp.sendmail(sender, recipients, message)
        except smtplib.SMTPRecipientsRefused as refused:
            code, words = refused.recipients[recipients[0]]
            return code, words.decode()
        except smtplib.SMTPDataError as refused:
            text = refused.smtp_error
            return refused.smtp_code, text.decode() if isinstance(text, bytes) else text
    return 250, ""


async def test_the_31st_message_is_deferred_with_our_reason() -> None:
    def work(server: Exim) -> list[tuple[int, str]]:
        answers = [send(server, "alice@example.com", ["bob@example.net", "carol@example.net"]) for _ in range(31)]
        server.wait_for_log("Completed", 30)
        server.wait_for_log("temporarily rejected RCPT <bob@example.net>: 451 4.7.1 Slow down", 1)
        return answers

    async with policy_service(RULES) as service:
        answers = await with_exim(at(service), work)
        assert answers[:30] == [(250, "")] * 30
        assert answers[30] == (451, "4.7.1 Slow down, sender:alice@example.com")
        assert await service.counted("sender:alice@example.com") == 30
        assert await service.counted("sender:alice@example.com", Metric.RECIPIENTS) == 60
        assert await service.counted("ip:127.0.0.1", Metric.CONNECTIONS) == 31, "each session once"


async def test_one_session_is_one_connection_and_a_message_that_is_not_sent_costs_nothing() -> None:
    def work(server: Exim) -> None:
        with smtplib.SMTP("127.0.0.1", server.port, timeout=20) as smtp:
            smtp.sendmail("alice@example.com", ["bob@example.net"], MESSAGE)
            smtp.mail("alice@example.com")
            assert smtp.rcpt("bob@example.net")[0] == 250
            smtp.rset()
            smtp.sendmail("alice@example.com", ["bob@example.net"], MESSAGE)

    async with policy_service(RULES) as service:
        await with_exim(at(service), work)
        assert await service.counted("ip:127.0.0.1", Metric.CONNECTIONS) == 1
        assert await service.counted("sender:alice@example.com") == 2
        assert await service.counted("recipient:bob@example.net") == 2


@pytest.mark.parametrize(
    ("sender", "answer", "logged"),
    [
        ("bad@example.com", (550, "5.7.1 Not from you"), "rejected RCPT <bob@example.net>: 550 5.7.1 Not from you"),
        ("junk@example.com", (250, ""), "=> blackhole (RCPT ACL discarded recipients)"),
        ("odd@example.com", (250, ""), "tagged: tag reason=matched"),
    ],
)
async def test_exim_does_what_the_rule_says(sender: str, answer: tuple[int, str], logged: str) -> None:
    def work(server: Exim) -> tuple[int, str]:
        given = send(server, sender, ["bob@example.net"])
        server.wait_for_log(logged, 1)
        return given

    async with policy_service(RULES) as service:
        assert await with_exim(at(service), work) == answer


async def test_a_size_is_known_at_the_end_of_the_message() -> None:
    def work(server: Exim) -> tuple[int, str]:
        assert send(server, "big@example.com", ["bob@example.net", "carol@example.net"]) == (250, "")
        return send(server, "big@example.com", ["bob@example.net", "carol@example.net"], "x\n\n" + "x" * 3_000)

    async with policy_service(RULES) as service:
        assert await with_exim(at(service), work) == (451, "4.7.1 Too much of it")
        assert await service.counted("sender:big@example.com") == 1, "what was deferred was given back"


async def test_mail_flows_while_the_service_is_away() -> None:
    def work(server: Exim) -> tuple[int, str]:
        answer = send(server, "alice@example.com", ["bob@example.net"])
        server.wait_for_log("Completed", 1)
        return answer

    assert await with_exim(f"inet:127.0.0.1:{free_port()}", work) == (250, "")


async def test_mail_waits_while_the_service_is_away_where_that_is_wanted() -> None:
    def work(server: Exim) -> tuple[int, str]:
        return send(server, "alice@example.com", ["bob@example.net"])

    away = "action=451 4.3.0 Come again"
    assert await with_exim(f"inet:127.0.0.1:{free_port()}", work, away) == (451, "4.3.0 Come again")


async def test_mail_flows_while_the_store_is_away() -> None:
    def work(server: Exim) -> tuple[int, str]:
        return send(server, "alice@example.com", ["bob@example.net"])

    async with policy_service(RULES) as service:
        service.store.trouble = StoreUnavailable("taken away by the test")
        assert await with_exim(at(service), work) == (250, "")
