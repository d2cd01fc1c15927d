"""What a reputation query asks: its subject, as whom, and which assertions. Pure.

The application is "email-id" (RFC 7073). A subject is an address of a client, a domain, or a mail address, and is known
by where it stood in a message, its identity:

================  =====================  ======================================================================
identity          subject                whose evidence answers
================  =====================  ======================================================================
ipv4              IPv4 address           the address
ipv6              IPv6 address           its /64, as which IPv6 clients are counted
rfc5321.mailfrom  mail address, domain   the sender; its organisational domain
rfc5322.from      mail address, domain   the author; its organisational domain
spf               mail address, domain   the sender's organisational domain: it is heard of only where SPF has passed,
                                         or he had logged in
dkim              domain                 nobody's: none is kept
rfc5321.helo      domain, address        nobody's: none is kept
================  =====================  ======================================================================

Without an identity an address is asked for as what it is, and everything else as sender and as author: each answers for
itself. The words of the protocol are read in any case (RFC 2045 section 5.1: tokens of media types are).

Does not do: subjects that no message could have in such a place. They are mistakes, and not unknown.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from ipaddress import IPv4Address, ip_address
from urllib.parse import quote

from reputation.errors import ConfigError
from reputation.keys import Dimension, Entity, parse_entity
from reputation.ratings import Assertion
from reputation.spelling import Spelling, canonical_domain

APPLICATION = "email-id"
MAX_SUBJECT = 320
"""Characters: 64 of a local part, an @, and 255 of a domain (RFC 5321 section 4.5.3.1)."""
MAX_ASSERTION = 64


class Identity(StrEnum):
    """Where in a message a subject was found. RFC 7073 section 3.2."""

    DKIM = "dkim"
    IPV4 = "ipv4"
    IPV6 = "ipv6"
    HELO = "rfc5321.helo"
    MAIL_FROM = "rfc5321.mailfrom"
    FROM = "rfc5322.from"
    SPF = "spf"


class Shape(Enum):
    """What a subject looks like."""

    IPV4 = "an IPv4 address"
    IPV6 = "an IPv6 address"
    DOMAIN = "a domain"
    MAILBOX = "a mail address"


WHOSE: Mapping[Identity, Mapping[Shape, Dimension | None]] = {
    Identity.DKIM: {Shape.DOMAIN: None},
    Identity.IPV4: {Shape.IPV4: Dimension.IP},
    Identity.IPV6: {Shape.IPV6: Dimension.IP},
    Identity.HELO: {Shape.DOMAIN: None, Shape.IPV4: None, Shape.IPV6: None},
    Identity.MAIL_FROM: {Shape.MAILBOX: Dimension.SENDER, Shape.DOMAIN: Dimension.SENDER_DOMAIN},
    Identity.FROM: {Shape.MAILBOX: Dimension.AUTHOR, Shape.DOMAIN: Dimension.AUTHOR_DOMAIN},
    Identity.SPF: {Shape.MAILBOX: Dimension.SENDER_DOMAIN, Shape.DOMAIN: Dimension.SENDER_DOMAIN},
}
"""Whose evidence answers; None for nobody's."""
assert WHOSE.keys() == set(Identity)

UNSAID: Mapping[Shape, tuple[Identity, ...]] = {
    Shape.IPV4: (Identity.IPV4,),
    Shape.IPV6: (Identity.IPV6,),
    Shape.DOMAIN: (Identity.MAIL_FROM, Identity.FROM),
    Shape.MAILBOX: (Identity.MAIL_FROM, Identity.FROM),
}
"""As whom a subject is answered for where the query does not say."""
assert UNSAID.keys() == set(Shape)

