"""Times as people type and read them: "7d", "2 h ago", "in 59 min". Times of day are UTC."""

import re
from datetime import UTC, datetime

from reputation.errors import ConfigError

SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))
EVER = "ever"
_STRETCH = re.compile(r"\s*(\d{1,9}(?:\.\d{1,3})?)\s*(s|min|m|h|d|w)\s*", re.ASCII)
FROM = 2
"""So many of a unit: 90 min are told as such, and not as an hour."""


def seconds_of(text: str) -> float | None:
    """How long something lasts, in seconds; None for "ever". Raises `ConfigError`.

    >>> seconds_of("90d"), seconds_of("30 min"), seconds_of("ever")
    (7776000.0, 1800.0, None)
    """
    if text.strip().lower() == EVER:
        return None
    match = _STRETCH.fullmatch(text)
    if match is None or float(match[1]) <= 0:
        raise ConfigError(f'"{text:.60}" is no stretch of time: write 30m, 1h, 7d, or {EVER}')
    return float(match[1]) * SECONDS[match[2]]


def moment_of(text: str, now: float) -> float:
    """A moment, in seconds since the epoch. Raises `ConfigError`.

    >>> moment_of("2 h ago", 10_000.0), moment_of("1970-01-01T01:00", 0.0), moment_of("1970-01-01T01:00+01:00", 0.0)
    (2800.0, 3600.0, 0.0)
    """
    stretch = text.strip().removesuffix("ago")
    if stretch != text.strip():
        return now - (seconds_of(stretch) or 0.0)
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ConfigError(f'"{text:.60}" is no time: write "2 h ago", or 2026-11-24T12:00 (UTC)') from None


def stretch(seconds: float) -> str:
    """How long something is, in a few characters.

    >>> stretch(5.4), stretch(119), stretch(7_300), stretch(604_799)
    ('5 s', '119 s', '2 h', '7 d')
    """
    for size, unit in UNITS:
        if seconds >= FROM * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def ago(at: float | None, now: float) -> str:
    """How long ago something was.

    >>> ago(None, 0.0), ago(95.0, 100.0)
    ('never', '5 s')
    """
    return "never" if at is None else stretch(now - at)


def left(until: float | None, now: float) -> str:
    """How long something will last.

    >>> left(None, 0.0), left(7_300.0, 0.0), left(5.0, 10.0)
    ('', '2 h', 'over')
    """
    if until is None:
        return ""
    return stretch(until - now) if until > now else "over"


def clock(at: float) -> str:
    """The time of day.

    >>> clock(3_723.0)
    '01:02:03'
    """
    return _format(at, "%H:%M:%S")


def stamp(at: float | None) -> str:
    """Day and time, for those that end.

    >>> stamp(3_723.0), stamp(None)
    ('1970-01-01 01:02', 'no end')
    """
    return "no end" if at is None else _format(at, "%Y-%m-%d %H:%M")


def iso(at: float) -> str:
    """As other programs read it.

    >>> iso(3_723.5)
    '1970-01-01T01:02:03.500Z'
    """
    return _format(at, "%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _format(at: float, form: str) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime(form)
    except (ValueError, OverflowError, OSError):  # an entry may last longer than a calendar
        return "beyond any calendar"
