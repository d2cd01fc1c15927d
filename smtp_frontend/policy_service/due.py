"""Which events of a session are to be judged, given what is asked now and what was judged before. No I/O.

Rules of all stages count, whichever stages the mail server asks at: what it has passed over is judged first, in the
order of the protocol. So with the usual two places, RCPT and END-OF-MESSAGE, the first question of a session is about
connect, HELO, log-in, MAIL and RCPT, the next recipient's about RCPT alone, the last one about the message.

Connect is judged once in a session, HELO when the name is another one, a log-in once, MAIL once in a transaction.
Events from MAIL on carry a token made of Postfix' `instance`: asked twice, they count once, even where another process
was asked the first time. Connect and HELO have none.

When the message is asked about and nothing is known of its beginning, although this server asks at RCPT, we were
restarted in between, or another process was asked: then the message alone is judged, and the rest not twice.

Bugs: an AUTH that fails is never told to us. Of the message we know its size, neither header nor content. A client
that names one recipient twice is charged for him once.
"""

from collections.abc import Iterator
from dataclasses import replace

from reputation.events import Auth, Connect, Data, Event, Helo, Mail, Rcpt, Session
from smtp_frontend.policy_service.requests import AFTER_RECIPIENTS, IN_TRANSACTION, Request, State
from smtp_frontend.policy_service.visit import Transaction, Visit


def facts_of(visit: Visit, request: Request) -> Session:
    """Who is connected, as the mail server says it now."""
    facts, user, tls = visit.facts, request.sasl_username, bool(request.encryption_protocol)
    if (facts.helo, facts.user, facts.tls) != (request.helo_name, user, tls):
        facts = visit.facts = replace(facts, helo=request.helo_name, user=user, tls=tls)
    return facts


def due(request: Request, visit: Visit, transaction: Transaction | None) -> Iterator[Event]:
    """The events to be judged, in order. `transaction` is None for what is asked outside of one."""
    state = request.state
    if transaction is not None and _began_elsewhere(request, visit, transaction):
        yield _data(facts_of(visit, request), request, transaction)
        return
    if not visit.connected:
        yield Connect(session=visit.facts)  # nothing is known yet but who it is
    if state is State.CONNECT:
        return
    facts = facts_of(visit, request)
    if facts.helo and facts.helo != visit.helo:
        yield Helo(session=replace(facts, user="") if facts.user else facts)
    if facts.user and facts.user != visit.user:
        yield Auth(session=facts, login=facts.user, success=True)
    if transaction is None or state not in IN_TRANSACTION:
        return
    if transaction.mail is None:
        token = _token("mail", request)
        yield Mail(session=facts, sender=transaction.sender, declared_bytes=request.size, token=token)
    if request.recipient and state is not State.MAIL and request.recipient not in transaction.recipients:
        yield _rcpt(facts, request, transaction)
    if visit.place.is_last(state):
        yield _data(facts, request, transaction)


def _began_elsewhere(request: Request, visit: Visit, transaction: Transaction) -> bool:
    is_new = transaction.mail is None and not transaction.recipients
    return is_new and request.state in AFTER_RECIPIENTS and visit.place.asks_at_rcpt


def _rcpt(facts: Session, request: Request, transaction: Transaction) -> Rcpt:
    recipient = request.recipient
    token = _token("rcpt", request, recipient)
    return Rcpt(session=facts, sender=transaction.sender, recipient=recipient, token=token)


def _data(facts: Session, request: Request, transaction: Transaction) -> Data:
    return Data(
        session=facts,
        sender=transaction.sender,
        recipients=(request.recipient,) if request.recipient else transaction.accepted(),
        message_bytes=request.size,
        token=_token("data", request),
    )


def _token(stage: str, request: Request, *more: str) -> str:
    """Names a question about a transaction; nothing does where the server names no transactions."""
    return "\n".join((stage, request.instance, str(request.client), *more)) if request.instance else ""
