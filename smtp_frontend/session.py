"""One SMTP session, from the greeting to the goodbye: what each command does. RFC 5321.

    line -> command -> event -> engine's verdict -> (held back) -> refused, or on to the next hop -> reply

The main path is `_mail`, `_rcpt`, `_data`. Every command is answered exactly once. An exception anywhere is logged
with its trace and answered with a fixed 451 (421 where the greeting should be); a reply of 421 ends the session, and so
does a message whose end was in doubt.

Does not do: bytes (`wire`), grammar (`commands`), codes (`answers`), the next hop (`transaction`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ssl import SSLContext

from reputation.engine import Engine
from reputation.events import (
    NULL_SENDER,
    ClientAddress,
    Connect,
    Data,
    Disconnect,
    Event,
    Helo,
    Mail,
    Outcome,
    OutcomeKind,
    Rcpt,
    Stage,
)
from reputation.events import Session as Facts
from reputation.front_end_settings import SmtpSettings
from reputation.verdict import Action, Verdict
from smtp_frontend import answers, dsn, headers, maillog, trace
from smtp_frontend.commands import (
    XCLIENT_ATTRIBUTES,
    CommandError,
    parse_helo,
    parse_mail,
    parse_rcpt,
    parse_xclient,
    split,
)
from smtp_frontend.inbox import BadLine, Message
from smtp_frontend.next_hop.contract import NextHop
from smtp_frontend.reply import Reply
from smtp_frontend.sleepers import Sleepers
from smtp_frontend.transaction import Transaction
from smtp_frontend.visitor import Visitor, arrived
from smtp_frontend.wire import ClientGone, Wire

LAST_WORD_SECONDS = 1.0

log = logging.getLogger("reputon.smtp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all sessions of a process share."""

    engine: Engine
    next_hop: NextHop
    settings: SmtpSettings
    hostname: str
    sleepers: Sleepers
    tls: SSLContext | None = None


