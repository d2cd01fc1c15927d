"""Who may do what: no operation of the API's own document answers without a token of its scope."""

import asyncio
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import pytest

from api.rest import RESOURCES
from reputation.access import Scope
from tests.api.conftest import Api, new_token, until_answer

OPEN = {"healthz", "readyz"}
"""Operations that need no token."""
UNDOCUMENTED = ("/openapi.json", "/metrics")
"""Paths beside the document; both take `read`."""
WEAKER: dict[frozenset[str], tuple[str, ...]] = {
    frozenset({"read"}): ("check",),
    frozenset({"check"}): ("write",),
    frozenset({"check", "write"}): ("read",),
    frozenset({"write"}): ("read", "check"),
    frozenset({"admin"}): ("write", "check"),
}
"""The scopes that an operation takes -> as much as a token may have without one of them."""
_addresses = itertools.count(1)


@dataclass(frozen=True)
class Operation:
    """One that the document has, with a request that could be met."""

    id: str
    method: str
    path: str
    body: Any
    scopes: frozenset[str]
    """Any of them is enough."""


def operations_of(document: dict[str, Any]) -> Iterator[Operation]:
    """All of them but those that need no token, with the document's own examples."""
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            if said["operationId"] in OPEN:
                continue
            content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
            bodies = [each["value"] for each in content.get("examples", {}).values()] or [content.get("example", {})]
            yield Operation(
                said["operationId"],
                method,
                _filled(path, said.get("parameters", [])),
                bodies[0] if content else None,
                frozenset(scope for one in said.get("security", []) for scopes in one.values() for scope in scopes),
            )


def _filled(path: str, parameters: list[dict[str, Any]]) -> str:
    query = {}
    for each in parameters:
        example = (each.get("example"), *each["schema"].get("examples", ()), *each["schema"].get("enum", ()), "x")
        value = next(str(one) for one in example if one is not None)
        if each["in"] == "path":
            path = path.replace("{" + each["name"] + "}", quote(value, safe=""))
        elif each["in"] == "query" and each["required"]:
            query[each["name"]] = value
    assert "{" not in path
    return f"{path}?{urlencode(query)}" if query else path


@pytest.fixture
async def operations(reading: aiohttp.ClientSession) -> list[Operation]:
    async with reading.get("/openapi.json") as answer:
        assert answer.status == 200
        return list(operations_of(await answer.json()))


async def statuses(
    api: Api, token_of: Callable[[Operation], str | None], operations: list[Operation]
) -> dict[str, int]:
    """What each operation says to somebody with that token.

    Each comes from an address of its own: of bad tokens from one address there may not be many.
    """

    async def status(operation: Operation) -> int:
        connector = aiohttp.TCPConnector(
            local_addr=(f"127.0.{next(_addresses) // 250 + 1}.{next(_addresses) % 250 + 1}", 0)
        )
        async with (
            api.client(token_of(operation), connector=connector) as asked,
            asked.request(operation.method, operation.path, json=operation.body) as answer,
        ):
            if answer.status >= 400:
                assert answer.content_type == "application/problem+json", operation
                assert (await answer.json())["status"] == answer.status
            return answer.status

    found = await asyncio.gather(*map(status, operations))
    return {operation.id: status for operation, status in zip(operations, found, strict=True)}


async def opened(api: Api, token: str | None, operations: list[Operation]) -> dict[str, int]:
    """Those that did not say 401 to that token."""
    found = await statuses(api, lambda _: token, operations)
    return {id: status for id, status in found.items() if status != 401}


async def test_every_operation_of_the_document_has_a_scope_and_the_scopes_are_those_of_the_table(
    operations: list[Operation],
) -> None:
    assert {each.id for each in operations if not each.scopes} <= {"repute_template", "reputation"}
    documented = {each.id: each.scopes for each in operations}
    assert {each.operation_id: documented[each.operation_id] for each in RESOURCES} == {
        each.operation_id: frozenset({str(each.scope)}) for each in RESOURCES
    }


async def test_nothing_is_answered_without_a_token(api: Api, operations: list[Operation]) -> None:
    assert await opened(api, None, operations) == {}


@pytest.mark.parametrize("path", UNDOCUMENTED)
async def test_what_is_beside_the_document_takes_a_token_to_read(api: Api, path: str) -> None:
    async with api.client() as anybody, anybody.get(path) as answer:
        assert answer.status == 401
    async with api.client(await api.token("check")) as mail_server, mail_server.get(path) as answer:
        assert answer.status == 403


@pytest.mark.parametrize(
    "spoil",
    [lambda text: text[:-1] + ("y" if text[-1] == "x" else "x"), lambda text: "rpt_00000000" + text[12:], str.upper],
)
async def test_a_token_that_is_nearly_right_opens_nothing(
    api: Api, operations: list[Operation], spoil: Callable[[str], str]
) -> None:
    text = spoil(await api.token("admin"))
    assert await opened(api, text, operations) == {}


async def test_a_token_that_is_over_opens_nothing(api: Api, operations: list[Operation]) -> None:
    text, token = new_token("admin", now=api.engine.now - 7_200)
    await api.engine.registrar.put_token(token)
    assert await opened(api, text, operations) == {}


async def test_a_token_that_was_taken_back_opens_nothing(api: Api, operations: list[Operation]) -> None:
    text = await api.token("admin")
    await api.engine.registrar.lift(f"token|{text.split('_')[1]}", author="tests", reason="lost")
    async with api.client(text) as asked:
        await until_answer(asked, "/v1/overview", lambda status: status == 401, 1.0)
    assert await opened(api, text, operations) == {}


async def test_a_weaker_token_opens_nothing(api: Api, operations: list[Operation]) -> None:
    tokens = {scopes: await api.token(*weaker) for scopes, weaker in WEAKER.items()}
    found = await statuses(api, lambda each: tokens[each.scopes], [each for each in operations if each.scopes])
    assert {id: status for id, status in found.items() if status != 403} == {}


async def test_a_token_of_just_the_scope_that_is_named_is_enough(api: Api, operations: list[Operation]) -> None:
    tokens = {scope: await api.token(scope) for scope in Scope}
    asked = [each for each in operations if each.scopes and each.id != "stream_verdicts"]  # which does not end
    for scope in Scope:
        text, those = tokens[scope], [each for each in asked if scope in each.scopes]
        found = await statuses(api, partial(_same, text), those)
        assert {id: status for id, status in found.items() if status in {401, 403, 405, 429} or status >= 500} == {}


def _same(text: str, _: Operation) -> str:
    return text
