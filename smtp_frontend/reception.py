"""A message that has come in whole: what is said to it, and what becomes of it.

    can it be taken at all? -> event -> verdict (with what look-ups and filters say) -> to the next hop of its class
                                                                                     -> what is learned from it

Our fields go on its top (`trace`), and fields that only we may set are taken out of it. The client hears 250 when the
next hop has said so. What a content filter says about the message is evidence, whatever became of it; what we refuse
ourselves is none.
"""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime

from reputation.events import NULL_SENDER, Data, Outcome, OutcomeKind
from reputation.facts import NOTHING_LOOKED_UP, PASS, Judgement, LookedUp
from reputation.verdict import Action, Verdict
from smtp_frontend import answers, dsn, headers, maillog, trace
from smtp_frontend.inbox import Message
from smtp_frontend.judging import Judge
from smtp_frontend.reply import Reply
from smtp_frontend.surroundings import Surroundings
from smtp_frontend.transaction import Transaction
from smtp_frontend.visitor import Visitor
from smtp_frontend.wire import ClientGone

OUTCOMES = {
    Judgement.HAM: OutcomeKind.HAM,
    Judgement.SPAM: OutcomeKind.SPAM,
    Judgement.MALWARE: OutcomeKind.MALWARE,
}
"""What a filter's verdict is evidence of; the others are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """A message on its way through here."""

    id: str
    visitor: Visitor
    transaction: Transaction
    message: Message
    split: headers.Split


class Reception:
    """Takes the messages of one session."""

    def __init__(self, shared: Surroundings, judge: Judge) -> None:
        self._shared = shared
        self._engine = shared.engine
        self._judge = judge

    async def take(self, visitor: Visitor, transaction: Transaction, message: Message, id: str) -> Reply:
        """What the client hears about its message."""
        split = headers.split(message.content)
        passage = Passage(id=id, visitor=visitor, transaction=transaction, message=message, split=split)
        if problem := _problem(message, split):
            return self._finished(passage, problem, "refused")
        event = _event(passage)
        verdict, refusal = await self._judge.judge(event)
        transaction.judged = event, verdict.looked_up
        if refusal is None and verdict.looked_up.filtered.failed_closed:
            await self._engine.refund(verdict)
            transaction.comes_again = True
            refusal = answers.OUR_TROUBLE
        if refusal:
            return self._finished(passage, refusal, "refused")
        transaction.add(verdict)
        if verdict.action is Action.DISCARD or not transaction.recipients:
            return self._finished(passage, Reply(250, f"Accepted {id}", "2.0.0"), "discarded")
        if self._judge.client_is_gone:  # it hears no 250 and comes again: to deliver now would be twice
            self._finished(passage, answers.CLIENT_GONE, "not-delivered")
            raise ClientGone
        reply = await self._passed_on(passage, event, verdict)
        transaction.delivered = event if reply.positive else None
        transaction.comes_again = not reply.positive and not reply.permanent
        return self._finished(passage, reply, "delivered" if reply.positive else "not-delivered")

    async def _passed_on(self, passage: Passage, event: Data, verdict: Verdict) -> Reply:
        """Hand the message to the next hop of its class; our fields first."""
        transaction, hostname = passage.transaction, self._shared.hostname
        if verdict.service and (refusal := await transaction.move(verdict.service)):
            return refusal
        told = event if self._shared.settings.authentication_results else None
        prefixes = (prefix for each in transaction.verdicts for prefix in each.subject_prefixes)
        top = trace.fields(passage.visitor, transaction, told, hostname=hostname, id=passage.id, at=datetime.now(UTC))
        fields = trace.passed_on(passage.split, verdict, prefixes, hostname=hostname)
        return await transaction.deliver([*top, fields, passage.split.rest])

    async def learn(self, transaction: Transaction, message: Message) -> None:
        """What the message and its filters tell about others. Called when the client has its answer."""
        await self._learn_filtered(transaction)
        event = transaction.delivered
        if event is None or event.sender != NULL_SENDER or len(event.recipients) != 1:
            return
        # A report of failed delivery is evidence about the mail of whoever it has been delivered to.
        (sender,) = event.recipients
        failed = dsn.failed_recipients(event.header.get("content-type", ""), message.content, self._shared.hostname)
        outcomes = [Outcome(kind=OutcomeKind.BOUNCE, event=event, returned=(sender, each)) for each in failed]
        await asyncio.gather(*map(self._engine.learn, outcomes))

    async def _learn_filtered(self, transaction: Transaction) -> None:
        if transaction.comes_again or transaction.judged is None:
            return
        if (outcome := _outcome_of(*transaction.judged)) is not None:
            await self._engine.learn(outcome)

    def _finished(self, passage: Passage, reply: Reply, result: str) -> Reply:
        visitor, transaction = passage.visitor, passage.transaction
        self._engine.metrics.messages.labels(result).inc()
        event, found = transaction.judged or (None, NOTHING_LOOKED_UP)
        filtered = found.filtered
        maillog.message(
            result=result,
            id=passage.id,
            **{"from": f"<{transaction.command.sender}>"},
            nrcpt=len(transaction.recipients),
            discarded=len(transaction.discarded) or "",
            size=passage.message.size,
            message_id=event.header.get("message-id", "") if event else "",
            service=trace.service_of(trace.verdicts_of(visitor, transaction)),
            filter=filtered.verdict,
            score=f"{filtered.score:g}" if filtered.score else "",
            malware=filtered.malware,
            reply=reply,
            client=visitor.facts.client,
            user=visitor.facts.user,
            session=visitor.facts.id,
        )
        return reply


def _event(passage: Passage) -> Data:
    transaction, message, texts = passage.transaction, passage.message, passage.split.texts()
    return Data(
        session=passage.visitor.facts,
        sender=transaction.command.sender,
        recipients=(*transaction.recipients, *transaction.discarded),
        message_bytes=message.size,
        subject=texts.get("subject", ""),
        author=texts.author,
        header=texts,
        content=message.content,
    )


def _outcome_of(event: Data, found: LookedUp) -> Outcome | None:
    """What the filters' verdict is evidence of, where it is any, and of whom.

    Whoever sends chooses what a filter says: he could write malware in the name of somebody whom he wants to harm. So a
    name counts only where SPF or DMARC speaks for it, or it is the user's who has logged in.
    """
    filtered, user = found.filtered, event.session.user
    kind = OUTCOMES.get(Judgement(filtered.verdict)) if filtered.verdict in set(Judgement) else None
    if kind is None or not filtered.learns:
        return None
    return Outcome(
        kind=kind,
        event=event,
        is_sender_proven=found.spf == PASS or bool(user and user == event.sender.lower()),
        is_author_proven=found.dmarc == PASS or bool(user and user == event.author.lower()),
    )


def _problem(message: Message, split: headers.Split) -> Reply | None:
    """Why a message is not taken whatever the policy says."""
    if message.too_big:
        return answers.TOO_BIG
    if message.unspooled:
        return answers.UNSPOOLED
    if message.bare_newlines:
        return answers.BARE_NEWLINES
    if message.hidden_end:
        return answers.HIDDEN_END
    if len(split.fields) > headers.MAX_FIELDS_BYTES:
        return answers.FIELDS_TOO_BIG
    if b"\0" in split.fields:  # who drops NULs would find other names of fields than we do
        return answers.NUL_IN_HEADER
    return answers.MAIL_LOOP if split.hops >= headers.MAX_HOPS else None
