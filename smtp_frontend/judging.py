"""How a session asks the engine: the verdict, the answer held back as it says, a line in the mail log, a reply.

A tarpit holds the answer back once, a throttle until there is room or `max_delay_seconds` are over; then it is a
tempfail. Both are bounded in number (`sleepers`), and end when the client goes.
"""

import asyncio

from reputation.events import Event
from reputation.verdict import Action, Verdict
from smtp_frontend import answers, maillog
from smtp_frontend.reply import Reply
from smtp_frontend.surroundings import Surroundings


class Judge:
    """Asks on behalf of one client."""

    def __init__(self, shared: Surroundings, gone: asyncio.Event) -> None:
        self._engine = shared.engine
        self._sleepers = shared.sleepers
        self._longest_seconds = shared.settings.max_delay_seconds
        self._gone = gone

    @property
    def client_is_gone(self) -> bool:
        """Whether the connection is lost, so that no answer would be heard."""
        return self._gone.is_set()

    async def judge(self, event: Event, *, holds: bool = True) -> tuple[Verdict, Reply | None]:
        """The verdict about an event, and the reply when it is refused. Whoever has waited is not held again."""
        verdict = await self._engine.judge(event)
        held, longest = 0.0, self._longest_seconds if holds else 0.0
        while verdict.action is Action.THROTTLE and held + verdict.retry_after_seconds <= longest:
            if not await self._sleep(verdict.retry_after_seconds) or self._gone.is_set():
                break
            held += verdict.retry_after_seconds
            verdict = await self._engine.judge(event, looked_up=verdict.looked_up)
        if (delay := min(verdict.delay_seconds, longest - held)) > 0:
            try:
                held += delay * await self._sleep(delay)
            except asyncio.CancelledError:  # the drain: nothing has come of the event
                await self._engine.refund(verdict)
                raise
        maillog.verdict(event, verdict, held)
        return verdict, answers.refusal(event.stage, verdict)

    async def _sleep(self, seconds: float) -> bool:
        return await self._sleepers.sleep(seconds, self._gone)
