"""Lines that somebody wrote on purpose: clients choose much of what stands in a log."""

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reputation.replay.reading import MAX_LINE_BYTES
from reputation.replay.records import Record, UnreadableLine
from tests.unit.replay.logs_for_tests import record

PATIENCE_SECONDS = 2.0
"""The slowest takes a twentieth of it; a pattern that goes wrong takes most of a minute."""
BEGINNINGS = (
    "Nov 24 15:04:13 mx postfix/smtpd[8]: NOQUEUE: reject: RCPT from x[192.0.2.7]: 550 5.1.1 <b>: no; from=<a> to=<",
    "Nov 24 15:04:13 mx postfix/smtpd[8]: 4F1A2B: client=x[192.0.2.7], sasl_method=PLAIN, sasl_username=",
    "Nov 24 15:04:13 mx postfix/smtp[8]: 4F1A2B: to=<b@example.net>, relay=x, delay=1, status=",
    "Nov 24 15:04:13 mx postfix/cleanup[8]: 4F1A2B: reject: header Subject: ",
    "2026-11-24 15:04:13 1tFAbC-000123-AB <= a@example.com H=x (",
    '2026-11-24 15:04:13 1tFAbC-000123-AB <= a@example.com H=x (y) [192.0.2.7] P=esmtp S=1 T="',
    "2026-11-24 15:04:13 H=(x) [192.0.2.7] F=<a@example.com> rejected RCPT <",
    "2026-11-24 15:04:13 plain authenticator failed for (",
    '2026-11-24T15:04:13.123 INFO reputon.maillog verdict stage=mail from="',
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
)


@pytest.mark.parametrize("piece", PIECES)
@pytest.mark.parametrize("beginning", BEGINNINGS)
def test_no_line_takes_long(beginning: str, piece: str) -> None:
    line = (beginning + MAX_LINE_BYTES * piece)[:MAX_LINE_BYTES]
    begun = time.process_time()
    with suppress(UnreadableLine, ValueError):
        record(line)
    assert time.process_time() - begun < PATIENCE_SECONDS


@settings(deadline=None)
@given(beginning=st.sampled_from(BEGINNINGS), kept=st.integers(0, 120), rest=st.text(max_size=80))
def test_any_line_is_a_record_nothing_or_unreadable(beginning: str, kept: int, rest: str) -> None:
    try:
        found = record(beginning[:kept] + rest)
    except (UnreadableLine, ValueError, OverflowError):
        return
    assert found is None or isinstance(found, Record)
