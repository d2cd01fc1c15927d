"""From the lines of a list to what it says (`reputation.lists.Reading`). Pure.

A line holds one value, of the list's dimension (`of`) or of the one that it names, and perhaps a comment, which
operators are shown as the reason::

    192.0.2.0/24                  # the branch in Turin     of = "ip": addresses, and networks of any size
    mail.example.com                                        of = "sender_domain": all of example.com
    sender:alice@example.com                                of any list: the line says what it is
    bob@example.net, alice@example.com                      of = "recipient+sender": bob refuses alice

Promises: a line that could never match what was meant is a mistake that says what to write instead; what is merely
surprising is noted (`Reader.notes`). Nearly every line of a large list is an IPv4 network, which takes a microsecond or
two; the rest takes ten.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

from reputation.entries import (
    ADDRESSES,
    BLOCK,
    DOMAIN_OF,
    LATEST,
    MAX_REASON_LENGTH,
    WIDEST_BAN,
    Network,
    Place,
    Target,
    domain_of,
    parse_target,
    place_of,
    spelled,
    target_of,
)
from reputation.errors import ConfigError, EntityError
from reputation.keys import Dimension, Entity, parse_entity
from reputation.lists import MAX_VALUES, Ranges, Reading, Signed, Source, network_at, printable
from reputation.spelling import Spelling, canonical_domain, organisational_domain

MAX_MISTAKES = 1_000
"""A source with more is not read to its end: it is of another kind."""
MAX_NOTES = 20
"""Kept of one reading; the others are counted."""
MAX_SHOWN = 200
"""Characters of a value in a message."""
MAX_REASONS = 4_096
"""Comments that are kept once, however often they occur."""
WIDEST_LISTED = {4: 8, 6: 16}
"""IP version -> the shortest prefix on `BLOCK`: public blocklists have a /10, nobody means a /0."""
LISTED = "listed"
"""The reason where there is no comment."""

DOMAINS: Mapping[str, str] = {**DOMAIN_OF, Dimension.AUTHOR: Dimension.AUTHOR_DOMAIN}
_DIMENSIONS = frozenset(Dimension)
_REGISTERED = frozenset({*DOMAINS.values(), Dimension.RDNS_DOMAIN, Dimension.SPF_DOMAIN})
"""Dimensions whose entities are registered domains."""
_COMMENT = re.compile(r"(?:^|\s)#")
"""Behind anything but white space it is a part of the value: RFC 5322 section 3.2.3 has it in local parts."""
_BETWEEN = re.compile(r"\s*[,\s]\s*")
_OCTET = r"(0|[1-9]\d{0,2})"
_IPV4 = re.compile(rf"{_OCTET}\.{_OCTET}\.{_OCTET}\.{_OCTET}(?:/([1-9]\d?))?", re.ASCII)
_NO_PATTERN = 'there are no patterns: write each value out, with "%2A" for a star that is meant'


class Reader:
    """Reads one source, line by line.

    >>> reader = Reader(Source(list="vip", of="sender_domain"), Spelling())
    >>> reader.take("Example.ORG  # a partner", 1)
    >>> reader.take("*.example.net", 2)
    >>> reader.mistakes
    [(2, '"*.example.net": write "example.net", which stands for all names below it, too')]
    >>> reader.reading(at=0.0).entities
    {'sender_domain': {'example.org': 'a partner'}}
    """

    def __init__(
        self,
        source: Source,
        spelling: Spelling,
        *,
        room: int = MAX_VALUES,
        never_ban: Sequence[Target] = (),
        before: Reading | None = None,
    ) -> None:
        self.mistakes: list[tuple[int, str]] = []
        """(number of the line, what is wrong with it)."""
        self.notes: list[tuple[int, str]] = []
        """What is surprising, but not wrong; the first `MAX_NOTES`."""
        self.noted = 0
        """How many there were."""
        self.given_up = False
        """Whether no further line is looked at."""
        self.size = 0
        self.added = 0
        """Values that were not there `before`."""
        self._source = source
        self._spelling = spelling
        self._room = room
        self._protected = _Protected(never_ban) if source.list == BLOCK else None
        self._ranges: Ranges = {}
        self._entities: dict[str, dict[str, str]] = {}
        self._ranges_before: Ranges = before.ranges if before else {}
        self._entities_before: dict[str, dict[str, str]] = before.entities if before else {}
        self._reasons: dict[str, str] = {}

    def take(self, line: str, number: int) -> None:
        """Read a line; a mistake in it is kept, and the line passed over."""
        comment = ""
        if "#" in line and (begins := _COMMENT.search(line)) is not None:
            line, comment = line[: begins.start()], line[begins.end() :]
        value = line.strip()
        if not value or self.given_up:
            return
        try:
            self._take(value, self._reason(comment), number)
        except ConfigError as error:
            self.mistaken(str(error), number)

    def mistaken(self, text: str, number: int) -> None:
        """Keep what is wrong with a line."""
        self.mistakes.append((number, text))
        self.given_up = self.given_up or len(self.mistakes) >= MAX_MISTAKES

    def reading(self, at: float) -> Reading:
        """Everything that was right."""
        return Reading(
            signed=Signed(self._source.list, self._source.author, min(max(at, 0.0), LATEST - 1)),
            ranges=self._ranges,
            entities=self._entities,
            size=self.size,
        )

    def _take(self, value: str, reason: str, number: int) -> None:
        if self._source.of in ADDRESSES and (place := _ipv4(value)) is not None:
            self._take_network(place, reason, number)
            return
        target = self._target(value, number)
        if not isinstance(target, Entity):
            self._take_network(place_of(target), reason, number)
            return
        if self._protected is not None and (touched := self._protected.touched_by(target)) is not None:
            self._note(f'"{spelled(target)}" does not block "{spelled(touched)}", which is never banned', number)
        dimension, id = target
        before = self._entities_before.get(dimension, {})
        if self._makes_room(id in (table := self._entities.setdefault(str(dimension), {})), id in before):
            table[id] = reason

    def _take_network(self, place: Place, reason: str, number: int) -> None:
        if self._protected is not None:
            self._check_block(self._protected, place, number)
        bits, address, shift = place
        key = address >> shift
        before = self._ranges_before.get((bits, shift), {})
        if self._makes_room(key in (table := self._ranges.setdefault((bits, shift), {})), key in before):
            table[key] = reason

    def _makes_room(self, known: bool, before: bool) -> bool:
        """Whether there is one more value to be kept."""
        if known:
            return False
        if self.size >= self._room:
            self.given_up = True
            raise ConfigError(f"here is one value too many: all lists together may have {MAX_VALUES:,}")
        self.size += 1
        self.added += not before
        return True

    def _check_block(self, protected: "_Protected", place: Place, number: int) -> None:
        """What a network on `BLOCK` does not block is noted; one that a slip must have made raises `ConfigError`."""
        for touched in protected.networks_touched_by(place):
            text = f'"{spelled(network_at(place))}" does not block "{spelled(touched)}", which is never banned'
            self._note(text, number)
        version, length = 4 if place[0] == 32 else 6, place[0] - place[2]
        if length >= WIDEST_BAN[version]:
            return
        wide = network_at(place)
        if length < WIDEST_LISTED[version]:
            raise ConfigError(
                f'"{spelled(wide)}" would block far too much: on this list a prefix has '
                f"/{WIDEST_LISTED[version]} or longer"
            )
        self._note(f'"{spelled(wide)}" blocks {wide.num_addresses:,} addresses', number)

    def _target(self, text: str, number: int) -> Target:
        """The target that a value is; raises `EntityError`."""
        text = text.replace("\t", " ")
        if not text.isprintable():
            raise EntityError(f"{ascii(text)[:MAX_SHOWN]} has characters that are not printable")
        dimension, value = _named(text, self._source.of)
        names = dimension.split("+")
        parts = _BETWEEN.split(value) if len(names) > 1 else [value]
        if len(names) == 1 and dimension != Dimension.SUBJECT and re.search(r"[\s,]", value):
            raise EntityError(f'"{value:.{MAX_SHOWN}}": write one value a line; a comment begins with " #"')
        if len(parts) == len(names):  # else the error is `parse_target`'s
            parts = [self._part(name, part, len(names) > 1, number) for name, part in zip(names, parts, strict=True)]
        return parse_target(f"{dimension}:{','.join(parts)}", self._spelling)

    def _part(self, name: str, value: str, combined: bool, number: int) -> str:
        """One dimension's part of a value, checked; raises `EntityError`."""
        _check(name, value)
        if combined and name in ADDRESSES:
            _check_client(name, value, self._spelling)
        if name not in _REGISTERED:
            return value
        domain = canonical_domain(value)
        registered = organisational_domain(domain)
        if registered != domain:
            self._note(f'"{value:.{MAX_SHOWN}}" lists the whole registered domain: "{name}:{registered}"', number)
        elif "." not in domain:
            self._note(f'"{value:.{MAX_SHOWN}}" lists that name alone, and no domain below it', number)
        return registered

    def _note(self, text: str, number: int) -> None:
        self.noted += 1
        if len(self.notes) < MAX_NOTES:
            self.notes.append((number, text))

    def _reason(self, comment: str) -> str:
        comment = comment.strip().lstrip("#").lstrip()
        if not comment:
            return LISTED
        reason = printable(comment)[:MAX_REASON_LENGTH]
        if len(self._reasons) >= MAX_REASONS:
            self._reasons.clear()
        return self._reasons.setdefault(reason, reason)


