"""What others got wrong, as a client meets it; what needs no wire has such names elsewhere in `tests`."""

import asyncio
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from reputation.errors import StoreUnavailable
from reputation.keys import Metric
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
from smtp_frontend.rehearsal.client import Client, Reply
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import CLOSE, ScriptedHop
from smtp_frontend.rehearsal.next_hop import Action as Step
from tests.cluster.crowd import ALLOWANCE_SECONDS
from tests.entries_for_tests import ban
from tests.servers import RedisServer, redis_server, valkey_server

ALICE = "sender:alice@example.com"
MAIL = "MAIL FROM:<alice@example.com>"
LIMIT = """
[[rule]]
name = "few"
stage = "mail"
key = ["{key}"]
count = "messages"
limits = ["2/1m"]
action = "tempfail"
"""
DEADLINE_SECONDS = 0.4
"""Twice of it is more than a busy machine may add."""


# The store hangs


@pytest.fixture(params=[redis_server, valkey_server], ids=["redis", "valkey"])
def own_server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    start: Callable[[], AbstractContextManager[RedisServer]] = request.param
    with start() as server:
        yield server


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        ("accept", "250 2.1.0 Sender accepted"),
        ("tempfail", "451 4.3.0 Temporary local problem, please try again later"),
    ],
)
async def test_pitfall_19_before_a_store_that_hangs_a_client_hears_what_is_configured_within_the_deadline(
    own_server: RedisServer, hop: ScriptedHop, failing: str, said: str
) -> None:
    """Also where a condition asks the store first, and however many ask at once."""
    asking = '[[rule]]\nname = "asking"\nstage = "mail"\nwhen = "reputation.ip.score > 0.99"\naction = "tag"\n'
    config = LIMIT.format(key="sender") + f'on_store_failure = "{failing}"\n' + asking
    store, loop = RedisStore(own_server.url, deadline_seconds=DEADLINE_SECONDS), asyncio.get_running_loop()
    await store.ping()
    async with front_end(config, next_hop=hop.url, store=store) as mx, mx.client() as one, mx.client() as other:
        for client in (one, other):
            await client.greeting()
            await client.ask("EHLO client.example.com")
        own_server.pause()
        started = loop.time()
        replies = await asyncio.gather(one.ask(MAIL), other.ask(MAIL))
        took = loop.time() - started
        own_server.resume()
        assert [str(reply) for reply in replies] == [said, said]
        assert took < DEADLINE_SECONDS + ALLOWANCE_SECONDS
    await store.close()


# Proxies


async def test_pitfall_20_whom_a_proxy_speaks_for_is_held_and_neither_the_proxy_nor_the_others(
    hop: ScriptedHop,
) -> None:
    config = LIMIT.format(key="ip") + 'hold_seconds = 600\n[smtp]\nxclient_from = ["127.0.0.1"]\n'
    async with front_end(config, next_hop=hop.url) as mx:

        async def sent_for(address: str, number: int) -> list[int]:
            async with mx.client() as proxy:
                await proxy.greeting()
                if (greeting := await proxy.ask(f"XCLIENT ADDR={address}")).code != 220:
                    return [greeting.code]
                await proxy.ask("EHLO client.example.com")
                return [await sent(proxy) for _ in range(number)]

        assert await sent_for("192.0.2.7", 3) == [250, 250, 451]
        assert await sent_for("192.0.2.7", 1) == [421], "he is held"
        assert await sent_for("192.0.2.8", 2) == [250, 250]
        assert [entry.id for entry in mx.engine.registrar.register.entries] == ["ban|ip:192.0.2.7"]
        assert await mx.counted("ip:127.0.0.1", Metric.CONNECTIONS) == 0
        assert await mx.counted("ip:127.0.0.1") == 0


async def sent(client: Client) -> int:
    """The code that a message comes to."""
    if (reply := await client.ask(MAIL)).code == 250:
        await client.ask("RCPT TO:<bob@example.net>")
        reply = await client.message()
    return reply.code


# Whoever is put off


async def test_pitfall_22_a_refusal_says_when_to_come_back_and_retries_until_then_cost_nothing(
    hop: ScriptedHop,
) -> None:
    async with front_end(LIMIT.format(key="sender"), next_hop=hop.url) as mx, mx.client() as client:

        async def wait_seconds() -> int:
            reply = await client.ask(MAIL)
            said = re.fullmatch(r"451 4\.7\.1 sender:alice@example\.com: .*, try again in (\d+) s", str(reply))
            assert said is not None, reply
            return int(said[1])

        await client.greeting()
        await client.ask("EHLO client.example.com")
        assert [await sent(client) for _ in range(2)] == [250, 250]
        mx.store.advance(0.5)
        wait = await wait_seconds()
        for _ in range(50):
            assert 1 <= await wait_seconds() <= wait
        assert await mx.counted(ALICE) == 2
        mx.store.advance(wait - 1)
        assert await wait_seconds() == 1
        mx.store.advance(1)
        assert await sent(client) == 250, "who comes when he was told to gets in"
    assert len(hop.messages) == 3


