"""`smtp_frontend.reply`: answers in, answers out."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from smtp_frontend.reply import MAX_LINE_OCTETS, MAX_LINES, Reply, ReplyError

WIRE_LINE = re.compile(rb"[2-5]\d\d[ -][\x20-\x7e]*\r\n")


@pytest.mark.parametrize(
    ("lines", "reply"),
    [
        ([b"250 OK\r\n"], Reply(250, "OK")),
        ([b"250\r\n"], Reply(250, "")),
        ([b"250 \n"], Reply(250, "")),
        ([b"250 2.1.5 Recipient OK"], Reply(250, "Recipient OK", "2.1.5")),
        ([b"550 5.7.1\r\n"], Reply(550, "", "5.7.1")),
        ([b"550-5.1.1 No\r\n", b"550 5.1.1 such user\r\n"], Reply(550, ("No", "such user"), "5.1.1")),
        ([b"550-5.1.1 No\r\n", b"550 plain\r\n"], Reply(550, ("No", "plain"), "5.1.1")),
        ([b"250-\r\n", b"250 \r\n"], Reply(250, ("", ""))),
        ([b"550 4.1.1 contradicts\r\n"], Reply(550, "4.1.1 contradicts")),
        ([b"550 5.1.10000 long\r\n"], Reply(550, "5.1.10000 long")),
        ([b"354 Go\tahead\r\n"], Reply(354, "Go ahead")),
        ([b"250 caf\xc3\xa9 \x1b[31m\x00\r\n"], Reply(250, "caf?? ?[31m?")),
    ],
)
def test_answers_that_are_read(lines: list[bytes], reply: Reply) -> None:
    assert Reply.parse(lines) == reply


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b"\r\n"],
        [b"25 OK\r\n"],
        [b"2500 OK\r\n"],
        [b"150 OK\r\n"],
        [b"650 OK\r\n"],
        [b"250OK\r\n"],
        [b"\xb2\xb5\xb0 OK\r\n"],
        [b"HTTP/1.1 400 Bad Request\r\n"],
        [b"250-first\r\n", b"550 second\r\n"],
        [b"250 first\r\n", b"250 second\r\n"],
        [b"250-first\r\n", b"250-second\r\n"],
        [b"250-more\r\n"] * MAX_LINES + [b"250 end\r\n"],
    ],
)
def test_nonsense_is_an_error(lines: list[bytes]) -> None:
    with pytest.raises(ReplyError):
        Reply.parse(lines)


@pytest.mark.parametrize(("code", "enhanced"), [(199, ""), (600, ""), (250, "5.0.0"), (354, "3.0.0"), (550, "5.x")])
def test_a_reply_cannot_be_built_wrong(code: int, enhanced: str) -> None:
    with pytest.raises(ValueError, match="code"):
        Reply(code, "text", enhanced)


@pytest.mark.parametrize(
    ("code", "kind"), [(250, "positive"), (354, "intermediate"), (421, "temporary"), (550, "permanent")]
)
def test_kinds(code: int, kind: str) -> None:
    kinds = ("positive", "intermediate", "temporary", "permanent")
    assert [name for name in kinds if getattr(Reply(code, ""), name)] == [kind]


def test_printing() -> None:
    reply = Reply(550, ("No", "such user"), "5.1.1")
    assert str(reply) == "550-5.1.1 No\r\n550 5.1.1 such user"
    assert reply.one_line == "550-5.1.1 No / 550 5.1.1 such user"
    assert Reply(250, ()).lines() == (b"250 \r\n",)


@example(400, "4.0.0", False)
@example(500, ("5.0.0", ""), False)
@given(st.integers(200, 599), st.text() | st.lists(st.text(), max_size=150).map(tuple), st.booleans())
def test_any_text_makes_legal_lines_that_read_back(code: int, text: str | tuple[str, ...], enhance: bool) -> None:
    reply = Reply(code, text, f"{code // 100}.7.123" if enhance and code // 100 != 3 else "")
    lines = reply.lines()
    assert len(lines) <= MAX_LINES
    assert all(WIRE_LINE.fullmatch(line) and len(line) <= MAX_LINE_OCTETS for line in lines)
    again = Reply.parse(lines)
    assert again.code == code
    assert again.lines() == lines


LOOKS_LIKE_A_CODE = st.from_regex(r"\A([245]\.\d\.\d ?)?[a-z ]{0,3}\Z")


@given(st.integers(200, 599), LOOKS_LIKE_A_CODE | st.lists(LOOKS_LIKE_A_CODE, max_size=4).map(tuple))
def test_a_code_at_the_beginning_of_the_text_is_the_enhanced_code(code: int, text: str | tuple[str, ...]) -> None:
    lines = Reply(code, text).lines()
    assert Reply.parse(lines).lines() == lines
    assert Reply(550, "5.1.1 Unknown") == Reply(550, "Unknown", "5.1.1")


@given(st.lists(st.binary(max_size=600) | st.binary(max_size=20).map(lambda text: b"250-" + text), max_size=5))
def test_any_octets_are_a_reply_or_a_reply_error(lines: list[bytes]) -> None:
    try:
        reply = Reply.parse(lines)
    except ReplyError:
        return
    assert all(WIRE_LINE.fullmatch(line) for line in reply.lines())
