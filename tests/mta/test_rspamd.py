"""Real messages to a real rspamd: what it says, what it is told, and what happens while it is away."""

import asyncio
import logging
import mmap
import ssl
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reputation.clock import SystemClock
from reputation.errors import ConfigError
from reputation.facts import Filtered, Judgement
from reputation.lookups.filters.asking import Filters, check_filters
from reputation.metrics import Metrics
from tests.mta.rspamd_for_tests import Rspamd, rspamd
from tests.servers import TlsFiles, tls_files
from tests.unit.lookups.filters.conftest import GTUBE, HAM, count, filter_at, hasty, message, until
from tests.unit.lookups.filters.conftest import server as server_on_loopback

__all__ = ["hasty"]


SPAM = b"X-Test-Action: add header\r\n" + HAM
"""GTUBE does without the tests, and so without what they tell."""


@pytest.fixture(scope="module")
def server() -> Iterator[Rspamd]:
    """An rspamd for all tests of this module; who stops it starts it again."""
    with rspamd() as running:
        yield running


@asynccontextmanager
async def asking(url: str, metrics: Metrics | None = None, /, **settings: object) -> AsyncIterator[Filters]:
    """Filters that ask one filter."""
    filters = Filters([filter_at(url, **settings)], metrics or Metrics(), SystemClock(), hostname="mx.example.net")
    try:
        yield filters
    finally:
        await filters.close()


def is_up(metrics: Metrics, server: Rspamd) -> bool:
    """Whether metrics say that it answers."""
    return metrics.registry.get_sample_value("reputon_filter_up", {"filter": server.url}) == 1


async def answer(server: Rspamd, content: bytes, **settings: object) -> Filtered:
    """What is said about a message."""
    async with asking(server.url, Metrics(), **settings) as filters:
        return await filters.ask(message(content))


async def test_gtube_is_spam_and_evidence(server: Rspamd) -> None:
    said = await answer(server, GTUBE)
    assert (said.verdict, said.action, said.reply) == (Judgement.SPAM, "reject", "Gtube pattern")
    assert "GTUBE" in said.symbols
    assert said.learns
    assert said.score > 0


async def test_what_is_no_spam_is_ham(server: Rspamd) -> None:
    said = await answer(server, HAM)
    assert said == Filtered(verdict="ham", action="no action", symbols=("ECHO",), learns=True)


async def test_a_filter_that_does_not_learn_is_no_evidence(server: Rspamd) -> None:
    assert not (await answer(server, GTUBE, learn=False)).learns


@pytest.mark.parametrize(
    ("action", "verdict", "reply", "learns"),
    [
        ("soft reject", "defer", "try again later", False),
        ("greylist", "unsure", "", False),
        ("add header", "spam", "", True),
        ("reject", "spam", "try again later", True),
    ],
)
async def test_actions_are_verdicts(server: Rspamd, action: str, verdict: str, reply: str, learns: bool) -> None:
    said = await answer(server, f"X-Test-Action: {action}\r\n".encode() + HAM)
    assert (said.verdict, said.action, said.reply, said.learns) == (verdict, action, reply, learns)


async def test_a_new_subject_takes_the_place_of_the_old_one(server: Rspamd) -> None:
    said = await answer(server, b"X-Test-Action: rewrite subject\r\n" + HAM)
    assert (said.verdict, said.removed) == ("spam", ("Subject",))
    assert [name for name, _ in said.headers] == ["Subject"]
    assert "hello" in said.headers[0][1]


async def test_a_find_of_a_scanner_is_malware_with_its_name_and_without_a_score(server: Rspamd) -> None:
    said = await answer(server, b"X-Test-Virus: Worm.Test\r\n" + HAM)
    assert (said.verdict, said.malware, said.action) == ("malware", "Worm.Test", "no action")


async def test_a_scanners_test_with_a_name_of_its_own_is_known_by_its_group(server: Rspamd) -> None:
    said = await answer(server, b"X-Test-Virus: Eicar\r\n" + HAM)
    assert (said.verdict, said.malware) == ("malware", "antivirus")
    assert "JUST_EICAR" in said.symbols


