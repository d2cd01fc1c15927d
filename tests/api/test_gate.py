"""Who is let in, asked of a running API, and of the gate itself where time matters."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from multidict import CIMultiDict
from starlette.requests import Request

from api.gate import BURST_SECONDS, FAILURES_SECONDS, MAX_FAILURES, Gate
from api.limits import Limits
from api.problems import Problem
from reputation.access import Scope, Token, spelled_token
from reputation.clock import ManualClock
from reputation.engine import Engine
from reputation.policy import Policy
from reputation.store.memory import MemoryStore
from tests.api.conftest import Api, new_token, status_of, until_answer

UNKNOWN = spelled_token("00000000", "x" * 43)
NOW = 1_900_000_000.0


async def refusal(asked: aiohttp.ClientSession, path: str = "/metrics", **options: Any) -> tuple[int, str, str]:
    """Status, challenge and kind of problem."""
    async with asked.get(path, **options) as answer:
        assert answer.content_type == "application/problem+json"
        body = await answer.json(content_type=None)
        assert body["status"] == answer.status
        return answer.status, answer.headers.get("www-authenticate", ""), body["type"].removeprefix("/problems/")


# Over the wire


async def test_without_a_token_nothing_but_health_is_served(api: Api, reading: aiohttp.ClientSession) -> None:
    async with reading.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    operations = [(method, path) for path, methods in paths.items() for method in methods]
    assert ("get", "/v1/overview") in operations
    hidden = [("get", "/metrics"), ("get", "/openapi.json"), ("get", "/v1/nothing"), ("get", "/nothing")]
    async with api.client() as anybody:
        for method, path in [*operations, *hidden]:
            async with anybody.request(method, path.replace("{", "").replace("}", "")) as answer:
                wanted = 200 if path in ("/healthz", "/readyz") else 401
                assert answer.status == wanted, f"{method} {path}"


async def test_who_has_no_token_is_told_to_bring_one_and_nothing_of_an_error(api: Api) -> None:
    """RFC 6750 section 3: no error code where no credentials were sent."""
    async with api.client() as anybody:
        assert await refusal(anybody) == (401, 'Bearer realm="reputon"', "bad-token")


async def test_of_two_tokens_none_is_taken(api: Api) -> None:
    """RFC 9110 section 5.3: it is one field."""
    good = f"Bearer {await api.token('read')}"
    async with api.client() as anybody:
        for first, second in ((good, good), (good, f"Bearer {UNKNOWN}"), (f"Bearer {UNKNOWN}", good)):
            headers = CIMultiDict([("authorization", first), ("authorization", second)])
            assert await refusal(anybody, headers=headers) == (400, "", "bad-request")


@pytest.mark.parametrize(
    "sent",
    [
        f"Bearer {UNKNOWN}",
        "Bearer rpt_00000000_short",
        "Bearer ",
        "Bearer " + "é" * 100,
        "Basic cnB0Onh4",
        f"Token {UNKNOWN}",
        "Bearer " + "x" * 7_000,
    ],
)
async def test_a_wrong_token_is_refused(api: Api, sent: str) -> None:
    async with api.client() as anybody:
        said = await refusal(anybody, headers={"authorization": sent})
    assert said == (401, 'Bearer realm="reputon", error="invalid_token"', "bad-token")


async def test_a_token_with_another_secret_is_refused(api: Api) -> None:
    good = await api.token("read")
    async with api.client(f"{good[:-1]}{'A' if good[-1] != 'A' else 'B'}") as guessing:
        assert (await refusal(guessing))[0] == 401


async def test_an_expired_token_is_refused(api: Api) -> None:
    async with api.client(await api.token("read", expires_at=api.engine.now + 2)) as asked:
        assert await until_answer(asked, "/metrics", lambda status: status != 200) == 401
        assert (await refusal(asked))[1].endswith('error="invalid_token"')


async def test_a_token_that_was_taken_back_is_refused_within_a_second(api: Api) -> None:
    text = await api.token("read")
    async with api.client(text) as asked:
        assert await status_of(asked, "/metrics") == 200
        await api.engine.registrar.lift(f"token|{text.split('_')[1]}", author="tests", reason="taken back")
        await until_answer(asked, "/metrics", lambda status: status == 401, seconds=1.0)


async def test_a_token_without_the_scope_is_told_which_it_takes(api: Api, checking: aiohttp.ClientSession) -> None:
    challenge = 'Bearer realm="reputon", error="insufficient_scope", scope="read"'
    assert await refusal(checking) == (403, challenge, "wrong-scope")


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
async def test_a_scope_that_includes_another_is_enough(api: Api, scope: str) -> None:
    async with api.client(await api.token(scope)) as asked:
        assert await status_of(asked, "/metrics") == 200


async def test_who_asks_too_often_is_told_to_wait_and_served_again(api: Api) -> None:
    async with api.client(await api.token("read", requests_per_second=2.0)) as asked:
        await until_answer(asked, "/metrics", lambda status: status == 429)
        async with asked.get("/metrics") as answer:
            assert answer.status == 429
            assert answer.headers["retry-after"] == "1"
            assert answer.headers["ratelimit"] == '"default";r=0;t=1'
            assert answer.headers["ratelimit-policy"] == '"default";q=6'
            assert (await answer.json(content_type=None))["type"] == "/problems/too-many-requests"
        await until_answer(asked, "/metrics", lambda status: status == 200)


async def test_many_bad_tokens_lock_nobody_out_who_has_a_good_one(own_api: Api) -> None:
    good = await own_api.token("read")
    async with own_api.client(UNKNOWN) as guessing, own_api.client(good) as asked:
        answers = [await status_of(guessing, "/metrics") for _ in range(MAX_FAILURES + 2)]
        assert set(answers[:MAX_FAILURES]) == {401}
        assert answers[-1] == 429
        async with asked.get("/metrics") as answer:
            text = await answer.text()
        assert answer.status == 200
    assert 'reputon_api_refused_total{why="bad-token"}' in text
    assert 'reputon_api_refused_total{why="too-many-failures"}' in text


# The gate itself


class House:
    """A gate with a clock that stands still."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.engine = Engine(policy=Policy(rules=()), store=MemoryStore(), clock=self.clock)
        self.gate = Gate(self.engine, 10.0, monotonic=self.clock.monotonic)

    def token(self, *scopes: str, **options: Any) -> tuple[str, Token]:
        text, token = new_token(*scopes, now=NOW, **{"requests_per_second": 0.0, **options})
        self.engine.registrar.tokens[token.token_id] = token
        return text, token

    def served(self, text: str, *scopes: Scope, times: int = 1) -> int:
        """How many of so many requests are let in before one is not."""
        for number in range(times):
            try:
                self.gate.either(request(text), *scopes)
            except Problem as problem:
                assert problem.status == 429
                return number
        return times

    def refused(self, why: str) -> float:
        return self.engine.metrics.registry.get_sample_value("reputon_api_refused_total", {"why": why}) or 0.0


