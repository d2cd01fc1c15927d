"""The client's reverse name, confirmed forward: RFC 8601 section 2.7.3 ("iprev").

Of the names that the address' PTR records give, those are believed whose own addresses include it: everybody writes
into his own reverse zone what he likes. When several are confirmed, it is the first by the alphabet, so that it is the
same each time, whatever order the DNS gives them in.

========== ===================================================================
pass       a name is confirmed
fail       there are names, and none is confirmed
permerror  there is no name
temperror  the DNS gave no answer, and the rest of them did not confirm a name
========== ===================================================================
"""

from ipaddress import IPv4Address, ip_address

from reputation.events import ClientAddress
from reputation.facts import PASS, TEMPERROR, Lookup
from reputation.lookups import answers
from reputation.lookups.answers import Answer
from reputation.lookups.names import reverse_name
from reputation.lookups.resolver import Resolver

MAX_NAMES = 10
"""Of an address that are tried, as RFC 7208 section 4.6.4 has it for SPF."""
FAIL = "fail"
PERMERROR = "permerror"

Found = tuple[str, str, float]
"""The word, the name, and until when they hold."""


async def iprev_of(resolver: Resolver, client: ClientAddress) -> Found:
    """Ask about a client. Raises nothing."""
    reverse = await resolver.ask(reverse_name(client), "PTR", Lookup.IPREV)
    if reverse.status == answers.TEMPERROR:
        return TEMPERROR, "", reverse.expires
    if reverse.status != answers.FOUND:
        return PERMERROR, "", reverse.expires
    names = sorted(set(reverse.texts()[:MAX_NAMES]))
    kind = "A" if isinstance(client, IPv4Address) else "AAAA"
    forward = await resolver.ask_all([(name, kind) for name in names], Lookup.IPREV)
    expires = min(answer.expires for answer in (reverse, *forward))
    for name, answer in zip(names, forward, strict=True):
        if _has(answer, client):
            return PASS, name, min(reverse.expires, answer.expires)
    if any(answer.status == answers.TEMPERROR for answer in forward):
        return TEMPERROR, "", expires
    return FAIL, "", expires


def _has(answer: Answer, client: ClientAddress) -> bool:
    return any(ip_address(text) == client for text in answer.texts())
