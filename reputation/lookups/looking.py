"""What is found out about an event: fulfils `reputation.contracts.Lookups`.

    event -> which facts -> remembered?  yes: nothing is awaited, no task is made
                            no: one task for each fact, shared by all events that want it
          -> all awaited together, until the deadline -> `LookedUp`; what has not come is "temperror"

A task that is late goes on for up to `BACKGROUND_SECONDS` in all, so that the next event finds its fact. What is found
is remembered for as long as the answers hold that it rests on; a temperror for a few seconds.

What is about a message (`reputation.lookups.authentication`) is found out at the same time, under the same deadline,
and ends with it. Content filters are asked at the same time, and have deadlines of their own.

Promises: nothing raises, whatever a client writes. What can wait is bounded: facts (`SHARES`), and the resolver's
questions; one more is a temperror at once. The facts of one kind do not take the places of another, and those of one
network of clients only a few of them.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from reputation.clock import Clock, SystemClock
from reputation.config import LookupSettings
from reputation.contracts import Lookups
from reputation.events import ClientAddress, Data, Event, Mail, Rcpt
from reputation.facts import TEMPERROR, Filtered, LookedUp, Lookup, Network
from reputation.front_end_settings import FilterSettings
from reputation.lookups.answers import FAILED_SECONDS, WEIGHED_OCTETS
from reputation.lookups.asn import AsnTable, check_table
from reputation.lookups.authentication import ABOUT_MESSAGES, FOR_DMARC, Authentication, Case
from reputation.lookups.cache import Cache
from reputation.lookups.dnsbl import LISTED, Dnsbl, Zone, zones_of
from reputation.lookups.exchange import WAITS
from reputation.lookups.filters.asking import Filters
from reputation.lookups.iprev import iprev_of
from reputation.lookups.names import network_of, unmapped
from reputation.lookups.places import Places, Share
from reputation.lookups.resolver import Resolver, server_of, servers_of
from reputation.lookups.sender_policy import NONE, Identity, identity_of, policy_of
from reputation.metrics import Metrics

BACKGROUND_SECONDS = 10.0

log = logging.getLogger("reputon.lookups")

Fact = tuple[str, str]
"""A word, and with iprev the confirmed name."""
FactKey = tuple[Any, ...]
"""Which look-up (text), the client's address (octets), and what else it is about (texts)."""
_FAILED: Fact = (TEMPERROR, "")
_PERSONAL: Fact = ("", "")
"""Stands where SPF of a domain differs from sender to sender."""
_IPREV, _DNSBL, _SPF = (str(lookup.value) for lookup in (Lookup.IPREV, Lookup.DNSBL, Lookup.SPF))
_ALL = frozenset(Lookup)
_WITHOUT_FILTERS = _ALL - {Lookup.FILTER}
SHARES = {_IPREV: Share(300, 20), _DNSBL: Share(400, 20), _SPF: Share(300, 20)}
"""Facts under way: in all, and about clients of one network (and one list)."""


