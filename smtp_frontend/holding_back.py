"""What a tarpit and a throttle are: the verdict about an event, once whoever waits for it has waited.

A tarpit holds the answer back once. A throttle holds it back until there is room, and judges again; what does not fit
into the time that there is stays a throttle, which is told as a tempfail. Both are bounded in number (`sleepers`), and
end when whoever waits hangs up.
"""

import asyncio

from reputation.engine import Engine
from reputation.events import Event
from reputation.verdict import Action, Verdict
from smtp_frontend.sleepers import Sleepers


async def held_back(
    engine: Engine, sleepers: Sleepers, event: Event, longest_seconds: float, hurry: asyncio.Event
) -> tuple[Verdict, float]:
    """The verdict, and for how many seconds it was held back; `hurry` is set when nobody waits any more."""
    verdict, held = await engine.judge(event), 0.0
    while verdict.action is Action.THROTTLE and held + verdict.retry_after_seconds <= longest_seconds:
        if not await sleepers.sleep(verdict.retry_after_seconds, hurry) or hurry.is_set():
            break
        held += verdict.retry_after_seconds
        verdict = await engine.judge(event, looked_up=verdict.looked_up)
    if (delay := min(verdict.delay_seconds, longest_seconds - held)) > 0:
        try:
            held += delay * await sleepers.sleep(delay, hurry)
        except asyncio.CancelledError:  # the drain, or a deadline: nobody has heard of it, so nothing has come of it
            await engine.refund(verdict)
            raise
    return verdict, held
