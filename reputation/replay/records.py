"""What one line of a log says: facts, before it is known which message they belong to.

The times are microseconds since the epoch. A *place* is where a session is told apart (a process of Postfix, an address
and port of Exim's); an *id* names a message in the queue of the logged server. Both begin with the host.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from reputation.events import ClientAddress


class Fate(StrEnum):
    """What became of one recipient's copy."""

    SENT = "sent"
    BOUNCED = "bounced"
    DEFERRED = "deferred"


class Turned(StrEnum):
    """What the logged server refused."""

    SENDER = "sender"
    RECIPIENT = "recipient"
    UNKNOWN_RECIPIENT = "unknown-recipient"
    """It does not exist."""
    MESSAGE = "message"
    """All of it, after it had come in."""


class Connected(NamedTuple):
    """A session begins."""

    at_us: int
    place: str
    client: ClientAddress | None
    """None where the log does not know it."""


class Secured(NamedTuple):
    """The session is encrypted from now on."""

    at_us: int
    place: str


class Left(NamedTuple):
    """A session is over."""

    at_us: int
    place: str


class LoginFailed(NamedTuple):
    """A log-in was tried and refused."""

    at_us: int
    place: str
    client: ClientAddress | None
    login: str


class Taken(NamedTuple):
    """The server has given a message its id; Exim has taken it over by then, and says everything in one line."""

    at_us: int
    place: str
    id: str
    client: ClientAddress | None
    user: str = ""
    helo: str = ""
    tls: bool = False
    earlier_id: str = ""
    """The id that the message had before it went through a content filter."""
    earlier_client: ClientAddress | None = None
    sender: str | None = None
    """None: `Queued` tells."""
    size: int = 0
    recipients: tuple[str, ...] = ()
    """Where the line has them."""


class Queued(NamedTuple):
    """Postfix' queue manager has got a message whole."""

    at_us: int
    id: str
    sender: str
    size: int
    recipients: int
    """How many, after aliases."""


class Refused(NamedTuple):
    """The logged server said no."""

    at_us: int
    place: str
    id: str
    """Empty when the message had none yet."""
    client: ClientAddress | None
    what: Turned
    sender: str | None
    recipient: str = ""
    user: str = ""
    helo: str = ""


class Went(NamedTuple):
    """A delivery was tried."""

    at_us: int
    id: str
    address: str
    """Where a copy goes."""
    recipient: str
    """Who was named by the client; aliases may have made several addresses of it."""
    fate: Fate


class Expired(NamedTuple):
    """What is left is returned to the sender."""

    at_us: int
    id: str


class Removed(NamedTuple):
    """The message has left the queue."""

    at_us: int
    id: str


class Judged(NamedTuple):
    """A verdict line of our own mail log."""

    at_us: int
    place: str
    stage: str
    denied: bool
    """By the policy of then."""
    client: ClientAddress
    user: str = ""
    sender: str = ""
    recipient: str = ""
    size: int = 0


class Finished(NamedTuple):
    """A message line of our own mail log."""

    at_us: int
    place: str
    result: str


MAX_TEXT_LENGTH = 4_096
"""Characters of what a line says, without its date. One that says more is counted as unreadable and not cut, because
half a line may say something else; only the recipients behind an arrival of Exim's go on. Postfix stops at 2 kB."""

Record = (
    Connected | Secured | Left | LoginFailed | Taken | Queued | Refused | Went | Expired | Removed | Judged | Finished
)


class UnreadableLine(Exception):
    """A line that should say something and cannot be understood."""


class Origin(NamedTuple):
    """Where and when a line was written: the time in microseconds, the host, the process id or nothing."""

    at_us: int
    host: str
    pid: str


Parse = Callable[[str, Origin], Record | None]
"""Reads the text of a line, without its date; None when it says nothing that is wanted."""
