"""``POST /v1/check``: a mail server asks, and is told what to do."""

import asyncio
import base64
import json
from typing import Any

import aiohttp
import pytest

from reputation.keys import Entity
from tests.api.conftest import Api

RCPT: dict[str, Any] = {
    "stage": "rcpt",
    "client": "192.0.2.7",
    "helo": "mail.example.com",
    "sender": "alice@example.com",
    "recipient": "bob@example.net",
}
RULES = """
[[rule]]
name = "by-sender"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["2/1h"]
action = "tempfail"
reply = "4.7.1 Come again in {retry_after} s"

[[rule]]
name = "late"
stage = "data"
when = 'subject == "late" && header["x-test"] == "yes"'
action = "tag"

[[rule]]
name = "guessing"
stage = "auth"
key = ["ip"]
count = "auth_failures"
limits = ["1000/1h"]
action = "reject"
"""


@pytest.fixture(scope="module")
def more_config() -> str:
    return RULES


async def asked(session: aiohttp.ClientSession, body: object, status: int = 200, *, key: str = "") -> Any:
    octets = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with session.post("/v1/check", data=octets, headers={"idempotency-key": key} if key else {}) as answer:
        told = await answer.json(content_type=None)
        assert answer.status == status, told
        return told


def mail(name: str, **more: object) -> dict[str, object]:
    return {"stage": "mail", "client": "192.0.2.7", "sender": f"{name}@example.com", **more}


async def test_a_mail_server_asks_until_it_is_refused(checking: aiohttp.ClientSession, api: Api) -> None:
    verdicts = [await asked(checking, mail("limited")) for _ in range(3)]
    assert [verdict["action"] for verdict in verdicts] == ["accept", "accept", "tempfail"]
    refused = verdicts[-1]
    assert (refused["rule"], refused["reason"], refused["fired"]) == ("by-sender", "over-limit", ["by-sender"])
    assert refused["reply"].startswith("4.7.1 Come again in ")
    assert refused["retry_after_seconds"] > 0
    (finding,) = refused["findings"]
    assert (finding["entity"], finding["metric"], finding["count"], finding["limit"]) == (
        "sender:limited@example.com",
        "messages",
        2,
        "2/1h",
    )
    page = await api.engine.explain(Entity("sender", "limited@example.com"))
    assert {row.count for row in page.series if row.key.metric == "messages"} == {2}, "what is refused costs nothing"


async def test_every_stage_can_be_asked_about(checking: aiohttp.ClientSession) -> None:
    events = [
        {"stage": "connect", "client": "192.0.2.8", "early": False},
        {"stage": "helo", "client": "192.0.2.8", "helo": "mail.example.com"},
        {"stage": "auth", "client": "192.0.2.8", "login": "alice", "success": False},
        {"stage": "auth", "client": "192.0.2.8", "login": "alice", "success": True},
        mail("stages", declared_bytes=1_000, user="alice", tls=True),
        RCPT,
        {
            "stage": "data",
            "client": "2001:db8::7",
            "sender": "",
            "recipients": ["bob@example.net"],
            "message_bytes": 512,
            "subject": "late",
            "author": "alice@example.com",
            "header": {"X-Test": "yes"},
        },
    ]
    for event in events:
        verdict = await asked(checking, event)
        assert verdict["action"] in ("accept", "tag"), verdict
    assert verdict["tags"] == ["late"]


async def test_the_message_itself_can_be_sent(checking: aiohttp.ClientSession) -> None:
    message = b"From: a@example.com\r\nSubject: hello\r\n\r\nhello\r\n"
    data = {"stage": "data", "client": "192.0.2.7", "sender": "a@example.com", "recipients": ["b@example.net"]}
    verdict = await asked(checking, data | {"content": base64.b64encode(message).decode()})
    assert verdict["action"] == "accept"
    problem = await asked(checking, data | {"content": "no base64!"}, 400)
    assert problem["errors"][0]["where"] == "content"


