"""Which provider an IPv4 address belongs to, out of whatever table of networks is at hand; for benchmarks only.

Two kinds of files are read: ranges as CSV (``first,last,number,name``, the addresses as text or as numbers), such as
npm's ``@ip-location-db/asn`` has them, and ``location.db`` of Debian's package ``libloc-database``.

The latter is a binary tree: from the root one bit of an IPv6 address after the other says which of two nodes comes
next, and each node may name a network, of which the last on the way is the narrowest. IPv4 is ``::ffff:0:0/96`` in it.
All numbers are big-endian.
"""

import csv
import gzip
import struct
from bisect import bisect_right
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
PLACES = (
    *(ROOT / "node_modules/@ip-location-db/asn" / name for name in ("asn-ipv4-num.csv", "asn-ipv4.csv")),
    *(ROOT.parent / "shared/data" / name for name in ("asn-ipv4-num.csv", "asn-ipv4.csv")),
    Path("/usr/share/libloc-location/location.db"),
    Path("/var/lib/location/database.db"),
)
"""Where a table is looked for."""
MAGIC = b"LOCDBXX\x01"
HEADER = struct.Struct(">Q3I10I")
"""Created, vendor, description, license; offset and length of providers, networks, tree, countries, texts."""
NODE = struct.Struct(">3I")
"""Next node for a bit of 0, for a bit of 1, and the network."""
NETWORK = struct.Struct(">2s2xI4x")
NONE = 0xFFFFFFFF

Lookup = Callable[[IPv4Address], int]
"""The number of the provider, 0 where it is not known."""


def found() -> Path | None:
    """A table on this machine."""
    return next((place for place in PLACES if place.exists()), None)


def opened(file: Path) -> Lookup:
    """The look-up out of a file of either kind."""
    with file.open("rb") as stream:
        is_tree = stream.read(len(MAGIC)) == MAGIC
    return _by_tree(file.read_bytes()) if is_tree else _by_ranges(file)


def text_of(file: Path) -> TextIO:
    """A file of text, packed by gzip or not."""
    return gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8", newline="")


def _by_ranges(file: Path) -> Lookup:
    ranges = sorted(_ranges(file))
    firsts = [first for first, _, _ in ranges]

    def look_up(client: IPv4Address) -> int:
        place = bisect_right(firsts, int(client)) - 1
        if place < 0:
            return 0
        _, last, number = ranges[place]
        return number if int(client) <= last else 0

    return look_up


def _ranges(file: Path) -> Iterator[tuple[int, int, int]]:
    with text_of(file) as stream:
        for first, last, number, *_ in csv.reader(stream):
            yield _number(first), _number(last), int(number)


def _number(address: str) -> int:
    return int(address) if address.isdigit() else int(IPv4Address(address))


def _by_tree(whole: bytes) -> Lookup:
    header = HEADER.unpack_from(whole, len(MAGIC))
    networks, tree = header[6], header[8]

    def look_up(client: IPv4Address) -> int:
        address, node, number = 0xFFFF << 32 | int(client), 0, 0
        for bit in range(127, -2, -1):
            zero, one, network = NODE.unpack_from(whole, tree + node * NODE.size)
            if network != NONE:
                number = NETWORK.unpack_from(whole, networks + network * NETWORK.size)[1]
            node = one if bit >= 0 and address >> bit & 1 else zero
            if not node:
                break
        return int(number)

    return look_up
