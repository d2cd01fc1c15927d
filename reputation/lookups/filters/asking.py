"""Content filters are asked about a message: fulfils `reputation.lookups.looking.ContentFilters`.

    event -> every filter, at the same time, each within its own deadline -> one `Filtered` (combining.py)

    a filter:  larger than max_bytes?      no verdict, and no failure: the operator has said so
               away, or too many wait?     temperror at once
               asked: answer, or not in time, or not in its words: temperror

Promises: nothing raises, whatever a client writes or a filter answers. At most `MAX_UNDER_WAY` messages wait for one
filter; one that hangs does not collect all sessions. A temperror of a filter whose `on_failure` is tempfail says
`failed_closed`. No message is held on to beyond its question.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from reputation.clock import Clock, SystemClock
from reputation.errors import ConfigError
from reputation.events import Data
from reputation.facts import NOT_FILTERED, TEMPERROR, Filtered
from reputation.front_end_settings import FilterSettings
from reputation.lookups.filters.address import Address
from reputation.lookups.filters.clamd import Clamd
from reputation.lookups.filters.combining import combined, is_evidence
from reputation.lookups.filters.health import Health
from reputation.lookups.filters.spamd import Spamd
from reputation.metrics import Metrics

MAX_UNDER_WAY = 200
"""Messages that wait for one filter."""
NOTHING_FOUND, TOO_LARGE = "nothing", "too-large"
"""In metrics: what an empty verdict means."""

log = logging.getLogger("reputon.lookups")


class Door(Protocol):
    """One kind of filter, and how it is asked."""

    async def ask(self, event: Data, rdns: str) -> Filtered | None:
        """What it says about a message, None for what cannot be read; OSError for no answer. Has no deadline."""
        ...

    async def ping(self) -> bool:
        """Whether it answers at all; OSError for no."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Filters:
    """All content filters. Made before the event loop or in it, used in one."""

    def __init__(
        self, settings: Sequence[FilterSettings], metrics: Metrics, clock: Clock, *, hostname: str = ""
    ) -> None:
        """`hostname` is our own, which filters are told. Raises `ConfigError`; asks nobody yet."""
        check_filters(settings)
        self._filters = [_Filter(one, metrics, clock, hostname) for one in settings]

    async def ask(self, event: Data, *, rdns: str = "") -> Filtered:
        """What they say about a message. `rdns` is the client's confirmed reverse name, as far as it is known."""
        if not event.content:
            return NOT_FILTERED
        return combined(await asyncio.gather(*(one.ask(event, rdns) for one in self._filters)))

    async def close(self) -> None:
        """Let go of connections; for when nobody asks any more."""
        await asyncio.gather(*(one.close() for one in self._filters))


class _Filter:
    """One filter, its deadline, its places and its health."""

    def __init__(self, settings: FilterSettings, metrics: Metrics, clock: Clock, hostname: str) -> None:
        self._settings = settings
        self._clock = clock
        self._name = str(Address.parse(settings.url))
        self._door = _door(settings, clock, hostname)
        self._health = Health(self._name, self._door.ping, clock=clock, metrics=metrics)
        self._metrics = metrics
        self._under_way = 0

    async def ask(self, event: Data, rdns: str) -> Filtered:
        if len(event.content) > self._settings.max_bytes:
            self._metrics.filtered(self._name, TOO_LARGE)
            return NOT_FILTERED
        answer = None
        if self._under_way < MAX_UNDER_WAY and not self._health.is_away:
            self._under_way += 1
            try:
                answer = await self._asked(event, rdns)
            finally:
                self._under_way -= 1
        if answer is None:
            self._metrics.filtered(self._name, TEMPERROR)
            return Filtered(verdict=TEMPERROR, failed_closed=self._settings.on_failure == "tempfail")
        self._metrics.filtered(self._name, answer.verdict or NOTHING_FOUND)
        return replace(answer, learns=self._settings.learn and is_evidence(answer.verdict))

    async def _asked(self, event: Data, rdns: str) -> Filtered | None:
        began = self._clock.monotonic()
        answer, reason = None, "its answer cannot be read"
        try:
            async with asyncio.timeout(self._settings.deadline_seconds):
                answer = await self._door.ask(event, rdns)
        except TimeoutError:
            reason = f"nothing came within {self._settings.deadline_seconds:g} s"
        except OSError as error:
            reason = error.strerror or str(error)
        except Exception:  # the top of a job: a bug of ours costs a verdict, and no message
            log.exception("the content filter %s could not be asked", self._name)
            reason = "a mistake of ours"
        self._metrics.filter_seconds.labels(self._name).observe(self._clock.monotonic() - began)
        if answer is None:
            self._health.failed(reason)
        else:
            self._health.heard()
        return answer

    async def close(self) -> None:
        await self._health.close()
        await self._door.close()


def _door(settings: FilterSettings, clock: Clock, hostname: str) -> Door:
    address = Address.parse(settings.url)
    if address.scheme == "spamd":
        return Spamd(address, clock, hostname)
    if address.scheme == "clamd":
        return Clamd(address)
    # Here, because its library takes 26 MB and a tenth of a second of whoever has no rspamd.
    from reputation.lookups.filters.rspamd import Rspamd  # noqa: PLC0415 - see above

    return Rspamd(
        address,
        password=settings.password,
        hostname=hostname,
        connections=MAX_UNDER_WAY + 1,  # and a ping
        deadline_seconds=settings.deadline_seconds,
    )


def check_filters(settings: Sequence[FilterSettings]) -> None:
    """Raises `ConfigError` for what `Filters` could not use. Asks nobody; reads the files that URLs name."""
    names: list[str] = []
    for one in settings:
        address = Address.parse(one.url)
        if str(address) in names:
            raise ConfigError(f"filter url: {address} is there twice; a filter is asked once about a message")
        names.append(str(address))
        if one.password and not address.scheme.startswith("rspamd"):
            raise ConfigError(f"filter password: {address} does not ask for any")
        if not one.password.isprintable():
            raise ConfigError("filter password: no value of a header field")
        if address.scheme == "rspamds":
            _door(one, SystemClock(), "")