def _named(text: str, of: str) -> tuple[str, str]:
    """The dimension of a value, and the value."""
    dimension, colon, value = text.partition(":")
    if colon and _DIMENSIONS.issuperset(dimension.split("+")):
        return dimension, value.strip()
    return of, text


def _ipv4(value: str) -> Place | None:
    """The place of an IPv4 address or network; None for what `parse_target` must look at. Most lines are such."""
    match = _IPV4.fullmatch(value)
    if match is None:
        return None
    *octets, length = match.groups()
    a, b, c, d = map(int, octets)
    shift = 32 - int(length or 32)
    address = a << 24 | b << 16 | c << 8 | d
    if max(a, b, c, d) > 255 or shift < 0 or address & (1 << shift) - 1:
        return None
    return 32, address, shift


def _check(name: str, value: str) -> None:
    """Raise `EntityError` for what would be taken for a value, and never match what was meant."""
    shown = f'"{value:.{MAX_SHOWN}}"'
    bare = value.lstrip("*@.")
    if name in DOMAINS or name in _REGISTERED:
        if "<" in value or ">" in value:
            raise EntityError(f"{shown}: write it without angle brackets; the null sender is nobody, and on no list")
        (_check_address if name in DOMAINS else _check_domain)(name, value, bare, shown)
    if name in ADDRESSES and "*" in value:
        raise EntityError(f'{shown}: there are no patterns: write a network such as "192.0.2.0/24"')
    if name == Dimension.ASN and not re.fullmatch(r"(?:AS)?[1-9]\d*", value, re.ASCII | re.IGNORECASE):
        raise EntityError(f'{shown} is no number of a network: write one such as "64500"')
    if name == Dimension.COUNTRY and not re.fullmatch(r"[A-Za-z]{2}", value):
        raise EntityError(f'{shown} is no country: write its two letters, such as "DE"')
    if name != Dimension.SUBJECT and "*" in value:
        raise EntityError(f"{shown}: {_NO_PATTERN}")


