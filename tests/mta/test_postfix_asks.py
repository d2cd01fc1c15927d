"""A real Postfix with the lines of `deploy/mta/postfix/main.cf` asks the policy service."""

import asyncio
import re
import smtplib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from reputation.errors import StoreUnavailable
from reputation.keys import Metric
from tests.mta.postfix_for_tests import Postfix, postfix
from tests.policy_service.asking import MESSAGE, RULES, Asked, policy_service
from tests.servers import free_port, require_binary

SNIPPET = Path(__file__).resolve().parents[2] / "deploy" / "mta" / "postfix" / "main.cf"
ASKED = "inet:127.0.0.1:10040"
OF_POSTFIX = """
[[rule]]
name = "thrown-away-by-one"
stage = "rcpt"
when = 'sender == "half@example.com" && recipient == "carol@example.net"'
action = "discard"

[[rule]]
name = "hung-up-on"
stage = "connect"
when = 'ip == "198.51.100.66"'
action = "tempfail"
"""

TELL_FIELD = "header_checks = regexp:{ {/^X-Reputon: .*/ WARN} }"
"""Postfix logs what has come into the message."""

T = TypeVar("T")


def at(service: Asked) -> str:
    """How Postfix is told where the service is."""
    if isinstance(address := service.socket.getsockname(), str):
        return f"unix:{address}"
    return f"inet:127.0.0.1:{address[1]}"


async def with_postfix(asked: str, work: Callable[[Postfix], T], more: str = "") -> T:
    """Let a Postfix that asks `asked` run in a thread, while the service answers in this one."""

    def run() -> T:
        with postfix() as server:
            etc = server.log.parent / "etc"
            snippet = SNIPPET.read_text()
            assert ASKED in snippet
            with (etc / "main.cf").open("a") as main:
                main.write("\n".join(("", _without(more, snippet.replace(ASKED, asked)), more, "")))
            command = [require_binary("postfix", "postfix"), "-c", str(etc), "reload"]
            subprocess.run(command, check=True, capture_output=True, timeout=30)
            server.wait_for_log("reload -- version", 1)
            return work(server)

    return await asyncio.to_thread(run)


def _without(more: str, snippet: str) -> str:
    """The snippet without the settings that `more` has: Postfix hangs while it complains of doubled ones."""
    names = "|".join(line.partition(" =")[0] for line in more.splitlines())
    return re.sub(rf"^(?:{names}) =.*\n(?:[ \t].*\n)*", "", snippet, flags=re.MULTILINE) if names else snippet


def send(
    server: Postfix, sender: str, recipients: list[str], message: str = MESSAGE, *, client: str = "192.0.2.7"
) -> tuple[int, str]:
    """(code, text) of what the first recipient, or else the message, was answered; in a session of its own."""
    with server.client(client) as smtp:
        return say(smtp, sender, recipients, message)


def say(smtp: smtplib.SMTP, sender: str, recipients: list[str], message: str = MESSAGE) -> tuple[int, str]:
    """The same in a session."""
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
    def work(server: Postfix) -> list[tuple[int, str]]:
        answers = [send(server, "alice@example.com", ["bob@example.net", "carol@example.net"]) for _ in range(31)]
        server.wait_for_log(": removed", 30)
        server.wait_for_log("450 4.7.1 <bob@example.net>: Recipient address rejected: Slow down, sender:alice", 1)
        return answers

    async with policy_service(RULES + OF_POSTFIX) as service:
        answers = await with_postfix(at(service), work)
        assert answers[:30] == [(250, "")] * 30
        text = "4.7.1 <bob@example.net>: Recipient address rejected: Slow down, sender:alice@example.com"
        assert answers[30] == (450, text)
        assert await service.counted("sender:alice@example.com") == 30
        assert await service.counted("sender:alice@example.com", Metric.RECIPIENTS) == 60
        assert await service.counted("ip:192.0.2.7", Metric.CONNECTIONS) == 31, "each session once"


