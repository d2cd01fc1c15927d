"""SMTP and LMTP next hops: our own small client (RFC 5321, RFC 2033), over TCP and Unix-domain sockets.

A `SmtpConnection` is at one of four points::

    no wire --mail--> in transaction --data--> idle --mail--> in transaction ...
                            |                   ^
                            +------reset--------+      any trouble, 421 or cancelled call: no wire

Promises: those of `contract`, and: an idle connection that turns out to be dead, or says 421, before it has
answered MAIL is replaced once, unseen by the client. A recipient is never sent to a next hop that has lost the
transaction. Each answer has a time limit, `FINAL_ANSWER_FACTOR` times longer for the one after the message
(RFC 5321 section 4.5.3.2.6), because giving up there means duplicates.

Extensions used where offered: SIZE, 8BITMIME, SMTPUTF8, STARTTLS; XCLIENT where it is wanted, too, and then a
connection is one client's, and is made anew when who he is has changed. A message that needs one which is not offered
is refused, not converted: 550 5.6.3 for 8-bit content (RFC 6152 section 3), 553 5.6.7 for SMTPUTF8
(RFC 6531 section 3.5). Without BODY=8BITMIME from the client, 8-bit content is sent as it is.

PIPELINING (RFC 2920) is used for the two commands that are known at once, MAIL and the first RCPT: one round trip less.
While a server is away, sessions do not wait for it one by one: see `smtp_frontend.next_hop.watch`.

Does not do: CHUNKING, DSN, AUTH; a pool shared by several sessions.

Bugs: a server that takes the message and dies before it says so gets it again from the client, as everywhere
in SMTP (RFC 1047).
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Iterable, Iterator

from reputation.front_end_settings import FINAL_ANSWER_FACTOR
from smtp_frontend.next_hop.content import BareLineEnding, is_path, stuffed
from smtp_frontend.next_hop.contract import NO_OPTIONS, MailOptions, Part
from smtp_frontend.next_hop.hello import Extensions, Peer, introduce
from smtp_frontend.next_hop.replies import (
    BAD_RECIPIENT,
    BAD_SENDER,
    BARE_LINE_ENDING,
    BROKEN,
    CLOSING,
    NO_EIGHT_BIT,
    NO_RECIPIENTS,
    NO_SMTPUTF8,
    TOO_MANY_RECIPIENTS,
    UNREACHABLE,
    passed_on,
)
from smtp_frontend.next_hop.watch import HopWatch
from smtp_frontend.next_hop.wire import HopLost, HopNonsense, HopRefuses, HopTrouble, HopUnreachable, Wire
from smtp_frontend.next_hop.xclient import Introduction
from smtp_frontend.reply import Reply

QUIT_SECONDS = 1.0
DONE = frozenset({250, 251, 252})
"""What a command other than DATA may be done with; a 221 to RCPT is no "yes" (RFC 5321 section 4.3.2)."""
ABOUT_US = frozenset({500, 502, 503, 504, 530, 534, 535, 538})
"""Refusals of our commands, or of us for want of TLS or AUTH. The client's mail is not to blame and must not bounce."""

LOG = logging.getLogger("reputon.next_hop")


class SmtpNextHop:
    """A server that speaks SMTP or LMTP."""

    def __init__(self, peer: Peer, watch: HopWatch) -> None:
        self._peer = peer
        self._watch = watch

    @property
    def max_recipients(self) -> int | None:
        """1 for LMTP: see `contract.NextHop`."""
        return 1 if self._peer.lmtp else None

    def connect(self) -> "SmtpConnection":
        """A connection that is made at the first MAIL."""
        return SmtpConnection(self._peer, self._watch, self.max_recipients)


