"""From an event to the entities it is about, and from an entity to the key of its counter.

This is the only place where an address is canonicalised and the only place where a key is spelled.

Which entities an event has
---------------------------
============== ============================================== =========================
dimension      id                                             known from
============== ============================================== =========================
ip             IPv4 address; for IPv6 its /64                 connect
prefix         IPv4 /24; IPv6 /48                             connect
helo           the name given at HELO, lower case             helo
user           the authenticated login, lower case            auth
sender         canonical reverse-path                         mail
sender_domain  its organisational domain                      mail
recipient      canonical forward-path                         rcpt
recipient_domain its organisational domain                    rcpt
subject        keyed hash of the normalised subject           data
============== ============================================== =========================

The null sender ``<>`` is no entity: all the world's bounces would share one counter.
An IPv6 client is never counted by its /128, which costs an attacker nothing to change.

Canonical addresses: the local part is NFC-normalised, case-folded and loses its subaddress (``+tag``, RFC 5233);
the domain is lower case, in A-labels (IDNA 2008 with UTS 46 mapping), without a trailing dot. RFC 5321 lets a
host treat local parts as case-sensitive; counting them apart would hand every sender a fresh limit per spelling.

Ids are safe to print and to put between the braces of a cluster hash tag: whatever is not printable, and
``{ } % ,`` and white space, is percent-encoded (UTF-8; undecodable bytes as they came), and an id
longer than `MAX_ID_LENGTH` is replaced by ``~`` and a BLAKE2b hash of it.

Bugs: one set of prefix lengths for all rules. ASN, country, rDNS, DKIM and SPF domains have their names
here and get their values with the look-ups.
"""

import hashlib
import inspect
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import unquote

import idna
from publicsuffixlist import PublicSuffixList

from reputation.errors import EntityError
from reputation.events import ClientAddress, Connect, Data, Disconnect, Event, Mail, Rcpt

MAX_ID_LENGTH = 200
MAX_SUBJECT_LENGTH = 1_000
"""What lies beyond is not looked at; a line of a message ends at 998 (RFC 5322 section 2.1.1)."""
CACHED_DOMAINS = 65_536
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
    RECIPIENT = "recipient"
    RECIPIENT_DOMAIN = "recipient_domain"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """The choices a site has in how addresses become ids."""

    subaddress_separator: str = "+"
    """Where the local part ends for counting; empty keeps subaddresses apart."""
    subject_key: bytes = b""
    """Secret for the hash of subjects; empty means that subjects are not counted."""


Entities = Mapping[Dimension, Entity]
Ids = tuple[str, ...]


def entities_of(event: Event, spelling: Spelling) -> dict[Dimension, Entity]:
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
    if isinstance(event, Rcpt):
        _put_address(found, _RECIPIENT, _RECIPIENT_DOMAIN, _remembered(_ids_of_address, event.recipient, separator))
    if isinstance(event, Data) and (id := subject_id(event.subject, spelling.subject_key)):
        found[_SUBJECT] = _entity(Entity, (_SUBJECT, id))
    return found


# Members of an enum are looked up, and named tuples made, in twice the time; there are seven of each in every decision.
_IP, _PREFIX, _HELO, _USER, _SUBJECT = (
    *(Dimension.IP, Dimension.PREFIX, Dimension.HELO, Dimension.USER, Dimension.SUBJECT),
)
_SENDER, _SENDER_DOMAIN = Dimension.SENDER, Dimension.SENDER_DOMAIN
_RECIPIENT, _RECIPIENT_DOMAIN = Dimension.RECIPIENT, Dimension.RECIPIENT_DOMAIN
_entity = tuple.__new__


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


def network_id(client: ClientAddress, *, v4: int, v6: int) -> str:
    """The network of `client` with the given prefix length, as text; a lone IPv4 address without ``/32``.

    >>> from ipaddress import ip_address
    >>> network_id(ip_address("2001:db8:1:2::99"), v4=32, v6=64)
    '2001:db8:1:2::/64'
    """
    # An IPv4 client on a dual-stack socket is an IPv4 client: RFC 4291 section 2.5.5.2.
    mapped = client if isinstance(client, IPv4Address) else client.ipv4_mapped
    if mapped is not None and v4 == 32:
        return str(mapped)
    if mapped is not None:
        return f"{IPv4Address(int(mapped) >> 32 - v4 << 32 - v4)}/{v4}"
    return str(IPv6Network((int(client), v6), strict=False))


