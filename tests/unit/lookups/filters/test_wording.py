"""Texts of strangers: one value each, whatever stands in them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from reputation.lookups.filters import wording

ANYTHING = st.text(max_size=1_200) | st.text(alphabet='<>",\\@\r\n\0 aü', max_size=20)


@given(ANYTHING)
def test_a_value_is_one_line_that_can_be_sent(text: str) -> None:
    value = wording.value(text)
    assert value.isprintable()
    assert len(value.encode()) <= 4 * wording.MAX_VALUE_LENGTH
    assert len(value) == min(len(text), wording.MAX_VALUE_LENGTH)


@given(ANYTHING)
def test_a_path_is_one_path_in_ascii(text: str) -> None:
    path = wording.path(text)
    assert re.fullmatch(r"<[ -~]*>", path)
    assert "<" not in path[1:]
    assert ">" not in path[:-1]
    outside_of_quotes = re.sub(r'"(?:[^"\\]|\\.)*"', "", path)
    assert "," not in outside_of_quotes
    assert '"' not in outside_of_quotes


def test_an_ordinary_address_is_left_alone() -> None:
    for address in ("alice@example.net", "a.b+c=d/e@example.net", '"a b, c"@example.net', '"\\""@example.net', "@"):
        assert wording.path(address) == f"<{address}>"


@given(st.text(max_size=100), st.text(max_size=500))
def test_a_field_is_a_name_and_one_line_of_ascii_or_nothing(name: str, text: str) -> None:
    field = wording.field(name, text)
    assert field is None or (re.fullmatch(r"[!-9;-~]+", field[0]) and re.fullmatch(r"[ -~]*", field[1]))


def test_a_field_in_other_letters_can_be_read_by_mail_programs() -> None:
    assert wording.field("Subject", "grüße\r\n und mehr") == ("Subject", "=?utf-8?q?gr=C3=BC=C3=9Fe_und_mehr?=")


def test_what_is_too_long_is_cut() -> None:
    assert wording.line("x" * 1_000, 400) == "x" * 400
