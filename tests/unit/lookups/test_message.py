"""A message as those who verify it see it: its fields, its authors, and hashes of its body, held against dkimpy's."""

import asyncio
import hashlib
import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from dkim.canonicalization import Relaxed, Simple  # type: ignore[import-untyped]  # it ships no types
from hypothesis import given, settings
from hypothesis import strategies as st

from reputation.lookups import message as module
from reputation.lookups.message import (
    INLINE_OCTETS,
    MAX_FIELDS,
    MAX_HEADER_OCTETS,
    Digest,
    Field,
    Message,
    Way,
    digest_of,
)

SIMPLE, RELAXED = Way(is_relaxed=False), Way(is_relaxed=True)


@pytest.fixture(scope="module")
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def pieces_of(body: bytes, size: int) -> Iterator[bytes]:
    return (body[at : at + size] for at in range(0, len(body), size))


def sha256(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


# The header


def test_fields_are_as_they_came(executor: ThreadPoolExecutor) -> None:
    message = Message(b"Subject : a\r\n\tb \r\nFROM:x@y.example\r\n\r\nFrom: body", executor)
    assert message.is_readable
    assert message.fields == (Field(b"Subject ", b" a\r\n\tb \r\n"), Field(b"FROM", b"x@y.example\r\n"))
    assert message.named(b"subject") == [message.fields[0]]
    assert message.authors() == (["x@y.example"], 1)


@pytest.mark.parametrize(
    "content",
    [
        b" folded: nothing\r\n\r\n",
        b"From: a@b.example\r\nno field\r\n\r\n",
        b"From: a@b.example\nSubject: bare\r\n\r\n",
        b"From: a@b.example\rSubject: bare\r\n\r\n",
        b"B\xe4d: name\r\n\r\n",
        b": no name\r\n\r\n",
        b"X: " + b"x" * MAX_HEADER_OCTETS + b"\r\n\r\nbody",
        b"X: x\r\n" * (MAX_FIELDS + 1) + b"\r\n",
    ],
    ids=["folded", "no field", "bare LF", "bare CR", "octets", "nameless", "large", "many"],
)
def test_a_header_that_readers_would_not_agree_about_is_not_read(content: bytes, executor: ThreadPoolExecutor) -> None:
    message = Message(content, executor)
    assert not message.is_readable
    assert message.fields == ()


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"", 0),
        (b"\r\n", 0),
        (b"\r\nFrom: body@example.org", 0),
        (b"From: a@b.example", 1),
        (b"From: a@b.example\r\n", 1),
        (b"From: a@b.example\r\n\r\n", 1),
        (b"X: x\r\n" * MAX_FIELDS + b"\r\n", MAX_FIELDS),
        (b"X: " + b"x" * (MAX_HEADER_OCTETS - 5) + b"\r\n\r\nbody", 1),
    ],
    ids=["nothing", "no header", "only a body", "no end", "no body", "empty body", "just as many", "just as large"],
)
def test_a_header_that_ends_anywhere(content: bytes, fields: int, executor: ThreadPoolExecutor) -> None:
    message = Message(content, executor)
    assert len(message.fields) == fields
    assert message.is_readable


def test_an_author_cannot_hide_behind_a_broken_header(executor: ThreadPoolExecutor) -> None:
    content = b"no field\r\nFrom: Bank\r\n <office@bank.example>\r\nFrom: a@b.example\r\n\r\nFrom: body@c.example\r\n"
    assert Message(content, executor).authors() == (["office@bank.example", "a@b.example"], 2)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        (b"Alice <alice@example.org>", ["alice@example.org"]),
        (b'"office@bank.example" <a@evil.example>', ["a@evil.example"]),
        (b"office@bank.example <a@evil.example>", ["office@bank.example", "a@evil.example"]),
        (b"=?utf-8?q?office=40bank.example?= <a@evil.example>", ["a@evil.example"]),
        (b"Smith, John <john@example.org>", ["john@example.org"]),
        (b"a@one.example, b@two.example", ["a@one.example", "b@two.example"]),
        (b"nobody:;", []),
        (b"nobody", []),
        (b"(" * 4_000, []),
        (b"\xff@\xff.example", ["\udcff@\udcff.example"]),
    ],
)
def test_authors(text: bytes, addresses: list[str], executor: ThreadPoolExecutor) -> None:
    assert Message(b"From: " + text + b"\r\n\r\n", executor).authors() == (addresses, 1)


