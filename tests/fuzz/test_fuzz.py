"""Any octets in any packets: see `sessions` for what must hold.

A few seconds here; `REPUTON_FUZZ_EXAMPLES=20000` or `python -m tests.fuzz --seconds 600` go on longer.
"""

import os
from collections.abc import Iterator

import pytest
from hypothesis import example, given, settings

from smtp_frontend.listeners import Kind
from smtp_frontend.rehearsal.next_hop import Message
from tests.fuzz.sessions import GOOD, House, Outcome, cuts, faults, octets_of_a_session

EXAMPLES = int(os.environ.get("REPUTON_FUZZ_EXAMPLES", "200"))


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with House() as house:
        yield house


@pytest.fixture(scope="module")
def submissions() -> Iterator[House]:
    with House(Kind.SUBMISSIONS) as house:
        yield house


@given(octets=octets_of_a_session, at=cuts)
@example(octets=GOOD + b"hello\r\n.\r\n", at=[1, 2, 3])
@example(octets=GOOD + b"hello\n.\nMAIL FROM:<smuggled@example.com>\r\n.\r\n", at=[])
@example(octets=GOOD + b" first\r\n..\r\n.\r\nQUIT\r\n", at=[len(GOOD) + 8])
@example(octets=GOOD + b"z" * 70_000 + b"\r\n.\r\nNOOP\r\n", at=[3_000])
@example(octets=b"y" * 5_000 + b"\r\nNOOP\r\n", at=[2_048, 2_049])
@settings(max_examples=EXAMPLES, deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
def test_the_invariant_holds(house: House, octets: bytes, at: list[int]) -> None:
    house.hold(octets, at)


LOGGED_IN = GOOD.replace(b"MAIL", b"AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\nMAIL", 1)


@given(octets=octets_of_a_session.map(lambda octets: octets.replace(GOOD, LOGGED_IN, 1)), at=cuts)
@example(octets=LOGGED_IN + b"hello\r\n.\r\n", at=[1, 2, 3])
@example(octets=b"EHLO x\r\nAUTH LOGIN\r\nYWxpY2U=\r\n" + b"A" * 5_000 + b"\r\nNOOP\r\n", at=[40])
@example(octets=b"EHLO x\r\nAUTH LOGIN\r\nQUIT\r\n", at=[])
@example(octets=b"EHLO x\r\nAUTH PLAIN\r\nAGFsaWNlAHNlY3JldA==\n", at=[])
@settings(max_examples=EXAMPLES, deadline=None, print_blob=True, derandomize=bool(os.environ.get("CI")))
def test_the_invariant_holds_where_users_send(submissions: House, octets: bytes, at: list[int]) -> None:
    submissions.hold(octets, at)


# The judge can see what it is to see


def message(content: bytes) -> Message:
    head = b"Received: from x\r\n\tby y\r\nX-Reputon: accept\r\n\tid=ID\r\n"
    return Message(sender="a@b", parameters=(), recipients=("c@d",), content=head + content)


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b"hello\r\n", GOOD + b"hello\r\n"),
        (b"hello\r\n", GOOD + b"hello\r\n\n.\r\n"),
        (b"hello\r\nMAIL\r\n", GOOD + b"hello\r\n.\r\nMAIL\r\n.\r\n"),
        (b"hello\nMAIL\r\n", GOOD + b"hello\nMAIL\r\n.\r\n"),
        (b".\r\n", GOOD + b".\r\n"),
    ],
)
def test_a_message_that_was_not_sent_is_found(house: House, content: bytes, sent: bytes) -> None:
    came = Outcome(replies=b"250 OK\r\n", messages=(message(content),))
    assert any("not sent" in fault for fault in faults(sent, came, house.mx))


@pytest.mark.parametrize(
    "replies", [b"250 OK", b"99 no\r\n", b"250 \xff\r\n", b"600 x\r\n", b"250 " + b"x" * 520 + b"\r\n"]
)
def test_an_illegal_reply_is_found(house: House, replies: bytes) -> None:
    assert any("illegal" in fault for fault in faults(b"", Outcome(replies=replies, messages=()), house.mx))
