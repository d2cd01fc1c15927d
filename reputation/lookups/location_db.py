"""The networks in ``location.db`` of Debian's package ``libloc-database``: numbers and countries of the whole world.

A binary tree: from the root one bit of an IPv6 address after the other says which of two nodes comes next, and each
node may name a network, of which the last on the way is the narrowest. IPv4 is ``::ffff:0:0/96`` in it. All numbers are
big-endian.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from reputation.errors import ConfigError

MAGIC = b"LOCDBXX\x01"
HEADER = struct.Struct(">Q3I10I")
"""Created, vendor, description, license; offset and length of providers, networks, tree, countries, texts."""
NODE = struct.Struct(">3I")
"""Next node for a bit of 0, for a bit of 1, and the network."""
NETWORK = struct.Struct(">2s2xI4x")
NONE = 0xFFFFFFFF
BITS = 128
V4 = 0xFFFF << 32
"""Where IPv4 is."""
V4_LENGTH = 96


class Located(NamedTuple):
    """A network of the tree."""

    version: int
    network: int
    length: int
    asn: int
    """0 where it is not known."""
    country: str
    """Empty where it is not known."""


class LocationTree:
    """The tree in the octets of a file. Raises `ConfigError` where they make no sense."""

    def __init__(self, whole: bytes, name: str) -> None:
        self._whole = whole
        self._name = name
        try:
            header = HEADER.unpack_from(whole, len(MAGIC))
        except struct.error:
            raise ConfigError(f"{name}: is cut off") from None
        self._networks, self._tree, self._nodes = header[6], header[8], header[9] // NODE.size

    def find(self, address: int) -> int:
        """The number of an IPv6 address, 0 where it is not known."""
        node, asn = 0, 0
        for bit in range(BITS - 1, -2, -1):
            zero, one, network = self._node(node)
            if network != NONE:
                asn = self._network(network)[1]
            node = one if bit >= 0 and address >> bit & 1 else zero
            if not node:
                break
        return asn

    def networks(self) -> Iterator[Located]:
        """All networks."""
        waiting = [(0, 0, 0)]
        seen = 0
        while waiting:
            node, address, length = waiting.pop()
            seen += 1
            if seen > self._nodes or length > BITS:
                raise ConfigError(f"{self._name}: is no tree")
            zero, one, network = self._node(node)
            if network != NONE:
                yield self._located(address, length, network)
            if zero:
                waiting.append((zero, address, length + 1))
            if one:
                waiting.append((one, address | 1 << BITS - 1 - length, length + 1))

    def _located(self, address: int, length: int, network: int) -> Located:
        country, asn = self._network(network)
        letters = country.decode("ascii", "replace")
        if address & ~0xFFFFFFFF == V4 and length >= V4_LENGTH:
            return Located(4, address & 0xFFFFFFFF, length - V4_LENGTH, asn, letters)
        return Located(6, address, length, asn, letters)

    def _node(self, number: int) -> tuple[int, int, int]:
        return self._read(NODE, self._tree + number * NODE.size)

    def _network(self, number: int) -> tuple[bytes, int]:
        return self._read(NETWORK, self._networks + number * NETWORK.size)

    def _read(self, layout: struct.Struct, place: int) -> tuple:  # type: ignore[type-arg] # what a layout has in it
        try:
            return layout.unpack_from(self._whole, place)
        except struct.error:
            raise ConfigError(f"{self._name}: octet {place}: is cut off") from None