async def test_one_session_is_one_connection_and_a_message_that_is_not_sent_costs_nothing() -> None:
    def work(server: Postfix) -> None:
        with server.client("192.0.2.7", user="alice") as smtp:
            smtp.sendmail("alice@example.com", ["bob@example.net"], MESSAGE)
            smtp.mail("alice@example.com")
            assert smtp.rcpt("bob@example.net")[0] == 250
            smtp.rset()
            smtp.sendmail("alice@example.com", ["bob@example.net"], MESSAGE)

    async with policy_service(RULES + OF_POSTFIX) as service:
        await with_postfix(at(service), work)
        assert await service.counted("ip:192.0.2.7", Metric.CONNECTIONS) == 1
        assert await service.counted("user:alice") == 2
        assert await service.counted("recipient:bob@example.net") == 2
        assert service.service.connections == set()


async def test_on_a_unix_socket(tmp_path: Path) -> None:
    for directory in (tmp_path, *tmp_path.parents[:-2]):
        directory.chmod(directory.stat().st_mode | 0o111)  # Postfix' daemons are another user
    async with policy_service(RULES + OF_POSTFIX, unix=tmp_path / "policy") as service:
        (tmp_path / "policy").chmod(0o666)
        answer = await with_postfix(at(service), lambda server: send(server, "bad@example.com", ["bob@example.net"]))
        assert answer == (550, "5.7.1 <bob@example.net>: Recipient address rejected: Not from you")


BOB, CAROL = "bob@example.net", "carol@example.net"


@pytest.mark.parametrize(
    ("sender", "recipients", "answer", "logged"),
    [
        ("bad@example.com", [BOB], (550, f"5.7.1 <{BOB}>: Recipient address rejected: Not from you"), "Not from you"),
        ("junk@example.com", [BOB, CAROL], (250, ""), "Recipient address triggers DISCARD by policy"),
        ("half@example.com", [CAROL], (250, ""), "End-of-data triggers DISCARD by policy"),
        ("half@example.com", [BOB, CAROL], (250, ""), f"to=<{CAROL}>, relay=none"),
        ("odd@example.com", [BOB], (250, ""), "warning: header X-Reputon: tag reason=matched tags=noted id="),
        ("alice@example.com", [BOB], (250, ""), ": removed"),
    ],
)
async def test_postfix_does_what_the_rule_says(
    sender: str, recipients: list[str], answer: tuple[int, str], logged: str
) -> None:
    def work(server: Postfix) -> tuple[int, str]:
        given = send(server, sender, recipients)
        server.wait_for_log(logged, 1)
        return given

    async with policy_service(RULES + OF_POSTFIX) as service:
        assert await with_postfix(at(service), work, TELL_FIELD) == answer


async def test_after_421_postfix_hangs_up() -> None:
    def work(server: Postfix) -> tuple[int, str]:
        with server.client("198.51.100.66") as smtp:
            smtp.mail("alice@example.com")
            code, text = smtp.rcpt("bob@example.net")
            with pytest.raises(smtplib.SMTPServerDisconnected):
                smtp.noop()
            smtp.close()
            return code, text.decode()

    async with policy_service(RULES + OF_POSTFIX) as service:
        code, text = await with_postfix(at(service), work)
        assert code == 421 and text.startswith("4.7.0 ")


async def test_an_unknown_recipient_hears_that_and_nobody_pays() -> None:
    def work(server: Postfix) -> tuple[int, str]:
        return send(server, "alice@example.com", ["nobody@example.net"])

    async with policy_service(RULES + OF_POSTFIX) as service:
        assert (await with_postfix(at(service), work))[0] == 550
        assert await service.counted("sender:alice@example.com") == 0


