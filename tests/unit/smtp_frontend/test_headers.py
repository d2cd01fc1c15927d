"""Header fields: cut off, read, added, taken out."""

import re
from datetime import UTC, datetime
from ipaddress import ip_address
from mmap import mmap

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reputation.conditions import Condition
from reputation.events import Data, Session, Stage
from reputation.keys import Entity, Metric, entities_of
from reputation.spelling import Spelling
from reputation.verdict import Action, Finding, Reason, Verdict
from reputation.vocabulary import Moment
from reputation.windows import Limit, Reading, Window
from smtp_frontend import headers
from smtp_frontend.headers import (
    MAX_FIELDS,
    MAX_FIELDS_BYTES,
    MAX_HOPS,
    MAX_NAME_LENGTH,
    MAX_TEXT_LENGTH,
    Split,
    ascii_only,
    received,
    split,
    verdict_field,
)

AT = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
MAX_LINE = 998
"""RFC 5322 section 2.1.1, without the CRLF."""


def session(client: str = "192.0.2.1", helo: str = "client.example.com") -> Session:
    return Session(id="s", client=ip_address(client), helo=helo)


@pytest.mark.parametrize(
    ("content", "fields", "rest"),
    [
        (b"A: 1\r\nB: 2\r\n\r\nbody\r\n", b"A: 1\r\nB: 2\r\n", b"\r\nbody\r\n"),
        (b"A: 1\r\n\r\n", b"A: 1\r\n", b"\r\n"),
        (b"A: 1\r\n", b"A: 1\r\n", b""),
        (b"\r\nbody\r\n\r\nmore\r\n", b"", b"\r\nbody\r\n\r\nmore\r\n"),
        (b"", b"", b""),
        (b"A: 1\r\n\tfolded\r\n\r\n\r\nbody\r\n", b"A: 1\r\n\tfolded\r\n", b"\r\n\r\nbody\r\n"),
    ],
)
def test_a_message_is_fields_and_the_rest(content: bytes, fields: bytes, rest: bytes) -> None:
    assert split(content) == Split(fields=fields, rest=rest)
    assert split(content).fields + split(content).rest == content


@pytest.mark.parametrize(
    ("size", "fields"),
    [(MAX_FIELDS_BYTES, MAX_FIELDS_BYTES), (MAX_FIELDS_BYTES + 1, MAX_FIELDS_BYTES + 1), (2**22, MAX_FIELDS_BYTES + 1)],
)
@pytest.mark.parametrize("end", [b"", b"\r\nbody\r\n"])
def test_of_a_header_that_is_too_large_is_read_what_shows_it(size: int, fields: int, end: bytes) -> None:
    content = b"A: " + b"x" * (size - 5) + b"\r\n" + end
    parts = split(content)
    assert len(parts.fields) == fields
    assert parts.fields + parts.rest == content


def test_a_header_is_read_out_of_a_file_in_memory_and_the_body_stays_there() -> None:
    content = b"Subject: hello\r\n\r\n" + b"body\r\n" * 10_000
    with mmap(-1, len(content)) as file:
        file.write(content)
        parts = split(file)
        assert (parts.fields, parts.rest) == (content[:16], content[16:])
        assert isinstance(parts.rest, memoryview)
        assert parts.rest.obj is file
        parts.rest.release()


def test_a_body_is_not_copied() -> None:
    content = b"Subject: hello\r\n\r\nbody\r\n"
    rest = split(content).rest
    assert isinstance(rest, memoryview)
    assert rest.obj is content


@pytest.mark.parametrize("first", [b" x", b"\tx", b" ", b" X-Reputon: accept"])
def test_a_first_line_that_would_continue_our_field_is_body(first: bytes) -> None:
    content = first + b"\r\nSubject: hello\r\n\r\nbody\r\n"
    assert split(content) == Split(fields=b"\r\n", rest=content)
    assert len(split(content).texts()) == 0