async def test_fields_that_it_wants_are_one_line_each(server: Rspamd) -> None:
    said = await answer(server, b"X-Test-Fields: yes\r\n" + HAM)
    assert sorted(said.headers) == [("X-Many", "1"), ("X-Many", "2"), ("X-Spam", "Yes, sure")]
    assert said.removed == ("X-Old",)


async def test_it_is_told_who_sends_what_to_whom(server: Rspamd) -> None:
    event = message(
        client="::ffff:192.0.2.7", user="alice", recipients=("bob@example.net", '"a,b"@example.net'), id="S9"
    )
    async with asking(server.url, password="secret") as filters:
        await filters.ask(event, rdns="mail.example.org")
    assert server.told == [
        "helo=mail.example.org",
        "user=alice",
        "ip=192.0.2.7",
        "hostname=mail.example.org",
        "from=a@b.example",
        "rcpt=bob@example.net",
        "rcpt=a,b@example.net",
        "Queue-Id=S9",
        "Flags=groups",
        "MTA-Name=mx.example.net",
        "Password=secret",
        f"size={len(HAM)}",
    ]


async def test_a_bounce_has_an_empty_sender_and_nobody_has_logged_in(server: Rspamd) -> None:
    async with asking(server.url) as filters:
        await filters.ask(message(sender="", client="2001:db8::7"))
    assert "from=" in server.told
    assert "ip=2001:db8::7" in server.told
    assert not [line for line in server.told if line.startswith("user=")]


ODD = "x\r\nFlags: skip\nInjected: yes\rSettings: {}\0\x1f\x7f\u2028\ud800 \u00fc"


async def test_nothing_that_a_client_says_becomes_a_field_of_its_own(server: Rspamd) -> None:
    """rspamd ends a field at a bare LF, too, and would skip the message."""
    odd = message(SPAM, helo=ODD, user=ODD, sender=ODD, recipients=(ODD, "b@example.net, c@example.net"), id=ODD)
    async with asking(server.url) as filters:
        said = await filters.ask(odd, rdns=ODD)
    assert said.verdict == "spam"
    assert [line for line in server.told if line.startswith(("Flags", "Injected", "Settings"))] == ["Flags=groups"]
    assert "helo=x??Flags: skip?Injected: yes?Settings: {}????? \u00fc" in server.told
    assert "rcpt=c@example.net" not in server.told


async def test_many_recipients_do_not_make_a_question_that_it_refuses(server: Rspamd) -> None:
    many = tuple(f"{'r' * 60}{number}@example.net" for number in range(5_000))
    async with asking(server.url) as filters:
        assert (
            await filters.ask(message(SPAM, recipients=many, helo="h" * 100_000, user="u" * 100_000))
        ).verdict == "spam"
    assert f"rcpt={many[0]}" in server.told


