"""`smtp_frontend.next_hop.content`: whatever the cut, the message arrives as it was and ends once."""

import tracemalloc
from collections.abc import Callable, Iterator
from mmap import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtp_frontend.next_hop import Part
from smtp_frontend.next_hop.content import (
    BLOCK_OCTETS,
    MAX_PATH_OCTETS,
    BareLineEnding,
    is_path,
    stuffed,
    whole_lines,
)
from smtp_frontend.rehearsal.next_hop import unstuffed

LINES = st.lists(
    st.sampled_from([b"", b".", b"..", b"...", b".a", b"a.", b"text", b"\x00\xff"]) | st.binary(max_size=8)
)
CLEAN = LINES.map(lambda lines: b"\r\n".join(line.replace(b"\r", b"").replace(b"\n", b"") for line in lines))


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    """`content` in parts of `sizes`, empty ones included, and the rest."""
    parts, start = [], 0
    for size in sizes:
        parts.append(content[start : start + size])
        start += size
    return [*parts, content[start:]]


def with_last_crlf(content: bytes) -> bytes:
    return content if not content or content.endswith(b"\r\n") else content + b"\r\n"


@given(CLEAN, st.lists(st.integers(0, 5)), st.integers(1, 40))
def test_what_is_sent_is_what_was_given(content: bytes, sizes: list[int], block_octets: int) -> None:
    sent = b"".join(stuffed(cut(content, sizes), block_octets))
    assert unstuffed(sent) == with_last_crlf(content)
    assert (b"\r\n" + sent).count(b"\r\n.\r\n") == 1


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a"])), st.lists(st.integers(0, 3)), st.integers(1, 9))
def test_no_bare_line_ending_gets_through(pieces: list[bytes], sizes: list[int], block_octets: int) -> None:
    content = b"".join(pieces)
    sent: list[bytes] = []
    without_pairs = content.replace(b"\r\n", b"")
    try:
        sent.extend(stuffed(cut(content, sizes), block_octets))
    except BareLineEnding:
        assert b"\r" in without_pairs or b"\n" in without_pairs
        assert not (b"\r\n" + b"".join(sent)).endswith(b"\r\n.\r\n")
    else:
        assert b"\r" not in without_pairs
        assert b"\n" not in without_pairs


@given(CLEAN, st.lists(st.integers(0, 5)), st.integers(1, 40))
def test_blocks_hold_whole_line_ends(content: bytes, sizes: list[int], block_octets: int) -> None:
    blocks = list(whole_lines(cut(content, sizes), block_octets))
    assert b"".join(blocks) == with_last_crlf(content)
    assert not any(block.endswith(b"\r") or block.startswith(b"\n") for block in blocks)
    assert all(0 < len(block) <= 2 * block_octets + 1 for block in blocks)


@given(CLEAN, st.lists(st.integers(0, 5)), st.integers(1, 9))
def test_a_view_is_as_good_as_octets(content: bytes, sizes: list[int], block_octets: int) -> None:
    octets = cut(content, sizes)
    views = [memoryview(part) for part in octets]
    assert list(stuffed(views, block_octets)) == list(stuffed(octets, block_octets))


@pytest.mark.parametrize("handled", [stuffed, whole_lines])
def test_a_file_in_memory_is_copied_block_by_block(handled: Callable[[list[Part]], Iterator[bytes]]) -> None:
    line = b"." + b"x" * 61 + b"\r\n"
    with mmap(-1, 2**24) as file:
        file.write(line * (2**24 // len(line)))
        tracemalloc.start()
        try:
            with memoryview(file) as whole, whole[10 * len(line) :] as rest:
                octets = sum(map(len, handled([b"Subject: hello\r\n", rest])))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert octets >= 2**24 - 10 * len(line)
    assert peak < 10 * BLOCK_OCTETS


def test_a_large_part_is_cut() -> None:
    blocks = list(stuffed([b"x" * 78 + b"\r\n"] * 3 + [b"." * 1_000_000]))
    assert max(map(len, blocks)) <= 2 * 65_536 + 1
    assert len(blocks) < 20


@pytest.mark.parametrize(
    "address",
    [
        "",
        "a@example.com",
        "a+b=c@example.com",
        '"a b"@example.com',
        '"a>\\"b"@example.com',
        "jörg@example.com",
        "a@[::1]",
    ],
)
def test_addresses_that_can_stand_in_a_command(address: str) -> None:
    assert is_path(address)


@pytest.mark.parametrize(
    "address",
    [
        "a b@example.com",
        "a@example.com> SIZE=1",
        "<a@example.com",
        "a@example.com\r\nRSET",
        "a@example.com\n",
        "a\x00@example.com",
        "a\x85@example.com",
        "a\udcff@example.com",
        '"a@example.com',
        '"a\r\n"@example.com',
        "a" * (MAX_PATH_OCTETS + 1),
        "ö" * MAX_PATH_OCTETS,
    ],
)
def test_addresses_that_would_be_more_than_an_address(address: str) -> None:
    assert not is_path(address)
