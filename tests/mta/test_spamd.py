"""Real messages to SpamAssassin's spamd: what it says, and what it learns of client and envelope."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from reputation.clock import SystemClock
from reputation.facts import Filtered
from reputation.lookups.filters.asking import Filters
from reputation.metrics import Metrics
from tests.mta.spamd_for_tests import Spamd, spamd
from tests.unit.lookups.filters.conftest import GTUBE, filter_at, message


@pytest.fixture(scope="module", params=[False, True], ids=["tcp", "socket"])
def server(request: pytest.FixtureRequest) -> Iterator[Spamd]:
    """A spamd for all tests of this module."""
    with spamd(on_socket=request.param) as running:
        yield running


@asynccontextmanager
async def asking(server: Spamd) -> AsyncIterator[Filters]:
    """Filters that ask it."""
    filters = Filters([filter_at(server.url)], Metrics(), SystemClock(), hostname="mx.example.net")
    try:
        yield filters
    finally:
        await filters.close()


async def test_gtube_is_spam_and_evidence(server: Spamd) -> None:
    async with asking(server) as filters:
        said = await filters.ask(message(GTUBE))
    assert said.verdict == "spam"
    assert said.score >= 1_000
    assert "GTUBE" in said.symbols
    assert said.learns


async def test_what_is_no_spam_is_ham_and_it_knows_who_sent_it(server: Spamd) -> None:
    async with asking(server) as filters:
        said = await filters.ask(message(helo="evil.example"))
        assert said == Filtered(verdict="ham", score=0.3, symbols=("T_FROM", "T_HELO", "T_IP4"), learns=True)
        assert (await filters.ask(message(client="2001:db8::7", sender=""))).symbols == ("T_IP6",)
        assert "T_AUTH" in (await filters.ask(message(user="alice", tls=True))).symbols


async def test_it_knows_the_reverse_name(server: Spamd) -> None:
    async with asking(server) as filters:
        assert "T_RDNS" in (await filters.ask(message(), rdns="mail.example.org")).symbols


async def test_nothing_that_a_client_says_becomes_a_field_or_a_header_of_the_question(server: Spamd) -> None:
    odd = "x\r\nUser: root\r\n\r\nReceived: from evil.example ([192.0.2.7]) by x\n\0\ud800\u00fc"
    async with asking(server) as filters:
        said = await filters.ask(message(helo=odd, user=odd, sender=odd, recipients=(odd,), id=odd), rdns=odd)
        assert (said.verdict, "T_HELO" in said.symbols) == ("ham", False)
        assert (await filters.ask(message(GTUBE, helo=odd, sender=odd, recipients=(odd,), id=odd))).verdict == "spam"


async def test_a_large_message_arrives_whole(server: Spamd) -> None:
    """spamd refuses a message that is shorter than it was told."""
    large = GTUBE + b"nothing to see here\r\n" * 20_000
    async with asking(server) as filters:
        assert (await filters.ask(message(large))).verdict == "spam"
