"""Where users send: TLS first, then a password, then mail."""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reputation.keys import Metric
from smtp_frontend.listeners import Kind
from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.logins import OnePassword
from smtp_frontend.rehearsal.next_hop import ScriptedHop

Certificate = tuple[Path, Path]

CONFIG = """
[smtp]
listen_submission = ["127.0.0.1:0"]
listen_submissions = ["127.0.0.1:0"]
relay_domains = ["example.net"]
[smtp.auth]
url = "passwd:users"
[smtp.tls]
certificate = "{}"
key = "{}"
"""


def plain(password: str, login: str = "alice") -> str:
    return f"AUTH PLAIN {b64encode(f'{chr(0)}{login}{chr(0)}{password}'.encode()).decode()}"


@asynccontextmanager
async def serving(hop: ScriptedHop, certificate: Certificate, more: str = "") -> AsyncIterator[FrontEnd]:
    async with front_end(CONFIG.format(*certificate) + more, next_hop=hop.url, verifier=OnePassword()) as mx:
        yield mx
        assert not mx.log.traces


async def encrypted(mx: FrontEnd, client: Client) -> None:
    """From the greeting to the second EHLO."""
    await client.greeting()
    await client.ask("EHLO client.example.com")
    assert (await client.ask("STARTTLS")).code == 220
    await client.start_tls()
    assert "250-AUTH PLAIN LOGIN" in (await client.ask("EHLO client.example.com")).lines


async def test_a_password_is_asked_for_over_tls_only(hop: ScriptedHop, certificate: Certificate) -> None:
    async with serving(hop, certificate) as mx, mx.client(kind=Kind.SUBMISSION) as client:
        await client.greeting()
        offered = await client.ask("EHLO client.example.com")
        assert "250-STARTTLS" in offered.lines
        assert not any("AUTH" in line for line in offered.lines)
        assert str(await client.ask(plain("secret"))).startswith("530 5.7.0 Must issue a STARTTLS")
        assert str(await client.ask("MAIL FROM:<alice@example.net>")).startswith("530 5.7.0 Must issue a STARTTLS")


async def test_who_has_logged_in_sends_to_anybody(hop: ScriptedHop, certificate: Certificate) -> None:
    async with serving(hop, certificate) as mx, mx.client(kind=Kind.SUBMISSION) as client:
        await encrypted(mx, client)
        assert (await client.ask("MAIL FROM:<alice@example.net>")).code == 530
        assert (await client.ask(plain("secret"))).code == 235
        assert [reply.code for reply in await client.transaction("bob@example.com")] == [250, 250]
        assert (await client.message()).code == 250
        assert b" with ESMTPSA id " in hop.received[0].content
        assert b"secret" not in hop.received[0].content
    assert await mx.counted("user:alice") == 1
    assert mx.metric("reputon_log_ins_total", result="accepted") == 1


async def test_tls_from_the_first_octet(hop: ScriptedHop, certificate: Certificate) -> None:
    context = ssl.create_default_context(cafile=str(certificate[0]))
    context.check_hostname = False
    async with serving(hop, certificate) as mx:
        port = mx.ports[Kind.SUBMISSIONS]
        client = Client(*await asyncio.open_connection("127.0.0.1", port, ssl=context))
        await client.greeting()
        offered = await client.ask("EHLO client.example.com")
        assert "250-AUTH PLAIN LOGIN" in offered.lines
        assert not any("STARTTLS" in line for line in offered.lines)
        assert (await client.ask("STARTTLS")).code == 503
        assert (await client.ask(plain("secret"))).code == 235
        assert [reply.code for reply in await client.transaction("bob@example.com")] == [250, 250]
        assert (await client.message()).code == 250
        await client.ask("QUIT")
        assert await client.closed()


async def test_who_speaks_in_the_clear_where_tls_is_expected_gets_nothing(
    hop: ScriptedHop, certificate: Certificate
) -> None:
    async with serving(hop, certificate) as mx:
        reader, writer = await asyncio.open_connection("127.0.0.1", mx.ports[Kind.SUBMISSIONS])
        writer.write(b"EHLO client.example.com\r\n")
        said = await asyncio.wait_for(reader.read(), 10)
        assert b"220" not in said
        writer.close()
    assert not hop.received