def _check_address(name: str, value: str, bare: str, shown: str) -> None:
    if value.startswith(("@", "*@", ".", "*.")):
        raise EntityError(f'{shown} is no address: for all of a domain write "{DOMAINS[name]}:{bare}"')
    local, at, domain = value.rpartition("@")
    if (not at and value.lower() != "postmaster") or (at and not domain):  # RFC 5321 section 4.1.1.3 names him bare
        raise EntityError(f'{shown} is no address: write NAME@DOMAIN, or "{DOMAINS[name]}:DOMAIN" for all of a domain')
    if ":" in local and not local.startswith('"'):
        known = ", ".join(Dimension)
        raise EntityError(f"{shown}: in front of the colon write a dimension ({known}), or leave it out")


def _check_domain(name: str, value: str, bare: str, shown: str) -> None:
    if value.startswith(("@", ".", "*.", "*@")) and "*" not in bare and "@" not in bare:
        raise EntityError(f'{shown}: write "{bare}", which stands for all names below it, too')
    if "@" in value:
        address = next((whole for whole, domain in DOMAINS.items() if domain == name), None)
        one = f'"{address}:{value}" for this address, or ' if address else ""
        raise EntityError(f'{shown} is no domain: write {one}"{value.rpartition("@")[2]}" for all of the domain')


def _check_client(name: str, value: str, spelling: Spelling) -> None:
    """In a combination a client is one that is counted, and no network of any size."""
    counted = parse_entity(f"{name}:{value}", spelling).id
    if "/" in value and value.lower() != counted:
        raise EntityError(f'"{value}": in a combination write the client as it is counted, such as "{counted}"')


class _Protected:
    """What must never be banned, so that a hundred thousand values are held against it in no time."""

    def __init__(self, never_ban: Sequence[Target]) -> None:
        targets = [target_of(target) for target in never_ban]
        self._entities = {target: target for target in targets if isinstance(target, Entity)}
        self._by_domain = {domain: target for target in targets if (domain := domain_of(target)) is not None}
        self._networks = [
            (each.max_prefixlen, int(each.network_address), int(each.broadcast_address), each)
            for each in targets
            if not isinstance(each, Entity)
        ]

    def touched_by(self, entity: Entity) -> Target | None:
        if not self._entities:
            return None
        whole = domain_of(entity)
        of_domain = self._entities.get(whole) if isinstance(whole, Entity) else None
        return self._entities.get(entity) or of_domain or self._by_domain.get(entity)

    def networks_touched_by(self, place: Place) -> Iterator[Network]:
        bits, address, shift = place
        last = address | (1 << shift) - 1
        for of_bits, first_protected, last_protected, network in self._networks:
            if of_bits == bits and first_protected <= last and address <= last_protected:
                yield network
