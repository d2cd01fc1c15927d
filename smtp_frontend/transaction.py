"""One mail transaction: an envelope on our side, the same envelope with the next hop, and what it was charged.

The transaction with the next hop opens when the first recipient has passed the policy. From then on the
next hop's answer to each recipient, and to the message, is the client's answer; we say 250 to a message
only after the next hop has. What does not come to anything is given up with the next hop, and its
charges are given back.

Discarded recipients (and a discarded sender) are accepted towards the client and never mentioned to the next hop.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from reputation.engine import Engine
from reputation.events import Data
from reputation.verdict import Action, Verdict
from smtp_frontend import answers
from smtp_frontend.commands import MailCommand
from smtp_frontend.next_hop.contract import Connection, MailOptions
from smtp_frontend.reply import Reply


class Transaction:
    """From MAIL to the end of the message, or to RSET, QUIT, a lost client."""

    def __init__(self, engine: Engine, connection: Connection, command: MailCommand, verdict: Verdict) -> None:
        self.command = command
        self.recipients: list[str] = []
        self.discarded: list[str] = []
        self.verdicts: list[Verdict] = []
        self.delivered: Data | None = None
        """The message, once the next hop has taken it."""
        self.discards = verdict.action is Action.DISCARD
        self._engine = engine
        self._connection = connection
        self._open = False
        self._settled = False
        self.add(verdict)

    def add(self, verdict: Verdict) -> None:
        """Remember a verdict of this transaction, for its charges and for the header."""
        self.verdicts.append(verdict)

    @property
    def shown(self) -> Verdict:
        """The verdict that the header tells of: the strictest, and among equals the first that rests on a reading."""
        return max(self.verdicts, key=lambda verdict: (verdict.action.severity, verdict.deciding is not None))

    async def recipient(self, recipient: str, verdict: Verdict) -> tuple[Reply, bool]:
        """Put a recipient that passed the policy to the next hop; its answer is the client's.

        Says, too, whether the answer is about the recipient: the one to MAIL is not, and comes only now.
        """
        self.add(verdict)  # first, so that `end` gives it back whatever happens meanwhile
        if self.discards or verdict.action is Action.DISCARD:
            self.discarded.append(recipient)
            return answers.RECIPIENT_OK, False
        reply = await self._opened()
        if opened := reply.positive:
            reply = await self._connection.rcpt(recipient)
        if reply.positive:
            self.recipients.append(recipient)
        else:
            self.verdicts.pop()
            await self._engine.refund(verdict)
        return reply, opened

    async def _opened(self) -> Reply:
        if self._open:
            return answers.SENDER_OK
        command = self.command
        options = MailOptions(
            declared_bytes=command.declared_bytes, eight_bit=command.eight_bit, smtputf8=command.smtputf8
        )
        reply = await self._connection.mail(command.sender, options)
        self._open = reply.positive
        return reply

    async def deliver(self, parts: Iterable[bytes]) -> Reply:
        """Hand the message over. Once it is on its way it is not called back.

        Who cancels the session meanwhile (the drain, when its time is up) waits: a client that does not hear
        what became of its message sends it once more.
        """
        delivery = asyncio.create_task(self._deliver(parts))
        while not delivery.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(delivery)
        return delivery.result()

    async def _deliver(self, parts: Iterable[bytes]) -> Reply:
        reply = await self._connection.data(parts)
        self._open = False
        self._settled = reply.positive
        return reply

    async def end(self) -> None:
        """The transaction is over. What was not delivered is given up with the next hop, and its charges given back."""
        try:
            if self._open:
                self._open = False
                await self._connection.reset()
        finally:
            if not self._settled:
                self._settled = True
                await self._engine.refund(*self.verdicts)