async def first_refusal(client: Client) -> Reply:
    """From the greeting to the end of a message, up to the first answer that is none of 2xx."""
    replies = [await client.greeting()]
    for command in ("EHLO client.example.com", MAIL, "RCPT TO:<bob@example.net>"):
        if replies[-1].code in (220, 250):
            replies.append(await client.ask(command))
    return replies[-1] if replies[-1].code != 250 else await client.message()


def soft(stage: str, reply: str = "") -> str:
    """A rule that puts everybody off at a stage."""
    return f"""
[[rule]]
name = "soft"
stage = "{stage}"
when = "tls || !tls"
action = "tempfail"
reply = "{reply}"
"""


@pytest.mark.parametrize(
    ("config", "script", "heard"),
    [
        (soft("connect"), {}, "421 4.7.0 Refused by policy (matched, soft)"),
        (soft("helo"), {}, "450 4.7.1 Refused by policy (matched, soft)"),
        (soft("mail"), {}, "451 4.7.1 Refused by policy (matched, soft)"),
        (soft("rcpt"), {}, "451 4.7.1 Refused by policy (matched, soft)"),
        (soft("data"), {}, "451 4.7.1 Refused by policy (matched, soft)"),
        (soft("rcpt", "452 4.2.1 Mailbox is busy"), {}, "452 4.2.1 Mailbox is busy"),
        ("", {"MAIL": "450 4.1.8 Sender's domain"}, "450 4.1.8 Sender's domain"),
        ("", {"RCPT": "450 4.2.0 Greylisted"}, "450 4.2.0 Greylisted"),
        ("", {"end": "452 4.3.1 Disk is full"}, "452 4.3.1 Disk is full"),
        ("", {"connect": "554 5.3.2 Never"}, "451 4.4.1 Next hop cannot be reached, try again later"),
        ("", {"DATA": CLOSE}, "451 4.4.2 Connection to the next hop lost, try again later"),
    ],
    ids=lambda given: repr(given) if isinstance(given, dict) else None,
)
async def test_pitfall_23_a_soft_refusal_reaches_the_client_with_its_exact_codes(
    config: str, script: dict[str, Step], heard: str
) -> None:
    async with ScriptedHop(script) as hop, front_end(config, next_hop=hop.url) as mx, mx.client() as client:
        assert str(await first_refusal(client)) == heard
        assert hop.messages == []


async def test_pitfall_23_a_ban_for_a_while_is_a_soft_refusal(mx: FrontEnd) -> None:
    await mx.engine.registrar.put(ban("sender:alice@example.com", Action.TEMPFAIL))
    async with mx.client() as client:
        assert str(await first_refusal(client)).startswith("451 4.7.1 Sender address rejected: ")


# What is told to operators


async def test_pitfall_31_of_many_refused_messages_a_hold_is_logged_once_for_its_time(hop: ScriptedHop) -> None:
    config = LIMIT.format(key="prefix") + "hold_seconds = 600\n[register]\nnever_ban = []\n"
    async with front_end(config, next_hop=hop.url) as mx:

        async def refused(number: int) -> None:
            """Two seconds apart, so that each is judged anew."""
            async with mx.client() as client:
                await client.greeting()
                await client.ask("EHLO client.example.com")
                assert [await sent(client) for _ in range(2)] == [250, 250]
                for _ in range(number):
                    assert await sent(client) == 451
                    mx.store.advance(2)

        for turn in range(1, 3):
            await refused(20)
            told = [line for line in mx.log.lines if line.startswith("held for 600 s: prefix:127.0.0.0/24 ")]
            assert len(told) == turn
            mx.store.advance(660)


async def test_pitfall_31_a_store_that_is_away_is_logged_once_until_it_is_back(mx: FrontEnd) -> None:
    async with mx.client() as client:
        await client.greeting()
        await client.ask("EHLO client.example.com")
        for turn in range(1, 3):
            mx.store.trouble = StoreUnavailable("connection refused")
            assert [await sent(client) for _ in range(10)] == [250] * 10
            mx.store.trouble = None
            assert [await sent(client) for _ in range(10)] == [250] * 10
            assert len([line for line in mx.log.lines if line.startswith("store down: ")]) == turn
            assert len([line for line in mx.log.lines if line.startswith("store back after ")]) == turn
