"""The one spelling of addresses, domains, networks and subjects: the only place where they are canonicalised.

Canonical addresses: the local part is NFC-normalised, case-folded and loses its subaddress (``+tag``, RFC 5233);
the domain is lower case, in A-labels (IDNA 2008 with UTS 46 mapping), without a trailing dot. RFC 5321 lets a
host treat local parts as case-sensitive; counting them apart would hand every sender a fresh limit per spelling.

Ids are safe to print and to put between the braces of a cluster hash tag: whatever is not printable, and
``{ } % ,`` and white space, is percent-encoded (UTF-8; undecodable bytes as they came), and an id
longer than `MAX_ID_LENGTH` is replaced by ``~`` and a BLAKE2b hash of it.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Network

import idna
from publicsuffixlist import PublicSuffixList

from reputation.events import ClientAddress

MAX_ID_LENGTH = 200
MAX_SUBJECT_LENGTH = 1_000
"""What lies beyond is not looked at; a line of a message ends at 998 (RFC 5322 section 2.1.1)."""
CACHED_DOMAINS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Spelling:
    """The choices a site has in how addresses become ids."""

    subaddress_separator: str = "+"
    """Where the local part ends for counting; empty keeps subaddresses apart."""
    subject_key: bytes = b""
    """Secret for the hash of subjects; empty means that subjects are not counted."""


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


SHORTENED = re.compile(r"~[0-9a-f]{32}")


def shortened(id: str) -> str:
    """`id`, or ``~`` and its hash when it is longer than `MAX_ID_LENGTH`."""
    if len(id) <= MAX_ID_LENGTH:
        return id
    return "~" + hashlib.blake2b(_bytes(id), digest_size=16).hexdigest()
