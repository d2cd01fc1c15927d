"""Steps: what a replay carries out, one after the other, in order of time.

A message is told of by many lines, and who sent it may come after its first line by minutes. So everything waits here
until nothing older can come: no longer than `HORIZON_SECONDS` of the log's time, and no more than `MAX_WAITING`
messages.
"""

import heapq
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from reputation.events import Auth, Connect, Data, Disconnect, Helo, Mail, Rcpt, Session
from reputation.replay.records import Fate, Turned
from reputation.windows import MICROSECONDS

HORIZON_SECONDS = 600
"""How long the lines of a message are waited for. Then it is judged with what is known of it."""
HORIZON_US = HORIZON_SECONDS * MICROSECONDS
DISORDER_US = MICROSECONDS
"""Lines of one second may stand in any order."""
MAX_WAITING = 200_000


class Message:
    """A transaction of the log, from its first line to the last, and what became of it."""

    __slots__ = (
        "at_us",
        "before",
        "delivered",
        "denied",
        "emitted",
        "fates",
        "given_back_us",
        "id",
        "last_us",
        "named",
        "number",
        "queued_us",
        "recipients",
        "sender",
        "session",
        "size",
        "turned",
        "wanted",
    )

    def __init__(self, session: Session, at_us: int, number: int, id: str = "", sender: str | None = None) -> None:
        self.session = session
        self.at_us = self.last_us = at_us
        self.number = number
        self.id = id
        self.sender = sender
        self.size = 0
        self.wanted = 0
        """How many recipients a delivery will be tried to, 0 while that is not known; in our own log, how many the
        policy of then let pass."""
        self.queued_us = 0
        """When it had come in whole; 0 when it never did."""
        self.recipients: list[tuple[int, str]] = []
        """Those that the server took, and when."""
        self.named: set[str] = set()
        self.turned: list[tuple[int, str, Turned]] = []
        """Recipients that it refused."""
        self.fates: dict[str, Fate] = {}
        self.before: Message | None = None
        """Refusals just before, perhaps of the same transaction."""
        self.denied = False
        """Whether the policy of then ended it (our own log)."""
        self.given_back_us = 0
        """When it came to nothing, so that it is given back; 0 when it did not."""
        self.delivered = False
        self.emitted = False
        """Whether its steps have been made."""

    def arrived(self, at_us: int, sender: str, size: int, wanted: int) -> None:
        """The message has come in whole."""
        self.queued_us, self.sender, self.size, self.wanted = at_us, sender, size, wanted

    def name(self, recipient: str, at_us: int) -> None:
        """A recipient that the server took; each counts once."""
        if recipient not in self.named:
            self.named.add(recipient)
            self.recipients.append((at_us, recipient))


class Judge(NamedTuple):
    """An event to be judged."""

    event: Connect | Helo | Mail | Rcpt | Data | Disconnect
    message: Message | None = None
    turned: Turned | None = None
    """What the logged server said to this recipient, if it refused it."""


class LogIn(NamedTuple):
    """A log-in; one that failed is learned."""

    event: Auth


class GivenBack(NamedTuple):
    """The message came to nothing."""

    message: Message


class Bounced(NamedTuple):
    """A copy of the message could not be delivered, ever."""

    message: Message


class Over(NamedTuple):
    """Nothing more will be heard of the message; `Message.delivered` is final."""

    message: Message


Step = Judge | LogIn | GivenBack | Bounced | Over


class Timed(NamedTuple):
    """A step and when it takes place. Of equal times those of the message that began first, and its outcome last."""

    at_us: int
    number: int
    rank: int
    position: int
    step: Step


_RANKS = {Judge: 0, LogIn: 0, GivenBack: 1, Bounced: 1, Over: 2}
assert _RANKS.keys() == set(Step.__args__)


class Waiting:
    """Steps, and messages whose steps have not been made yet, until they are old enough."""

    def __init__(self) -> None:
        self._steps: list[Timed] = []
        self._messages: deque[Message] = deque()
        self._latest_us = 0
        self._told_us = 0
        self._number = 0
        self._position = 0
        self.without_sender = 0
        """Transactions that never came to a message, and of which nobody knows the sender."""
        self.hurried = 0
        """Messages that were judged before everything was known about them, because too many were waiting."""

    @property
    def latest_us(self) -> int:
        """The latest time that was seen."""
        return self._latest_us

    def next_number(self) -> int:
        """A place in the order of what happens at the same time."""
        self._number += 1
        return self._number

    def put(self, at_us: int, step: Step, number: int | None = None) -> None:
        """Let a step wait."""
        self._position += 1
        number = self.next_number() if number is None else number
        heapq.heappush(self._steps, Timed(at_us, number, _RANKS[type(step)], self._position, step))

    def open(self, message: Message) -> None:
        """Let a message wait until `emit` or its time."""
        self._messages.append(message)
        if len(self._messages) > MAX_WAITING:
            self.hurried += not self._messages[0].emitted
            self._give_up(self._messages.popleft())

    def _give_up(self, message: Message) -> None:
        """Make do with what is known of a message."""
        if not message.emitted and not message.queued_us and not message.denied:
            message.given_back_us = message.last_us
        self.emit(message)

    def emit(self, message: Message) -> None:
        """Make the steps of a message."""
        if message.emitted:
            return
        message.emitted = True
        sender = message.sender
        if sender is None:
            self.without_sender += 1
            return
        session, number = message.session, message.number
        self.put(message.at_us, Judge(Mail(session=session, sender=sender), message), number)
        for at_us, recipient, turned in message.turned:
            self.put(at_us, Judge(_rcpt(message, recipient), message, turned), number)
        for at_us, recipient in message.recipients:
            self.put(at_us, Judge(_rcpt(message, recipient), message), number)
        if message.queued_us:
            named = tuple(recipient for _, recipient in message.recipients)
            event = Data(session=session, sender=sender, recipients=named, message_bytes=message.size)
            self.put(message.queued_us, Judge(event, message), number)
        if message.given_back_us:
            self.put(message.given_back_us, GivenBack(message), number)
            self.put(message.given_back_us, Over(message), number)

    def due(self, at_us: int) -> Iterator[Timed]:
        """The steps that nothing can come before any more, now that the log has come to this time."""
        self._latest_us = max(at_us, self._latest_us)
        if self._latest_us < self._told_us + MICROSECONDS:
            return
        self._told_us = self._latest_us
        oldest = self._latest_us - HORIZON_US
        messages = self._messages
        while messages and (messages[0].emitted or messages[0].at_us < oldest):
            self._give_up(messages.popleft())
        until = self._latest_us - DISORDER_US
        if messages:
            until = min(until, messages[0].at_us - 1)
        while self._steps and self._steps[0].at_us <= until:
            yield heapq.heappop(self._steps)

    def rest(self) -> Iterator[Timed]:
        """Everything that is left: the log ends here."""
        while self._messages:
            self._give_up(self._messages.popleft())
        while self._steps:
            yield heapq.heappop(self._steps)


def _rcpt(message: Message, recipient: str) -> Rcpt:
    assert message.sender is not None
    return Rcpt(session=message.session, sender=message.sender, recipient=recipient)
