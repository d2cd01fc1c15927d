"""Log files into records, in order of time.

Each line is told apart by itself, so one file may hold several kinds, as a journal does:

* ``Nov 24 15:04:13 host program[8]: ...`` and ``2026-11-24T15:04:13.123+01:00 host program[8]: ...`` are syslog:
  Postfix by the program's name, Exim too; all other programs are passed over;
* ``2026-11-24 15:04:13 ...`` is Exim's own;
* ``2026-11-24T15:04:13.123 INFO reputon.maillog ...`` is ours, also behind what a syslog or a container puts in front.

Files may be compressed (gzip, bzip2, xz), and come in any order: rotated ones follow each other, those of several
servers are merged. `-` is standard input. Nothing but the line at hand is kept.

A line that cannot be read is counted, and the first few are kept to be shown. So is one that is too long
(`MAX_LINE_BYTES`, `records.MAX_TEXT_LENGTH`); it is not cut. A file of which nothing can be read is a
mistake (`ConfigError`), and so is one that is not there or damaged.
"""

import bz2
import gzip
import heapq
import lzma
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from io import BufferedReader
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO, cast

from reputation.errors import ConfigError
from reputation.replay import exim, ours
from reputation.replay.dates import MONTHS, Calendar
from reputation.replay.postfix import DAEMONS
from reputation.replay.records import MAX_TEXT_LENGTH, Origin, Record, UnreadableLine

STDIN = Path("-")
MAX_LINE_BYTES = 10_240
"""What is longer is no line of a mail log: syslog and Exim stop at 8 kB, and only a list of recipients is that long."""
EXAMPLES = 3
EXAMPLE_LENGTH = 100
HOPELESS_LINES = 10_000
"""After so many lines of which not one could be read, nobody waits for the end of the file."""
TOLD_EVERY = 2_000
"""Lines between two reports of how far it is."""
KNOWN = (
    'known are Postfix in a syslog ("Nov 24 15:04:13 mx postfix/smtpd[8]: ...", or with a date as in RFC 3339), '
    'the main log of Exim ("2026-11-24 15:04:13 1tFAbC-000123-AB <= ...") and the log of reputon\'s SMTP front end'
)

_EXIM_DATE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?)(?: ([+-]\d{4}))? (.*)")
_PRIORITY = re.compile(r"<\d{1,3}>")
_UNPACKING: dict[bytes, Callable[[BinaryIO], object]] = {b"\x1f\x8b": gzip.open, b"BZ": bz2.open, b"\xfd7": lzma.open}
"""By the first two bytes."""


@dataclass(slots=True)
class LogFile:
    """A file, and what could be read of it."""

    name: str
    lines: int = 0
    used: int = 0
    """Lines that say something about mail."""
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)
    """The first unreadable lines: file, number and the beginning of the text, printable."""

    def note(self, line: str) -> None:
        """Count a line that cannot be read."""
        self.unreadable += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{self.name}:{self.lines}: {printable(line)}")


def printable(line: str) -> str:
    """The beginning of a line, with what a terminal should not get escaped."""
    return visible(line[:EXAMPLE_LENGTH])


def visible(text: str) -> str:
    """A text with what a terminal should not get escaped.

    >>> visible("a\\x1b[31mb")
    'a\\\\x1b[31mb'
    """
    if text.isprintable():
        return text
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode("ascii") for it in text)


def record_of(line: str, calendar: Calendar) -> Record | None:
    """What a line says; None for nothing that is wanted. Raises `UnreadableLine`, `ValueError` or `OverflowError`."""
    if ours.MARK in line and (match := ours.LINE.match(line)):
        return ours.parse(match[2], Origin(calendar.of_iso(match[1]), "", ""))
    if line[:1] == "<":
        line = _PRIORITY.sub("", line, count=1)
    if line[:3] in MONTHS:
        return _of_syslog(line[16:], calendar.of_syslog(line))
    if line[10:11] == "T":
        date, _, rest = line.partition(" ")
        return _of_syslog(rest, calendar.of_iso(date))
    if match := _EXIM_DATE.match(line):
        return exim.parse(match[3], Origin(calendar.of_iso(match[1] + (match[2] or "")), "", ""))
    raise UnreadableLine


