"""Files of logs: packed, rotated, mixed, damaged, and lines that nobody can read."""

import bz2
import gzip
import io
import lzma
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from reputation.errors import ConfigError
from reputation.replay import reading as reading_module
from reputation.replay.reading import MAX_LINE_BYTES, STDIN, Reading, printable
from reputation.replay.records import Left
from tests.unit.replay.logs_for_tests import NEWEST, read, us

CONNECT = "{} mx postfix/smtpd[8]: connect from mail.example.com[192.0.2.7]\n"
LINES = [CONNECT.format(f"Nov 24 12:00:{second:02}") for second in range(20)]


def written(path: Path, *lines: str, year: int = 2026) -> Path:
    path.write_text("".join(lines), encoding="utf-8", errors="surrogateescape")
    os.utime(path, (NEWEST.replace(year=year).timestamp(),) * 2)
    return path


def times(reading: Reading) -> list[int]:
    return [record[0] for record in reading.records()]


@pytest.mark.parametrize("pack", [lambda it: it, gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_are_read_whatever_they_are_called(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "mail.log.1"
    path.write_bytes(pack("".join(LINES).encode()))
    records, reading = read(path)
    assert (len(records), reading.files[0].used, reading.files[0].lines) == (20, 20, 20)


def test_rotated_files_follow_each_other_in_any_order(tmp_path: Path) -> None:
    first, second = written(tmp_path / "mail.log.1", *LINES[:10]), written(tmp_path / "mail.log", *LINES[10:])
    assert times(Reading([second, first], zone=UTC)) == [us(12, 0, second) for second in range(20)]


def test_files_of_several_servers_are_merged(tmp_path: Path) -> None:
    one, other = written(tmp_path / "one", *LINES[::2]), written(tmp_path / "other", *LINES[1::2])
    assert times(Reading([one, other], zone=UTC)) == [us(12, 0, second) for second in range(20)]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = written(tmp_path / "mail.log", *LINES)
    assert len(times(Reading([path, path], zone=UTC))) == 20


def test_the_year_comes_from_the_age_of_the_file_and_goes_on_within_it(tmp_path: Path) -> None:
    path = written(
        tmp_path / "mail.log", CONNECT.format("Dec 31 23:59:59"), CONNECT.format("Jan  1 00:00:00"), year=2025
    )
    first, second = times(Reading([path], zone=UTC))
    assert datetime.fromtimestamp(first / 1e6, UTC).year == 2024
    assert second - first == 1_000_000
    first, second = times(Reading([path], zone=UTC, year=2019))
    assert datetime.fromtimestamp(first / 1e6, UTC).year == 2019


def test_a_journal_may_hold_everything(tmp_path: Path) -> None:
    path = written(
        tmp_path / "journal",
        "-- Journal begins at Tue 2026-11-24 --\n",
        "\n",
        LINES[0],
        "Nov 24 12:00:01 mx dovecot: imap-login: Login\n",
        "2026-11-24T12:00:02.000+00:00 mx postfix/qmgr[9]: 4F1A2B: removed\n",
        "2026-11-24 12:00:03 1tFAbC-000123-AB Completed\n",
        "Nov 24 12:00:04 mx reputon[7]: 2026-11-24T12:00:04.000 INFO reputon.maillog message result=x session=a\n",
    )
    records, reading = read(path)
    assert [type(record).__name__ for record in records] == ["Connected", "Removed", "Removed", "Finished"]
    assert [record[0] for record in records] == [us(12, 0, second) for second in (0, 2, 3, 4)]
    assert (reading.files[0].lines, reading.files[0].used, reading.files[0].unreadable) == (7, 4, 0)


def test_lines_that_cannot_be_read_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    bad = "\x1b[31m" + "Nonsense \udcff" + "x" * 200 + "\n"
    path = written(tmp_path / "mail.log", LINES[0], bad, bad, LINES[1], bad, bad)
    records, reading = read(path)
    file = reading.files[0]
    assert (len(records), file.unreadable, len(file.examples)) == (2, 4, 3)
    assert file.examples[1].startswith(f"{path}:3: \\x1b[31mNonsense \\udcffxxx")
    assert len(file.examples[0]) < len(str(path)) + 120


def test_what_is_printed_is_printable() -> None:
    assert printable("a\x1b]0;\u202eb\u00e9") == "a\\x1b]0;\\u202ebé"
    assert len(printable("x" * 1_000)) == 100


def test_a_line_without_end_takes_no_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "mail.log", LINES[0], "Nov 24 12:00:00 mx " + "x" * (5 * MAX_LINE_BYTES) + "\n", LINES[1])
    records, reading = read(path)
    assert (len(records), reading.files[0].unreadable, reading.files[0].lines) == (2, 1, 3)


def test_a_line_that_was_written_half_is_the_only_one_that_is_lost(tmp_path: Path) -> None:
    path = written(tmp_path / "mail.log", *LINES, LINES[0][:60])
    records, reading = read(path)
    assert (len(records), reading.files[0].unreadable) == (20, 1)


def test_nothing_readable_is_a_mistake_that_says_what_is_known(tmp_path: Path) -> None:
    path = written(tmp_path / "access.log", '127.0.0.1 - - [24/Nov/2026:12:00:00 +0000] "GET /"\n')
    with pytest.raises(ConfigError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: not one of 1 lines says anything of mail: known are Postfix")
    assert f"{path}:1: 127.0.0.1 - -" in text


def test_a_log_of_other_programs_is_one_too(tmp_path: Path) -> None:
    path = written(tmp_path / "syslog", *["Nov 24 12:00:01 mx dovecot: imap-login: Login\n"] * 3)
    with pytest.raises(ConfigError, match="not one of 3 lines says anything of mail"):
        read(path)


def test_nobody_waits_for_the_end_of_a_file_that_is_hopeless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_module, "HOPELESS_LINES", 10)
    path = written(tmp_path / "access.log", *["nonsense\n"] * 11)
    with pytest.raises(ConfigError, match="not one of 10 lines"):
        read(path)


def test_an_empty_file_is_none(tmp_path: Path) -> None:
    assert read(written(tmp_path / "mail.log"))[0] == []


def test_all_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        Reading([tmp_path / "a", tmp_path, tmp_path / "b"])
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'a'}: cannot be read: No such file or directory",
        f"{tmp_path}: cannot be read: Is a directory",
        f"{tmp_path / 'b'}: cannot be read: No such file or directory",
    ]


