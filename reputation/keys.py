"""From an event to the entities it is about, and from an entity to the key of its counter.

This is the only place where a key is spelled.

Which entities an event has
---------------------------
============== ============================================== =========================
dimension      id                                             known from
============== ============================================== =========================
ip             IPv4 address; for IPv6 its /64                 connect
prefix         IPv4 /24; IPv6 /48                             connect
asn            number of the network's operator               connect
country        ISO 3166 code of the network's country         connect
rdns_domain    organisational domain of the confirmed name    connect
helo           the name given at HELO, lower case             helo
user           the authenticated login, lower case            auth
sender         canonical reverse-path                         mail
sender_domain  its organisational domain                      mail
class          kind of mail (`reputation.classes`)            mail
spf_domain     the sender's domain, where SPF says pass       mail
recipient      canonical forward-path                         rcpt
recipient_domain its organisational domain                    rcpt
author         canonical address of the From field            data
author_domain  its organisational domain                      data
subject        keyed hash of the normalised subject           data
dkim_domain    organisational domain of a passing signature   data
============== ============================================== =========================

The null sender ``<>`` is no entity: all the world's bounces would share one counter.
An IPv6 client is never counted by its /128, which costs an attacker nothing to change.

How an id is spelled is said in `reputation.spelling`.

Network, reverse name, SPF and DKIM are what look-ups found (`reputation.facts`); without them the entity is not there.
Of several signatures that pass it is the one of the author's own domain, or else the first.

Bugs: one set of prefix lengths for all rules.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import unquote

from reputation.classes import class_of
from reputation.errors import EntityError
from reputation.events import ClientAddress, Connect, Data, Disconnect, Event, Mail, Rcpt
from reputation.facts import NOTHING_LOOKED_UP, PASS, LookedUp
from reputation.spelling import (
    SHORTENED,
    Spelling,
    canonical_address,
    canonical_domain,
    escaped,
    network_id,
    organisational_domain,
    shortened,
    subject_id,
)

CACHED_IDS = 16_384
CACHED_CLIENTS = 4_096
MAX_CACHED_LENGTH = 320


class Dimension(StrEnum):
    """The kinds of things that are counted."""

    IP = "ip"
    PREFIX = "prefix"
    ASN = "asn"
    COUNTRY = "country"
    HELO = "helo"
    RDNS_DOMAIN = "rdns_domain"
    USER = "user"
    SENDER = "sender"
    SENDER_DOMAIN = "sender_domain"
    CLASS = "class"
    RECIPIENT = "recipient"
    RECIPIENT_DOMAIN = "recipient_domain"
    AUTHOR = "author"
    AUTHOR_DOMAIN = "author_domain"
    SUBJECT = "subject"
    DKIM_DOMAIN = "dkim_domain"
    SPF_DOMAIN = "spf_domain"


class Metric(StrEnum):
    """What is counted about an entity."""

    CONNECTIONS = "connections"
    MESSAGES = "messages"
    RECIPIENTS = "recipients"
    BYTES = "bytes"
    INVALID_RECIPIENTS = "invalid_recipients"
    AUTH_FAILURES = "auth_failures"
    SPAM = "spam"
    MALWARE = "malware"
    BOUNCES = "bounces"
    COMPLAINTS = "complaints"
    CONCURRENT = "concurrent"


class Entity(NamedTuple):
    """One value of one dimension, or of several joined by ``+``: what a limit is held against.

    >>> str(Entity("sender", "alice@example.com"))
    'sender:alice@example.com'
    """

    dimension: str
    id: str

    def __str__(self) -> str:
        return f"{self.dimension}:{self.id}"


class Key(NamedTuple):
    """One counter: a metric of an entity."""

    entity: Entity
    metric: str
    """A `Metric`, ``distinct(DIMENSION)``, or `EVIDENCE`."""
    scope: str = ""
    """The rule that the counter belongs to alone; empty where it has meters of several."""

    def spelled(self, prefix: str) -> str:
        """The key in the store. Everything between the braces decides the cluster slot."""
        (dimension, id), metric, scope = self
        # Joined, because formatting a StrEnum takes three times as long.
        name = "".join((prefix, ":{", dimension, ":", id, "}:", metric))  # noqa: FLY002 - see above
        return f"{name}:{scope}" if scope else name


EVIDENCE = "evidence"
_DISTINCT = re.compile(r"distinct\((\w+)\)")


def distinct(of: "Dimension") -> str:
    """The metric that counts different values of a dimension.

    >>> distinct(Dimension.RECIPIENT), counted_dimension("distinct(recipient)"), counted_dimension("messages")
    ('distinct(recipient)', <Dimension.RECIPIENT: 'recipient'>, None)
    """
    return f"distinct({of})"


def counted_dimension(metric: str) -> "Dimension | None":
    """The dimension whose different values a metric counts; None for a metric of another kind."""
    match = _DISTINCT.fullmatch(metric)
    return Dimension(match[1]) if match and match[1] in set(Dimension) else None


Entities = Mapping[Dimension, Entity]
Ids = tuple[str, ...]


def entities_of(event: Event, spelling: Spelling, looked_up: LookedUp = NOTHING_LOOKED_UP) -> dict[Dimension, Entity]:
    """The entities that `event` is about, one per dimension that is known at its stage."""
    session, separator = event.session, spelling.subaddress_separator
    ip, prefix = _ids_of_client(session.client)
    found = {_IP: _entity(Entity, (_IP, ip)), _PREFIX: _entity(Entity, (_PREFIX, prefix))}
    if session.helo and not isinstance(event, Connect | Disconnect):
        (helo,) = _remembered(_ids_of_helo, session.helo)
        if helo:
            found[_HELO] = _entity(Entity, (_HELO, helo))
    if session.user:
        (user,) = _remembered(_ids_of_user, session.user)
        if user:
            found[_USER] = _entity(Entity, (_USER, user))
    if isinstance(event, Mail | Rcpt | Data):
        _put_address(found, _SENDER, _SENDER_DOMAIN, _remembered(_ids_of_address, event.sender, separator))
        found[_CLASS] = _entity(Entity, (_CLASS, class_of(event).value))
    if isinstance(event, Rcpt):
        _put_address(found, _RECIPIENT, _RECIPIENT_DOMAIN, _remembered(_ids_of_address, event.recipient, separator))
    if isinstance(event, Data):
        _put_content(found, event, spelling)
    if looked_up is not NOTHING_LOOKED_UP:
        _put_looked_up(found, looked_up)
    return found


# Members of an enum are looked up, and named tuples made, in twice the time; there are seven of each in every decision.
_IP, _PREFIX, _HELO, _USER, _SUBJECT, _CLASS = (
    *(Dimension.IP, Dimension.PREFIX, Dimension.HELO, Dimension.USER, Dimension.SUBJECT, Dimension.CLASS),
)
_ASN, _COUNTRY, _RDNS_DOMAIN, _SPF_DOMAIN, _DKIM_DOMAIN = (
    *(Dimension.ASN, Dimension.COUNTRY, Dimension.RDNS_DOMAIN, Dimension.SPF_DOMAIN, Dimension.DKIM_DOMAIN),
)
_AUTHOR, _AUTHOR_DOMAIN = Dimension.AUTHOR, Dimension.AUTHOR_DOMAIN
_SENDER, _SENDER_DOMAIN = Dimension.SENDER, Dimension.SENDER_DOMAIN
_RECIPIENT, _RECIPIENT_DOMAIN = Dimension.RECIPIENT, Dimension.RECIPIENT_DOMAIN
_entity = tuple.__new__


def _put_content(found: dict[Dimension, Entity], event: Data, spelling: Spelling) -> None:
    if event.author:
        ids = _remembered(_ids_of_address, event.author, spelling.subaddress_separator)
        _put_address(found, _AUTHOR, _AUTHOR_DOMAIN, ids)
    if id := subject_id(event.subject, spelling.subject_key):
        found[_SUBJECT] = _entity(Entity, (_SUBJECT, id))


def _put_looked_up(found: dict[Dimension, Entity], looked_up: LookedUp) -> None:
    network = looked_up.network
    if network.asn:
        found[_ASN] = Entity(_ASN, str(network.asn))
    if network.country:
        found[_COUNTRY] = Entity(_COUNTRY, escaped(network.country))
    if looked_up.rdns and (domain := escaped(organisational_domain(canonical_domain(looked_up.rdns)))):
        found[_RDNS_DOMAIN] = Entity(_RDNS_DOMAIN, domain)
    if looked_up.spf == PASS and _SENDER_DOMAIN in found:
        found[_SPF_DOMAIN] = Entity(_SPF_DOMAIN, found[_SENDER_DOMAIN].id)
    if looked_up.signatures:
        domains = [escaped(organisational_domain(domain)) for domain in looked_up.dkim_domains]
        author = found[_AUTHOR_DOMAIN].id if _AUTHOR_DOMAIN in found else ""
        if domain := author if author in domains else next(filter(None, domains), ""):
            found[_DKIM_DOMAIN] = Entity(_DKIM_DOMAIN, domain)


def _put_address(found: dict[Dimension, Entity], whole: Dimension, domain: Dimension, ids: Ids) -> None:
    id, domain_id = ids
    if id:
        found[whole] = _entity(Entity, (whole, id))
    if domain_id:
        found[domain] = _entity(Entity, (domain, domain_id))


# What is remembered are plain tuples of texts, which the garbage collector does not look at: entities by the
# hundred thousand would hold up everybody for tens of milliseconds now and then.


def _remembered(ids: Callable[..., Ids], text: str, *arguments: str) -> Ids:
    """Ids out of a cache. What is longer than an address may be (RFC 5321 section 4.5.3.1) is not kept there."""
    if len(text) > MAX_CACHED_LENGTH:
        ids = inspect.unwrap(ids)
    return ids(text, *arguments)


@lru_cache(maxsize=CACHED_CLIENTS)
def _ids_of_client(client: ClientAddress) -> Ids:
    return network_id(client, v4=32, v6=64), network_id(client, v4=24, v6=48)


@lru_cache(maxsize=CACHED_IDS)
def _ids_of_helo(helo: str) -> Ids:
    return (escaped(canonical_domain(helo)),)


@lru_cache(maxsize=CACHED_IDS)
def _ids_of_user(user: str) -> Ids:
    return (escaped(canonical_address(user, "")),)


@lru_cache(maxsize=CACHED_IDS)
def _ids_of_address(address: str, separator: str) -> Ids:
    canonical = canonical_address(address, separator)
    domain = organisational_domain(canonical.rpartition("@")[2]) if "@" in canonical else ""
    return escaped(canonical), escaped(domain)


def composite(entities: Entities, dimensions: Sequence[Dimension]) -> Entity | None:
    """One entity out of several dimensions; None when the event does not have them all.

    The parts are joined by a comma, which no id contains unescaped, so two different
    combinations never share a counter.
    """
    parts = [entities.get(dimension) for dimension in dimensions]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    if len(known) == 1:
        return known[0]
    return Entity("+".join(dimensions), shortened(",".join(part.id for part in known)))


def parts_of(entity: Entity) -> tuple[Entity, ...]:
    """What an entity was joined of; itself where it is of one dimension, or where only a hash of its parts is left.

    >>> [str(part) for part in parts_of(Entity("ip+sender", "192.0.2.7,alice@example.com"))]
    ['ip:192.0.2.7', 'sender:alice@example.com']
    """
    dimensions, ids = entity.dimension.split("+"), entity.id.split(",")
    return tuple(map(Entity, dimensions, ids)) if len(dimensions) == len(ids) else (entity,)


def is_about(known: Entity, entity: Entity) -> bool:
    """Whether something known of one entity is about another: it is that one, or was joined of it and others.

    >>> alice, pair = Entity("sender", "alice@example.com"), Entity("ip+sender", "192.0.2.7,alice@example.com")
    >>> is_about(pair, alice), is_about(alice, pair)
    (True, False)
    """
    return known == entity or ("+" in known.dimension and set(parts_of(entity)) <= set(parts_of(known)))


def parse_entity(text: str, spelling: Spelling) -> Entity:
    """Read ``DIMENSION:VALUE`` as an operator types it, or as a log line prints it (``str(entity)``).

    The value is canonicalised as an event's would be; ``%XX`` in it stands for a byte, as in every printed id.

    >>> str(parse_entity("sender:Alice+x@Example.COM", Spelling()))
    'sender:alice@example.com'
    >>> str(parse_entity("prefix:192.0.2.77", Spelling()))
    'prefix:192.0.2.0/24'
    """
    name, colon, value = text.partition(":")
    names = name.split("+")
    if not colon or not value or not set(names) <= set(Dimension):
        raise EntityError(
            f'"{text}" names no entity: write DIMENSION:VALUE with one of {", ".join(Dimension)}, '
            f'such as "sender:alice@example.com"'
        )
    if len(names) == 1:
        id = _canonical_value(Dimension(name), unquote(value, errors="surrogateescape"), spelling)
        if not id:
            raise EntityError(f'"{text}" names no entity: nothing is left of the value when it is canonicalised')
        return Entity(name, id)
    if SHORTENED.fullmatch(value):
        return Entity(name, value)
    values = value.split(",")
    if len(values) != len(names):
        raise EntityError(f'"{text}" has {len(names)} dimensions and {len(values)} values: join both alike')
    parts = {Dimension(n): parse_entity(f"{n}:{v}", spelling) for n, v in zip(names, values, strict=True)}
    entity = composite(parts, list(parts))
    if entity is None or len(parts) != len(names):
        raise EntityError(f'"{text}" names a dimension twice')
    return entity


def _canonical_value(dimension: Dimension, value: str, spelling: Spelling) -> str:
    if dimension in (Dimension.IP, Dimension.PREFIX):
        return _canonical_network(dimension, value)
    if dimension is Dimension.SUBJECT:
        return _canonical_subject(value, spelling)
    match dimension:
        case Dimension.ASN:
            return escaped(value.upper().removeprefix("AS"))
        case Dimension.COUNTRY:
            return escaped(value.upper())
        case Dimension.SENDER | Dimension.RECIPIENT | Dimension.AUTHOR:
            return escaped(canonical_address(value, spelling.subaddress_separator))
        case (
            Dimension.SENDER_DOMAIN
            | Dimension.RECIPIENT_DOMAIN
            | Dimension.AUTHOR_DOMAIN
            | Dimension.RDNS_DOMAIN
            | Dimension.SPF_DOMAIN
            | Dimension.DKIM_DOMAIN
        ):
            return escaped(organisational_domain(canonical_domain(value)))
        case Dimension.USER:
            return escaped(canonical_address(value, ""))
        case _:
            return escaped(canonical_domain(value))


def _canonical_subject(value: str, spelling: Spelling) -> str:
    if re.fullmatch(r"[0-9a-f]{32}", value):
        return value
    if not spelling.subject_key:
        raise EntityError("subjects are not counted here: set keys.subject_key in the configuration")
    return subject_id(value, spelling.subject_key)


def _canonical_network(dimension: Dimension, value: str) -> str:
    address, _, _ = value.partition("/")
    try:
        client = ip_address(address)
    except ValueError:
        raise EntityError(f'"{value}" is no IP address') from None
    if dimension is Dimension.IP:
        return network_id(client, v4=32, v6=64)
    return network_id(client, v4=24, v6=48)
