"""The front end's pure modules on any octets: no exception but the one that is promised, and packets do not matter."""

import asyncio
import re
from mmap import mmap
from typing import cast

from hypothesis import example, given
from hypothesis import strategies as st

from reputation.keys import entities_of
from reputation.spelling import Spelling
from smtp_frontend import headers
from smtp_frontend.commands import CommandError, parse_helo, parse_mail, parse_rcpt, split
from smtp_frontend.inbox import MAX_LINE_LENGTH, BadLine, Inbox, Message
from smtp_frontend.next_hop.content import is_path, stuffed
from smtp_frontend.spool import Spool
from smtp_frontend.wire import Wire
from tests.builders import data
from tests.fuzz.sessions import cuts, octets_of_a_session, packets

address_like = st.text(alphabet='ab@<>"\\.,:[] \t\x00\x0bäé😀=-', max_size=40).map(str.encode)
argument = st.binary(max_size=60) | st.builds(bytes.__add__, st.sampled_from([b"FROM:", b"to:", b"TO:<"]), address_like)


@given(line=st.binary(max_size=80))
def test_a_line_is_always_a_verb_and_an_argument(line: bytes) -> None:
    verb, rest = split(line)
    assert b" " not in verb.encode()
    assert rest == rest.strip(b" \t")


@given(argument=argument, smtputf8=st.booleans())
def test_an_argument_is_read_or_refused(argument: bytes, smtputf8: bool) -> None:
    for parse in (parse_helo, parse_mail, lambda a: parse_rcpt(a, smtputf8)):
        refusal = None
        try:
            parse(argument)
        except CommandError as error:
            refusal = error.reply
        assert refusal is None or refusal.permanent


@given(argument=address_like)
def test_what_is_an_address_to_us_is_one_to_the_next_hop(argument: bytes) -> None:
    """And is one address, without a line end: nothing can be hung on to it."""
    try:
        address = parse_rcpt(b"TO:" + argument, smtputf8=True)
    except CommandError:
        return
    assert is_path(address)
    assert address.isprintable()
    assert parse_rcpt(f"TO:<{address}>".encode(), smtputf8=True) == address


field_text = st.binary(max_size=40) | st.sampled_from(
    [b"=?utf-8?b?a?=", b"=?utf-8?q?=C3?=", b"=?\xff?q?x?=", b"=?idna?q?x?=", b"=?utf-7?q?+?=", b"=?punycode?b?/w==?="]
)
field = st.builds(
    lambda name, text, end: name + text + end,
    st.sampled_from([b"Subject:", b"X-Reputon:", b"Received:", b" ", b"", b"\t"]),
    field_text,
    st.sampled_from([b"\r\n", b"\r\n", b"\n", b"\r\n\r\n", b""]),
)


@given(content=st.lists(field, max_size=8).map(b"".join) | st.binary(max_size=200))
@example(content=b"Subject: =?utf-8?b?a?=\r\n")
def test_any_message_is_split_and_read(content: bytes) -> None:
    parts = headers.split(content)
    assert (parts.fields + parts.rest).removeprefix(b"\r\n") == content.removeprefix(b"\r\n")
    assert not parts.fields.startswith((b" ", b"\t"))
    assert parts.hops <= content.lower().count(b"received")
    assert len(parts.without_verdict()) <= len(parts.fields)
    # The subject goes on to be hashed.
    subject = parts.texts().get("subject", "")
    entities_of(data("bob@example.net", subject=subject), Spelling(subject_key=b"key"))


header = st.lists(field, max_size=8).map(lambda lines: re.sub(rb"\r?\n|\r", b"\r\n", b"".join(lines)) + b"\r\n")


@given(content=header)
def test_no_verdict_field_from_outside_is_left(content: bytes) -> None:
    left = headers.split(content).without_verdict()
    assert not re.search(rb"^X-Reputon[ \t]*:", left, re.I | re.M)


# Packets


def read(parts: list[bytes], max_bytes: int) -> list[object]:
    """Lines, and a message after each DATA, as a session reads them; bad lines and all."""
    inbox, found, in_message = Inbox(), list[object](), False
    for part in parts:
        inbox.feed(part)
        while True:
            try:
                item = inbox.message(max_bytes) if in_message else inbox.line()
            except BadLine as bad:
                found.append(str(bad))
                continue
            if item is None:
                break
            found.append(item)
            in_message = item == b"DATA"
            if in_message:
                inbox.begin_message()
        assert len(inbox) <= max(MAX_LINE_LENGTH, max_bytes + 10)
    return found


