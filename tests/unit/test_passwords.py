"""Files of logins and hashes: what they may say, what a hash costs, and that it is of one password only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.errors import ConfigError
from reputation.passwords import cost_of, decoy, entry_of, hashed, matches, read_logins

CHEAP = "$argon2id$v=19$m=64,t=1,p=1$c29tZXNhbHQ$EIXULtqMZtBBwGn7bJkaH4zD7MEYRQ3hwS6yLGUJuM8"
OTHER = "$argon2i$v=19$m=128,t=2,p=2$c29tZXNhbHQ$EIXULtqMZtBBwGn7bJkaH4zD7MEYRQ3hwS6yLGUJuM8"


def test_a_hash_is_of_its_password_and_no_other() -> None:
    stored = hashed("open sesame")
    assert matches(stored, "open sesame")
    assert not matches(stored, "open Sesame")
    assert stored != hashed("open sesame"), "each has a salt of its own"
    assert read_logins(f"alice:{stored}", "f") == {"alice": stored}, "what we write we take"


def test_an_umlaut_may_be_written_in_two_ways() -> None:
    assert matches(hashed("M\u00fcller"), "Mu\u0308ller")


def test_a_file_has_comments_empty_lines_and_blanks() -> None:
    text = f"# who may send\n\nalice@example.net:{CHEAP}\r\n  Bob : {OTHER}  \n#carol:x\n"
    assert read_logins(text, "f") == {"alice@example.net": CHEAP, "bob": OTHER}


def test_the_prefix_of_dovecot_may_stay() -> None:
    assert read_logins(f"alice:{{ARGON2ID}}{CHEAP}\nbob:{{argon2i}}{OTHER}", "f") == {"alice": CHEAP, "bob": OTHER}


@pytest.mark.parametrize(
    ("line", "mistake"),
    [
        ("alice", "write LOGIN:HASH"),
        (f":{CHEAP}", "write LOGIN:HASH"),
        ("alice:", "write LOGIN:HASH"),
        (f"alice smith:{CHEAP}", "write LOGIN:HASH"),
        ("alice:secret", "no argon2 hash"),
        ("alice:{PLAIN}secret", "no argon2 hash"),
        ("alice:$6$salt$secret", "no argon2 hash"),
        (f"alice:{CHEAP}:1000:1000::::", "no argon2 hash"),
        (f"alice:{CHEAP[:-1]}!", "no argon2 hash"),
        (f"Bob:{CHEAP}", "bob stands here a second time"),
        (f"alice:{CHEAP.replace('m=64', 'm=1048576')}", "too costly"),
        (f"alice:{CHEAP.replace('m=64,t=1', 'm=262144,t=100')}", "too costly"),
        (f"alice:{CHEAP.replace('t=1', 't=0')}", "no parameters"),
        (f"alice:{CHEAP.replace('m=64', 'm=7')}", "no parameters"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_without_the_hash(line: str, mistake: str) -> None:
    with pytest.raises(ConfigError, match=mistake) as caught:
        read_logins(f"bob:{CHEAP}\n{line}\n", "logins")
    assert str(caught.value).startswith("logins:2: ")
    assert "secret" not in str(caught.value) and "EIXULtq" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_line_is_an_entry_or_none_or_a_mistake(line: str) -> None:
    try:
        entry_of(line)
        read_logins(line, "f")
    except ConfigError:
        pass


def test_a_decoy_costs_what_the_most_usual_hash_costs_and_is_of_no_password() -> None:
    made = decoy([OTHER, CHEAP, CHEAP])
    assert cost_of(made) == "$argon2id$v=19$m=64,t=1,p=1"
    assert not matches(made, "")
    assert cost_of(decoy()) == cost_of(hashed("x")), "an empty file is as slow as one of ours"
