"""SMTP smuggling: nothing that two servers could read differently gets through, and nothing is read twice.

The next hop is a strict server, and counts what it was given. What is smuggled through us would be a second
message there, or text that a laxer server than ours would take for one: see `lax_ends`.
"""

import asyncio
import re
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.expectations import until
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop

SECOND = (
    b"MAIL FROM:<smuggled@example.com>\r\nRCPT TO:<victim@example.net>\r\nDATA\r\nSubject: smuggled\r\n\r\nsmuggled"
)

ENDS = [
    b"\n.\n",
    b"\n.\r\n",
    b"\r\n.\n",
    b"\r.\r",
    b"\r\n.\r",
    b"\r.\r\n",
    b"\r.\n",
    b"\n.\r",
    b"\n\n.\n\n",
    b"\r\r\n.\r\r\n",
    b"\r\n.\r\r\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\x00\r\n",
    b"\r\n\x00.\x00\x00\r\n",
    b"\r\x00\n.\r\n",
    b"\r\n.\r\x00\n",
    b"\n.\x00\n",
]
"""What some server or other has taken for the end of a message."""

FIRST = b"Subject: first\r\n\r\nfirst"


def lax_ends(content: bytes) -> list[bytes]:
    """Ends of data that a careless server would see in `content` as it is on the wire to the next hop."""
    return re.findall(rb"(?:\r|\n)\x00*\.\x00*(?:\r|\n)", content.replace(b"\r\n.", b"\r\n.."))


def test_the_judge_of_these_tests_sees_what_a_careless_server_sees() -> None:
    harmless = {end for end in ENDS if not lax_ends(b"a" + end + b"b")}
    assert harmless == {end for end in ENDS if b"\r\n." in end}  # there the dot is doubled
    assert lax_ends(b"a\r\n.\r\n..\r\nb\x00.\r\n") == []


@pytest.fixture
async def client(mx: FrontEnd) -> AsyncIterator[Client]:
    """A client whose message may follow: 354 has been said."""
    async with mx.client() as client:
        await client.begin("bob@example.net")
        assert (await client.ask("DATA")).code == 354
        yield client


async def ends_well(client: Client, mx: FrontEnd, hop: ScriptedHop, messages: int) -> None:
    """Everything was answered, nothing is left, and the next hop has taken over so many messages."""
    assert (await client.ask("NOOP")).code == 250
    await client.say("QUIT")
    assert (await client.reply()).code == 221
    assert await client.closed()
    await mx.nobody_left()
    assert len(hop.received) == len(hop.messages) == messages
    assert not any(lax_ends(message.content) for message in hop.received)
    assert all(message.sender == "alice@example.com" for message in hop.received)


async def is_refused(client: Client, mx: FrontEnd, hop: ScriptedHop) -> None:
    """550, and nothing that follows is looked at."""
    reply = await client.reply()
    assert (reply.code, str(reply)[4:9]) == (550, "5.6.0")
    assert await client.closed()
    await mx.nobody_left()
    assert hop.received == []
    assert [command for command in hop.sessions[0].commands if "smuggled" in command] == []


# The end of a message


@pytest.mark.parametrize("end", ENDS, ids=repr)
async def test_what_only_looks_like_the_end_refuses_the_message(
    end: bytes, client: Client, mx: FrontEnd, hop: ScriptedHop
) -> None:
    await client.send(FIRST + end + SECOND + b"\r\n.\r\nNOOP\r\n")
    await is_refused(client, mx, hop)


@pytest.mark.parametrize("end", ENDS, ids=repr)
async def test_packets_do_not_matter(end: bytes, client: Client, mx: FrontEnd, hop: ScriptedHop) -> None:
    """Cut everywhere around the false end, and in the true one."""
    for part in [FIRST, *(end[i : i + 1] for i in range(len(end))), SECOND, b"\r", b"\n", b".", b"\r", b"\n"]:
        await client.send(part)
        await asyncio.sleep(0)  # let the packet leave
    await is_refused(client, mx, hop)


async def test_after_a_bare_cr_even_the_true_end_is_the_end_of_everything(
    client: Client, mx: FrontEnd, hop: ScriptedHop
) -> None:
    """A server that sees no line end in CR CR LF sends this on as one message, with the dot as it is."""
    await client.send(FIRST + b"\r\r\n.\r\n" + SECOND + b"\r\n.\r\n")
    await is_refused(client, mx, hop)


@pytest.mark.parametrize("end", ENDS, ids=repr)
async def test_it_does_not_matter_either_where_in_the_message_it_is(
    end: bytes, client: Client, mx: FrontEnd, hop: ScriptedHop
) -> None:
    """At its very begin, and in its header."""
    await client.send(end.lstrip(b"\r\n") + b"Subject: x" + end + SECOND + b"\r\n.\r\n")
    reply = await client.reply()
    if reply.code == 250:  # what stood first was no line of its own
        assert not any(lax_ends(message.content) for message in hop.received)
    else:
        assert reply.code == 550
    assert all(message.sender == "alice@example.com" for message in hop.received)
    assert len(hop.sessions) == 1