async def test_a_permanent_refusal_below_us_wins_over_a_deferral() -> None:
    def work(server: Postfix) -> tuple[int, str]:
        for _ in range(30):
            assert send(server, "alice@example.com", ["bob@example.net"]) == (250, "")
        return send(server, "alice@example.com", ["bob@example.net"], client="192.0.2.9")

    below = (
        "smtpd_recipient_restrictions = check_policy_service $reputon_policy, "
        "check_client_access inline:{ {192.0.2.9=REJECT Go away} }"
    )
    async with policy_service(RULES + OF_POSTFIX) as service:
        code, text = await with_postfix(at(service), work, below)
        assert (code, "Go away" in text) == (554, True)


async def test_a_size_is_known_at_the_end_of_the_message() -> None:
    def work(server: Postfix) -> tuple[int, str]:
        assert send(server, "big@example.com", ["bob@example.net", "carol@example.net"]) == (250, "")
        answer = send(server, "big@example.com", ["bob@example.net", "carol@example.net"], "x\n\n" + "x" * 3_000)
        server.wait_for_log("451 4.7.1 <END-OF-MESSAGE>: End-of-data rejected: Too much of it", 1)
        return answer

    async with policy_service(RULES + OF_POSTFIX) as service:
        assert (await with_postfix(at(service), work))[0] == 451
        assert await service.counted("sender:big@example.com") == 1, "what was deferred was given back"


async def test_every_stage_can_be_asked_at_and_nothing_counts_twice() -> None:
    everywhere = "\n".join(
        f"smtpd_{stage}_restrictions = check_policy_service $reputon_policy"
        for stage in ("client", "helo", "sender", "recipient", "data", "end_of_data")
    )

    def work(server: Postfix) -> None:
        with server.client("192.0.2.7") as smtp:
            for _ in range(2):
                smtp.sendmail("odd@example.com", ["bob@example.net", "carol@example.net"], MESSAGE)

    async def counts(more: str) -> list[int]:
        async with policy_service(RULES + OF_POSTFIX) as service:
            await with_postfix(at(service), work, f"{everywhere}\n{more}")
            asked = sum(
                service.metric("reputon_policy_answers_total", answer=answer) for answer in ("dunno", "prepend")
            )
            assert asked >= 14 and service.metric("reputon_policy_answers_total", answer="prepend") == 2
            return [
                await service.counted("sender:odd@example.com"),
                await service.counted("sender:odd@example.com", Metric.RECIPIENTS),
                await service.counted("ip:192.0.2.7", Metric.CONNECTIONS),
                int(service.metric("reputon_smtp_messages_total", result="passed")),
            ]

    assert await counts("") == [2, 4, 1, 2]
    assert await counts("smtpd_delay_reject = no") == [2, 4, 1, 2]


async def test_mail_flows_while_the_service_is_away() -> None:
    def work(server: Postfix) -> tuple[int, str]:
        answer = send(server, "alice@example.com", ["bob@example.net"])
        server.wait_for_log(": removed", 1)
        return answer

    assert await with_postfix(f"inet:127.0.0.1:{free_port()}", work) == (250, "")


async def test_mail_flows_again_through_the_service_after_it_was_away() -> None:
    async with policy_service(RULES + OF_POSTFIX) as service:

        def work(server: Postfix) -> None:
            with server.client("192.0.2.7") as smtp:
                assert say(smtp, "alice@example.com", ["bob@example.net"]) == (250, "")
                for connection in list(service.service.connections):
                    loop.call_soon_threadsafe(connection.stop)  # as a restart does
                assert say(smtp, "alice@example.com", ["bob@example.net"]) == (250, "")

        loop = asyncio.get_running_loop()
        await with_postfix(at(service), work)
        assert await service.counted("sender:alice@example.com") == 2


async def test_mail_flows_while_the_store_is_away() -> None:
    async with policy_service(RULES + OF_POSTFIX) as service:
        service.store.trouble = StoreUnavailable("taken away by the test")
        answer = await with_postfix(at(service), lambda server: send(server, "alice@example.com", ["bob@example.net"]))
        assert answer == (250, "")
