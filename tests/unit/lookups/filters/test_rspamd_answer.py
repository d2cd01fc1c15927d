"""What rspamd says, in answers that it gives and in some that it never would."""

import json
import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.facts import Filtered, Judgement
from reputation.lookups.filters.combining import RANKS
from reputation.lookups.filters.rspamd_answer import MAX_FIELDS, MAX_SYMBOLS, VERDICTS, filtered_of

KEYS = (
    *("action", "score", "symbols", "milter", "add_headers", "remove_headers", "value", "order", "messages", "options"),
    *("smtp_message", "dkim-signature", "subject", "groups", "antivirus", "is_skipped", "CLAM_VIRUS", "X-Spam"),
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(list(VERDICTS))
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner),
    max_leaves=30,
)
answers = st.fixed_dictionaries({"action": st.sampled_from(list(VERDICTS))}, optional=dict.fromkeys(KEYS[1:], values))


def said(**answer: object) -> Filtered:
    """What an answer says that has an action, at least."""
    found = filtered_of(json.dumps({"action": "no action", **answer}).encode())
    assert found is not None
    return found


def assert_fits(found: Filtered | None) -> None:
    """Whatever a filter says, this is what others may rely on."""
    if found is None:
        return
    assert found.verdict in RANKS
    assert math.isfinite(found.score)
    texts = [found.action, found.malware, found.reply, *found.symbols, *found.removed]
    texts += [text for field in found.headers for text in field]
    assert all(re.fullmatch(r"[ -~]*", text) for text in texts)
    assert all(name and " " not in name and ":" not in name for name, _ in found.headers)


@given(st.binary(max_size=200) | values.map(lambda value: json.dumps(value).encode()))
def test_no_octets_whatsoever_raise(octets: bytes) -> None:
    assert_fits(filtered_of(octets))


@given(answers)
def test_no_answer_whatsoever_raises(answer: object) -> None:
    found = filtered_of(json.dumps(answer).encode())
    assert found is not None
    assert_fits(found)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"{}",
        b"[]",
        b'{"action": 5}',
        b'{"error": "bad"}',
        b"[" * 100_000,
        b'{"action": "reject"',
        b'{"action": "reject"}\xff',
        b"1" * 10_000,
    ],
)
def test_what_is_no_answer_is_none(octets: bytes) -> None:
    assert filtered_of(octets) is None


def test_a_score_is_a_number_that_there_is() -> None:
    for text in ("NaN", "Infinity", "1" + "0" * 400, "true", '"7"', "null", "1e999"):
        found = filtered_of(b'{"action": "greylist", "score": %s}' % text.encode())
        assert found is not None
        assert found.score == 0.0, text


def test_who_skipped_a_message_has_not_judged_it_unless_he_rejects_it() -> None:
    assert said(is_skipped=True) == Filtered()
    assert said(is_skipped=True, action="reject").verdict == "spam"


def test_an_action_of_the_operators_own_is_unsure() -> None:
    assert said(action="quarantine") == Filtered(verdict="unsure", action="quarantine")


@pytest.mark.parametrize("name", ["CLAM_VIRUS", "VIRUS", "ESET2_VIRUS"])
def test_a_scanners_test_is_malware_with_the_name_that_it_tells(name: str) -> None:
    found = said(symbols={name: {"options": ["Worm\r\nX: y"]}})
    assert (found.verdict, found.malware) == (Judgement.MALWARE, "Worm X: y")
    assert said(symbols={name: {"options": []}}).malware == name
    assert said(symbols={name: None}).malware == name


@pytest.mark.parametrize("name", ["CLAM_VIRUS_FAIL", "CLAM_VIRUS_ENCRYPTED", "CLAM_VIRUS_MACRO", "NOVIRUS", "VIRUSES"])
def test_a_scanner_that_could_not_look_has_found_nothing(name: str) -> None:
    assert said(symbols={name: {"options": ["x"]}}).verdict == "ham"


def test_the_score_of_the_group_of_scanners_counts_unless_they_could_not_look() -> None:
    group = {"antivirus": {"score": 4.0}}
    assert said(groups=group, symbols={"JUST_EICAR": {}}).malware == "antivirus"
    assert said(groups=group, symbols={"CLAM_VIRUS_ENCRYPTED": {}}).malware == ""
    assert said(groups={"antivirus": {"score": 0.0}}).malware == ""


def test_signatures_come_before_other_fields() -> None:
    milter = {"add_headers": {"X-Spam": {"value": "Yes", "order": 1}, "X-A": ["1", {"value": "2"}], "No Name": "x"}}
    found = said(**{"milter": milter, "dkim-signature": ["v=1; a=rsa;\r\n\tb=x", "v=1; a=ed25519"]})
    assert found.headers == (
        ("DKIM-Signature", "v=1; a=rsa; b=x"),
        ("DKIM-Signature", "v=1; a=ed25519"),
        ("X-Spam", "Yes"),
        ("X-A", "1"),
        ("X-A", "2"),
    )


def test_a_subject_is_changed_by_the_action_that_says_so_only() -> None:
    assert said(action="add header", subject="[SPAM] x").headers == ()
    found = said(action="rewrite subject", subject="[SPAM] x")
    assert (found.headers, found.removed) == ((("Subject", "[SPAM] x"),), ("Subject",))
    assert said(action="rewrite subject").removed == ()


def test_a_reply_is_for_a_message_that_is_refused() -> None:
    messages = {"smtp_message": "come\r\n250 back"}
    assert said(messages=messages).reply == ""
    assert said(messages=messages, action="soft reject").reply == "come 250 back"
    assert said(messages={"smtp_message": "x" * 5_000}, action="reject").reply == "x" * 400


def test_there_is_an_end_to_what_it_can_want() -> None:
    found = said(
        symbols={f"S{number}": {} for number in range(1_000)},
        milter={
            "add_headers": {f"X-{number}": "x" for number in range(1_000)},
            "remove_headers": {f"X-{number}": 0 for number in range(1_000)},
        },
    )
    assert (len(found.symbols), len(found.headers), len(found.removed)) == (MAX_SYMBOLS, MAX_FIELDS, MAX_FIELDS)
