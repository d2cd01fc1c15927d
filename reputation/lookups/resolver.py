"""The DNS as look-ups see it: questions and answers, remembered for as long as they hold.

Promises:

* `ask` raises nothing, and what it takes is bounded (`LIFETIME_SECONDS`). Trouble is the answer "temperror".
* The same question goes out once, however many wait for it. Whoever stops waiting stops nothing for the others, and
  an answer for which nobody waits any more is still remembered.
* Everything is bounded: what is remembered, questions under way (`MAX_UNDER_WAY`; one more is a temperror at once),
  what is read of an answer (`reputation.lookups.answers`, `reputation.lookups.exchange`).
* Names are taken as they are: no search domains, no hosts file.

Answers are believed as they come from the configured servers: those should be on this machine or in this network.
"""

import asyncio
import logging
import re
from collections.abc import Sequence
from ipaddress import ip_address

import dns.exception
import dns.message
import dns.resolver

from reputation.clock import Clock
from reputation.errors import ConfigError
from reputation.lookups.answers import KINDS, NXDOMAIN, Answer, Record, answer_of, failed
from reputation.lookups.cache import Cache
from reputation.lookups.exchange import WAITS, Exchange, Server
from reputation.lookups.names import askable
from reputation.lookups.outage import Outage
from reputation.metrics import Metrics

MAX_UNDER_WAY = 500
"""Each has a socket for each server that it was put to."""
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
        self._outage = Outage(tuple(servers), clock)

    @property
    def under_way(self) -> int:
        """Questions that wait for their answers."""
        return len(self._flights)

    @property
    def weight(self) -> int:
        """What is remembered."""
        return self._cache.weight

    async def ask(self, name: str, kind: str) -> Answer:
        """The records of a kind (A, AAAA, MX, PTR or TXT) that a name has.

        A name that cannot be asked about does not exist.
        """
        assert kind in KINDS
        now = self._clock.monotonic()
        question = (kind, askable(name))
        if not question[1]:
            return Answer(NXDOMAIN, (), now + LIFETIME_SECONDS)
        if (known := self._cache.get(question, now)) is not None:
            return Answer(*known)
        flight = self._flights.get(question) or self._flight(question)
        if flight is None:
            return failed(now)
        # Waiting for a task, and not awaiting it: then who is cancelled does not cancel it.
        await asyncio.wait((flight,))
        return failed(now) if flight.cancelled() else flight.result()

    def _flight(self, question: _Question) -> asyncio.Task[Answer] | None:
        """A new question goes out, unless there is no room, or no sense in it."""
        if len(self._flights) >= MAX_UNDER_WAY or (self._outage.is_on and self._flights):
            self._metrics.looked_up("dns", "refused")
            return None
        flight = asyncio.create_task(self._asked(question), name="dns question")
        self._flights[question] = flight
        flight.add_done_callback(lambda _: self._flights.pop(question, None))
        return flight

    async def _asked(self, question: _Question) -> Answer:
        began = self._clock.monotonic()
        kind, name = question
        try:
            message = await self._exchanged(name, kind)
        except Exception:  # the top of a job: a message that trips our reader up is a failure of the DNS
            log.exception("a DNS answer cannot be read")
            message = None
        now = self._clock.monotonic()
        answer = failed(now) if message is None else answer_of(message, kind, now)
        self._cache.put(question, answer.plain, expires=answer.expires, weight=answer.weight)
        self._metrics.looked_up("dns", answer.status)
        self._metrics.lookup_seconds.labels("dns").observe(now - began)
        return answer

    async def _exchanged(self, name: str, kind: str) -> dns.message.Message | None:
        outage = self._outage
        exchange = Exchange(name, kind, on_heard=outage.heard, on_silence=outage.silence, waits=self._waits)
        try:
            async with asyncio.timeout(LIFETIME_SECONDS):
                return await exchange.ask(outage.order())
        except TimeoutError:
            return None

    async def close(self) -> None:
        """Ask nothing any more. Whoever waits gets a temperror."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)


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
