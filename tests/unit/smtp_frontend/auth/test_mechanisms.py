"""AUTH PLAIN and LOGIN, step by step: what becomes credentials, and what is refused with which answer."""

import base64
import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_frontend.auth import replies
from smtp_frontend.auth.credentials import Credentials
from smtp_frontend.auth.mechanisms import MAX_LINE_OCTETS, MECHANISMS, Challenge, Refused, Step, start
from smtp_frontend.reply import Reply

ALICE = Credentials(login="alice@example.net", password="open sesame")


def coded(message: bytes | str) -> bytes:
    return base64.b64encode(message.encode() if isinstance(message, str) else message)


def played(mechanism: str, initial: bytes | None, *answers: bytes) -> Step:
    step = start(mechanism, initial)
    for answer in answers:
        assert isinstance(step, Challenge), f"{step} asks for nothing"
        step = step.answer(answer)
    return step


def refusal(mechanism: str, initial: bytes | None, *answers: bytes) -> Reply:
    with pytest.raises(Refused) as caught:
        played(mechanism, initial, *answers)
    return caught.value.reply


# What works


def test_plain_with_an_initial_response_asks_for_nothing() -> None:
    assert played("PLAIN", coded("\0alice@example.net\0open sesame")) == ALICE


def test_plain_without_one_asks_with_an_empty_challenge() -> None:
    step = start("PLAIN", None)
    assert isinstance(step, Challenge)
    assert step.reply.lines() == (b"334 \r\n",)
    assert step.answer(coded("\0alice@example.net\0open sesame")) == ALICE


def test_login_asks_for_the_login_and_then_for_the_password() -> None:
    step = start("LOGIN", None)
    assert isinstance(step, Challenge)
    assert base64.b64decode(step.text) == b"Username:"
    step = step.answer(coded("alice@example.net"))
    assert isinstance(step, Challenge)
    assert base64.b64decode(step.text) == b"Password:"
    assert step.reply.code == 334
    assert step.answer(coded("open sesame")) == ALICE


def test_login_takes_the_login_as_an_initial_response() -> None:
    assert played("LOGIN", coded("alice@example.net"), coded("open sesame")) == ALICE


def test_a_mechanism_may_be_in_small_letters() -> None:
    assert played("plain", coded("\0alice@example.net\0open sesame")) == ALICE


def test_who_acts_for_himself_may_say_so() -> None:
    assert played("PLAIN", coded("alice@example.net\0alice@example.net\0open sesame")) == ALICE


def test_letters_of_all_languages_are_taken() -> None:
    found = played("PLAIN", coded("\0jürgen@bücher.example\0Grüße €"))
    assert found == Credentials(login="jürgen@bücher.example", password="Grüße €")


# What does not


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_star_cancels(mechanism: str) -> None:
    assert refusal(mechanism, None, b"*") == replies.CANCELLED
    assert (replies.CANCELLED.code, replies.CANCELLED.enhanced) == (501, "5.7.0")


@pytest.mark.parametrize("line", [b"?", b"AGE=AGE=", b"AGEAYg", b"AGEAYg== ", b"AG EAYg==", b"\xff\xfe", b"="])
def test_what_is_no_base64_or_no_message_of_plain_is_501(line: bytes) -> None:
    reply = refusal("PLAIN", None, line)
    assert (reply.code, reply.enhanced) == (501, "5.5.2")


