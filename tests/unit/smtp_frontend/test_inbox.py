"""Octets in, lines and messages out, however they are cut."""

import time
from mmap import ACCESS_READ, mmap
from pathlib import Path

import pytest

from smtp_frontend.inbox import MAX_LINE_LENGTH, BadLine, Inbox, Message


def inbox_of(octets: bytes) -> Inbox:
    inbox = Inbox()
    inbox.feed(octets)
    return inbox


def message_of(octets: bytes, max_bytes: int = 10_000) -> Message | None:
    inbox = Inbox()
    inbox.begin_message()
    inbox.feed(octets)
    return inbox.message(max_bytes)


def test_lines_come_in_order_without_their_ends() -> None:
    inbox = inbox_of(b"EHLO x\r\n\r\nNOOP\r\nQU")
    assert [inbox.line(), inbox.line(), inbox.line(), inbox.line()] == [b"EHLO x", b"", b"NOOP", None]
    inbox.feed(b"IT\r")
    assert inbox.line() is None
    inbox.feed(b"\n")
    assert inbox.line() == b"QUIT"
    assert len(inbox) == 0


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"NOOP\n", "Line ends in a bare LF, send CRLF"),
        (b"\n", "Line ends in a bare LF, send CRLF"),
        (b"NO\rOP\r\n", "CR or NUL inside a command"),
        (b"NOOP\r\r\n", "CR or NUL inside a command"),
        (b"NO\x00OP\r\n", "CR or NUL inside a command"),
        (b"x" * (MAX_LINE_LENGTH - 1) + b"\r\n", "Line too long"),
    ],
)
def test_a_line_that_is_none_is_told_once_and_the_next_one_is_read(line: bytes, text: str) -> None:
    inbox = inbox_of(line + b"NOOP\r\n")
    with pytest.raises(BadLine, match=text):
        inbox.line()
    assert inbox.line() == b"NOOP"


def test_a_line_may_be_as_long_as_the_limit_says() -> None:
    longest = b"x" * (MAX_LINE_LENGTH - 2)
    assert inbox_of(longest + b"\r\n").line() == longest


def test_a_line_without_end_takes_no_room_and_is_told_when_it_ends() -> None:
    inbox = Inbox()
    for _ in range(1_000):
        inbox.feed(b"x" * 10_000)
        assert inbox.line() is None
        assert len(inbox) <= MAX_LINE_LENGTH
    inbox.feed(b"\r\nNOOP\r\n")
    with pytest.raises(BadLine, match="Line too long"):
        inbox.line()
    assert inbox.line() == b"NOOP"


def test_clear_forgets_what_was_not_used() -> None:
    inbox = inbox_of(b"STARTTLS\r\nMAIL FROM:<a@b>\r\nRC")
    assert inbox.line() == b"STARTTLS"
    inbox.clear()
    inbox.feed(b"NOOP\r\n")
    assert inbox.line() == b"NOOP"
    assert inbox.line() is None


@pytest.mark.parametrize(
    ("octets", "content"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b".a\r\n...\r\n.\r\n", b"a\r\n..\r\n"),
        (b"a.\r\n .\r\n.\r\n", b"a.\r\n .\r\n"),
        (b"\x00\xff\r\n.\r\n", b"\x00\xff\r\n"),
    ],
)
def test_a_message_ends_at_its_dot_and_loses_the_other_first_dots(octets: bytes, content: bytes) -> None:
    assert message_of(octets) == Message(content=content, size=len(octets) - len(b".\r\n"))


def test_what_follows_a_message_is_a_command() -> None:
    inbox = Inbox()
    inbox.begin_message()
    inbox.feed(b"hello\r\n.\r\nNOOP\r\nDATA\r\nsecond\r\n.\r\nQUIT\r\n")
    assert inbox.message(100) == Message(content=b"hello\r\n", size=7)
    assert (inbox.line(), inbox.line()) == (b"NOOP", b"DATA")
    inbox.begin_message()
    assert inbox.message(100) == Message(content=b"second\r\n", size=8)
    assert inbox.line() == b"QUIT"


