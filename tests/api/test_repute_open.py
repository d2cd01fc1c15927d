"""The reputation query protocol for everybody: without a token, but not without bounds."""

import aiohttp
import pytest

from tests.api.conftest import Api
from tests.api.reputons_for_tests import MEDIA_TYPE, read

QUERY = "/repute/email-id/192.0.2.7/spam"


@pytest.fixture(scope="module")
def api_table() -> str:
    return 'reputation_for_everybody = true\nrater = "rep.example.net"'


async def test_whoever_asks_is_answered_and_may_pass_it_on(api: Api) -> None:
    async with api.client() as stranger:
        async with stranger.get("/.well-known/repute-template") as answer:
            assert answer.status == 200
        async with stranger.get(QUERY) as answer:
            assert (answer.status, answer.headers["content-type"]) == (200, MEDIA_TYPE)
            (reputon,) = read(await answer.read())[1]
            assert answer.headers["cache-control"] == f"public, max-age={reputon['expires'] - reputon['generated']}"
    assert reputon["rater"] == "rep.example.net"


@pytest.mark.parametrize("path", ["/v1/overview", "/metrics", "/openapi.json", "/v1/entities/ip/192.0.2.7"])
async def test_nothing_else_is_for_everybody(api: Api, path: str) -> None:
    async with api.client() as stranger, stranger.get(path) as answer:
        assert answer.status == 401


async def test_whoever_shows_a_token_is_held_to_it(api: Api) -> None:
    async with api.client("rpt_00000000_" + "x" * 43) as somebody, somebody.get(QUERY) as answer:
        assert answer.status == 401
    async with api.client(await api.token("check")) as server, server.get(QUERY) as answer:
        assert answer.status == 403
    async with api.client(await api.token("read")) as reader, reader.get(QUERY) as answer:
        assert answer.status == 200
        assert answer.headers["cache-control"].startswith("private, ")


async def statuses(asked: aiohttp.ClientSession, times: int) -> list[int]:
    found = []
    for _ in range(times):
        async with asked.get(QUERY) as answer:
            found.append(answer.status)
            if answer.status == 429:
                assert answer.headers["content-type"] == "application/problem+json"
                assert int(answer.headers["retry-after"]) >= 1
                break
    return found


async def test_whoever_asks_too_much_is_told_to_wait_and_nobody_with_a_token_with_him(own_api: Api) -> None:
    """As fast as one can ask, so that what comes back meanwhile is little; by far not a second for each bound."""
    async with own_api.client() as stranger:
        found = await statuses(stranger, 2_000)
    assert found[-1] == 429 and len(found) > 100
    assert set(found[:-1]) == {200}
    async with own_api.client(await own_api.token("read")) as reader:
        assert await statuses(reader, 150) == [200] * 150


async def test_what_is_thought_of_a_person_takes_a_token(api: Api) -> None:
    path = "/repute/email-id/alice@example.com/spam"
    async with api.client() as stranger, stranger.get(path) as answer:
        assert answer.status == 401
    async with api.client(await api.token("read")) as reader, reader.get(path) as answer:
        assert answer.status == 200
