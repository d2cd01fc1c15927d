"""How the policy service asks the engine: the verdict, held back as it says, with a line in the mail log.

What a tarpit and a throttle mean is said in `smtp_frontend.holding_back`; here an answer is held back no longer than
its deadline lets it, all stages of one question together. Whoever is held back is answered at once when the mail server
hangs up, and when the process drains.
"""

import asyncio

from reputation.engine import Engine
from reputation.events import Event
from reputation.verdict import Verdict
from smtp_frontend import maillog
from smtp_frontend.holding_back import held_back
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
    verdict, held = await held_back(engine, sleepers, event, patience.left_seconds, patience.hurry)
    patience.left_seconds -= held
    maillog.verdict(event, verdict, held, queue_id=patience.queue_id)
    return verdict
