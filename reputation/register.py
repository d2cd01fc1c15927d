"""The register: how everything that operators have put down (`reputation.entries`) stands to one event.

Who wins
--------
* Among networks the longest prefix, as in routing. At the same length a ban wins::

      ban 192.0.2.0/24, allow 192.0.2.7/32           192.0.2.7 is exempt, its neighbours are refused
      allow 192.0.2.0/24, ban 192.0.2.7/32           192.0.2.7 is refused, its neighbours are exempt

* Across dimensions whatever refuses: a sender can be forged, so his good name lifts no ban of the client.
  Among several refusals the strictest action wins.
* A never-ban target is refused by nothing of its dimension, alone or joined with others, even when the register holds
  such an entry; an address and its domain are one dimension in this respect. Of a client whose address is never banned
  all that says who the client is is one dimension: its networks, ASN, country, names, and what is joined with one of
  these. What is said of a login, a sender, an author, a recipient or a message holds for it as well: who sends spam
  through a relay of ours is refused there by his sender.
* An entry that is over counts as absent, from ``expires_at`` on.
* Lists of files, sets and the configuration (`reputation.lists`) lie underneath, and count as entries of their own.
  Where an operator has put down one with the same id, his is the one; when it is lifted or over, the list's is back.

A `Register` is an immutable snapshot of all entries in this process's memory, so that looking one up costs no round
trip. Networks lie in one dictionary for each prefix length that occurs; a look-up tries these, longest first.
`Register.changed` makes the next snapshot out of the last, for what copying its dictionaries costs; `Register.over`
puts other lists underneath, for nothing.

Does not do: reading, spreading or purging entries (`reputation.registrar`), acting on them (the engine).

Bugs: an IPv6 client changes its /128 at will; ban its /64. An override of several dimensions is found only with these
in the rule's order.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, ip_network
from typing import TypeVar, cast

from reputation.entries import (
    ADDRESSES,
    ALLOW,
    BLOCK,
    DEFAULT_NEVER_BAN,
    DOMAIN_OF,
    Ban,
    Entry,
    Judging,
    Listing,
    Override,
    Place,
    Target,
    domain_of,
    place_of,
    refuses,
    target_of,
)
from reputation.entry_index import EntryIndex
from reputation.events import ClientAddress, Stage
from reputation.kept import Kept, put
from reputation.keys import Dimension, Entities, Entity, composite, parts_of
from reputation.lists import NO_LISTS, Lists
from reputation.rules import DISCARDING
from reputation.verdict import Action, Reason, Verdict

T = TypeVar("T")

CACHED_NETWORKS = 65_536

_RANKS, _UNDECIDED = {BLOCK: 1, ALLOW: 2}, 3
_KIN: Mapping[str, Dimension] = {
    **DOMAIN_OF,
    Dimension.SENDER_DOMAIN: Dimension.SENDER,
    Dimension.RECIPIENT_DOMAIN: Dimension.RECIPIENT,
    Dimension.AUTHOR_DOMAIN: Dimension.AUTHOR,
}
"""An address and its domain: what protects one from bans protects the other."""
_OF_CLIENT = ADDRESSES | {Dimension.ASN, Dimension.COUNTRY, Dimension.RDNS_DOMAIN, Dimension.HELO}
"""What says who the client is."""

_CLIENT, _SENDER, _RECIPIENT = "Client host rejected: ", "Sender address rejected: ", "Recipient address rejected: "
_WHO: Mapping[str, str] = {
    Dimension.HELO: "Helo command rejected: ",
    Dimension.SENDER: _SENDER,
    Dimension.SENDER_DOMAIN: _SENDER,
    Dimension.AUTHOR: _SENDER,
    Dimension.AUTHOR_DOMAIN: _SENDER,
    Dimension.RECIPIENT: _RECIPIENT,
    Dimension.RECIPIENT_DOMAIN: _RECIPIENT,
}
"""What a client is told is rejected: Postfix' words, which postmasters know. Why is for the operators only."""


