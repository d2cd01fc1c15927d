"""Names of the DNS as text: which can be asked about, which can be believed, and those that addresses have.

Names come from strangers (HELO, senders, SPF records, PTR records). A question is asked about nothing but printable
ASCII in labels of 1 to 63 octets, 253 in all (RFC 1035 section 2.3.4); what is not that is nobody's name. A backslash
or any other odd character is an octet like others, and has no meaning of its own. What comes back is believed only if
it is a host name (RFC 1123 section 2.1), where we let underscores pass, because many are in use.

Questions are counted by whose they are (`asked_domain`): those about one domain are answered by the same name servers.
"""

import re
from ipaddress import IPv4Address, IPv6Address

from reputation.events import ClientAddress
from reputation.spelling import organisational_domain

MAX_NAME_LENGTH = 253
_ASKABLE = re.compile(r"[!-\-/-~]{1,63}(?:\.[!-\-/-~]{1,63})*")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*")

_REVERSE_LABELS = {".in-addr.arpa": 5, ".ip6.arpa": 14}
"""Of the reverse name of a /24, and of a /48."""


def askable(name: str) -> str:
    """The spelling in which `name` is asked about: lower case, no final dot; empty for what cannot be asked about.

    >>> askable("Mail.Example.org."), askable("a..b"), askable("b\\u00fccher.example"), askable("x" * 64)
    ('mail.example.org', '', '', '')
    """
    if len(name) > MAX_NAME_LENGTH + 1:
        return ""
    name = name.removesuffix(".")
    return name.lower() if len(name) <= MAX_NAME_LENGTH and _ASKABLE.fullmatch(name) else ""


def host_name(text: str) -> str:
    """A name that an answer has, lower case and without a final dot; empty when it is none that a host may have.

    >>> host_name("MX-1.Example.org."), host_name("a\\\\.b.example"), host_name("-.example"), host_name(".")
    ('mx-1.example.org', '', '', '')
    """
    text = text.removesuffix(".").lower()
    return text if len(text) <= MAX_NAME_LENGTH and _HOST.fullmatch(text) else ""


def asked_domain(name: str) -> str:
    """Whom a question about a name of `askable`'s troubles: the registered domain, or the reverse zone of a network.

    >>> asked_domain("s1.d1.example.co.uk"), asked_domain("7.2.0.192.in-addr.arpa"), asked_domain("[s1.example.org")
    ('example.co.uk', '2.0.192.in-addr.arpa', 'example.org')
    """
    for suffix, labels in _REVERSE_LABELS.items():
        if name.endswith(suffix):
            return ".".join(name.rsplit(".", labels)[-labels:])
    # A bracket at the beginning would be taken for an address literal, which is a domain of its own.
    return organisational_domain(name.lstrip("["))


def network_of(client: ClientAddress) -> bytes:
    """The network whose clients have one share: a /24, or a /48, the most that one site has as a rule (RFC 6177)."""
    return client.packed[:3] if isinstance(client, IPv4Address) else client.packed[:6]


def unmapped(client: ClientAddress) -> ClientAddress:
    """An IPv4 client on a dual-stack socket is an IPv4 client: RFC 4291 section 2.5.5.2."""
    if isinstance(client, IPv6Address) and client.ipv4_mapped is not None:
        return client.ipv4_mapped
    return client


def reverse_name(client: ClientAddress) -> str:
    """Where the PTR records of an address are: RFC 1035 section 3.5, RFC 3596 section 2.5."""
    return client.reverse_pointer


def listed_name(client: ClientAddress, zone: str) -> str:
    """Where a DNS list says whether an address is on it: RFC 5782 sections 2.1 and 2.4.

    >>> listed_name(IPv4Address("192.0.2.99"), "zen.example.org")
    '99.2.0.192.zen.example.org'
    """
    suffix = ".in-addr.arpa" if isinstance(client, IPv4Address) else ".ip6.arpa"
    return f"{client.reverse_pointer.removesuffix(suffix)}.{zone}"