def canonical_address(address: str, subaddress_separator: str = "+") -> str:
    """The one spelling under which an address is counted.

    >>> canonical_address("Alice+news@Example.COM.")
    'alice@example.com'
    >>> canonical_address('"John Doe"@bücher.example')
    'john doe@xn--bcher-kva.example'
    """
    local, at, domain = address.rpartition("@")
    if not at:
        return unicodedata.normalize("NFC", address).casefold()
    if len(local) > 1 and local[0] == local[-1] == '"':  # RFC 5321 section 4.1.2: the quotes are no part of it
        local = re.sub(r"\\(.)", r"\1", local[1:-1])
    local = unicodedata.normalize("NFC", local).casefold()
    if subaddress_separator:
        # A local part that begins with the separator has no other name to go by.
        local = local[:1] + local[1:].partition(subaddress_separator)[0]
    return f"{local}@{canonical_domain(domain)}"


def canonical_domain(domain: str) -> str:
    """Lower case, A-labels, no trailing dot. What is no valid IDN stays as it is, lower-cased.

    >>> canonical_domain("MAIL.Example.org.")
    'mail.example.org'
    """
    domain = domain.rstrip(".").lower()
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii").rstrip(".")
    except (idna.IDNAError, UnicodeError):
        return domain


@lru_cache(maxsize=1)
def _public_suffixes() -> PublicSuffixList:
    return PublicSuffixList()


@lru_cache(maxsize=CACHED_DOMAINS)
def organisational_domain(domain: str) -> str:
    """The domain that was registered, by the public suffix list; the domain itself when it is a suffix.

    >>> organisational_domain("a.b.example.co.uk"), organisational_domain("co.uk")
    ('example.co.uk', 'co.uk')
    """
    if domain.startswith("[") or domain.rpartition(".")[2].isdigit():
        return domain  # an address literal, RFC 5321 section 4.1.3, or a bare address: no name that was registered
    return _public_suffixes().privatesuffix(domain) or domain


_REPLY_PREFIX = re.compile(r"^\s*((re|aw|sv|antw|fwd?|wg)(\[\d+\])?:|\[[^\]]{1,40}\])\s*", re.IGNORECASE)


def subject_id(subject: str, key: bytes) -> str:
    """A keyed BLAKE2b hash of the normalised subject, 32 hex digits; empty without a key or a subject.

    Normalised: reply and list prefixes off, white space collapsed, case folded, digits as ``#``, so
    that the numbered copies of one campaign are one subject. Without the key nobody can guess it back.
    """
    subject = subject[:MAX_SUBJECT_LENGTH]
    while match := _REPLY_PREFIX.match(subject):
        subject = subject[match.end() :]
    normal = re.sub(r"\d", "#", " ".join(subject.split())).casefold()
    if not key or not normal:
        return ""
    return hashlib.blake2b(_bytes(normal), digest_size=16, key=key[:64]).hexdigest()


_UNSAFE = re.compile(r"[{}%,\s]")


def escaped(text: str) -> str:
    """`text` as an id: printable, without the characters that end a hash tag or join parts, and bounded.

    >>> escaped("a{b}\\x00c"), len(escaped("x" * 5000))
    ('a%7Bb%7D%00c', 33)
    """
    if text.isprintable() and not _UNSAFE.search(text):
        return shortened(text)
    return shortened("".join(_escaped_character(character) for character in text))


def _escaped_character(character: str) -> str:
    if character.isprintable() and not _UNSAFE.match(character):
        return character
    return "".join(f"%{byte:02X}" for byte in _bytes(character))


def _bytes(text: str) -> bytes:
    """UTF-8, with bytes that came undecodable off the wire as they were."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # a surrogate that is no escaped byte
        return text.encode("utf-8", "surrogatepass")


_SHORTENED = re.compile(r"~[0-9a-f]{32}")


def shortened(id: str) -> str:
    """`id`, or ``~`` and its hash when it is longer than `MAX_ID_LENGTH`."""
    if len(id) <= MAX_ID_LENGTH:
        return id
    return "~" + hashlib.blake2b(_bytes(id), digest_size=16).hexdigest()


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
    if _SHORTENED.fullmatch(value):
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
    match dimension:
        case Dimension.IP | Dimension.PREFIX:
            return _canonical_network(dimension, value)
        case Dimension.SENDER | Dimension.RECIPIENT:
            return escaped(canonical_address(value, spelling.subaddress_separator))
        case Dimension.SENDER_DOMAIN | Dimension.RECIPIENT_DOMAIN:
            return escaped(organisational_domain(canonical_domain(value)))
        case Dimension.SUBJECT:
            if re.fullmatch(r"[0-9a-f]{32}", value):
                return value
            if not spelling.subject_key:
                raise EntityError("subjects are not counted here: set keys.subject_key in the configuration")
            return subject_id(value, spelling.subject_key)
        case Dimension.USER:
            return escaped(canonical_address(value, ""))
        case _:
            return escaped(canonical_domain(value))


def _canonical_network(dimension: Dimension, value: str) -> str:
    address, _, _ = value.partition("/")
    try:
        client = ip_address(address)
    except ValueError:
        raise EntityError(f'"{value}" is no IP address') from None
    if dimension is Dimension.IP:
        return network_id(client, v4=32, v6=64)
    return network_id(client, v4=24, v6=48)
