"""Look-ups that find what they were told to find."""

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address

from reputation.events import ClientAddress, Event, Stage
from reputation.facts import NOTHING_LOOKED_UP, PASS, Filtered, Judgement, LookedUp, Lookup, Network, Signature


class FixedLookups:
    """Fulfils `reputation.contracts.Lookups` without asking anybody."""

    possible = frozenset(Lookup)

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
        asked = {name for lookup in wanted & _POSSIBLE.get(event.stage, _ALWAYS) for name in _FIELDS[lookup]}
        return LookedUp(network=network, **{name: getattr(found, name) for name in asked})

    async def close(self) -> None:
        """Nothing to let go of."""

    def _about(self, client: ClientAddress) -> LookedUp:
        return self._known.get(client, self._known.get(None, NOTHING_LOOKED_UP))


_ALWAYS = frozenset({Lookup.IPREV, Lookup.DNSBL})
_POSSIBLE = {
    Stage.MAIL: _ALWAYS | {Lookup.SPF},
    Stage.RCPT: _ALWAYS | {Lookup.SPF},
    Stage.DATA: frozenset(Lookup),
}
"""What an event of a stage can have."""
_FIELDS: Mapping[Lookup, tuple[str, ...]] = {
    Lookup.IPREV: ("iprev", "rdns"),
    Lookup.DNSBL: ("dnsbl", "dnsbl_temperror"),
    Lookup.SPF: ("spf",),
    Lookup.DKIM: ("dkim", "signatures"),
    Lookup.DMARC: ("dmarc", "dmarc_policy"),
    Lookup.ARC: ("arc", "arc_domain"),
    Lookup.FILTER: ("filtered",),
}
assert _FIELDS.keys() == set(Lookup)
NETWORK = ("asn", "country", "prefix")
NAMES = ("iprev", "rdns", "dnsbl", "dnsbl_temperror", "spf")
OF_MESSAGES = ("dkim", "dkim_domains", "dmarc", "dmarc_policy", "arc", "arc_domain")
OF_FILTERS = ("filter_verdict", "filter_action", "filter_score", "filter_symbols", "malware")
KNOWN = (*NETWORK, *NAMES, *OF_MESSAGES, *OF_FILTERS)


def _found(words: Iterable[str]) -> LookedUp:
    given = dict.fromkeys(KNOWN, "")
    for word in words:
        name, equals, value = word.partition("=")
        if name not in given or not equals or not _READABLE.get(name, _ANY).fullmatch(value):
            raise ValueError(f'"{word}" is nothing that can be known; write NAME=VALUE with {", ".join(KNOWN)}')
        given[name] = value
    signers = _several(given["dkim_domains"])
    return LookedUp(
        network=Network(asn=int(given["asn"] or 0), country=given["country"], prefix=given["prefix"]),
        # A name is confirmed, or it is none: RFC 8601 section 2.7.3.
        iprev=given["iprev"] or (PASS if given["rdns"] else ""),
        rdns=given["rdns"],
        dnsbl=_several(given["dnsbl"]),
        dnsbl_temperror=_several(given["dnsbl_temperror"]),
        spf=given["spf"],
        signatures=tuple(Signature(result=PASS, domain=domain) for domain in signers),
        dkim=given["dkim"] or (PASS if signers else ""),
        dmarc=given["dmarc"],
        dmarc_policy=given["dmarc_policy"],
        arc=given["arc"] or (PASS if given["arc_domain"] else ""),
        arc_domain=given["arc_domain"],
        filtered=_filtered(given),
    )


def _filtered(given: Mapping[str, str]) -> Filtered:
    return Filtered(
        verdict=given["filter_verdict"] or (Judgement.MALWARE if given["malware"] else ""),
        action=given["filter_action"].replace("_", " "),  # there are no blanks within a word of a script
        score=float(given["filter_score"] or 0),
        symbols=_several(given["filter_symbols"]),
        malware=given["malware"],
        learns=any(given[name] for name in OF_FILTERS),
    )


_ANY = re.compile(r".*")
_READABLE = {"asn": re.compile(r"\d+", re.ASCII), "filter_score": re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)}


def _several(text: str) -> tuple[str, ...]:
    return tuple(filter(None, text.split(",")))
