"""DMARC: records, alignment, several authors; held against authheaders where that can be believed."""

from collections.abc import AsyncIterator

import authheaders  # type: ignore[import-untyped]  # it ships no types
import authres  # type: ignore[import-untyped]  # it ships no types either
import dns.rcode
import pytest
import pytest_asyncio

from reputation.facts import Signature
from reputation.lookups.dmarc import (
    Authors,
    Found,
    Record,
    Wanted,
    authors_of,
    is_aligned,
    judged,
    record_of,
    wanted_of,
    worst_of,
)
from reputation.lookups.resolver import Resolver
from tests.dns_server import DnsServer
from tests.signing import text_record

RECORDS = {
    "reject.example": "v=DMARC1; p=reject; sp=quarantine; rua=mailto:a@reject.example",
    "sub.own.example": "v=DMARC1; p=none",
    "own.example": "v=DMARC1; p=reject",
    "strict.example": "v=DMARC1; p=reject; adkim=s; aspf=s",
    "none.example": "v=DMARC1; p=none",
    "nodmarc.example": "v=spf1 -all",
    "reports.example": "v=DMARC1; p=bogus; rua=mailto:a@reports.example",
    "broken.example": "v=DMARC1; p=bogus",
}
ZONE = "".join(text_record(f"_dmarc.{name}", text) for name, text in RECORDS.items())
ZONE += text_record("_dmarc.twice.example", "v=DMARC1; p=reject") + text_record(
    "_dmarc.twice.example", "v=DMARC1; p=none"
)
ZONE += text_record("_dmarc.mixed.example", "v=spf1 -all") + text_record("_dmarc.mixed.example", "v=DMARC1; p=reject")
ZONE += text_record("_dmarc.twice.twice.example", "v=DMARC1; p=reject")


@pytest_asyncio.fixture
async def zone(server: DnsServer) -> AsyncIterator[DnsServer]:
    server.load(ZONE)
    yield server


# Records


@pytest.mark.parametrize(
    ("domain", "policy"),
    [
        ("reject.example", "reject"),
        ("a.b.reject.example", "quarantine"),
        ("sub.own.example", "none"),
        ("other.own.example", "reject"),
        ("below.sub.own.example", "reject"),
        ("none.example", "none"),
        ("nodmarc.example", ""),
        ("missing.example", ""),
        ("twice.example", ""),
        ("mixed.example", "reject"),
        ("reports.example", "none"),
        ("broken.example", ""),
        ("co.uk", ""),
        ("localhost", ""),
    ],
)
async def test_what_a_domain_wants(zone: DnsServer, resolver: Resolver, domain: str, policy: str) -> None:
    assert (await wanted_of(resolver, domain)).policy == policy


async def test_a_domain_is_asked_about_once_and_its_registered_domain_with_it(
    zone: DnsServer, resolver: Resolver
) -> None:
    await wanted_of(resolver, "reject.example")
    assert zone.asked == {("_dmarc.reject.example", "TXT"): 1}
    await wanted_of(resolver, "a.reject.example")
    assert zone.asked == {("_dmarc.reject.example", "TXT"): 1, ("_dmarc.a.reject.example", "TXT"): 1}


@pytest.mark.parametrize(
    ("failing", "domain", "has_failed"),
    [
        ("_dmarc.reject.example", "reject.example", True),
        ("_dmarc.reject.example", "a.reject.example", True),
        ("_dmarc.a.reject.example", "a.reject.example", True),
        ("_dmarc.own.example", "sub.own.example", False),
    ],
)
async def test_no_answer_about_a_record_that_is_needed(
    zone: DnsServer, resolver: Resolver, failing: str, domain: str, has_failed: bool
) -> None:
    zone.rcodes[failing] = dns.rcode.SERVFAIL
    assert (await wanted_of(resolver, domain)).has_failed is has_failed