def test_a_message_that_came_with_its_command_is_read_too() -> None:
    inbox = inbox_of(b"DATA\r\nhello\r\n.\r\n")
    assert inbox.line() == b"DATA"
    inbox.begin_message()
    assert inbox.message(100) == Message(content=b"hello\r\n", size=7)


@pytest.mark.parametrize(
    "octets", [b"", b".", b".\r", b"\r\n", b"a\r\n.", b"a\r\n.\r", b"a.\r\n", b"a\n.\r\n", b"a\r.\r\n", b"..\r\n"]
)
def test_a_message_without_its_end_goes_on(octets: bytes) -> None:
    assert message_of(octets) is None


@pytest.mark.parametrize(
    "octets", [b"a\nb", b"a\rb", b"\na", b"\ra", b"a\r", b"a\n", b"\r\r\n", b"\n\r\n", b"a\r\r\nb"]
)
def test_a_bare_cr_or_lf_anywhere_is_seen(octets: bytes) -> None:
    message = message_of(octets + b"\r\n.\r\n")
    assert message is not None
    assert message.bare_newlines


@pytest.mark.parametrize(
    ("line", "hidden"),
    [
        (b"\x00.", True),
        (b".\x00", True),
        (b"\x00\x00.\x00", True),
        (b"\x00", False),
        (b"\x00..", False),
        (b"a\x00.", False),
        (b".a\x00", False),
    ],
)
def test_a_dot_hidden_among_nuls_is_seen(line: bytes, hidden: bool) -> None:
    for octets in (line + b"\r\n.\r\n", b"a\r\n" + line + b"\r\nb\r\n.\r\n"):
        message = message_of(octets)
        assert message is not None
        assert (message.hidden_end, message.bare_newlines) == (hidden, False)


@pytest.mark.parametrize(("size", "too_big"), [(99, False), (100, False), (101, True), (1_000, True)])
@pytest.mark.parametrize("step", [1, 3, 7, 2_000])
def test_a_message_above_the_limit_is_not_kept_and_its_end_is_found(size: int, too_big: bool, step: int) -> None:
    sent = b"x" * (size - 2) + b"\r\n.\r\nNOOP\r\n"
    inbox, message = Inbox(), None
    inbox.begin_message()
    for start in range(0, len(sent), step):
        inbox.feed(sent[start : start + step])
        message = message or inbox.message(100)
        assert len(inbox) <= 100 + step + len(b"\r\n.\r\n")
    assert message is not None
    assert (message.size, message.too_big) == (size, too_big)
    assert message.content == (b"" if too_big else sent[:size])
    assert inbox.line() == b"NOOP"


def test_a_message_that_is_too_big_may_end_in_the_first_octet_of_a_packet() -> None:
    inbox = Inbox()
    inbox.begin_message()
    for part in (b"x" * 200, b"\r", b"\n", b".", b"\r", b"\n"):
        inbox.feed(part)
        message = inbox.message(100)
    assert message == Message(content=b"", size=202, too_big=True)


def test_what_was_taken_stands_before_what_is_given_at_the_end() -> None:
    inbox = Inbox()
    inbox.begin_message()
    inbox.feed(b"..one\r\n")
    assert inbox.message(100) is None
    assert (inbox.collected, inbox.take(), inbox.collected) == (4, b".one", 0)
    inbox.feed(b"two\r\n..\r\n")
    assert inbox.message(100) is None
    assert inbox.take() == b"\r\ntwo\r\n."
    inbox.feed(b".\r\nQUIT\r\n")
    assert inbox.message(100) == Message(content=b"\r\n", size=16)
    assert inbox.line() == b"QUIT"


