"""Bans, overrides and lists over REST: put down, found, paged through, lifted, in force on others, in the audit."""

import asyncio
import re
import time
from typing import Any
from urllib.parse import urljoin

import aiohttp
import pytest
from yarl import URL

from reputation.entries import Ban, parse_target
from reputation.spelling import Spelling
from reputation.verdict import Reason
from tests.api.conftest import Api
from tests.builders import connect

MANY = 1_050
RULES = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["100/1h"]
action = "tempfail"
"""
KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "bans": ({"target": "sender:eve@example.org", "action": "tempfail"}, "/v1/bans/sender%3Aeve%40example.org"),
    "overrides": (
        {"target": "sender:eve@example.org", "rule": "sender-rate", "limits": ["5000/1h", "9/1m"]},
        "/v1/overrides/sender-rate/sender%3Aeve%40example.org",
    ),
    "lists": ({"target": "ip:198.51.100.0/24", "list": "allow"}, "/v1/lists/allow/ip%3A198.51.100.0%2F24"),
}


@pytest.fixture(scope="module")
def more_config() -> str:
    return RULES


async def json_of(answer: aiohttp.ClientResponse, status: int = 200) -> Any:
    """The document of an answer, which has that status."""
    assert answer.status == status, await answer.text()
    return await answer.json()


@pytest.mark.parametrize("room", KINDS)
async def test_an_entry_is_put_down_found_and_lifted(writing: aiohttp.ClientSession, room: str) -> None:
    told, where = KINDS[room]
    body = {**told, "reason": "a test", "expires_in_seconds": 3_600}
    async with writing.post(f"/v1/{room}", json=body) as answer:
        made = await json_of(answer, 201)
        assert answer.headers["location"] == where
    assert {name: made[name] for name in told} == told
    assert made["expires_at"] - made["created_at"] == pytest.approx(3_600)
    found = URL(where, encoded=True)
    async with writing.get(found) as answer:
        assert await json_of(answer) == made
    async with writing.get(f"/v1/{room}") as answer:
        assert made in (await json_of(answer))["entries"]
    async with writing.get("/v1/entries", params={"matching": "A TEST"}) as answer:
        assert made in (await json_of(answer))["entries"]
    async with writing.delete(found) as answer:
        assert "reason" in (await json_of(answer, 400))["detail"]
    async with writing.delete(found, params={"reason": "over"}) as answer:
        assert await json_of(answer) == made
    for ask in (writing.get(found), writing.delete(found, params={"reason": "over"})):
        async with ask as answer:
            assert (await json_of(answer, 404))["type"] == "/problems/not-there"


async def test_a_ban_is_in_force_on_another_engine_within_a_second_and_signed_by_the_tokens_owner(api: Api) -> None:
    async with api.client(await api.token("write", name="carol")) as asked:
        event = connect("203.0.113.9")
        assert (await api.engine.judge(event)).reason is not Reason.BANNED
        async with asked.post("/v1/bans", json={"target": "ip:203.0.113.9", "reason": "a spam run"}) as answer:
            assert (await json_of(answer, 201))["author"] == "carol"
        began = time.monotonic()
        while (await api.engine.judge(event)).reason is not Reason.BANNED:
            assert time.monotonic() - began < 1.0
            await asyncio.sleep(0.01)
        async with asked.delete("/v1/bans/ip:203.0.113.9", params={"reason": "a mistake"}) as answer:
            await json_of(answer)
        began = time.monotonic()
        while (await api.engine.judge(event)).reason is Reason.BANNED:
            assert time.monotonic() - began < 1.0
            await asyncio.sleep(0.01)
        async with asked.get("/v1/audit", params={"n": 10}) as answer:
            lines = (await json_of(answer))["lines"]
        mine = [line for line in lines if line["id"] == "ban|ip:203.0.113.9"]
        assert [(line["what"], line["author"], line["reason"]) for line in mine] == [
            ("lift", "carol", "a mistake"),
            ("put", "carol", "a spam run"),
        ]


async def put_many(api: Api) -> list[str]:
    """Bans of many networks, put down beside the API; their ids."""
    now = api.engine.now
    bans = [
        Ban(
            target=parse_target(f"sender:many{number:04}@example.net", Spelling()),
            author="tests",
            reason="one of many",
            created_at=now,
            expires_at=now + 3_600,
        )
        for number in range(MANY)
    ]
    await asyncio.gather(*map(api.engine.registrar.put, bans))
    return sorted(ban.id for ban in bans)


async def test_all_pages_together_have_every_entry_once(own_api: Api) -> None:
    ids = await put_many(own_api)
    async with own_api.client(await own_api.token("read")) as asked:
        deadline = time.monotonic() + 5.0
        total = 0
        while total != MANY and time.monotonic() < deadline:
            async with asked.get("/v1/bans", params={"n": 1}) as answer:
                total = (await json_of(answer))["total"]
        found, where, pages = list[str](), "/v1/bans?matching=one+of+MANY&n=250", 0
        while where:
            async with asked.get(URL(where, encoded=True)) as answer:
                body = await json_of(answer)
            link = re.fullmatch(r'<(\?[!-~]*)>; rel="next"', answer.headers.get("link", ""))
            assert bool(link) == (body["next"] is not None)
            where = urljoin(where, link[1]) if link else ""
            found += [entry["id"] for entry in body["entries"]]
            pages += 1
            assert body["total"] == MANY
        assert (found, pages) == (ids, 5)
        async with asked.get("/v1/bans", params={"n": 1_001}) as answer:
            assert answer.status == 400


@pytest.mark.parametrize("path", ["/v1/entries", "/v1/bans", "/v1/rules", "/v1/audit", "/v1/tokens", "/v1/top?at="])
async def test_what_has_not_changed_is_not_sent_again(administering: aiohttp.ClientSession, path: str) -> None:
    hour_ago = f"{int(time.time()) - 3_600}&dimension=sender&metric=messages&window=1h"
    more = hour_ago if "top" in path else ""
    async with administering.get(path + more) as answer:
        tag = answer.headers["etag"]
        assert "no-cache" in answer.headers["cache-control"]
        assert await answer.read()
    for condition in (tag, f'"other", W/{tag}', "*"):
        async with administering.get(path + more, headers={"if-none-match": condition}) as answer:
            assert answer.status == 304
            assert answer.headers["etag"] == tag
            assert await answer.read() == b""
    async with administering.get(path + more, headers={"if-none-match": '"other"'}) as answer:
        assert answer.status == 200


async def test_what_has_changed_is_sent_again(writing: aiohttp.ClientSession) -> None:
    async with writing.get("/v1/lists") as answer:
        tag = answer.headers["etag"]
    body = {"target": "sender:changed@example.org", "list": "vip", "reason": "a test"}
    async with writing.post("/v1/lists", json=body) as answer:
        assert answer.status == 201
    async with writing.get("/v1/lists", headers={"if-none-match": tag}) as answer:
        assert answer.status == 200
        assert answer.headers["etag"] != tag


@pytest.mark.parametrize(
    ("room", "body", "said"),
    [
        ("bans", {"target": "ip:192.0.2.7"}, "reason"),
        ("bans", {"target": "ip:192.0.2.7", "reason": "x", "expires_in_secs": 60}, "expires_in_secs"),
        ("bans", {"target": "ip:192.0.2.7", "reason": "x", "expires_in_seconds": "60"}, "expires_in_seconds"),
        ("bans", {"target": "ip:192.0.2.7", "reason": "x", "expires_in_seconds": 0}, "expires_in_seconds"),
        ("bans", {"target": "ip:192.0.2.7", "reason": "x", "action": "accept"}, "action"),
        ("bans", {"target": "ip:192.0.2.7", "reason": "two\nlines"}, "reason"),
        ("bans", {"target": "ip:192.0.0.0/8", "reason": "x"}, "192.0.0.0/8"),
        ("bans", {"target": "ip:192.0.0.0/8", "reason": "x", "wide": 1}, "wide"),
        ("bans", {"target": "ip:127.0.0.1", "reason": "x"}, "never banned"),
        ("bans", {"target": "nobody:7", "reason": "x"}, "names no entity"),
        ("bans", [], "body"),
        ("overrides", {"target": "user:bob", "rule": "nobody", "limits": ["1/1h"], "reason": "x"}, "nobody"),
        ("overrides", {"target": "user:bob", "rule": "sender-rate", "limits": ["many"], "reason": "x"}, "many"),
        ("overrides", {"target": "user:bob", "rule": "sender-rate", "limits": [], "reason": "x"}, "limits"),
        ("lists", {"target": "ip:192.0.2.7", "list": "No List", "reason": "x"}, "list"),
        ("lists", {"target": "ip:127.0.0.1", "list": "block", "reason": "x"}, "never banned"),
    ],
)
async def test_what_must_not_be_put_down_is_not_and_the_answer_says_why(
    writing: aiohttp.ClientSession, room: str, body: Any, said: str
) -> None:
    async with writing.post(f"/v1/{room}", json=body) as answer:
        assert said in (await json_of(answer, 400))["detail"]
        assert answer.content_type == "application/problem+json"


async def test_a_path_says_which_methods_it_has(writing: aiohttp.ClientSession) -> None:
    async with writing.put("/v1/bans", json={}) as answer:
        assert answer.status == 405
        assert answer.headers["allow"] == "GET, POST"
    async with writing.delete("/v1/entities/helo/x/series", params={"reason": "x"}) as answer:
        assert answer.status == 405
        assert answer.headers["allow"] == "GET"
