"""The policy service: what Postfix asks at `check_policy_service` is judged and answered.

    question -> visit, transaction -> events that are due -> engine's verdicts -> (held back) -> action

Every question is answered within `deadline_seconds`, whatever happens: when the time is up, when something of ours
breaks, or when Postfix does not know the client's address, the answer is the setting `on_trouble`. Then nothing is
remembered, and what was counted by then stays counted; asked again it is not counted twice. A connection on which
something else comes than questions is closed, with a line in the log; Postfix then does what its default action says.

What is charged, and given back
-------------------------------
Messages are charged at the first question about them, recipients at theirs, sizes at END-OF-MESSAGE (or DATA, where
the server asks no later). A message that passes END-OF-MESSAGE is settled. One that is refused there, or discarded, or
of which nothing more is heard (`visits`), was charged in vain and that is given back; but only to servers that are
known to ask at END-OF-MESSAGE. A recipient that we have let pass and Postfix has not is given back when the message
has just one recipient left.

When the process ends in between, what it knew of messages under way is lost: their charges stay, and age out with
their windows. The question about the whole message, which then goes to somebody who knows nothing of it, counts its
size and nothing twice.

Bugs: a recipient that Postfix refuses after us (unknown, say) stays charged if there are several others, and nothing
is learned of it; so put us below `reject_unlisted_recipient`. Postfix discards a message for all its recipients or for
none: if only some are to be discarded, all get it, and so they do where it does not ask when the message has come.
A PREPEND is not possible at END-OF-MESSAGE, so tags of rules of stage data are in the log only. Nobody says when a
session is over, so rules that count `concurrent` ones do not apply here; its end is judged when the same smtpd process
has another one, or nothing was heard for five minutes. What Postfix' cleanup or a milter refuses afterwards has passed
for us. A server that hangs up while its question is held back keeps a place among the sleepers until the delay is over:
Exim closes its sending side too, and waits all the same.
"""

import asyncio
import logging
import secrets
import socket
from collections.abc import Sequence

from reputation.engine import Engine
from reputation.events import ClientAddress, Data, Disconnect, Event, Rcpt
from reputation.front_end_settings import PolicyServiceSettings
from reputation.verdict import Verdict
from smtp_frontend import maillog
from smtp_frontend.policy_service import answers
from smtp_frontend.policy_service.connection import Connection
from smtp_frontend.policy_service.due import due
from smtp_frontend.policy_service.judging import Patience, judged
from smtp_frontend.policy_service.protocol import encoded
from smtp_frontend.policy_service.requests import IN_TRANSACTION, Request, State
from smtp_frontend.policy_service.visit import Named, Transaction, Visit
from smtp_frontend.policy_service.visits import Over, Visits
from smtp_frontend.sleepers import Sleepers

BACKLOG = 4_096
"""As that of `smtp_frontend.listeners`, which has bound the sockets: asyncio says listen() once more."""
SWEEP_SECONDS = 10.0
MAX_SILENCE_SECONDS = 1_500.0
"""Postfix closes a connection after 1,000 seconds (smtpd_policy_service_max_ttl)."""

log = logging.getLogger("reputon.policy")


