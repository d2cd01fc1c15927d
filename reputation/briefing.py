"""What is found out about an event before it is judged: look-ups, what the store knows, and what Python policies say.

    look-ups (DNS) and the store's answer to the policy's inquiry, at the same time -> `Moment`
    functions in Python, one after another, each within its deadline                -> opinions

What has no answer is a fact of its own (temperror, an unknown reputation), and never a reason to wait longer. A stage
whose rules ask for nothing costs nothing here.
"""

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from reputation.charges import Answer, Charge
from reputation.clock import Clock
from reputation.contracts import Lookups
from reputation.events import Event
from reputation.facts import NO_NETWORK, NOTHING_KNOWN, NOTHING_LOOKED_UP, Known, LookedUp
from reputation.inquiry import DAY_SECONDS, UNKNOWN_BASE, Inquiry, base_of, charges_of, known_of, memory_of
from reputation.keys import Entities, entities_of
from reputation.metrics import Metrics
from reputation.newcomers import Newcomers
from reputation.opinions import Opinion, PolicyFunction
from reputation.policy import Policy
from reputation.spelling import Spelling
from reputation.vocabulary import Moment
from reputation.windows import MICROSECONDS

BASE_SECONDS = 30.0
"""How long the site's base rate is believed."""

log = logging.getLogger("reputon.engine")


class Briefing:
    """Finds out what policies want to know. `read` asks the store for readings, and gives None for no answer."""

    def __init__(
        self,
        lookups: Lookups,
        read: Callable[[Sequence[Charge]], Awaitable[Answer | None]],
        spelling: Spelling,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        self.lookups = lookups
        self._read = read
        self._spelling = spelling
        self._metrics = metrics
        self._clock = clock
        self._base = UNKNOWN_BASE
        self._since = math.inf
        """Since when the site remembers anybody; until that is known, nobody is new."""
        self._base_until = self._since_until = 0.0
        self._newcomers = Newcomers()
        self._failed: set[tuple[str, str]] = set()

    def network(self, event: Event) -> LookedUp:
        """What is known of the client's network, which costs nothing."""
        network = self.lookups.network(event.session.client)
        return NOTHING_LOOKED_UP if network is NO_NETWORK else LookedUp(network=network)

    def begin_anew(self) -> None:
        """Another policy is in force: what fails in it is told again."""
        self._failed.clear()

    async def completed(self, policy: Policy, moment: Moment) -> Moment:
        """The moment, with what the policy's conditions look at at its stage."""
        event, network = moment.event, moment.looked_up.network
        wanted = policy.lookups[event.stage] & self.lookups.possible
        inquiry = policy.inquiry_for(event, moment.entities)
        if moment.looked_up.is_complete:
            wanted = frozenset()
        if wanted and inquiry:
            looking_up = self.lookups.look_up(event, wanted, network)
            looked_up, known = await asyncio.gather(looking_up, self._known(inquiry, moment.entities))
        elif wanted:
            looked_up, known = await self.lookups.look_up(event, wanted, network), NOTHING_KNOWN
        elif inquiry:
            return moment._replace(known=await self._known(inquiry, moment.entities))
        else:
            return moment
        entities = entities_of(event, self._spelling, looked_up)
        return moment._replace(entities=entities, looked_up=replace(looked_up, is_complete=True), known=known)

    async def _known(self, inquiry: Inquiry, entities: Entities) -> Known:
        now = self._clock.monotonic()
        newcomers = self._newcomers.of(entities, now)
        with_site = bool((inquiry.scores and now >= self._base_until) or (inquiry.ages and now >= self._since_until))
        charges = charges_of(inquiry, entities, with_site=with_site, meeting=newcomers.welcome)
        answer = await self._read(charges) if charges else Answer()
        if answer is None:
            return replace(known_of(inquiry, entities, Answer(), self._base), told=False)
        if (base := base_of(answer)) is not None:
            self._base, self._base_until = base, now + BASE_SECONDS
        if (since := memory_of(answer)) is not None:
            self._since, self._since_until = since, now + BASE_SECONDS
        at = answer.at_us / MICROSECONDS
        known = known_of(inquiry, entities, answer, self._base, (at - self._since) / DAY_SECONDS)
        newcomers.count += sum(not age for age in known.ages.values())
        return known

    async def opinions(self, policy: Policy, moment: Moment) -> list[Opinion]:
        """What rules without limits and Python policies say."""
        opinions: list[Opinion | None] = [*policy.opinions_on(moment)]
        for function in policy.functions:
            told = moment.known.told or not function.inquiry
            if function.stage is moment.event.stage and told:
                opinions.append(await self._asked(function, moment))
        return [opinion for opinion in opinions if opinion is not None]

    async def _asked(self, function: PolicyFunction, moment: Moment) -> Opinion | None:
        try:
            async with asyncio.timeout(function.deadline_seconds):
                verdict = await function.call(moment)
        except Exception as error:  # whatever somebody else's code does, mail flows
            self._metrics.function_failures.labels(function.name, type(error).__name__).inc()
            failure = (function.name, type(error).__name__)
            if failure not in self._failed:
                self._failed.add(failure)
                log.exception("the policy %s failed and has no opinion; said once", function.name)
            return None
        return None if verdict is None else Opinion(function.name, function.mode, verdict)
