"""What becomes of a message, and what is learned from it, when something goes wrong around it."""

import asyncio

from reputation.events import Event
from reputation.facts import LookedUp, Lookup, Network
from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.lookups import FixedLookups
from smtp_frontend.rehearsal.next_hop import ScriptedHop

ALICE = "sender:alice@example.com"
FILTER = '[[filter]]\nurl = "rspamd://127.0.0.1:1"\n'
SLOW = '[[rule]]\nname = "slow"\nstage = "data"\nwhen = "true"\naction = "tarpit"\ndelay_seconds = 2\n'
THROTTLED = """
[[rule]]
name = "throttled"
stage = "data"
key = ["sender"]
count = "messages"
limits = ["1/2s"]
action = "throttle"
"""


def learned(mx: FrontEnd, kind: str) -> float:
    return mx.metric("reputon_outcomes_total", kind=kind)


async def test_whoever_has_gone_before_his_message_is_handed_over_gets_no_copy(hop: ScriptedHop) -> None:
    """He hears no 250 and comes again: to deliver now would be twice."""
    async with front_end(SLOW, next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.begin("bob@example.net")
            await client.ask("DATA")
            await client.send(b"Subject: hello\r\n\r\nhello\r\n.\r\n")
            await until(lambda: mx.metric("reputon_smtp_sleepers") == 1, "the answer is held back")
            client.reset()
        await mx.nobody_left()
        assert hop.received == []
        assert await mx.counted(ALICE) == 0, "what came to nothing costs nothing"
        assert any("result=not-delivered" in line and "Client has gone" in line for line in mx.log.lines)
        assert not mx.log.traces


async def test_whoever_hangs_up_instead_of_hearing_the_answer_is_counted_all_the_same(hop: ScriptedHop) -> None:
    async with front_end(FILTER, next_hop=hop.url) as mx:
        mx.lookups.know(["filter_verdict=spam"])
        async with mx.client() as client:
            await client.begin("bob@example.net")
            await client.ask("DATA")
            await client.send(b"Subject: win\r\n\r\nwin\r\n.\r\n")
            await until(lambda: bool(hop.received), "the message is handed over")
            client.reset()
        await mx.nobody_left()
        assert learned(mx, "spam") == 1


async def test_a_message_that_comes_again_for_our_trouble_is_evidence_once(hop: ScriptedHop) -> None:
    hop.script["end"] = ["451 4.3.0 Later", "451 4.3.0 Later"]
    async with front_end(FILTER, next_hop=hop.url) as mx:
        mx.lookups.know(["filter_verdict=ham"])
        async with mx.client() as client:
            await client.begin("bob@example.net")
            assert (await client.message()).code == 451
            for code in (451, 250):
                await client.transaction("bob@example.net")
                assert (await client.message()).code == code
        await mx.nobody_left()
        assert learned(mx, "ham") == 1


class CountingLookups(FixedLookups):
    """Counts how often anything is asked."""

    asked = 0

    async def look_up(self, event: Event, wanted: frozenset[Lookup], network: Network) -> LookedUp:
        self.asked += 1
        return await super().look_up(event, wanted, network)


async def test_whoever_is_throttled_is_asked_about_once(hop: ScriptedHop) -> None:
    async with front_end(FILTER + THROTTLED, next_hop=hop.url) as mx:
        lookups = CountingLookups()
        mx.engine._briefing.lookups = lookups
        async with mx.client() as client:
            await client.begin("bob@example.net")
            assert (await client.message()).code == 250
            await client.transaction("bob@example.net")
            sending = asyncio.create_task(client.message())
            await until(lambda: mx.metric("reputon_smtp_sleepers") == 1, "the answer is held back")
            before = lookups.asked
            mx.store.advance(10)
            assert (await sending).code == 250
            assert lookups.asked == before == 2


async def test_what_is_said_about_a_discarded_recipient_is_not_told_to_the_others(hop: ScriptedHop) -> None:
    rule = '[[rule]]\nname = "gone"\nstage = "rcpt"\nwhen = \'recipient == "carol@example.net"\'\naction = "discard"\n'
    async with front_end(rule, next_hop=hop.url) as mx, mx.client() as client:
        await client.begin("bob@example.net", "carol@example.net")
        assert (await client.message()).code == 250
    (message,) = hop.received
    assert message.recipients == ("bob@example.net",)
    assert b"X-Reputon: accept" in message.content


async def test_a_client_that_only_keeps_us_busy_is_told_goodbye_and_one_with_mail_is_not(hop: ScriptedHop) -> None:
    async with front_end(next_hop=hop.url) as mx:
        async with mx.client() as client:
            await client.begin("bob@example.net")
            for _ in range(150):
                assert (await client.ask("RSET")).code == 250
                await client.transaction("bob@example.net")
        async with mx.client() as client:
            await client.greeting()
            codes = [(await client.ask("NOOP")).code for _ in range(101)]
            assert codes == [250] * 100 + [421]
            assert await client.closed()