async def test_what_was_injected_before_tls_is_forgotten(hop: ScriptedHop, certificate: Certificate) -> None:
    """RFC 3207 section 4.2, and CVE-2011-0411: a log-in in the clear behind STARTTLS is never a log-in."""
    async with serving(hop, certificate) as mx, mx.client(kind=Kind.SUBMISSION) as client:
        await client.greeting()
        await client.ask("EHLO client.example.com")
        await client.send(f"STARTTLS\r\nEHLO evil.example.com\r\n{plain('secret')}\r\n".encode())
        assert (await client.reply()).code == 220
        await client.start_tls()
        assert (await client.ask("MAIL FROM:<alice@example.net>")).code == 503, "EHLO was not heard"
        await client.ask("EHLO client.example.com")
        assert (await client.ask("MAIL FROM:<alice@example.net>")).code == 530, "AUTH was not heard"
        assert mx.metric("reputon_log_ins_total", result="accepted") == 0


async def test_where_mail_comes_in_nobody_logs_in(hop: ScriptedHop, certificate: Certificate) -> None:
    async with serving(hop, certificate) as mx, mx.client() as client:
        await client.greeting()
        await client.ask("EHLO client.example.com")
        await client.ask("STARTTLS")
        await client.start_tls()
        assert not any("AUTH" in line for line in (await client.ask("EHLO client.example.com")).lines)
        assert (await client.ask(plain("secret"))).code == 502
        replies = await client.transaction("bob@example.com")
        assert [reply.code for reply in replies] == [250, 550]


async def test_failures_count_against_the_client_and_never_the_user(hop: ScriptedHop, certificate: Certificate) -> None:
    """Pitfall 21: whoever guesses somebody's password does not lock him out."""
    rule = '[[rule]]\nname = "g"\nstage = "auth"\nkey = ["ip"]\ncount = "auth_failures"\nlimits = ["2/1h"]\n'
    async with serving(hop, certificate, rule + 'action = "tempfail"\n') as mx:
        async with mx.client("127.0.0.2", kind=Kind.SUBMISSION) as client:
            await encrypted(mx, client)
            assert [(await client.ask(plain("wrong"))).code for _ in range(3)] == [535, 535, 454]
            assert (await client.ask(plain("secret"))).code == 454
        assert await mx.counted("ip:127.0.0.2", Metric.AUTH_FAILURES) == 2
        assert await mx.counted("user:alice", Metric.AUTH_FAILURES) == 0
        async with mx.client("127.0.0.3", kind=Kind.SUBMISSION) as client:
            await encrypted(mx, client)
            assert (await client.ask(plain("secret"))).code == 235


@pytest.mark.parametrize("octets", [b"AUTH PLAIN " + b"A" * 3_000, b"AUTH \xff\xfe", b"AUTH PLAIN \x7f", b"AUTH =="])
async def test_no_octets_of_a_log_in_are_our_fault(hop: ScriptedHop, certificate: Certificate, octets: bytes) -> None:
    async with serving(hop, certificate) as mx, mx.client(kind=Kind.SUBMISSION) as client:
        await encrypted(mx, client)
        await client.send(octets + b"\r\n")
        assert 400 < (await client.reply()).code < 600
        assert mx.metric("reputon_errors_total") == 0


async def test_no_password_is_logged(hop: ScriptedHop, certificate: Certificate) -> None:
    async with serving(hop, certificate) as mx, mx.client(kind=Kind.SUBMISSION) as client:
        await encrypted(mx, client)
        await client.ask(plain("hunter2"))
        await client.ask("AUTH LOGIN")
        await client.ask(b64encode(b"alice").decode())
        await client.ask(b64encode(b"hunter2").decode())
        told = "\n".join(mx.log.lines)
        assert "hunter2" not in told
        assert b64encode(b"hunter2").decode() not in told
        assert b64encode(b"\0alice\0hunter2").decode() not in told
        assert " login=alice " in told
