"""Whatever a stranger has written, asked about over REST: a good answer or a problem, and never our fault."""

import asyncio
import json
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest
from yarl import URL

from reputation.events import Helo
from tests.api.conftest import PATIENCE_SECONDS, Api
from tests.builders import session

VALUES = {
    "nul": "a%00b",
    "line": "a%0D%0ASet-Cookie:%20a=b",
    "long": "x" * 4_000 + "@example.com",
    "longest": "%F0%9F%92%A3" * 4_096,
    "right to left": "%E2%80%AEmoc.elpmaxe",
    "script": quote("<script>alert(1)</script>", safe=""),
    "slashes": "..%2F..%2Fetc%2Fpasswd",
    "no utf-8": "%FF%FE",
    "surrogate": "%ED%A0%80",
    "half an escape": "a%2",
    "no escape": "a%zz",
    "percent": "%2525",
    "hash tag": "%7Bip:1.2.3.4%7D",
    "bar": "a%7Cb%7Cc",
    "template": quote("{{7*7}}${7*7}%s%n", safe=""),
    "blank": "%20",
    "joined": "a,b,c",
}
PATHS = (
    "/v1/entities/sender/{}",
    "/v1/entities/helo/{}/series",
    "/v1/entities/user/{}/explain",
    "/v1/entities/sender+recipient/{}",
    "/v1/entities/ip/{}",
    "/v1/entities/{}/x",
    "/v1/suspects/user/{}",
    "/v1/suspects/asn/{}",
    "/v1/bans/sender:{}",
    "/v1/bans/{}",
    "/v1/overrides/{}/ip:192.0.2.7",
    "/v1/overrides/sender-rate/helo:{}",
    "/v1/lists/{}/ip:192.0.2.7",
    "/v1/lists/allow/{}",
    "/v1/rules/{}/would-do",
    "/v1/bans?matching={}",
    "/v1/entries?after={}",
    "/v1/audit?n={}",
    "/v1/top?metric=messages&window=1h&dimension={}",
    "/v1/top?dimension=sender&metric=messages&window=1h&at={}",
    "/v1/stream?entity={}",
    "/v1/stream?rule=x&action={}",
    "/v1/bans?{}=1",
    "/v1/{}",
    "/{}",
)


def is_good(answer: aiohttp.ClientResponse, octets: bytes) -> bool:
    """A document, or a problem of the client's, which any reader of JSON can read."""
    if answer.content_type == "text/event-stream":
        return answer.status == 200
    if answer.status >= 500 or (answer.status >= 400) != (answer.content_type == "application/problem+json"):
        return False
    json.loads(octets.decode())
    return True


@pytest.mark.parametrize("name", VALUES)
async def test_any_value_in_any_place_is_answered(reading: aiohttp.ClientSession, name: str) -> None:
    for path in PATHS:
        asked = URL(path.replace("{}", VALUES[name]), encoded=True)
        async with reading.get(asked, headers={"last-event-id": "nothing" if "stream" in path else "x"}) as answer:
            octets = b"" if answer.content_type == "text/event-stream" else await answer.read()
            assert is_good(answer, octets), (path, answer.status, octets[:300])
            assert "set-cookie" not in answer.headers


BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no json": b"{",
    "no utf-8": b'{"target": "helo:\xff", "reason": "x"}',
    "surrogate": b'{"target": "helo:\\udcff\\ud800", "reason": "x"}',
    "surrogate in a reason": b'{"target": "helo:x", "reason": "\\ud800"}',
    "surrogate in a name": b'{"target": "helo:x", "reason": "x", "\\ud800": 1}',
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "large number": b'{"target": "helo:x", "reason": "x", "expires_in_seconds": ' + b"9" * 5_000 + b"}",
    "endless": b'{"target": "helo:x", "reason": "x", "expires_in_seconds": Infinity}',
    "not a number": b'{"target": "helo:x", "reason": "x", "expires_in_seconds": NaN}',
    "nul": b'{"target": "helo:\\u0000", "reason": "\\u0000"}',
    "twice": b'{"target": "helo:x", "reason": "", "reason": "\\u202e<script>"}',
    "an array": b"[[[]]]",
    "long": json.dumps({"target": "helo:" + "x" * 1_000_000, "reason": "x"}).encode(),
    "many members": json.dumps({str(number): number for number in range(50_000)}).encode(),
}


POSTED_TO = ("/v1/bans", "/v1/overrides", "/v1/lists", "/v1/release", "/v1/rules/reload", "/v1/tokens")


@pytest.mark.parametrize("name", BODIES)
async def test_any_body_is_answered(administering: aiohttp.ClientSession, name: str) -> None:
    header = {"content-type": "application/json"}
    for path in POSTED_TO:
        async with administering.post(path, data=BODIES[name], headers=header) as answer:
            octets = await answer.read()
            assert is_good(answer, octets), (path, answer.status, octets[:300])
            assert answer.status in {201, 400, 404, 413}, (path, octets[:300])
            assert len(octets) < 70_000


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/xml", "multipart/form-data", "", "application/json; charset=utf-16"]
)
async def test_a_body_of_another_kind_is_a_mistake(writing: aiohttp.ClientSession, kind: str) -> None:
    body = b"\xff\xfe" + '{"target": "ip:192.0.2.7", "reason": "x"}'.encode("utf-16-le")
    async with writing.post("/v1/bans", data=body, headers={"content-type": kind}) as answer:
        octets = await answer.read()
        assert is_good(answer, octets), octets
        assert answer.status < 500


async def test_octets_on_the_request_line_do_no_harm(api: Api) -> None:
    token = await api.token("read")
    for line in (
        b"GET /v1/entities/helo/\xff\xfe HTTP/1.1",
        b"GET /v1/entities/helo/\x01 HTTP/1.1",
        b"GET /v1/bans?matching=\xff HTTP/1.1",
        b"GET //v1//bans HTTP/1.1",
        b"GET http://example.com/v1/bans HTTP/1.1",
        b"GET * HTTP/1.1",
        b"BREW /v1/bans HTTP/1.1",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", api.program.port)
        writer.write(
            line + b"\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n"
        )
        async with asyncio.timeout(PATIENCE_SECONDS):
            first = await reader.readline()
        writer.close()
        assert not first or 200 <= int(first.split()[1]) < 500, (line, first)
    assert api.program.lines("Traceback") == []


async def test_what_a_stranger_has_said_is_told_as_text(api: Api, reading: aiohttp.ClientSession) -> None:
    said = "<b>\u202e\x00\udcff{}"
    await api.engine.judge(Helo(session=session("203.0.113.50", helo=said)))
    path = URL("/v1/entities/helo/" + quote(said, safe="", errors="surrogateescape"), encoded=True)
    async with reading.get(path) as answer:
        octets = await answer.read()
        assert is_good(answer, octets), octets
        page: Any = json.loads(octets)
    assert page["entity"] == "helo:<b>%E2%80%AE%00%FF%7B%7D"
    async with reading.get(
        URL("/v1/entities/" + quote(page["entity"].replace(":", "/", 1), safe="/"), encoded=True)
    ) as answer:
        assert (await answer.json())["entity"] == page["entity"]


async def test_all_of_this_was_nobodys_fault(api: Api, reading: aiohttp.ClientSession) -> None:
    async with reading.get("/v1/overview") as answer:
        assert answer.status == 200
    assert api.program.lines("Traceback") == []
    assert api.program.lines("ERROR") == []
