"""What rspamd is told beside the message."""

import re

from hypothesis import given
from hypothesis import strategies as st

from reputation.lookups.filters.rspamd_request import MAX_RECIPIENTS_LENGTH, fields
from tests.unit.lookups.filters.conftest import message

texts = st.text(max_size=200) | st.text(max_size=2_000)
REFUSED_OCTETS = 80 * 1_024
"""rspamd takes no header that long."""


@given(helo=texts, user=texts, sender=texts, recipients=st.lists(texts, max_size=40).map(tuple), id=texts)
def test_nothing_that_a_client_chooses_adds_a_field_or_makes_it_too_long(
    helo: str, user: str, sender: str, recipients: tuple[str, ...], id: str
) -> None:
    event = message(helo=helo, user=user, sender=sender, recipients=recipients, id=id)
    told = fields(event, password="secret", hostname="mx.example.net", rdns="")
    assert all(re.fullmatch(r"[A-Za-z-]+", name) and value.isprintable() and value for name, value in told)
    assert sum(len(name) + len(value.encode()) + 4 for name, value in told) < REFUSED_OCTETS
    assert len([name for name, _ in told if name != "Rcpt"]) <= 8


def test_recipients_end_somewhere() -> None:
    told = fields(message(recipients=("bob@example.net",) * 10_000), password="", hostname="", rdns="")
    paths = [value for name, value in told if name == "Rcpt"]
    assert 0 < len(paths) * len("Rcpt: <bob@example.net>\r\n") <= MAX_RECIPIENTS_LENGTH


def test_what_is_not_known_is_not_said() -> None:
    told = dict(fields(message(helo="", user=""), password="", hostname="", rdns=""))
    expected = {
        "IP": "192.0.2.7",
        "From": "<a@b.example>",
        "Queue-Id": "S1",
        "Flags": "groups",
        "Rcpt": "<bob@example.net>",
    }
    assert told == expected
