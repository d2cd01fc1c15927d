"""Look-ups of a rehearsal find what they were told to, for events that can have it."""

from dataclasses import replace

import pytest

from reputation.events import Event
from reputation.facts import NOTHING_LOOKED_UP, Filtered, LookedUp, Lookup, Network, Signature
from smtp_frontend.rehearsal.lookups import FixedLookups
from tests.builders import EVENTS, connect, data, mail

EVERYTHING = frozenset(Lookup)
FOUND = LookedUp(
    network=Network(asn=64500, country="DE", prefix="192.0.2.0/24"),
    iprev="pass",
    rdns="mail.example.com",
    dnsbl=("zen.example.org", "other.example.org"),
    dnsbl_temperror=("slow.example.org",),
    spf="softfail",
    signatures=(Signature(result="pass", domain="example.com"), Signature(result="pass", domain="example.org")),
    dkim="pass",
    dmarc="fail",
    dmarc_policy="reject",
    arc="pass",
    arc_domain="list.example",
    filtered=Filtered(
        verdict="malware",
        action="add header",
        score=-1.5,
        symbols=("BAYES_HAM", "R_SPF_ALLOW"),
        malware="Eicar-Test",
        learns=True,
    ),
)
OF_A_MESSAGE = {"signatures": (), "dkim": "", "dmarc": "", "dmarc_policy": "", "arc": "", "arc_domain": ""}
ENVELOPE = replace(FOUND, **OF_A_MESSAGE, filtered=Filtered())  # type: ignore[arg-type] # fields by name
WORDS = (
    "asn=64500 country=DE prefix=192.0.2.0/24 rdns=mail.example.com dnsbl=zen.example.org,other.example.org "
    "dnsbl_temperror=slow.example.org spf=softfail dkim_domains=example.com,example.org dmarc=fail dmarc_policy=reject "
    "arc_domain=list.example filter_action=add_header filter_score=-1.5 filter_symbols=BAYES_HAM,R_SPF_ALLOW "
    "malware=Eicar-Test"
)


def knowing(*lines: str) -> FixedLookups:
    lookups = FixedLookups()
    for line in lines:
        lookups.know(line.split())
    return lookups


async def found(lookups: FixedLookups, event: Event, wanted: frozenset[Lookup] = EVERYTHING) -> LookedUp:
    return await lookups.look_up(event, wanted, lookups.network(event.session.client))


@pytest.mark.parametrize("event", EVENTS)
async def test_nothing_is_known_of_anybody(event: Event) -> None:
    assert await found(knowing(), event) == NOTHING_LOOKED_UP


async def test_all_that_can_be_known() -> None:
    assert await found(knowing(WORDS), data("bob@example.net")) == FOUND


async def test_what_is_about_a_message_needs_one() -> None:
    assert await found(knowing(WORDS), mail()) == ENVELOPE


async def test_spf_needs_a_sender() -> None:
    assert await found(knowing(WORDS), connect()) == replace(ENVELOPE, spf="")


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (Lookup.IPREV, {"iprev": "pass", "rdns": "mail.example.com"}),
        (Lookup.DNSBL, {"dnsbl": FOUND.dnsbl, "dnsbl_temperror": FOUND.dnsbl_temperror}),
        (Lookup.SPF, {"spf": "softfail"}),
        (Lookup.DKIM, {"dkim": "pass", "signatures": FOUND.signatures}),
        (Lookup.DMARC, {"dmarc": "fail", "dmarc_policy": "reject"}),
        (Lookup.ARC, {"arc": "pass", "arc_domain": "list.example"}),
        (Lookup.FILTER, {"filtered": FOUND.filtered}),
    ],
)
async def test_what_is_not_wanted_is_not_found(wanted: Lookup, left: dict[str, str]) -> None:
    expected = replace(NOTHING_LOOKED_UP, network=FOUND.network, **left)  # type: ignore[arg-type] # fields by name
    assert await found(knowing(WORDS), data("bob@example.net"), frozenset({wanted})) == expected


async def test_one_client_and_the_others() -> None:
    lookups = knowing("192.0.2.7 country=DE", "country=FR", "2001:db8::7 spf=fail")
    assert (await found(lookups, mail(client="192.0.2.7"))).network.country == "DE"
    assert (await found(lookups, mail(client="192.0.2.8"))).network.country == "FR"
    assert await found(lookups, mail(client="2001:db8::7")) == replace(NOTHING_LOOKED_UP, spf="fail")


async def test_the_latest_word_is_all_that_is_known() -> None:
    assert await found(knowing(WORDS, "iprev=fail"), mail()) == replace(NOTHING_LOOKED_UP, iprev="fail")
    assert await found(knowing(WORDS, ""), mail()) == NOTHING_LOOKED_UP


@pytest.mark.parametrize(
    "line", ["asn=x", "asn=", "colour=red", "192.0.2.300 asn=1", "spf fail", "spf=fail dnsbl", "x", "filter_score=high"]
)
def test_what_cannot_be_known_is_a_mistake(line: str) -> None:
    with pytest.raises(ValueError, match=r"nothing that can be known|does not appear to be"):
        knowing(line)
