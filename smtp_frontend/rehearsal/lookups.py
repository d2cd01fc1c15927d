"""Look-ups that find what they were told to find."""

from collections.abc import Iterable
from ipaddress import ip_address

from reputation.events import ClientAddress, Data, Event, Mail, Rcpt
from reputation.facts import NOTHING_LOOKED_UP, PASS, LookedUp, Lookup, Network


class FixedLookups:
    """Fulfils `reputation.contracts.Lookups` without asking anybody."""

    def __init__(self) -> None:
        self._known: dict[ClientAddress | None, LookedUp] = {}
        """Client -> what is found about it; None for everybody else."""

    def know(self, words: Iterable[str]) -> None:
        """From now on, find this: ``asn=64500 country=DE``, behind an address where it is about that one only.

        >>> lookups = FixedLookups()
        >>> lookups.know(["192.0.2.7", "asn=64500", "rdns=mail.example.com"])
        >>> lookups.network(ip_address("192.0.2.7")).asn, lookups.network(ip_address("192.0.2.8")).asn
        (64500, 0)

        Raises `ValueError` for anything else.
        """
        words = list(words)
        client = ip_address(words.pop(0)) if words and "=" not in words[0] else None
        self._known[client] = _found(words)

    def network(self, client: ClientAddress) -> Network:
        return self._about(client).network

    async def look_up(self, event: Event, wanted: frozenset[Lookup], network: Network) -> LookedUp:
        found = self._about(event.session.client)
        iprev, dnsbl = Lookup.IPREV in wanted, Lookup.DNSBL in wanted
        return LookedUp(
            network=network,
            iprev=found.iprev if iprev else "",
            rdns=found.rdns if iprev else "",
            dnsbl=found.dnsbl if dnsbl else (),
            dnsbl_temperror=found.dnsbl_temperror if dnsbl else (),
            spf=found.spf if Lookup.SPF in wanted and isinstance(event, Mail | Rcpt | Data) else "",
        )

    async def close(self) -> None:
        """Nothing to let go of."""

    def _about(self, client: ClientAddress) -> LookedUp:
        return self._known.get(client, self._known.get(None, NOTHING_LOOKED_UP))


KNOWN = ("asn", "country", "prefix", "iprev", "rdns", "dnsbl", "dnsbl_temperror", "spf")


def _found(words: Iterable[str]) -> LookedUp:
    given = dict.fromkeys(KNOWN, "")
    for word in words:
        name, equals, value = word.partition("=")
        if name not in given or not equals or (name == "asn" and not value.isdecimal()):
            raise ValueError(f'"{word}" is nothing that can be known; write NAME=VALUE with {", ".join(KNOWN)}')
        given[name] = value
    return LookedUp(
        network=Network(asn=int(given["asn"] or 0), country=given["country"], prefix=given["prefix"]),
        # A name is confirmed, or it is none: RFC 8601 section 2.7.3.
        iprev=given["iprev"] or (PASS if given["rdns"] else ""),
        rdns=given["rdns"],
        dnsbl=_listed(given["dnsbl"]),
        dnsbl_temperror=_listed(given["dnsbl_temperror"]),
        spf=given["spf"],
    )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))
