"""Proxies that speak for others, with a client that others have written."""

import asyncio

import pytest

from smtp_frontend.rehearsal.expectations import PATIENCE_SECONDS
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop
from tests.servers import require_binary

CONFIG = '[smtp]\nxclient_from = ["127.0.0.1"]\n'


async def swaks(mx: FrontEnd, *options: str) -> tuple[int, str]:
    """Send a message with swaks; its exit status and the dialogue."""
    command = [require_binary("swaks", "swaks"), "--server", "127.0.0.1", "--port", str(mx.port)]
    command += ["--from", "alice@example.com", "--to", "bob@example.net", "--helo", "proxy.example.net", *options]
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    async with asyncio.timeout(PATIENCE_SECONDS):
        program = await asyncio.create_subprocess_exec(
            *command, stdin=nothing, stdout=pipe, stderr=asyncio.subprocess.STDOUT
        )
        out, _ = await program.communicate()
    return program.returncode or 0, out.decode()


async def test_swaks_speaks_for_a_client(hop: ScriptedHop) -> None:
    async with front_end(CONFIG, next_hop=hop.url) as mx:
        status, dialogue = await swaks(
            mx, "--xclient-addr", "192.0.2.7", "--xclient-helo", "client.example.com", "--xclient-login", "al+ice"
        )
        assert status == 0, dialogue
        assert "XCLIENT" in dialogue
        assert hop.messages[0].content.startswith(b"Received: from client.example.com ([192.0.2.7])\r\n")
        assert any(" client=192.0.2.7 user=al+ice " in line for line in mx.log.lines if "stage=mail" in line)
        assert await mx.counted("ip:192.0.2.7") == 1
        assert await mx.counted("ip:127.0.0.1") == 0
        assert mx.log.traces == []


async def test_swaks_speaks_for_a_client_in_two_commands(hop: ScriptedHop) -> None:
    async with front_end(CONFIG, next_hop=hop.url) as mx:
        status, dialogue = await swaks(
            mx,
            *("--xclient-addr", "IPV6:2001:db8::7", "--xclient-name", "client.example.com"),
            *("--xclient-delim", "--xclient-login", "alice", "--xclient-proto", "ESMTP"),
        )
        assert status == 0, dialogue
        assert dialogue.count("-> XCLIENT") == 2
        assert any(" client=2001:db8::7 user=alice " in line for line in mx.log.lines if "stage=mail" in line)


@pytest.mark.parametrize("config", ["", '[smtp]\nxclient_from = ["127.0.0.2", "10.0.0.0/8"]\n'])
async def test_swaks_finds_that_it_may_not(config: str, hop: ScriptedHop) -> None:
    async with front_end(config, next_hop=hop.url) as mx:
        status, dialogue = await swaks(mx, "--xclient-addr", "10.0.0.1")
        assert status != 0
        assert "Host did not advertise XCLIENT" in dialogue
        assert hop.received == []


async def test_the_end_of_a_clients_session_is_told_once(hop: ScriptedHop) -> None:
    """A proxy that serves three clients on one connection, and counts for none of them itself."""
    async with front_end(CONFIG, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.greeting()
            for number in range(3):
                assert (await client.ask(f"XCLIENT ADDR=192.0.2.{number}")).code == 220
                assert (
                    mx.metric("reputon_verdicts_total", stage="disconnect", action="accept", reason="no-rule") == number
                )
        await mx.nobody_left()
        assert mx.metric("reputon_verdicts_total", stage="disconnect", action="accept", reason="no-rule") == 3
        assert mx.metric("reputon_verdicts_total", stage="connect", action="accept", reason="no-rule") == 3


async def test_a_proxy_that_only_looks_in_is_not_counted(hop: ScriptedHop) -> None:
    async with front_end(CONFIG, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.greeting()
            assert (await client.ask("EHLO proxy.example.net")).code == 250
            assert (await client.ask("QUIT")).code == 221
        await mx.nobody_left()
        for stage in ("connect", "helo", "disconnect"):
            assert mx.metric("reputon_verdicts_total", stage=stage, action="accept", reason="no-rule") == 0


async def test_mistakes_of_one_client_are_not_the_next_ones(hop: ScriptedHop) -> None:
    async with front_end(f"{CONFIG}max_errors = 3\n", next_hop=hop.url) as mx, mx.client() as client:
        await client.greeting()
        for number in range(3):
            assert (await client.ask(f"XCLIENT ADDR=192.0.2.{number}")).code == 220
            assert [(await client.ask("NONSENSE")).code for _ in range(2)] == [500, 500]
        assert (await client.ask("NONSENSE")).code == 421
