"""What is known of one session that a mail server asks about, and of the message that is under way in it. No I/O.

A `Visit` is a session, a `Transaction` a message, a `Line` the connection on which is asked, a `Place` the server that
asks. `Visit.note` keeps what was decided; what is kept is not asked again, and answers the same question in the same
words. `visits` says which of them a question is about.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

from reputation.events import ClientAddress, Data, Event, Rcpt, Session, Stage
from reputation.verdict import Action, Verdict
from smtp_frontend.policy_service.requests import AFTER_RECIPIENTS, Instance, Request, State


@dataclass(slots=True)
class Line:
    """One connection of a mail server to us."""

    host: str
    """Its address; empty on a unix socket."""
    visit: "Visit | None" = None
    """Whom it asked about last."""


@dataclass(slots=True)
class Place:
    """A mail server that asks, by host and by the address and port it listens on; and at which stages."""

    final: State | None = None
    """The last stage that it has asked at, of DATA and END-OF-MESSAGE."""
    asks_at_rcpt: bool = False

    def seen(self, state: State | None) -> None:
        """It has asked at a stage."""
        if state is State.RCPT:
            self.asks_at_rcpt = True
        elif state is State.END_OF_MESSAGE or (state is State.DATA and self.final is None):
            self.final = state

    def is_last(self, state: State | None) -> bool:
        """Whether this is the last time that it asks about a message, as far as is known."""
        return state in AFTER_RECIPIENTS and (state is State.END_OF_MESSAGE or self.final is not State.END_OF_MESSAGE)


class Named(NamedTuple):
    """What was decided about one recipient."""

    verdict: Verdict | None
    """None when he was refused: there is nothing to be given back."""
    action: str
    """What was answered."""


@dataclass(slots=True, kw_only=True)
class Transaction:
    """One message, from MAIL on."""

    instance: str
    """Empty until it is known, or where the server names none."""
    number: int
    """Of its session, from 1."""
    sender: str
    mail: Verdict | None = None
    refusal: str = ""
    """What every question about it is answered: HELO, the login or MAIL was refused."""
    recipients: dict[str, Named] = field(default_factory=dict)
    discarded: set[str] = field(default_factory=set)
    doomed: bool = False
    """Whether the sender's verdict, or the message's, is to discard it."""
    final: str = ""
    """What was answered about the whole message."""
    settled: bool = False
    """Whether the message has passed; nothing is given back then."""
    shown: Verdict | None = None
    tags: tuple[str, ...] = ()
    service: str = ""
    told: bool = True
    """Whether the mail server knows of all tags, and of the service."""

    @property
    def discards(self) -> bool:
        """Whether the message is to be discarded: as a whole, or for all recipients that there are."""
        return self.doomed or (bool(self.discarded) and len(self.discarded) == len(self.accepted()))

    def accepted(self) -> tuple[str, ...]:
        """The recipients that were let pass, or discarded."""
        return tuple(name for name, named in self.recipients.items() if named.verdict is not None)

    def charged(self) -> tuple[Verdict, ...]:
        """What can be given back."""
        given = [named.verdict for named in self.recipients.values() if named.verdict is not None]
        return (*((self.mail,) if self.mail is not None else ()), *given)

    def carry(self, verdict: Verdict) -> None:
        """Take the tags and the class of service of a verdict along, for our field; the latest class holds."""
        new = tuple(tag for tag in verdict.tags if tag not in self.tags)
        if new or (verdict.service and verdict.service != self.service):
            self.tags, self.service, self.told = self.tags + new, verdict.service or self.service, False
        if self.shown is None or _weight(verdict) > _weight(self.shown):
            self.shown = verdict


def _weight(verdict: Verdict) -> tuple[int, bool]:
    return verdict.action.severity, verdict.deciding is not None


@dataclass(slots=True, kw_only=True)
class Visit:
    """One session of somebody with the mail server."""

    key: tuple[str, ...]
    process: str
    """Who has it there; empty where that is not known."""
    place: Place
    facts: Session
    client_port: str
    heard: float
    line: Line | None
    """The connection on which it was last asked about; None when that is closed."""
    number: int = -1
    """Of the last transaction, as the instance says."""
    transactions: int = 0
    connected: bool = False
    """Whether the connect was judged."""
    helo: str = ""
    """The name that was judged and let pass."""
    user: str = ""
    """The login that was judged and let pass."""
    refusal: str = ""
    """What every question about it is answered: the connect was refused."""
    verdicts: dict[Stage, Verdict] = field(default_factory=dict)
    """Of the connect, the last HELO and log-in."""
    transaction: Transaction | None = None

    @property
    def instance(self) -> str:
        """Of the message that is under way, as far as it is known."""
        return self.transaction.instance if self.transaction is not None else ""

    def is_of(self, client: ClientAddress, request: Request, instance: Instance | None) -> bool:
        """Whether a question is about this session."""
        if client != self.facts.client or request.client_port != self.client_port:
            return False
        if request.state is State.CONNECT and self.connected and not request.client_port:
            return False
        if instance is None:
            return not request.instance or not self.instance or request.instance == self.instance
        if self.process and instance.process != self.process:
            return False
        return instance.number > self.number or request.instance == self.instance

    def known(self, request: Request) -> str:
        """What a question was answered before; empty when it is a new one."""
        transaction = self.transaction
        if self.refusal or transaction is None:
            return self.refusal
        if transaction.refusal or self.place.is_last(request.state):
            return transaction.refusal or transaction.final
        named = transaction.recipients.get(request.recipient) if request.state is State.RCPT else None
        return named.action if named is not None else ""

    def note(self, event: Event, verdict: Verdict) -> None:
        """Keep a verdict that lets pass, or discards; that of a recipient is kept by `Visits.remember`."""
        stage, transaction = event.stage, self.transaction
        if stage in (Stage.CONNECT, Stage.HELO, Stage.AUTH):
            self.verdicts[stage] = verdict
            self.connected = self.connected or stage is Stage.CONNECT
            self.helo = event.session.helo if stage is Stage.HELO else self.helo
            self.user = event.session.user if stage is Stage.AUTH else self.user
        elif transaction is not None:
            transaction.carry(verdict)
            if stage is Stage.MAIL:
                transaction.mail = verdict
                for earlier in self.verdicts.values():
                    transaction.carry(earlier)
            discards = verdict.action is Action.DISCARD
            if discards and isinstance(event, Rcpt):
                transaction.discarded.add(event.recipient)
            transaction.doomed = transaction.doomed or (discards and not isinstance(event, Rcpt))

    def refused(self, event: Event, refusal: str) -> None:
        """Keep a refusal for whatever else is asked about it; a recipient's is kept by `Visits.remember`."""
        transaction = self.transaction
        if event.stage is Stage.CONNECT:
            self.connected, self.refusal = True, refusal
        elif transaction is not None and isinstance(event, Data):
            transaction.final = refusal
        elif transaction is not None and not isinstance(event, Rcpt):
            transaction.refusal = refusal