@pytest.mark.parametrize(
    ("text", "record"),
    [
        (b"v=DMARC1;p=reject", Record("reject", "reject", False, False)),
        (b"v=DMARC1 ; p = Quarantine ; sp=REJECT;", Record("quarantine", "reject", False, False)),
        (b"v=DMARC1; p=none; aspf=s; adkim=S", Record("none", "none", True, True)),
        (b"v=DMARC1; p=reject; aspf=x; adkim=", Record("reject", "reject", False, False)),
        (b"v=DMARC1; p=reject; pct=0", Record("quarantine", "quarantine", False, False)),
        (b"v=DMARC1; p=quarantine; sp=none; pct=0", Record("none", "none", False, False)),
        (b"v=DMARC1; p=reject; pct=1", Record("reject", "reject", False, False)),
        (b"v=DMARC1; p=reject; oops; =; ;;", Record("reject", "reject", False, False)),
        (b"v=DMARC1; p=reject; p=none", Record("reject", "reject", False, False)),
        (b"v=DMARC1; p=reject; sp=bogus", None),
        (b"v=DMARC1; p=reject; sp=bogus; rua=mailto:a@b.example", Record("none", "none", False, False)),
        (b"v=DMARC1; rua=mailto:a@b.example", Record("none", "none", False, False)),
        (b"v=DMARC1; rua=https://b.example", None),
        (b"v=DMARC1", None),
        (b"v=DMARC1; \xff\xfe", None),
    ],
)
def test_records(text: bytes, record: Record | None) -> None:
    assert record_of(text) == record


# Alignment


@pytest.mark.parametrize(
    ("domain", "author", "relaxed", "strict"),
    [
        ("example.org", "example.org", True, True),
        ("mail.example.org", "example.org", True, False),
        ("example.org", "news.example.org", True, False),
        ("a.example.org", "b.example.org", True, False),
        ("example.net", "example.org", False, False),
        ("badexample.org", "example.org", False, False),
        ("example.org.evil.example", "example.org", False, False),
        ("bank.example-evil.net", "bank.example", False, False),
        ("my-bank.example", "my-bank.example", True, True),
        ("a.co.uk", "b.co.uk", False, False),
        ("co.uk", "a.co.uk", False, False),
        ("", "example.org", False, False),
    ],
)
def test_alignment(domain: str, author: str, relaxed: bool, strict: bool) -> None:
    assert is_aligned(domain, author, is_strict=False) is relaxed
    assert is_aligned(domain, author, is_strict=True) is strict


REJECT = Wanted("example.org", "reject")


def by(domain: str, result: str = "pass") -> Signature:
    return Signature(result=result, domain=domain)


@pytest.mark.parametrize(
    ("spf", "sender", "signatures", "word"),
    [
        ("pass", "example.org", [], "pass"),
        ("pass", "bounces.example.org", [], "pass"),
        ("pass", "example.net", [], "fail"),
        ("fail", "example.org", [by("example.org")], "pass"),
        ("fail", "example.org", [by("example.net"), by("mail.example.org")], "pass"),
        ("none", "", [by("example.org", "fail")], "fail"),
        ("softfail", "example.org", [], "fail"),
        ("temperror", "example.org", [], "temperror"),
        ("temperror", "example.net", [], "fail"),
        ("temperror", "example.org", [by("example.org")], "pass"),
        ("fail", "example.org", [by("example.org", "temperror")], "temperror"),
        ("fail", "example.org", [by("evil.example", "temperror")], "fail"),
        ("pass", "example.org", [by("example.org", "temperror")], "pass"),
        ("fail", "example.org", [by("example.org", "policy"), by("", "permerror")], "fail"),
    ],
)
def test_what_speaks_for_an_author(spf: str, sender: str, signatures: list[Signature], word: str) -> None:
    assert judged(REJECT, spf, sender, signatures) == Found(word, "reject", "example.org")