@pytest.mark.parametrize(
    ("fields", "subject"),
    [
        (b"Subject: hello\r\n", "hello"),
        (b"sUBJECT:hello\r\n", "hello"),
        (b"Subject : hello\r\n", "hello"),
        (b"Subject: a\r\n b\r\n\tc\r\nTo: x\r\n", "a b c"),
        (b"X-Subject: no\r\nSubject: yes\r\nSubject: second\r\n", "yes"),
        (b"To: x\r\n Subject: folded\r\n", ""),
        (b"Subject:\r\n", ""),
        (b"", ""),
        ("Subject: Grüße\r\n".encode(), "Grüße"),
        (b"Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n", "Grüße"),
        (b"Subject: =?iso-8859-1?q?Gr=FC=DFe?= und mehr\r\n", "Grüße und mehr"),
        (b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n =?utf-8?q?_x?=\r\n", "Grüße x"),
        # As it stands, where it cannot be decoded.
        (b"Subject: =?utf-8?b?a?=\r\n", "=?utf-8?b?a?="),
        (b"Subject: =?nonsense?q?x?=\r\n", "=?nonsense?q?x?="),
        (b"Subject: =?utf-8?q?=FF?=\r\n", "=?utf-8?q?=FF?="),
        (b"Subject: =?\xff?q?x?=\r\n", "=?\udcff?q?x?="),
    ],
)
def test_the_subject_is_the_first_one_decoded(fields: bytes, subject: str) -> None:
    assert split(fields + b"\r\nSubject: in the body\r\n").texts().get("subject", "") == subject


def test_a_text_is_bounded() -> None:
    texts = split(b"Subject: " + b"x" * 10_000 + b"\r\nTo: " + b"=?utf-8?q?y?= " * 1_000 + b"\r\n").texts()
    assert len(texts["subject"]) == MAX_TEXT_LENGTH
    assert len(texts["to"]) <= MAX_TEXT_LENGTH


def texts_of(fields: bytes) -> dict[str, str]:
    return dict(Split(fields=fields, rest=b"").texts())


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        (b"From: a\r\nTO: b\r\nList-Id : <c>\r\n", {"from": "a", "to": "b", "list-id": "<c>"}),
        (b"To: first\r\nto: second\r\n", {"to": "first"}),
        (b"A:\r\n\tb\r\n\r\n", {"a": "b"}),
        (b"A: =?utf-8?q?=C3=A4?=\r\nB: \xe4\r\n", {"a": "ä", "b": "\udce4"}),
        (b"A: b: c\r\n", {"a": "b: c"}),
        # Not a field, and no end of the fields either.
        (b"no field\r\nA: 1\r\n", {"a": "1"}),
        (b": nameless\r\nA: 1\r\n", {"a": "1"}),
        (b"sp ace: x\r\n" + "ä: x\r\n".encode() + b"A: 1\r\n", {"a": "1"}),
        # A name begins behind CRLF and nowhere else.
        (b"A: 1\r\n B: folded\r\n", {"a": "1 B: folded"}),
        (b"A: 1\nB: 2\rC: 3\r\n", {"a": "1 B: 2 C: 3"}),
        (b"A\r: 1\r\nB\0: 2\r\n\nC: 3\r\n", {}),
        (b"x" * MAX_NAME_LENGTH + b": 1\r\n" + b"y" * (MAX_NAME_LENGTH + 1) + b": 2\r\n", {"x" * MAX_NAME_LENGTH: "1"}),
        (b"", {}),
    ],
)
def test_the_fields_of_a_header(fields: bytes, texts: dict[str, str]) -> None:
    assert texts_of(fields) == texts


def test_of_very_many_fields_the_subject_is_found_and_no_other() -> None:
    many = b"X: y\r\n" * MAX_FIELDS
    assert texts_of(many + b"Subject: late\r\nTo: late\r\n") == {"x": "y", "subject": "late"}
    assert texts_of(many[6:] + b"To: in time\r\nFrom: late\r\n") == {"x": "y", "to": "in time"}


def test_a_text_is_the_same_however_often_it_is_asked_for() -> None:
    texts = Split(fields=b"A: =?utf-8?q?b?=\r\n", rest=b"").texts()
    assert (texts["a"], texts["a"], len(texts), "a" in texts, "b" in texts) == ("b", "b", 1, True, False)
    assert texts == {"a": "b"}
    with pytest.raises(KeyError):
        texts["b"]