def test_what_is_given_up_takes_no_room_and_its_end_is_found() -> None:
    inbox = Inbox()
    inbox.begin_message()
    for _ in range(10):
        inbox.feed(b"x" * 1_000 + b"\r\n")
        assert inbox.message(100_000) is None
    assert len(inbox) == 10_020
    inbox.give_up()
    for _ in range(10):
        inbox.feed(b"x\nx" * 1_000 + b"\r\n")
        assert inbox.message(100_000) is None
        assert len(inbox) < 5
    inbox.feed(b".\r\nQUIT\r\n")
    assert inbox.message(100_000) == Message(content=b"", size=40_040, bare_newlines=True, unspooled=True)
    assert inbox.line() == b"QUIT"


def test_the_next_message_knows_nothing_of_the_one_before() -> None:
    inbox = Inbox()
    for text in (b"a\nb\r\n", b"\x00.\r\n", b"x" * 200 + b"\r\n"):
        inbox.begin_message()
        inbox.feed(text + b".\r\n")
        message = inbox.message(100)
        assert message is not None
        assert message.bare_newlines or message.hidden_end or message.too_big
        inbox.begin_message()
        inbox.feed(b"x\r\n")
        inbox.give_up()
        inbox.feed(b".\r\n")
        assert inbox.message(100) == Message(content=b"", size=3, unspooled=True)
        inbox.begin_message()
        inbox.feed(b"good\r\n.\r\n")
        assert inbox.message(100) == Message(content=b"good\r\n", size=6)


@pytest.mark.parametrize("step", [1, 2, 3, 5])
@pytest.mark.parametrize("nuls", [1, 2, 20])
def test_a_dot_hidden_among_nuls_is_seen_in_whatever_pieces_it_comes(nuls: int, step: int) -> None:
    hidden = b"\x00" * nuls + b"." + b"\x00" * nuls
    for line, is_hidden in ((hidden, True), (hidden + b".", False), (hidden + b"a", False)):
        octets = b"a\r\n" + line + b"\r\nb\r\n.\r\n"
        inbox, message = Inbox(), None
        inbox.begin_message()
        for start in range(0, len(octets), step):
            inbox.feed(octets[start : start + step])
            message = inbox.message(1_000)
        assert message is not None
        assert (message.hidden_end, message.bare_newlines) == (is_hidden, False)


def test_what_was_seen_in_one_piece_is_not_forgotten_in_the_next() -> None:
    inbox = Inbox()
    inbox.begin_message()
    for piece in (b"\x00.\r\na\nb\r\n", b"a\x00\r\n\x00", b"a\r\n"):
        inbox.feed(piece)
        assert inbox.message(1_000) is None
    inbox.feed(b".\r\n")
    message = inbox.message(1_000)
    assert message is not None
    assert (message.hidden_end, message.bare_newlines) == (True, True)


@pytest.mark.parametrize(
    "block", [b"x", b"\r\n", b".", b"\r\n.", b"\0", b"\r\n\0", b"\r\n\0.\0", b"\r\n.\0a", b"\r", b"\n"], ids=repr
)
def test_no_octets_make_a_message_slow(block: bytes) -> None:
    """Twice as many cost twice as much: 4 MB of anything is a matter of some tens of milliseconds."""
    piece = block * (65_536 // len(block))
    inbox = Inbox()
    begun = time.process_time()
    inbox.begin_message()
    for _ in range(64):
        inbox.feed(piece)
        inbox.message(2**30)
    inbox.feed(b"\r\n.\r\n")
    assert inbox.message(2**30) is not None
    assert time.process_time() - begun < 2.0


def test_a_message_in_a_file_is_closed_when_nobody_looks_into_it(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"hello\r\n")
    with (tmp_path / "spool").open("rb") as file:
        content = mmap(file.fileno(), 0, access=ACCESS_READ)
    message = Message(content=content, size=7)
    part = memoryview(content)[:5]
    message.close()
    assert bytes(part) == b"hello"  # who still looks into it may
    part.release()
    message.close()
    assert content.closed
    message.close()
    Message(content=b"hello\r\n", size=7).close()
