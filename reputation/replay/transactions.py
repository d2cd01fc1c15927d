"""The lines of our own log into steps. They tell each stage by itself, so little has to be guessed.

The log's own policy does not count: what it refused is an attempt like others, and is judged. Only the rest of a
transaction that it ended is missing, because the client never got that far; what the attempt was charged stays. Any
other that came to nothing (the next hop refused it, or the client gave it up) is given back, as the front end did. When
a client gave up is not in the log: right after its last line, for what is known.
"""

from reputation.events import Auth, Connect, Session, Stage
from reputation.replay.records import Finished, Judged
from reputation.replay.steps import Judge, LogIn, Message, Over, Waiting

MAX_SESSIONS = 100_000


class OwnSession:
    """A session as far as its lines have told."""

    __slots__ = ("message", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.message: Message | None = None
        """The transaction that is under way."""


class OwnSessions:
    """The sessions of our own log. Their ends are not in it, so the oldest are forgotten when there are too many."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._sessions: dict[str, OwnSession] = {}

    def judged(self, record: Judged) -> None:
        """Take a verdict line."""
        own = self._sessions.get(record.place) or self._begun(record)
        own.session = _known_better(own.session, record)
        message = own.message
        match record.stage:
            case Stage.AUTH:
                success = bool(record.user)
                self._waiting.put(record.at_us, LogIn(Auth(session=own.session, login=record.user, success=success)))
            case Stage.MAIL:
                self._end(own)
                message = Message(own.session, record.at_us, self._waiting.next_number(), sender=record.sender)
                own.message, message.denied = message, record.denied
                self._waiting.open(message)
                if record.denied:
                    self._end(own)
            case Stage.RCPT if message is not None:
                message.recipients.append((record.at_us, record.recipient))
                message.wanted += not record.denied
            case Stage.DATA if message is not None:
                message.queued_us, message.size, message.denied = record.at_us, record.size, record.denied
        if message is not None:
            message.last_us = record.at_us

    def _begun(self, record: Judged) -> OwnSession:
        own = OwnSession(Session(id=record.place, client=record.client))
        self._sessions[record.place] = own
        self._waiting.put(record.at_us, Judge(Connect(session=own.session)))
        if len(self._sessions) > MAX_SESSIONS:
            self._end(self._sessions.pop(next(iter(self._sessions))))
        return own

    def finished(self, record: Finished) -> None:
        """Take a message line."""
        own = self._sessions.get(record.place)
        if own is not None and own.message is not None:
            message = own.message
            message.last_us, message.delivered = record.at_us, record.result in {"delivered", "passed"}
            self._end(own, is_settled=record.result in {"delivered", "passed", "discarded"})

    def end(self) -> None:
        """The log is over."""
        for own in self._sessions.values():
            self._end(own)

    def _end(self, own: OwnSession, *, is_settled: bool = False) -> None:
        message, own.message = own.message, None
        if message is None:
            return
        message.denied = message.denied or bool(message.recipients and not message.wanted)
        if not is_settled and not message.denied and not message.emitted:
            message.given_back_us = message.last_us
        self._waiting.emit(message)
        if not message.given_back_us:
            self._waiting.put(message.last_us, Over(message), message.number)


def _known_better(session: Session, record: Judged) -> Session:
    if record.user == session.user:
        return session
    return Session(id=session.id, client=session.client, user=record.user)