class ContentFilters(Protocol):
    """Content filters, all of them together."""

    async def ask(self, event: Data, *, rdns: str) -> Filtered:
        """What they say about a message. Raises nothing, and takes no longer than their own deadlines.

        `rdns` is the client's confirmed reverse name, empty where it has none, or the DNS did not answer in time.
        """
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Looking:
    """Look-ups over one resolver, a table of networks, some DNS lists and content filters."""

    def __init__(
        self,
        *,
        resolver: Resolver,
        table: AsnTable | None,
        zones: Sequence[Zone],
        deadline_seconds: float,
        most_cached: int,
        clock: Clock,
        metrics: Metrics,
        filters: ContentFilters | None = None,
    ) -> None:
        self._resolver = resolver
        self._authentication = Authentication(resolver, clock, metrics)
        self._filters = filters
        self._table = table
        self._dnsbl = Dnsbl(zones, resolver)
        self._zones = tuple(self._dnsbl.zones)
        self._deadline_seconds = deadline_seconds
        self._clock = clock
        self._metrics = metrics
        self._facts: Cache[Fact] = Cache(most_cached)
        self._flights: dict[FactKey, asyncio.Task[Fact]] = {}
        self._places: Places[tuple[bytes, str]] = Places(SHARES)
        self._is_closed = False

    @property
    def possible(self) -> frozenset[Lookup]:
        """See the contract."""
        return _ALL if self._filters is not None else _WITHOUT_FILTERS

    @property
    def under_way(self) -> int:
        """Facts that are being found out."""
        return len(self._flights)

    def network(self, client: ClientAddress) -> Network:
        """Whose network a client is in; from memory, at once."""
        return Network() if self._table is None else self._table.network(client)

    async def look_up(self, event: Event, wanted: frozenset[Lookup], network: Network) -> LookedUp:
        """What is `wanted` about an event; see the contract."""
        if not isinstance(event, Data) or not event.content:
            return await self._found(event, wanted, network, None)
        if Lookup.DMARC in wanted:
            wanted |= FOR_DMARC
        filtering = None
        if Lookup.FILTER in wanted and self._filters is not None:
            filtering = asyncio.create_task(self._filtered(self._filters, event, network), name="content filters")
        try:
            case = None if ABOUT_MESSAGES.isdisjoint(wanted) else self._authentication.begin(event, wanted)
            found = await self._found(event, wanted, network, case)
            return found if filtering is None else replace(found, filtered=await filtering)
        finally:
            if filtering is not None:
                filtering.cancel()

    async def _filtered(self, filters: ContentFilters, event: Data, network: Network) -> Filtered:
        # Filters count against a client that it has no name, so they are told the one that it has.
        client = await self._found(event, frozenset({Lookup.IPREV}), network, None)
        try:
            return await filters.ask(event, rdns=client.rdns)
        except Exception:  # the top of a job, as below
            log.exception("a look-up has failed: %s", Lookup.FILTER)
            return Filtered(verdict=TEMPERROR, failed_closed=True)

    async def _found(self, event: Event, wanted: frozenset[Lookup], network: Network, case: Case | None) -> LookedUp:
        """What comes from the DNS. Closes the case."""
        identity, spf = None, ""
        if Lookup.SPF in wanted and isinstance(event, Mail | Rcpt | Data):
            identity = identity_of(event.sender, event.session.helo)
            spf = NONE if identity is None else ""
        try:
            facts, missing = self._begun(unmapped(event.session.client), wanted, identity)
            waiting = [*missing.values(), *(case.tasks if case is not None else ())]
            if waiting:
                # Waiting for tasks, and not awaiting them: nobody who stops waiting stops them for others.
                await asyncio.wait(waiting, timeout=self._deadline_seconds)
                facts |= {key: _fact_of(flight) for key, flight in missing.items()}
            found = self._looked_up(facts, network, spf, identity)
            if case is None:
                return found
            return replace(found, **case.found(found.spf, "" if identity is None else identity.domain))
        finally:
            if case is not None:
                case.close()

    def _begun(
        self, client: ClientAddress, wanted: frozenset[Lookup], identity: Identity | None
    ) -> tuple[dict[FactKey, Fact], dict[FactKey, asyncio.Task[Fact]]]:
        """The facts that are remembered, and tasks for the others."""
        now = self._clock.monotonic()
        facts: dict[FactKey, Fact] = {}
        missing: dict[FactKey, asyncio.Task[Fact]] = {}
        for key in self._keys(client.packed, wanted, identity, now):
            fact = self._facts.get(key, now)
            if fact is not None:
                facts[key] = fact
            elif (flight := self._flights.get(key) or self._start(key, client, identity)) is None:
                facts[key] = _FAILED
            else:
                missing[key] = flight
        return facts, missing

    def _keys(self, packed: bytes, wanted: frozenset[Lookup], identity: Identity | None, now: float) -> list[FactKey]:
        """The facts that are wanted, and can be asked for."""
        keys: list[FactKey] = []
        if Lookup.IPREV in wanted:
            keys.append((_IPREV, packed))
        if Lookup.DNSBL in wanted:
            keys += [(_DNSBL, packed, zone) for zone in self._zones]
        if identity is not None:
            general = (_SPF, packed, identity.domain)
            known = self._facts.get(general, now)
            # While nothing is known about the domain, nobody may share what is found about another sender of it.
            keys.append((*general, identity.local, identity.helo) if known is None or known == _PERSONAL else general)
        return keys

    def _looked_up(self, facts: dict[FactKey, Fact], network: Network, spf: str, identity: Identity | None) -> LookedUp:
        iprev = rdns = ""
        listed: list[str] = []
        unanswered: list[str] = []
        for key, (word, name) in facts.items():
            self._metrics.looked_up(key[0], word)
            if key[0] == _IPREV:
                iprev, rdns = word, name
            elif key[0] == _SPF:
                spf = word
            elif word == LISTED:
                listed.append(key[2])
            elif word == TEMPERROR:
                unanswered.append(key[2])
        return LookedUp(
            network=network,
            iprev=iprev,
            rdns=rdns,
            dnsbl=tuple(listed),
            dnsbl_temperror=tuple(unanswered),
            spf=spf,
            spf_identity="" if identity is None else f"{identity.local}@{identity.domain}",
        )

    def _start(self, key: FactKey, client: ClientAddress, identity: Identity | None) -> asyncio.Task[Fact] | None:
        """Begin to find out a fact; None where too many like it are being found out."""
        group = (network_of(client), str(key[2]) if key[0] == _DNSBL else "")
        if self._is_closed or not self._places.take(key[0], group):
            return None
        flight = asyncio.create_task(self._find(key, client, identity), name="look-up")
        self._flights[key] = flight

        def land(_: asyncio.Task[Fact]) -> None:
            del self._flights[key]
            self._places.free(key[0], group)

        flight.add_done_callback(land)
        return flight

    async def _find(self, key: FactKey, client: ClientAddress, identity: Identity | None) -> Fact:
        """Find out a fact, and remember it."""
        began = self._clock.monotonic()
        word, name, expires = TEMPERROR, "", began + FAILED_SECONDS
        try:
            async with asyncio.timeout(BACKGROUND_SECONDS):
                word, name, expires = await self._ask(key, client, identity)
        except TimeoutError:
            expires = self._clock.monotonic() + FAILED_SECONDS
        except Exception:  # the top of a job: a bug of ours costs a fact, and no event
            log.exception("a look-up has failed: %s", key[0])
        self._metrics.lookup_seconds.labels(key[0]).observe(self._clock.monotonic() - began)
        self._facts.put(key, (word, name), expires=expires, weight=_weight(key))
        return word, name

    async def _ask(self, key: FactKey, client: ClientAddress, identity: Identity | None) -> tuple[str, str, float]:
        if key[0] == _IPREV:
            return await iprev_of(self._resolver, client)
        if key[0] == _DNSBL:
            return await self._dnsbl.standing_of(client, str(key[2]), self._clock.monotonic())
        assert identity is not None
        found = await policy_of(self._resolver, client, identity, self._clock.monotonic())
        # For others of the same domain: the word, or that each must be asked about.
        general = _PERSONAL if found.is_personal else (found.word, "")
        self._facts.put(key[:3], general, expires=found.expires)
        return found.word, "", found.expires

    async def close(self) -> None:
        """Let go of sockets. Whoever waits gets a temperror, and later everybody whose facts are not remembered."""
        self._is_closed = True
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._authentication.close()
        await self._resolver.close()
        if self._filters is not None:
            await self._filters.close()


