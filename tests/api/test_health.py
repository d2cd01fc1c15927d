"""Whether it lives, whether it is ready, and its numbers; with a store that dies, hangs and comes back."""

import asyncio
import time

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parsed_open
from prometheus_client.parser import text_string_to_metric_families as parsed

from tests.api.conftest import Api, status_of, until_answer


async def test_it_is_alive_and_ready_and_takes_no_token_for_that(api: Api) -> None:
    async with api.client() as anybody:
        for path, status in (("/healthz", "alive"), ("/readyz", "ready")):
            async with anybody.get(path) as answer:
                assert (answer.status, await answer.json()) == (200, {"status": status})
            async with anybody.head(path) as answer:
                assert (answer.status, await answer.read()) == (200, b"")


async def test_while_the_store_is_away_it_is_alive_and_not_ready(own_api: Api) -> None:
    async with own_api.client() as anybody:
        own_api.store.kill()
        await until_answer(anybody, "/readyz", lambda status: status == 503)
        assert await status_of(anybody, "/healthz") == 200
        async with anybody.get("/readyz") as answer:
            assert answer.content_type == "application/problem+json"
            assert int(answer.headers["retry-after"]) > 0
            assert (await answer.json(content_type=None))["type"] == "/problems/store-away"
        own_api.store.start()
        await until_answer(anybody, "/readyz", lambda status: status == 200)
    assert own_api.program.lines("Traceback") == []


async def test_a_store_that_hangs_makes_nobody_wait_long(own_api: Api) -> None:
    async with own_api.client() as anybody:
        own_api.store.pause()
        try:
            began = time.monotonic()
            together = [status_of(anybody, path) for path in ["/readyz"] * 20 + ["/healthz"] * 20]
            answers = await asyncio.gather(*together)
            assert answers[20:] == [200] * 20
            assert 503 in answers[:20]
            assert time.monotonic() - began < 5.0
        finally:
            own_api.store.resume()
        await until_answer(anybody, "/readyz", lambda status: status == 200)


async def test_who_asks_for_entries_while_the_store_is_away_is_told_when_to_come_again(own_api: Api) -> None:
    async with own_api.client(await own_api.token("read")) as asked:
        own_api.store.kill()
        async with asked.get("/v1/entities/sender/alice@example.com") as answer:
            assert answer.status == 503
            assert answer.headers["retry-after"] == "2"
            body = await answer.json(content_type=None)
        assert body["type"] == "/problems/store-away"
        assert str(own_api.store.port) not in body["detail"]
        own_api.store.start()


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        ("", "text/plain"),
        ("text/plain;version=0.0.4", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
        ("application/openmetrics-text; version=none", "text/plain"),
    ],
)
async def test_its_numbers_are_text_of_the_kind_that_is_asked_for(
    api: Api, reading: aiohttp.ClientSession, accept: str, media_type: str
) -> None:
    await status_of(reading, "/v1/rules")
    async with reading.get("/metrics", headers={"accept": accept}) as answer:
        assert (answer.status, answer.content_type) == (200, media_type)
        text = await answer.text()
    found = parsed_open(text) if "open" in media_type else parsed(text)  # type: ignore[no-untyped-call]  # it has no types
    families = {each.name: each for each in found}
    assert families["reputon_store_up"].samples[0].value in (0.0, 1.0)
    requests = {sample.labels["route"]: sample for sample in families["reputon_api_requests"].samples}
    assert requests["/v1/rules"].labels["status"] == "2xx"


async def test_requests_are_counted_by_routes_and_not_by_what_is_in_a_path(
    api: Api, reading: aiohttp.ClientSession
) -> None:
    for number in range(20):
        await status_of(reading, f"/v1/entities/sender/someone{number}@example.com")
        await status_of(reading, f"/v1/nothing/{number}")
    async with reading.get("/metrics") as answer:
        text = await answer.text()
    routes = {
        sample.labels["route"]
        for family in parsed(text)
        if family.name == "reputon_api_requests"
        for sample in family.samples
    }
    assert {"none", "/metrics"} < routes
    assert not [route for route in routes if "someone" in route or "nothing" in route]
    assert any(route.startswith("/v1/entities/{dimension}/{") for route in routes)
