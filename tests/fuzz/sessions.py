"""What is thrown at the front end, and what must hold whatever it is.

The invariant, for any octets in any packets:

1. Each reply is a legal one (three digits from 2xx to 5xx, printable, CRLF, at most 512 octets), or a close.
2. No session ends in a traceback, and none of our own errors is counted.
3. The next hop is given only messages that the client has ended: what it gets stands in the octets as they were sent,
   right behind a CRLF, followed by the final dot, without a bare CR or LF and without an end before the end.
4. It does not matter how the octets are cut into packets.

`House.hold` plays a session over loopback and holds what comes of it against this.
"""

import asyncio
import re
import tomllib
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from hypothesis import strategies as st

from reputation.config import Settings
from smtp_frontend.listeners import Kind
from smtp_frontend.rehearsal.client import LEGAL_LINE
from smtp_frontend.rehearsal.expectations import PATIENCE_SECONDS
from smtp_frontend.rehearsal.front_end import FrontEnd, front_end
from smtp_frontend.rehearsal.logins import OnePassword
from smtp_frontend.rehearsal.next_hop import Message, ScriptedHop

CONFIG = """
[smtp]
max_message_bytes = 65536
max_errors = 1000
xclient_from = ["127.0.0.1"]
[keys]
subject_key = "a key"
[[rule]]
name = "sender-rate"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["3/1h"]
action = "tempfail"
[[rule]]
name = "recipient-rate"
stage = "rcpt"
key = ["recipient"]
count = "recipients"
limits = ["3/1h"]
action = "discard"
[[rule]]
name = "subject-rate"
stage = "data"
key = ["subject"]
count = "messages"
limits = ["1/1h"]
action = "tag"
"""

WORDS = [
    b"EHLO client.example.com",
    b"HELO [192.0.2.1]",
    b"helo x",
    b"MAIL FROM:<alice@example.com>",
    b"MAIL FROM:<>",
    b"MAIL FROM:<alice@example.com> SIZE=100 BODY=8BITMIME",
    "MAIL FROM:<änne@bücher.example> SMTPUTF8".encode(),
    b'MAIL FROM:<"a b>c"@example.com>',
    b"RCPT TO:<bob@example.net>",
    b"RCPT TO:<@relay.example:carol@example.net>",
    b"RCPT TO:<unknown@example.com>",
    b"RCPT TO:<postmaster>",
    b"DATA",
    b"RSET",
    b"NOOP",
    b"VRFY alice",
    b"EXPN staff",
    b"HELP",
    b"STARTTLS",
    b"QUIT",
    b"XCLIENT ADDR=192.0.2.7 LOGIN=alice",
    b"XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::7 HELO=client.example.com",
    b"XCLIENT LOGIN=+0D+0AX",
    b"BDAT 5 LAST",
    b"AUTH PLAIN =",
    b"AUTH PLAIN AGFsaWNlAHNlY3JldA==",
    b"AUTH LOGIN",
    b"YWxpY2U=",
    b"c2VjcmV0",
    b"*",
    b"Subject: hello",
    b"Subject: =?utf-8?b?a?=",
    b"Received: from x by y",
    b"X-Header: folded",
    b"Content-Type: multipart/report; report-type=delivery-status; boundary=b",
    b"--b",
    b"Content-Type: message/delivery-status",
    b"Final-Recipient: rfc822; bob@example.net",
    b"Action: failed",
    b"Status: 5.1.1",
    b" more of it",
    b".",
    b"..",
    b".a",
    b"",
    b"\x00",
    b"\xff\xfe",
    b"x" * 100,
    b"y" * 3_000,
]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\r\n", b"\r\n\x00", b""]

GOOD = b"\r\n".join(
    [b"EHLO client.example.com", b"MAIL FROM:<alice@example.com>", b"RCPT TO:<bob@example.net>", b"DATA", b""]
)
"""A session goes deep more often when it begins well."""

line = st.builds(bytes.__add__, st.sampled_from(WORDS) | st.binary(max_size=12), st.sampled_from(ENDS))
octets_of_a_session = st.builds(
    lambda begin, lines: begin + b"".join(lines), st.sampled_from([b"", GOOD, GOOD]), st.lists(line, max_size=25)
)
cuts = st.lists(st.integers(min_value=0, max_value=3_500), max_size=12)


def packets(octets: bytes, at: Iterable[int]) -> list[bytes]:
    """`octets`, cut at these places."""
    places = sorted({0, len(octets), *(place % (len(octets) + 1) for place in at)})
    return [octets[begin:end] for begin, end in pairwise(places)]


@dataclass(frozen=True)
class Outcome:
    """What a session has come to."""

    replies: bytes
    """As they came, with ids masked."""
    messages: tuple[Message, ...]


