"""Who speaks for a message: its signatures (DKIM), its chain of seals (ARC), and its author's domain (DMARC).

    message -> one task for each signature, the chain, each author's domain; all at the same time
            -> `Case`, which is waited for as long as its asker likes
            -> `Case.found`: the facts, of what has come by then; what has not is "temperror"

A message is seen once, so nothing is remembered about it here; the resolver remembers keys and records. Small messages
are computed in the event loop, large ones in threads (`reputation.lookups.message`).

Promises: nothing raises, whatever is in a message. A case that is closed leaves its message alone from then on. The
messages of one network of clients have a share of all places (`SHARES`); about one that gets none nothing is found out.
"""

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from reputation.clock import Clock
from reputation.events import Data
from reputation.facts import TEMPERROR, LookedUp, Lookup, Signature
from reputation.lookups.arc import Chain, chain_of
from reputation.lookups.dmarc import Authors, Found, Wanted, authors_of, judged, wanted_of, worst_of
from reputation.lookups.message import MAX_THREADS, Message
from reputation.lookups.names import network_of, unmapped
from reputation.lookups.places import Places, Share
from reputation.lookups.resolver import Resolver
from reputation.lookups.seals import NEUTRAL, NONE
from reputation.lookups.signatures import Candidate, best_of, candidates_of, verified
from reputation.metrics import Metrics

MESSAGES = "messages"
SHARES = {MESSAGES: Share(300, 20)}
"""Messages under way: in all, and of clients of one network."""
ABOUT_MESSAGES = frozenset({Lookup.DKIM, Lookup.DMARC, Lookup.ARC})
FOR_DMARC = frozenset({Lookup.SPF, Lookup.DKIM})
"""What it rests on."""

log = logging.getLogger("reputon.lookups")

T = TypeVar("T")


class Authentication:
    """Begins cases, over one resolver. Times are those of `clock.monotonic`."""

    def __init__(self, resolver: Resolver, clock: Clock, metrics: Metrics) -> None:
        self._resolver = resolver
        self._clock = clock
        self.metrics = metrics
        self._executor = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="signatures")
        self._places: Places[bytes] = Places(SHARES)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    @property
    def under_way(self) -> int:
        """Tasks that are not done."""
        return len(self._tasks)

    def begin(self, event: Data, wanted: frozenset[Lookup]) -> "Case":
        """Begin to find out what is wanted of `ABOUT_MESSAGES`. The caller closes the case."""
        network = network_of(unmapped(event.session.client))
        if self._is_closed or not self._places.take(MESSAGES, network):
            return Case(self, None, wanted, network)
        case = Case(self, Message(event.content, self._executor), wanted, network)
        case.begin(self._resolver, event.author)
        return case

    def task(self, awaitable: Awaitable[T], lookup: Lookup) -> "asyncio.Task[T | None]":
        """A task that gives None where something goes wrong."""

        async def watched() -> T | None:
            began = self._clock.monotonic()
            try:
                return await awaitable
            except Exception:  # the top of a job: a bug of ours, or of dkimpy's, costs a fact and no event
                log.exception("a look-up has failed: %s", lookup)
                return None
            finally:
                self.metrics.lookup_seconds.labels(str(lookup.value)).observe(self._clock.monotonic() - began)

        task = asyncio.create_task(watched(), name="authentication")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def free(self, network: bytes) -> None:
        """A message is done with."""
        self._places.free(MESSAGES, network)

    async def close(self) -> None:
        """Find out nothing any more."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._executor.shutdown(wait=False, cancel_futures=True)


class Case:
    """What is being found out about one message; without one, about nothing."""

    def __init__(
        self, authentication: Authentication, message: Message | None, wanted: frozenset[Lookup], network: bytes
    ) -> None:
        self._authentication = authentication
        self._message = message
        self._wanted = wanted
        self._network = network
        self._authors = Authors((), is_lawful=False)
        self._signatures: list[tuple[Candidate, asyncio.Task[Signature | None]]] = []
        self._policies: list[asyncio.Task[Wanted | None]] = []
        self._chain: asyncio.Task[Chain | None] | None = None

    @property
    def tasks(self) -> list["asyncio.Task[Any]"]:
        """What can be waited for."""
        chain = [self._chain] if self._chain is not None else []
        return [*(task for _, task in self._signatures), *self._policies, *chain]

    def begin(self, resolver: Resolver, author: str) -> None:
        """Make the tasks."""
        message, start = self._message, self._authentication.task
        assert message is not None
        self._authors = authors_of(*message.authors(), author)
        if Lookup.DKIM in self._wanted:
            for candidate in candidates_of(message, self._authors.domains):
                task = start(verified(resolver, message, candidate), Lookup.DKIM)
                self._signatures.append((candidate, task))
        if Lookup.DMARC in self._wanted:
            self._policies = [start(wanted_of(resolver, name), Lookup.DMARC) for name in self._authors.domains]
        if Lookup.ARC in self._wanted:
            self._chain = start(chain_of(resolver, message), Lookup.ARC)

    def found(self, spf: str, spf_domain: str) -> Mapping[str, Any]:
        """The fields of `LookedUp` that this case is about, of what has been found out by now."""
        signatures = tuple(_result(task) or candidate.found(TEMPERROR) for candidate, task in self._signatures)
        found: dict[str, Any] = {}
        if Lookup.DKIM in self._wanted:
            found |= {"signatures": signatures, "dkim": self._dkim(signatures)}
        if Lookup.DMARC in self._wanted:
            dmarc = self._dmarc(spf, spf_domain, signatures)
            found |= {"dmarc": dmarc.word, "dmarc_policy": dmarc.policy, "dmarc_domain": dmarc.domain}
        if Lookup.ARC in self._wanted:
            chain = (_result(self._chain) if self._chain is not None else None) or Chain(TEMPERROR)
            found |= {"arc": chain.word, "arc_domain": chain.domain}
        for lookup in self._wanted & ABOUT_MESSAGES:
            self._authentication.metrics.looked_up(str(lookup.value), found[lookup.value])
        return found

    def _dkim(self, signatures: tuple[Signature, ...]) -> str:
        if self._message is None:
            return TEMPERROR
        if not self._message.is_readable:
            return NEUTRAL if self._message.seems_signed else NONE
        return best_of(signatures)

    def _dmarc(self, spf: str, spf_domain: str, signatures: tuple[Signature, ...]) -> Found:
        if self._message is None:
            return Found(TEMPERROR)
        domains, tasks = self._authors.domains, self._policies
        policies = [
            _result(task) or Wanted(name, "", has_failed=True) for name, task in zip(domains, tasks, strict=True)
        ]
        return worst_of(self._authors, [judged(policy, spf, spf_domain, signatures) for policy in policies])

    def close(self) -> None:
        """Stop what is not done, and let go of the message."""
        if self._message is None:
            return
        for task in self.tasks:
            task.cancel()
        self._message.give_up()
        self._authentication.free(self._network)


def _result(task: "asyncio.Task[T | None]") -> T | None:
    """What a task has found, as far as it has."""
    return task.result() if task.done() and not task.cancelled() else None


assert {str(lookup.value) for lookup in ABOUT_MESSAGES} <= set(LookedUp.__dataclass_fields__)
