"""Dates of logs: what they leave out is guessed as an operator would."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from reputation.replay.dates import Calendar
from reputation.windows import MICROSECONDS

NEWEST = datetime(2026, 11, 24, 15, tzinfo=UTC)


def shown(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / MICROSECONDS, UTC).isoformat()


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("Nov 24 15:04:13 mx", "2026-11-24T15:04:13+00:00"),
        ("Nov  4 05:04:03 mx", "2026-11-04T05:04:03+00:00"),
        ("Dec 31 23:59:59 mx", "2025-12-31T23:59:59+00:00"),
        ("Feb 29 01:02:03 mx", "2024-02-29T01:02:03+00:00"),
    ],
)
def test_the_first_line_is_no_younger_than_the_file(line: str, meant: str) -> None:
    assert shown(Calendar(NEWEST, UTC).of_syslog(line)) == meant


def test_a_file_may_be_a_little_older_than_its_last_line() -> None:
    assert shown(Calendar(NEWEST, UTC).of_syslog("Nov 25 01:00:00")) == "2026-11-25T01:00:00+00:00"


def test_the_year_turns_within_a_file_and_stragglers_stay_behind() -> None:
    calendar = Calendar(datetime(2026, 1, 2, tzinfo=UTC), UTC)
    lines = ["Dec 31 23:59:58", "Jan  1 00:00:01", "Dec 31 23:59:59", "Jan  1 00:00:02"]
    assert [shown(calendar.of_syslog(line))[:10] for line in lines] == [
        "2025-12-31",
        "2026-01-01",
        "2025-12-31",
        "2026-01-01",
    ]


def test_the_year_can_be_said() -> None:
    assert shown(Calendar(NEWEST, UTC, 2019).of_syslog("Nov 24 15:04:13")) == "2019-11-24T15:04:13+00:00"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-24T15:04:13", "2026-11-24T15:04:13+00:00"),
        ("2026-11-24 15:04:13", "2026-11-24T15:04:13+00:00"),
        ("2026-11-24T15:04:13.5", "2026-11-24T15:04:13.500000+00:00"),
        ("2026-11-24T15:04:13.123456+01:00", "2026-11-24T14:04:13.123456+00:00"),
        ("2026-11-24T15:04:13-0530", "2026-11-24T20:34:13+00:00"),
        ("2026-11-24T15:04:13Z", "2026-11-24T15:04:13+00:00"),
    ],
)
def test_dates_with_a_year(text: str, meant: str) -> None:
    assert shown(Calendar(NEWEST, UTC).of_iso(text)) == meant


@pytest.mark.parametrize(
    "text", ["Nov 31 15:04:13", "Nov xx 15:04:13", "Nov 24 25:04:13", "Nov 24 15", "Foo 24 15:04:13"]
)
def test_what_is_no_date_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the text is Python's own
        Calendar(NEWEST, UTC).of_syslog(text)


def test_the_zone_is_the_logs() -> None:
    calendar = Calendar(NEWEST, ZoneInfo("Europe/Berlin"))
    assert shown(calendar.of_syslog("Nov 24 15:04:13")) == "2026-11-24T14:04:13+00:00"
    assert shown(calendar.of_iso("2026-07-24 15:04:13")) == "2026-07-24T13:04:13+00:00"


def test_the_hour_that_comes_twice_goes_on() -> None:
    calendar = Calendar(NEWEST, ZoneInfo("Europe/Berlin"))
    lines = ["Oct 25 02:59:59", "Oct 25 02:00:01", "Oct 25 02:59:59", "Oct 25 03:00:01"]
    assert [shown(calendar.of_syslog(line))[11:19] for line in lines] == [
        "00:59:59",
        "01:00:01",
        "01:59:59",
        "02:00:01",
    ]
