"""spamd's answers, and the fields that go before a message for it."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.facts import Filtered
from reputation.lookups.filters.spamd import answer_of, top_of
from tests.unit.lookups.filters.conftest import message

SPAM = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 17\r\nSpam: True ; 6.5 / 5.0\r\n\r\nBAYES_99,URIBL_A\r\n"
texts = st.text(max_size=300)


def test_an_answer() -> None:
    assert answer_of(SPAM) == Filtered(verdict="spam", score=6.5, symbols=("BAYES_99", "URIBL_A"))


def test_an_answer_without_tests() -> None:
    ham = b"SPAMD/1.1 0 EX_OK\r\nContent-length: 0\r\nSpam: False ; -1.0 / 5.0\r\n\r\n"
    assert answer_of(ham) == Filtered(verdict="ham", score=-1.0)


@pytest.mark.parametrize("end", range(len(SPAM) - 2))
def test_an_answer_that_is_cut_off_is_none(end: int) -> None:
    assert answer_of(SPAM[:end]) is None


@pytest.mark.parametrize(
    "octets",
    [
        b"SPAMD/1.0 76 Bad header line: x\r\n",
        b"SPAMD/1.1 75 EX_TEMPFAIL\r\nSpam: True ; 6.5 / 5.0\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: Perhaps ; 6.5 / 5.0\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; nan / 5.0\r\n\r\n",
        b"SPAMD/1.1 0 EX_OK\r\n\r\nSpam: True ; 6.5 / 5.0\r\n\r\n",
    ],
)
def test_word_of_a_failure_is_no_answer(octets: bytes) -> None:
    assert answer_of(octets) is None


@given(st.binary(max_size=300) | st.binary(max_size=50).map(lambda tail: SPAM + tail) | st.binary().map(SPAM.__add__))
def test_no_octets_whatsoever_raise(octets: bytes) -> None:
    found = answer_of(octets)
    if found is not None:
        assert found.verdict in {"ham", "spam"}
        assert math.isfinite(found.score)
        assert all(re.fullmatch(r"[ -~]*", symbol) for symbol in found.symbols)


@given(helo=texts, sender=texts, id=texts, rdns=texts, hostname=texts)
def test_two_fields_go_before_the_message_whatever_a_client_says(
    helo: str, sender: str, id: str, rdns: str, hostname: str
) -> None:
    top = top_of(message(helo=helo, sender=sender, id=id), rdns=rdns, hostname=hostname, now=0.0)
    lines = top.decode("ascii").split("\r\n")
    assert [line.split(" ")[0] for line in lines] == ["Return-Path:", "Received:", "\tby", "\tThu,", ""]
    assert top.isascii()
    assert top.count(b"\n") == top.count(b"\r") == 4
