"""The reputation query protocol over HTTP: RFC 7070 to 7073 against a running API, with evidence of its store."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import pairwise
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from reputation.events import Data, Outcome, OutcomeKind
from reputation.ratings import LONGEST_SECONDS, SHORTEST_SECONDS
from tests.api.conftest import Api
from tests.api.reputons_for_tests import IDENTITIES, MEDIA_TYPE, expanded, read
from tests.builders import data, session

ASSERTIONS = ["abusive", "fraud", "invalid-recipients", "malware", "spam"]
PROBLEM = "application/problem+json"


def message(client: str, sender: str = "", author: str = "") -> Data:
    return replace(data("bob@example.net", sender=sender), session=session(client), author=author)


async def learn(api: Api, kind: OutcomeKind, times: int, client: str, sender: str = "", author: str = "") -> None:
    outcome = Outcome(kind=kind, event=message(client, sender, author))
    for _ in range(times):
        assert await api.engine.learn(outcome)


async def reputons(asked: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    """Those of an answer that is a success in every respect."""
    async with asked.get(URL(f"/repute/email-id/{path}", encoded=True)) as answer:
        assert (answer.status, answer.headers["content-type"]) == (200, MEDIA_TYPE), await answer.text()
        application, found = read(await answer.read())
    assert application == "email-id"
    return found


async def only(asked: aiohttp.ClientSession, path: str) -> dict[str, Any]:
    (reputon,) = await reputons(asked, path)
    return reputon


async def problem(answer: aiohttp.ClientResponse, status: int) -> Mapping[str, Any]:
    assert (answer.status, answer.headers["content-type"]) == (status, PROBLEM), await answer.text()
    found: Mapping[str, Any] = await answer.json(content_type=PROBLEM)
    assert found["status"] == status
    return found


def seconds_of(header: str) -> float:
    return parsedate_to_datetime(header).astimezone(UTC).timestamp()


# How to ask


async def test_the_template_is_plain_text_that_holds_for_a_day(api: Api, reading: aiohttp.ClientSession) -> None:
    """RFC 7072 section 3.2."""
    async with reading.get("/.well-known/repute-template") as answer:
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        left = seconds_of(answer.headers["expires"]) - datetime.now(UTC).timestamp()
        assert left == pytest.approx(86_400, abs=60)
        assert answer.headers["cache-control"] == "private, max-age=86400"
        template = await answer.text()
    assert (
        template
        == f"http://{{service}}:{api.program.port}/repute/{{application}}/{{subject}}/{{assertion}}{{?identity}}"
    )


async def test_whoever_fills_it_in_gets_his_answer(reading: aiohttp.ClientSession) -> None:
    async with reading.get("/.well-known/repute-template") as answer:
        template = await answer.text()
    values = {"service": "127.0.0.1", "application": "email-id", "subject": "x/y+z@example.org"}
    for more, count in (
        ({}, 10),
        ({"identity": "rfc5321.mailfrom"}, 5),
        ({"assertion": "spam"}, 2),
        ({"assertion": "spam", "identity": "rfc5322.from"}, 1),
    ):
        async with reading.get(URL(expanded(template, {**values, **more}), encoded=True)) as answer:
            found = read(await answer.read())[1]
        assert len(found) == count
        assert {each["rated"] for each in found} == {"x/y+z@example.org"}


@pytest.mark.parametrize("path", ["/.well-known/repute-template", "/repute/email-id/198.51.100.1/spam"])
async def test_head_says_the_same_without_a_body_and_no_other_method_is_there(
    reading: aiohttp.ClientSession, path: str
) -> None:
    async with reading.get(path) as whole, reading.head(path) as head:
        assert head.status == 200
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert await head.read() == b""
    for method in ("POST", "PUT", "DELETE"):
        async with reading.request(method, path) as answer:
            await problem(answer, 405)
            assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}


# What is answered


async def test_what_is_learned_is_asserted(api: Api, reading: aiohttp.ClientSession) -> None:
    before = int(api.engine.now)
    await learn(api, OutcomeKind.SPAM, 24, "198.51.100.24")
    await learn(api, OutcomeKind.HAM, 1, "198.51.100.24")
    async with reading.get("/repute/email-id/198.51.100.24/spam") as answer:
        assert answer.headers["content-type"] == MEDIA_TYPE, "RFC 7071 section 3: it takes no parameters"
        headers = answer.headers.copy()
        application, (reputon,) = read(await answer.read())
    assert application == "email-id"
    assert reputon.keys() == {
        *("rater", "assertion", "rated", "rating", "confidence", "normal-rating", "sample-size"),
        *("generated", "expires", "identity", "email-id-identity", "evidence-of"),
    }
    assert (reputon["assertion"], reputon["rated"], reputon["identity"]) == ("spam", "198.51.100.24", "ipv4")
    assert (reputon["rater"], reputon["evidence-of"]) == (socket.gethostname(), "ip:198.51.100.24")
    assert reputon["email-id-identity"] == reputon["identity"]
    assert 0.85 < reputon["rating"] < 1.0 and 0.9 < reputon["confidence"] < 1.0
    assert reputon["sample-size"] == 27, "its own 25, and two of its network's"
    assert before <= reputon["generated"] <= api.engine.now + 1
    lasts = reputon["expires"] - reputon["generated"]
    assert SHORTEST_SECONDS < lasts <= LONGEST_SECONDS
    assert seconds_of(headers["expires"]) == reputon["expires"], "RFC 7072 section 3.4: both must agree"
    assert headers["cache-control"] == f"private, max-age={lasts}"
    assert headers["x-content-type-options"] == "nosniff"


async def test_without_an_assertion_all_are_answered_for(api: Api, reading: aiohttp.ClientSession) -> None:
    await learn(api, OutcomeKind.MALWARE, 10, "198.51.101.1")
    for path in ("198.51.101.1", "198.51.101.1/", "198.51.101.1?identity=", "198.51.101.1/?identity=ipv4"):
        found = await reputons(reading, path)
        assert [each["assertion"] for each in found] == ASSERTIONS
        by_assertion = {each["assertion"]: each for each in found}
        assert by_assertion["malware"]["rating"] > 0.8
        assert by_assertion["spam"]["sample-size"] == by_assertion["fraud"]["sample-size"] == 0
        assert len({each["expires"] for each in found}) == 1, "one Expires field cannot agree with several"


@pytest.mark.parametrize(
    "subject", ["203.0.113.1", "2001:db8:ffff::1", "unknown.example", "nobody@unknown.example", "b%C3%BCcher.example"]
)
async def test_of_whom_nothing_is_known_is_said_so(reading: aiohttp.ClientSession, subject: str) -> None:
    """RFC 7071 section 6.1: a sample size of zero says that the server does not have the information."""
    for each in await reputons(reading, subject):
        assert (each["rating"], each["confidence"], each["sample-size"]) == (0.0, 0.0, 0)
        assert each["expires"] - each["generated"] <= SHORTEST_SECONDS or "normal-rating" not in each


@pytest.mark.parametrize("assertion", ["sends-spam", "is-good", "SPAMMY", "x'y"])
async def test_about_an_assertion_that_the_application_has_not_nothing_is_known(
    api: Api, reading: aiohttp.ClientSession, assertion: str
) -> None:
    await learn(api, OutcomeKind.SPAM, 3, "198.51.102.1")
    found = await only(reading, f"198.51.102.1/{assertion}")
    assert (found["assertion"], found["sample-size"], found["rating"]) == (assertion.lower(), 0, 0.0)


@pytest.mark.parametrize("application", ["movies", "email", "email-id%20", "..", "%00", "x" * 64])
async def test_another_application_is_not_found(reading: aiohttp.ClientSession, application: str) -> None:
    """RFC 7072 section 3.1: a 404, without fail."""
    async with reading.get(URL(f"/repute/{application}/192.0.2.7/spam", encoded=True)) as answer:
        await problem(answer, 404)


@pytest.mark.parametrize("path", ["", "/", "/email-id", "/email-id/", "/email-id//spam", "/email-id/a/b/c"])
async def test_what_is_no_query_is_not_found(reading: aiohttp.ClientSession, path: str) -> None:
    async with reading.get(URL(f"/repute{path}", encoded=True)) as answer:
        await problem(answer, 404)


async def test_the_words_of_the_protocol_are_read_in_any_case(reading: aiohttp.ClientSession) -> None:
    async with reading.get("/repute/Email-ID/192.0.2.7/SPAM?identity=IPv4") as answer:
        (found,) = read(await answer.read())[1]
    assert (found["assertion"], found["identity"]) == ("spam", "ipv4")


async def test_a_provider_s_own_parameters_are_passed_over(reading: aiohttp.ClientSession) -> None:
    assert len(await reputons(reading, "192.0.2.7/spam?x-more=1&identity=ipv4")) == 1


# Who is meant


async def test_a_domain_is_rated_as_each_of_its_identities(api: Api, reading: aiohttp.ClientSession) -> None:
    sender, author = "alice@mail.one.example", "alice@two.example"
    await learn(api, OutcomeKind.SPAM, 20, "198.51.103.1", sender)
    await learn(api, OutcomeKind.HAM, 20, "198.51.103.2", author=author)
    await learn(api, OutcomeKind.SPAM, 1, "198.51.103.3")
    by_sender, by_author = await reputons(reading, "news.one.example/spam")
    assert (by_sender["identity"], by_sender["evidence-of"]) == ("rfc5321.mailfrom", "sender_domain:one.example")
    assert (by_author["identity"], by_author["evidence-of"]) == ("rfc5322.from", "author_domain:one.example")
    assert by_sender["rating"] > 0.8 and by_author["sample-size"] == 0
    verified = await only(reading, "one.example/spam?identity=spf")
    assert verified["rating"] == pytest.approx(by_sender["rating"], abs=0.002)
    written = await only(reading, "two.example/spam?identity=rfc5322.from")
    assert written["rating"] < 0.1 and written["sample-size"] == 20
    whole = await only(reading, f"{sender}/spam?identity=rfc5321.mailfrom")
    assert (whole["evidence-of"], whole["sample-size"]) == (f"sender:{sender}", 22)
    other = await only(reading, "bob@mail.one.example/spam?identity=rfc5321.mailfrom")
    assert other["rating"] > 0.8 and other["confidence"] < 0.5, "his domain's, until something is known of him"


@pytest.mark.parametrize("identity", ["dkim", "rfc5321.helo"])
async def test_of_an_identity_that_no_evidence_is_kept_of_nothing_is_known(
    api: Api, reading: aiohttp.ClientSession, identity: str
) -> None:
    await learn(api, OutcomeKind.SPAM, 5, "198.51.104.1", "x@three.example")
    found = await reputons(reading, f"three.example/?identity={identity}")
    assert [(each["identity"], each["sample-size"]) for each in found] == [(identity, 0)] * 5
    assert not any("evidence-of" in each for each in found)


async def test_each_identity_of_the_rfc_is_understood(reading: aiohttp.ClientSession) -> None:
    subjects = {"ipv4": "192.0.2.7", "ipv6": "2001:db8::7"}
    for identity in IDENTITIES:
        found = await only(reading, f"{subjects.get(identity, 'example.com')}/spam?identity={identity}")
        assert (found["identity"], found["email-id-identity"]) == (identity, identity)


async def test_an_ipv6_address_is_rated_by_its_64_and_the_answer_says_so(
    api: Api, reading: aiohttp.ClientSession
) -> None:
    await learn(api, OutcomeKind.SPAM, 20, "2001:db8:7:1::1")
    found = await only(reading, "2001:db8:7:1:ffff::99/spam")
    assert (found["rated"], found["evidence-of"]) == ("2001:db8:7:1:ffff::99", "ip:2001:db8:7:1::/64")
    assert found["rating"] > 0.8 and found["identity"] == "ipv6"


async def test_an_unknown_address_in_a_bad_network_is_rated_bad_with_little_confidence(
    api: Api, reading: aiohttp.ClientSession
) -> None:
    for host in range(1, 41):
        await learn(api, OutcomeKind.SPAM, 1, f"198.51.105.{host}")
    unknown, known = await only(reading, "198.51.105.200/spam"), await only(reading, "198.51.105.1/spam")
    assert unknown["rating"] > 0.8
    assert unknown["confidence"] < 0.5 < known["confidence"]
    assert unknown["sample-size"] == 2
    elsewhere = await only(reading, "198.51.106.200/spam")
    assert elsewhere["sample-size"] == 0


async def test_rating_and_confidence_grow_with_the_evidence(api: Api, reading: aiohttp.ClientSession) -> None:
    await learn(api, OutcomeKind.HAM, 2, "198.51.107.1")
    found = []
    for _ in range(4):
        await learn(api, OutcomeKind.SPAM, 4, "198.51.107.1")
        found.append(await only(reading, "198.51.107.1/spam"))
    for earlier, later in pairwise(found):
        for name in ("rating", "confidence", "sample-size"):
            assert later[name] > earlier[name], name
        assert later["expires"] - later["generated"] > earlier["expires"] - earlier["generated"]


# Whatever is sent

HOSTILE = [
    *("<script>alert(1)</script>", "a" * 4_096 + "@example.com", "a" * 300 + ".example", "\x00", "x\x00@example.com"),
    *("\u202egpj.example", "\u202ea@example.com", "../../etc/passwd", "a/../b", "{ip:1}", "%", "%zz", "a\r\nX: y"),
    *("' OR 1=1 --", "192.0.2.7/24", "::", "0", "[::1]", "🦄.example", "🦄@example.com", '"a b"@example.com', "-@-"),
]


@pytest.mark.parametrize("place", ["{}", "{}/spam", "192.0.2.7/{}", "192.0.2.7/spam?identity={}"])
async def test_hostile_values_are_answered_harmlessly(reading: aiohttp.ClientSession, place: str) -> None:
    for value in HOSTILE:
        path = place.format(quote(value, safe=""))
        async with reading.get(URL(f"/repute/email-id/{path}", encoded=True)) as answer:
            body = await answer.read()
            assert answer.status in {200, 400}, (value, body)
            assert answer.headers["content-type"] == (MEDIA_TYPE if answer.status == 200 else PROBLEM)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert "X" not in answer.headers
            assert body.isascii() and len(body) < 8_192
            if answer.status == 200:
                read(body)


async def test_what_is_no_utf_8_is_nobody(reading: aiohttp.ClientSession) -> None:
    for path in ("%ff%fe@example.com/spam", "caf%E9.example/spam", "192.0.2.7/%e9"):
        async with reading.get(URL(f"/repute/email-id/{path}", encoded=True)) as answer:
            body = await answer.read()
            assert answer.status in {200, 400} and body.isascii()
            if answer.status == 200:
                assert {each["sample-size"] for each in read(body)[1]} == {0}


async def test_a_host_field_puts_nothing_into_the_template(api: Api, reading: aiohttp.ClientSession) -> None:
    for host in ("evil.example", "evil.example:1{x}", "evil.example:99999", "evil.example:8025"):
        async with reading.get("/.well-known/repute-template", headers={"host": host}) as answer:
            if answer.status == 200:
                assert "evil" not in await answer.text() and "{x}" not in await answer.text()


async def test_behind_a_proxy_that_speaks_tls_the_template_does(reading: aiohttp.ClientSession) -> None:
    headers = {"x-forwarded-proto": "https", "host": "rep.example.net"}
    async with reading.get("/.well-known/repute-template", headers=headers) as answer:
        assert (await answer.text()).startswith("https://{service}/repute/")


# Who may ask


@pytest.mark.parametrize(
    "path", ["/.well-known/repute-template", "/repute/email-id/192.0.2.7/spam", "/repute/email-id/192.0.2.7/"]
)
async def test_without_a_token_that_may_read_nothing_is_told(api: Api, path: str) -> None:
    async with api.client() as nobody, nobody.get(path) as answer:
        await problem(answer, 401)
        assert answer.headers["www-authenticate"].startswith("Bearer")
    async with api.client("rpt_00000000_" + "x" * 43) as somebody, somebody.get(path) as answer:
        await problem(answer, 401)
    async with api.client() as nobody, nobody.get("/repute/movies/x/y") as answer:
        await problem(answer, 401)


async def test_a_token_for_something_else_is_refused(api: Api) -> None:
    async with api.client(await api.token("check")) as server:
        for path in ("/.well-known/repute-template", "/repute/email-id/192.0.2.7/spam"):
            async with server.get(path) as answer:
                await problem(answer, 403)


@asynccontextmanager
async def without_its_store(api: Api) -> AsyncIterator[None]:
    api.store.kill()
    try:
        yield
    finally:
        await asyncio.to_thread(api.store.start)


async def test_while_the_store_is_away_nothing_is_made_up(own_api: Api) -> None:
    """503, and neither an empty answer nor one that somebody may keep."""
    await learn(own_api, OutcomeKind.SPAM, 3, "198.51.100.1")
    async with own_api.client(await own_api.token("read")) as asked:
        assert (await only(asked, "198.51.100.1/spam"))["sample-size"] == 5
        async with without_its_store(own_api):
            async with asked.get("/repute/email-id/198.51.100.1/spam") as answer:
                told = await problem(answer, 503)
                assert int(answer.headers["retry-after"]) > 0
                assert answer.headers["cache-control"] == "no-store"
            assert "198.51" not in told["detail"]
            async with asked.get("/.well-known/repute-template") as answer:
                assert answer.status == 200, "how to ask needs no store"