class Session:
    """One client's session."""

    def __init__(self, shared: Surroundings, wire: Wire, client: ClientAddress) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._engine = shared.engine
        self._wire = wire
        self._visitor: Visitor = arrived(client, shared.settings.xclient_from)
        self._next_hop = shared.next_hop.connect()
        self._transaction: Transaction | None = None
        self._transactions = 0
        self._errors = 0
        self._over = False
        self._waiting = False
        self.stopping = False
        """Set when the process drains: the session ends after the open transaction."""

    @property
    def _facts(self) -> Facts:
        return self._visitor.facts

    @property
    def idle(self) -> bool:
        """Whether no transaction is open."""
        return self._transaction is None

    async def run(self) -> None:
        """The whole session. Returns when it is over; raises nothing but cancellation."""
        try:
            greeting = await self._safely(self._greet(), "the greeting", answers.TROUBLE_AT_CONNECT)
            await self._say(greeting or answers.TROUBLE_AT_CONNECT)
            while not self._over:
                if self.stopping and self.idle:
                    await self._say(answers.CLOSING)
                else:
                    await self._answer_one()
        except ClientGone:
            log.debug("session %s: the client has hung up", self._facts.id)
        except asyncio.CancelledError:  # RFC 5321 section 3.8: a server that shuts down says so
            await self._say_closing()
            raise
        finally:
            await self._end()

    async def stop(self) -> None:
        """End the session, after the open transaction when there is one. Called when the process drains."""
        self.stopping = True
        if self.idle and self._waiting:
            await self._say_closing()
            self._wire.hang_up()

    async def _say_closing(self) -> None:
        """421, to a client that may not read any more: the drain does not wait for it."""
        with suppress(ClientGone, TimeoutError):
            async with asyncio.timeout(LAST_WORD_SECONDS):
                await self._say(answers.CLOSING)

    async def _greet(self) -> Reply:
        if not self._visitor.put_off and (refusal := await self._judge_connection()):
            return refusal
        return Reply(220, f"{self._shared.hostname} ESMTP reputon")

    async def _judge_connection(self) -> Reply | None:
        visitor = self._visitor
        visitor.judged = True
        visitor.verdicts[Stage.CONNECT], refusal = await self._judge(Connect(session=visitor.facts))
        # RFC 5321 section 3.1: after a 554 greeting the client may only QUIT.
        visitor.refused = refusal is not None
        return refusal

    async def _answer_one(self) -> None:
        try:
            self._waiting = True
            line = await self._wire.line(self._settings.command_timeout_seconds)
        except TimeoutError:
            await self._say(answers.TIMED_OUT)
            return
        except BadLine as bad:
            await self._say(self._error(Reply(500, str(bad), "5.5.2")))
            return
        finally:
            self._waiting = False
        reply = await self._safely(self._command(line), line[:100])
        if reply is not None:
            await self._say(reply)

    async def _safely(
        self, work: Awaitable[Reply | None], what: object, trouble: Reply = answers.OUR_TROUBLE
    ) -> Reply | None:
        """The answer that `work` comes to, or what the client hears instead when it fails."""
        try:
            return await work
        except CommandError as error:
            return self._error(error.reply)
        except ClientGone:
            raise
        except Exception:  # the top of a session: whatever it is, the client hears 4xx and the log has the trace
            log.exception("session %s: error in %r", self._facts.id, what)
            self._engine.metrics.errors.inc()
            return trouble

    async def _command(self, line: bytes) -> Reply | None:
        """The reply to a command; None when it has been answered already."""
        verb, argument = split(line)
        command = _COMMANDS.get(verb)
        if self._visitor.refused and verb != "QUIT" and not (verb == "XCLIENT" and self._visitor.trusted):
            return self._error(answers.ONLY_QUIT)
        if command is None:
            return self._error(answers.UNKNOWN_COMMAND)
        return await command(self, argument)

    async def _say(self, reply: Reply) -> None:
        # RFC 5321 section 3.8: 421 closes the connection, and so does 221.
        self._over = self._over or reply.code in (221, 421)
        await self._wire.send(reply)

    def _error(self, reply: Reply) -> Reply:
        """Count a mistake of the client's; too many end the session."""
        self._errors += 1
        return answers.TOO_MANY_ERRORS if self._errors >= self._settings.max_errors else reply

    # Commands, in the order of a session

    async def _helo(self, argument: bytes, *, esmtp: bool = False) -> Reply:
        visitor = self._visitor
        name = parse_helo(argument)
        name = visitor.helo_named or name
        await self._reset()
        if not visitor.put_off and (refusal := await self._judge_helo(name)):
            return refusal
        visitor.learned(helo=name)
        visitor.esmtp = esmtp
        if not esmtp:
            return Reply(250, self._shared.hostname)
        return Reply(250, (self._shared.hostname, *self._extensions()))

    async def _judge_helo(self, name: str) -> Reply | None:
        verdict, refusal = await self._judge(Helo(session=replace(self._visitor.facts, helo=name)))
        if refusal is None:
            self._visitor.verdicts[Stage.HELO] = verdict
        return refusal

    async def _ehlo(self, argument: bytes) -> Reply:
        return await self._helo(argument, esmtp=True)

    def _extensions(self) -> list[str]:
        starttls = ["STARTTLS"] if self._shared.tls and not self._facts.tls else []
        size = f"SIZE {self._settings.max_message_bytes}"
        xclient = [" ".join(("XCLIENT", *XCLIENT_ATTRIBUTES))] if self._visitor.trusted else []
        return ["PIPELINING", size, "8BITMIME", "ENHANCEDSTATUSCODES", *starttls, *xclient, "SMTPUTF8"]

    async def _xclient(self, argument: bytes) -> Reply:
        """A proxy says for whom it speaks: the session begins anew, as his."""
        visitor = self._visitor
        if not visitor.trusted:
            return self._error(answers.XCLIENT_NOT_FOR_YOU)
        if self._transaction is not None:
            return self._error(answers.XCLIENT_IN_TRANSACTION)
        proxied = visitor.speaks_for(parse_xclient(argument))
        await self._disconnect()
        self._visitor, self._errors = proxied, 0
        log.debug("session %s: XCLIENT, from now on session %s", visitor.facts.id, proxied.facts.id)
        return await self._greet()

    async def _come_forward(self) -> Reply | None:
        """A proxy speaks for itself after all: what was put off is decided now."""
        visitor = self._visitor
        if refusal := await self._judge_connection() or await self._judge_helo(visitor.facts.helo):
            visitor.learned(helo="")
        return refusal

    async def _starttls(self, argument: bytes) -> Reply | None:
        if argument:
            return self._error(answers.NO_ARGUMENT)
        if self._shared.tls is None:
            return self._error(answers.NOT_IMPLEMENTED)
        if self._facts.tls:
            return self._error(answers.ALREADY_TLS)
        await self._reset()
        await self._wire.send(answers.START_TLS)
        await self._wire.start_tls(self._shared.tls, self._settings.command_timeout_seconds)
        # RFC 3207 section 4.2: what was said in the clear is forgotten.
        self._visitor.learned(helo="", tls=True)
        return None

    async def _mail(self, argument: bytes) -> Reply:
        if not self._facts.helo:
            return self._error(answers.HELO_FIRST)
        if self._transaction is not None:
            return self._error(answers.NESTED_MAIL)
        command = parse_mail(argument)
        if self._visitor.put_off and (refusal := await self._come_forward()):
            return refusal
        if command.declared_bytes > self._settings.max_message_bytes:
            return answers.TOO_BIG
        event = Mail(session=self._facts, sender=command.sender, declared_bytes=command.declared_bytes)
        verdict, refusal = await self._judge(event)
        if refusal:
            return refusal
        self._transactions += 1
        self._transaction = Transaction(self._engine, self._next_hop, command, verdict)
        return answers.SENDER_OK

    async def _rcpt(self, argument: bytes) -> Reply:
        transaction = self._transaction
        if transaction is None:
            return self._error(answers.MAIL_FIRST)
        command = transaction.command
        recipient = parse_rcpt(argument, command.smtputf8)
        if len(transaction.recipients) + len(transaction.discarded) >= self._max_recipients:
            return answers.TOO_MANY_RECIPIENTS
        event = Rcpt(session=self._facts, sender=command.sender, recipient=recipient)
        verdict, refusal = await self._judge(event)
        if refusal:
            return refusal
        reply, is_about_recipient = await transaction.recipient(recipient, verdict)
        if is_about_recipient and answers.names_unknown_recipient(reply):
            await self._engine.learn(Outcome(kind=OutcomeKind.UNKNOWN_RECIPIENT, event=event))
        return reply

    @property
    def _max_recipients(self) -> int:
        return min(self._settings.max_recipients, self._shared.next_hop.max_recipients or self._settings.max_recipients)

    async def _data(self, argument: bytes) -> Reply | None:
        transaction = self._transaction
        if argument:
            return self._error(answers.NO_ARGUMENT)
        if transaction is None:
            return self._error(answers.MAIL_FIRST)
        if not transaction.recipients and not transaction.discarded:
            return self._error(answers.NO_RECIPIENTS)
        await self._wire.send(answers.SEND_DATA)
        try:
            message = await self._wire.message(self._settings.max_message_bytes, self._settings.data_timeout_seconds)
        except TimeoutError:
            return answers.TIMED_OUT
        try:
            reply = await self._message(transaction, message)
        finally:
            await self._reset()
        await self._say(reply)
        await self._safely(self._learn_returned(transaction.delivered, message), "a report of failed delivery")
        return None

    async def _message(self, transaction: Transaction, message: Message) -> Reply:
        """What becomes of a message that has come in whole."""
        id = f"{self._facts.id}.{self._transactions}"
        split_message = headers.split(message.content)
        # What comes after a message whose end was in doubt could be a part of it that is taken for commands.
        self._over = message.bare_newlines or message.hidden_end
        if problem := _problem(message, split_message):
            return self._finished(transaction, message, id, problem, "refused")
        texts = split_message.texts()
        event = Data(
            session=self._facts,
            sender=transaction.command.sender,
            recipients=(*transaction.recipients, *transaction.discarded),
            message_bytes=message.size,
            subject=texts.get("subject", ""),
            author=texts.author,
            header=texts,
        )
        verdict, refusal = await self._judge(event)
        if refusal:
            return self._finished(transaction, message, id, refusal, "refused")
        transaction.add(verdict)
        if verdict.action is Action.DISCARD or not transaction.recipients:
            return self._finished(transaction, message, id, Reply(250, f"Accepted {id}", "2.0.0"), "discarded")
        reply = await transaction.deliver(self._parts(transaction, split_message, id))
        transaction.delivered = event if reply.positive else None
        return self._finished(transaction, message, id, reply, "delivered" if reply.positive else "not-delivered")

    async def _learn_returned(self, event: Data | None, message: Message) -> None:
        """A report of failed delivery is evidence about the mail of whoever it has been delivered to."""
        if event is None or event.sender != NULL_SENDER or len(event.recipients) != 1:
            return
        (sender,) = event.recipients
        failed = dsn.failed_recipients(event.header.get("content-type", ""), message.content, self._shared.hostname)
        outcomes = [Outcome(kind=OutcomeKind.BOUNCE, event=event, returned=(sender, each)) for each in failed]
        await asyncio.gather(*map(self._engine.learn, outcomes))

    def _parts(self, transaction: Transaction, message: headers.Split, id: str) -> list[bytes]:
        """The message as the next hop gets it: our fields first."""
        ours = trace.fields(self._visitor, transaction, hostname=self._shared.hostname, id=id, at=datetime.now(UTC))
        return [*ours, message.without_verdict(), message.rest]

    def _finished(self, transaction: Transaction, message: Message, id: str, reply: Reply, result: str) -> Reply:
        self._engine.metrics.messages.labels(result).inc()
        maillog.message(
            result=result,
            id=id,
            **{"from": f"<{transaction.command.sender}>"},
            nrcpt=len(transaction.recipients),
            discarded=len(transaction.discarded) or "",
            size=message.size,
            service=trace.service_of(trace.verdicts_of(self._visitor, transaction)),
            reply=reply,
            client=self._facts.client,
            session=self._facts.id,
        )
        return reply

    async def _rset(self, argument: bytes) -> Reply:
        if argument:
            return self._error(answers.NO_ARGUMENT)
        await self._reset()
        return answers.OK

    async def _noop(self, _argument: bytes) -> Reply:
        return answers.OK

    async def _help(self, _argument: bytes) -> Reply:
        return answers.HELP

    async def _vrfy(self, argument: bytes) -> Reply:
        # RFC 5321 section 7.3: an address is not confirmed to whoever asks.
        return answers.CANNOT_VERIFY if argument else self._error(Reply(501, "VRFY what?", "5.5.4"))

    async def _expn(self, _argument: bytes) -> Reply:
        return self._error(answers.NOT_IMPLEMENTED)

    async def _quit(self, _argument: bytes) -> Reply:
        await self._reset()
        return answers.BYE

    # What commands have in common

    async def _judge(self, event: Event) -> tuple[Verdict, Reply | None]:
        """Ask the engine, hold back what is to be held back, log; the reply when the event is refused."""
        verdict = await self._engine.judge(event)
        held = 0.0
        longest = self._settings.max_delay_seconds
        while verdict.action is Action.THROTTLE and held + verdict.retry_after_seconds <= longest:
            if not await self._sleep(verdict.retry_after_seconds) or self._wire.gone.is_set():
                break
            held += verdict.retry_after_seconds
            verdict = await self._engine.judge(event)
        if (delay := min(verdict.delay_seconds, longest - held)) > 0:
            try:
                held += delay * await self._sleep(delay)
            except asyncio.CancelledError:  # the drain: nothing has come of the event
                await self._engine.refund(verdict)
                raise
        maillog.verdict(event, verdict, held)
        return verdict, answers.refusal(event.stage, verdict)

    async def _sleep(self, seconds: float) -> bool:
        return await self._shared.sleepers.sleep(seconds, self._wire.gone)

    async def _reset(self) -> None:
        """End the open transaction, delivered or not."""
        if self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            await transaction.end()

    async def _disconnect(self) -> None:
        if self._visitor.judged:
            await self._engine.judge(Disconnect(session=self._facts))

    async def _end(self) -> None:
        for step in (self._reset, self._next_hop.close, self._disconnect, self._wire.close):
            await self._safely(step(), "the end")


def _problem(message: Message, split_message: headers.Split) -> Reply | None:
    """Why a message is not taken whatever the policy says."""
    if message.too_big:
        return answers.TOO_BIG
    if message.bare_newlines:
        return answers.BARE_NEWLINES
    if message.hidden_end:
        return answers.HIDDEN_END
    if len(split_message.fields) > headers.MAX_FIELDS_BYTES:
        return answers.FIELDS_TOO_BIG
    return answers.MAIL_LOOP if split_message.hops >= headers.MAX_HOPS else None


_COMMANDS: Mapping[str, Callable[[Session, bytes], Awaitable[Reply | None]]] = {
    "HELO": Session._helo,
    "EHLO": Session._ehlo,
    "STARTTLS": Session._starttls,
    "XCLIENT": Session._xclient,
    "MAIL": Session._mail,
    "RCPT": Session._rcpt,
    "DATA": Session._data,
    "RSET": Session._rset,
    "NOOP": Session._noop,
    "HELP": Session._help,
    "VRFY": Session._vrfy,
    "EXPN": Session._expn,
    "QUIT": Session._quit,
}
