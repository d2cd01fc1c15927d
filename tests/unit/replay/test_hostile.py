"""Lines that somebody wrote on purpose: clients choose much of what stands in a log."""

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reputation.replay.reading import MAX_LINE_BYTES
from reputation.replay.records import MAX_TEXT_LENGTH, Record, Refused, Taken, Turned, UnreadableLine
from tests.unit.replay.logs_for_tests import record

PATIENCE_SECONDS = 2.0
"""The slowest takes a hundredth of it; a pattern that goes wrong takes most of a minute."""
FLOOD = 10_000
"""So many lines are read in a second; a pattern that takes time with the square of the length takes minutes."""
BEGINNINGS = (
    "Nov 24 15:04:13 mx postfix/smtpd[8]: NOQUEUE: reject: RCPT from x[192.0.2.7]: 550 5.1.1 <b>: no; from=<a> to=<",
    "Nov 24 15:04:13 mx postfix/smtpd[8]: 4F1A2B: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=",
    "Nov 24 15:04:13 mx postfix/smtp[8]: 4F1A2B: to=<b@example.net>, relay=x, delay=1, status=",
    "Nov 24 15:04:13 mx postfix/cleanup[8]: 4F1A2B: reject: header Subject: ",
    "2026-11-24 15:04:13 1tFAbC-000123-AB <= a@example.com H=x (",
    '2026-11-24 15:04:13 1tFAbC-000123-AB <= a@example.com H=x (y) [192.0.2.7] P=esmtp S=1 T="',
    "2026-11-24 15:04:13 H=(x) [192.0.2.7] F=<a@example.com> rejected RCPT <",
    "2026-11-24 15:04:13 plain authenticator failed for (",
    "2026-11-24 15:04:13 1tFAbC-000123-AB <= a@example.com ",
    "2026-11-24 15:04:13 ",
    '2026-11-24T15:04:13.123 INFO reputon.maillog verdict stage=mail from="',
    "2026-11-24T15:04:13.123 INFO reputon.maillog verdict stage=mail ",
)
PIECES = (
    "> to=<",
    "; from=<a> to=<",
    ", relay=x, ",
    " status=sent",
    "H=a (b) ",
    "[1.1.1.1] ",
    '\\"',
    " for ",
    "(",
    "]: 535 (",
    "H=",
    " H=(",
    "a",
    "a=",
    " F=<",
    " F=<a> rejected RCPT <",
    ">, orig_to=<",
    ">, relay=x, status=, orig_to=<",
    ">, size=1",
)
FLOODS = (
    ("2026-11-24 15:04:13 1tFAbC-000123-AB <= a@example.com ", "H="),
    ("2026-11-24 15:04:13 H=(x) [192.0.2.7] rejected ", " F=<"),
    ("Nov 24 15:04:13 mx postfix/smtp[8]: 4F1A2B: to=<b@example.net", ">, orig_to=<"),
    ("2026-11-24T15:04:13.123 INFO reputon.maillog verdict ", "a"),
)
"""Of each format the lines that took longest."""


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_no_line_takes_long(beginning: str, piece: str) -> None:
    line = (beginning + MAX_LINE_BYTES * piece)[:MAX_LINE_BYTES]
    begun = time.process_time()
    with suppress(UnreadableLine, ValueError):
        record(line)
    assert time.process_time() - begun < PATIENCE_SECONDS


@pytest.mark.parametrize(("beginning", "piece"), FLOODS)
def test_a_log_full_of_the_longest_lines_is_read_to_its_end(beginning: str, piece: str) -> None:
    for length in (MAX_LINE_BYTES - 1, MAX_TEXT_LENGTH):
        line = (beginning + length * piece)[:length]
        for _ in range(FLOOD):
            with suppress(UnreadableLine, ValueError):
                record(line)


@pytest.mark.parametrize("program", ["postfix/smtp[8]: 4F1A2B: to=<", "exim[8]: H=(x) [192.0.2.7] F=<"])
def test_what_says_more_than_a_line_may_is_unreadable(program: str) -> None:
    with pytest.raises(UnreadableLine):
        record(f"Nov 24 15:04:13 mx {program}{'a' * MAX_TEXT_LENGTH}> rejected MAIL <a>, relay=x, status=sent")


def test_a_long_list_of_recipients_is_read_whole() -> None:
    names = tuple(f"somebody-with-a-name-{number}@example.net" for number in range(200))
    text = f"1tFAbC-000123-AB <= a@example.com H=(x) [192.0.2.7] P=esmtp S=7 for {' '.join(names)}"
    assert MAX_TEXT_LENGTH < len(text) < MAX_LINE_BYTES
    found = record(f"2026-11-24 15:04:13 {text}")
    assert isinstance(found, Taken)
    assert found.recipients == names


@pytest.mark.parametrize("sender", ['"x rejected MAIL <ceo@a.example>"@b.example', '"> rejected RCPT <c@d>: no"@b'])
def test_a_sender_cannot_write_a_refusal_of_somebody_else(sender: str) -> None:
    line = f"2026-11-24 15:04:13 H=(x) [192.0.2.7] F=<{sender}> rejected RCPT <b@example.net>: no"
    found = record(line)
    assert isinstance(found, Refused)
    assert (found.sender, found.recipient, found.what) == (sender, "b@example.net", Turned.RECIPIENT)


@settings(deadline=None)
@given(beginning=st.sampled_from(BEGINNINGS), kept=st.integers(0, 120), rest=st.text(max_size=80))
def test_any_line_is_a_record_nothing_or_unreadable(beginning: str, kept: int, rest: str) -> None:
    try:
        found = record(beginning[:kept] + rest)
    except (UnreadableLine, ValueError, OverflowError):
        return
    assert found is None or isinstance(found, Record)
