"""Which session and which message a question is about, and what is over because of it. No I/O.

Postfix names transactions (`instance`), not sessions, and does not say when either is over. What can be told:

* One smtpd process has one session at a time, and its process id stands in `instance`. So a question with the same
  process, client address and port, and a higher number of the transaction, is about the same session; another one
  means that the session before is over. What was its last transaction has come to an end, or to nothing.
* Before MAIL was accepted `instance` is empty (rules of Postfix' client, helo and sender restrictions with
  ``smtpd_delay_reject = no``). Then the connection on which it asks and the client's address and port have to do.
* An `instance` of another form, of another server that asks, stands for a session of its own.

Whether a transaction has ended well is known where Postfix asks about the whole message, too. That is learned: once a
server (`Place`) has asked at END-OF-MESSAGE, or at least at DATA, a transaction of it that does not come that far has
come to nothing, and what it was charged is to be given back (`Over`).

Everything is bounded: `MAX_VISITS`, of which the one that was not heard of for longest is over first; `MAX_RECIPIENTS`
of a transaction and `MAX_REMEMBERED` of all are remembered; who is silent for `SESSION_SECONDS`, or for
`TRANSACTION_SECONDS` with a message under way, is over.

Bugs: a server that asks on two connections at once about one transaction is answered twice; tokens keep that from
being counted twice. Without `client_port` (Postfix before 3.0) two sessions of one client in one process, the first
without mail, are one.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from reputation.events import ClientAddress, Session
from reputation.verdict import Verdict
from smtp_frontend.policy_service.requests import Instance, Request, State
from smtp_frontend.policy_service.visit import Line, Named, Place, Transaction, Visit

MAX_VISITS = 20_000
MAX_RECIPIENTS = 1_000
"""Postfix takes as many of one message (smtpd_recipient_limit)."""
MAX_REMEMBERED = 20_000
"""A verdict that can be given back is some twenty objects, which the garbage collector goes through."""
MAX_PLACES = 256
SESSION_SECONDS = 330.0
"""Postfix waits 300 seconds for the next command (smtpd_timeout)."""
TRANSACTION_SECONDS = 1_800.0
"""A message may take its time to come in."""

_BY_LINE = "line"
"""The kind of key of a session that is known by its connection only."""


class Over(NamedTuple):
    """What has come to an end: what is to be given back, and the session when that is over as well."""

    charged: tuple[Verdict, ...]
    session: Session | None


class Visits:
    """All sessions that one process is asked about.

    `new_id` makes names of sessions. `alone` says that no other process answers on the same addresses; otherwise the
    rest of a transaction could be asked there, once its connection to us is closed, and nothing of it is given back.
    """

    def __init__(self, new_id: Callable[[], str], *, alone: bool = True, most: int = MAX_VISITS) -> None:
        self._new_id = new_id
        self._alone = alone
        self._most = most
        self._visits: dict[tuple[str, ...], Visit] = {}
        self._places: dict[tuple[str, str, str], Place] = {}
        self.remembered = 0
        """Recipients of all transactions that are kept now."""

    def __len__(self) -> int:
        return len(self._visits)

    def of(self, client: ClientAddress, request: Request, line: Line, now: float) -> tuple[Visit, list[Over]]:
        """The session that a question is about, and what is over because of it. `now` is monotonic, in seconds."""
        over: list[Over] = []
        instance = Instance.parse(request.instance)
        key = _key(request, instance, line)
        visit = self._by_key(client, request, instance, key, over) or self._by_line(
            client, request, instance, line, over
        )
        if visit is None:
            visit = self._begun(client, request, line, now)
        self._visits.pop(visit.key, None)
        if key is not None:
            visit.key, visit.process = key, instance.process if instance is not None else ""
        self._visits[visit.key] = visit  # the last one is the one that was heard of last
        visit.heard, visit.line, line.visit = now, line, visit
        visit.place.seen(request.state)
        if len(self._visits) > self._most:
            over.append(self.end(next(iter(self._visits.values()))))
        return visit, over

    def _by_key(
        self,
        client: ClientAddress,
        request: Request,
        instance: Instance | None,
        key: tuple[str, ...] | None,
        over: list[Over],
    ) -> Visit | None:
        """The session of the process, or of the instance; another one that it had is over."""
        visit = self._visits.get(key) if key is not None else None
        if visit is None or visit.is_of(client, request, instance):
            return visit
        over.append(self.end(visit))
        return None

    def _by_line(
        self, client: ClientAddress, request: Request, instance: Instance | None, line: Line, over: list[Over]
    ) -> Visit | None:
        """The session that was asked about last on this connection, where nothing else tells."""
        last = line.visit
        if last is None:
            return None
        has_name = last.key[0] != _BY_LINE
        if has_name and request.instance:
            return None
        if last.is_of(client, request, instance):
            return last
        if not has_name:
            over.append(self.end(last))
        return None

    def _begun(self, client: ClientAddress, request: Request, line: Line, now: float) -> Visit:
        id = self._new_id()
        return Visit(
            key=(_BY_LINE, id),
            process="",
            place=self._place(request, line),
            facts=Session(id=id, client=client, has_end=False),
            client_port=request.client_port,
            heard=now,
            line=line,
        )

    def _place(self, request: Request, line: Line) -> Place:
        key = line.host, request.server_address, request.server_port
        place = self._places.get(key)
        if place is None:
            if len(self._places) >= MAX_PLACES:
                self._places.clear()
            place = self._places[key] = Place()
        return place

    def transaction(self, visit: Visit, request: Request) -> tuple[Transaction, Over | None]:
        """The transaction that a question of a stage from MAIL on is about, and the one before when it is over."""
        current, over = visit.transaction, None
        if current is None or not _is_same(current, request):
            over = self._given_up(visit)
            visit.transactions += 1
            current = Transaction(instance="", number=visit.transactions, sender=request.sender)
            visit.transaction = current
        if request.state is not State.MAIL and not current.instance:
            current.instance = request.instance
            instance = Instance.parse(request.instance)
            visit.number = instance.number if instance is not None else visit.number
        return current, over

    def remember(self, transaction: Transaction, recipient: str, named: Named) -> None:
        """Keep what was decided about a recipient, if there is room; what is not kept is not given back."""
        is_new = recipient not in transaction.recipients
        if is_new and (len(transaction.recipients) >= MAX_RECIPIENTS or self.remembered >= MAX_REMEMBERED):
            return
        self.remembered += is_new
        transaction.recipients[recipient] = named

    def forget(self, transaction: Transaction) -> None:
        """Nothing of a transaction is given back any more: it has passed, or that was done."""
        self.remembered -= len(transaction.recipients)
        transaction.recipients, transaction.settled = {}, True

    def _given_up(self, visit: Visit) -> Over | None:
        """The last transaction of a session is over, however it ended."""
        transaction, visit.transaction = visit.transaction, None
        if transaction is None:
            return None
        charged = transaction.charged() if self._comes_to_nothing(visit, transaction) else ()
        self.forget(transaction)
        return Over(charged, None) if charged else None

    def _comes_to_nothing(self, visit: Visit, transaction: Transaction) -> bool:
        if transaction.settled or visit.place.final is None:
            return False
        return self._alone or visit.line is not None

    def end(self, visit: Visit) -> Over:
        """A session is over."""
        if self._visits.get(visit.key) is visit:
            del self._visits[visit.key]
        if visit.line is not None and visit.line.visit is visit:
            visit.line.visit = None
        given_up = self._given_up(visit)
        return Over(given_up.charged if given_up is not None else (), visit.facts if visit.connected else None)

    def silent(self, now: float) -> Iterator[Over]:
        """End the sessions that were not heard of for too long."""
        for visit in [each for each in self._visits.values() if now - each.heard > _patience(each)]:
            yield self.end(visit)

    def closed(self, line: Line) -> None:
        """A connection is closed; the session may go on with another."""
        if line.visit is not None and line.visit.line is line:
            line.visit.line = None
        line.visit = None


def _key(request: Request, instance: Instance | None, line: Line) -> tuple[str, ...] | None:
    """What tells a session apart, None where nothing but the connection does."""
    if instance is not None:
        return "process", line.host, instance.process
    return ("instance", line.host, request.instance) if request.instance else None


def _is_same(current: Transaction, request: Request) -> bool:
    """Whether a question is about this transaction."""
    if request.state is State.MAIL:
        return False  # a new one begins, which has no name yet
    if request.instance and current.instance:
        return request.instance == current.instance
    return request.sender == current.sender and not current.final


def _patience(visit: Visit) -> float:
    transaction = visit.transaction
    under_way = transaction is not None and not transaction.settled
    return TRANSACTION_SECONDS if under_way else SESSION_SECONDS