async def test_the_true_end_is_the_end_even_in_the_middle_of_a_packet(
    client: Client, mx: FrontEnd, hop: ScriptedHop
) -> None:
    """What follows is the client's own next command, and is told so: it pipelines, it does not smuggle."""
    await client.send(FIRST + b"\r\n.\r\nRCPT TO:<victim@example.net>\r\n")
    assert (await client.reply()).code == 250
    assert (await client.reply()).code == 503
    await ends_well(client, mx, hop, messages=1)


STUFFED = [
    b".",
    b"..",
    b"...",
    b". ",
    b".a",
    b"..a",
    b"a.",
    b"",
    b".\t",
    b". .",
    b"\x00",
    b"caf\xc3\xa9",
    b"\xff\xfe",
    b"QUIT",
]


@pytest.mark.parametrize("first", STUFFED, ids=repr)
async def test_each_byte_arrives_as_it_was(first: bytes, client: Client, mx: FrontEnd, hop: ScriptedHop) -> None:
    content = b"\r\n".join([b"Subject: dots", b"", first, *STUFFED, first]) + b"\r\n"
    await client.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
    assert (await client.reply()).code == 250
    await ends_well(client, mx, hop, messages=1)
    assert hop.messages[0].content.endswith(content)


async def test_a_message_that_is_only_dots_arrives_as_it_was(client: Client, mx: FrontEnd, hop: ScriptedHop) -> None:
    await client.send(b"...\r\n..\r\n.\r\n")
    assert (await client.reply()).code == 250
    assert hop.messages[0].content.endswith(b"..\r\n.\r\n")


# Commands


@pytest.mark.parametrize(
    "octets",
    [
        b"NOOP\nMAIL FROM:<smuggled@example.com>\n",
        b"NOOP\rMAIL FROM:<smuggled@example.com>\r\n",
        b"NOOP\r\rMAIL FROM:<smuggled@example.com>\r\n",
        b"NOOP\x00MAIL FROM:<smuggled@example.com>\r\n",
        b"MAIL FROM:<smuggled@example.com>\r\r\n",
        b"MAIL FROM:<smuggled@example.com>\n",
        b"MAIL FROM:<smuggled@example.com>\x00\r\n",
        b"MAIL FROM:<smuggled\x00@example.com>\r\n",
        b"MAIL FROM:<smuggled@example.com\r>\r\n",
        b"MAIL FROM:<smuggled\xe4@example.com>\r\n",
        b"M\xc4IL FROM:<smuggled@example.com>\r\n",
        b"MAIL FROM:<smuggled@example.com> \xff\r\n",
        b"MAIL FROM:<smuggled@example.com>\x0bSIZE=1\r\n",
        b"MAIL FROM:<smuggled@example.com> SIZE=1\x1b[31m\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
        b"GET / HTTP/1.1\r\nHost: mx.example.net\r\n",
    ],
    ids=repr,
)
async def test_a_command_that_could_be_read_in_two_ways_is_none(octets: bytes, mx: FrontEnd) -> None:
    async with mx.client() as client:
        await client.greeting()
        await client.ask("HELO client.example.com")
        await client.send(octets)
        for _ in range(octets.count(b"\n")):
            assert 500 <= (await client.reply()).code <= 599
        assert (await client.ask("RCPT TO:<victim@example.net>")).code == 503, "a transaction was opened"


@pytest.mark.parametrize(
    "octets", [b"RCPT TO:<a@b.example>\nRCPT TO:<c@b.example>\r\n", b"RCPT TO:<a\r\n@b.example>\r\n"]
)
async def test_no_bad_command_reaches_the_next_hop(octets: bytes, mx: FrontEnd, hop: ScriptedHop) -> None:
    async with mx.client() as client:
        await client.begin("bob@example.net")
        await client.send(octets)
        replies = [await client.reply() for _ in range(octets.count(b"\n"))]
    await mx.nobody_left()
    taken = [reply.code for reply in replies].count(250)
    assert [command for command in hop.sessions[0].commands if command.startswith("RCPT")] == [
        "RCPT TO:<bob@example.net>",
        *["RCPT TO:<c@b.example>"] * taken,
    ]


# Lines without an end

TEN_MB = 10 * 2**20
CHUNK = b"x" * 65_536