@pytest.mark.parametrize(("is_strict", "word"), [(False, "pass"), (True, "fail")])
def test_what_a_strict_domain_wants(is_strict: bool, word: str) -> None:
    wanted = REJECT._replace(is_strict_spf=is_strict, is_strict_dkim=is_strict)
    assert judged(wanted, "pass", "mail.example.org", []).word == word
    assert judged(wanted, "fail", "", [by("mail.example.org")]).word == word
    assert judged(wanted, "pass", "example.org", []).word == "pass"


def test_without_a_record_nothing_is_said() -> None:
    assert judged(Wanted("example.org", ""), "pass", "example.org", []) == Found("none", "", "example.org")


# Authors


@pytest.mark.parametrize(
    ("addresses", "fields", "author", "authors"),
    [
        (["a@example.org"], 1, "a@example.org", Authors(("example.org",), is_lawful=True)),
        (["a@B\xfccher.example."], 1, "", Authors(("xn--bcher-kva.example",), is_lawful=True)),
        (["a@example.org"], 1, "a@example.net", Authors(("example.org", "example.net"), is_lawful=True)),
        (["a@example.org"], 2, "", Authors(("example.org",), is_lawful=False)),
        ([], 0, "", Authors((), is_lawful=False)),
        ([], 1, "", Authors((), is_lawful=False)),
        (["a@[192.0.2.7]"], 1, "", Authors((), is_lawful=False)),
        (["a@a b"], 1, "", Authors((), is_lawful=False)),
        (["a@" + "x" * 300], 1, "", Authors((), is_lawful=False)),
        (
            [f"a@d{n}.example" for n in range(9)],
            1,
            "",
            Authors(("d0.example", "d1.example", "d2.example"), is_lawful=False),
        ),
    ],
)
def test_who_is_asked_about(addresses: list[str], fields: int, author: str, authors: Authors) -> None:
    assert authors_of(addresses, fields, author) == authors


def test_nobody_gets_around_a_policy_by_naming_others() -> None:
    good, bad = Found("pass", "none", "evil.example"), Found("fail", "reject", "bank.example")
    milder = Found("fail", "quarantine", "other.example")
    lawful, unlawful = (Authors(("evil.example",), is_lawful=is_lawful) for is_lawful in (True, False))
    assert worst_of(lawful, [good]) == good
    assert worst_of(lawful, [good, bad]) == worst_of(lawful, [milder, bad]) == worst_of(unlawful, [good, bad]) == bad
    assert worst_of(lawful, [good, Found("none", "", "bank.example")]).word == "none"
    assert worst_of(unlawful, [good]) == Found("permerror", "", "evil.example")
    assert worst_of(Authors((), is_lawful=False), []) == Found("permerror")


# A second opinion. What authheaders says can be believed about names that are on its list of suffixes, and records
# without sp= of their own domain.

SECOND = {
    "reject.org": "v=DMARC1; p=reject",
    "strict.org": "v=DMARC1; p=quarantine; adkim=s",
    "below.org": "v=DMARC1; p=reject; sp=none",
}


@pytest.mark.parametrize("author", ["reject.org", "a.reject.org", "strict.org", "a.below.org", "missing.org"])
@pytest.mark.parametrize("signer", ["reject.org", "b.reject.org", "strict.org", "a.strict.org", "b.a.below.org"])
async def test_authheaders_says_the_same(zone: DnsServer, resolver: Resolver, author: str, signer: str) -> None:
    zone.load("".join(text_record(f"_dmarc.{name}", text) for name, text in SECOND.items()))
    ours = judged(await wanted_of(resolver, author), "none", "", [by(signer)])
    theirs = authheaders.dmarc_per_from(
        author,
        dkim_result=authres.DKIMAuthenticationResult(result="pass", header_d=signer),
        dnsfunc=lambda name: SECOND.get(name.removeprefix("_dmarc."), ""),
    )
    assert (ours.word, ours.policy) == (theirs[0], theirs[3])
