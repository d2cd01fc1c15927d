"""What is found out about a message, all together: through the look-ups, against a real server, within deadlines."""

import asyncio
import mmap
import re
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import dns.rcode
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from reputation.clock import ManualClock
from reputation.contracts import Lookups
from reputation.events import Data
from reputation.facts import NOTHING_LOOKED_UP, Filtered, LookedUp, Lookup, Network, Signature
from reputation.front_end_settings import FilterSettings
from reputation.lookups import authentication as module
from reputation.lookups import message
from reputation.lookups.looking import Looking, open_lookups
from reputation.lookups.message import INLINE_OCTETS, Digest, Way, digest_of
from reputation.lookups.places import Share
from reputation.metrics import Metrics
from tests.dns_server import DnsServer, dns_server
from tests.servers import free_port
from tests.signing import MESSAGE, ed25519_key, key_record, rsa_key, sealed, signed, text_record
from tests.unit.lookups.conftest import IMPATIENT, PATIENT
from tests.unit.lookups.test_looking import session, settings_for
from tests.unit.lookups.test_resolver import until

ABOUT = frozenset({Lookup.DKIM, Lookup.DMARC, Lookup.ARC})
HERE = Network()
KEY = rsa_key(1_024)
ZONE = (
    key_record("s1", "example.org", KEY.record)
    + key_record("s1", "mail.example.org", KEY.record)
    + key_record("s1", "lists.example", KEY.record)
    + key_record("ed", "other.example", ed25519_key().record)
    + text_record("_dmarc.example.org", "v=DMARC1; p=reject; adkim=s")
    + text_record("_dmarc.lists.example", "v=DMARC1; p=none")
    + text_record("example.org", "v=spf1 ip4:192.0.2.8 -all")
)


def data(content: bytes | mmap.mmap, client: str = "192.0.2.7", sender: str = "alice@example.org") -> Data:
    return Data(
        session=session(client),
        sender=sender,
        recipients=("bob@example.net",),
        message_bytes=len(content),
        author="alice@example.org",
        content=content,
    )


@pytest_asyncio.fixture
async def lookups(server: DnsServer, clock: ManualClock, metrics: Metrics) -> AsyncIterator[Lookups]:
    server.load(ZONE)
    lookups = open_lookups(settings_for(server, dnsbl=()), metrics, clock=clock, waits=PATIENT)
    yield lookups
    await lookups.close()


async def found(lookups: Lookups, event: Data, *wanted: Lookup) -> LookedUp:
    async with asyncio.timeout(30.0):
        return await lookups.look_up(event, frozenset(wanted) or ABOUT, HERE)


async def test_everything_about_a_message(lookups: Lookups, server: DnsServer, metrics: Metrics) -> None:
    content = sealed(signed(signed(MESSAGE, KEY), ed25519_key(), "ed", "other.example"), KEY)
    told = await found(lookups, data(content))
    assert [(each.domain, each.result) for each in told.signatures] == [
        ("other.example", "pass"),
        ("example.org", "pass"),
    ]
    assert replace(told, signatures=()) == LookedUp(
        network=HERE,
        spf="fail",
        spf_identity="alice@example.org",
        dkim="pass",
        dmarc="pass",
        dmarc_policy="reject",
        dmarc_domain="example.org",
        arc="pass",
        arc_domain="lists.example",
    )
    assert told.dkim_domains == ("other.example", "example.org")
    assert max(server.asked.values()) == 1
    for lookup, word in (("dkim", "pass"), ("dmarc", "pass"), ("arc", "pass"), ("spf", "fail")):
        assert metrics.registry.get_sample_value("reputon_lookups_total", {"lookup": lookup, "result": word}) == 1.0


async def test_only_what_is_wanted_is_asked_about(lookups: Lookups, server: DnsServer) -> None:
    content = sealed(signed(MESSAGE, KEY), KEY)
    assert await found(lookups, data(content), Lookup.IPREV) == LookedUp(network=HERE, iprev="permerror")
    assert await found(lookups, data(content), Lookup.ARC) == LookedUp(
        network=HERE, arc="pass", arc_domain="lists.example"
    )
    assert not any("example.org" in name for name, _ in server.asked)


