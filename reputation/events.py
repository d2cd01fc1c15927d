"""What was seen: the events of an SMTP session, and what became of them.

An event is an immutable fact about one session at one stage. It is the only thing that a program
(the SMTP front end, a policy service, the API) tells the engine; the engine answers with a verdict.

Every event carries its `Session` (who is connected) and, from MAIL on, its envelope. Nothing here
is canonicalised: events hold what came over the wire, and `reputation.keys` alone decides which
entities that means.

Does not do: parsing SMTP (the front end does), naming keys (`reputation.keys` does).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from mmap import mmap

ClientAddress = IPv4Address | IPv6Address
Content = bytes | mmap

NULL_SENDER = ""
"""The reverse-path of a bounce, ``<>``: RFC 5321 section 4.5.5."""


class Stage(StrEnum):
    """The moments of a session at which a verdict is asked for, in the order of the protocol."""

    CONNECT = "connect"
    HELO = "helo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Who is connected. The front end makes a new one when it learns more (HELO, AUTH, TLS)."""

    id: str
    client: ClientAddress
    helo: str = ""
    user: str = ""
    """The authenticated login, empty when nobody has logged in."""
    tls: bool = False
    has_end: bool = True
    """Whether its end will be told (`Disconnect`) when it comes. If not, it is never counted as open."""
    early: bool = False
    """Whether the client has spoken before it was greeted (RFC 5321 section 4.3.1 forbids it)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """A client has connected and has not been greeted yet."""

    session: Session
    stage: Stage = field(default=Stage.CONNECT, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Helo:
    """The client has introduced itself; the name is in ``session.helo``."""

    session: Session
    stage: Stage = field(default=Stage.HELO, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """A log-in was tried. ``session.user`` is set only when it succeeded."""

    session: Session
    login: str
    success: bool
    stage: Stage = field(default=Stage.AUTH, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """A transaction begins: MAIL FROM."""

    session: Session
    sender: str
    """The reverse-path as it was given, without angle brackets; `NULL_SENDER` for ``<>``."""
    declared_bytes: int = 0
    """The SIZE parameter (RFC 1870), 0 when none was given."""
    token: str = ""
    """Names what is sent, the same when it is tried again or asked about twice; empty when nothing does."""
    stage: Stage = field(default=Stage.MAIL, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rcpt:
    """One more recipient: RCPT TO."""

    session: Session
    sender: str
    recipient: str
    token: str = ""
    """Names what is sent, the same when it is tried again or asked about twice; empty when nothing does."""
    stage: Stage = field(default=Stage.RCPT, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """The whole message has been received, and not yet been answered."""

    session: Session
    sender: str
    recipients: tuple[str, ...]
    message_bytes: int
    subject: str = ""
    author: str = ""
    """The address in the From field (RFC 5322 section 3.6.2), the first of several; empty when there is none."""
    header: Mapping[str, str] = field(default_factory=dict)
    """Names of fields, in lower case, and the unfolded and decoded text of the first of each; as far as it was read."""
    content: Content = field(default=b"", repr=False, compare=False)
    """The whole message (RFC 5322) with CRLF line ends, for look-ups; empty where it is not at hand. A large one is a
    file in memory, which is gone soon: nobody keeps it."""
    token: str = ""
    """Names what is sent, the same when it is tried again or asked about twice; empty when nothing does."""
    stage: Stage = field(default=Stage.DATA, init=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """The session is over, however it ended."""

    session: Session
    stage: Stage = field(default=Stage.DISCONNECT, init=False)


Event = Connect | Helo | Auth | Mail | Rcpt | Data | Disconnect


class OutcomeKind(StrEnum):
    """What somebody learned later about something that was judged."""

    UNKNOWN_RECIPIENT = "unknown-recipient"
    """The next hop does not know the recipient (a permanent 5.1.x answer, RFC 3463)."""
    AUTH_FAILED = "auth-failed"
    HAM = "ham"
    """A person or a filter has said that it is wanted."""
    SPAM = "spam"
    MALWARE = "malware"
    BOUNCE = "bounce"
    COMPLAINT = "complaint"
    """Somebody has complained to us, as by a feedback loop (RFC 5965, "abuse")."""
    JUNK = "junk"
    """A user of ours has moved it to his junk folder."""
    TRAP = "trap"
    """It came to an address that nobody writes to in good faith."""
    FRAUD = "fraud"
    """Phishing and the like (RFC 5965, "fraud")."""
    ABUSIVE = "abusive"
    """Unwanted in another way (RFC 7073, "abusive")."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Feedback on an event. Our own refusals are never outcomes."""

    kind: OutcomeKind
    event: Event
    is_sender_proven: bool = True
    """Whether the sender that the event names is known to have sent it; anybody can write one. If not, it is not about
    him."""
    is_author_proven: bool = True
    """The same for the address in the From field."""
    token: str = ""
    """Names what is counted, so that counts (not evidence) have it once; empty when nothing does."""
    is_client_known: bool = True
    """Whether the session's client is the one that it came from; if not, it is about no address."""
    returned: tuple[str, str] | None = None
    """(sender, recipient) of the message that came back, where the event is the report of that (RFC 3464). The sender
    of that message is meant then, and nobody that the event names; and only if he has written to this recipient."""
