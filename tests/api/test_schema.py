"""The API's own document is true: schemathesis finds no request that is answered otherwise, and no 5xx.

It makes requests of the document, good and bad ones, and holds the answers against it: status, media type, header
fields, schema. The same requests each time. Left out are

* the stream, which does not end (`test_stream`);
* the check that a bad token is refused: the gate bounds how often it is tried (`test_rest_access` looks at all of it);
* the check that whatever has the right form is taken: the desk knows which targets there are, the document does not.

Tokens are taken back in a run of its own, because schemathesis uses what it was told: it would take back its own.
"""

import asyncio
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from api.rest import RESOURCES
from api.rest.documenting import TITLE
from tests.api.conftest import Api

EXAMPLES = 15
"""For each operation, beside those that are made of its schema's corners."""
BOUND_SECONDS = 240.0
"""It takes 30 on an idle machine."""
CONFIG = """
[warnings]
fail-on = ["missing_auth", "rate_limited", "unsupported_regex", "unresolvable_reference", "method_not_allowed"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "413", "415", "422"]
"""
RULES = """
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["100/1h"]
action = "tempfail"
"""
THERE: dict[str, dict[str, Any]] = {
    "bans": {"target": "ip:192.0.2.7"},
    "overrides": {"target": "sender:newsletter@example.org", "rule": "sender-rate", "limits": ["200/1h"]},
    "lists": {"target": "ip:192.0.2.7", "list": "allow"},
}
"""What the document's examples ask for."""
LEFT_OUT = ("ignored_auth", "positive_data_acceptance")
SHOWN = 6_000
"""Characters of its report, of which a line may be a URL of 60 kB."""


@pytest.fixture(scope="module")
def more_config() -> str:
    return RULES


async def schemathesis(api: Api, directory: Path, *options: str) -> str:
    """Its report, of a run in which it found nothing wrong."""
    (directory / "schemathesis.toml").write_text(CONFIG)
    program = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).parent / "schemathesis", "run", f"{api.url}/openapi.json"),
        *("--header", f"Authorization: Bearer {await api.token('admin')}"),
        *("--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--workers", "2"),
        *("--generation-deterministic", "--generation-with-security-parameters", "false"),
        *("--exclude-checks", ",".join(LEFT_OUT), "--continue-on-failure", "--no-color"),
        *options,
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(BOUND_SECONDS):
            octets, _ = await program.communicate()
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    report = "\n".join(line[:300] for line in octets.decode(errors="replace").splitlines())
    assert program.returncode == 0, report[-SHOWN:]
    return report


async def test_nothing_is_answered_that_the_document_does_not_say(api: Api, tmp_path: Path) -> None:
    async with api.client(await api.token("write")) as asked:
        for room, body in THERE.items():
            async with asked.post(f"/v1/{room}", json={**body, "reason": "an example"}) as answer:
                assert answer.status == 201, await answer.text()
    left_out = ("--exclude-operation-id", "revoke_token", "--exclude-operation-id", "stream_verdicts")
    report = await schemathesis(api, tmp_path, *left_out)
    assert re.search(r"[1-9]\d{3} generated, [1-9]\d{3} passed", report), report[-SHOWN:]
    assert api.program.lines("Traceback") == []


async def test_nor_when_tokens_are_taken_back(api: Api, tmp_path: Path) -> None:
    await schemathesis(api, tmp_path, "--include-operation-id", "revoke_token")
    assert api.program.lines("Traceback") == []


@pytest.fixture
async def document(api: Api) -> Any:
    async with api.client(await api.token("read")) as asked, asked.get("/openapi.json") as answer:
        assert answer.status == 200
        return await answer.json()


async def test_the_document_has_a_name_a_summary_and_an_example_for_everything(document: Any) -> None:
    assert document["info"]["title"] == TITLE
    for path, methods in document["paths"].items():
        for method, said in methods.items():
            where = f"{method} {path}"
            assert said["operationId"].replace("_", "").isalnum(), where
            assert said["operationId"].islower(), where
            assert said["summary"], where
            for content in said.get("requestBody", {}).get("content", {}).items():
                assert content[0] != "application/json" or {"example", "examples"} & content[1].keys(), where
            for status, answer in said["responses"].items():
                for kind, content in answer.get("content", {}).items():
                    assert status != "422" or kind == "application/problem+json", where
                    if path.startswith("/v1/"):
                        assert "example" in content or "examples" in content, (where, status)


def test_examples_are_documents_as_they_are_answered() -> None:
    for each in RESOURCES:
        if each.media_type == "application/json":
            kind: Any = type(each.example)
            adapter: TypeAdapter[Any] = TypeAdapter(kind)
            assert adapter.validate_json(adapter.dump_json(each.example)) == each.example


async def test_examples_of_requests_are_taken_by_their_schema(document: Any) -> None:
    schemas = document["components"]["schemas"]
    checked = 0
    for methods in document["paths"].values():
        for said in methods.values():
            content = said.get("requestBody", {}).get("content", {}).get("application/json", {})
            reference = content.get("schema", {}).get("$ref", "").removeprefix("#/components/schemas/")
            if reference:
                known = schemas[reference]["properties"].keys()
                required = set(schemas[reference]["required"])
                for example in content["examples"].values():
                    assert required <= example["value"].keys() <= known, json.dumps(example)
                    checked += 1
    assert checked >= 8