@given(octets=octets_of_a_session, at=cuts, max_bytes=st.integers(min_value=1, max_value=300))
def test_the_inbox_does_not_see_packets(octets: bytes, at: list[int], max_bytes: int) -> None:
    whole = read([octets], max_bytes)
    assert read(packets(octets, at), max_bytes) == whole
    assert read([octets[i : i + 1] for i in range(len(octets))], max_bytes) == whole


@given(lines=st.lists(st.binary(max_size=20).map(lambda b: re.sub(rb"[\r\n]", b"", b)), max_size=10))
def test_a_message_survives_the_way_through(lines: list[bytes]) -> None:
    """Dots doubled, taken in, dots doubled for the next hop, taken in there: the same octets."""
    content = b"".join(each + b"\r\n" for each in lines)
    for _ in range(2):
        inbox = Inbox()
        inbox.begin_message()
        inbox.feed(b"".join(stuffed([content])))
        message = inbox.message(10_000)
        assert message is not None
        assert message.content == content
        assert len(inbox) == 0


# Messages, as who has the whole text and all the time would read them


text = st.lists(
    st.sampled_from([b".", b"..", b"\r\n", b"\r\n.", b"\r\n\0", b"\r\n.\r\n", b"\r", b"\n", b"\0", b"a", b"x" * 50])
    | st.binary(max_size=4),
    max_size=30,
).map(b"".join)
small_cuts = st.lists(st.integers(min_value=0, max_value=300), max_size=20)


def reference(octets: bytes, max_bytes: int) -> tuple[Message, bytes]:
    """The message, and what follows it."""
    body, _, behind = (b"\r\n" + octets).partition(b"\r\n.\r\n")
    lines = body.split(b"\r\n")[1:]
    size = len(b"".join(line + b"\r\n" for line in lines))
    if size > max_bytes:
        return Message(content=b"", size=size, too_big=True), behind
    return Message(
        content=b"".join(line.removeprefix(b".") + b"\r\n" for line in lines),
        size=size,
        bare_newlines=any(octet in line for line in lines for octet in (b"\r", b"\n")),
        hidden_end=any(line != b"." == line.replace(b"\0", b"") for line in lines),
    ), behind


class Packets(asyncio.StreamReader):
    """Gives what it is asked for in the packets it came in."""

    def __init__(self, parts: list[bytes]) -> None:
        super().__init__()
        self.parts = list(parts)

    async def read(self, n: int = -1) -> bytes:
        return self.parts.pop(0) if self.parts else b""


@given(
    octets=text,
    at=small_cuts,
    max_bytes=st.integers(min_value=1, max_value=400),
    above_bytes=st.integers(min_value=0, max_value=400),
    block_bytes=st.integers(min_value=0, max_value=100),
)
@example(octets=b"\r\n" * 9, at=[*range(300)], max_bytes=400, above_bytes=0, block_bytes=0)
async def test_a_message_is_what_it_would_be_if_it_had_come_at_once(
    octets: bytes, at: list[int], max_bytes: int, above_bytes: int, block_bytes: int
) -> None:
    octets += b"\r\n.\r\nQUIT\r\n"
    expected, behind = reference(octets, max_bytes)
    spool = Spool(above_bytes=above_bytes, block_bytes=block_bytes)
    reader = Packets(packets(octets, at))
    wire = Wire(reader, cast("asyncio.StreamWriter", None), 1.0, spool=spool)
    message = await wire.message(max_bytes, 10.0)
    whole = bytes(message.content)
    assert isinstance(message.content, mmap) == (len(whole) > above_bytes)
    assert (whole, message.size, message.too_big) == (expected.content, expected.size, expected.too_big)
    assert (message.bare_newlines, message.hidden_end) == (expected.bare_newlines, expected.hidden_end)
    message.close()
    # What was pipelined behind it is still there, to the last octet.
    assert bytes(wire._inbox._buffer) + b"".join(reader.parts) == behind
