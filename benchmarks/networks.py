"""Which provider an IPv4 address belongs to, out of whatever table of networks is at hand; for benchmarks only.

Two kinds of files are read, by the readers of `reputon asn build`: ranges as CSV (``first,last,number,name``, the
addresses as text or as numbers), such as npm's ``@ip-location-db/asn`` has them, and ``location.db`` of Debian's
package ``libloc-database``, which is not unfolded but walked through for each address.
"""

import gzip
from bisect import bisect_right
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import TextIO

from reputation.lookups.asn_sources import ranges_of
from reputation.lookups.location_db import HEADER, MAGIC, NONE, V4, LocationTree

__all__ = ["HEADER", "MAGIC", "NONE", "PLACES", "ROOT", "Lookup", "found", "opened", "text_of"]

ROOT = Path(__file__).resolve().parent.parent
PLACES = (
    *(ROOT / "node_modules/@ip-location-db/asn" / name for name in ("asn-ipv4-num.csv", "asn-ipv4.csv")),
    *(ROOT.parent / "shared/data" / name for name in ("asn-ipv4-num.csv", "asn-ipv4.csv")),
    Path("/usr/share/libloc-location/location.db"),
    Path("/var/lib/location/database.db"),
)
"""Where a table is looked for."""

Lookup = Callable[[IPv4Address], int]
"""The number of the provider, 0 where it is not known."""


def found() -> Path | None:
    """A table on this machine."""
    return next((place for place in PLACES if place.exists()), None)


def opened(file: Path) -> Lookup:
    """The look-up out of a file of either kind."""
    with file.open("rb") as stream:
        is_tree = stream.read(len(MAGIC)) == MAGIC
    return _by_tree(file) if is_tree else _by_ranges(file)


def text_of(file: Path) -> TextIO:
    """A file of text, packed by gzip or not."""
    return gzip.open(file, "rt", encoding="utf-8") if file.suffix == ".gz" else file.open(encoding="utf-8", newline="")


def _by_ranges(file: Path) -> Lookup:
    with text_of(file) as stream:
        ranges = sorted(ranges_of(stream, str(file)))
    firsts = [range_.first for range_ in ranges]

    def look_up(client: IPv4Address) -> int:
        place = bisect_right(firsts, int(client)) - 1
        if place < 0:
            return 0
        range_ = ranges[place]
        return range_.asn if int(client) <= range_.last else 0

    return look_up


def _by_tree(file: Path) -> Lookup:
    tree = LocationTree(file.read_bytes(), str(file))

    def look_up(client: IPv4Address) -> int:
        return tree.find(V4 | int(client))

    return look_up
