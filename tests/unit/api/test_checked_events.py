"""Events as mail servers tell them in JSON, as the engine judges them."""

import base64
from ipaddress import ip_address

import pytest

from api.checks.events import FIELDS, MAX_FIELD_TEXT, CheckedEvent, event_of
from reputation.events import Auth, Data, Mail, Session, Stage


def told(**fields: object) -> CheckedEvent:
    return CheckedEvent.model_validate({"client": "192.0.2.7", **fields})


def data(**fields: object) -> Data:
    event = event_of(told(stage="data", sender="a@example.com", recipients=["b@example.net"], **fields))
    assert isinstance(event, Data)
    return event


def test_a_session_of_the_api_has_no_end_that_is_told() -> None:
    event = event_of(told(stage="mail", sender="", helo="mail.example.com", user="alice", tls=True, session="4rTq"))
    session = Session(
        id="4rTq", client=ip_address("192.0.2.7"), helo="mail.example.com", user="alice", tls=True, has_end=False
    )
    assert event == Mail(session=session, sender="")


@pytest.mark.parametrize(("success", "user"), [(True, "alice"), (False, "")])
def test_a_log_in_makes_a_user_when_it_succeeds(success: bool, user: str) -> None:
    event = event_of(told(stage="auth", login="alice", success=success))
    assert isinstance(event, Auth)
    assert (event.session.user, event.login, event.success) == (user, "alice", success)


def test_each_stage_that_can_be_asked_about_has_its_fields() -> None:
    assert FIELDS.keys() == set(Stage) - {Stage.DISCONNECT}


def test_a_header_is_read_as_the_front_end_reads_one() -> None:
    header = {"List-Id": "a\r\n\tlist", "LIST-ID": "another", "X-Long": "x" * 2 * MAX_FIELD_TEXT}
    assert data(header=header).header == {"list-id": "a list", "x-long": "x" * MAX_FIELD_TEXT}


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (b"A: b\r\n\r\nhello\r\n", b"A: b\r\n\r\nhello\r\n"),
        (b"A: b\n\nhello\n", b"A: b\r\n\r\nhello\r\n"),
        (b"A: b\r\n\r\na lone\n here\r\n", b"A: b\r\n\r\na lone\n here\r\n"),
        (b"", b""),
    ],
)
def test_a_message_has_the_line_ends_of_the_wire(message: bytes, content: bytes) -> None:
    event = data(content=base64.b64encode(message).decode())
    assert (event.content, event.message_bytes) == (content, len(content))


def test_a_size_that_is_told_counts() -> None:
    assert data(content=base64.b64encode(b"A: b\r\n").decode(), message_bytes=9_000).message_bytes == 9_000
