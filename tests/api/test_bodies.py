"""Bodies that cannot be right are refused before they cost anything."""

import pytest
from fastapi.exceptions import RequestValidationError

from api.checks.bodies import MAX_ITEMS, Reader
from api.checks.events import CheckedEvent
from api.checks.outcomes import NewOutcome
from api.mistakes import MAX_ERRORS
from api.problems import Problem

EVENTS = Reader(CheckedEvent, "events")
REPORTS = Reader(NewOutcome, "reports")
CONNECT = b'{"stage": "connect", "client": "192.0.2.7"}'


def members(names: list[str]) -> bytes:
    return b"{" + b", ".join(b'"%s": 0' % name.encode() for name in names) + b"}"


@pytest.mark.parametrize("item", [b"0", b"[]", b"{}", b'{"stage": 1}'])
@pytest.mark.parametrize("reader", [EVENTS, REPORTS])
def test_of_an_array_of_mistakes_the_first_is_told(reader: Reader[CheckedEvent], item: bytes) -> None:
    with pytest.raises(RequestValidationError) as refused:
        reader.read(b"[" + b",".join([item] * 50_000) + b"]", 1_000)
    assert {each["loc"][:2] for each in refused.value.errors()} == {("body", 0)}


@pytest.mark.parametrize("count", [MAX_ERRORS + 1, 20_000])
@pytest.mark.parametrize("kind", ["one", "array"])
def test_a_document_of_members_that_nobody_knows_is_one_mistake(count: int, kind: str) -> None:
    body = members([str(number) for number in range(count)])
    with pytest.raises(Problem) as refused:
        EVENTS.read(b"[" + body + b"]" if kind == "array" else body, 1_000)
    assert refused.value.status == 400
    assert [each["where"] for each in refused.value.more["errors"]] == ["body"]
    assert len(refused.value.detail) < 200


def test_members_of_the_same_name_are_one_mistake() -> None:
    with pytest.raises(RequestValidationError) as refused:
        EVENTS.read(members(["x"] * 20_000), 1_000)
    assert len(refused.value.errors()) == 3  # it is not known, and the two that are needed are not there


def test_a_long_body_that_is_right_is_read_like_a_short_one() -> None:
    event = CONNECT[:-1] + b', "key": "%d"}'
    body = b"[" + b",".join(event % number for number in range(3_000)) + b"]"
    told, is_array = EVENTS.read(body, MAX_ITEMS)
    assert is_array
    assert told[:2] == EVENTS.read(b"[%s,%s]" % (event % 0, event % 1), MAX_ITEMS)[0]
    assert len(told) == 3_000


def test_more_than_may_be_sent_is_too_large_however_many_there_are() -> None:
    for count in (1_001, MAX_ITEMS + 1, 40_000):
        with pytest.raises(Problem) as refused:
            EVENTS.read(b"[" + b",".join([CONNECT] * count) + b"]", 1_000)
        assert refused.value.status == 413


@pytest.mark.parametrize("body", [b'"' * 50_000, b"[" + b'"x",' * 20_000, b'{"' + b'\\"' * 30_000])
def test_a_long_body_that_is_no_json_is_a_mistake(body: bytes) -> None:
    with pytest.raises(RequestValidationError) as refused:
        EVENTS.read(body, 1_000)
    assert refused.value.errors()[0]["type"] == "json_invalid"
