"""The DNS as look-ups see it: questions and answers, remembered for as long as they hold.

Promises:

* `ask` raises nothing, and what it takes is bounded (`LIFETIME_SECONDS`). Trouble is the answer "temperror".
* The same question goes out once, however many wait for it. Whoever stops waiting stops nothing for the others, and
  an answer for which nobody waits any more is still remembered.
* Everything is bounded: what is remembered, questions under way (`SHARES`; one more is a temperror at once), what is
  read of an answer (`reputation.lookups.answers`, `reputation.lookups.exchange`).
* Questions of one purpose do not take the places of another, and those about one domain only a few of them: names that
  nobody answers for harm nobody else.
* Names are taken as they are: no search domains, no hosts file.

Answers are believed as they come from the configured servers: those should be on this machine or in this network.

Bugs: a domain is one that was registered, by the public suffix list. Where customers of a domain that is not on it have
name servers of their own, a silent one takes the places of the others.
"""

import asyncio
import logging
import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from typing import Any

import dns.exception
import dns.message
import dns.resolver

from reputation.clock import Clock
from reputation.errors import ConfigError
from reputation.facts import Lookup
from reputation.lookups.answers import KINDS, NXDOMAIN, Answer, Record, answer_of, failed
from reputation.lookups.cache import Cache
from reputation.lookups.exchange import WAITS, Exchange, Server
from reputation.lookups.names import askable, asked_domain
from reputation.lookups.outage import NEUTRAL, Outage
from reputation.lookups.places import Places, Share
from reputation.metrics import Metrics

_SCOUT = "scout"
"""The purpose of what goes out to see while the DNS is away."""
SHARES: dict[str, Share] = {
    Lookup.IPREV: Share(150, 20),
    Lookup.DNSBL: Share(150, 100),  # the domains are those of lists, which no stranger has chosen
    Lookup.SPF: Share(200, 20),
    Lookup.DKIM: Share(150, 20),
    Lookup.DMARC: Share(100, 20),
    Lookup.ARC: Share(150, 20),
    _SCOUT: Share(1, 1),
}
"""Questions under way: in all, and about one domain. Each has a socket for each server that it was put to."""
assert SHARES.keys() == {*Lookup, _SCOUT} - {Lookup.FILTER}
MAX_AT_ONCE = 5
"""Of the questions of one fact: those of all facts that one network of clients may have do not take all places."""
LIFETIME_SECONDS = 10.0
PORT = 53
RESOLV_CONF = "/etc/resolv.conf"
_SERVER = re.compile(r"(?:\[(?P<v6>.+)\]|(?P<v4>[^:]+))(?::(?P<port>\d{1,5}))?", re.ASCII)

log = logging.getLogger("reputon.lookups")

_Question = tuple[str, str]


