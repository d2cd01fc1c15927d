"""What comes before the greeting: too many of one client, who speaks too early, and who is made to wait."""

import asyncio

from smtp_frontend.rehearsal.front_end import front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop

EARLY = """
[[rule]]
name = "early-talker"
stage = "helo"
when = "early"
action = "reject"
"""


async def test_more_sessions_of_one_client_than_it_may_have_are_turned_away(hop: ScriptedHop) -> None:
    async with front_end("[smtp]\nmax_sessions_per_ip = 2\n", next_hop=hop.url) as mx:
        async with mx.client() as first, mx.client() as second, mx.client("127.0.0.2") as other:
            assert [(await each.greeting()).code for each in (first, second, other)] == [220, 220, 220]
            async with mx.client() as third:
                reply = await third.greeting()
                assert str(reply).startswith("421 4.7.0")
                assert await third.closed()
            await first.ask("QUIT")
            assert await first.closed()
            await asyncio.wait_for(_until_left(mx.server.shared.crowd), 5)
            async with mx.client() as fourth:
                assert (await fourth.greeting()).code == 220
        await mx.nobody_left()
        assert len(mx.server.shared.crowd) == 0
        assert any("as many as it may have" in line for line in mx.log.lines)


async def _until_left(crowd: object) -> None:
    while getattr(crowd, "_sessions", {}).get("127.0.0.1", 0) > 1:
        await asyncio.sleep(0)


async def test_our_own_proxies_have_any_number_and_whom_they_name_has_not(hop: ScriptedHop) -> None:
    config = '[smtp]\nmax_sessions_per_ip = 1\nxclient_from = ["127.0.0.1"]\n'
    async with front_end(config, next_hop=hop.url) as mx, mx.client() as first, mx.client() as second:
        assert [(await each.greeting()).code for each in (first, second)] == [220, 220]
        assert (await first.ask("XCLIENT ADDR=192.0.2.7")).code == 220
        assert (await second.ask("XCLIENT ADDR=192.0.2.8")).code == 220
        assert (await second.ask("XCLIENT ADDR=192.0.2.7")).code == 421
        assert await second.closed()


async def test_who_speaks_before_the_greeting_is_noticed(hop: ScriptedHop) -> None:
    async with front_end(f"[smtp]\ngreeting_delay_seconds = 0.3\n{EARLY}", next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.say("EHLO client.example.com")
            assert (await client.greeting()).code == 220
            assert (await client.reply()).code == 550
        async with mx.client() as client:
            assert (await client.greeting()).code == 220
            assert (await client.ask("EHLO client.example.com")).code == 250


async def test_who_speaks_while_a_rule_delays_the_greeting_is_noticed(hop: ScriptedHop) -> None:
    slow = '[[rule]]\nname = "slow"\nstage = "connect"\nwhen = "true"\naction = "tarpit"\ndelay_seconds = 0.3\n'
    async with front_end(slow + EARLY, next_hop=hop.url) as mx, mx.client() as client:
        await client.say("EHLO client.example.com")
        assert (await client.greeting()).code == 220
        assert (await client.reply()).code == 550


async def test_a_client_that_leaves_while_it_waits_leaves_nothing(hop: ScriptedHop) -> None:
    async with front_end("[smtp]\ngreeting_delay_seconds = 30\n", next_hop=hop.url) as mx:
        async with mx.client() as client:
            client.reset()
        await mx.nobody_left()
        assert not mx.log.traces