async def test_without_content_nothing_is_said(lookups: Lookups, server: DnsServer) -> None:
    assert await found(lookups, data(b"")) == LookedUp(network=HERE)
    assert server.questions == 0


@pytest.mark.parametrize(
    ("client", "sign", "dmarc"),
    [("192.0.2.8", "", "pass"), ("192.0.2.7", "", "fail"), ("192.0.2.7", "example.org", "pass")],
)
async def test_one_of_both_is_enough(lookups: Lookups, client: str, sign: str, dmarc: str) -> None:
    content = signed(MESSAGE, KEY, "s1", sign) if sign else MESSAGE
    told = await found(lookups, data(content, client), Lookup.DMARC)
    assert (told.dkim, told.dmarc, told.dmarc_policy) == ("pass" if sign else "none", dmarc, "reject")


async def test_a_signature_must_be_aligned_as_the_domain_wants(lookups: Lookups) -> None:
    told = await found(lookups, data(signed(MESSAGE, KEY, "s1", "mail.example.org")))
    assert (told.dkim, told.dmarc) == ("pass", "fail")


@pytest.mark.parametrize(
    ("header", "word"),
    [
        (b"Subject: nobody\r\n", "fail"),  # whom the front end takes for the author
        (b"From: x@lists.example\r\nFrom: alice@example.org\r\n", "fail"),
        (b"From: x@lists.example, alice@example.org\r\n", "fail"),
        (b"From: x@lists.example\r\n", "fail"),
        (b"no field\r\nFrom: alice@example.org\r\n", "fail"),
        (b"From: alice@example.org\r\n", "fail"),
    ],
)
async def test_nobody_gets_around_the_policy_of_a_domain(lookups: Lookups, header: bytes, word: str) -> None:
    told = await found(lookups, data(header + b"\r\nbody\r\n"))
    assert (told.dmarc, told.dmarc_policy) == (word, "reject")


async def test_a_message_without_an_author_is_an_error_of_its_own(lookups: Lookups) -> None:
    event = replace(data(b"Subject: nobody\r\n\r\nbody\r\n"), author="")
    assert (await found(lookups, event)).dmarc == "permerror"


@pytest.mark.parametrize(("line", "word"), [(b"", "none"), (b"DKIM-Signature: v=1\r\n", "neutral")])
async def test_a_header_that_cannot_be_read(lookups: Lookups, line: bytes, word: str) -> None:
    told = await found(lookups, data(line + b"no field\r\n" + MESSAGE))
    assert (told.dkim, told.signatures, told.arc) == (word, (), "none")


# The deadline


@pytest_asyncio.fixture
async def pressed(server: DnsServer, clock: ManualClock) -> AsyncIterator[Lookups]:
    """Look-ups with a deadline that is soon over."""
    server.load(ZONE)
    lookups = open_lookups(settings_for(server, dnsbl=(), deadline_seconds=0.8), clock=clock, waits=PATIENT)
    yield lookups
    await lookups.close()


async def test_what_does_not_come_in_time_is_a_temperror_and_the_rest_is_not(
    server: DnsServer, pressed: Lookups
) -> None:
    server.silent_about = {"s1._domainkey.example.org"}
    content = sealed(signed(signed(MESSAGE, KEY), ed25519_key(), "ed", "other.example"), KEY)
    told = await found(pressed, data(content))
    assert [each.result for each in told.signatures] == ["pass", "temperror"]
    assert (told.dkim, told.dmarc, told.dmarc_policy, told.arc) == ("pass", "temperror", "reject", "pass")
    assert told.failed == {Lookup.DKIM, Lookup.DMARC}
    assert isinstance(pressed, Looking)
    await until(lambda: not pressed._authentication.under_way)


