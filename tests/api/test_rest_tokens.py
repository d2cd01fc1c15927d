"""Tokens over REST: made, used, shown without their secrets, taken back."""

from typing import Any

import aiohttp
import pytest

from tests.api.conftest import Api, until_answer


async def made(asked: aiohttp.ClientSession, **body: Any) -> Any:
    """A new token."""
    async with asked.post("/v1/tokens", json={"reason": "a test", **body}) as answer:
        assert answer.status == 201, await answer.text()
        assert answer.headers["cache-control"] == "no-store"
        return await answer.json()


async def test_a_token_that_was_made_can_do_what_its_scopes_say_until_it_is_taken_back(
    api: Api, administering: aiohttp.ClientSession
) -> None:
    token = await made(administering, name="dave", scopes=["write"], expires_in_seconds=600)
    row = token["row"]
    assert row["scopes"] == ["write"]
    async with api.client(token["token"]) as dave:
        await until_answer(dave, "/v1/overview", lambda status: status == 200, 1.0)
        async with dave.get("/v1/tokens") as answer:
            assert answer.status == 403
        async with dave.post("/v1/bans", json={"target": "ip:203.0.113.77", "reason": "x"}) as answer:
            assert (await answer.json())["author"] == "dave"
        async with administering.delete("/v1/tokens/dave", params={"reason": "has left"}) as answer:
            assert await answer.json() == row
        await until_answer(dave, "/v1/overview", lambda status: status == 401, 1.0)
    async with administering.delete(f"/v1/tokens/{row['token_id']}", params={"reason": "has left"}) as answer:
        assert answer.status == 404


async def test_no_secret_is_ever_shown_again(api: Api, administering: aiohttp.ClientSession) -> None:
    token = await made(administering, name="erin", scopes=["read", "check"])
    secret = token["token"].split("_", 2)[2]
    for path in ("/v1/tokens", "/v1/audit", "/v1/entries", "/metrics"):
        async with administering.get(path) as answer:
            text = await answer.text()
            assert answer.status == 200
            assert secret not in text
            assert "digest" not in text
            if path == "/v1/tokens":
                assert token["row"] in (await answer.json())["tokens"]
    assert secret not in api.program.log


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"name": "frank", "scopes": []}, "scopes"),
        ({"name": "frank", "scopes": ["root"]}, "scopes"),
        ({"name": "no name", "scopes": ["read"]}, "name"),
        ({"name": "frank", "scopes": ["read"], "requests_per_second": -1}, "requests_per_second"),
        ({"name": "frank", "scopes": ["read"], "expires_in_seconds": -1}, "expires_in_seconds"),
        ({"name": "twice", "scopes": ["read"]}, "already"),
    ],
)
async def test_a_token_that_cannot_be_is_not_made(administering: aiohttp.ClientSession, body: Any, said: str) -> None:
    if body["name"] == "twice":
        await made(administering, **body)
    async with administering.post("/v1/tokens", json={"reason": "a test", **body}) as answer:
        assert answer.status == 400
        assert said in (await answer.json())["detail"]