class PolicyService:
    """The policy service of one process. `alone` says that no other process answers on the same addresses."""

    def __init__(
        self,
        engine: Engine,
        settings: PolicyServiceSettings,
        sleepers: Sleepers,
        *,
        alone: bool = True,
    ) -> None:
        self._engine, self._settings, self._sleepers = engine, settings, sleepers
        self._visits = Visits(lambda: secrets.token_hex(6), alone=alone)
        self._deadline_seconds = settings.deadline_seconds
        self._trouble = answers.TROUBLE[settings.on_trouble]
        self._listeners: list[asyncio.Server] = []
        self._sweeper: asyncio.Task[None] | None = None
        self._late = self._turned_away = 0
        self.connections: set[Connection] = set()
        self.draining = False

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Answer on sockets that are bound and listen already: TCP, or unix."""
        loop = asyncio.get_running_loop()
        for each in sockets:
            self._listeners.append(await loop.create_server(self._connection, sock=each, backlog=BACKLOG))
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep(), name="policy service: sweep")

    async def close(self, drain_seconds: float) -> None:
        """Stop listening, answer what is being answered for `drain_seconds`, then end what is left."""
        self.draining = True
        for listener in self._listeners:
            listener.close()
        for connection in list(self.connections):
            connection.stop()
        tasks = [each.task for each in self.connections if each.task is not None]
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=drain_seconds)
            for connection in list(self.connections):
                connection.abort()
            await asyncio.gather(*left, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    # Connections

    def _connection(self) -> Connection:
        return Connection(self._answered, self._opened, self._closed)

    def _opened(self, connection: Connection) -> bool:
        if self.draining or len(self.connections) >= self._settings.max_connections:
            self._turned_away += not self.draining
            return False
        self.connections.add(connection)
        self._engine.metrics.policy_connections.set(len(self.connections))
        return True

    def _closed(self, connection: Connection, problem: str) -> None:
        self.connections.discard(connection)
        self._visits.closed(connection.line)
        self._engine.metrics.policy_connections.set(len(self.connections))
        if problem:
            log.warning("connection of %s is closed: it sent %s", connection.line.host or "a socket", problem)
            self._engine.metrics.policy_answered("broken")

    async def _sweep(self) -> None:
        """Now and then, end what is silent, and tell of what would fill the log if it were told each time."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            try:
                await self._swept(asyncio.get_running_loop().time())
            except Exception:  # the top of a job that must not end: sessions would stay for ever
                log.exception("error while ending silent sessions")
                self._engine.metrics.errors.inc()

    async def _swept(self, now: float) -> None:
        if self._late or self._turned_away:
            words = "%d answers were not ready in time, %d connections too many were closed"
            log.warning(words, self._late, self._turned_away)
            self._late = self._turned_away = 0
        for connection in list(self.connections):
            if not connection.busy and now - connection.heard > MAX_SILENCE_SECONDS:
                connection.stop()
        for over in list(self._visits.silent(now)):
            await self._end(over)

    # A question

    async def _answered(self, request: Request, connection: Connection) -> bytes:
        """The answer to a question, within the deadline; raises nothing but cancellation."""
        try:
            async with asyncio.timeout(self._deadline_seconds):
                action = await self._action(request, connection)
            answer = encoded(action)
        except TimeoutError:
            self._late += 1
            action, answer = self._troubled(request, connection)
        except Exception:  # the top of a question: whatever it is, Postfix gets an answer and the log has the trace
            log.exception("error in a question about %s", request.instance or request.attributes.get("client_address"))
            self._engine.metrics.errors.inc()
            action, answer = self._troubled(request, connection)
        self._engine.metrics.policy_answered(_kind(action))
        return answer

    def _troubled(self, request: Request, connection: Connection) -> tuple[str, bytes]:
        """What is answered when we cannot tell. A message that passes by it is not given back."""
        visit = connection.line.visit
        transaction = visit.transaction if visit is not None else None
        is_last = visit is not None and visit.place.is_last(request.state)
        if transaction is not None and is_last and self._trouble == answers.DUNNO:
            self._visits.forget(transaction)
        return self._trouble, encoded(self._trouble)

    async def _action(self, request: Request, connection: Connection) -> str:
        client, state = request.client, request.state
        if state is None:
            return answers.DUNNO
        if client is None:
            return self._trouble
        visit, transaction = await self._found(client, request, connection)
        if known := visit.known(request):
            return known
        patience = Patience(self._deadline_seconds, connection.hurry, request.queue_id)
        verdict = None
        for event in due(request, visit, transaction):
            verdict = await judged(self._engine, self._sleepers, event, patience)
            if refusal := answers.refusal(event.stage, verdict, state):
                await self._refused(event, refusal, visit, transaction, request)
                return refusal
            visit.note(event, verdict)
            if transaction is not None and isinstance(event, Rcpt):
                self._visits.remember(transaction, event.recipient, Named(verdict, answers.DUNNO))
        if transaction is None:
            return answers.DUNNO
        if visit.place.is_last(state):
            return await self._ended(visit, transaction, verdict, request)
        return await self._passed(visit, transaction, request)

    async def _found(
        self, client: ClientAddress, request: Request, connection: Connection
    ) -> tuple[Visit, Transaction | None]:
        """The session and the transaction that a question is about; what is over because of it is ended first."""
        visit, over = self._visits.of(client, request, connection.line, asyncio.get_running_loop().time())
        transaction = None
        if request.state in IN_TRANSACTION:
            transaction, before = self._visits.transaction(visit, request)
            if before is not None:
                over.append(before)
        for each in over:
            await self._end(each)
        return visit, transaction

    async def _end(self, over: Over) -> None:
        if over.charged:
            await self._engine.refund(*over.charged)
        if over.session is not None:
            await self._engine.judge(Disconnect(session=over.session))

    async def _refused(
        self, event: Event, refusal: str, visit: Visit, transaction: Transaction | None, request: Request
    ) -> None:
        visit.refused(event, refusal)
        if transaction is not None and isinstance(event, Rcpt):
            self._visits.remember(transaction, event.recipient, Named(None, refusal))
        elif transaction is not None and isinstance(event, Data):
            self._log(visit, transaction, request, "refused", refusal)
            await self._give_back(transaction)

    async def _passed(self, visit: Visit, transaction: Transaction, request: Request) -> str:
        """The answer about a sender or a recipient that nobody has refused."""
        if transaction.doomed:
            transaction.refusal = answers.DISCARD  # Postfix asks no more; somebody else may
            return await self._discarded(visit, transaction, request)
        return self._told(visit, transaction)

    async def _ended(self, visit: Visit, transaction: Transaction, verdict: Verdict | None, request: Request) -> str:
        """The answer about a message that nobody has refused: it has passed, or is discarded."""
        if transaction.discards:
            transaction.final = answers.DISCARD
            return await self._discarded(visit, transaction, request, *(() if verdict is None else (verdict,)))
        transaction.final = answers.DUNNO
        self._log(visit, transaction, request, "passed", "")
        refused = _refused_by_others(transaction, request)
        self._visits.forget(transaction)
        if refused:
            await self._engine.refund(*refused)
        return answers.DUNNO if request.state is State.END_OF_MESSAGE else self._told(visit, transaction)

    async def _discarded(self, visit: Visit, transaction: Transaction, request: Request, *more: Verdict) -> str:
        self._log(visit, transaction, request, "discarded", "")
        await self._give_back(transaction, *more)
        return answers.DISCARD

    async def _give_back(self, transaction: Transaction, *more: Verdict) -> None:
        """Nothing has come of a message."""
        charged = (*transaction.charged(), *more)
        self._visits.forget(transaction)
        await self._engine.refund(*charged)

    def _told(self, visit: Visit, transaction: Transaction) -> str:
        """DUNNO, or our field where there is something new to be told by it."""
        if transaction.told or transaction.shown is None or not self._settings.prepend:
            return answers.DUNNO
        transaction.told = True
        is_users = bool(visit.facts.user)
        words = transaction.shown, transaction.tags, _id(visit, transaction), transaction.service
        return answers.prepended(*words, private=is_users)

    def _log(self, visit: Visit, transaction: Transaction, request: Request, result: str, refusal: str) -> None:
        self._engine.metrics.messages.labels(result).inc()
        maillog.message(
            result=result,
            id=_id(visit, transaction),
            **{"from": f"<{transaction.sender}>"},
            nrcpt=request.recipient_count or len(transaction.accepted()),
            discarded=len(transaction.discarded) or "",
            size=request.size,
            service=transaction.service,
            reply=refusal,
            queue=request.queue_id,
            client=visit.facts.client,
            session=visit.facts.id,
        )


def _id(visit: Visit, transaction: Transaction) -> str:
    return f"{visit.facts.id}.{transaction.number}"


def _refused_by_others(transaction: Transaction, request: Request) -> list[Verdict]:
    """What recipients were charged that the mail server has refused after us, where that can be told."""
    if request.recipient_count != 1 or request.recipient not in transaction.recipients:
        return []
    others = [named.verdict for name, named in transaction.recipients.items() if name != request.recipient]
    return [verdict for verdict in others if verdict is not None]


def _kind(action: str) -> str:
    """The label of an action: its word, or the class of its code."""
    word = action.partition(" ")[0].lower()
    return f"{word[0]}xx" if word.isdigit() else word