def _of_syslog(rest: str, at_us: int) -> Record | None:
    host, _, rest = rest.partition(" ")
    tag, _, text = rest.partition(": ")
    name, _, pid = tag.partition("[")
    directory, _, program = name.rpartition("/")
    if directory and (parse := DAEMONS.get(program)) is not None:
        if len(text) > MAX_TEXT_LENGTH:
            raise UnreadableLine
        return parse(text, Origin(at_us, host, pid[:-1]))
    if program.startswith("exim"):
        own = _EXIM_DATE.match(text)
        return exim.parse(own[3] if own else text, Origin(at_us, host, pid[:-1]))
    return None


class Reading:
    """Some log files that are read once. Raises `ConfigError` for those that cannot be opened."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        zone: tzinfo | None = None,
        year: int | None = None,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._paths = tuple(dict.fromkeys(paths))
        self._zone = zone
        self._year = year
        self._on_bytes = on_bytes
        self.files = [LogFile("standard input" if path == STDIN else str(path)) for path in self._paths]
        self.total_bytes: int | None = 0
        """Of all files, as they lie on the disk; None where that is not known."""
        wrong = list(filter(None, map(self._mistake, self._paths)))
        if wrong:
            raise ConfigError("\n".join(wrong))

    def _mistake(self, path: Path) -> str:
        try:
            if path == STDIN:
                self.total_bytes = None
            else:
                with path.open("rb"):
                    size = path.stat().st_size
                self.total_bytes = None if self.total_bytes is None else self.total_bytes + size
        except OSError as error:
            return f"{path}: cannot be read: {error.strerror}"
        return ""

    def records(self) -> Iterator[Record]:
        """All records, in order of time as far as each file is."""
        each = [self._of(path, file) for path, file in zip(self._paths, self.files, strict=True)]
        return each[0] if len(each) == 1 else heapq.merge(*each, key=itemgetter(0))

    def _of(self, path: Path, file: LogFile) -> Iterator[Record]:
        raw = sys.stdin.buffer if path == STDIN else path.open("rb")
        try:
            newest = time.time() if path == STDIN else path.stat().st_mtime
            calendar = Calendar(datetime.fromtimestamp(newest, self._zone), self._zone, self._year)
            yield from self._parsed(cast("BufferedReader", raw), file, calendar)
        except (EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise ConfigError(f"{file.name}: is damaged behind line {file.lines}: {error}") from None
        finally:
            if path != STDIN:
                raw.close()

    def _parsed(self, raw: BufferedReader, file: LogFile, calendar: Calendar) -> Iterator[Record]:
        for octets in self._lines(raw):
            file.lines += 1
            line = octets.decode("utf-8", "surrogateescape").rstrip("\r\n\0")
            try:
                if len(octets) >= MAX_LINE_BYTES:
                    raise UnreadableLine
                record = record_of(line, calendar) if line and not line.startswith("-- ") else None
            except (UnreadableLine, ValueError, OverflowError):
                file.note(line)
                if file.unreadable == file.lines == HOPELESS_LINES:
                    raise ConfigError(_nothing(file)) from None
                continue
            if record is not None:
                file.used += 1
                yield record
        if file.lines and not file.used:
            raise ConfigError(_nothing(file))

    def _lines(self, raw: BufferedReader) -> Iterator[bytes]:
        """The lines of a file, unpacked. Of one that is too long only the beginning comes."""
        unpack = _UNPACKING.get(raw.peek(2)[:2])
        stream = raw if unpack is None else cast("BinaryIO", unpack(raw))
        number, told, unfinished = 0, 0, False
        counted = stream.seekable() and raw.seekable()
        while octets := stream.readline(MAX_LINE_BYTES):
            if not unfinished:
                yield octets
            unfinished = not octets.endswith(b"\n")
            number += 1
            if number % TOLD_EVERY == 0 and counted:
                position = raw.tell()
                self._on_bytes(position - told)
                told = position
        if counted:
            self._on_bytes(raw.tell() - told)


def _nothing(file: LogFile) -> str:
    shown = f"; {file.examples[0]}" if file.examples else ""
    return f"{file.name}: not one of {file.lines:,} lines says anything of mail: {KNOWN}{shown}"