@pytest.mark.parametrize("message", ["", "alice", "alice\0x", "\0alice\0x\0y", "\0\0\0"])
def test_a_message_of_plain_has_just_two_nuls(message: str) -> None:
    assert refusal("PLAIN", coded(message) or b"=") == replies.MALFORMED


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"bob\0alice\0x", id="acts-for-another"),
        pytest.param(b"\0\0x", id="no-login"),
        pytest.param(b"\0alice\0", id="no-password"),
        pytest.param(b"\0\0", id="neither"),
        pytest.param(b"\0al\x07ice\0x", id="bell-in-login"),
        pytest.param(b"\0alice\r\n\0x", id="line-end-in-login"),
        pytest.param(b"\0alice\0x\x1b[2J", id="escape-in-password"),
        pytest.param(b"\0alice\0x\xc2\x85", id="c1-in-password"),
        pytest.param(b"\0al\xffice\0x", id="latin-1-login"),
        pytest.param(b"\0alice\0\xe4", id="latin-1-password"),
        pytest.param(b"\0alice smith\0x", id="blank-in-login"),
        pytest.param("\0\uff41lice\0x".encode(), id="wide-letter"),
        pytest.param("\0ali\u200bce\0x".encode(), id="unseen-letter"),
        pytest.param("\0alice\ufe0f\0x".encode(), id="unseen-mark"),
        pytest.param(b"\0" + b"a" * 321 + b"\0x", id="long-login"),
        pytest.param(b"\0alice\0" + b"x" * 1_025, id="long-password"),
    ],
)
def test_who_cannot_be_a_user_is_denied_like_everybody_else(message: bytes) -> None:
    assert refusal("PLAIN", coded(message)) == replies.DENIED
    assert (replies.DENIED.code, replies.DENIED.enhanced) == (535, "5.7.8")


@pytest.mark.parametrize("answers", [(b"", coded("x")), (coded("alice"), b"")])
def test_login_takes_no_empty_line_for_a_login_or_password(answers: tuple[bytes, ...]) -> None:
    assert refusal("LOGIN", None, *answers) == replies.DENIED


def test_a_line_may_be_as_long_as_the_standard_says_and_no_longer() -> None:
    longest = b"A" * MAX_LINE_OCTETS
    assert refusal("PLAIN", None, longest) == replies.MALFORMED
    assert refusal("PLAIN", None, longest + b"AAAA") == replies.TOO_LONG
    assert refusal("LOGIN", longest + b"AAAA") == replies.TOO_LONG
    assert (replies.TOO_LONG.code, replies.TOO_LONG.enhanced) == (500, "5.5.6")


@pytest.mark.parametrize("mechanism", ["CRAM-MD5", "XOAUTH2", "", "PLAIN-CLIENTTOKEN", "pla\u0131n"])
def test_other_mechanisms_are_not_known(mechanism: str) -> None:
    assert refusal(mechanism, None) == replies.UNKNOWN_MECHANISM


def test_only_a_refused_log_in_is_a_failure() -> None:
    assert Refused(replies.DENIED).is_failure
    assert not any(
        Refused(reply).is_failure
        for reply in (replies.CANCELLED, replies.NOT_BASE64, replies.MALFORMED, replies.TOO_LONG)
    )


# What holds for everything


def test_a_password_is_never_shown() -> None:
    step = start("LOGIN", coded("alice"))
    shown = [repr(ALICE), str(ALICE), f"{ALICE}", repr(step)]
    with pytest.raises(Refused) as caught:
        played("PLAIN", coded(b"\0alice\0open sesame\x07"))
    assert caught.value.__context__ is None, "a trace would show the text that was no password"
    assert not any("sesame" in text for text in [*shown, repr(caught.value)])


@given(
    mechanism=st.one_of(st.sampled_from(MECHANISMS), st.text(max_size=10)),
    initial=st.none() | st.binary(max_size=60) | st.binary(max_size=60).map(coded),
    answers=st.lists(st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(coded)), max_size=4),
)
def test_any_octets_make_a_step_or_a_known_refusal(mechanism: str, initial: bytes | None, answers: list[bytes]) -> None:
    try:
        step = start(mechanism, initial)
        for asked, answer in enumerate(answers, 1):
            if isinstance(step, Credentials):
                break
            assert asked <= 2, "nobody is asked three times"
            step = step.answer(answer)
    except Refused as refused:
        assert refused.reply.code in {500, 501, 504, 535}
        return
    if isinstance(step, Credentials):
        assert step.login and step.password and "\0" not in step.login + step.password
    else:
        binascii.a2b_base64(step.text)


@given(login=st.text(max_size=40), password=st.text(max_size=40))
def test_what_a_client_sends_arrives_as_it_was_or_not_at_all(login: str, password: str) -> None:
    message = b"\0".join((b"", login.encode("utf-8", "replace"), password.encode("utf-8", "replace")))
    try:
        found = start("PLAIN", coded(message))
    except Refused:
        return
    assert found == Credentials(login=login, password=password)
