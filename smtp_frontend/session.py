"""One SMTP session, from the greeting to the goodbye: what each command does. RFC 5321.

    line -> command -> event -> engine's verdict -> (held back) -> refused, or on to the next hop -> reply

The main path is `_mail`, `_rcpt`, `_data`. Every command is answered exactly once. An exception anywhere is logged
with its trace and answered with a fixed 451 (421 where the greeting should be); a reply of 421 ends the session, and so
does a message whose end was in doubt.

Does not do: bytes (`wire`), grammar (`commands`), codes (`answers`), holding back (`judging`), passwords (`login`),
what becomes of a message (`reception`), the next hop (`transaction`).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from reputation.events import ClientAddress, Connect, Disconnect, Helo, Mail, Outcome, OutcomeKind, Rcpt, Stage
from reputation.events import Session as Facts
from smtp_frontend import answers, maillog, trace
from smtp_frontend.commands import (
    XCLIENT_ATTRIBUTES,
    CommandError,
    parse_helo,
    parse_mail,
    parse_rcpt,
    parse_xclient,
    split,
)
from smtp_frontend.hops import Hops
from smtp_frontend.inbox import BadLine, Message
from smtp_frontend.judging import Judge
from smtp_frontend.login import MECHANISMS, LogIn
from smtp_frontend.reception import Reception
from smtp_frontend.reply import Reply
from smtp_frontend.surroundings import Surroundings
from smtp_frontend.transaction import Transaction
from smtp_frontend.visitor import Arrival, Visitor, arrived
from smtp_frontend.wire import ClientGone, Wire

LAST_WORD_SECONDS = 1.0
IDLE_COMMANDS = frozenset({"EHLO", "HELO", "RSET", "NOOP", "HELP", "VRFY", "EXPN"})
MAX_IDLE_COMMANDS = 100
"""Of those, until a message has come: a client that says no more than this only keeps us busy."""

log = logging.getLogger("reputon.smtp")


class Session:
    """One client's session."""

    def __init__(self, shared: Surroundings, wire: Wire, arrival: Arrival) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._engine = shared.engine
        self._wire = wire
        self._arrival = arrival
        self._visitor: Visitor = arrived(arrival, shared.settings.xclient_from)
        self._hops = Hops(shared.next_hop, shared.services, lambda: self._visitor)
        self._judge = Judge(shared, wire.gone)
        self._log_in = LogIn(shared, self._judge, wire)
        self._reception = Reception(shared, self._judge)
        self._place: ClientAddress | None = None
        """Whose place among the sessions of one client it has taken."""
        self._transaction: Transaction | None = None
        self._transactions = 0
        self._errors = self._idle_commands = 0
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
        if not self._take_place():
            return answers.TOO_MANY_OF_YOURS
        if not self._visitor.put_off:
            await self._listen_first()
            if refusal := await self._judge_connection():
                return refusal
            self._notice_early()
        return Reply(220, f"{self._shared.hostname} ESMTP reputon")

    def _take_place(self) -> bool:
        """Whether there is a place for one more session of this client. Our own proxies need none, whom they name
        does."""
        self._leave_place()
        if self._arrival.has_place and not self._visitor.proxied:
            return True
        client = self._facts.client
        if not self._shared.crowd.enter(client):
            return False
        self._place = client
        return True

    def _leave_place(self) -> None:
        if self._place is not None:
            self._shared.crowd.leave(self._place)
            self._place = None

    async def _listen_first(self) -> None:
        """Wait before the greeting, where that is wanted, for who speaks too early (RFC 5321 section 4.3.1)."""
        if self._settings.greeting_delay_seconds and not self._visitor.proxied:
            await self._shared.sleepers.sleep(self._settings.greeting_delay_seconds, self._wire.gone)
        self._notice_early()

    def _notice_early(self) -> None:
        if not self._visitor.proxied and not self._facts.early and self._wire.has_unread:
            self._visitor.learned(early=True)

    async def _judge_connection(self) -> Reply | None:
        visitor = self._visitor
        visitor.judged = True
        visitor.verdicts[Stage.CONNECT], refusal = await self._judge.judge(Connect(session=visitor.facts))
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
        told = line[:100] if split(line)[0] != "AUTH" else b"AUTH"  # what follows is a password
        reply = await self._safely(self._command(line), told)
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
        self._idle_commands += verb in IDLE_COMMANDS
        if self._idle_commands > MAX_IDLE_COMMANDS:
            return answers.TOO_MANY_ERRORS
        if self._visitor.refused and verb != "QUIT" and not (verb == "XCLIENT" and self._visitor.trusted):
            return self._error(answers.ONLY_QUIT)
        if command is None:
            if verb == "PROXY":
                log.warning("a PROXY header of %s, which is not in smtp.proxy_from", self._facts.client)
            return self._error(answers.UNKNOWN_COMMAND)
        return await command(self, argument)

    async def _say(self, reply: Reply) -> None:
        # RFC 5321 section 3.8: 421 closes the connection, and so does 221.
        self._over = self._over or reply.code in (221, 421)
        await self._wire.send(reply)

    def _error(self, reply: Reply) -> Reply:
        """Count a mistake of the client's; too many end the session."""
        self._errors += 1
        if self._errors < self._settings.max_errors:
            return reply
        log.info("session %s of %s is ended: %d commands that failed", self._facts.id, self._facts.client, self._errors)
        return answers.TOO_MANY_ERRORS

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
        verdict, refusal = await self._judge.judge(Helo(session=replace(self._visitor.facts, helo=name)))
        if refusal is None:
            self._visitor.verdicts[Stage.HELO] = verdict
        return refusal

    async def _ehlo(self, argument: bytes) -> Reply:
        return await self._helo(argument, esmtp=True)

    def _extensions(self) -> list[str]:
        starttls = ["STARTTLS"] if self._shared.tls and not self._facts.tls else []
        size = f"SIZE {self._settings.max_message_bytes}"
        xclient = [" ".join(("XCLIENT", *XCLIENT_ATTRIBUTES))] if self._visitor.trusted else []
        auth = [" ".join(("AUTH", *MECHANISMS))] if self._may_log_in and not self._facts.user else []
        return ["PIPELINING", size, "8BITMIME", "ENHANCEDSTATUSCODES", *starttls, *auth, *xclient, "SMTPUTF8"]

    @property
    def _may_log_in(self) -> bool:
        """Whether passwords are asked for here, and would not be heard by others."""
        return self._shared.verifier is not None and self._visitor.submission and self._facts.tls

    async def _auth(self, argument: bytes) -> Reply:
        if self._shared.verifier is None or not self._visitor.submission:
            return self._error(answers.NOT_IMPLEMENTED)
        if not self._facts.tls:  # RFC 4954 section 4: never in the clear
            return self._error(answers.STARTTLS_FIRST)
        if not self._visitor.esmtp or not self._facts.helo:
            return self._error(answers.HELO_FIRST)
        if self._facts.user:
            return self._error(answers.ALREADY_LOGGED_IN)
        if self._transaction is not None:
            return self._error(answers.NOT_IN_TRANSACTION)
        reply, user = await self._log_in.attempt(self._facts, argument)
        if user:
            self._visitor.learned(user=user)
            return reply
        return self._error(reply) if reply.permanent else reply

    async def _xclient(self, argument: bytes) -> Reply:
        """A proxy says for whom it speaks: the session begins anew, as his."""
        visitor = self._visitor
        if not visitor.trusted:
            return self._error(answers.XCLIENT_NOT_FOR_YOU)
        if self._transaction is not None:
            return self._error(answers.NOT_IN_TRANSACTION)
        proxied = visitor.speaks_for(parse_xclient(argument))
        await self._disconnect()
        self._visitor, self._errors, self._idle_commands = proxied, 0, 0
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
        if self._visitor.submission and not self._facts.user:  # RFC 6409 section 4.3
            return self._error(answers.AUTH_FIRST if self._facts.tls else answers.STARTTLS_FIRST)
        command = parse_mail(argument)
        self._idle_commands = 0
        if self._visitor.put_off and (refusal := await self._come_forward()):
            return refusal
        event = Mail(session=self._facts, sender=command.sender, declared_bytes=command.declared_bytes)
        if command.declared_bytes > self._settings.max_message_bytes:
            maillog.refused("max_message_bytes", answers.TOO_BIG, event)
            return answers.TOO_BIG
        verdict, refusal = await self._judge.judge(event)
        if refusal:
            return refusal
        self._transactions += 1
        self._transaction = Transaction(self._engine, self._hops, command, verdict)
        return answers.SENDER_OK

    async def _rcpt(self, argument: bytes) -> Reply:
        transaction = self._transaction
        if transaction is None:
            return self._error(answers.MAIL_FIRST)
        command = transaction.command
        recipient = parse_rcpt(argument, command.smtputf8)
        event = Rcpt(session=self._facts, sender=command.sender, recipient=recipient)
        if not self._shared.relaying.permits(self._visitor, recipient):
            maillog.refused("relay_domains", answers.NO_RELAYING, event)
            return self._error(answers.NO_RELAYING)
        if len(transaction.recipients) + len(transaction.discarded) >= self._shared.max_recipients:
            return answers.TOO_MANY_RECIPIENTS
        verdict, refusal = await self._judge.judge(event)
        if refusal:
            return refusal
        self._idle_commands = 0
        service = trace.service_of((*self._visitor.verdicts.values(), transaction.verdicts[0], verdict))
        reply, is_about_recipient = await transaction.recipient(recipient, verdict, service)
        if not reply.positive:
            maillog.refused("next_hop" if not reply.ours else "us", reply, event)
        if is_about_recipient and answers.names_unknown_recipient(reply):
            await self._engine.learn(Outcome(kind=OutcomeKind.UNKNOWN_RECIPIENT, event=event))
        return reply

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
        self._idle_commands = 0
        try:
            try:
                await self._say(await self._received(transaction, message))
            finally:  # also of a client that has hung up: who does would never be counted
                await self._safely(self._reception.learn(transaction, message), "what a message tells")
        finally:
            self._shared.spool.let_go(message)
        return None

    async def _received(self, transaction: Transaction, message: Message) -> Reply:
        # What comes after a message whose end was in doubt could be a part of it that is taken for commands.
        self._over = message.bare_newlines or message.hidden_end
        id = f"{self._facts.id}.{self._transactions}"
        try:
            return await self._reception.take(self._visitor, transaction, message, id)
        finally:
            await self._reset()

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

    async def _reset(self) -> None:
        """End the open transaction, delivered or not."""
        if self._transaction is not None:
            transaction, self._transaction = self._transaction, None
            await transaction.end()

    async def _disconnect(self) -> None:
        if self._visitor.judged:
            await self._engine.judge(Disconnect(session=self._facts))

    async def _end(self) -> None:
        self._leave_place()
        cancelled: asyncio.CancelledError | None = None
        for step in (self._reset, self._hops.close, self._disconnect, self._wire.close):
            try:
                await self._safely(step(), "the end")
            except asyncio.CancelledError as error:  # the drain: what is left is done all the same
                cancelled = error
        if cancelled is not None:
            raise cancelled


_COMMANDS: Mapping[str, Callable[[Session, bytes], Awaitable[Reply | None]]] = {
    "HELO": Session._helo,
    "EHLO": Session._ehlo,
    "STARTTLS": Session._starttls,
    "AUTH": Session._auth,
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