async def test_a_header_is_read_as_the_front_end_reads_one(checking: aiohttp.ClientSession) -> None:
    data = {"stage": "data", "client": "192.0.2.7", "sender": "", "recipients": [], "subject": "late"}
    for header, tags in (
        ({"X-Test": " yes\r\n "}, ["late"]),
        ({"X-Test": "yes", "x-test": "no"}, ["late"]),
        ({"x-test": "no", "X-Test": "yes"}, []),
        ({"X-Test": "yes" + " " * 5_000 + "and no"}, ["late"]),
    ):
        assert (await asked(checking, data | {"header": header}))["tags"] == tags


async def test_many_are_judged_at_once_and_answered_in_their_order(checking: aiohttp.ClientSession) -> None:
    verdicts = await asked(checking, [mail(f"many{number}") for number in range(150)] + [mail("many0")])
    assert len(verdicts) == 151
    assert {verdict["action"] for verdict in verdicts} == {"accept"}
    mixed = await asked(checking, [mail("many0"), mail("fresh")])
    assert [verdict["action"] for verdict in mixed] == ["tempfail", "accept"]
    assert await asked(checking, []) == []


async def test_one_mistake_among_many_counts_nothing(checking: aiohttp.ClientSession) -> None:
    good = mail("careful")
    for bad in ({**good, "recipient": "x"}, {**good, "client": "nowhere"}, {"stage": "mail"}, 7):
        problem = await asked(checking, [good, bad], 400)
        assert "1" in problem["errors"][0]["where"], problem
    verdicts = [await asked(checking, good) for _ in range(3)]
    assert [verdict["action"] for verdict in verdicts] == ["accept", "accept", "tempfail"]


@pytest.mark.parametrize(
    ("event", "where"),
    [
        ({}, "stage"),
        ({"stage": "mail", "client": "192.0.2.7"}, "sender"),
        ({"stage": "rcpt", "client": "192.0.2.7", "sender": ""}, "recipient"),
        ({"stage": "disconnect", "client": "192.0.2.7"}, "stage"),
        ({"stage": "MAIL", "client": "192.0.2.7", "sender": ""}, "stage"),
        (RCPT | {"subject": "x"}, "subject"),
        (RCPT | {"recipients": ["x"]}, "recipients"),
        (RCPT | {"client": "192.0.2.7/24"}, "client"),
        (RCPT | {"client": "fe80::1%eth0\x00"}, "client"),
        (RCPT | {"tls": "yes"}, "tls"),
        (RCPT | {"colour": "red"}, "colour"),
        (RCPT | {"sender": None, "recipient": 7}, "recipient"),
        (RCPT | {"sender": "x" * 5_000}, "sender"),
        (mail("x") | {"declared_bytes": -1}, "declared_bytes"),
    ],
)
async def test_a_mistake_names_its_field(checking: aiohttp.ClientSession, event: object, where: str) -> None:
    problem = await asked(checking, event, 400)
    assert problem["type"] == "/problems/bad-request"
    assert where in {mistake["where"].rpartition(".")[2] for mistake in problem["errors"]}


@pytest.mark.parametrize(
    "body", [b"", b"{", b"null", b"[[]]", b'"x"', b"\xff", b"[" * 100_000, b'{"stage": "\\ud800"}']
)
async def test_what_is_no_json_is_a_mistake(checking: aiohttp.ClientSession, body: bytes) -> None:
    await asked(checking, body, 400)


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a\x00b", "\u202egnp.exe", "x" * 4_000, "ü@ü.example"])
async def test_hostile_text_is_counted_like_any(checking: aiohttp.ClientSession, text: str) -> None:
    event = RCPT | {"sender": text, "recipient": text, "helo": text, "user": text}
    assert (await asked(checking, event))["action"] == "accept"


# Idempotency


async def test_the_same_question_is_counted_once_and_answered_alike(checking: aiohttp.ClientSession) -> None:
    event = mail("again", key="queue-1")
    first = [await asked(checking, event) for _ in range(5)]
    assert first == [first[0]] * 5
    others = [await asked(checking, mail("again", key=f"queue-{number}")) for number in (2, 3)]
    assert [verdict["action"] for verdict in (first[0], *others)] == ["accept", "accept", "tempfail"]
    assert await asked(checking, mail("again", key="queue-3")) == others[-1], "a refusal, too"


