"""What a route collector has seen: MRT dumps of a routing table (TABLE_DUMP_V2, RFC 6396 section 4.3).

Read are prefixes of unicast routes, IPv4 and IPv6, also of dumps with several paths a peer (RFC 8050), and who
originates them: the last number of the path, or the last one before it that is not private or reserved (a customer
behind a provider often has such a one). Of a set of numbers it is the smallest. The peers of a collector seldom
disagree; the first whose path has a number is believed.

Considered: ``pyasn.mrtx``. It gives a whole dump up over one prefix that has only private numbers, and knows no
dumps with several paths.
"""

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from reputation.errors import ConfigError

HEADER = struct.Struct(">IHHI")
"""Time, type, subtype, length of what follows: RFC 6396 section 2."""
TABLE_DUMP_V2 = 13
RIB_IPV4_UNICAST, RIB_IPV6_UNICAST = 2, 4
RIB_IPV4_UNICAST_ADDPATH, RIB_IPV6_UNICAST_ADDPATH = 8, 10
SUBTYPES = {
    RIB_IPV4_UNICAST: (4, False),
    RIB_IPV6_UNICAST: (6, False),
    RIB_IPV4_UNICAST_ADDPATH: (4, True),
    RIB_IPV6_UNICAST_ADDPATH: (6, True),
}
"""Version of IP, and whether each entry has a path identifier."""
AS_PATH = 2
EXTENDED_LENGTH = 0x10
AS_SET, AS_SEQUENCE = 1, 2
MAX_RECORD_OCTETS = 2**24
WIDTHS = {4: 32, 6: 128}


class Route(NamedTuple):
    """A prefix and who originates it."""

    version: int
    network: int
    length: int
    asn: int


def is_mrt(head: bytes) -> bool:
    """Whether a file that begins so can be a dump."""
    return len(head) >= HEADER.size and HEADER.unpack_from(head)[1] == TABLE_DUMP_V2


def routes_of(stream: BinaryIO, name: str) -> Iterator[Route]:
    """All routes of a dump whose origin is known. Raises `ConfigError` that says at which octet it is damaged."""
    place = 0
    while header := stream.read(HEADER.size):
        try:
            _, kind, subtype, length = HEADER.unpack(header)
            body = stream.read(length) if length <= MAX_RECORD_OCTETS else b""
            if len(body) < length:
                raise ValueError("a record that is not whole")
            route = _route_of(body, *SUBTYPES[subtype]) if kind == TABLE_DUMP_V2 and subtype in SUBTYPES else None
        except (struct.error, IndexError, ValueError) as error:
            raise ConfigError(f"{name}: octet {place}: no dump of a routing table goes on like this: {error}") from None
        if route is not None:
            yield route
        place += HEADER.size + length


def _route_of(body: bytes, version: int, has_path_id: bool) -> Route | None:
    """RFC 6396 section 4.3.2: sequence number, prefix, and an entry for each peer."""
    width = WIDTHS[version]
    length = body[4]
    end = 5 + (length + 7) // 8
    if length > width:
        raise ValueError(f"a prefix of {length} bits")
    network = int.from_bytes(body[5:end].ljust(width // 8, b"\0"), "big") >> width - length << width - length
    (entries,) = struct.unpack_from(">H", body, end)
    place = end + 2
    for _ in range(entries):
        place += 10 if has_path_id else 6  # RFC 6396 section 4.3.4 and RFC 8050 section 4.1: peer, time, path
        (size,) = struct.unpack_from(">H", body, place)
        if asn := _origin(body[place + 2 : place + 2 + size]):
            return Route(version, network, length, asn)
        place += 2 + size
    return None


def _origin(attributes: bytes) -> int:
    """The origin by the path among the attributes of a route: RFC 4271 section 4.3; 0 where there is none."""
    place = 0
    while place < len(attributes):
        flags, kind = attributes[place], attributes[place + 1]
        if flags & EXTENDED_LENGTH:
            (size,) = struct.unpack_from(">H", attributes, place + 2)
            place += 4
        else:
            size = attributes[place + 2]
            place += 3
        if kind == AS_PATH:
            return _origin_of_path(attributes[place : place + size])
        place += size
    return 0


def _origin_of_path(path: bytes) -> int:
    """RFC 6396 section 4.3.4: numbers have four octets here, whoever the peers are."""
    origin = place = 0
    while place < len(path):
        kind, count = path[place], path[place + 1]
        numbers = [number for number in struct.unpack_from(f">{count}I", path, place + 2) if is_public(number)]
        if numbers and kind in {AS_SET, AS_SEQUENCE}:  # confederations are nobody's origin
            origin = numbers[-1] if kind == AS_SEQUENCE else min(numbers)
        place += 2 + 4 * count
    return origin


def is_public(asn: int) -> bool:
    """Whether a number is neither reserved nor private: RFC 7607, 6793, 5398, 6996, 7300.

    >>> [is_public(asn) for asn in (0, 13_335, 23_456, 64_512, 131_072, 4_200_000_000)]
    [False, True, False, False, True, False]
    """
    return asn not in {0, 23_456} and not 64_496 <= asn <= 131_071 and asn < 4_200_000_000
