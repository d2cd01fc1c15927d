"""The words of conditions, and of policies in Python: what they can look at, and by which names.

A word stands for a value of the moment. Its meaning here is the one in the documentation.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from reputation.events import Event, Stage
from reputation.facts import NOTHING_KNOWN, NOTHING_LOOKED_UP, Known, LookedUp, Lookup
from reputation.inquiry import FIRST_TIME
from reputation.keys import Dimension, Entities

Value = str | int | float | bool | list[str] | dict[str, str]


class Moment(NamedTuple):
    """What a condition can look at."""

    event: Event
    entities: Entities
    now: float
    """Seconds since the epoch."""
    looked_up: LookedUp = NOTHING_LOOKED_UP
    known: Known = NOTHING_KNOWN
    lists: frozenset[str] | None = frozenset()
    """All lists that something of the event is on; None while some of them could not be read yet."""


class Fact(NamedTuple):
    """One name that conditions can use."""

    stages: tuple[Stage, ...]
    example: Value
    value: Callable[[Moment], Value]
    meaning: str
    lookup: Lookup | None = None
    """What has to be looked up for it."""


_CONNECT = tuple(Stage)[:-1]
_HELO, _AUTH, _MAIL = _CONNECT[1:], _CONNECT[2:], _CONNECT[3:]
_RCPT, _DATA = (Stage.RCPT,), (Stage.DATA,)


def _id(dimension: Dimension) -> Callable[[Moment], str]:
    def value(moment: Moment) -> str:
        entity = moment.entities.get(dimension)
        return "" if entity is None else entity.id

    return value


def _of(name: str) -> Callable[[Moment], Any]:
    return lambda moment: getattr(moment.event, name)


_RESULT = "{}, or temperror"

FACTS: Mapping[str, Fact] = {
    "ip": Fact(_CONNECT, "192.0.2.1", lambda it: str(it.event.session.client), "address of the client"),
    "prefix": Fact(_CONNECT, "192.0.2.0/24", _id(Dimension.PREFIX), "its /24, or /48 of IPv6"),
    "asn": Fact(
        _CONNECT, 64_500, lambda it: it.looked_up.network.asn, "number of the client's network operator; 0 when unknown"
    ),
    "country": Fact(
        _CONNECT, "DE", lambda it: it.looked_up.network.country, 'its country, two letters; "" when unknown'
    ),
    "iprev": Fact(
        _CONNECT,
        "pass",
        lambda it: it.looked_up.iprev,
        _RESULT.format("the reverse name: pass, fail, permerror (none)"),
        Lookup.IPREV,
    ),
    "rdns": Fact(
        _CONNECT, "mail.example.com", lambda it: it.looked_up.rdns, 'the confirmed reverse name, or ""', Lookup.IPREV
    ),
    "dnsbl": Fact(
        _CONNECT,
        ["zen.example.org"],
        lambda it: list(it.looked_up.dnsbl),
        "the DNS lists that the client is on",
        Lookup.DNSBL,
    ),
    "dnsbl_temperror": Fact(
        _CONNECT,
        ["zen.example.org"],
        lambda it: list(it.looked_up.dnsbl_temperror),
        "those that gave no answer",
        Lookup.DNSBL,
    ),
    "lists": Fact(
        _CONNECT, ["vip"], lambda it: sorted(it.lists or ()), "the [lists](#lists) that something of the event is on"
    ),
    "tls": Fact(_CONNECT, True, lambda it: it.event.session.tls, "whether the session is encrypted"),
    "early": Fact(
        _CONNECT, True, lambda it: it.event.session.early, "whether the client has spoken before it was greeted"
    ),
    "hour": Fact(_CONNECT, 3, lambda it: datetime.fromtimestamp(it.now).hour, "0 to 23, by the local clock"),  # noqa: DTZ006 - local is meant
    "weekday": Fact(_CONNECT, 7, lambda it: datetime.fromtimestamp(it.now).isoweekday(), "1 for Monday to 7"),  # noqa: DTZ006 - local is meant
    "helo": Fact(_HELO, "mail.example.com", _id(Dimension.HELO), "name given with HELO"),
    "user": Fact(_AUTH, "alice", _id(Dimension.USER), 'who has logged in; "" for nobody'),
    "class": Fact(_MAIL, "inbound", _id(Dimension.CLASS), "kind of mail, see [classes](#classes)"),
    "sender": Fact(_MAIL, "a@example.com", _id(Dimension.SENDER), 'envelope sender; "" for bounces'),
    "sender_domain": Fact(_MAIL, "example.com", _id(Dimension.SENDER_DOMAIN), "its registered domain"),
    "spf": Fact(
        _MAIL,
        "pass",
        lambda it: it.looked_up.spf,
        _RESULT.format("SPF: none, neutral, pass, fail, softfail, permerror"),
        Lookup.SPF,
    ),
    "declared_bytes": Fact((Stage.MAIL,), 0, _of("declared_bytes"), "size that the client has announced; 0 for none"),
    "recipient": Fact(_RCPT, "b@example.net", _id(Dimension.RECIPIENT), "this recipient"),
    "recipient_domain": Fact(_RCPT, "example.net", _id(Dimension.RECIPIENT_DOMAIN), "its registered domain"),
    FIRST_TIME: Fact(
        _RCPT,
        True,
        lambda it: it.known.first_time,
        "whether a user who has logged in writes to this recipient for the first time",
    ),
    "recipients": Fact(_DATA, 1, lambda it: len(_of("recipients")(it)), "number of recipients"),
    "message_bytes": Fact(_DATA, 1_000, _of("message_bytes"), "size of the message"),
    "author": Fact(_DATA, "a@example.com", _id(Dimension.AUTHOR), "address in the From field"),
    "author_domain": Fact(_DATA, "example.com", _id(Dimension.AUTHOR_DOMAIN), "its registered domain"),
    "subject": Fact(_DATA, "Hello", _of("subject"), "subject, as it was written"),
    "dkim": Fact(
        _DATA,
        "pass",
        lambda it: it.looked_up.dkim,
        _RESULT.format("the best of its signatures: none, pass, fail, policy, neutral, permerror"),
        Lookup.DKIM,
    ),
    "dkim_domains": Fact(
        _DATA, ["example.com"], lambda it: list(it.looked_up.dkim_domains), "whose signatures pass", Lookup.DKIM
    ),
    "dmarc": Fact(
        _DATA,
        "pass",
        lambda it: it.looked_up.dmarc,
        _RESULT.format("whether SPF or DKIM speaks for the author's domain: none, pass, fail, permerror"),
        Lookup.DMARC,
    ),
    "dmarc_policy": Fact(
        _DATA,
        "reject",
        lambda it: it.looked_up.dmarc_policy,
        'what that domain wants done otherwise: none, quarantine, reject; "" without a record',
        Lookup.DMARC,
    ),
    "arc": Fact(
        _DATA,
        "pass",
        lambda it: it.looked_up.arc,
        _RESULT.format("the chain of seals of servers before us: none, pass, fail"),
        Lookup.ARC,
    ),
    "arc_domain": Fact(
        _DATA, "example.com", lambda it: it.looked_up.arc_domain, 'who has sealed last, with a pass, or ""', Lookup.ARC
    ),
    "filter_verdict": Fact(
        _DATA,
        "spam",
        lambda it: it.looked_up.filtered.verdict,
        'what [content filters](#filter) say: ham, unsure, defer, spam, malware, or temperror; "" when none was asked',
        Lookup.FILTER,
    ),
    "filter_action": Fact(
        _DATA,
        "add header",
        lambda it: it.looked_up.filtered.action,
        "the filter's own word, such as `greylist`",
        Lookup.FILTER,
    ),
    "filter_score": Fact(
        _DATA,
        5.5,
        lambda it: it.looked_up.filtered.score,
        "its score, with a fraction: compare with `5.0`",
        Lookup.FILTER,
    ),
    "filter_symbols": Fact(
        _DATA,
        ["BAYES_SPAM"],
        lambda it: list(it.looked_up.filtered.symbols),
        "the names of its tests that hit",
        Lookup.FILTER,
    ),
    "malware": Fact(
        _DATA,
        "Eicar-Test",
        lambda it: it.looked_up.filtered.malware,
        'the name of malware that was found, or ""',
        Lookup.FILTER,
    ),
    "header": Fact(
        _DATA,
        {},
        lambda _: {},
        'the first of each field, by its name in lower case: `header["list-id"]`',
    ),
}
"""Addresses and domains are as they are counted: lower case, without subaddress, ASCII domain."""