async def test_the_key_can_be_in_the_header(checking: aiohttp.ClientSession) -> None:
    for _ in range(5):
        assert (await asked(checking, mail("header"), key="header-1"))["action"] == "accept"
    await asked(checking, mail("header", key="another"), 400, key="header-1")
    await asked(checking, [mail("header")], 400, key="header-1")
    await asked(checking, mail("header"), 400, key="x" * 201)


async def test_a_key_is_one_event_s(checking: aiohttp.ClientSession, api: Api) -> None:
    await asked(checking, mail("one", key="taken"))
    problem = await asked(checking, mail("other", key="taken"), 422)
    assert problem["type"] == "/problems/idempotency-key-reused"
    await asked(checking, [mail("a", key="twice"), mail("b", key="twice")], 400)
    async with api.client(await api.token("check")) as somebody_else:
        assert (await asked(somebody_else, mail("other", key="taken")))["action"] == "accept"


async def test_a_key_of_another_event_among_many_counts_nothing(checking: aiohttp.ClientSession) -> None:
    await asked(checking, mail("first", key="spoken for"))
    problem = await asked(checking, [mail("untouched"), mail("other", key="spoken for")], 422)
    assert "spoken for" in problem["detail"]
    verdicts = [await asked(checking, mail("untouched")) for _ in range(3)]
    assert [verdict["action"] for verdict in verdicts] == ["accept", "accept", "tempfail"]


async def test_two_who_ask_the_same_at_once_get_one_answer(checking: aiohttp.ClientSession) -> None:
    event = mail("race", key="race")
    verdicts = await asyncio.gather(*(asked(checking, event) for _ in range(10)))
    assert all(verdict == verdicts[0] for verdict in verdicts)
    assert (await asked(checking, mail("race", key="race 2")))["action"] == "accept"
    assert (await asked(checking, mail("race", key="race 3")))["action"] == "tempfail"


# Failure


async def test_without_the_store_the_rules_say_what_to_do(own_api: Api) -> None:
    async with own_api.client(await own_api.token("check")) as session:
        assert (await asked(session, mail("before")))["reason"] == "within-limits"
        own_api.store.pause()
        for key in ("", "key"):
            verdict = await asked(session, mail("while", key=key))
            assert (verdict["action"], verdict["reason"]) == ("accept", "store-unavailable")
        own_api.store.resume()
        async with asyncio.timeout(10):
            while (await asked(session, mail("after")))["reason"] == "store-unavailable":
                await asyncio.sleep(0.05)


async def test_our_trouble_is_not_told_again_when_it_is_over(own_api: Api) -> None:
    async with own_api.client(await own_api.token("check")) as session:
        own_api.store.pause()
        assert (await asked(session, mail("frozen", key="frozen")))["reason"] == "store-unavailable"
        own_api.store.resume()
        async with asyncio.timeout(10):
            while (await asked(session, mail("frozen", key="frozen")))["reason"] != "within-limits":
                await asyncio.sleep(0.05)


async def test_a_ban_is_heard(checking: aiohttp.ClientSession, writing: aiohttp.ClientSession) -> None:
    ban = {"target": "sender:banned@example.com", "reason": "a test"}
    async with writing.post("/v1/bans", json=ban) as answer:
        assert answer.status == 201
    verdict = await asked(checking, mail("banned"))
    assert (verdict["action"], verdict["reason"], verdict["entry"]) == (
        "reject",
        "banned",
        "ban|sender:banned@example.com",
    )


@pytest.mark.parametrize("scope", ["read", "write"])
async def test_another_scope_may_not_ask(api: Api, scope: str) -> None:
    async with api.client(await api.token(scope)) as session:
        problem = await asked(session, RCPT, 403)
        assert problem["type"] == "/problems/wrong-scope"


async def test_checks_are_counted_by_their_path(
    checking: aiohttp.ClientSession, reading: aiohttp.ClientSession
) -> None:
    """They go past the routes, and are requests like others."""
    await asked(checking, RCPT)
    await asked(checking, {}, 400)
    async with checking.get("/v1/check") as answer:
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    async with checking.post("/v1/check", json=RCPT) as answer:
        assert answer.headers["cache-control"] == "no-store"
    async with reading.get("/metrics") as answer:
        text = await answer.text()
    for status in ("2xx", "4xx"):
        assert f'reputon_api_requests_total{{route="/v1/check",status="{status}"}}' in text
