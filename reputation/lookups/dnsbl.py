"""DNS lists of clients: RFC 5782.

A list is asked for the addresses that stand for a client. Any answer in 127.0.0.0/8 means that it is listed, or, where
the configuration names codes behind the zone, one of those. Two kinds of answers are none:

* 127.255.255.0/24: by convention the list says that it will not answer us, because we ask too much or through a public
  resolver. That is a temperror, and logged once when it begins and once when it ends.
* Anything outside 127.0.0.0/8: some resolver invents addresses for names that do not exist. That is no listing.

Addresses that mean nothing outside of a site (`UNASKED`) are not asked about.

Codes are 127.A.B.C, or 127.A.B.C-D for a range of the last number; several are joined by commas.
"""

import logging
import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import NamedTuple

from reputation.errors import ConfigError
from reputation.events import ClientAddress
from reputation.facts import Lookup
from reputation.lookups import answers
from reputation.lookups.answers import Answer
from reputation.lookups.names import listed_name
from reputation.lookups.resolver import Resolver

LISTED = "listed"
CLEAR = "clear"
LIST_ANSWERS = IPv4Network("127.0.0.0/8")
REFUSALS = IPv4Network("127.255.255.0/24")
UNASKED: tuple[IPv4Network | IPv6Network, ...] = (
    *map(IPv4Network, ("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16")),
    *map(IPv4Network, ("172.16.0.0/12", "192.168.0.0/16")),
    *map(IPv6Network, ("::/127", "fc00::/7", "fe80::/10")),
)
"""This host, private use (RFC 1918), shared by providers (RFC 6598), loopback, link-local; unique local (RFC 4193)."""
_CODES = re.compile(r"(?P<first>127\.\d{1,3}\.\d{1,3}\.(?P<low>\d{1,3}))(?:-(?P<high>\d{1,3}))?")

Found = tuple[str, str, float]
"""listed, clear or temperror, nothing more to say, and until when that holds."""

log = logging.getLogger("reputon.lookups")


class Zone(NamedTuple):
    """One list."""

    name: str
    """As it is configured, without codes."""
    codes: tuple[tuple[int, int], ...] = ()
    """First and last of each range of answers that mean "listed", as numbers; empty for any."""


def zone_of(text: str) -> Zone:
    """Read ZONE or ZONE=CODES. Raises `ConfigError`.

    >>> zone_of("zen.example.org=127.0.0.2,127.0.0.4-11").codes == (
    ...     (0x7F000002, 0x7F000002), (0x7F000004, 0x7F00000B))
    True
    """
    name, equals, codes = text.partition("=")
    try:
        return Zone(name, tuple(_range_of(code) for code in codes.split(",")) if equals else ())
    except ValueError as error:
        raise ConfigError(f'dnsbl: "{text}": {error}: write "zen.example.org=127.0.0.2,127.0.0.4-11"') from None


def _range_of(code: str) -> tuple[int, int]:
    match = _CODES.fullmatch(code)
    if match is None:
        raise ValueError(f'"{code}" is no code of a list')
    first = int(IPv4Address(match["first"]))
    last = first - int(match["low"]) + int(match["high"] or match["low"])
    if last < first or last - first + int(match["low"]) > 255:
        raise ValueError(f'"{code}" is no range')
    return first, last


def zones_of(texts: Sequence[str]) -> tuple[Zone, ...]:
    """All lists. Raises `ConfigError`, also for a list that is named twice."""
    zones = tuple(zone_of(text) for text in texts)
    names = [zone.name.lower() for zone in zones]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f'dnsbl: "{twice[0]}" stands there twice: join its codes by commas')
    return zones


class Dnsbl:
    """The configured lists."""

    def __init__(self, zones: Sequence[Zone], resolver: Resolver) -> None:
        self.zones = {zone.name: zone for zone in zones}
        self._resolver = resolver
        self._refusing: set[str] = set()

    async def standing_of(self, client: ClientAddress, name: str, now: float) -> Found:
        """Whether the list `name` has a client. Raises nothing."""
        if any(client in network for network in UNASKED):
            return CLEAR, "", now + answers.MOST_SECONDS
        zone = self.zones[name]
        answer = await self._resolver.ask(listed_name(client, zone.name), "A", Lookup.DNSBL)
        if answer.status == answers.TEMPERROR:
            return answers.TEMPERROR, "", answer.expires
        word = standing(answer, zone)
        self._note(zone, is_refused=word == answers.TEMPERROR)
        return word, "", answer.expires

    def _note(self, zone: Zone, *, is_refused: bool) -> None:
        """One line when a list begins to refuse us, and one when it stops."""
        if is_refused and zone.name not in self._refusing:
            self._refusing.add(zone.name)
            log.warning("the list %s refuses to answer us: too many questions, or through a public resolver", zone.name)
        elif not is_refused and zone.name in self._refusing:
            self._refusing.remove(zone.name)
            log.warning("the list %s answers again", zone.name)


def standing(answer: Answer, zone: Zone) -> str:
    """What a list has said: listed, clear, or temperror where it has said that it says nothing."""
    codes = [code for text in answer.texts() if (code := IPv4Address(text)) in LIST_ANSWERS]
    said = [int(code) for code in codes if code not in REFUSALS]
    if zone.codes:
        said = [code for code in said if any(first <= code <= last for first, last in zone.codes)]
    if said:
        return LISTED
    return answers.TEMPERROR if any(code in REFUSALS for code in codes) else CLEAR
