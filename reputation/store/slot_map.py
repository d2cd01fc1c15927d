"""The map of a cluster: who holds which slots, as one server sees it."""

from collections.abc import Sequence
from typing import NamedTuple

import hiredis

from reputation.errors import StoreError, StoreUnavailable
from reputation.store.address import Address
from reputation.store.connection import Reply
from reputation.store.functions import SLOTS
from reputation.store.node import Node, error_of


class SlotMap(NamedTuple):
    """What one server says."""

    asked: Address
    ranges: Sequence[tuple[int, int, Address]]
    """The first and the last slot of each, and its primary."""

    @property
    def covered(self) -> int:
        """How many slots have a primary."""
        return sum(last + 1 - first for first, last, _ in self.ranges)

    @classmethod
    def read(cls, asked: Address, reply: Reply) -> "SlotMap":
        """What CLUSTER SLOTS says: (first slot, last slot, [host, port, id ...], replicas ...) of each range."""
        ranges = []
        for first, last, primary, *_ in reply:
            if not 0 <= first <= last < SLOTS:
                raise ValueError(f"there are no slots {first} to {last}")
            host = primary[0].decode() if primary[0] else asked.host  # empty: the one that we have asked
            ranges.append((first, last, Address.told(host, int(primary[1]))))
        return cls(asked, ranges)


async def map_of(node: Node) -> SlotMap | StoreError:
    """What a server says, or why it says nothing."""
    try:
        (reply,) = await node.ask(("CLUSTER", "SLOTS"))
        if isinstance(reply, hiredis.ReplyError):
            raise error_of(f"{node.address}: CLUSTER SLOTS", str(reply))
        return SlotMap.read(node.address, reply)
    except StoreError as error:
        return error
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        return StoreUnavailable(f"{node.address}: CLUSTER SLOTS: the server talks nonsense: {error}")
