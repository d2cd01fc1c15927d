"""What a report consists of, and that nothing that a stranger writes into one takes long."""

import time
from contextlib import suppress

import pytest

from reputation.desk.feedback_reports import MAX_REPORT_OCTETS, report_in
from reputation.desk.report_parts import MAX_FIELD_OCTETS, MAX_FIELDS, MAX_PARTS, Header, part_of, parts_in
from reputation.errors import ConfigError

HEAD = b"Content-Type: multipart/report; boundary=x\r\n\r\n"
ROOM = MAX_REPORT_OCTETS - 1_000


def report(more: bytes = b"", author: bytes = b"a@b.example", subject: bytes = b"s", inner: bytes = b"") -> bytes:
    return (
        HEAD + b"--x\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: abuse\r\nSource-IP: 192.0.2.9\r\n"
        b"%b\r\n--x\r\nContent-Type: message/rfc822\r\n\r\nFrom: %b\r\nSubject: %b\r\n%b\r\nhi\r\n--x--\r\n"
    ) % (more, author, subject, inner)


RESULTS = b"Authentication-Results: mx; "
HOSTILE = {
    "parameters without an end": b'Content-Type: multipart/report; a="' + b";" * ROOM,
    "parameters": b"Content-Type: multipart/report" + b";a=b" * (ROOM // 4),
    "parameters of the original": report(inner=b'Content-Type: multipart/mixed; a="' + b";" * ROOM + b"\r\n"),
    "nested boundaries": b"".join(
        b"Content-Type: multipart/report; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(900)
    )
    + b"--\r\n" * (ROOM // 6),
    "almost delimiters": HEAD + b"--xy\n" * (ROOM // 5),
    "delimiters": HEAD + b"--x\n" * (ROOM // 4),
    "a padded delimiter": HEAD + b"--x" + b" " * ROOM + b"y",
    "fields": b"A:b\r\n" * (ROOM // 5),
    "folds": b"Content-Type:" + b"\r\n a" * (ROOM // 4),
    "line ends": b"\r\n" * (ROOM // 2),
    "comments": report(RESULTS + b"(" * ROOM + b"\r\n"),
    "many results": report((RESULTS + b"=" * 3_900 + b"\r\n") * (ROOM // 3_940)),
    "many passes": report((RESULTS + b";spf=pass smtp.mailfrom=x.y" * 140 + b"\r\n") * 250),
    "words without an end": report(subject=b"=?" * (ROOM // 2)),
    "words of utf-8": report(subject=b"=?utf-8?q?" * (ROOM // 10)),
    "an author of brackets": report(author=b'(<,"' * (ROOM // 4)),
    "an author of signs": report(author=b"@" * MAX_FIELD_OCTETS),
}


@pytest.mark.parametrize("shape", HOSTILE)
def test_no_shape_takes_long(shape: str) -> None:
    assert len(HOSTILE[shape]) <= MAX_REPORT_OCTETS
    begun = time.process_time()
    with suppress(ConfigError):
        report_in(HOSTILE[shape])
    assert time.process_time() - begun < 1


def test_a_report_has_a_limit() -> None:
    assert report_in(report().ljust(MAX_REPORT_OCTETS, b"\n")).client == "192.0.2.9"
    with pytest.raises(ConfigError, match="octets"):
        report_in(report().ljust(MAX_REPORT_OCTETS + 1, b"\n"))


@pytest.mark.parametrize("value", [b"x", b'"x"', b'"\\x"', b"(of (it)) x", b'x; y="b;c"', b'"x" ; boundary=y'])
def test_boundaries_are_read_by_their_grammar(value: bytes) -> None:
    message = part_of(
        b'Content-Type: Multipart/Report; a="; boundary=z"; Boundary=%b\r\n\r\n--x\r\n\r\n1\r\n--x--' % value
    )
    assert [part.body for part in parts_in(message)] == [b"1"]


def test_only_whole_delimiters_separate_and_nothing_is_nested() -> None:
    body = b"before\n--x\n\none\n--xy\n--x-\n --x\n--x  \n\ntwo\n--x--\n--x\n\nbehind"
    assert [part.body for part in parts_in(part_of(HEAD + body))] == [b"one\n--xy\n--x-\n --x", b"two"]
    inner = b"--x\nContent-Type: multipart/report; boundary=y\n\n--y\n\nin it\n--y--\n--x--"
    assert [part.media_type for part in parts_in(part_of(HEAD + inner))] == ["multipart/report"]


def test_there_are_so_many_parts_and_no_more() -> None:
    assert len(parts_in(part_of(HEAD + b"--x\n\n" * MAX_PARTS + b"--x--"))) == MAX_PARTS
    with pytest.raises(ConfigError, match="parts"):
        parts_in(part_of(HEAD + b"--x\n\n" * (MAX_PARTS + 1) + b"--x--"))


def test_fields_are_unfolded_and_bounded() -> None:
    header = Header(
        b"A: one\n two\nB: " + b"x" * (MAX_FIELD_OCTETS + 1) + b"\na: three\nno field\n" + b"C:\n" * MAX_FIELDS
    )
    assert (header.first("a"), header.whole("A", 9)) == ("one two", ["one two", "three"])
    assert len(header.first("B")) == MAX_FIELD_OCTETS - 1
    assert header.whole("B") == []
    assert Header(b"x:\n" * MAX_FIELDS + b"D: late").first("D") == ""


def test_what_was_cut_proves_nothing() -> None:
    before, told = b" mx; dkim=pass (", b") header.d=b.example"
    field = before.ljust(MAX_FIELD_OCTETS - len(told), b"x") + told
    assert report_in(report(b"Authentication-Results:" + field + b"\r\n")).author_proven
    assert not report_in(report(b"Authentication-Results:" + field + b".evil.example\r\n")).author_proven


@pytest.mark.parametrize(
    ("author", "expected"),
    [
        (b'"b, c" <a@b.example>', "a@b.example"),
        (b"a@b.example (of (it))", "a@b.example"),
        (b"a@b.example, c@d.example", "a@b.example"),
        (b'"x y"@b.example', '"x y"@b.example'),
        (b'"<x@y.example>" <a@b.example>', "a@b.example"),
        (b'lone " <a@b.example>', "a@b.example"),
        (b"<@c.example:a@b.example>", "a@b.example"),
        (b"=?utf-8?q?x=40y.example?= <a@b.example>", "a@b.example"),
        (b"nobody", ""),
        (b"some body@b.example", ""),
    ],
)
def test_the_author_is_who_stands_in_the_field(author: bytes, expected: str) -> None:
    assert report_in(report(author=author)).author == expected