# One event


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How the register stands to one event."""

    ban: Judging | None = None
    """What refuses it: a `Ban` with its action, or a `Listing` on `BLOCK`."""
    allow: Judging | None = None
    """What exempts it from rules, a `Listing` on `ALLOW`; never together with a ban."""
    lists: frozenset[str] = frozenset()
    """All lists that something of the event is on."""

    def refusal_at(self, stage: Stage) -> Verdict | None:
        """The verdict that the ban is at a stage; None when the event passes.

        The end of a session cannot be refused. What is to be discarded passes until there is something to discard.
        """
        ban = self.ban
        if ban is None or stage is Stage.DISCONNECT:
            return None
        action = _action_of(ban)
        if action is Action.DISCARD and stage not in DISCARDING:
            return None
        return Verdict(
            action=action,
            reason=Reason.BANNED if isinstance(ban, Ban) else Reason.BLOCKLISTED,
            entry=ban.id,
            reply=_reply(ban.target, action),
        )

    def applied(self, verdict: Verdict) -> Verdict:
        """What a verdict about a message would be in the light of this; what it rests on stays."""
        if (refusal := self.refusal_at(Stage.MAIL)) is not None:
            return replace(refusal, findings=verdict.findings, would=verdict.would)
        if self.allow is None:
            return verdict
        exempt = Verdict(action=Action.ACCEPT, reason=Reason.ALLOWLISTED, entry=self.allow.id)
        return replace(exempt, findings=verdict.findings)


UNKNOWN = Standing()
"""Nothing is put down about the event."""


def _action_of(refusal: Judging) -> Action:
    return refusal.action if isinstance(refusal, Ban) else Action.REJECT


def _reply(target: Target, action: Action) -> str:
    who = _WHO.get(target.dimension, "") if isinstance(target, Entity) else _CLIENT
    return who + ("Access denied" if action is Action.REJECT else "Try again later")


# All entries


def _place_of_client(client: ClientAddress) -> Place:
    mapped = client if isinstance(client, IPv4Address) else client.ipv4_mapped
    return (128, int(client), 0) if mapped is None else (32, int(mapped), 0)


@lru_cache(maxsize=CACHED_NETWORKS)
def _place_of_counted(id: str) -> Place:
    """The network of an entity that is counted."""
    return place_of(ip_network(id))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Register:
    """All entries at one moment; `Register.of` builds it. Its length is the number of operators' entries.

    >>> from ipaddress import IPv4Network
    >>> ban = Ban(target=IPv4Network("192.0.2.0/24"), author="eve", reason="spam run", created_at=0, expires_at=3600)
    >>> register = Register.of([ban])
    >>> register.standing({}, IPv4Address("192.0.2.7"), now=60).ban.id
    'ban|ip:192.0.2.0/24'
    >>> register.standing({}, IPv4Address("192.0.2.7"), now=3600) is UNKNOWN
    True
    """

    _by_id: Mapping[str, Entry]
    _index: EntryIndex
    """Of the same."""
    _judging: Kept[Sequence[Judging]]
    _combinations: frozenset[str]
    """The combinations of dimensions that they have, or have had."""
    _overrides: Mapping[str, Kept[Override]]
    """By the rule."""
    _never_ban: Kept[Target]
    _lists: Lists = NO_LISTS

    @classmethod
    def of(cls, entries: Iterable[Entry], never_ban: Sequence[Target] = DEFAULT_NEVER_BAN) -> "Register":
        """The register of these entries; of two with one id the later."""
        empty = cls(
            _by_id={},
            _index=EntryIndex({}),
            _judging=Kept.of({}),
            _combinations=frozenset(),
            _overrides={},
            _never_ban=Kept.of({target_of(target): target for target in never_ban}),
        )
        return empty.changed({entry.id: entry for entry in entries})

    def over(self, lists: Lists) -> "Register":
        """The same over other lists."""
        return replace(self, _lists=lists)

    def changed(self, changes: Mapping[str, Entry | None]) -> "Register":
        """The same with some entries put down, in place of those with their ids, and some (None) struck."""
        by_id = dict(self._by_id)
        judging: dict[Target, Sequence[Judging] | None] = {}
        overrides: dict[str, dict[Target, Override | None]] = {}
        for id, entry in changes.items():
            named = entry or by_id.get(id)  # the id tells kind and target, so they are those of the one before, too
            put(by_id, id, entry)
            if isinstance(named, Override):
                overrides.setdefault(named.rule, {})[named.target] = cast(Override | None, entry)
            elif named is not None:
                of_target = judging.get(named.target, self._judging.get(named.target)) or ()
                others = [other for other in of_target if other.id != id]
                judging[named.target] = sorted([*others, named] if entry else others, key=_rank) or None
        dimensions = {target.dimension for target in judging if isinstance(target, Entity)}
        return replace(
            self,
            _by_id=by_id,
            _index=self._index.of_next(by_id, frozenset(changes)),
            _judging=self._judging.changed(judging) if judging else self._judging,
            _combinations=self._combinations | {names for names in dimensions if "+" in names},
            _overrides=self._changed_overrides(overrides),
        )

    def _changed_overrides(self, changes: Mapping[str, Mapping[Target, Override | None]]) -> dict[str, Kept[Override]]:
        none: Kept[Override] = Kept.of({})
        changed = {rule: self._overrides.get(rule, none).changed(these) for rule, these in changes.items()}
        return {rule: kept for rule, kept in {**self._overrides, **changed}.items() if not kept.empty}

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All entries of operators, in the order of their ids."""
        return self._index.rows.entries

    @property
    def index(self) -> EntryIndex:
        """They in order, for whoever looks at many."""
        return self._index

    def entry(self, id: str) -> Entry | None:
        """The operators' entry of that id, in force or not."""
        return self._by_id.get(id)

    @property
    def has_overrides(self) -> bool:
        """Whether there is any override to ask for."""
        return bool(self._overrides)

    def standing(self, entities: Entities, client: ClientAddress, now: float) -> Standing:
        """How the register stands to an event of `client` with these entities."""
        if self._judging.empty and self._lists.empty:
            return UNKNOWN
        return self._standing(entities, _place_of_client(client), now)

    def _standing(self, entities: Entities, place: Place | None, now: float) -> Standing:
        found = self._found(entities, place, now)
        if not any(found):
            return UNKNOWN
        deciding = [next((entry for entry in entries if _rank(entry) < _UNDECIDED), None) for entries in found]
        refusals = [entry for entry in deciding if entry is not None and refuses(entry)]
        return Standing(
            ban=max(refusals, key=lambda refusal: _action_of(refusal).severity, default=None),
            allow=None if refusals else next((entry for entry in deciding if entry is not None), None),
            lists=frozenset(entry.list for entries in found for entry in entries if isinstance(entry, Listing)),
        )

    def _found(self, entities: Entities, place: Place | None, now: float) -> list[list[Judging]]:
        """What is in force about the client's networks, and about each entity; in each, what wins comes first."""
        found: list[tuple[Entity | None, list[Judging]]] = []
        if place is not None:
            networks = [entry for entries in self._judging.around(*place) for entry in entries]
            if entries := _merged(networks, self._lists.around(*place), now):
                found.append((None, entries))
        combinations = self._combinations | self._lists.combinations
        combined = [composite(entities, [Dimension(name) for name in names.split("+")]) for names in combinations]
        for entity in (*entities.values(), *combined):
            if entity is None:
                continue
            of_operators, listed = self._judging.entities.get(entity, ()), self._lists.about(entity)
            if (of_operators or listed) and (entries := _merged(of_operators, listed, now)):
                found.append((entity, entries))
        if not found:
            return []
        is_safe = place is not None and bool(self._never_ban.around(*place))
        return [
            _unless_protected(entries, is_safe if entity is None else self._is_protected(entity, entities, is_safe))
            for entity, entries in found
        ]

    def _is_protected(self, entity: Entity, entities: Entities, is_safe: bool) -> bool:
        """Whether an entity, or one that is joined in it, must not be refused; of a client that is safe or is not."""
        never = self._never_ban.entities
        return entity in never or any(
            (is_safe and part.dimension in _OF_CLIENT)
            or (part.dimension in ADDRESSES and bool(self._never_ban.around(*_place_of_counted(part.id))))
            or part in never
            or (part.dimension in _KIN and entities.get(_KIN[part.dimension], domain_of(part)) in never)
            for part in _parts_in(entity, entities)
        )

    def override_of(self, rule: str, entity: Entity, now: float) -> Override | None:
        """The override of a rule's limits for what the rule counts; of networks the one with the longest prefix."""
        overrides = self._overrides.get(rule)
        if overrides is None:
            return None
        if entity.dimension in ADDRESSES:
            around = overrides.around(*_place_of_counted(entity.id))
        else:
            around = [override] if (override := overrides.entities.get(entity)) is not None else []
        return next((override for override in around if override.in_force(now)), None)

    # One entity, for whoever asks about it

    def standing_of(self, entity: Entity, now: float) -> Standing:
        """How the register stands to an event of which nothing but this entity is known, and its domain."""
        entities, place = _alone(entity)
        return self._standing(entities, place, now)

    def about(self, entity: Entity, now: float) -> tuple[Entry, ...]:
        """What is in force about an entity, the networks around it and its domain; overrides come last."""
        entities, place = _alone(entity)
        judging = [entry for entries in self._found(entities, place, now) for entry in entries]
        overrides = [self.override_of(rule, entity, now) for rule in sorted(self._overrides)]
        return (*judging, *(override for override in overrides if override is not None))


