"""ARC: chains that dkimpy has sealed, and what comes of them when sets change, move, or are missing."""

import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.rcode
import pytest
import pytest_asyncio

from reputation.lookups.arc import MAX_KEYS, MAX_SETS, Chain, chain_of
from reputation.lookups.message import Message
from reputation.lookups.resolver import Resolver
from tests.dns_server import DnsServer
from tests.signing import MESSAGE, key_record, rsa_key, sealed, signed

KEY = rsa_key(1_024)
ZONE = key_record("s1", "example.org", KEY.record) + "".join(
    key_record("s1", domain, KEY.record)
    for domain in ("one.example", "two.example", "three.example", *(f"d{number}.example" for number in range(20)))
)
ONE = sealed(MESSAGE, KEY, domain="one.example")
TWO = sealed(ONE, KEY, domain="two.example", cv=b"pass")
THREE = sealed(TWO, KEY, domain="three.example", cv=b"pass")
FAILED = Chain("fail")


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest_asyncio.fixture
async def zone(server: DnsServer) -> AsyncIterator[DnsServer]:
    server.load(ZONE)
    yield server


async def check(resolver: Resolver, content: bytes, executor: ThreadPoolExecutor) -> Chain:
    return await chain_of(resolver, Message(content, executor))


def fields_of(content: bytes) -> tuple[list[bytes], bytes]:
    head, end, body = content.partition(b"\r\n\r\n")
    return [field + b"\r\n" for field in re.split(rb"\r\n(?![ \t])", head)], end[2:] + body


@pytest.mark.parametrize(
    ("content", "chain"),
    [
        (MESSAGE, Chain("none")),
        (signed(MESSAGE, KEY), Chain("none")),
        (ONE, Chain("pass", "one.example")),
        (TWO, Chain("pass", "two.example")),
        (THREE, Chain("pass", "three.example")),
    ],
    ids=["nothing", "only DKIM", "one", "two", "three"],
)
async def test_chains(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, content: bytes, chain: Chain
) -> None:
    assert await check(resolver, content, executor) == chain


async def test_each_key_is_asked_for_once(zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor) -> None:
    await check(resolver, THREE, executor)
    assert zone.questions == 3
    await check(resolver, THREE, executor)
    assert zone.questions == 3


async def test_sets_are_in_the_order_of_their_numbers_wherever_they_stand(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    fields, body = fields_of(THREE)
    arc = sorted(field for field in fields if field.lower().startswith(b"arc-"))
    others = [field for field in fields if not field.lower().startswith(b"arc-")]
    assert await check(resolver, b"".join([*others, *arc]) + body, executor) == Chain("pass", "three.example")


async def test_spacing_makes_no_difference(zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor) -> None:
    content = ONE.replace(b"ARC-Seal: i=1;", b"ARC-Seal:i=1;").replace(
        b"ARC-Message-Signature: i", b"arc-message-signature:\r\n\ti"
    )
    assert await check(resolver, content, executor) == Chain("pass", "one.example")


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        (rb"this is it", b"this was it"),
        (rb"a  subject", b"another subject"),
        (rb"cv=pass", b"cv=none"),
        (rb"cv=pass", b"cv=fail"),
        (rb"cv=none", b"cv=pass"),
        (rb"dkim=pass", b"dkim=fail"),
        (rb"ARC-Seal: i=3", b"ARC-Seal: i=4"),
        (rb"ARC-Seal: i=2", b"ARC-Seal: i=3"),
        (rb"ARC-Seal: i=1", b"ARC-Seal: i=x"),
        (rb"ARC-Seal: i=1", b"ARC-Seal: i=00000000001"),
        (rb"ARC-Seal: i=1;", b"ARC-Seal:"),
        (rb"ARC-Seal: i=1", b"ARC-Seal: h=from; i=1"),
        (rb"ARC-Seal: i=1", b"X-Seal: i=1"),
        (rb"ARC-Authentication-Results: i=2", b"ARC-Authentication-Results: i=22"),
        (rb"ARC-Authentication-Results: i=2;", b"ARC-Authentication-Results:"),
        (rb"ARC-Message-Signature: i=3; a=rsa-sha256", b"ARC-Message-Signature: i=3; a=rsa-sha1"),
        (rb"d=three.example", b"d=nobody.example"),
        (rb"h=from", b"h=arc-seal : from"),
        (rb"\bbh=", b"bh=AAAA"),
        (rb"\bb=", b"b=AAAA"),
        (rb"Received:", b"no field\r\nReceived:"),
    ],
)
async def test_a_chain_that_was_tampered_with_fails(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, pattern: bytes, replacement: bytes
) -> None:
    content, times = re.subn(pattern, replacement, THREE, count=1)
    assert times == 1
    assert await check(resolver, content, executor) == FAILED


async def test_a_set_that_is_missing_or_stands_there_twice(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    fields, body = fields_of(TWO)
    for number, field in enumerate(fields):
        if field.lower().startswith(b"arc-"):
            rest = [other for at, other in enumerate(fields) if at != number]
            assert await check(resolver, b"".join(rest) + body, executor) == FAILED
            assert await check(resolver, b"".join([field, *fields]) + body, executor) == FAILED


async def test_who_says_that_it_had_failed_ends_the_chain(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = sealed(ONE.replace(b"this is it", b"this was it"), KEY, domain="two.example", cv=b"fail")
    assert await check(resolver, content, executor) == FAILED


async def test_only_the_last_signature_has_to_hold(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    """A list that changes the message seals it as it was changed: RFC 8617 section 5.2."""
    content = sealed(ONE.replace(b"this is it", b"this was it"), KEY, domain="two.example", cv=b"pass")
    assert await check(resolver, content, executor) == Chain("pass", "two.example")


async def test_no_answer_about_a_key_is_a_temperror(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    zone.rcodes["s1._domainkey.two.example"] = dns.rcode.SERVFAIL
    assert await check(resolver, THREE, executor) == Chain("temperror")
    assert await check(resolver, ONE, executor) == Chain("pass", "one.example")


async def test_longer_chains(zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor) -> None:
    content = ONE
    for number in range(2, MAX_SETS + 1):
        content = sealed(content, KEY, domain=f"d{number % 5}.example", cv=b"pass")
    assert await check(resolver, content, executor) == Chain("pass", f"d{MAX_SETS % 5}.example")
    assert zone.questions == 6


async def test_a_chain_with_keys_of_everybody_asks_nobody(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = ONE
    for number in range(MAX_KEYS):
        content = sealed(content, KEY, domain=f"d{number}.example", cv=b"pass")
    assert await check(resolver, content, executor) == FAILED
    assert zone.questions == 0


async def test_numbers_beyond_all_bounds_are_no_work(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    for number in (b"51", b"999999999", b"-1", b"0"):
        assert await check(resolver, ONE.replace(b"i=1", b"i=" + number), executor) == FAILED
    assert zone.questions == 0
