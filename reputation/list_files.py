"""Reads sources of lists: files, members of sets, values of the configuration. For threads: it waits for disks.

Half of the work of a large list is done in pauses: whoever holds the interpreter holds up every session of this
process, so after `PIECE` lines others have their turn.

A file may be replaced while it is read; whoever asks is told (`Attempt.torn`). Does not do: watching
(`reputation.list_keeper`), knowing what a line means (`reputation.list_lines`).
"""

import os
import stat
import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from reputation.config import ListSettings, Settings
from reputation.errors import ConfigError
from reputation.list_lines import Reader
from reputation.lists import MAX_VALUES, Source
from reputation.spelling import Spelling

MAX_LINE_BYTES = 1_000
MAX_LINES = 2 * MAX_VALUES
MAX_TROUBLES = 20
"""Shown at once."""
PIECE = 100
"""Lines, a fraction of a millisecond."""
PAUSE_SECONDS = 0.0002


class StoppedError(Exception):
    """Nobody waits for the reading any more."""


class Pace:
    """The pauses of one reader in a thread."""

    def __init__(self) -> None:
        self._stopped = threading.Event()

    def pause(self) -> None:
        """Let others have their turn; raises `StoppedError` after `stop`."""
        if self._stopped.wait(PAUSE_SECONDS):
            raise StoppedError

    def stop(self) -> None:
        """End the reading at its next pause."""
        self._stopped.set()


class Fingerprint(NamedTuple):
    """What is another when a file is."""

    written_ns: int
    changed_ns: int
    """When its permissions were, too."""
    size: int
    inode: int

    @classmethod
    def of(cls, status: os.stat_result) -> "Fingerprint":
        return cls(status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)


MISSING = Fingerprint(0, 0, 0, 0)
"""Of a file that is not there, or cannot be looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What came of reading a source."""

    reader: Reader
    troubles: Sequence[str] = ()
    """Each names its place."""
    file: Fingerprint = MISSING
    """Of what was read; `MISSING` when nothing could be, and for what is no file."""
    torn: bool = False
    """Whether the file changed meanwhile."""


def sources_of(lists: Sequence[ListSettings]) -> tuple[Source, ...]:
    """Where the values of these lists come from, each source once."""
    found: dict[Source, None] = {}
    for each in lists:
        if each.values:
            found[Source(list=each.name, of=each.of, values=each.values)] = None
        if each.file:
            found[Source(list=each.name, of=each.of, file=each.file)] = None
        if each.redis_set:
            found[Source(list=each.name, of=each.of, redis_set=each.redis_set)] = None
    return tuple(found)


def named(source: Source, text: str, number: int = 0) -> str:
    """`text` about a line of a source, with its place in front."""
    if source.file:
        return f'[[list]] "{source.list}" file: {source.file}{f":{number}" if number else ""}: {text}'
    if source.redis_set:
        return f'[[list]] "{source.list}" redis_set: {source.redis_set}: {text}'
    return f'[[list]] "{source.list}" values, item {number}: {text}'


def shown(troubles: Sequence[str]) -> list[str]:
    """The first few, and how many more there are."""
    more = len(troubles) - MAX_TROUBLES
    return [*troubles[:MAX_TROUBLES], *([f"and {more} more"] if more > 0 else [])]


def fingerprints_of(paths: Iterable[str]) -> dict[str, Fingerprint]:
    """What some files are now."""
    found = dict.fromkeys(paths, MISSING)
    for path in found:
        with suppress(OSError):
            found[path] = Fingerprint.of(Path(path).stat())
    return found


def attempt(source: Source, reader: Reader, pace: Pace, members: Iterable[str] = ()) -> Attempt:
    """Read a source; `members` are those of a set."""
    try:
        if source.file:
            before, after = _read_file(source.file, reader, pace)
            return Attempt(reader=reader, troubles=_troubles(source, reader), file=before, torn=before != after)
        _take(source.values or members, reader, pace)
    except OSError as error:
        return Attempt(reader=reader, troubles=[named(source, f"cannot be read: {error.strerror or error}")])
    except ValueError as error:  # a NUL in its name
        return Attempt(reader=reader, troubles=[named(source, f"cannot be read: {error}")])
    return Attempt(reader=reader, troubles=_troubles(source, reader))


def _troubles(source: Source, reader: Reader) -> list[str]:
    return [named(source, text, number) for number, text in reader.mistakes]


def _take(lines: Iterable[str], reader: Reader, pace: Pace) -> None:
    for number, line in enumerate(lines, 1):
        reader.take(line, number)
        if number % PIECE == 0:
            pace.pause()


def _read_file(path: str, reader: Reader, pace: Pace) -> tuple[Fingerprint, Fingerprint]:
    """Read all lines of a file; what it was before and what it was after. Raises `OSError`."""
    if not stat.S_ISREG(Path(path).stat().st_mode):  # a pipe would wait for ever for somebody to write
        raise OSError("it is no file")
    with Path(path).open("rb") as file:
        before = Fingerprint.of(os.fstat(file.fileno()))
        for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
            _take_line(line, number, reader)
            if reader.given_up:
                break
            if number % PIECE == 0:
                pace.pause()
        return before, Fingerprint.of(os.fstat(file.fileno()))


def _take_line(line: bytes, number: int, reader: Reader) -> None:
    if len(line) > MAX_LINE_BYTES or number > MAX_LINES:
        too_long = f"a line has at most {MAX_LINE_BYTES:,} bytes"
        reader.mistaken(too_long if number <= MAX_LINES else f"a file has at most {MAX_LINES:,} lines", number)
        reader.given_up = True
        return
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        reader.mistaken("is not UTF-8 text", number)
        return
    reader.take(text.removeprefix("\ufeff") if number == 1 else text, number)


def check_lists(settings: Settings, spelling: Spelling) -> None:
    """Read what can be read without a server. Raises `ConfigError` with a line per mistake, `MAX_TROUBLES` at most."""
    troubles, size, pace, never_ban = _troubles_of_tables(settings), 0, Pace(), settings.never_ban()
    for source in sources_of(settings.list_):
        if not source.redis_set:
            reader = Reader(source, spelling, room=MAX_VALUES - size, never_ban=never_ban)
            troubles += attempt(source, reader, pace).troubles
            size += reader.size
    if troubles:
        raise ConfigError("\n".join(shown(troubles)))


def _troubles_of_tables(settings: Settings) -> list[str]:
    troubles = []
    for each in settings.list_:
        if not (each.values or each.file or each.redis_set):
            troubles.append(f'[[list]] "{each.name}": say what is on it: values, file or redis_set')
        if each.redis_set and settings.store.url.startswith("memory:"):
            troubles.append(f'[[list]] "{each.name}" redis_set: the store "memory:" has no sets')
    return troubles
