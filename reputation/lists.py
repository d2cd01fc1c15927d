"""Lists that nobody puts down by hand: what files, sets in the store and the configuration say.

What a value of them means is an entry (`reputation.entries.Listing`) without an end, signed by where it comes from.
`Register` lays them under what operators have put down: one look-up, the longest prefix of both wins, and what must
never be banned is not.

How they are kept
-----------------
Not as entries: a million of these are a gigabyte, and the garbage collector would go through them. A `Reading`, what
one source says, has dictionaries of numbers and texts, which it passes over: one for each prefix length and dimension
that occurs, from the value to the reason. An entry is made when somebody is found to be on a list, and remembered for a
while. `Lists` are all readings together; a source that changes replaces its own and no other.

Does not do: reading lines (`reputation.list_lines`), files and sets (`reputation.list_keeper`); acting on lists.

Bugs: a look-up asks each source that has values of the dimension, so a hundred of them take their time; many values in
few of them are what is cheap. An IPv6 client changes its /128 at will: list its /64.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_network
from typing import NamedTuple

from reputation.entries import MAX_AUTHOR_LENGTH, Listing, Network, Place, Target
from reputation.keys import Entity

MAX_VALUES = 1_000_000
"""Of all lists together."""
CACHED_LISTINGS = 4_096

Ranges = dict[tuple[int, int], dict[int, str]]
"""(bits of an address, bits behind the prefix) -> number in the prefix -> reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where values of a list come from: one of `values`, `file` and `redis_set`."""

    list: str
    of: str
    """The dimension of values that name none, or several joined by ``+``."""
    values: tuple[str, ...] = ()
    file: str = ""
    redis_set: str = ""

    @property
    def place(self) -> str:
        """What the source is called: path, name of the set, or that it is the configuration."""
        return self.file or (f"redis set {self.redis_set}" if self.redis_set else "configuration")

    @property
    def author(self) -> str:
        """`place`, so that it can sign an entry; of a long path the end."""
        author = printable(self.place)
        return author if len(author) <= MAX_AUTHOR_LENGTH else "..." + author[3 - MAX_AUTHOR_LENGTH :]


class Signed(NamedTuple):
    """What all entries of a reading share."""

    list: str
    author: str
    at: float
    """Seconds since the epoch: when the source was changed, or read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Reading:
    """What one source said at one moment. `reputation.list_lines.Reader` makes it; nobody changes it afterwards."""

    signed: Signed
    ranges: Ranges
    entities: dict[str, dict[str, str]]
    """Dimension -> id -> reason."""
    size: int


class Lists:
    """All readings at one moment, to be asked. Immutable."""

    __slots__ = ("_entities", "_networks", "combinations", "empty", "size")

    def __init__(self, readings: Sequence[Reading] = ()) -> None:
        self._networks: dict[int, list[tuple[int, dict[int, str], Reading]]] = {32: [], 128: []}
        self._entities: dict[str, list[tuple[dict[str, str], Reading]]] = {}
        for reading in readings:
            for (bits, shift), numbers in reading.ranges.items():
                self._networks[bits].append((shift, numbers, reading))
            for dimension, ids in reading.entities.items():
                self._entities.setdefault(dimension, []).append((ids, reading))
        for of_bits in self._networks.values():
            of_bits.sort(key=lambda row: row[0])
        self.combinations = frozenset(dimension for dimension in self._entities if "+" in dimension)
        """The combinations of dimensions that they have."""
        self.size = sum(reading.size for reading in readings)
        self.empty = not self.size

    def around(self, bits: int, number: int, least_shift: int = 0) -> list[Listing]:
        """Of all networks around an address, or around its bits above `least_shift`; the longest prefix first."""
        return [
            _network_listing(reading.signed, reason, (bits, number >> shift << shift, shift))
            for shift, reasons, reading in self._networks[bits]
            if shift >= least_shift and (reason := reasons.get(number >> shift)) is not None
        ]

    def about(self, entity: Entity) -> list[Listing]:
        """Of an entity that is no network."""
        return [
            _entity_listing(reading.signed, reason, entity)
            for reasons, reading in self._entities.get(entity.dimension, ())
            if (reason := reasons.get(entity.id)) is not None
        ]


NO_LISTS = Lists()


@lru_cache(maxsize=CACHED_LISTINGS)
def _network_listing(signed: Signed, reason: str, place: Place) -> Listing:
    return _listing(signed, reason, network_at(place))


@lru_cache(maxsize=CACHED_LISTINGS)
def _entity_listing(signed: Signed, reason: str, entity: Entity) -> Listing:
    return _listing(signed, reason, entity)


def _listing(signed: Signed, reason: str, target: Target) -> Listing:
    name, author, at = signed
    return Listing(list=name, target=target, author=author, reason=reason, created_at=at, expires_at=None)


def network_at(place: Place) -> Network:
    """The network that lies there; `place_of` turned round."""
    bits, address, shift = place
    return ip_network((address.to_bytes(bits // 8, "big"), bits - shift))


def printable(text: str) -> str:
    """`text` on one line."""
    return text if text.isprintable() else "".join(each if each.isprintable() else "?" for each in text)