async def outcome(mx: FrontEnd, hop: ScriptedHop, parts: Sequence[bytes], kind: Kind = Kind.SMTP) -> Outcome:
    """Send the packets, half-close, and read until the server closes, too."""
    mx.store.advance(10 * 86_400)  # every session finds empty windows
    async with mx.client(kind=kind) as client:
        writing = asyncio.create_task(_write(client.writer, parts))
        async with asyncio.timeout(PATIENCE_SECONDS):
            replies = await client.reader.read(-1)
        await writing
    await mx.nobody_left()
    messages, hop.received[:], hop.messages[:] = tuple(hop.received), [], []
    hop.sessions.clear()
    return Outcome(replies=re.sub(rb"[0-9a-f]{12}\.\d+", b"ID", replies), messages=messages)


async def _write(writer: asyncio.StreamWriter, parts: Sequence[bytes]) -> None:
    with suppress(OSError):  # the server has closed: it may
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)  # the packet leaves
        writer.write_eof()


def faults(octets: bytes, came: Outcome, mx: FrontEnd) -> list[str]:
    """Where the invariant does not hold; of 4 only what one session shows."""
    found = [f"illegal reply line {each!r}" for each in came.replies.splitlines(True) if not _is_legal(each)]
    found += [f"a message that was not sent like this: {m}" for m in came.messages if not _was_sent(m, octets)]
    if mx.metric("reputon_smtp_errors_total"):
        found.append("an error of ours was counted")
    return [*found, *(f"in the log: {record.getMessage()}" for record in mx.log.traces)]


def _is_legal(reply_line: bytes) -> bool:
    return LEGAL_LINE.fullmatch(reply_line) is not None and len(reply_line) <= 512


def _was_sent(message: Message, octets: bytes) -> bool:
    """Whether the client has sent just this, from the CRLF behind DATA to the final dot."""
    ours = re.match(rb"Received: .*\r\n(?:\t.*\r\n)*X-Reputon: .*\r\n(?:\t.*\r\n)*", message.content)
    if ours is None:
        return False
    rest = message.content[ours.end() :]
    if b"\r" in rest.replace(b"\r\n", b"") or b"\n" in rest.replace(b"\r\n", b""):
        return False
    # A first line that begins with a blank has got an empty line before it: see `smtp_frontend.headers.split`.
    bodies = [rest, *([rest[2:]] if rest.startswith((b"\r\n ", b"\r\n\t")) else [])]
    return any(re.search(rb"\r\n" + _wire_pattern(body) + rb"\.\r\n", octets) for body in bodies)


def _wire_pattern(body: bytes) -> bytes:
    """What a client sends that means `body`. One that does not double its dots has sent another message."""
    return b"".join(_line_pattern(each) + rb"\r\n" for each in body.split(b"\r\n")[:-1])


def _line_pattern(text: bytes) -> bytes:
    """RFC 5321 section 4.5.2: the first dot of a line is taken off; a lone one is the end."""
    dot = rb"\." if text.startswith(b".") else rb"\.?" if text else b""
    return dot + re.escape(text)


class House:
    """A front end and its next hop for many sessions, and the loop that they live in."""

    def __init__(self, kind: Kind = Kind.SMTP) -> None:
        self._kind = kind
        self._runner = asyncio.Runner()
        self._exits = AsyncExitStack()

    def __enter__(self) -> Self:
        self._runner.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._exits.aclose())
        self._runner.close()

    async def _open(self) -> None:
        self.hop = await self._exits.enter_async_context(ScriptedHop())
        settings = Settings.model_validate(tomllib.loads(CONFIG))
        if self._kind is Kind.SUBMISSIONS:  # without TLS, as if it were encrypted
            smtp = settings.smtp.model_copy(update={"listen_submissions": ("127.0.0.1:0",)})
            settings = settings.model_copy(update={"smtp": smtp})
        front = front_end(settings, next_hop=self.hop.url, instant=True, verifier=OnePassword())
        self.mx: FrontEnd = await self._exits.enter_async_context(front)

    def hold(self, octets: bytes, at: list[int]) -> None:
        """Play the octets in one packet and in several; raises AssertionError where the invariant does not hold."""
        self.mx.log.records.clear()
        whole = self._runner.run(outcome(self.mx, self.hop, [octets] if octets else [], self._kind))
        cut = self._runner.run(outcome(self.mx, self.hop, packets(octets, at), self._kind))
        assert faults(octets, whole, self.mx) == []
        assert faults(octets, cut, self.mx) == []
        assert _comparable(cut) == _comparable(whole)


def _comparable(came: Outcome) -> object:
    """All but ids and the time."""
    return came.replies, [
        (m.sender, m.parameters, m.recipients, re.sub(rb"id [0-9a-f.]+|id=[0-9a-f.]+|\t\w{3}, .*", b"", m.content))
        for m in came.messages
    ]