def _parts_in(entity: Entity, entities: Entities) -> Sequence[Entity]:
    """What an entity of an event was joined of, even where its id is only a hash of that."""
    known = [entities[Dimension(name)] for name in entity.dimension.split("+") if name in entities]
    return known if len(known) == entity.dimension.count("+") + 1 else parts_of(entity)


def _alone(entity: Entity) -> tuple[Entities, Place | None]:
    domain = domain_of(entity)
    known = [each for each in (entity, domain) if isinstance(each, Entity)]
    place = _place_of_counted(entity.id) if entity.dimension in ADDRESSES else None
    return cast(Entities, {each.dimension: each for each in known}), place


def _rank(entry: Judging) -> int:
    """Who wins among the entries of one target; lists that only rules ask for come last and decide nothing."""
    return 0 if isinstance(entry, Ban) else _RANKS.get(entry.list, _UNDECIDED)


def _merged(of_operators: Sequence[Judging], listed: Sequence[Listing], now: float) -> list[Judging]:
    """What is in force about one target, or about the networks around an address; what wins comes first."""
    entries: list[Judging] = [entry for entry in of_operators if entry.in_force(now)]
    if not listed:
        return entries
    ids = {entry.id for entry in entries}
    for listing in listed:  # of two sources with one list, too, the first
        if listing.id not in ids:
            ids.add(listing.id)
            entries.append(listing)
    return sorted(entries, key=_place_in_line)


def _place_in_line(entry: Judging) -> tuple[int, int]:
    """The longest prefix first, and of one target who wins; among equals operators come first, as they do already."""
    return 0 if isinstance(entry.target, Entity) else -entry.target.prefixlen, _rank(entry)


def _unless_protected(entries: list[Judging], protected: bool) -> list[Judging]:
    return [entry for entry in entries if not refuses(entry)] if protected else entries