def request(text: str, client: str = "192.0.2.7") -> Request:
    headers = [(b"authorization", f"Bearer {text}".encode())]
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "client": (client, 1)})


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.engine.store.close()


async def test_a_token_is_in_force_until_the_end_that_it_names(house: House) -> None:
    text, token = house.token("read", expires_at=NOW + 10)
    assert house.gate.token_of(text) is token
    assert house.gate.by_id(token.token_id) is token
    house.clock.advance(10)
    assert house.gate.token_of(text) is None
    assert house.gate.by_id(token.token_id) is None
    assert (house.refused("expired-token"), house.refused("bad-token")) == (1, 0)


async def test_a_token_may_spend_some_seconds_at_once_and_then_its_rate(house: House) -> None:
    text, _ = house.token("read")
    assert house.served(text, Scope.READ, times=100) == 10 * BURST_SECONDS
    house.clock.advance(0.5)
    assert house.served(text, Scope.READ, times=100) == 5
    own, _ = house.token("read", requests_per_second=0.1)
    assert house.served(own, Scope.READ, times=100) == 1, "however small the rate, one is let in"
    house.clock.advance(10)
    assert house.served(own, Scope.READ, times=100) == 1
    assert house.refused("too-many") == 4


async def test_checks_are_bounded_by_a_number_of_the_tokens_own_only(house: House) -> None:
    text, _ = house.token("check")
    assert house.served(text, Scope.CHECK, times=1_000) == 1_000
    own, _ = house.token("check", requests_per_second=2)
    assert house.served(own, Scope.CHECK, times=1_000) == 2 * BURST_SECONDS


async def test_one_of_several_scopes_is_enough_and_the_names_are_told_where_there_is_none(house: House) -> None:
    text, _ = house.token("write")
    assert house.gate.either(request(text), Scope.CHECK, Scope.WRITE).name
    with pytest.raises(Problem) as refused:
        house.gate.either(request(text), Scope.CHECK, Scope.ADMIN)
    assert refused.value.status == 403
    assert refused.value.headers["www-authenticate"].endswith('scope="check admin"')
    assert house.refused("wrong-scope") == 1


async def test_failures_are_bounded_for_each_client_and_forgotten(house: House) -> None:
    def tries(client: str) -> int:
        for number in range(100):
            try:
                assert house.gate.token_of(UNKNOWN, client) is None
            except Problem as problem:
                assert problem.status == 429
                return number
        return 100

    assert tries("192.0.2.7") == MAX_FAILURES
    assert tries("192.0.2.8") == MAX_FAILURES
    assert tries("2001:db8::1") == MAX_FAILURES
    assert tries("2001:db8::ffff:2") == 0, "it is of the same network"
    assert tries("2001:db8:0:1::1") == MAX_FAILURES
    assert tries("") == MAX_FAILURES
    house.clock.advance(FAILURES_SECONDS / MAX_FAILURES + 0.001)
    assert tries("192.0.2.7") == 1


async def test_what_is_remembered_of_names_is_bounded() -> None:
    limits = Limits(100)
    for number in range(1_000):
        limits.wait_seconds(str(number), 0.0, per_second=1, burst=1)
    assert len(limits) == 100
    assert limits.wait_seconds("999", 0.0, per_second=1, burst=1) == 1.0
    assert limits.wait_seconds("0", 0.0, per_second=1, burst=1) == 0.0, "it was forgotten"


async def test_a_request_is_looked_at_once(house: House) -> None:
    text, token = house.token("read")
    asked = request(text)
    assert house.gate.identified(asked.scope) is token
    del house.engine.registrar.tokens[token.token_id]
    assert house.gate.admitted(asked, Scope.READ).token is token
    with pytest.raises(Problem):
        house.gate.identified(request(text).scope)
