"""A next hop that wants to know hears who the client is, through the whole front end."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smtp_frontend.listeners import Kind
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.logins import PASSWORD, OnePassword
from smtp_frontend.rehearsal.next_hop import ScriptedHop
from tests.smtp.test_submission import CONFIG as SUBMISSION
from tests.smtp.test_submission import encrypted, plain

LISTED = "NAME ADDR PROTO HELO LOGIN"
PROXY = '[smtp]\nxclient_from = ["127.0.0.1"]\n'
RULES = """
[[rule]]
name = "named"
stage = "connect"
when = 'rdns == "nobody.example"'
action = "tag"
"""
MOVING = """
[[rule]]
name = "spam"
stage = "data"
when = 'subject == "win"'
action = "tag"
service = "dirty"
"""


@pytest.fixture
async def curious() -> AsyncIterator[ScriptedHop]:
    """A next hop that offers XCLIENT."""
    async with ScriptedHop({"XCLIENT": "220 hop.example.com ready"}, extensions=[f"XCLIENT {LISTED}"]) as hop:
        yield hop


def url_of(hop: ScriptedHop) -> str:
    return f"{hop.url}?xclient=yes"


def told(hop: ScriptedHop) -> list[dict[str, str]]:
    """What the next hop was told, one for each of its sessions."""
    found = []
    for session in hop.sessions:
        [line] = [line for line in session.commands if line.startswith("XCLIENT ")]
        found.append(dict(word.split("=", 1) for word in line.split()[1:]))
    return found


async def say(mx: FrontEnd, *lines: str, source: str = "127.0.0.1") -> None:
    """Some commands, a MAIL and a RCPT."""
    async with mx.client(source) as client:
        await client.greeting()
        for line in lines:
            assert (await client.ask(line)).code in {220, 250}
        assert [reply.code for reply in await client.transaction("bob@example.net")] == [250, 250]


async def test_a_stranger(curious: ScriptedHop) -> None:
    async with front_end(next_hop=url_of(curious)) as mx:
        await say(mx, "EHLO client.example.com", source="127.0.0.2")
        await say(mx, "HELO old.example.com", source="127.0.0.3")
    nobody = {"NAME": "[UNAVAILABLE]", "LOGIN": "[UNAVAILABLE]"}
    assert told(curious) == [
        {"ADDR": "127.0.0.2", "PROTO": "ESMTP", "HELO": "client.example.com", **nobody},
        {"ADDR": "127.0.0.3", "PROTO": "SMTP", "HELO": "old.example.com", **nobody},
    ]
    assert [session.commands[2] for session in curious.sessions] == ["EHLO client.example.com", "EHLO old.example.com"]


async def test_his_reverse_name_where_a_rule_had_it_looked_up(curious: ScriptedHop) -> None:
    async with front_end(RULES, next_hop=url_of(curious)) as mx:
        mx.lookups.know(["127.0.0.2", "rdns=mail.example.com"])
        await say(mx, "EHLO client.example.com", source="127.0.0.2")
    assert told(curious)[0]["NAME"] == "mail.example.com"


async def test_who_has_logged_in(curious: ScriptedHop, certificate: tuple[Path, Path]) -> None:
    config = SUBMISSION.format(*certificate)
    async with front_end(config, next_hop=url_of(curious), verifier=OnePassword()) as mx:
        async with mx.client(kind=Kind.SUBMISSION) as client:
            await encrypted(mx, client)
            assert (await client.ask(plain("wrong"))).code == 535
            assert (await client.ask(plain(PASSWORD))).code == 235
            assert [reply.code for reply in await client.transaction("bob@example.com")] == [250, 250]
        await say(mx, "EHLO client.example.com")
    assert [each["LOGIN"] for each in told(curious)] == ["alice", "[UNAVAILABLE]"]


async def test_clients_of_a_proxy_are_kept_apart(curious: ScriptedHop) -> None:
    """One session with us, in which a proxy speaks for one client after the other; each is the next hop's, too."""
    clients = ["ADDR=192.0.2.7 LOGIN=alice HELO=a.example", "ADDR=192.0.2.8", "ADDR=[UNAVAILABLE]"]
    async with front_end(PROXY, next_hop=url_of(curious)) as mx, mx.client() as client:
        await client.greeting()
        for each in clients:
            assert (await client.ask(f"XCLIENT {each}")).code == 220
            assert (await client.ask("EHLO proxy.example.com")).code == 250
            for _ in range(2):
                assert [reply.code for reply in await client.transaction("bob@example.net")] == [250, 250]
                assert (await client.message()).code == 250
    assert [(each["ADDR"], each["LOGIN"], each["HELO"]) for each in told(curious)] == [
        ("192.0.2.7", "alice", "a.example"),
        ("192.0.2.8", "[UNAVAILABLE]", "proxy.example.com"),
        ("[UNAVAILABLE]", "[UNAVAILABLE]", "proxy.example.com"),
    ]
    assert [session.verbs.count("MAIL") for session in curious.sessions] == [2, 2, 2]


async def test_a_login_that_a_proxy_names_later_is_told_before_the_next_message(curious: ScriptedHop) -> None:
    async with front_end(PROXY, next_hop=url_of(curious)) as mx, mx.client() as client:
        await client.greeting()
        for line in ("XCLIENT ADDR=192.0.2.7", "XCLIENT LOGIN=alice"):
            assert (await client.ask(line)).code == 220
            assert (await client.ask("EHLO client.example.com")).code == 250
            assert [reply.code for reply in await client.transaction("bob@example.net")] == [250, 250]
            assert (await client.message()).code == 250
    assert [(each["ADDR"], each["LOGIN"]) for each in told(curious)] == [
        ("192.0.2.7", "[UNAVAILABLE]"),
        ("192.0.2.7", "alice"),
    ]


async def test_the_next_hop_of_a_class_is_told_where_it_wants_to_know(hop: ScriptedHop, curious: ScriptedHop) -> None:
    config = f'[smtp]\nservices = {{ dirty = "{url_of(curious)}" }}\n{MOVING}'
    async with front_end(config, next_hop=hop.url) as mx, mx.client("127.0.0.2") as client:
        await client.begin("bob@example.net")
        assert (await client.message(b"Subject: win\r\n\r\nhello\r\n")).code == 250
    assert told(curious)[0]["ADDR"] == "127.0.0.2"
    assert len(curious.messages) == 1
    assert "XCLIENT" not in hop.sessions[0].verbs


async def test_a_refusal_costs_the_client_nothing(curious: ScriptedHop) -> None:
    curious.script["XCLIENT"] = "550 5.7.0 Insufficient authorization"
    async with front_end(next_hop=url_of(curious)) as mx:
        async with mx.client("127.0.0.2") as client:
            assert [reply.code for reply in await client.begin("bob@example.net")] == [250, 451]
        await mx.nobody_left()
        assert await mx.counted("ip:127.0.0.2") == 0


async def test_a_chain_of_two_of_us(hop: ScriptedHop) -> None:
    """The second one judges the client, and not the first one."""
    async with front_end(PROXY, next_hop=hop.url) as second, front_end(next_hop=url_to(second)) as first:
        async with first.client("127.0.0.2") as client:
            await client.begin("bob@example.net")
            assert (await client.message()).code == 250
        assert await second.counted("ip:127.0.0.2") == 1
        assert await second.counted("ip:127.0.0.1") == 0
        assert hop.messages[0].content.startswith(b"Received: from client.example.com ([127.0.0.2])\r\n")


def url_to(mx: FrontEnd) -> str:
    return f"smtp://127.0.0.1:{mx.port}?xclient=yes"