WORDS = [
    b"=?",
    b"?=",
    b"utf-8",
    b"punycode",
    b"idna",
    b"?q?",
    b"?b?",
    b"==",
    b"=FF",
    b"\xff",
    b":",
    b" ",
    b"A",
    b"\r\n",
]


@given(st.lists(st.sampled_from(WORDS) | st.binary(max_size=4), max_size=30).map(b"".join))
@example(b"A: =?idna?q?xn--?=\r\n")
@example(b"A: =?utf-16?b?AA==?=\r\n")
@example(b"A: =?rot13?q?a?=\r\n")
@example(b"A: =?\0?q?a?=\r\n")
def test_no_header_is_too_strange_to_be_read(fields: bytes) -> None:
    assert all(len(text) <= MAX_TEXT_LENGTH for text in texts_of(b"A: " + fields).values())


def test_hops_are_the_received_fields_of_the_header() -> None:
    content = b"Received: a\r\nreceived : b\r\n folded Received: no\r\nX-Received: no\r\n\r\nReceived: no\r\n"
    assert split(content).hops == 2


@pytest.mark.parametrize(
    "forged",
    [
        b"X-Reputon: accept\r\n",
        b"x-rEPUTON: accept\r\n",
        b"X-Reputon : accept\r\n",
        b"X-Reputon:\r\n",
        b"X-Reputon: a\r\n\tb\r\n c\r\n",
        b"X-Reputon-Class: vip\r\n",
        b"X-Reputon: a\r\nX-Reputon: b\r\n",
    ],
)
def test_fields_that_only_we_may_set_are_taken_out(forged: bytes) -> None:
    for fields in (forged + b"A: 1\r\nB: 2\r\n", b"A: 1\r\n" + forged + b"B: 2\r\n", b"A: 1\r\nB: 2\r\n" + forged):
        assert split(fields + b"\r\nbody\r\n").without_verdict() == b"A: 1\r\nB: 2\r\n"


@pytest.mark.parametrize("field", [b"X-Reputation: 1\r\n", b"Y-X-Reputon: 1\r\n", b"A: 1\r\n X-Reputon: folded\r\n"])
def test_others_stay(field: bytes) -> None:
    assert split(field + b"\r\n").without_verdict() == field


def test_the_trace_field() -> None:
    field = received(
        session(), hostname="mx.example.net", protocol="ESMTP", id="s.1", recipient="bob@example.net", at=AT
    )
    assert field == (
        b"Received: from client.example.com ([192.0.2.1])\r\n"
        b"\tby mx.example.net (reputon) with ESMTP id s.1\r\n"
        b"\tfor <bob@example.net>;\r\n"
        b"\tWed, 02 Jan 2030 03:04:05 +0000\r\n"
    )


def test_the_trace_field_of_an_ipv6_client_and_several_recipients() -> None:
    field = received(session("2001:db8::1", helo=""), hostname="mx", protocol="SMTP", id="s.1", recipient="", at=AT)
    assert b"from unknown ([IPv6:2001:db8::1])\r\n" in field
    assert b"for" not in field.replace(b"from", b"")


FIELD = re.compile(rb"[A-Za-z-]+: [\x21-\x7e][\x20-\x7e]*\r\n(?:\t[\x20-\x7e]*[\x21-\x7e][\x20-\x7e]*\r\n)*")


@pytest.mark.parametrize("recipient", ["ä" * 250 + "@example.com", "😀" * 120 + "@example.com", '"a\tb"@example.com'])
def test_the_trace_field_is_one_field_of_short_ascii_lines_whatever_the_recipient(recipient: str) -> None:
    field = received(session(), hostname="mx", protocol="UTF8SMTP", id="s.1", recipient=recipient, at=AT)
    assert FIELD.fullmatch(field)
    assert max(map(len, field.split(b"\r\n"))) <= MAX_LINE