@pytest.mark.parametrize("spoil", [lambda it: it[:-10], lambda it: it[:60] + b"\0\0\0\0" + it[64:]])
def test_a_damaged_file_is_a_mistake(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "mail.log.gz"
    path.write_bytes(spoil(gzip.compress("".join(LINES).encode())))
    with pytest.raises(ConfigError, match=r"mail\.log\.gz: is damaged behind line"):
        read(path)


def test_standard_input_may_be_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Input:
        buffer = io.BufferedReader(
            io.BytesIO(gzip.compress(b"2026-11-24T12:00:00Z mx postfix/smtpd[8]: disconnect from a\n"))
        )

    monkeypatch.setattr(sys, "stdin", Input)
    reading = Reading([STDIN])
    assert list(reading.records()) == [Left(us(12), "mx 8")]
    assert (reading.total_bytes, reading.files[0].name) == (None, "standard input")


def test_it_is_told_how_far_it_is(tmp_path: Path) -> None:
    plain = written(tmp_path / "mail.log", *LINES * 500)
    packed = tmp_path / "mail.log.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    told: list[int] = []
    reading = Reading([plain, packed], zone=UTC, on_bytes=told.append)
    assert len(list(reading.records())) == 20_000
    assert sum(told) == reading.total_bytes == plain.stat().st_size + packed.stat().st_size
    assert len(told) > 4
