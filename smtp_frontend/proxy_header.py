"""The header that a load balancer puts before everything else: the PROXY protocol, versions 1 and 2. No I/O.

https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt; sections named below are its sections.

`parse` is given all octets that have come so far, again each time that there are more. It reads the header as soon as
it is whole, and raises as soon as nothing that could follow would make one. How the octets were cut into packets makes
no difference. What stands behind the header is not looked at.

Promises: both versions, strictly; the checksum is verified where there is one; an IPv4 address inside of an IPv6 one
(``::ffff:192.0.2.7``) is the IPv4 address, so that one client is not two.

Does not: decide who may say this. Whoever may can be anybody that he likes, so only our own load balancers are asked
for a header, and those must send one (section 2: "MUST not try to guess whether the protocol header is present").

Bugs: ports are checked and dropped. Of a connection over anything but TCP nothing is known but that; the checksum of
such a header, or of a LOCAL one, is not verified, since the specification says to skip over what stands in them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from reputation.lookups.names import unmapped

Address = IPv4Address | IPv6Address

MAX_OCTETS = 8_192
"""No header is longer: who collects the octets needs no more of them. One with a certificate of the client has 3 kB."""

# Section 2.1
_BEGINNING_1 = b"PROXY "
_MAX_OCTETS_1 = 107
_LINE = re.compile(
    rb"PROXY (?:(UNKNOWN)(?: .*)?|(TCP4|TCP6) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4}))",
    re.DOTALL,
)
_LARGEST_PORT = 65_535

# Section 2.2
_BEGINNING_2 = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16
"""Octets of the beginning, the version with the command, the family with the protocol, and the length of the rest."""
_LOCAL, _PROXY = 0x20, 0x21
"""Version 2, and its two commands."""
_ADDRESSES: dict[int, type[IPv4Address] | type[IPv6Address]] = {0x11: IPv4Address, 0x21: IPv6Address}
"""TCP over IPv4 and IPv6."""
_FAMILIES, _PROTOCOLS = range(4), range(3)
_PORTS_SIZE = 4
_TYPE_CRC32C, _TYPE_SSL = 0x03, 0x20
_CRC32C_SIZE, _SSL_SIZE = 4, 5
_CLIENT_SSL = 0x01
_CRC32C_POLYNOMIAL = 0x82F63B78


class ProxyHeaderError(Exception):
    """What has come is no header, whatever may follow. The argument says why, for the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyHeader:
    """For whom a load balancer speaks."""

    source: Address | None
    """The client; None where the load balancer speaks for itself (a health check), or for nobody with an address."""
    destination: Address | None
    """The address that the client has connected to; None together with `source`."""
    tls: bool
    """Whether the client speaks TLS with the load balancer."""
    size: int
    """Octets of the header."""


def parse(octets: bytes) -> ProxyHeader | None:
    """The header that `octets` begin with; None while it is not complete. Raises `ProxyHeaderError`."""
    octets = bytes(octets[:MAX_OCTETS])
    if octets[: len(_BEGINNING_1)] == _BEGINNING_1[: len(octets)]:
        return _version_1(octets[:_MAX_OCTETS_1])
    if octets[: len(_BEGINNING_2)] == _BEGINNING_2[: len(octets)]:
        return _version_2(octets)
    raise ProxyHeaderError("it does not begin as a header does")


def octets_wanted(octets: bytes) -> int:
    """How many more octets are the header's for sure: who reads no more than these leaves what follows it alone."""
    if len(octets) < len(_BEGINNING_2):  # no header of either version is shorter
        return len(_BEGINNING_2) - len(octets)
    if not octets.startswith(_BEGINNING_2):
        return 1  # version 1 ends with its line
    if len(octets) < _FIXED:
        return _FIXED - len(octets)
    return max(1, _FIXED + int.from_bytes(octets[_FIXED - 2 : _FIXED], "big") - len(octets))


def _version_1(octets: bytes) -> ProxyHeader | None:
    """A line of text. The first CR or LF must be its CRLF: to end at one alone is to read what others do not."""
    end = next((at for at, octet in enumerate(octets) if octet in b"\r\n"), len(octets))
    if octets[end : end + 2] != b"\r\n":
        if octets[end:] not in (b"", b"\r"):
            raise ProxyHeaderError("a bare CR or LF in the line")
        if len(octets) == _MAX_OCTETS_1:
            raise ProxyHeaderError(f"no CRLF within {_MAX_OCTETS_1} octets")
        return None
    match = _LINE.fullmatch(octets, 0, end)
    if match is None:
        raise ProxyHeaderError("a line that is no header of version 1")
    unknown, family, source, destination, *ports = match.groups()
    if unknown:
        return ProxyHeader(source=None, destination=None, tls=False, size=end + 2)
    if any(int(port) > _LARGEST_PORT for port in ports):
        raise ProxyHeaderError("a port above 65535")
    return ProxyHeader(
        source=_address(family, source), destination=_address(family, destination), tls=False, size=end + 2
    )


