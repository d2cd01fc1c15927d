"""Places for what is under way, so that nobody who is slow takes those of others.

Strangers decide how long it takes to hear about their names: a name server that is silent keeps each question open for
seconds. So what is under way has places, and a place belongs to a purpose (its places are never another's) and to a
group: a domain that is asked about, or the network of a client. Of the places of a purpose a group has only a few::

    shares {"spf": Share(most=200, most_alike=20), "iprev": ...}

    200 questions for "spf", 20 of them about evil.example    another one about evil.example: no
                                                              about any other domain, at 199 in all: yes
                                                              for "iprev", whatever there is for "spf": yes

Promises: counting is exact as long as each `take` that said yes has its `free`; nothing is remembered of groups that
have no place. Does not wait: who gets no place is told so at once.

Bugs: a stranger with many domains and in many networks still takes all places of one purpose, of that one only.
"""

from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

Group = TypeVar("Group")


class Share(NamedTuple):
    """The places of one purpose."""

    most: int
    most_alike: int
    """Of these, for one group."""


class Places(Generic[Group]):
    """Who has places. The shares are looked at each time."""

    __slots__ = ("_alike", "_shares", "_taken")

    def __init__(self, shares: Mapping[str, Share]) -> None:
        self._shares = shares
        self._taken = dict.fromkeys(shares, 0)
        self._alike: dict[tuple[str, Group], int] = {}

    def take(self, purpose: str, group: Group) -> bool:
        """Whether there was a place; then it is taken.

        >>> places = Places[str]({"spf": Share(3, 2)})
        >>> [places.take("spf", group) for group in ("a", "a", "a", "b", "c")]
        [True, True, False, True, False]
        """
        share = self._shares[purpose]
        alike = self._alike.get((purpose, group), 0)
        if self._taken[purpose] >= share.most or alike >= share.most_alike:
            return False
        self._taken[purpose] += 1
        self._alike[purpose, group] = alike + 1
        return True

    def free(self, purpose: str, group: Group) -> None:
        """Give a place back."""
        self._taken[purpose] -= 1
        left = self._alike.pop((purpose, group)) - 1
        if left:
            self._alike[purpose, group] = left
