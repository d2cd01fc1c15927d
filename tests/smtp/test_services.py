"""Classes of service with a next hop of their own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import CLOSE, ScriptedHop

RULES = """
[[rule]]
name = "bulk"
stage = "mail"
when = 'sender_domain == "example.org"'
action = "accept"
service = "bulk"

[[rule]]
name = "bombed"
stage = "rcpt"
when = 'recipient == "dave@example.net"'
action = "accept"
service = "dirty"

[[rule]]
name = "elsewhere"
stage = "rcpt"
when = 'recipient == "erin@example.net"'
action = "accept"
service = "unheard-of"

[[rule]]
name = "spam"
stage = "data"
when = 'subject == "win"'
action = "tag"
service = "dirty"
"""
SPAM = b"Subject: win\r\n\r\nhello\r\n"


@pytest.fixture
async def dirty() -> AsyncIterator[ScriptedHop]:
    async with ScriptedHop() as hop:
        yield hop


@asynccontextmanager
async def serving(hop: ScriptedHop, dirty: ScriptedHop) -> AsyncIterator[FrontEnd]:
    config = f'[smtp]\nservices = {{ dirty = "{dirty.url}", bulk = "{dirty.url}" }}\n{RULES}'
    async with front_end(config, next_hop=hop.url) as mx:
        yield mx
        assert not mx.log.traces


async def test_a_class_of_the_sender_has_its_next_hop(hop: ScriptedHop, dirty: ScriptedHop) -> None:
    async with serving(hop, dirty) as mx, mx.client() as client:
        await client.begin("bob@example.net", sender="news@example.org")
        assert (await client.message()).code == 250
        assert len(dirty.received) == 1
        assert b"service=bulk" in dirty.received[0].content
        await client.transaction("bob@example.net")
        assert (await client.message()).code == 250
        assert len(hop.received) == 1
        assert b"service" not in hop.received[0].content


async def test_recipients_of_different_next_hops_come_in_transactions_of_their_own(
    hop: ScriptedHop, dirty: ScriptedHop
) -> None:
    async with serving(hop, dirty) as mx, mx.client() as client:
        replies = await client.begin("bob@example.net", "dave@example.net", "erin@example.net")
        assert [reply.code for reply in replies] == [250, 250, 452, 250]
        assert (await client.message()).code == 250
        replies = await client.transaction("dave@example.net", "bob@example.net")
        assert [reply.code for reply in replies] == [250, 250, 452]
        assert (await client.message()).code == 250
    assert [message.recipients for message in hop.received] == [("bob@example.net", "erin@example.net")]
    assert [message.recipients for message in dirty.received] == [("dave@example.net",)]
    assert await mx.counted("recipient:dave@example.net") == 1, "what was put off is given back"


async def test_a_recipient_that_was_refused_does_not_hold_its_next_hop_for_the_next_one(
    hop: ScriptedHop, dirty: ScriptedHop
) -> None:
    dirty.script["RCPT"] = "550 5.1.1 No"
    async with serving(hop, dirty) as mx, mx.client() as client:
        replies = await client.begin("dave@example.net", "bob@example.net")
        assert [reply.code for reply in replies] == [250, 550, 250]
        assert (await client.message()).code == 250
    assert len(hop.received) == 1


async def test_a_message_is_diverted_when_it_is_known(hop: ScriptedHop, dirty: ScriptedHop) -> None:
    async with serving(hop, dirty) as mx, mx.client() as client:
        await client.begin("bob@example.net", "carol@example.net")
        assert (await client.message(SPAM)).code == 250
        await client.transaction("bob@example.net")
        assert (await client.message()).code == 250
    assert [message.recipients for message in dirty.received] == [("bob@example.net", "carol@example.net")]
    assert [message.recipients for message in hop.received] == [("bob@example.net",)]


async def test_what_cannot_be_diverted_is_not_delivered(hop: ScriptedHop, dirty: ScriptedHop) -> None:
    """One that refuses some of several recipients has said nothing about the message: it comes again."""
    dirty.script["carol@example.net"] = "550 5.1.1 No"
    async with serving(hop, dirty) as mx, mx.client() as client:
        await client.begin("bob@example.net", "carol@example.net")
        assert (await client.message(SPAM)).code == 451
        await client.transaction("carol@example.net")
        assert (await client.message(SPAM)).code == 550
        dirty.script["MAIL"] = CLOSE
        await client.transaction("bob@example.net")
        assert (await client.message(SPAM)).code == 451
    assert hop.received == dirty.received == []
    assert await mx.counted("sender:alice@example.com") == 0


async def test_one_that_answers_for_each_recipient_gets_one_at_a_time(hop: ScriptedHop) -> None:
    async with ScriptedHop(lmtp=True) as dirty, serving(hop, dirty) as mx, mx.client() as client:
        replies = await client.begin("bob@example.net", "carol@example.net")
        assert [reply.code for reply in replies] == [250, 250, 452]
        assert (await client.message(SPAM)).code == 250
    assert len(dirty.received) == 1