def _address(family: bytes, text: bytes) -> Address:
    try:
        return IPv4Address(text.decode()) if family == b"TCP4" else unmapped(IPv6Address(text.decode()))
    except ValueError:
        raise ProxyHeaderError(f"not an address of {family.decode()}: {text.decode()}") from None


def _version_2(octets: bytes) -> ProxyHeader | None:
    """Binary: 16 octets, the addresses, and then any number of values, each with its type and length."""
    command, family = octets[12:13], octets[13:14]
    if command and command[0] not in (_LOCAL, _PROXY):
        raise ProxyHeaderError(f"version and command {command.hex()} are not 20 or 21")
    local = command == bytes([_LOCAL])
    if family and not local and (family[0] >> 4 not in _FAMILIES or family[0] & 0xF not in _PROTOCOLS):
        raise ProxyHeaderError(f"no such address family and protocol: {family.hex()}")
    if len(octets) < _FIXED:
        return None
    size = _FIXED + int.from_bytes(octets[14:_FIXED])
    if size > MAX_OCTETS:
        raise ProxyHeaderError(f"a header of {size} octets")
    if len(octets) < size:
        return None
    kind = _ADDRESSES.get(family[0])
    if local or kind is None:  # "The receiver must ... discard the protocol block including the family"
        return ProxyHeader(source=None, destination=None, tls=False, size=size)
    return _with_addresses(octets[:size], kind)


def _with_addresses(header: bytes, kind: type[IPv4Address] | type[IPv6Address]) -> ProxyHeader:
    length = kind(0).max_prefixlen // 8
    values_at = _FIXED + 2 * length + _PORTS_SIZE
    if len(header) < values_at:
        raise ProxyHeaderError("too short for its addresses")
    source, destination = (kind(header[at : at + length]) for at in (_FIXED, _FIXED + length))
    return ProxyHeader(
        source=unmapped(source),
        destination=unmapped(destination),
        tls=_tls_of(header, values_at),
        size=len(header),
    )


def _tls_of(header: bytes, values_at: int) -> bool:
    """Whether one of the values says that the client speaks TLS. The checksum is verified on the way."""
    tls = verified = False
    for kind, start, end in _values(header, values_at):
        if kind == _TYPE_CRC32C:
            if verified:
                raise ProxyHeaderError("two checksums")
            _verify(header, start, end)
            verified = True
        elif kind == _TYPE_SSL:
            if end - start < _SSL_SIZE:
                raise ProxyHeaderError("too little about TLS")
            tls = tls or bool(header[start] & _CLIENT_SSL)  # section 2.2.6
    return tls


def _values(header: bytes, at: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, end) of each value behind the addresses."""
    while at < len(header):
        start = at + 3
        end = start + int.from_bytes(header[at + 1 : start])
        if max(start, end) > len(header):
            raise ProxyHeaderError("a value that is longer than the header")
        yield header[at], start, end
        at = end


def _verify(header: bytes, start: int, end: int) -> None:
    """Section 2.2.3: the sum of the header with the four octets of the sum as zeros."""
    if end - start != _CRC32C_SIZE:
        raise ProxyHeaderError("a checksum that has not four octets")
    blank = header[:start] + bytes(_CRC32C_SIZE) + header[end:]
    if crc32c(blank) != int.from_bytes(header[start:end]):
        raise ProxyHeaderError("the checksum is wrong")


def _remainder(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (_CRC32C_POLYNOMIAL if value & 1 else 0)
    return value


_CRC32C = [_remainder(octet) for octet in range(256)]


def crc32c(octets: bytes) -> int:
    """The CRC32C (RFC 4960 appendix B) of some octets.

    >>> f"{crc32c(b'123456789'):08x}"
    'e3069283'
    """
    value = 0xFFFFFFFF
    for octet in octets:
        value = value >> 8 ^ _CRC32C[(value ^ octet) & 0xFF]
    return value ^ 0xFFFFFFFF
