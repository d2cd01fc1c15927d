"""How a session asks the engine: the verdict, held back as it says, a line in the mail log, a reply."""

import asyncio

from reputation.events import Event
from reputation.verdict import Verdict
from smtp_frontend import answers, maillog
from smtp_frontend.holding_back import held_back
from smtp_frontend.reply import Reply
from smtp_frontend.surroundings import Surroundings


class Judge:
    """Asks on behalf of one client."""

    def __init__(self, shared: Surroundings, gone: asyncio.Event) -> None:
        self._shared = shared
        self._gone = gone

    @property
    def client_is_gone(self) -> bool:
        """Whether the connection is lost, so that no answer would be heard."""
        return self._gone.is_set()

    async def judge(self, event: Event, *, holds: bool = True) -> tuple[Verdict, Reply | None]:
        """The verdict about an event, and the reply when it is refused. Whoever has waited is not held again."""
        shared = self._shared
        longest = shared.settings.max_delay_seconds if holds else 0.0
        verdict, held = await held_back(shared.engine, shared.sleepers, event, longest, self._gone)
        maillog.verdict(event, verdict, held)
        return verdict, answers.refusal(event.stage, verdict)
