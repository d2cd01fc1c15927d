"""What can be looked at over REST: the site, those with the most, one entity, rules, suspects, the audit."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import pytest
from yarl import URL

from tests.api.conftest import PATIENCE_SECONDS, Api
from tests.builders import mail

RULES = """
[[rule]]
name = "held-senders"
stage = "mail"
key = ["user"]
count = "messages"
limits = ["3/1h"]
action = "tempfail"
hold_seconds = 600

[[rule]]
name = "quiet"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["1/1h"]
action = "tempfail"
mode = "shadow"
"""


@pytest.fixture(scope="module")
def more_config() -> str:
    return RULES


async def document(asked: aiohttp.ClientSession, path: str, **query: Any) -> Any:
    """What is answered, which is good."""
    async with asked.get(path, params=query) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.content_type == "application/json"
        return await answer.json()


async def until(asked: aiohttp.ClientSession, path: str, is_wanted: Callable[[Any], bool], **query: Any) -> Any:
    """Look again and again until it is as it should be."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = await document(asked, path, **query)
        if is_wanted(found):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.02)


async def test_the_overview_says_how_the_store_is_and_what_was_judged(api: Api, reading: aiohttp.ClientSession) -> None:
    await api.engine.judge(mail("overview@example.com"))
    found = await until(reading, "/v1/overview", lambda body: any(row["last_1h"] for row in body["actions"]))
    assert found["store"]["up"]
    assert found["store"]["name"].startswith("Valkey")


async def test_the_overview_says_so_when_the_store_is_away(own_api: Api) -> None:
    async with own_api.client(await own_api.token("read")) as asked:
        own_api.store.kill()
        found = await document(asked, "/v1/overview")
        assert not found["store"]["up"]
        assert found["actions"] == []
        async with asked.get("/v1/top", params={"dimension": "ip", "metric": "messages", "window": "1h"}) as answer:
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0
            assert (await answer.json())["type"] == "/problems/store-away"


async def test_who_has_the_most_comes_first(api: Api, reading: aiohttp.ClientSession) -> None:
    for count, sender in ((5, "most@top.example.com"), (3, "more@top.example.com")):
        for _ in range(count):
            await api.engine.judge(mail(sender))
    asked = {"dimension": "sender", "metric": "messages", "window": "1h", "n": 1_000}

    def has_both(body: Any) -> bool:
        rows = {row["entity"]: row["count"] for row in body["rows"]}
        return (rows.get("sender:most@top.example.com"), rows.get("sender:more@top.example.com")) == (5, 3)

    found = await until(reading, "/v1/top", has_both, **asked)
    counts = [row["count"] for row in found["rows"]]
    assert counts == sorted(counts, reverse=True)
    assert found["at"] is None
    assert len((await document(reading, "/v1/top", **{**asked, "n": 1}))["rows"]) == 1


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("metric=messages&window=1h", "dimension"),
        ("dimension=sender&metric=messages&window=2h", "window"),
        ("dimension=nobody&metric=messages&window=1h", "dimension"),
        ("dimension=recipient&metric=spam&window=1h", "metric"),
        ("dimension=sender&metric=messages&window=1h&n=0", "n"),
        ("dimension=sender&metric=messages&window=1h&n=1001", "n"),
        ("dimension=sender&metric=messages&window=1h&n=1e2", "n"),
        ("dimension=sender&metric=messages&window=1h&at=nan", "at"),
        ("dimension=sender&metric=messages&window=1h&when=now", "when"),
    ],
)
async def test_a_mistake_in_a_question_is_named(reading: aiohttp.ClientSession, query: str, named: str) -> None:
    async with reading.get(f"/v1/top?{query}") as answer:
        assert answer.status == 400
        assert answer.content_type == "application/problem+json"
        assert named in (await answer.json())["detail"]


