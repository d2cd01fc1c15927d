"""The dates of log lines as microseconds since the epoch.

What a date leaves out is guessed, with these rules:

* No zone: the machine's own, or the one that was asked for. In the hour that comes twice when clocks are set back, the
  second one begins where time seems to go back.
* No year (``Nov 24 15:04:13``): the first line of a file is no younger than the file. From there on a month that is
  more than half a year back begins the next year.

Most lines are of the same minute as the one before, so a minute is remembered.

Bugs: a file that covers more than half a year without a line is put into a wrong year.
"""

from datetime import datetime, timedelta, tzinfo

from reputation.windows import MICROSECONDS

_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
MONTHS = {name: 1 + n for n, name in enumerate(_NAMES)}
HALF_A_YEAR = 6
DOUBTFUL_US = 1_800 * MICROSECONDS
"""Time that seems to go back by more than this may be the second of two equal hours."""
LEAP_CYCLE = 8
"""Years between two 29ths of February, at most."""
_SIGNS = frozenset("+-")


class Calendar:
    """The dates of one file, whose last line was written by `newest`. A zone of None is the machine's own."""

    def __init__(self, newest: datetime, zone: tzinfo | None = None, year: int | None = None) -> None:
        self._newest = newest if year is None else datetime(year, 12, 31, 23, 59, tzinfo=newest.tzinfo)
        self._zone = zone
        self._year = 0
        self._month = 0
        self._latest_us = 0
        self._is_again = False
        """Whether this is the second of two equal hours."""
        self._minute = ("", 0)

    def of_syslog(self, text: str) -> int:
        """``Nov 24 15:04:13``. Raises `ValueError` for what is none."""
        if text[:12] != self._minute[0]:
            month, day = MONTHS.get(text[:3], 0), int(text[4:6])
            moment = datetime(self._year_of(month, day), month, day, int(text[7:9]), int(text[10:12]))  # noqa: DTZ001 - the log has no zone
            self._minute = (text[:12], self._since_epoch(moment))
        return self._minute[1] + int(text[13:15]) * MICROSECONDS

    def of_iso(self, text: str) -> int:
        """``2026-11-24T15:04:13.123`` with or without zone; a blank for the T. Raises `ValueError` for what is none."""
        if text[-6:-5] in _SIGNS or text[-5:-4] in _SIGNS or text[-1:] == "Z":
            return round(datetime.fromisoformat(text).timestamp() * MICROSECONDS)
        if text[:16] != self._minute[0]:
            self._minute = (text[:16], self._since_epoch(datetime.fromisoformat(text[:16])))
        return self._minute[1] + int(text[17:19]) * MICROSECONDS + int(text[20:26].ljust(6, "0"))

    def _since_epoch(self, moment: datetime) -> int:
        """A moment of the log's zone, of whole minutes."""
        first, again = (
            round(moment.replace(tzinfo=self._zone, fold=fold).timestamp() * MICROSECONDS) for fold in (0, 1)
        )
        # In the hour that clocks leave out, `again` is the earlier one.
        self._is_again = again > first and (self._is_again or first < self._latest_us - DOUBTFUL_US)
        meant = again if self._is_again else first
        self._latest_us = max(meant, self._latest_us)
        return meant

    def _year_of(self, month: int, day: int) -> int:
        if not self._year:
            self._year = self._first_year(month, day)
        elif month < self._month - HALF_A_YEAR:
            self._year += 1
        elif month > self._month + HALF_A_YEAR:  # a straggler of the old year
            return self._year - 1
        self._month = month
        return self._year

    def _first_year(self, month: int, day: int) -> int:
        newest = self._newest + timedelta(days=1)
        for year in range(newest.year, newest.year - LEAP_CYCLE - 1, -1):
            try:
                moment = datetime(year, month, day, tzinfo=newest.tzinfo)
            except ValueError:  # the 29th of February of another year
                continue
            if moment <= newest:
                return year
        raise ValueError(f"{month}-{day} is no date")