def verdict(entity: Entity) -> Verdict:
    reading = Reading(window=Window(60), count=30, limit=Limit.parse("30/1m"), retry_after_seconds=5.0)
    finding = Finding(rule="sender-rate", entity=entity, metric=Metric.MESSAGES, reading=reading)
    return Verdict(action=Action.TAG, reason=Reason.OVER_LIMIT, rule="sender-rate", findings=(finding,))


def test_the_verdict_field() -> None:
    field = verdict_field(verdict(Entity("sender", "alice@example.com")), ("sender-rate", "other"), "s.1")
    assert field == (
        b"X-Reputon: tag\r\n\treason=over-limit\r\n\trule=sender-rate\r\n\tkey=sender:alice@example.com\r\n"
        b"\tcount=30\r\n\tlimit=30/1m\r\n\ttags=sender-rate,other\r\n\tid=s.1\r\n"
    )


def test_the_verdict_field_names_the_entry_that_decided() -> None:
    entry = "list|allow|user:m\u00fcller" + "\u00fc" * 200
    allowed = Verdict(action=Action.ACCEPT, reason=Reason.ALLOWLISTED, entry=entry)
    field = verdict_field(allowed, (), "s1.1")
    assert field.startswith(b"X-Reputon: accept\r\n\treason=allowlisted\r\n\tentry=list|allow|user:m\\xfcller")
    assert all(len(line) <= 998 for line in field.split(b"\r\n"))


def test_the_verdict_field_without_a_rule() -> None:
    field = verdict_field(Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE), (), "s.1")
    assert field == b"X-Reputon: accept\r\n\treason=no-rule\r\n\tid=s.1\r\n"


def test_the_verdict_field_has_the_class_of_service_even_where_nothing_was_counted() -> None:
    field = verdict_field(Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE), ("a",), "s.1", "dirty")
    assert field == b"X-Reputon: accept\r\n\treason=no-rule\r\n\ttags=a\r\n\tservice=dirty\r\n\tid=s.1\r\n"


@pytest.mark.parametrize("id", ["😀" * 200, "ä\r\nX-Forged: yes", "x" * 200, "\ud800"])
def test_the_verdict_field_is_one_field_of_short_ascii_lines_whatever_the_entity(id: str) -> None:
    field = verdict_field(verdict(Entity("sender", id)), (), "s.1")
    assert FIELD.fullmatch(field)
    assert max(map(len, field.split(b"\r\n"))) <= MAX_LINE


@pytest.mark.parametrize(
    ("text", "ascii"), [("plain", "plain"), ("ä\n\x00", "\\xe4??"), ("😀", "\\U0001f600"), ("", "")]
)
def test_ascii_only(text: str, ascii: str) -> None:
    assert ascii_only(text) == ascii


