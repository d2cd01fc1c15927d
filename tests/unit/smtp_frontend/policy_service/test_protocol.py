"""The wire: questions in pieces, everything that is no question, and answers that are always one line."""

import re
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_frontend.policy_service.protocol import (
    MAX_ACTION_LENGTH,
    MAX_ATTRIBUTES,
    MAX_LINE_BYTES,
    MAX_REQUEST_BYTES,
    BrokenRequest,
    Decoder,
    encoded,
)
from smtp_frontend.policy_service.requests import Instance, Request, State

ASKED = b"request=smtpd_access_policy\n"
WHOLE = ASKED + b"protocol_state=RCPT\nclient_address=2001:db8::7\nsender=\nrecipient=a=b@example.net\nsize=12345\n\n"


def decoded(octets: bytes, at: int | None = None) -> list[Request]:
    """All questions in some octets, which come in one piece or in pieces of `at`."""
    decoder, found = Decoder(), []
    size = at or len(octets)
    for start in range(0, len(octets), size):
        decoder.feed(octets[start : start + size])
        while (request := decoder.next()) is not None:
            found.append(request)
    return found


@pytest.mark.parametrize("at", [None, 1, 2, 7, 30])
def test_questions_are_read_in_pieces_of_any_size(at: int | None) -> None:
    first, second = decoded(WHOLE + WHOLE.replace(b"RCPT", b"END-OF-MESSAGE"), at)
    assert (first.state, second.state) == (State.RCPT, State.END_OF_MESSAGE)
    assert first.client == ip_address("2001:db8::7")
    assert (first.sender, first.recipient, first.size) == ("", "a=b@example.net", 12_345)


def test_attributes_have_their_types_and_what_was_not_sent_is_empty() -> None:
    (request,) = decoded(ASKED + b"size=-1\nrecipient_count=99999999999999999999\nencryption_keysize=x\n\n")
    assert (request.size, request.recipient_count, request.encryption_keysize) == (0, 0, 0)
    assert (request.state, request.client, request.helo_name, request.instance) == (None, None, "", "")


def test_every_attribute_of_the_readme_is_known() -> None:
    names = """request protocol_state protocol_name client_address client_name client_port reverse_client_name
        server_address server_port helo_name sender recipient recipient_count queue_id instance size etrn_domain stress
        sasl_method sasl_username sasl_sender ccert_subject ccert_issuer ccert_fingerprint ccert_pubkey_fingerprint
        encryption_protocol encryption_cipher encryption_keysize policy_context compatibility_level mail_version"""
    numbers = {"recipient_count", "size", "encryption_keysize"}
    others = set(names.split()) - {"request", "protocol_state", "client_address"}
    (request,) = decoded(ASKED + b"".join(b"%b=7\n" % name.encode() for name in others) + b"\n")
    for name in others:
        assert getattr(request, name) == (7 if name in numbers else "7")


@pytest.mark.parametrize("text", ["unknown", "", "192.0.2.7.8", "fe80::1%eth0", "[192.0.2.7]"])
def test_an_address_that_is_none_is_not_known(text: str) -> None:
    (request,) = decoded(ASKED + f"client_address={text}\n\n".encode())
    assert request.client is None


def test_octets_that_are_no_text_stay() -> None:
    (request,) = decoded(ASKED + b"sender=\xff\xfe@example.com\n\n")
    assert request.sender.encode("utf-8", "surrogateescape") == b"\xff\xfe@example.com"


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b"\n", "empty"),
        (b"\n\n", "without ="),
        (b"protocol_state=RCPT\n\n", "not request="),
        (b"request=junk\n\n", "not request="),
        (ASKED + b"hello\n\n", "without ="),
        (ASKED.replace(b"\n", b"\r\n") + b"\r\n\n\n", "without ="),
        (ASKED + b"sender=a\0b\n\n", "NUL"),
        (ASKED + b"x=" + b"y" * MAX_LINE_BYTES + b"\n\n", "a line of more than"),
        (ASKED + b"x=" + b"y" * MAX_LINE_BYTES, "a line of more than"),
        (ASKED + b"a=b\n" * MAX_ATTRIBUTES + b"\n", "attributes"),
        ((ASKED + b"a=" + b"b" * 1_000 + b"\n") * 100, "octets"),
        ((b"a=" + b"b" * 1_000 + b"\n") * 100 + b"\n", "octets"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + b"\n\n", "without ="),
    ],
)
def test_what_is_no_question_breaks_the_connection(octets: bytes, problem: str) -> None:
    decoder = Decoder()
    decoder.feed(WHOLE + octets)
    assert decoder.next() is not None, "what was asked before is answered"
    with pytest.raises(BrokenRequest, match=problem):
        decoder.next()
    decoder.feed(WHOLE)
    assert len(decoder) == 0
    with pytest.raises(BrokenRequest, match=problem):
        decoder.next()


def test_the_largest_question_is_read_and_one_octet_more_is_not() -> None:
    line = b"x=" + b"y" * (MAX_LINE_BYTES - 2) + b"\n"
    body = ASKED + line * 7
    filled = body + b"z=" + b"y" * (MAX_REQUEST_BYTES - len(body) - 2)
    assert len(decoded(filled + b"\n\n")) == 1
    with pytest.raises(BrokenRequest):
        decoded(filled + b"y\n\n")


@given(
    st.text(), st.sampled_from(["DUNNO", "DISCARD", "PREPEND X-Reputon:", "DEFER_IF_PERMIT 4.7.1", "451 4.7.1", "550"])
)
def test_an_answer_is_one_line_whatever_it_says(text: str, word: str) -> None:
    octets = encoded(f"{word} {text}")
    assert re.fullmatch(rb"action=%b[\x20-\x7e]*\n\n" % re.escape(word).encode(), octets)
    assert len(octets) <= MAX_ACTION_LENGTH + len(b"action=\n\n")


@pytest.mark.parametrize(
    "action", ["OK", "REDIRECT a@example.com", "FILTER x:y", "250 fine", "4511 x", "", " DUNNO", "dunno"]
)
def test_an_action_that_is_not_ours_is_never_said(action: str) -> None:
    with pytest.raises(ValueError, match="no action of ours"):
        encoded(action)


@pytest.mark.parametrize(
    "text", ["", "x", "1.2.3", "1.2.3.4.5", "1.2.3.G", "123.456.7", "1..2.3", "-1.2.3.4", "A.B.C.D"]
)
def test_an_instance_of_another_form_tells_no_process(text: str) -> None:
    assert Instance.parse(text) is None