class Resolver:
    """Asks some servers, in an event loop. Times in answers are those of `clock.monotonic`."""

    def __init__(
        self,
        servers: Sequence[Server],
        *,
        most_cached: int,
        clock: Clock,
        metrics: Metrics,
        waits: Sequence[float] = WAITS,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._waits = waits
        self._cache: Cache[tuple[str, tuple[Record, ...], float]] = Cache(most_cached)
        self._flights: dict[_Question, asyncio.Task[Answer]] = {}
        self._places: Places[str] = Places(SHARES)
        self._outage = Outage(tuple(servers), clock)
        self._probe: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> int:
        """Questions that wait for their answers."""
        return len(self._flights)

    @property
    def weight(self) -> int:
        """What is remembered."""
        return self._cache.weight

    async def ask_all(self, questions: Iterable[tuple[str, str]], wanted_by: Lookup) -> list[Answer]:
        """The answers to some questions (name and kind), of which `MAX_AT_ONCE` are asked at once."""
        at_once = asyncio.Semaphore(MAX_AT_ONCE)

        async def answer(name: str, kind: str) -> Answer:
            async with at_once:
                return await self.ask(name, kind, wanted_by)

        return await asyncio.gather(*(answer(name, kind) for name, kind in questions))

    async def ask(self, name: str, kind: str, wanted_by: Lookup = Lookup.SPF) -> Answer:
        """The records of a kind (A, AAAA, MX, PTR or TXT) that a name has.

        A name that cannot be asked about does not exist. Who does not say for what he asks has the places of SPF, where
        strangers ask.
        """
        assert kind in KINDS
        now = self._clock.monotonic()
        question = (kind, askable(name))
        if not question[1]:
            return Answer(NXDOMAIN, (), now + LIFETIME_SECONDS)
        if (known := self._cache.get(question, now)) is not None:
            return Answer(*known)
        flight = self._flights.get(question) or self._flight(question, wanted_by)
        if flight is None:
            return failed(now)
        # Waiting for a task, and not awaiting it: then who is cancelled does not cancel it.
        await asyncio.wait((flight,))
        return failed(now) if flight.cancelled() else flight.result()

    def _flight(self, question: _Question, wanted_by: Lookup) -> asyncio.Task[Answer] | None:
        """A new question goes out, unless there is no room, or no sense in it."""
        # While the DNS is away one may go out to see, whatever else is open.
        purpose = _SCOUT if self._outage.is_on else str(wanted_by)
        domain = asked_domain(question[1])
        if not self._places.take(purpose, domain):
            self._metrics.looked_up("dns", "refused")
            return None
        if purpose == _SCOUT:
            self._ask_neutral()  # nobody may answer for the scout's name even when the DNS is back
        flight = asyncio.create_task(self._asked(question), name="dns question")
        self._flights[question] = flight

        def land(_: asyncio.Task[Answer]) -> None:
            del self._flights[question]
            self._places.free(purpose, domain)

        flight.add_done_callback(land)
        return flight

    async def _asked(self, question: _Question) -> Answer:
        began = self._clock.monotonic()
        kind, name = question
        message = await self._exchanged(name, kind)
        now = self._clock.monotonic()
        answer = failed(now) if message is None else answer_of(message, kind, now)
        self._cache.put(question, answer.plain, expires=answer.expires, weight=answer.weight)
        self._metrics.looked_up("dns", answer.status)
        self._metrics.lookup_seconds.labels("dns").observe(now - began)
        return answer

    async def _exchanged(self, name: str, kind: str) -> dns.message.Message | None:
        outage = self._outage
        exchange = Exchange(name, kind, on_heard=outage.heard, on_silence=self._silence, waits=self._waits)
        try:
            async with asyncio.timeout(LIFETIME_SECONDS):
                return await exchange.ask(outage.order())
        except TimeoutError:
            return None
        except Exception:  # the top of a job: a message that trips our reader up is a failure of the DNS
            log.exception("a DNS answer cannot be read")
            return None

    def _silence(self, server: Server) -> None:
        self._outage.silence(server)
        if self._outage.is_suspected:
            self._ask_neutral()

    def _ask_neutral(self) -> None:
        """Ask what decides whether the DNS is away, unless that is under way."""
        if self._probe is None or self._probe.done():
            self._probe = asyncio.create_task(self._probed(), name="dns probe")

    async def _probed(self) -> None:
        await self._exchanged(*NEUTRAL)
        self._outage.conclude()

    async def close(self) -> None:
        """Ask nothing any more. Whoever waits gets a temperror."""
        tasks: list[asyncio.Task[Any]] = [*self._flights.values(), *([self._probe] if self._probe else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def server_of(text: str) -> Server:
    """Read ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT. Raises `ConfigError`.

    >>> server_of("192.0.2.53"), server_of("2001:db8::53"), str(server_of("[2001:db8::53]:5353"))
    (Server(address='192.0.2.53', port=53), Server(address='2001:db8::53', port=53), '[2001:db8::53]:5353')
    """
    match = _SERVER.fullmatch(text)
    host = (match["v6"] or match["v4"]) if match else text
    port = int(match["port"] or PORT) if match else PORT
    try:
        ip_address(host)
        is_good = 0 < port < 65_536
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError(
            f'nameservers: "{text}" is no address of a DNS server: '
            'write "192.0.2.53", "192.0.2.53:5353", "2001:db8::53" or "[2001:db8::53]:5353"'
        )
    return Server(host, port)


def servers_of(texts: Sequence[str], resolv_conf: str = RESOLV_CONF) -> tuple[Server, ...]:
    """The configured servers, or else those of this machine; none where there are none. Raises `ConfigError`."""
    if texts:
        return tuple(server_of(text) for text in texts)
    try:
        machine = dns.resolver.Resolver(resolv_conf).nameservers
    except dns.exception.DNSException:
        log.warning("%s names no DNS server: look-ups are temperrors", resolv_conf)
        return ()
    return tuple(Server(str(address), PORT) for address in machine)