async def test_one_entity_has_its_counts_its_rules_its_series_and_its_verdicts(
    api: Api, reading: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        await api.engine.judge(mail("seen@example.com"))
    page = await until(reading, "/v1/entities/sender/seen%40example.com", lambda body: len(body["recent"]) == 1)
    assert page["entity"] == "sender:seen@example.com"
    assert {"metric": "messages", "window": "1h", "count": 2, "rule": ""} in page["counts"]
    assert {row["rule"] for row in page["rules"]} >= {"quiet"}
    assert page["recent"][0]["would"] == ["quiet"]
    explained = await document(reading, "/v1/entities/sender/Seen@Example.COM/explain")
    assert explained.keys() == page.keys() - {"distinct", "recent"}
    assert explained["counts"] == page["counts"]
    series = await document(reading, "/v1/entities/sender/seen@example.com/series")
    assert sum(each["count"] for each in series["series"][0]["buckets"]) == 2


async def test_a_slash_in_a_value_is_no_other_resource(reading: aiohttp.ClientSession) -> None:
    async def entity(path: str) -> str:
        async with reading.get(URL(path, encoded=True)) as answer:
            assert answer.status == 200, await answer.text()
            return str((await answer.json())["entity"])

    assert await entity("/v1/entities/prefix/192.0.2.0%2F24") == "prefix:192.0.2.0/24"
    assert await entity("/v1/entities/prefix/192.0.2.0/24") == "prefix:192.0.2.0/24"
    assert await entity("/v1/entities/prefix/192.0.2.0%2F24/series") == "prefix:192.0.2.0/24"
    assert await entity("/v1/entities/helo/x%2Fseries") == "helo:x/series"
    assert await entity("/v1/entities/helo/x%2Fseries/explain") == "helo:x/series"


async def test_rules_have_their_counts_and_one_in_shadow_mode_tells_what_it_would_have_done(
    api: Api, reading: aiohttp.ClientSession
) -> None:
    for _ in range(3):
        await api.engine.judge(mail("shadow@example.com"))

    def has_hit(body: Any) -> bool:
        return bool(next(row for row in body["rules"] if row["rule"] == "quiet")["would_hit"]["last_1h"])

    await until(reading, "/v1/rules", has_hit)
    mine = "sender:shadow@example.com"
    would = await until(
        reading, "/v1/rules/quiet/would-do", lambda body: any(row["entity"] == mine for row in body["rows"])
    )
    assert {"entity": mine, "verdicts": 2, "accepted": 2} in would["rows"]
    async with reading.get("/v1/rules/nobody/would-do") as answer:
        assert answer.status == 404


async def test_who_is_held_has_a_case_file_and_is_let_go_with_one_call(
    api: Api, reading: aiohttp.ClientSession, writing: aiohttp.ClientSession
) -> None:
    held = mail("held@example.com", user="held")
    for _ in range(5):
        await api.engine.judge(held)
    await until(reading, "/v1/suspects", lambda body: "user:held" in [each["entity"] for each in body["suspects"]])
    case = await until(reading, "/v1/suspects/user/held", lambda body: bool(body["actions"]))
    assert case["suspect"]["rule"] == "held-senders"
    assert case["advice"]
    async with writing.post("/v1/release", json={"target": "user:held", "reason": "it was a newsletter"}) as answer:
        assert answer.status == 200, await answer.text()
        assert [row["target"] for row in (await answer.json())["lifted"]] == ["user:held"]
    async with writing.post("/v1/release", json={"target": "user:held", "reason": "once more"}) as answer:
        assert answer.status == 404
    await until(reading, "/v1/suspects", lambda body: body["suspects"] == [])


async def test_who_is_held_is_told_page_by_page(
    api: Api, reading: aiohttp.ClientSession, writing: aiohttp.ClientSession
) -> None:
    users = ("paged1", "paged2", "paged3")
    for user in users:
        for _ in range(5):
            await api.engine.judge(mail(f"{user}@example.com", user=user))
    await until(reading, "/v1/suspects", lambda body: body["total"] == len(users))
    found: list[str] = []
    query = "?n=1"
    while query:
        async with reading.get(f"/v1/suspects{query}") as answer:
            body = await answer.json()
            following = str(answer.links["next"]["url"]) if "next" in answer.links else ""
        assert (len(body["suspects"]), body["total"]) == (1, 3)
        assert (body["next"] is None) == (not following)
        found += [each["entity"] for each in body["suspects"]]
        query = following and f"?{following.partition('?')[2]}"
    assert sorted(found) == [f"user:{user}" for user in users]
    async with reading.get("/v1/suspects?after=nobody") as answer:
        assert (answer.status, "after: " in await answer.text()) == (400, True)
    for user in users:
        async with writing.post("/v1/release", json={"target": f"user:{user}", "reason": "done"}) as answer:
            assert answer.status == 200


async def test_a_whole_class_is_banned_or_exempted_only_when_the_body_says_so(writing: aiohttp.ClientSession) -> None:
    for path, more in (("/v1/bans", {}), ("/v1/lists", {"list": "allow"})):
        body = {"target": "country:AQ", "reason": "a slip", "expires_in_seconds": 60, **more}
        async with writing.post(path, json=body) as answer:
            assert (answer.status, '\\"wide\\": true' in await answer.text()) == (400, True)
        async with writing.post(path, json={**body, "wide": True}) as answer:
            assert answer.status == 201
        async with writing.delete(answer.headers["location"], params={"reason": "done"}) as lifted:
            assert lifted.status == 200


async def test_somebody_is_forgotten_and_the_audit_does_not_say_who(
    api: Api, reading: aiohttp.ClientSession, administering: aiohttp.ClientSession
) -> None:
    for _ in range(2):
        await api.engine.judge(mail("forget.me@example.com"))
    path = "/v1/entities/sender/forget.me@example.com"
    await until(reading, path, lambda body: bool(body["recent"]))
    async with administering.delete(path, params={"reason": "asked for by the owner"}) as answer:
        assert answer.status == 200, await answer.text()
        assert (await answer.json())["counters"] > 0
    page = await until(reading, path, lambda body: not body["recent"])
    assert not any(row["count"] for row in page["counts"])
    audit = await document(reading, "/v1/audit", n=5)
    assert audit["lines"][0]["reason"] == "asked for by the owner"
    assert "forget.me" not in str(audit)


async def test_rules_are_read_anew_when_they_can_be_read(own_api: Api) -> None:
    async with own_api.client(await own_api.token("admin", name="root")) as asked:
        config = own_api.program.config
        config.write_text(config.read_text() + RULES.replace("held-senders", "other").replace("quiet", "new-rule"))
        async with asked.post("/v1/rules/reload", json={"reason": "a new rule"}) as answer:
            assert answer.status == 200, await answer.text()
        await until(asked, "/v1/rules", lambda body: "new-rule" in [row["rule"] for row in body["rules"]])
        config.write_text(config.read_text() + "\n[[rule]]\nname = 7\n")
        async with asked.post("/v1/rules/reload", json={"reason": "a broken rule"}) as answer:
            assert answer.status == 400
            assert "name" in (await answer.json())["detail"]
        lines = (await document(asked, "/v1/audit", n=10))["lines"]
        assert [(line["author"], line["reason"]) for line in lines if line["what"] == "reload"] == [
            ("root", "a new rule")
        ]