async def test_what_comes_late_is_there_for_the_next_message(server: DnsServer, pressed: Lookups) -> None:
    server.gate = asyncio.Event()
    event = data(signed(MESSAGE, KEY))
    assert (await found(pressed, event)).dkim == "temperror"
    server.gate.set()
    assert isinstance(pressed, Looking)
    await until(lambda: not pressed._resolver.under_way)
    asked = server.questions
    told = await found(pressed, event, Lookup.DKIM)
    assert (told.dkim, server.questions) == ("pass", asked)


async def test_without_any_answer_everything_is_a_temperror(server: DnsServer, clock: ManualClock) -> None:
    server.is_silent = True
    lookups = open_lookups(settings_for(server, dnsbl=()), clock=clock, waits=IMPATIENT)
    told = await found(lookups, data(sealed(signed(MESSAGE, KEY), KEY)))
    assert (told.dkim, told.dmarc, told.arc, told.spf) == ("temperror",) * 4
    assert told.failed == {Lookup.DKIM, Lookup.DMARC, Lookup.ARC, Lookup.SPF}
    await lookups.close()


async def test_a_temperror_that_could_change_nothing_is_none(server: DnsServer, lookups: Lookups) -> None:
    """Nobody makes a failure doubtful by a signature of his own that nobody answers for."""
    server.rcodes["ed._domainkey.other.example"] = dns.rcode.SERVFAIL
    told = await found(lookups, data(signed(MESSAGE, ed25519_key(), "ed", "other.example")))
    assert (told.dkim, told.dmarc) == ("temperror", "fail")


async def test_who_stops_waiting_lets_go_of_the_message(server: DnsServer, lookups: Lookups) -> None:
    assert isinstance(lookups, Looking)
    server.gate = asyncio.Event()
    waiting = asyncio.create_task(found(lookups, data(signed(MESSAGE, KEY))))
    await until(lambda: server.questions)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: not lookups._authentication.under_way)
    server.gate.set()


