"""Files that say which networks belong to whom, for `reputon asn build`. What a file is, its beginning says:

* ranges as CSV, ``first,last,number[,name]`` or ``first,last,COUNTRY``, the addresses as text or as numbers, such as
  npm's ``@ip-location-db/asn`` and ``@ip-location-db/asn-country`` have them; a first line of headings is passed over,
* ``PREFIX<tab>NUMBER``, tables of pyasn and our own,
* a dump of a routing table (`reputation.lookups.mrt`),
* ``location.db`` of Debian's ``libloc-database`` (`reputation.lookups.location_db`).

Any of them may be packed by gzip or bzip2. All of a file is used, or it is an error that says where.

Number 0 and default routes say nothing and are left out. Private numbers are kept where somebody has written them into
a table on purpose, and left out of what routers have seen. A range that is no prefix becomes several.
"""

import bz2
import csv
import gzip
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import BinaryIO, NamedTuple, TextIO, cast

from reputation.errors import ConfigError
from reputation.lookups import location_db
from reputation.lookups.location_db import LocationTree
from reputation.lookups.mrt import WIDTHS, is_mrt, routes_of

PACKED: dict[bytes, Callable[[BinaryIO], io.BufferedIOBase]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
}
HEAD_OCTETS = 64
TOLD_EVERY = 4_096
"""Networks between two words about progress."""
MAX_ASN = 2**32 - 1
V4_NUMBERS = 2**32
"""Addresses as numbers that are smaller are IPv4."""
_COUNTRY = re.compile(r"[A-Z]{2}")
_ASN = re.compile(r"(?:AS)?(\d{1,10})")

Progress = Callable[[int], None]
"""Is told how many octets of a file have been read."""


class Said(NamedTuple):
    """What a file says about one network."""

    version: int
    """4 or 6."""
    network: int
    length: int
    asn: int
    """0 where it says nothing about that."""
    country: str = ""


class Range(NamedTuple):
    """What a line says about a range of addresses, both ends included."""

    version: int
    first: int
    last: int
    asn: int
    country: str


def networks_in(file: Path, on_progress: Progress) -> Iterator[Said]:
    """All that a file says. Raises `ConfigError` with the file and the place in it."""
    try:
        with file.open("rb") as packed, _unpacked(packed) as stream:
            for count, said in enumerate(_read(stream, str(file))):
                if count % TOLD_EVERY == 0:
                    on_progress(packed.tell())
                if said.length:
                    yield said
    except (OSError, EOFError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def _unpacked(packed: io.BufferedReader) -> Iterator[io.BufferedReader]:
    head = packed.peek(HEAD_OCTETS)
    unpack = next((unpack for magic, unpack in PACKED.items() if head.startswith(magic)), None)
    if unpack is None:
        yield packed
        return
    with unpack(packed) as stream:
        # Those of gzip and bz2 are no readers by their class, but can do what one can.
        yield cast(io.BufferedReader, stream)


def _read(stream: io.BufferedReader, name: str) -> Iterator[Said]:
    head = stream.peek(HEAD_OCTETS)[:HEAD_OCTETS]
    if head.startswith(location_db.MAGIC):
        for located in LocationTree(stream.read(), name).networks():
            country = located.country if _COUNTRY.fullmatch(located.country) else ""
            yield Said(located.version, located.network, located.length, located.asn, country)
    elif is_mrt(head):
        yield from (Said(*route) for route in routes_of(stream, name))
    elif head:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        try:
            yield from _of_text(text, name)
        finally:
            text.detach()  # who has opened the stream closes it


def _of_text(text: TextIO, name: str) -> Iterator[Said]:
    first = text.readline()
    text.seek(0)
    is_table = first.startswith((";", "#")) or "\t" in first
    for range_ in _of_table(text, name) if is_table else ranges_of(text, name):
        for network, length in prefixes_of(range_):
            yield Said(range_.version, network, length, range_.asn, range_.country)


def _of_table(text: TextIO, name: str) -> Iterator[Range]:
    for number, line in enumerate(text, 1):
        # Countries stand in comments of ours that have no space: see reputation.lookups.asn.
        is_country = line.startswith(";") and "\t" in line
        if not line.strip() or (line.startswith((";", "#")) and not is_country):
            continue
        try:
            prefix, asn, *rest = line.strip().removeprefix(";").split("\t")
            network = ip_network(prefix, strict=False)
            said = (0, rest[0]) if is_country else (_asn(asn), "")
        except (ValueError, IndexError):
            raise ConfigError(
                f'{name}:{number}: "{line.strip()[:60]}" is no PREFIX and NUMBER with a tab between'
            ) from None
        yield Range(network.version, int(network[0]), int(network[-1]), *said)


def ranges_of(text: TextIO, name: str) -> Iterator[Range]:
    """The lines of a CSV file with ranges. Raises `ConfigError` with file and line."""
    rows = csv.reader(text)
    try:
        for row in rows:
            if not row:
                continue
            try:
                yield _range_of(row)
            except (ValueError, IndexError) as error:
                if rows.line_num > 1 or any(character.isdigit() for character in row[0]):
                    raise ConfigError(
                        f"{name}:{rows.line_num}: {error}: write FIRST,LAST,NUMBER or FIRST,LAST,COUNTRY"
                    ) from None
    except csv.Error as error:
        raise ConfigError(f"{name}:{rows.line_num + 1}: no CSV: {error}") from None


def _range_of(row: list[str]) -> Range:
    if len(row) < 3:
        raise ValueError("less than three columns")
    (version, first), (also, last) = _address(row[0]), _address(row[1])
    if version != also or last < first:
        raise ValueError(f"{row[0]} to {row[1]} is no range")
    said = row[2].strip()
    country = said if _COUNTRY.fullmatch(said) else ""
    return Range(version, first, last, 0 if country or not said else _asn(said), country)


def _address(text: str) -> tuple[int, int]:
    if text.isascii() and text.isdigit():
        number = int(text)
        if number >> WIDTHS[6]:
            raise ValueError(f"{text} is no address")
        return (4 if number < V4_NUMBERS else 6), number
    address = ip_address(text)
    return address.version, int(address)


def _asn(text: str) -> int:
    match = _ASN.fullmatch(text)
    if match is None or int(match[1]) > MAX_ASN:
        raise ValueError(f'"{text[:60]}" is no number of a network and no country')
    return int(match[1])


def prefixes_of(range_: Range) -> Iterator[tuple[int, int]]:
    """The fewest prefixes that make up a range: first address and length of each.

    >>> [(network, length) for network, length in prefixes_of(Range(4, 0, 5, 64500, ""))]
    [(0, 30), (4, 31)]
    """
    width, first, last = WIDTHS[range_.version], range_.first, range_.last
    while first <= last:
        # As large as where it begins allows, and as what is left.
        bits = min((first & -first).bit_length() - 1 if first else width, (last - first + 1).bit_length() - 1)
        yield first, width - bits
        first += 1 << bits