# The body


@pytest.mark.parametrize(
    ("body", "simple", "relaxed"),
    [
        (b"", b"\r\n", b""),
        (b"\r\n\r\n", b"\r\n", b""),
        (b" \t\r\n\r\n", b" \t\r\n", b""),
        (b"a", b"a\r\n", b"a\r\n"),
        (b"a\r\n\r\n\r\n", b"a\r\n", b"a\r\n"),
        (b" a \t b \r\n\tc\t\r\n", b" a \t b \r\n\tc\t\r\n", b" a b\r\n c\r\n"),
        (b"a\r\n \r\nb\r\n", b"a\r\n \r\nb\r\n", b"a\r\n\r\nb\r\n"),
        (b"a\r\r\n\r\n", b"a\r\r\n", b"a\r\r\n"),
        (b"a\n\n\r\n", b"a\n\n\r\n", b"a\n\n\r\n"),
        (b"a\r", b"a\r\r\n", b"a\r\r\n"),
        (b"a ", b"a \r\n", b"a\r\n"),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3, 1_000])
def test_a_body_is_canonicalised(body: bytes, simple: bytes, relaxed: bytes, size: int) -> None:
    assert digest_of(pieces_of(body, size), SIMPLE) == Digest(sha256(simple), len(simple))
    assert digest_of(pieces_of(body, size), RELAXED) == Digest(sha256(relaxed), len(relaxed))


@given(st.text(" \t\r\na=").map(str.encode), st.integers(1, 9), st.none() | st.integers(0, 30))
@settings(max_examples=500, deadline=None)
def test_it_is_as_dkimpy_has_it_however_it_is_cut(text: bytes, size: int, length: int | None) -> None:
    body = text + b"\r\n"
    for way, canonical in ((SIMPLE, Simple.canonicalize_body(body)), (RELAXED, Relaxed.canonicalize_body(body))):
        found = digest_of(pieces_of(body, size), way._replace(length=length))
        assert found == Digest(sha256(canonical[:length]), len(canonical))


def test_a_million_empty_lines_are_held_back_in_small_pieces() -> None:
    body = b"\r\n" * 1_000_000
    expected = Digest(sha256(body + b"a\r\n"), len(body) + 3)
    assert digest_of(pieces_of(body + b"a", 65_536), SIMPLE) == expected
    assert digest_of(pieces_of(body, 65_536), RELAXED).length == 0


async def test_a_large_body_is_hashed_in_a_thread_once_for_all(
    executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(pieces: Iterator[bytes], way: Way) -> Digest:
        calls.append(way)
        return digest_of(pieces, way)

    monkeypatch.setattr(module, "digest_of", counted)
    body = b"x" * 998 + b"\r\n"
    message = Message(b"From: a@b.example\r\n\r\n" + body * 1_000, executor)
    digests = await asyncio.gather(*(message.digest(way) for way in (SIMPLE, RELAXED) * 3))
    assert {digest.octets for digest in digests} == {sha256(body * 1_000)}
    assert sorted(calls) == [SIMPLE, RELAXED]


async def test_a_file_in_memory_is_read_like_octets(executor: ThreadPoolExecutor) -> None:
    content = b"From: a@b.example\r\n\r\n" + b"line\r\n" * INLINE_OCTETS
    with mmap.mmap(-1, len(content)) as file:
        file.write(content)
        mapped, plain = Message(file, executor), Message(content, executor)
        assert mapped.fields == plain.fields
        assert await mapped.digest(RELAXED) == await plain.digest(RELAXED)


async def test_who_is_given_up_stops(executor: ThreadPoolExecutor) -> None:
    message = Message(b"From: a@b.example\r\n\r\n" + b"x" * 2 * INLINE_OCTETS, executor)
    message.give_up()
    with pytest.raises(ValueError, match="nobody waits"):
        await message.digest(SIMPLE)


async def test_content_that_is_closed_meanwhile_is_no_crash(executor: ThreadPoolExecutor) -> None:
    with mmap.mmap(-1, 4 * INLINE_OCTETS) as file:
        file.write(b"From: a@b.example\r\n\r\n")
        message = Message(file, executor)
    with pytest.raises(ValueError, match="closed"):
        await message.digest(SIMPLE)
