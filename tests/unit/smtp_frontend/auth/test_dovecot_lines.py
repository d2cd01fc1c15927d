"""The lines of Dovecot's authentication protocol."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.dovecot_lines import Answer, NonsenseError, Verdict, parse, request, unescaped


def test_a_request_is_one_line_and_ends_with_what_was_given() -> None:
    line = request(3, Credentials(login="jürgen", password="a b"), "2001:db8::7")
    *words, last = line.decode("ascii").removesuffix("\n").split("\t")
    assert words == ["AUTH", "3", "PLAIN", "service=smtp", "nologin", "no-penalty", "secured", "rip=2001:db8::7"]
    assert base64.b64decode(last.removeprefix("resp=")) == "\0jürgen\0a b".encode()


def test_an_unknown_client_is_not_named() -> None:
    assert b"rip=" not in request(3, Credentials(login="a", password="b"), "")


@pytest.mark.parametrize(
    ("line", "verdict", "user"),
    [
        (b"OK\t3\tuser=alice@example.net", Verdict.RIGHT, "alice@example.net"),
        (b"OK\t3", Verdict.RIGHT, ""),
        (b"OK\t3\tuser=al\x01tice", Verdict.RIGHT, "al\tice"),
        (b"OK\t3\tuser=alice\tnologin\treason=no", Verdict.WRONG, "alice"),
        (b"FAIL\t3\tuser=alice", Verdict.WRONG, "alice"),
        (b"FAIL\t3", Verdict.WRONG, ""),
        (b"FAIL\t3\tuser=alice\tuser_disabled", Verdict.WRONG, "alice"),
        (b"FAIL\t3\tuser=alice\ttemp", Verdict.TROUBLE, "alice"),
        (b"FAIL\t3\tcode=temp_fail\tuser=alice", Verdict.TROUBLE, "alice"),
        (b"CONT\t3\t", Verdict.TROUBLE, ""),
    ],
)
def test_an_answer_is_understood(line: bytes, verdict: Verdict, user: str) -> None:
    assert parse(line) == Answer(number=3, verdict=verdict, user=user)


@pytest.mark.parametrize("line", [b"", b"SPID\t1", b"MECH\tPLAIN\tplaintext", b"ok\t3", b"\tOK\t3"])
def test_other_lines_are_no_answers(line: bytes) -> None:
    assert parse(line) is None


@pytest.mark.parametrize("line", [b"OK", b"OK\t", b"FAIL\tx", b"OK\t-3", b"OK\t99999999999"])
def test_an_answer_without_a_number_is_nonsense(line: bytes) -> None:
    with pytest.raises(NonsenseError):
        parse(line)


@given(st.binary(max_size=80))
def test_any_octets_are_an_answer_or_none_or_nonsense(line: bytes) -> None:
    try:
        parse(line)
        parse(b"OK\t1\t" + line)
    except NonsenseError:
        pass


@given(st.text(max_size=30))
def test_what_was_escaped_comes_back(text: str) -> None:
    escaped = text.replace("\1", "\0011").replace("\0", "\0010").replace("\t", "\1t").replace("\n", "\1n")
    assert unescaped(escaped.replace("\r", "\1r")) == text
