"""One mail transaction: an envelope on our side, the same envelope with the next hop, and what it was charged.

The transaction with the next hop opens when the first recipient has passed the policy. From then on the
next hop's answer to each recipient, and to the message, is the client's answer; we say 250 to a message
only after the next hop has. What does not come to anything is given up with the next hop, and its
charges are given back.

Discarded recipients (and a discarded sender) are accepted towards the client and never mentioned to the next hop.

Which next hop: that of the class of service, if it has one. A recipient whose class has another than those before him
is told to come in another transaction, as LMTP's are. When the message itself is put into another class, the
transaction is opened anew with that hop, and given up with the first one. What cannot be opened there is not delivered
at all.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from reputation.engine import Engine
from reputation.events import Data
from reputation.facts import LookedUp
from reputation.verdict import Action, Verdict
from smtp_frontend import answers
from smtp_frontend.commands import MailCommand
from smtp_frontend.hops import ORDINARY, Hops
from smtp_frontend.next_hop.contract import Connection, MailOptions, Part
from smtp_frontend.reply import Reply


class Transaction:
    """From MAIL to the end of the message, or to RSET, QUIT, a lost client."""

    def __init__(self, engine: Engine, hops: Hops, command: MailCommand, verdict: Verdict) -> None:
        self.command = command
        self.recipients: list[str] = []
        self.discarded: list[str] = []
        self.verdicts: list[Verdict] = []
        self.judged: tuple[Data, LookedUp] | None = None
        """The message, and what was found out about it; also when it was refused."""
        self.comes_again = False
        """Whether the message was put off by our own trouble, so that all of it will be learned another time."""
        self.delivered: Data | None = None
        """The message, once the next hop has taken it."""
        self._unshown: list[Verdict] = []
        """Those about recipients who were discarded: none of the others' business."""
        self.discards = verdict.action is Action.DISCARD
        self._engine = engine
        self._hops = hops
        self._hop = ORDINARY
        self._open = False
        self._settled = False
        self.add(verdict)

    def add(self, verdict: Verdict) -> None:
        """Remember a verdict of this transaction, for its charges and for the header."""
        self.verdicts.append(verdict)

    @property
    def shown(self) -> Verdict:
        """The verdict that the header tells of: the strictest, and among equals the first that rests on a reading."""
        unshown = set(map(id, self._unshown))
        shown = [verdict for verdict in self.verdicts if id(verdict) not in unshown]
        return max(shown or self.verdicts, key=lambda verdict: (verdict.action.severity, verdict.deciding is not None))

    async def recipient(self, recipient: str, verdict: Verdict, service: str = "") -> tuple[Reply, bool]:
        """Put a recipient that passed the policy to the next hop of a class of service; its answer is the client's.

        Says, too, whether the answer is about the recipient: the one to MAIL is not, and comes only now.
        """
        self.add(verdict)  # first, so that `end` gives it back whatever happens meanwhile
        if self.discards or verdict.action is Action.DISCARD:
            self.discarded.append(recipient)
            self._unshown.append(verdict)
            return answers.RECIPIENT_OK, False
        reply, opened = await self._put(recipient, self._hops.name_for(service))
        if reply.positive:
            self.recipients.append(recipient)
        else:
            self.verdicts.pop()
            await self._engine.refund(verdict)
        return reply, opened

    async def _put(self, recipient: str, hop: str) -> tuple[Reply, bool]:
        if self.recipients and hop != self._hop:
            return answers.TOO_MANY_RECIPIENTS, False
        if hop != self._hop and self._open:  # the one that it was opened for was refused
            await self._give_up()
        self._hop = hop
        if self._open:
            return await self._connection.rcpt(recipient), True
        return await self._begin(recipient), self._open

    @property
    def _connection(self) -> Connection:
        return self._hops.connection(self._hop)

    async def _begin(self, recipient: str) -> Reply:
        """Open it with a first recipient: the answer about him, or to MAIL when that was refused."""
        command = self.command
        options = MailOptions(
            declared_bytes=command.declared_bytes,
            eight_bit=command.eight_bit,
            smtputf8=command.smtputf8,
            introduction=self._hops.introduction,
        )
        to_mail, to_recipient = await self._connection.begin(command.sender, options, recipient)
        self._open = to_mail.positive
        return to_recipient if to_mail.positive else to_mail

    async def _give_up(self) -> None:
        self._open = False
        await self._connection.reset()

    async def move(self, service: str) -> Reply | None:
        """Take the transaction to the next hop of a class, where that is another; the reply when it cannot be."""
        hop = self._hops.name_for(service)
        if hop == self._hop:
            return None
        await self._give_up()
        self._hop = hop
        first, *others = self.recipients
        reply = await self._begin(first)
        for recipient in others:
            if reply.positive:
                reply = await self._connection.rcpt(recipient)
        if reply.positive:
            return None
        # An answer about one of several is none about the message.
        return reply if len(self.recipients) == 1 or not reply.permanent else answers.OUR_TROUBLE

    async def deliver(self, parts: Iterable[Part]) -> Reply:
        """Hand the message over. Once it is on its way it is not called back.

        Who cancels the session meanwhile (the drain, when its time is up) waits: a client that does not hear
        what became of its message sends it once more.
        """
        delivery = asyncio.create_task(self._deliver(parts))
        while not delivery.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(delivery)
        return delivery.result()

    async def _deliver(self, parts: Iterable[Part]) -> Reply:
        reply = await self._connection.data(parts)
        self._open = False
        self._settled = reply.positive
        return reply

    async def end(self) -> None:
        """The transaction is over. What was not delivered is given up with the next hop, and its charges given back."""
        try:
            if self._open:
                await self._give_up()
        finally:
            if not self._settled:
                self._settled = True
                await self._engine.refund(*self.verdicts)