def _fact_of(flight: asyncio.Task[Fact]) -> Fact:
    """What a task has found, as far as it has."""
    return flight.result() if flight.done() and not flight.cancelled() else _FAILED


def _weight(key: FactKey) -> int:
    """A long key, say with a long local part, counts as several facts."""
    return 1 + sum(map(len, key)) // WEIGHED_OCTETS


def check_lookups(settings: LookupSettings) -> None:
    """Raises `ConfigError` for what `open_lookups` could not use. Asks no server; reads only the head of the table."""
    for text in settings.nameservers:
        server_of(text)
    zones_of(settings.dnsbl)
    if settings.asn_table:
        check_table(Path(settings.asn_table))


def open_lookups(
    settings: LookupSettings,
    metrics: Metrics | None = None,
    *,
    filters: Sequence[FilterSettings] = (),
    hostname: str = "",
    clock: Clock | None = None,
    waits: Sequence[float] = WAITS,
) -> Lookups:
    """Look-ups for an event loop that may be started later. The caller closes them. Raises `ConfigError`.

    `hostname` is our own name, which content filters are told.
    Reads the whole table of networks: half a second for 500,000 prefixes, in which nothing else runs.
    """
    clock = clock or SystemClock()
    metrics = metrics or Metrics()
    zones = zones_of(settings.dnsbl)
    servers = servers_of(settings.nameservers)
    table = AsnTable.load(Path(settings.asn_table)) if settings.asn_table else None
    resolver = Resolver(servers, most_cached=settings.max_cached, clock=clock, metrics=metrics, waits=waits)
    return Looking(
        resolver=resolver,
        table=table,
        zones=zones,
        deadline_seconds=settings.deadline_seconds,
        most_cached=settings.max_cached,
        clock=clock,
        metrics=metrics,
        filters=Filters(filters, metrics, clock, hostname=hostname) if filters else None,
    )
