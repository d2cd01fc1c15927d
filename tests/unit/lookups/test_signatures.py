"""DKIM: messages that dkimpy has signed, and what comes of them when they, their signatures or their keys change."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor

import dns.rcode
import pytest
import pytest_asyncio

from reputation.facts import Signature
from reputation.lookups.message import INLINE_OCTETS, Message
from reputation.lookups.resolver import Resolver
from reputation.lookups.seals import MAX_FIELD_OCTETS, MAX_SIGNED_NAMES, WORDS
from reputation.lookups.signatures import MAX_LISTED, MAX_SIGNATURES, best_of, candidates_of, verified
from tests.dns_server import DnsServer
from tests.signing import MESSAGE, SigningKey, ed25519_key, key_record, public_rsa, rsa_key, signed, text_record

RSA, ED25519 = rsa_key(1_024), ed25519_key()
OTHER = rsa_key(1_024, seed=2)
KEYS = {
    "s1": RSA.record,
    "ed": ED25519.record,
    "large": rsa_key(2_048).record,
    "weak": rsa_key(512).record,
    "other": OTHER.record,
    "revoked": "v=DKIM1; p=",
    "strict": RSA.record + "; t=s",
    "testing": RSA.record + "; t=y",
    "sha1": RSA.record + "; h=sha1",
    "both": RSA.record + "; h=sha1 : sha256",
    "mail": RSA.record + "; s=email",
    "chat": RSA.record + "; s=xmpp",
    "reports": RSA.record + "; s=tlsrpt",
    "version": RSA.record.replace("DKIM1", "DKIM2"),
    "kind": RSA.record.replace("k=rsa", "k=dsa"),
    "short": RSA.record.replace("k=rsa; ", "").replace("v=DKIM1; ", ""),
    "nonsense": "v=DKIM1; p=AAAA",
    "noise": "what is this",
    "twice": "v=DKIM1; p=x; p=y",
    "exponent": rsa_key(1_024, exponent=2**521 - 1).record,
    "zero": f"v=DKIM1; p={public_rsa(0, 65_537)}",
    "huge": f"v=DKIM1; p={public_rsa(2**8_192 + 1, 65_537)}",
    "nothing": "v=DKIM1; k=ed25519; p=AAAA",
}
ZONE = "".join(key_record(name, "example.org", record) for name, record in KEYS.items())
ZONE += key_record("s1", "sub.example.org", RSA.record) + key_record("s1", "xn--bcher-kva.example", RSA.record)
ZONE += text_record("several._domainkey.example.org", "v=spf1 -all")
ZONE += text_record("several._domainkey.example.org", RSA.record)


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest_asyncio.fixture
async def zone(server: DnsServer) -> AsyncIterator[DnsServer]:
    server.load(ZONE)
    yield server


async def check(resolver: Resolver, content: bytes, executor: ThreadPoolExecutor, *authors: str) -> list[Signature]:
    message = Message(content, executor)
    return [await verified(resolver, message, each) for each in candidates_of(message, authors or ("example.org",))]


async def word(resolver: Resolver, content: bytes, executor: ThreadPoolExecutor) -> str:
    (signature,) = await check(resolver, content, executor)
    return signature.result


def changed(content: bytes, pattern: bytes, replacement: bytes) -> bytes:
    """The message with the first occurrence replaced; there is one."""
    replaced, times = re.subn(pattern, replacement, content, count=1)
    assert times == 1
    return replaced


@pytest.mark.parametrize("key", [RSA, ED25519], ids=["rsa", "ed25519"])
@pytest.mark.parametrize("header", [b"simple", b"relaxed"])
@pytest.mark.parametrize("body", [b"simple", b"relaxed"])
async def test_a_message_as_it_was_signed_passes(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, key: SigningKey, header: bytes, body: bytes
) -> None:
    selector = "s1" if key is RSA else "ed"
    content = signed(MESSAGE, key, selector, canonicalize=(header, body))
    (signature,) = await check(resolver, content, executor)
    mark = re.search(rb"\bb=\s*([\s\w+/]{8,14})", content)
    assert mark is not None
    assert signature == Signature(
        result="pass",
        domain="example.org",
        selector=selector,
        identity="@example.org",
        mark=b"".join(mark[1].split())[:8].decode(),
    )
    assert zone.asked == {(f"{selector}._domainkey.example.org", "TXT"): 1}


@pytest.mark.parametrize(
    ("pattern", "replacement", "words"),
    [
        (rb"this is it", b"this was it", "ffff"),
        (rb"a  subject", b"another subject", "ffff"),
        (rb"To: bob", b"To: eve", "ffff"),
        (rb"From: Alice", b"From: Eve <eve@evil.example>\r\nFrom: Alice", "ffff"),
        (rb"From: Alice", b"X-New: unsigned\r\nFrom: Alice", "pppp"),
        (rb"a  subject", b"a subject", "ffpp"),
        (rb"Hello,\t Bob  ", b"Hello, Bob", "fpfp"),
        (rb"(\r\n)*\Z", b"\r\n\r\n\r\n\r\n", "pppp"),
        (rb"this is it.", b"this\r\n\r\nis it.", "ffff"),
    ],
)
async def test_what_has_changed_on_the_way(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, pattern: bytes, replacement: bytes, words: str
) -> None:
    found = ""
    for canonicalize in [(h, b) for h in (b"simple", b"relaxed") for b in (b"simple", b"relaxed")]:
        content = changed(signed(MESSAGE, RSA, canonicalize=canonicalize), pattern, replacement)
        found += (await word(resolver, content, executor))[0]
    assert found == words


@pytest.mark.parametrize(
    ("selector", "result"),
    [
        ("s1", "pass"),
        ("several", "pass"),
        ("short", "pass"),
        ("testing", "pass"),
        ("both", "pass"),
        ("mail", "pass"),
        ("other", "fail"),
        ("missing", "permerror"),
        ("revoked", "permerror"),
        ("sha1", "permerror"),
        ("chat", "permerror"),
        ("reports", "permerror"),
        ("version", "permerror"),
        ("kind", "permerror"),
        ("nonsense", "permerror"),
        ("noise", "permerror"),
        ("twice", "permerror"),
        ("exponent", "permerror"),
        ("zero", "policy"),
        ("huge", "policy"),
        ("nothing", "permerror"),
        ("ed", "permerror"),
        ("strict", "pass"),
    ],
)
async def test_keys(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, selector: str, result: str
) -> None:
    assert await word(resolver, signed(MESSAGE, RSA, selector), executor) == result


@pytest.mark.parametrize(("key", "selector", "result"), [(512, "weak", "policy"), (2_048, "large", "pass")])
async def test_sizes_of_keys(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, key: int, selector: str, result: str
) -> None:
    assert await word(resolver, signed(MESSAGE, rsa_key(key), selector), executor) == result


async def test_a_strict_key_is_for_identities_in_its_very_domain(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    below = b"alice@sub.example.org"
    assert await word(resolver, signed(MESSAGE, RSA, "strict", identity=below), executor) == "permerror"
    assert await word(resolver, signed(MESSAGE, RSA, "s1", identity=below), executor) == "pass"


@pytest.mark.parametrize(
    ("pattern", "replacement", "result"),
    [
        (rb"v=1; ", b"", "permerror"),
        (rb"v=1", b"v=2", "permerror"),
        (rb" d=example.org;", b"", "permerror"),
        (rb"d=example.org", b"d=exam ple.org", "permerror"),
        (rb"d=example.org", b"d=example..org", "permerror"),
        (rb"d=example.org", b"d=" + b"x" * 5_000, "permerror"),
        (rb"d=example.org", b"d=other.example", "permerror"),
        (rb"a=rsa-sha256", b"a=rsa-sha512", "permerror"),
        (rb"a=rsa-sha256", b"a=ed25519-sha256", "permerror"),
        (rb"c=relaxed/relaxed", b"c=relaxed/strange", "permerror"),
        (rb"t=\d+", b"t=99999999999", "permerror"),
        (rb"t=\d+", b"t=1", "fail"),
        (rb"t=\d+", b"t=" + b"9" * 5_000, "permerror"),
        (rb"t=(\d+)", rb"t=\1; x=1000000000", "permerror"),
        (rb"q=dns/txt", b"q=dns/other", "permerror"),
        (rb"bh=", b"bh=A", "permerror"),
        (rb"h=from", b"h=x-from", "permerror"),
        (rb"\bb=", b"b=!", "permerror"),
        (rb"\bb=", b"b=AAAA", "fail"),
        (rb"\bb=", b"b=" + b"AAAA" * 300, "fail"),
        (rb"v=1;", b"v=1; v=1;", "neutral"),
        (rb"v=1;", b"v=1; what is this;", "neutral"),
        (rb"v=1;", b"v=1; z=" + b"z" * MAX_FIELD_OCTETS + b";", "policy"),
        (rb"v=1;", b"v=1;" + b" " * 200, "policy"),
        (rb"h=from", b"h=" + b"x:" * MAX_SIGNED_NAMES + b"from", "policy"),
    ],
)
async def test_signatures_that_are_none(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, pattern: bytes, replacement: bytes, result: str
) -> None:
    content = signed(MESSAGE, RSA, names=[b"from", b"to", b"subject"])
    assert await word(resolver, changed(content, pattern, replacement), executor) == result


async def test_a_signature_that_does_not_sign_the_author_is_none(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = changed(signed(MESSAGE, RSA, names=[b"from", b"to"]), rb"h=from : to", b"h=to : to")
    assert await word(resolver, content, executor) == "permerror"


async def test_sha1_is_not_accepted(zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor) -> None:
    assert await word(resolver, signed(MESSAGE, RSA, algorithm=b"rsa-sha1"), executor) == "policy"


@pytest.mark.parametrize(
    ("more", "result"), [(b"", "pass"), (b"\r\n\r\n", "pass"), (b"and an advertisement\r\n", "policy")]
)
async def test_what_was_appended_behind_the_signed_part(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor, more: bytes, result: str
) -> None:
    assert await word(resolver, signed(MESSAGE, RSA, length=True) + more, executor) == result


async def test_a_part_that_does_not_hold_is_a_failure_whatever_follows(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = changed(signed(MESSAGE, RSA, length=True) + b"more\r\n", rb"a  subject", b"another")
    assert await word(resolver, content, executor) == "fail"


async def test_domains_are_told_in_ascii(zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor) -> None:
    content = signed(MESSAGE, RSA, "s1", "b\xfccher.example")
    (signature,) = await check(resolver, content, executor)
    assert (signature.result, signature.domain) == ("pass", "xn--bcher-kva.example")


async def test_several_signatures_have_words_of_their_own(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = signed(signed(signed(MESSAGE, RSA, "missing"), OTHER, "s1"), ED25519, "ed")
    found = await check(resolver, content, executor)
    assert [(each.selector, each.result) for each in found] == [
        ("ed", "pass"),
        ("s1", "fail"),
        ("missing", "permerror"),
    ]
    assert best_of(found) == "pass"
    assert best_of(found[1:]) == "fail"
    assert best_of([]) == "none"


def test_the_best_word_is_one_that_there_is() -> None:
    assert [best_of([Signature(result=word), Signature(result="permerror")]) for word in WORDS[:-1]] == list(WORDS[:-1])


async def test_of_many_signatures_those_of_the_author_are_looked_at(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = signed(MESSAGE, RSA)
    for number in range(2 * MAX_SIGNATURES):
        content = signed(content, RSA, f"n{number}", "other.example")
    found = await check(resolver, content, executor)
    assert [each.domain for each in found] == ["other.example"] * (MAX_SIGNATURES - 1) + ["example.org"]
    assert found[-1].result == "pass"
    assert zone.questions == MAX_SIGNATURES


async def test_thousands_of_signatures_are_no_more_work_than_a_few(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = b"DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=s1; h=from; bh=AAAA; b=AAAA\r\n" * 900 + MESSAGE
    assert len(await check(resolver, content, executor)) == MAX_SIGNATURES
    assert len(candidates_of(Message(content, executor), ())) == MAX_SIGNATURES < MAX_LISTED


async def test_no_answer_about_a_key_is_a_temperror(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    zone.rcodes["s1._domainkey.example.org"] = dns.rcode.SERVFAIL
    assert await word(resolver, signed(MESSAGE, RSA), executor) == "temperror"


async def test_a_silent_server_is_a_temperror(zone: DnsServer, hasty: Resolver, executor: ThreadPoolExecutor) -> None:
    zone.is_silent = True
    assert await word(hasty, signed(MESSAGE, RSA), executor) == "temperror"


async def test_a_large_message_holds_nobody_up(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    content = signed(MESSAGE + b"a line \t of text\r\n" * INLINE_OCTETS, RSA)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    busy = asyncio.create_task(others())
    assert await word(resolver, content, executor) == "pass"
    busy.cancel()
    assert turns > 20


async def test_a_key_that_is_no_base64_is_none(
    zone: DnsServer, resolver: Resolver, executor: ThreadPoolExecutor
) -> None:
    broken = base64.b64encode(b"\x30\x82\xff\xff").decode()
    zone.load(key_record("s1", "example.org", f"p={broken}") + key_record("s2", "example.org", "p=*"))
    for selector in ("s1", "s2"):
        assert await word(resolver, signed(MESSAGE, RSA, selector), executor) == "permerror"
