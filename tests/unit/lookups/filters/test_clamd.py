"""clamd's answers."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.facts import Filtered
from reputation.lookups.filters.clamd import answer_of


def test_a_find_is_malware() -> None:
    assert answer_of(b"stream: Win.Test.EICAR_HDB-1 FOUND\0") == Filtered(
        verdict="malware", malware="Win.Test.EICAR_HDB-1"
    )


def test_that_nothing_was_found_is_no_evidence() -> None:
    assert answer_of(b"stream: OK\0") == Filtered()


@pytest.mark.parametrize("name", ["Heuristics.Encrypted.Zip", "Heuristics.Limits.Exceeded.MaxFileSize"])
def test_what_could_not_be_looked_into_is_unsure(name: str) -> None:
    assert answer_of(f"stream: {name} FOUND\0".encode()) == Filtered(verdict="unsure", symbols=(name,))


@pytest.mark.parametrize("octets", [b"", b"stream: OK", b"stream: X FOU", b"UNKNOWN COMMAND\0", b"stream:  FOUND\0"])
def test_what_is_no_answer_is_none(octets: bytes) -> None:
    assert answer_of(octets) is None


@given(st.binary(max_size=300) | st.binary(max_size=200).map(lambda name: b"stream: " + name + b" FOUND\0"))
def test_no_octets_whatsoever_raise(octets: bytes) -> None:
    found = answer_of(octets)
    assert found is None or re.fullmatch(r"[ -~]*", found.malware)
