"""A login says nothing in a name or a filter but itself."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_frontend.auth.ldap_names import in_dn, in_filter

LOGINS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("login", "name"),
    [
        ("alice", "uid=alice,dc=net"),
        ("alice,ou=admins", r"uid=alice\,ou\=admins,dc=net"),
        ('"a"+b;c<d>e\\f', r"uid=\"a\"\+b\;c\<d\>e\\f,dc=net"),
        ("#alice", r"uid=\#alice,dc=net"),
        ("jürgen", "uid=jürgen,dc=net"),
    ],
)
def test_special_characters_of_a_name_are_escaped(login: str, name: str) -> None:
    assert in_dn("uid={user},dc=net", login) == name


@pytest.mark.parametrize(
    ("login", "wanted"),
    [
        ("alice", "(uid=alice)"),
        ("*", r"(uid=\2a)"),
        ("a)(|(uid=*", r"(uid=a\29\28|\28uid=\2a)"),
        ("a\\2a", r"(uid=a\5c2a)"),
        ("jürgen", "(uid=jürgen)"),
    ],
)
def test_special_characters_of_a_filter_are_escaped(login: str, wanted: str) -> None:
    assert in_filter("(uid={user})", login) == wanted


def test_a_place_that_a_login_brings_along_is_not_filled_in() -> None:
    assert in_filter("(|(uid={user})(mail={user}))", "{user}") == "(|(uid={user})(mail={user}))"


@given(LOGINS)
def test_a_name_has_as_many_parts_with_any_login(login: str) -> None:
    filled = in_dn("uid={user},ou=people,dc=net", login)
    bare = re.sub(r"\\(?:[0-9a-f]{2}|.)", "", filled, flags=re.DOTALL)  # what is not escaped
    assert [bare.count(special) for special in ',=+;"<>\\\0'] == [2, 3, 0, 0, 0, 0, 0, 0, 0]
    assert bare.startswith("uid=") and bare.endswith(",ou=people,dc=net")


@given(LOGINS)
def test_a_filter_has_as_many_parentheses_and_no_star_with_any_login(login: str) -> None:
    filled = in_filter("(&(uid={user})(mail=x))", login)
    assert (filled.count("("), filled.count(")"), filled.count("*"), filled.count("\0")) == (3, 3, 0, 0)
