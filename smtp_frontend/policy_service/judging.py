"""How the policy service asks the engine: the verdict, held back as it says, with a line in the mail log.

What a tarpit and a throttle mean is said in `smtp_frontend.judging`; here an answer is held back no longer than its
deadline lets it, all stages of one question together. Whoever is held back is answered at once when the mail server
hangs up, and when the process drains.
"""

import asyncio

from reputation.engine import Engine
from reputation.events import Event
from reputation.verdict import Action, Verdict
from smtp_frontend import maillog
from smtp_frontend.sleepers import Sleepers

HELD_SHARE = 0.8
"""Of the deadline: the rest is for the store, and for the way back."""


class Patience:
    """How long one question may still be held back."""

    __slots__ = ("hurry", "left_seconds", "queue_id")

    def __init__(self, deadline_seconds: float, hurry: asyncio.Event, queue_id: str) -> None:
        self.left_seconds = HELD_SHARE * deadline_seconds
        self.hurry = hurry
        self.queue_id = queue_id


async def judged(engine: Engine, sleepers: Sleepers, event: Event, patience: Patience) -> Verdict:
    """The verdict about an event, after the delay that it asks for."""
    verdict = await engine.judge(event)
    held = 0.0
    while verdict.action is Action.THROTTLE and verdict.retry_after_seconds <= patience.left_seconds - held:
        if patience.hurry.is_set() or not await sleepers.sleep(verdict.retry_after_seconds, patience.hurry):
            break
        held += verdict.retry_after_seconds
        verdict = await engine.judge(event)
    if (delay := min(verdict.delay_seconds, patience.left_seconds - held)) > 0:
        try:
            held += delay * await sleepers.sleep(delay, patience.hurry)
        except asyncio.CancelledError:  # nobody has heard of it, so nothing has come of the event
            await engine.refund(verdict)
            raise
    patience.left_seconds -= held
    maillog.verdict(event, verdict, held, queue_id=patience.queue_id)
    return verdict
