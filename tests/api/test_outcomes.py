"""``POST /v1/outcomes``: what became of messages, as JSON and as feedback reports."""

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from reputation.keys import Entity
from tests.api.conftest import Api
from tests.unit.desk.test_feedback_reports import REPORT, report


async def told(
    session: aiohttp.ClientSession,
    body: object,
    status: int = 200,
    media_type: str = "application/json",
    *,
    key: str = "",
) -> Any:
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post(
        "/v1/outcomes", data=octets, headers={"content-type": media_type} | ({"idempotency-key": key} if key else {})
    ) as answer:
        read = await answer.json(content_type=None)
        assert answer.status == status, read
        return read


async def count(api: Api, entity: str, metric: str) -> int:
    dimension, _, id = entity.partition(":")
    return max(
        (row.count for row in await api.engine.store.series(Entity(dimension, id)) if row.key.metric == metric),
        default=0,
    )


@pytest.mark.parametrize(
    ("kind", "metric"),
    [
        ("spam", "spam"),
        ("malware", "malware"),
        ("bounce", "bounces"),
        ("complaint", "complaints"),
        ("junk", "complaints"),
        ("trap", "spam"),
        ("fraud", "spam"),
        ("abusive", "complaints"),
        ("unknown-recipient", "invalid_recipients"),
        ("auth-failed", "auth_failures"),
    ],
)
async def test_each_kind_is_counted(checking: aiohttp.ClientSession, api: Api, kind: str, metric: str) -> None:
    user = f"user-{kind}"
    told_of = await told(checking, {"kind": kind, "user": user, "sender": f"{user}@example.com"})
    assert told_of["results"][0]["status"] == "counted"
    assert f"user:{user}" in told_of["results"][0]["entities"]
    assert await count(api, f"user:{user}", metric) == 1


async def test_good_mail_is_told_of_too(checking: aiohttp.ClientSession, api: Api) -> None:
    await told(checking, {"kind": "ham", "client": "198.51.100.77"})
    standing = (await api.engine.explain(Entity("ip", "198.51.100.77"))).reputation
    assert standing is not None
    assert standing.levels[-1].long.good == pytest.approx(1, abs=0.01)


async def test_a_key_counts_once_alone_or_among_many(checking: aiohttp.ClientSession, api: Api) -> None:
    one = {"kind": "spam", "client": "198.51.100.1", "key": "once"}
    first = await told(checking, [one, one, {**one, "key": ""}])
    assert [result["status"] for result in first["results"]] == ["counted", "duplicate", "counted"]
    again = await told(checking, {**one, "key": ""}, key="once")
    assert again["results"][0]["status"] == "duplicate"
    assert await count(api, "ip:198.51.100.1", "spam") == 2


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "sunshine", "client": "192.0.2.7"},
        {"kind": "spam"},
        {"kind": "spam", "client": "nowhere"},
        {"kind": "spam", "client": "192.0.2.7", "colour": "red"},
        [{"kind": "spam", "client": "192.0.2.7"}, {"kind": 7}],
        7,
        b"{",
        b"\xff",
    ],
)
async def test_a_mistake_counts_nothing(checking: aiohttp.ClientSession, api: Api, body: object) -> None:
    before = await count(api, "ip:192.0.2.7", "spam")
    problem = await told(checking, body, 400)
    assert problem["type"] == "/problems/bad-request"
    assert await count(api, "ip:192.0.2.7", "spam") == before


async def test_a_feedback_report_as_it_arrives(checking: aiohttp.ClientSession, api: Api) -> None:
    first = await told(checking, REPORT, media_type="message/rfc822")
    assert first["results"][0]["status"] == "counted"
    assert "ip:192.0.2.99" in first["results"][0]["entities"]
    again = await told(checking, REPORT, media_type="message/rfc822")
    assert again["results"][0]["status"] == "duplicate"
    assert await count(api, "ip:192.0.2.99", "complaints") == 1


async def test_a_feedback_report_without_its_own_header(checking: aiohttp.ClientSession, api: Api) -> None:
    head, _, body = report(source="192.0.2.98").partition(b"\r\n\r\n")
    header = next(
        line for line in head.replace(b"\r\n\t", b" ").split(b"\r\n") if line.lower().startswith(b"content-type")
    )
    await told(checking, body, media_type=header.partition(b":")[2].strip().decode())
    assert await count(api, "ip:192.0.2.98", "complaints") == 1


async def test_a_feedback_report_with_text_before_its_parts(checking: aiohttp.ClientSession, api: Api) -> None:
    _, _, body = report(source="192.0.2.97").partition(b"\r\n\r\n")
    await told(checking, b"This is MIME.\r\n\r\n" + body, media_type='multipart/report; boundary="part"')
    assert await count(api, "ip:192.0.2.97", "complaints") == 1
    await told(checking, report(source="192.0.2.97"), media_type="multipart/report")
    assert await count(api, "ip:192.0.2.97", "complaints") == 2, "a whole message, whatever it is said to be"


async def test_a_feedback_report_may_have_another_key(checking: aiohttp.ClientSession, api: Api) -> None:
    for name in ("<1@provider.example>", "<2@provider.example>"):
        octets = report(source="192.0.2.96").replace(b"<192.0.2.96@provider.example>", name.encode())
        await told(checking, octets, media_type="message/rfc822", key="one of them")
    assert await count(api, "ip:192.0.2.96", "complaints") == 1
    problem = await told(checking, REPORT, 400, "message/rfc822", key="x" * 201)
    assert problem["errors"][0]["where"] == "key"


async def test_a_mistake_among_many_says_where_it_is(checking: aiohttp.ClientSession, api: Api) -> None:
    good = {"kind": "spam", "client": "198.51.100.66"}
    for bad in ({"kind": "spam", "client": "nowhere"}, {"kind": "sunshine"}, {"kind": "spam"}, 7):
        problem = await told(checking, [good, bad], 400)
        assert problem["errors"][0]["where"].startswith("body.1"), problem
    assert await count(api, "ip:198.51.100.66", "spam") == 0


async def test_what_is_no_report_says_what_is_missing(checking: aiohttp.ClientSession) -> None:
    problem = await told(checking, b"Subject: hello\r\n\r\nhello\r\n", 400, "message/rfc822")
    assert "message/feedback-report" in problem["detail"]
    assert (await told(checking, b"a,b", 415, "text/csv"))["type"] == "/problems/wrong-media-type"


async def test_what_the_store_does_not_take_is_told_again(own_api: Api) -> None:
    spam = {"kind": "spam", "client": "203.0.113.5"}
    async with own_api.client(await own_api.token("check")) as session:
        own_api.store.pause()
        async with session.post("/v1/outcomes", json=spam | {"key": "kept"}) as answer:
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
        own_api.store.resume()
        async with asyncio.timeout(10):
            while True:
                async with session.post("/v1/outcomes", json=spam) as answer:
                    if answer.status == 200:
                        assert (await answer.json())["results"][0]["status"] == "counted"
                        break
                await asyncio.sleep(0.05)


@pytest.mark.parametrize(("scope", "status"), [("write", 200), ("check", 200), ("read", 403)])
async def test_who_may_tell(api: Api, scope: str, status: int) -> None:
    async with api.client(await api.token(scope)) as session:
        await told(session, {"kind": "spam", "client": "198.51.100.200"}, status)