_TOKEN = re.compile(r"[!#$%&'*+.0-9A-Z^_`a-z{|}~-]+")  # RFC 2045 section 5.1
_DOMAIN = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_-]{1,63})*")
_LITERAL = re.compile(r"\[(?:ipv6:)?[0-9a-f.:]{2,45}\]")  # RFC 5321 section 4.1.3
_MAX_DOMAIN = 253


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One identity of the subject."""

    identity: Identity
    entity: Entity | None
    """Whose evidence answers; None for nobody's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked."""

    subject: str
    assertions: tuple[str, ...]
    """Words that are no `Assertion` may be among them: about those nothing is known."""
    asked: tuple[Asked, ...]


def question_of(subject: str, assertion: str, identity: str, spelling: Spelling) -> Question:
    """What a query asks; an empty assertion or identity is one that was not given.

    Raises `ConfigError` that names what cannot be right.
    """
    shape = _shape_of(subject)
    named = _identity_of(identity)
    identities = UNSAID[shape] if named is None else (named,)
    if named is not None and shape not in WHOSE[named]:
        wanted = " or ".join(each.value for each in WHOSE[named])
        raise ConfigError(f"identity: {named} is {wanted}, and the subject is {shape.value}")
    return Question(
        subject=subject,
        assertions=_assertions_of(assertion),
        asked=tuple(Asked(identity=each, entity=_entity_of(each, shape, subject, spelling)) for each in identities),
    )


def _assertions_of(word: str) -> tuple[str, ...]:
    if not word:
        return tuple(Assertion)  # RFC 7072 section 3.3: without one, all are asked for
    if len(word) > MAX_ASSERTION or not _TOKEN.fullmatch(word):  # RFC 7072 section 3.3: a "token"
        raise ConfigError(f"assertion: write one of {', '.join(Assertion)}, or none for all of them")
    return (word.lower(),)


def _identity_of(word: str) -> Identity | None:
    if word and word.lower() not in set(Identity):  # RFC 7073 section 3.4
        raise ConfigError(f"identity: write one of {', '.join(Identity)}, or none")
    return Identity(word.lower()) if word else None


def _shape_of(subject: str) -> Shape:
    """What the subject looks like; raises `ConfigError` for what is none of it.

    >>> _shape_of("2001:db8::7"), _shape_of("alice@example.com"), _shape_of("example.com")
    (<Shape.IPV6: 'an IPv6 address'>, <Shape.MAILBOX: 'a mail address'>, <Shape.DOMAIN: 'a domain'>)
    """
    if 0 < len(subject) <= MAX_SUBJECT and subject.isprintable():
        local, at, domain = subject.rpartition("@")
        if _is_domain(domain) and bool(local) == bool(at):
            return Shape.MAILBOX if at else Shape.DOMAIN
        if (address := _address_of(subject)) is not None:
            return Shape.IPV4 if address == 4 else Shape.IPV6
    raise ConfigError(
        f"subject: write an address of a client, a domain or a mail address, of at most {MAX_SUBJECT} characters"
    )


def _is_domain(text: str) -> bool:
    """Whether it could be the name of a host; not an address that lacks a number, either."""
    domain = canonical_domain(text)
    if _LITERAL.fullmatch(domain):
        return True
    return len(domain) <= _MAX_DOMAIN and bool(_DOMAIN.fullmatch(domain)) and not domain.rpartition(".")[2].isdigit()


def _address_of(text: str) -> int | None:
    """The version of an address of IP; of one of IPv4 that is mapped into IPv6 it is 4 (RFC 4291 section 2.5.5.2)."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv4Address) or address.ipv4_mapped is not None:
        return 4
    return None if address.scope_id else 6


def _entity_of(identity: Identity, shape: Shape, subject: str, spelling: Spelling) -> Entity | None:
    dimension = WHOSE[identity][shape]
    if dimension is None:
        return None
    whole = shape is not Shape.MAILBOX or dimension in (Dimension.SENDER, Dimension.AUTHOR)
    text = subject if whole else subject.rpartition("@")[2]
    return parse_entity(f"{dimension}:{quote(text, safe='')}", spelling)
