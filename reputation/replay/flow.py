"""Records into steps: which lines belong together, and what was meant by them.

A session is what one process of the server does from "connect" to "disconnect"; a client that speaks for others
(XCLIENT) begins another one. A message is known by its queue id. What was refused before there was an id is kept with
the session, and becomes a part of the message when the same sender's comes next.

Mail that comes back from a content filter has a client in `skip`, loopback if nothing else is said, and is not counted
twice. Three cases:

* the log names its earlier id (Postfix' ``orig_queue_id``): what becomes of it goes to the first message's account;
* it names the earlier client only (a filter before the queue): it is that client's message;
* neither: it is passed over, unless somebody has logged in, because that is a webmail of this machine.

Bugs: sent to a content filter counts as delivered. Recipients are those that the log names, so a copy for an archive
counts too. What a message's ``nrcpt`` says beyond that is not made up.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from itertools import count

from reputation.events import Auth, ClientAddress, Connect, Disconnect, Helo, Session
from reputation.replay.clients import LOOPBACK, Connection, Skipping
from reputation.replay.records import (
    Connected,
    Expired,
    Fate,
    Finished,
    Judged,
    Left,
    LoginFailed,
    Queued,
    Record,
    Refused,
    Removed,
    Secured,
    Taken,
    Turned,
    Went,
)
from reputation.replay.steps import Bounced, Judge, LogIn, Message, Over, Timed, Waiting
from reputation.replay.transactions import OwnSessions

MAX_SESSIONS = 100_000
MAX_MESSAGES = 200_000
"""Messages in the queue of the logged server that are remembered until it has got rid of them."""


class Flow:
    """Takes records, gives steps."""

    def __init__(self, skip: Sequence[IPv4Network | IPv6Network] = LOOPBACK) -> None:
        self.waiting = Waiting()
        self.connections = 0
        self.disconnects = 0
        self.passed_over = 0
        """Messages without an address, or from a client in `skip`."""
        self._skipping = Skipping(skip)
        self._own = OwnSessions(self.waiting)
        self._places: dict[str, Connection] = {}
        self._messages: dict[str, Message] = {}
        self._session_numbers = count(1)
        self._handlers: Mapping[type, Callable[..., None]] = {
            Connected: self._connected,
            Secured: self._secured,
            Left: self._left,
            LoginFailed: self._login_failed,
            Taken: self._taken,
            Queued: self._queued,
            Refused: self._refused,
            Went: self._went,
            Expired: self._expired,
            Removed: self._removed,
            Judged: self._own.judged,
            Finished: self._own.finished,
        }

    def steps(self, records: Iterable[Record]) -> Iterator[Timed]:
        """All steps of all records."""
        for record in records:
            self._handlers[type(record)](record)
            yield from self.waiting.due(record.at_us)
        latest = self.waiting.latest_us
        for place in list(self._places):
            self._left(Left(latest, place), is_end=True)
        self._own.end()
        while self._messages:
            self._forget_oldest()
        yield from self.waiting.rest()

    # Sessions

    def _connected(self, record: Connected) -> None:
        if record.place in self._places:
            self._left(Left(record.at_us, record.place))
        client = record.client
        session = None if client is None else Session(id=self._session_id(record.place), client=client)
        connection = self._places[record.place] = Connection(session)
        if session is not None and not self._skipping.covers(session.client):
            self._announce(connection, session, record.at_us)
        self._bound_places(record.at_us)

    def _bound_places(self, at_us: int) -> None:
        if len(self._places) > MAX_SESSIONS:
            self._left(Left(at_us, next(iter(self._places))))

    def _session_id(self, place: str) -> str:
        return f"{place}#{next(self._session_numbers)}"

    def _announce(self, connection: Connection, session: Session, at_us: int) -> None:
        connection.announced = True
        self.connections += 1
        self.waiting.put(at_us, Judge(Connect(session=session)))

    def _secured(self, record: Secured) -> None:
        connection = self._places.get(record.place)
        if connection is not None and connection.session is not None:
            connection.session = replace(connection.session, tls=True)

    def _left(self, record: Left, *, is_end: bool = False) -> None:
        connection = self._places.pop(record.place, None)
        if connection is None:
            return
        self._end_pending(connection)
        if connection.announced and connection.session is not None:
            self.disconnects += not is_end
            self.waiting.put(record.at_us, Judge(Disconnect(session=connection.session)))

    def _end_pending(self, connection: Connection) -> None:
        if connection.pending is not None:
            self._come_to_nothing(connection.pending)
            connection.pending = None

    def _come_to_nothing(self, message: Message) -> None:
        message.given_back_us = message.last_us
        self.waiting.emit(message)

    def _connection(self, place: str, client: ClientAddress, at_us: int) -> tuple[Connection, Session]:
        """The session of a client at a place, which is a new one when the place had another client."""
        connection = self._places.get(place)
        if connection is not None and connection.session is not None and connection.session.client == client:
            return connection, connection.session
        is_spoken_for = connection is not None
        if is_spoken_for:
            self._left(Left(at_us, place))
        session = Session(id=self._session_id(place), client=client)
        connection = self._places[place] = Connection(session)
        self._bound_places(at_us)
        if is_spoken_for and not self._skipping.covers(client):
            self._announce(connection, session, at_us)
        return connection, session

    def _login_failed(self, record: LoginFailed) -> None:
        if record.client is not None:
            _, session = self._connection(record.place, record.client, record.at_us)
            self.waiting.put(record.at_us, LogIn(Auth(session=session, login=record.login, success=False)))

    def _known_better(self, connection: Connection, record: Taken | Refused, session: Session) -> Session:
        """The session with what a line about a message says of it. A name and a log-in that are new are events."""
        tls = session.tls or (isinstance(record, Taken) and record.tls)
        if record.helo and record.helo != session.helo:
            session = replace(session, helo=record.helo, tls=tls)
            self.waiting.put(record.at_us, Judge(Helo(session=session)))
        if record.user and record.user != session.user:
            session = replace(session, user=record.user, tls=tls)
            self.waiting.put(record.at_us, LogIn(Auth(session=session, login=record.user, success=True)))
        if tls != session.tls:
            session = replace(session, tls=tls)
        connection.session = session
        return session

    # Messages

    def _taken(self, record: Taken) -> None:
        first = self._messages.get(record.earlier_id) if record.earlier_id else None
        if first is not None:
            self._remember(record.id, first)
            return
        client, place = record.client, record.place
        if record.earlier_client is not None:
            client, place = record.earlier_client, record.id
        if client is None or (self._skipping.covers(client) and not record.user):
            self.passed_over += 1
            return
        connection, session = self._connection(place, client, record.at_us)
        session = self._known_better(connection, record, session)
        message = Message(session, record.at_us, self.waiting.next_number(), record.id)
        message.before, connection.pending = connection.pending, None
        self._remember(record.id, message)
        self.waiting.open(message)
        if record.sender is not None:
            self._arrived(message, record, record.sender)

    def _arrived(self, message: Message, record: Taken, sender: str) -> None:
        """Exim takes a message over when it has come in whole."""
        message = self._whole(message, sender)
        message.arrived(record.at_us, sender, record.size, len(record.recipients))
        for recipient in record.recipients:
            message.name(recipient, record.at_us)
        if record.recipients:
            self.waiting.emit(message)

    def _remember(self, id: str, message: Message) -> None:
        """Know a message by an id, which may have been another's before."""
        former = self._messages.pop(id, None)
        if former is not None and former.id == id:
            self._over(former, message.at_us)
        self._messages[id] = message
        if len(self._messages) > MAX_MESSAGES:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        id = next(iter(self._messages))
        message = self._messages.pop(id)
        if message.id == id:
            self._over(message, self.waiting.latest_us)

    def _over(self, message: Message, at_us: int) -> None:
        """Nothing more is waited for."""
        if not message.emitted and not message.queued_us:
            message.given_back_us = message.last_us
        self.waiting.emit(message)
        if not message.given_back_us and message.sender is not None:
            self.waiting.put(at_us, Over(message), message.number)

    def _queued(self, record: Queued) -> None:
        message = self._messages.get(record.id)
        if message is not None and not message.queued_us and not message.emitted:
            message = self._whole(message, record.sender)
            message.arrived(record.at_us, record.sender, record.size, record.recipients)

    def _whole(self, message: Message, sender: str) -> Message:
        """The message with the refusals before it, if they were its sender's; it then began with the first of them."""
        before, message.before = message.before, None
        if before is None or before.emitted:
            return message
        if before.sender != sender:
            self._come_to_nothing(before)
            return message
        before.session, before.id = message.session, message.id
        before.turned += message.turned
        message.emitted = True  # nobody waits for it any more
        self._messages[message.id] = before
        return before

    def _refused(self, record: Refused) -> None:
        message = self._messages.get(record.id) if record.id else None
        if message is not None:
            self._refused_in(message, record)
        elif not record.id and record.client is not None and record.sender is not None:
            self._refused_before(record, record.client, record.sender)

    def _refused_in(self, message: Message, record: Refused) -> None:
        """Something of a message that had an id."""
        message.last_us = record.at_us
        if record.what is Turned.MESSAGE:
            if record.sender is not None:
                message = self._whole(message, record.sender)
                message.sender = record.sender
            self._messages.pop(message.id, None)
            message.last_us = record.at_us
            if not message.emitted:
                self._come_to_nothing(message)
        elif not message.emitted:
            message.turned.append((record.at_us, record.recipient, record.what))
            message.sender = record.sender if message.sender is None else message.sender

    def _refused_before(self, record: Refused, client: ClientAddress, sender: str) -> None:
        """Something of a message that had none."""
        if self._skipping.covers(client) and not record.user:
            self.passed_over += 1
            return
        connection, session = self._connection(record.place, client, record.at_us)
        session = self._known_better(connection, record, session)
        pending = connection.pending
        if pending is None or pending.emitted or pending.sender != sender:
            self._end_pending(connection)
            pending = Message(session, record.at_us, self.waiting.next_number(), sender=sender)
            connection.pending = pending
            self.waiting.open(pending)
        pending.last_us = record.at_us
        if record.recipient:
            pending.turned.append((record.at_us, record.recipient, record.what))
        else:
            self._end_pending(connection)

    # What became of them

    def _went(self, record: Went) -> None:
        message = self._messages.get(record.id)
        if message is None:
            return
        if not message.emitted:
            message.name(record.recipient, message.at_us)
        if record.fate is Fate.SENT:
            message.delivered = True
        elif record.fate is Fate.BOUNCED and message.fates.get(record.address) is not Fate.BOUNCED:
            self.waiting.put(record.at_us, Bounced(message), message.number)
        message.fates[record.address] = record.fate
        if not message.emitted and message.queued_us and len(message.fates) >= message.wanted > 0:
            self.waiting.emit(message)

    def _expired(self, record: Expired) -> None:
        message = self._messages.get(record.id)
        if message is not None and Fate.DEFERRED in message.fates.values():
            self.waiting.put(record.at_us, Bounced(message), message.number)

    def _removed(self, record: Removed) -> None:
        message = self._messages.pop(record.id, None)
        if message is not None and message.id == record.id:
            self._over(message, record.at_us)