@pytest.mark.parametrize("size", [65_536, 65_537, 5_000_000])
async def test_a_large_message_arrives_whole_and_its_file_can_be_closed(server: Rspamd, size: int) -> None:
    content = (HAM + b"0123456789abcdefghijklmnopq\r\n" * (size // 29 + 1))[:size]
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        async with asking(server.url) as filters:
            assert (await filters.ask(message(mapped))).verdict == "ham"
            mapped.close()  # raises where somebody still holds on to it
    assert f"size={size}" in server.told


async def test_a_larger_message_than_it_wants_is_not_sent_and_has_not_failed(server: Rspamd) -> None:
    metrics = Metrics()
    async with asking(server.url, metrics, max_bytes=1_024, on_failure="tempfail") as filters:
        assert await filters.ask(message(GTUBE + b"." * 1_024)) == Filtered()
    assert count(metrics, server.url, "too-large") == 1


async def test_messages_are_asked_about_at_the_same_time(server: Rspamd) -> None:
    metrics = Metrics()
    async with asking(server.url, metrics) as filters:
        said = await asyncio.gather(*(filters.ask(message(GTUBE if odd % 2 else HAM)) for odd in range(100)))
    assert [one.verdict for one in said] == ["ham", "spam"] * 50
    assert count(metrics, server.url, "ham") == count(metrics, server.url, "spam") == 50


async def test_while_it_is_stopped_mail_does_not_wait_and_the_first_message_after_is_filtered(
    hasty: None, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = Metrics()
    with rspamd() as server, caplog.at_level(logging.WARNING, "reputon.lookups"):
        async with asking(server.url, metrics, on_failure="tempfail") as filters:
            assert (await filters.ask(message(GTUBE))).verdict == "spam"
            server.stop()
            said = await filters.ask(message(GTUBE))
            assert (said.verdict, said.failed_closed, said.learns) == ("temperror", True, False)
            await until(lambda: not is_up(metrics, server), "it is known to be away")
            for _ in range(5):
                assert (await filters.ask(message(GTUBE))).verdict == "temperror"
            await asyncio.to_thread(server.start)
            await until(lambda: is_up(metrics, server), "it is known to be back")
            assert (await filters.ask(message(GTUBE))).verdict == "spam"
    lines = [record.getMessage() for record in caplog.records]
    assert [line for line in lines if "is away" in line] == [
        f"the content filter {server.url} is away, messages are judged without it"
    ]
    assert lines[-1] == f"the content filter {server.url} answers again"
    assert count(metrics, server.url, "temperror") == 6


async def test_a_frozen_one_costs_one_deadline_and_then_nothing(hasty: None) -> None:
    with rspamd() as server:
        async with asking(server.url, deadline_seconds=2.0) as filters:
            server.freeze()
            loop = asyncio.get_running_loop()
            try:
                said = await asyncio.gather(*(filters.ask(message(GTUBE)) for _ in range(20)))
                assert {one.verdict for one in said} == {"temperror"}
                health = filters._filters[0]._health
                await until(lambda: health.is_away, "it is known to be away")
                began = loop.time()
                assert (await filters.ask(message(GTUBE))).verdict == "temperror"
                assert loop.time() - began < 1.0
            finally:
                server.thaw()
            await until(lambda: not health.is_away, "it is known to be back")


@pytest.fixture(scope="module")
def files() -> Iterator[TlsFiles]:
    """A certificate for 127.0.0.1."""
    with tempfile.TemporaryDirectory() as directory:
        yield tls_files(Path(directory))


@asynccontextmanager
async def tls_before(port: int, files: TlsFiles) -> AsyncIterator[int]:
    """What operators put before rspamd, whose workers speak no TLS; its port."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while octets := await reader.read(65_536):
            writer.write(octets)
            await writer.drain()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
        there = asyncio.create_task(pipe(reader, outer))
        try:
            await pipe(inner, writer)
            writer.close()
            await writer.wait_closed()
        finally:
            there.cancel()
            outer.close()
            await outer.wait_closed()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    async with server_on_loopback(pass_on, context) as outside:
        yield outside


async def test_it_is_asked_by_tls(server: Rspamd, files: TlsFiles) -> None:
    async with (
        tls_before(server.port, files) as port,
        asking(f"rspamds://127.0.0.1:{port}?ca={files.ca}") as filters,
    ):
        assert (await filters.ask(message(GTUBE))).verdict == "spam"


async def test_a_server_that_nobody_vouches_for_learns_nothing(server: Rspamd, files: TlsFiles) -> None:
    (server.directory / "told").write_text("")
    async with tls_before(server.port, files) as port, asking(f"rspamds://127.0.0.1:{port}") as filters:
        assert (await filters.ask(message(GTUBE))).verdict == "temperror"
    assert server.told == []


def test_an_authority_that_cannot_be_read_is_a_mistake(files: TlsFiles) -> None:
    for file in ("/nowhere.pem", files.key):
        with pytest.raises(ConfigError, match="filter url: ca="):
            check_filters([filter_at(f"rspamds://127.0.0.1:1?ca={file}")])
