"""Search: what somebody has typed may be several things; each that it can be is shown, with what is known of it."""

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

from starlette.responses import RedirectResponse, Response

from api.console.showing import page
from api.console.visits import Visit
from api.console.wording import place
from reputation.desk.contract import Desk
from reputation.desk.documents import Explained
from reputation.errors import ConfigError
from reputation.keys import Dimension, Metric
from reputation.spelling import organisational_domain

MAX_SEARCH = 4_096
OF_ADDRESS = (Dimension.SENDER, Dimension.RECIPIENT, Dimension.USER, Dimension.AUTHOR)
OF_DOMAIN = (
    Dimension.SENDER_DOMAIN,
    Dimension.RECIPIENT_DOMAIN,
    Dimension.AUTHOR_DOMAIN,
    Dimension.DKIM_DOMAIN,
    Dimension.SPF_DOMAIN,
    Dimension.RDNS_DOMAIN,
    Dimension.HELO,
)
SHOWN_ENTRIES = 10
_ASN = re.compile(r"(?:AS)?(\d{1,10})", re.IGNORECASE)
_COUNTRY = re.compile(r"[A-Za-z]{2}")
_NETWORK = re.compile(r"[0-9a-fA-F:.]+/\d{1,3}")
_CLOSED = re.compile(r"<([^<>]*)>")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One thing that it may be."""

    entity: str
    told: Explained

    @property
    def count(self) -> int:
        """How many events are counted of it."""
        return max((row.count for row in self.told.counts if row.metric != Metric.BYTES), default=0)

    @property
    def is_known(self) -> bool:
        """Whether anything is known of it."""
        return bool(self.count or self.told.register)


async def search(visit: Visit) -> Response:
    """What it may be; straight to it where there is no doubt."""
    text = visit.asked.text("q")[:MAX_SEARCH]
    if not text:
        return await page(visit.request, "search.html", text="", choices=(), entries=None, rules=())
    name, colon, _ = text.partition(":")
    if colon and set(name.split("+")) <= set(Dimension):
        return RedirectResponse(place("entity", of=text), 303)
    choices = [choice for choice in await asyncio.gather(*(_choice(visit.desk, of) for of in guesses(text))) if choice]
    entries, rules = await asyncio.gather(visit.desk.entries(matching=text, n=SHOWN_ENTRIES), visit.desk.rules())
    return await page(
        visit.request,
        "search.html",
        text=text,
        choices=sorted(choices, key=lambda choice: (not choice.is_known, -choice.count)),
        entries=entries,
        rules=[row for row in rules.rules if text.casefold() in row.rule],
        here=visit.place,
    )


async def _choice(desk: Desk, entity: str) -> Choice | None:
    try:
        told = await desk.explain(entity)
    except ConfigError:  # it cannot be this
        return None
    return Choice(entity=told.entity, told=told)


def guesses(text: str) -> tuple[str, ...]:
    """What a text may name.

    >>> guesses("192.0.2.7"), guesses("AS64500")
    (('ip:192.0.2.7', 'prefix:192.0.2.7'), ('asn:64500', 'user:AS64500', 'helo:AS64500'))
    >>> guesses("<bob@mail.example.com>")[:2]
    ('sender:bob@mail.example.com', 'recipient:bob@mail.example.com')
    """
    closed = _CLOSED.search(text)
    return tuple(dict.fromkeys(f"{dimension}:{value}" for dimension, value in _guesses(closed[1] if closed else text)))


def _guesses(text: str) -> Iterator[tuple[Dimension, str]]:
    if _is_address(text.strip("[]")):
        yield from ((dimension, text.strip("[]")) for dimension in (Dimension.IP, Dimension.PREFIX))
        return
    if _NETWORK.fullmatch(text):
        yield Dimension.PREFIX, text
        return
    if "@" in text:
        yield from ((dimension, text) for dimension in OF_ADDRESS)
        domain = organisational_domain(text.rpartition("@")[2].lower())
        yield from ((dimension, domain) for dimension in OF_DOMAIN[:2] if domain)
        return
    if match := _ASN.fullmatch(text):
        yield Dimension.ASN, match[1]
    if _COUNTRY.fullmatch(text):
        yield Dimension.COUNTRY, text
    yield Dimension.USER, text
    if "." in text:
        yield from ((dimension, text) for dimension in OF_DOMAIN)
    else:
        yield Dimension.HELO, text


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