async def test_a_message_that_is_gone_after_the_deadline_is_let_go_of(
    pressed: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = signed(MESSAGE + b"a line\tof text\r\n" * (INLINE_OCTETS // 10), KEY)
    begun, go_on, ended = threading.Event(), threading.Event(), list[str]()

    def slow(pieces: Iterator[bytes], way: Way) -> Digest:
        next(pieces)
        begun.set()
        go_on.wait(30.0)
        try:
            return digest_of(pieces, way)
        except ValueError as error:
            ended.append(str(error))
            raise

    monkeypatch.setattr(message, "digest_of", slow)
    with mmap.mmap(-1, len(content)) as file:
        file.write(content)
        told = await found(pressed, data(file), Lookup.DKIM)
        assert (told.dkim, begun.is_set()) == ("temperror", True)
    go_on.set()
    await until(lambda: ended)
    assert ended == ["nobody waits for it"]


async def test_whoever_waits_when_it_ends_gets_temperrors(server: DnsServer, lookups: Lookups) -> None:
    server.gate = asyncio.Event()
    waiting = asyncio.create_task(found(lookups, data(signed(MESSAGE, KEY))))
    await until(lambda: server.questions)
    await lookups.close()
    assert (await waiting).dkim == "temperror"
    assert (await found(lookups, data(signed(MESSAGE, KEY)))).dkim == "temperror"
    names = ("signatures",)
    await until(lambda: not [each for each in threading.enumerate() if each.name.startswith(names)])


async def test_messages_of_one_network_have_a_share(
    server: DnsServer, lookups: Lookups, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.SHARES, module.MESSAGES, Share(5, 1))
    server.silent_about = {"s1._domainkey.example.org"}
    slow = asyncio.create_task(found(lookups, data(signed(MESSAGE, KEY)), Lookup.DKIM))
    await until(lambda: server.questions)
    other = data(signed(MESSAGE, ed25519_key(), "ed", "other.example"))
    assert (await found(lookups, other, Lookup.DKIM)).dkim == "temperror"
    far = replace(other, session=session("203.0.113.5"))
    assert (await found(lookups, far, Lookup.DKIM)).dkim == "pass"
    await lookups.close()
    await slow


async def test_places_of_messages_are_given_back(lookups: Lookups) -> None:
    for _ in range(50):
        assert (await found(lookups, data(signed(MESSAGE, KEY)), Lookup.DKIM)).dkim == "pass"


async def test_a_bug_costs_a_fact_and_no_event(
    lookups: Lookups, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("a bug")

    for name in ("verified", "chain_of", "wanted_of"):
        monkeypatch.setattr(module, name, broken)
    told = await found(lookups, data(signed(MESSAGE, KEY)))
    assert (told.dkim, told.dmarc, told.arc) == ("temperror",) * 3
    assert "a bug" in caplog.text


# Content filters


class Filters:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.asked: list[tuple[Data, str]] = []
        self.is_closed = self.is_broken = self.was_cancelled = False

    async def ask(self, event: Data, *, rdns: str) -> Filtered:
        self.asked.append((event, rdns))
        if self.is_broken:
            raise KeyError("a bug")
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        return Filtered(verdict="spam")

    async def close(self) -> None:
        self.is_closed = True


@pytest_asyncio.fixture
async def filters(pressed: Lookups) -> Filters:
    """Filters beside look-ups that have little time."""
    assert isinstance(pressed, Looking)
    filters = Filters()
    pressed._filters = filters
    return filters


async def test_filters_have_deadlines_of_their_own(server: DnsServer, pressed: Lookups, filters: Filters) -> None:
    server.gate = asyncio.Event()
    waiting = asyncio.create_task(found(pressed, data(signed(MESSAGE, KEY)), Lookup.DKIM, Lookup.FILTER))
    assert isinstance(pressed, Looking)
    await until(lambda: filters.asked and server.questions)
    await until(lambda: not pressed._authentication.under_way)  # the others have had their time
    assert not waiting.done()
    filters.gate.set()
    told = await waiting
    assert (told.dkim, told.filtered.verdict) == ("temperror", "spam")
    server.gate.set()


async def test_filters_are_told_the_name_of_the_client(server: DnsServer, pressed: Lookups, filters: Filters) -> None:
    """rspamd and SpamAssassin count against a client that it has none."""
    server.load(ZONE + "7.2.0.192.in-addr.arpa. 300 PTR mail.example.org.\nmail.example.org. 300 A 192.0.2.7\n")
    filters.gate.set()
    await found(pressed, data(MESSAGE), Lookup.FILTER)
    assert [rdns for _, rdns in filters.asked] == ["mail.example.org"]


async def test_filters_are_asked_without_a_name_when_the_dns_is_silent(
    server: DnsServer, pressed: Lookups, filters: Filters
) -> None:
    server.gate = asyncio.Event()
    filters.gate.set()
    told = await found(pressed, data(MESSAGE), Lookup.FILTER)
    assert (told.filtered.verdict, [rdns for _, rdns in filters.asked]) == ("spam", [""])
    server.gate.set()


async def test_filters_are_asked_when_they_are_wanted_and_there_is_something(
    pressed: Lookups, filters: Filters
) -> None:
    filters.gate.set()
    assert (await found(pressed, data(MESSAGE), Lookup.DKIM)).filtered == Filtered()
    assert (await found(pressed, data(b""), Lookup.FILTER)) == NOTHING_LOOKED_UP
    assert filters.asked == []
    assert (await found(pressed, data(MESSAGE), Lookup.FILTER)).filtered.verdict == "spam"


async def test_a_filter_that_is_away_is_a_temperror_beside_what_the_dns_says(server: DnsServer) -> None:
    server.load(ZONE)
    nobody = FilterSettings(url=f"clamd://127.0.0.1:{free_port()}", on_failure="tempfail")
    lookups = open_lookups(settings_for(server, dnsbl=()), filters=(nobody,), hostname="mx.example.net", waits=PATIENT)
    told = await found(lookups, data(signed(MESSAGE, KEY)), Lookup.DKIM, Lookup.FILTER)
    assert (told.dkim, told.filtered.verdict, told.filtered.failed_closed) == ("pass", "temperror", True)
    await lookups.close()


async def test_a_bug_in_a_filter_is_a_temperror(pressed: Lookups, filters: Filters) -> None:
    filters.is_broken = True
    told = await found(pressed, data(MESSAGE), Lookup.FILTER)
    assert told.filtered.verdict == "temperror"
    assert told.failed == {Lookup.FILTER}


async def test_filters_are_let_go_of(pressed: Lookups, filters: Filters) -> None:
    waiting = asyncio.create_task(found(pressed, data(MESSAGE), Lookup.FILTER))
    await until(lambda: filters.asked)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: filters.was_cancelled)
    await pressed.close()
    assert filters.is_closed


# Whatever is in a message

FIELDS = st.sampled_from(
    [b"DKIM-Signature", b"ARC-Seal", b"ARC-Message-Signature", b"ARC-Authentication-Results", b"From", b"Subject"]
)
TAGS = st.sampled_from([b"v", b"a", b"b", b"bh", b"c", b"d", b"h", b"i", b"l", b"s", b"t", b"x", b"q", b"cv"])
GIVEN = (b"1", b"2", b"99", b"-1", b"", b"AAAA", b"rsa-sha256", b"ed25519-sha256", b"relaxed/relaxed", b"simple")
NAMES = (
    b"example.org",
    b"@example.org",
    b"other.example",
    b"s1",
    b"ed",
    b"from",
    b"none",
    b"pass",
    b"dns/txt",
    b"\xff",
)
VALUES = st.sampled_from((*GIVEN, *NAMES)) | st.binary(max_size=12)
SIGNATURES = st.lists(st.tuples(TAGS, VALUES).map(b"=".join), max_size=12).map(b"; ".join)
HEADERS = st.lists(st.tuples(FIELDS, SIGNATURES | st.binary(max_size=20)).map(b": ".join), max_size=8).map(b"\r\n".join)
MESSAGES = st.binary(max_size=300) | st.tuples(HEADERS, st.binary(max_size=60)).map(b"\r\n\r\n".join)
WORDS = {"none", "pass", "fail", "policy", "neutral", "permerror"}
"""No temperror: the server answers, and it would mean a bug of ours."""


@given(MESSAGES)
@example(signed(MESSAGE, KEY).replace(b"bh=", b"bh=*"))
@example(signed(MESSAGE, KEY).replace(b"s=s1", b"s=ed"))
@example(sealed(MESSAGE, KEY).replace(b"cv=none", b"cv="))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_raises(content: bytes) -> None:
    async def ask() -> LookedUp:
        async with dns_server(ZONE) as server:
            lookups = open_lookups(settings_for(server, dnsbl=()), waits=PATIENT)
            told = await lookups.look_up(data(content or b"\0"), ABOUT, HERE)
            await lookups.close()
            return told

    told = asyncio.run(ask())
    assert {told.dkim, told.dmarc, told.arc, *(each.result for each in told.signatures)} <= WORDS
    for signature in told.signatures:
        assert re.fullmatch(r"[!-~]*", "".join(vars_of(signature)))


def vars_of(signature: Signature) -> list[str]:
    return [signature.domain, signature.selector, signature.identity, signature.mark]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A good message, in which some octets are others."""
    content = bytearray(draw(st.sampled_from([signed(MESSAGE, KEY), sealed(signed(MESSAGE, KEY), KEY)])))
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content)


@given(damaged())
@settings(max_examples=200, deadline=None)
def test_no_damage_raises(content: bytes) -> None:
    test_no_message_raises.hypothesis.inner_test(content)  # type: ignore[attr-defined] # what Hypothesis adds