def test_what_is_read_of_a_huge_header_is_bounded() -> None:
    words = Split(fields=b"Subject:" + b" x" * 500_000 + b"\r\n", rest=b"")
    assert words.texts()["subject"] == "x " * (MAX_TEXT_LENGTH // 2)
    assert Split(fields=b"Received: x\r\n" * 50_000, rest=b"").hops == MAX_HOPS


@pytest.mark.parametrize(
    ("field", "author"),
    [
        (b"alice@example.com", "alice@example.com"),
        (b"Alice <Alice+news@Mail.Example.COM>", "Alice+news@Mail.Example.COM"),
        (b'"Doe, John" <john@example.com>', "john@example.com"),
        (b"=?utf-8?q?Doe=2C_John?= <john@example.com>", "john@example.com"),
        (b"=?utf-8?q?boss=40bank.example=2C?= <eve@example.com>", "eve@example.com"),
        (b'"eve@evil.example" <alice@example.com>', "alice@example.com"),
        (b"alice@example.com (Alice)", "alice@example.com"),
        (b"Alice\r\n <alice@example.com>", "alice@example.com"),
        (b"nobody", ""),
        (b"Undisclosed <>", ""),
        (b"(" * 900 + b"<alice@example.com>", ""),
        (b"", ""),
    ],
)
def test_the_author_is_the_first_address_before_anything_is_decoded(field: bytes, author: str) -> None:
    texts = split(b"From: " + field + b"\r\n\r\n").texts()
    assert texts.get("from") is not None
    assert texts.author == author


@pytest.mark.parametrize(
    "subject", [b"casino \xff", b"casino =?utf-7?q?+2AA-?=", b"casino =?unicode_escape?q?=5Cud800?="]
)
def test_an_octet_that_is_no_utf_8_lets_no_message_past_a_rule_about_the_subject(subject: bytes) -> None:
    texts = Split(fields=b"Subject: " + subject + b"\r\n", rest=b"").texts()
    event = Data(
        session=Session(id="s", client=ip_address("192.0.2.7")),
        sender="a@example.com",
        recipients=("b@example.net",),
        message_bytes=100,
        subject=texts["subject"],
        author="",
        header=texts,
    )
    condition = Condition('subject.contains("casino")', Stage.DATA)
    assert condition.holds(Moment(event, entities_of(event, Spelling()), 0.0)), condition.failures.last


# What others want in the header


@given(st.text(max_size=60), st.text(max_size=1_200))
def test_a_field_that_somebody_else_wants_is_one_line_or_nothing(name: str, value: str) -> None:
    field = headers.added(name, value)
    assert field == b"" or (field.count(b"\r\n") == 1 and field.endswith(b"\r\n") and b"\n" not in field[:-2])
    assert len(field) <= 1_000
    assert field.isascii()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Spam\r\nBcc: eve@example.org\r\nX", "yes"),
        ("X Spam", "yes"),
        ("X-Spam:", "yes"),
        ("", "yes"),
        ("X-\xe4", ""),
    ],
)
def test_what_is_no_name_of_a_field_adds_none(name: str, value: str) -> None:
    assert headers.added(name, value) == b""


def test_a_value_cannot_begin_a_field_of_its_own() -> None:
    assert headers.added("X-Spam", "yes\r\nBcc: eve@example.org") == b"X-Spam: yes??Bcc: eve@example.org\r\n"


FIELDS = b"From: a@example.com\r\nX-Old: 1\r\n\tfolded\r\nSubject: hello\r\nx-old : 2\r\nTo: b@example.net\r\n"


def test_fields_are_taken_out_with_what_is_folded_below_them() -> None:
    assert headers.without(FIELDS, ["X-Old"]) == b"From: a@example.com\r\nSubject: hello\r\nTo: b@example.net\r\n"
    assert headers.without(FIELDS, ["X-O.d", ".*", "", "From\r\n"]) == FIELDS


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"Subject: hello\r\n", b"Subject: [SPAM] hello\r\n"),
        (b"SUBJECT:hello\r\n", b"SUBJECT: [SPAM] hello\r\n"),
        (b"Subject: hello\r\n\tyou\r\n", b"Subject: [SPAM] hello\r\n\tyou\r\n"),
        (b"Subject: [SPAM] hello\r\n", b"Subject: [SPAM] hello\r\n"),
        (b"Subject:\r\n", b"Subject: [SPAM] \r\n"),
        (b"To: b@example.net\r\n", b"Subject: [SPAM]\r\nTo: b@example.net\r\n"),
        (b"", b"Subject: [SPAM]\r\n"),
        (b"X-Subject: hello\r\n", b"Subject: [SPAM]\r\nX-Subject: hello\r\n"),
    ],
)
def test_a_word_goes_before_the_subject_once(before: bytes, after: bytes) -> None:
    assert headers.with_subject_prefix(before, "[SPAM] ") == after
    assert headers.with_subject_prefix(after, "[SPAM]") == after


def test_no_word_changes_nothing() -> None:
    assert headers.with_subject_prefix(FIELDS, " ") == FIELDS


def test_mail_of_our_users_tells_nobody_their_counts() -> None:
    told = verdict_field(verdict(Entity("user", "alice")), ("tag",), "1.1", "vip", private=True)
    assert b"tags=tag" in told
    assert b"service=vip" in told
    assert b"user:alice" not in told
    assert b"limit=" not in told
