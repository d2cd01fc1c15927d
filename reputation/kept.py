"""What is kept about targets: of an entity, or of all networks around an address.

Networks lie in one dictionary for each prefix length that occurs; a look-up tries these, the longest first.
"""

from collections.abc import Mapping
from typing import Generic, TypeVar

from reputation.entries import Target, place_of
from reputation.keys import Entity

T = TypeVar("T")
K = TypeVar("K")


def put(kept: dict[K, T], key: K, value: T | None) -> None:
    """Keep a value, or take it out where there is None."""
    if value is None:
        kept.pop(key, None)
    else:
        kept[key] = value


class Kept(Generic[T]):
    """What is kept about targets: of an entity, or of all networks around an address. Immutable."""

    __slots__ = ("_networks", "_ordered", "empty", "entities")

    def __init__(self, entities: dict[Entity, T], networks: dict[tuple[int, int], dict[int, T]]) -> None:
        self.entities = entities
        self._networks = networks
        """(bits of an address, bits behind the prefix) -> number in the prefix -> what is kept."""
        self._ordered = {
            bits: [(shift, table) for (size, shift), table in sorted(networks.items()) if size == bits and table]
            for bits in (32, 128)
        }
        self.empty = not entities and not any(self._ordered.values())

    @classmethod
    def of(cls, kept: Mapping[Target, T | None]) -> "Kept[T]":
        return cls({}, {}).changed(kept)

    def changed(self, changes: Mapping[Target, T | None]) -> "Kept[T]":
        """The same with some targets' values replaced, or taken out where there is None."""
        entities, networks = dict(self.entities), {place: dict(table) for place, table in self._networks.items()}
        for target, value in changes.items():
            if isinstance(target, Entity):
                put(entities, target, value)
            else:
                bits, number, shift = place_of(target)
                put(networks.setdefault((bits, shift), {}), number >> shift, value)
        return Kept(entities, networks)

    def get(self, target: Target) -> T | None:
        """What is kept of a target itself."""
        if isinstance(target, Entity):
            return self.entities.get(target)
        bits, number, shift = place_of(target)
        return self._networks.get((bits, shift), {}).get(number >> shift)

    def around(self, bits: int, number: int, least_shift: int = 0) -> list[T]:
        """Of all networks around an address, or around its bits above `least_shift`; the longest prefix first."""
        return [
            value
            for shift, table in self._ordered[bits]
            if shift >= least_shift and (value := table.get(number >> shift)) is not None
        ]
