"""What the front end needs from a next hop: the Protocols that the SMTP, LMTP and Maildir ones fulfil.

The front end is a streaming proxy. A client's session holds one `Connection`; its transactions go over it
step by step, and each answer of the next hop is the client's answer::

    client                 session                      connection
    MAIL FROM:<a>          (only remembered)
    RCPT TO:<b>            policy accepts        ->     begin("a", options, "b")
    RCPT TO:<c>            policy accepts        ->     rcpt("c")
    DATA ... .             policy accepts        ->     data(parts)
    RSET, or policy refuses the message          ->     reset()
    QUIT, or the client is gone                  ->     close()

Promises of every `Connection`:

* `data` answers 2xx only when the next hop has taken the message over; nothing is kept in between.
* Trouble is an answer, not an exception. A next hop that cannot be reached, is too slow, hangs up or talks
  nonsense is a `Reply` with a 4xx code and ``ours`` set, and one line in the log "reputon.next_hop".
* A 421 of the next hop is passed on as 451: 421 would be a promise to hang up on the client.
* A next hop that is told who the client is hears of one client only on one connection. When `MAIL` comes for another,
  or for the same one after he has logged in, it is a new connection.
* After a cancelled call the connection is gone, so that no later transaction can read an old answer.

Does not do: queueing, retrying a message, bounces, choosing among several next hops, MX lookups.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from smtp_frontend.next_hop.xclient import Introduction
from smtp_frontend.reply import Reply

Part = bytes | memoryview
"""Of a message. A large one is looked at in place and in pieces, never copied as a whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MailOptions:
    """What the client declared with MAIL, as far as the next hop must know, and who the client is."""

    declared_bytes: int = 0
    """SIZE (RFC 1870), 0 when unknown. An estimate: headers that we add may make the message longer."""
    eight_bit: bool = False
    """BODY=8BITMIME (RFC 6152)."""
    smtputf8: bool = False
    """SMTPUTF8 (RFC 6531)."""
    introduction: Introduction | None = None
    """Who the client is now, for next hops that are told (XCLIENT)."""


NO_OPTIONS = MailOptions()


class Connection(Protocol):
    """The transactions of one client session, one after the other. Used by one task at a time."""

    async def mail(self, sender: str, options: MailOptions = NO_OPTIONS) -> Reply:
        """Begin a transaction; connects where that is needed. `sender` without angle brackets, "" for ``<>``."""
        ...

    async def begin(self, sender: str, options: MailOptions, recipient: str) -> tuple[Reply, Reply]:
        """`mail`, and `rcpt` for the first recipient, in one exchange where that is possible.

        The answers to both; when the first one is not positive, the second is the same, and there is no transaction.
        """
        ...

    async def rcpt(self, recipient: str) -> Reply:
        """Add a recipient to the transaction. May be asked again after a refusal."""
        ...

    async def data(self, parts: Iterable[Part]) -> Reply:
        """Hand the message over and end the transaction, whatever the answer.

        `parts` are the whole message (RFC 5322) with CRLF line ends, cut anywhere, not dot-stuffed. A missing
        last CRLF is added. A bare CR or LF is refused with 554 5.6.0.
        """
        ...

    async def reset(self) -> None:
        """Give the transaction up, if there is one. The connection stays usable."""
        ...

    async def close(self) -> None:
        """Let go of the connection, politely if that takes no longer than a moment."""
        ...


class NextHop(Protocol):
    """Where mail goes. One per process."""

    @property
    def max_recipients(self) -> int | None:
        """Recipients that one transaction can carry, None for any number.

        It is 1 for LMTP, which answers for each recipient apart after the message (RFC 2033 section 4.2):
        one answer to our client could not say "delivered to b, not to c".
        """
        ...

    def connect(self) -> Connection:
        """A connection for one client session. Cheap, does no I/O yet."""
        ...