class SmtpConnection:
    """The transactions of one client session."""

    def __init__(self, peer: Peer, watch: HopWatch, max_recipients: int | None) -> None:
        self._peer = peer
        self._watch = watch
        self._max_recipients = max_recipients
        self._wire: Wire | None = None
        self._offered: Extensions = {}
        self._client: Introduction | None = None
        """Whose connection it is, for a server that is told; never anybody else's."""
        self._begun = False
        """The server has, or may have, a transaction that needs RSET before the next MAIL."""
        self._accepted: int | None = None
        """Recipients of the transaction that is under way, None when there is none."""
        self._ahead = False
        """RCPT went out with MAIL, and its answer was not read yet."""

    async def mail(self, sender: str, options: MailOptions = NO_OPTIONS) -> Reply:
        """Begin a transaction, on a new connection where there is none that lives."""
        return await self._safely(self._mail(sender, options))

    async def begin(self, sender: str, options: MailOptions, recipient: str) -> tuple[Reply, Reply]:
        """Begin a transaction with its first recipient."""
        reply = await self._safely(self._mail(sender, options, recipient))
        return (reply, await self.rcpt(recipient)) if reply.positive else (reply, reply)

    async def rcpt(self, recipient: str) -> Reply:
        """Add a recipient."""
        return await self._safely(self._rcpt(recipient))

    async def data(self, parts: Iterable[Part]) -> Reply:
        """Send the message. The transaction is over then, whatever the answer."""
        return await self._safely(self._data(parts))

    async def reset(self) -> None:
        """Give the transaction up. Where RSET does not work, the connection is given up with it."""
        self._accepted = None
        if self._begun:
            await self._safely(self._rset())

    async def close(self) -> None:
        """QUIT, and hang up as soon as it is answered, or is not."""
        try:
            if self._wire is not None:
                with contextlib.suppress(HopTrouble):  # it is over either way
                    await self._wire.command(b"QUIT", min(QUIT_SECONDS, self._peer.timeout_seconds))
        finally:
            self._drop()

    async def _mail(self, sender: str, options: MailOptions, recipient: str = "") -> Reply:
        """The answer to MAIL. With a `recipient`, RCPT may go out with it; `_rcpt` then reads the answer."""
        if not is_path(sender):
            return BAD_SENDER
        self._accepted = None
        client = options.introduction if self._peer.address.xclient else None
        if client != self._client:
            await self.close()
            self._client = client
        reused = self._wire is not None
        try:
            reply = await self._begin(sender, options, recipient)
        except HopTrouble as trouble:
            if not (reused and trouble.lost):
                raise
        else:
            if not (reused and reply.code == CLOSING):
                return reply
        self._drop()
        return await self._begin(sender, options, recipient)

    async def _begin(self, sender: str, options: MailOptions, recipient: str) -> Reply:
        """One try: connect or tidy up, then MAIL."""
        if self._wire is None:
            await self._connect()
        elif self._begun and (tidied := await self._rset()).code == CLOSING:
            return tidied
        if options.eight_bit and "8BITMIME" not in self._offered:
            return NO_EIGHT_BIT
        if (options.smtputf8 or not sender.isascii()) and "SMTPUTF8" not in self._offered:
            return NO_SMTPUTF8
        command = " ".join([f"MAIL FROM:<{sender}>", *_parameters(options, self._offered)])
        self._ahead = "PIPELINING" in self._offered and self._objection(recipient) is None
        if self._ahead:
            command += f"\r\nRCPT TO:<{recipient}>"
        reply = await self._ask(command.encode())
        if reply.positive:
            self._begun, self._accepted = True, 0
        elif self._ahead and reply.code != CLOSING:
            await self._skip_answer()
        return reply

    async def _connect(self) -> None:
        with self._watch.attempt():
            ready = await introduce(self._peer, self._client)
        self._wire, self._offered = ready.wire, ready.offered
        if self._client is not None:
            self._watch.was_told(ready.told)

    async def _skip_answer(self) -> None:
        """Read what was said to RCPT after MAIL had been refused, which cannot matter to the client."""
        assert self._wire is not None
        self._ahead = False
        try:
            reply = await self._wire.answer(self._peer.timeout_seconds)
        except HopTrouble:
            self._drop()
        else:
            self._begun = reply.positive  # strange, but then there is something that RSET must end

    async def _rcpt(self, recipient: str) -> Reply:
        if self._accepted is None or self._wire is None:
            return BROKEN
        if objection := self._objection(recipient):
            return objection
        if self._accepted == self._max_recipients:
            return TOO_MANY_RECIPIENTS
        if self._ahead:
            self._ahead = False
            reply = _fitting(await self._wire.answer(self._peer.timeout_seconds), b"RCPT")
        else:
            reply = await self._ask(f"RCPT TO:<{recipient}>".encode())
        self._accepted += reply.positive
        return reply

    def _objection(self, recipient: str) -> Reply | None:
        """Why this server need not be asked about a recipient."""
        if not recipient or not is_path(recipient):
            return BAD_RECIPIENT
        return None if recipient.isascii() or "SMTPUTF8" in self._offered else NO_SMTPUTF8

    async def _data(self, parts: Iterable[Part]) -> Reply:
        accepted, self._accepted = self._accepted, None
        if accepted is None or self._wire is None:
            return BROKEN
        if accepted == 0:  # RFC 5321 section 3.3
            return NO_RECIPIENTS
        go_ahead = await self._ask(b"DATA", intermediate=True)
        if not go_ahead.intermediate:
            return go_ahead
        try:
            return await self._send_message(self._wire, parts)
        except BareLineEnding:  # found while sending: only hanging up keeps the next hop from taking the rest
            self._drop()
            return BARE_LINE_ENDING

    async def _send_message(self, wire: Wire, parts: Iterable[Part]) -> Reply:
        """The message and the answer to it."""
        complete = await self._send_blocks(wire, parts)
        # An LMTP server gives one answer for each accepted recipient (RFC 2033 section 4.2): that is one.
        reply = await wire.answer(self._peer.timeout_seconds * (FINAL_ANSWER_FACTOR if complete else 1))
        early = not complete or wire.unsent
        if reply.intermediate or (early and reply.positive):
            raise HopNonsense(f"answers the {'incomplete ' * early}message with {reply.one_line}")
        if early:  # refused in the middle; the rest would be taken for commands, so hang up
            self._drop()
        self._begun = False  # RFC 5321 section 4.1.1.4: the end of data ends the transaction
        return reply

    async def _send_blocks(self, wire: Wire, parts: Iterable[Part]) -> bool:
        """Whether all of the message was handed over; False when the server has answered before that."""
        for block in stuffed(parts):
            await asyncio.sleep(0)  # let others work, and an early answer come in
            if wire.unread:
                return False
            await wire.send(block, self._peer.timeout_seconds)
        return True

    async def _rset(self) -> Reply:
        reply = await self._ask(b"RSET")
        if not reply.positive and reply.code != CLOSING:
            raise HopLost(f"refuses RSET: {reply.one_line}")
        self._begun = False
        return reply

    async def _ask(self, command: bytes, *, intermediate: bool = False) -> Reply:
        """One command and its answer; of two commands, the answer to the first."""
        if self._wire is None:
            raise HopLost("not connected")
        reply = await self._wire.command(command, self._peer.timeout_seconds)
        return _fitting(reply, command, intermediate=intermediate)

    async def _safely(self, exchange: Awaitable[Reply]) -> Reply:
        """The answer for the client: trouble becomes a reply of ours, and trouble of any kind ends the connection."""
        try:
            reply = await exchange
        except HopTrouble as trouble:
            if not isinstance(trouble, HopUnreachable) or isinstance(trouble, HopRefuses):  # else: the watch tells it
                LOG.warning("%s: %s", self._peer.url, str(trouble))  # itself it would hold the message, by its trace
            self._drop()
            return UNREACHABLE if isinstance(trouble, HopUnreachable) else BROKEN
        except BaseException:  # cancelled, or the caller's parts failed: an answer may still be under way
            self._drop()
            raise
        if reply.code == CLOSING:
            LOG.warning("%s: %s", self._peer.url, reply.one_line)
            self._drop()
        return passed_on(reply)

    def _drop(self) -> None:
        """Hang up without a word."""
        if self._wire is not None:
            self._wire.drop()
        self._wire, self._begun, self._accepted, self._ahead = None, False, None, False


def _fitting(reply: Reply, command: bytes, *, intermediate: bool = False) -> Reply:
    """The answer to a command, if it can be one: 3xx exactly where a positive one is expected to be."""
    fits = reply.intermediate if intermediate else reply.code in DONE
    if (reply.code < 400 and not fits) or reply.code in ABOUT_US:
        raise HopNonsense(f"answers {command[:4].decode()} with {reply.one_line}")
    return reply


def _parameters(options: MailOptions, offered: Extensions) -> Iterator[str]:
    """The parameters of MAIL, each only where its extension is offered."""
    if options.declared_bytes > 0 and "SIZE" in offered:  # RFC 1870 section 5
        yield f"SIZE={options.declared_bytes}"
    if options.eight_bit:  # RFC 6152 section 2
        yield "BODY=8BITMIME"
    if options.smtputf8:  # RFC 6531 section 3.4
        yield "SMTPUTF8"