async def test_a_command_of_ten_megabytes_costs_no_memory_and_one_error(mx: FrontEnd) -> None:
    async with mx.client() as client:
        await client.greeting()
        tracemalloc.start()
        try:
            for _ in range(TEN_MB // len(CHUNK)):
                await client.send(CHUNK)
            await client.send(b"\r\n")
            assert str(await client.reply()) == "500 5.5.2 Line too long"
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * 2**20  # both ends of the connection
        assert (await client.ask("HELO client.example.com")).code == 250


async def test_a_message_of_ten_megabytes_in_one_line_costs_what_the_limit_says(hop: ScriptedHop) -> None:
    async with front_end("[smtp]\nmax_message_bytes = 1048576", next_hop=hop.url) as mx, mx.client() as client:
        await client.begin("bob@example.net")
        await client.ask("DATA")
        tracemalloc.start()
        try:
            for _ in range(TEN_MB // len(CHUNK)):
                await client.send(CHUNK)
            await client.send(b"\r\n.\r\n")
            assert (await client.reply()).code == 552
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 4 * 2**20
        await ends_well(client, mx, hop, messages=0)


async def test_a_line_that_is_longer_than_mail_allows_passes_unbroken(mx: FrontEnd, hop: ScriptedHop) -> None:
    """RFC 5321 section 4.5.3.1.6 allows 1,000 octets. Folding would break signatures: the next hop may judge."""
    async with mx.client() as client:
        await client.begin("bob@example.net")
        content = b"Subject: long\r\n\r\n" + b"y" * 100_000 + b"\r\n"
        assert (await client.message(content)).code == 250
    assert hop.messages[0].content.endswith(content)


# STARTTLS


@pytest.fixture
async def tls_mx(hop: ScriptedHop, certificate: tuple[Path, Path]) -> AsyncIterator[FrontEnd]:
    config = f'[smtp.tls]\ncertificate = "{certificate[0]}"\nkey = "{certificate[1]}"'
    async with front_end(config, next_hop=hop.url) as mx:
        yield mx


@pytest.mark.parametrize("octets_read", [65_536, len(b"STARTTLS\r\n")], ids=["by us", "by the stream, not by us"])
async def test_what_was_sent_behind_starttls_in_the_clear_is_never_carried_out(
    octets_read: int, tls_mx: FrontEnd, hop: ScriptedHop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CVE-2011-0411: the commands would count as if they had come encrypted. It is forgotten, whoever has read it."""
    monkeypatch.setattr("smtp_frontend.wire.READ_BYTES", octets_read)
    async with tls_mx.client() as client:
        await client.greeting()
        await client.ask("EHLO client.example.com")
        injected = b"MAIL FROM:<smuggled@example.com>\r\nRCPT TO:<victim@example.net>\r\nNOO"
        await client.send(b"STARTTLS\r\n" + injected)
        assert (await client.reply()).code == 220
        await client.start_tls()
        assert (await client.ask("NOOP")).code == 250  # its answer is the first: no other command was seen
        assert (await client.ask("RCPT TO:<victim@example.net>")).code == 503
        await client.ask("EHLO client.example.com")
        await client.transaction("bob@example.net")
        assert (await client.message()).code == 250
    assert [message.sender for message in hop.messages] == ["alice@example.com"]
    assert "with ESMTPS id" in hop.messages[0].content.decode()


async def test_whoever_does_not_shake_hands_is_gone(tls_mx: FrontEnd) -> None:
    async with tls_mx.client() as client:
        await client.greeting()
        assert (await client.ask("STARTTLS")).code == 220
        await client.send(b"EHLO in.the.clear\r\n" * 20)
        client.reader._limit = 1  # type: ignore[attr-defined] # a TLS alert is no line
        await until(lambda: not tls_mx.server.sessions, "the session is over")
    assert not tls_mx.log.traces


async def test_the_certificate_is_the_configured_one(tls_mx: FrontEnd, certificate: tuple[Path, Path]) -> None:
    async with tls_mx.client() as client:
        await client.greeting()
        await client.ask("STARTTLS")
        context = ssl.create_default_context(cafile=str(certificate[0]))
        await client.writer.start_tls(context, server_hostname="mx.example.net")
        assert (await client.ask("EHLO client.example.com")).code == 250
        tls: ssl.SSLObject = client.writer.get_extra_info("ssl_object")
        assert tls.version() in {"TLSv1.2", "TLSv1.3"}


async def test_half_closing_works_under_tls_as_well_as_it_can(tls_mx: FrontEnd, hop: ScriptedHop) -> None:
    """TLS has no half-close: a client that says goodbye has said goodbye. What it ended properly is delivered once."""
    async with tls_mx.client() as client:
        await client.greeting()
        await client.ask("STARTTLS")
        await client.start_tls()
        await client.ask("EHLO client.example.com")
        await client.transaction("bob@example.net")
        assert (await client.message()).code == 250
        await client.hang_up()
    await tls_mx.nobody_left()
    assert len(hop.messages) == 1
    assert not tls_mx.log.traces
