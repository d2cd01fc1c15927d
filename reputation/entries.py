"""What operators put down by hand: bans, overrides of a rule's limits, and lists. Pure values, and their text.

An entry says something about one target, is signed (author, reason, time) and may end by itself::

    ban|ip:192.0.2.0/24                            everything of this network is refused
    override|submission-recipients|user:newsletter that rule's limits are others for this user
    list|allow|sender_domain:example.org           exempt from rules; "block" is refused; rules ask for other names

The text in front is the entry's id. There is one entry per id, and a new one replaces the old. A target is an entity
of any dimension, or a network of any size: an ``ip`` or ``prefix`` entity *is* its network here, spelled with ``ip:``.

Does not do: looking up (`reputation.register`), reading and spreading (`reputation.registrar`), knowing the rules.

Bugs: entities are kept as they were canonicalised when they were put down: when the site's `Spelling` changes later,
put them down again.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_interface, ip_network
from typing import TypedDict, TypeVar, cast

from reputation.errors import ConfigError, EntityError
from reputation.keys import Dimension, Entity, parse_entity, parts_of
from reputation.spelling import MAX_ID_LENGTH, Spelling, organisational_domain
from reputation.verdict import REFUSING, Action
from reputation.windows import Limit

T = TypeVar("T")
Network = IPv4Network | IPv6Network
Target = Entity | Network
Place = tuple[int, int, int]
"""Of a network: bits of an address, the first address as a number, bits behind the prefix."""

LATEST = 2.0**40
"""No entry is younger, nor ends later; in seconds since the epoch."""
MAX_AUTHOR_LENGTH = 100
MAX_REASON_LENGTH = 500
MAX_OVERRIDE_LIMITS = 10
MAX_ENTRY_LENGTH = 8_192
"""Of an entry as JSON, with its id; a newer release may write keys that are not known here."""
WIDEST_BAN = {4: 16, 6: 32}
"""IP version -> the shortest prefix that is banned without saying that it is meant: a slip once banned a whole /8."""
WHOLE_CLASSES: Mapping[str, str] = {
    Dimension.CLASS: "all mail of a kind",
    Dimension.COUNTRY: "a whole country",
    Dimension.ASN: "all networks of an operator",
    Dimension.RECIPIENT_DOMAIN: "all mail to a domain",
}
"""Dimensions in which one target is very much; what it is."""
HARMLESS_TO_ALLOW = frozenset({Dimension.RECIPIENT_DOMAIN})
"""Who exempts all mail to a domain of his has no other way to say it, and the other domains stay guarded."""
NARROWEST_COUNTED_V6 = 64
"""IPv6 clients are counted by this prefix length (`reputation.keys`)."""

OVERRIDE = "override|"
"""What the ids of overrides begin with."""
ALLOW = "allow"
BLOCK = "block"

DEFAULT_NEVER_BAN: tuple[Target, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
"""Loopback."""

ADDRESSES = frozenset({Dimension.IP, Dimension.PREFIX})
_DIMENSIONS = frozenset(Dimension)
DOMAIN_OF: Mapping[str, Dimension] = {
    Dimension.SENDER: Dimension.SENDER_DOMAIN,
    Dimension.RECIPIENT: Dimension.RECIPIENT_DOMAIN,
    Dimension.AUTHOR: Dimension.AUTHOR_DOMAIN,
}
_RULE_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")
_LIST_NAME = re.compile(r"[a-z0-9-]{1,40}")
_ID = re.compile(rf"[^{{}}\s]{{1,{MAX_ID_LENGTH}}}")


# Targets


def parse_target(text: str, spelling: Spelling) -> Target:
    """Read a target as an operator types it, or as `spelled` prints it; raises `EntityError`.

    >>> parse_target("ip:192.0.2.0/23", Spelling()), parse_target("ip:::ffff:192.0.2.7", Spelling())
    (IPv4Network('192.0.2.0/23'), IPv4Network('192.0.2.7/32'))
    >>> parse_target("sender:Alice+x@Example.COM", Spelling())
    Entity(dimension='sender', id='alice@example.com')
    >>> parse_target("ip:192.0.2.7/24", Spelling())
    Traceback (most recent call last):
    reputation.errors.EntityError: "192.0.2.7/24" is not one network: type "ip:192.0.2.0/24" or "ip:192.0.2.7"
    """
    dimension, _, value = text.partition(":")
    return _network(value) if dimension in ADDRESSES else parse_entity(text, spelling)


def parse_protected(text: str, spelling: Spelling) -> Target:
    """Read a never-ban target: one of `parse_target`'s, or a bare address or network; raises `EntityError`.

    >>> parse_protected("192.0.2.0/24", Spelling()), parse_protected("::1", Spelling())
    (IPv4Network('192.0.2.0/24'), IPv6Network('::1/128'))
    """
    try:
        ip_interface(text)
    except ValueError:
        return parse_target(text, spelling)
    return _network(text)


def spelled(target: Target) -> str:
    """The one text of a target, which reads back as it: a network as ``ip:``, without the length of a lone address.

    >>> spelled(IPv4Network("192.0.2.7/32")), spelled(IPv6Network("2001:db8::/32")), spelled(Entity("user", "bob"))
    ('ip:192.0.2.7', 'ip:2001:db8::/32', 'user:bob')
    """
    if isinstance(target, Entity):
        return str(target)
    lone = target.prefixlen == target.max_prefixlen
    return f"{Dimension.IP}:{target.network_address if lone else target}"


def place_of(network: Network) -> Place:
    """Where a network lies among all addresses.

    >>> place_of(IPv4Network("0.0.1.0/24"))
    (32, 256, 8)
    """
    return network.max_prefixlen, int(network.network_address), network.max_prefixlen - network.prefixlen


def target_of(target: Target) -> Target:
    """`target` in its one form: an entity that is an address or a prefix as its network, IPv4-mapped IPv6 as IPv4."""
    if not isinstance(target, Entity):
        return _unmapped(target)
    dimension, id = target
    if dimension in ADDRESSES:
        return _network(id)
    if not (_DIMENSIONS.issuperset(dimension.split("+")) and _ID.fullmatch(id) and id.isprintable()):
        raise EntityError(f"{str(target)[:MAX_ID_LENGTH]!r} is no entity: build one with parse_target")
    return target


def _network(value: str) -> Network:
    """The network that `value` spells; raises `EntityError` that says what to type."""
    try:
        interface = ip_interface(value)
    except ValueError:
        interface = None
    if interface is None or "%" in value:  # a zone, as in "fe80::1%eth0", names an interface of one machine
        raise EntityError(f'"{value}" is no network: type one such as "ip:192.0.2.7" or "ip:2001:db8::/32"')
    network = _unmapped(interface.network)
    if interface.ip != interface.network.network_address:
        address = _unmapped(ip_network(interface.ip))
        raise EntityError(f'"{value}" is not one network: type "{spelled(network)}" or "{spelled(address)}"')
    return network


def _unmapped(network: Network) -> Network:
    """RFC 4291 section 2.5.5.2: an IPv4 client on a dual-stack socket is an IPv4 client."""
    mapped = None if isinstance(network, IPv4Network) else network.network_address.ipv4_mapped
    return network if mapped is None else IPv4Network((mapped, network.prefixlen - 96))


# Entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Signed:
    """What all entries share. Raises `ConfigError` that names the field at fault."""

    target: Target
    author: str
    reason: str
    created_at: float
    """Seconds since the epoch, as `expires_at`."""
    expires_at: float | None
    """None: never."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "target", target_of(self.target))
        check_text("author", self.author, MAX_AUTHOR_LENGTH)
        check_text("reason", self.reason, MAX_REASON_LENGTH)
        if not 0 <= self.created_at < LATEST:
            raise ConfigError("created_at: seconds since the epoch")
        if self.expires_at is not None and not self.created_at < self.expires_at < LATEST:
            raise ConfigError("expires_at: seconds since the epoch, later than created_at; None for no end")

    def in_force(self, now: float) -> bool:
        """Whether the entry is not over yet."""
        return self.expires_at is None or now < self.expires_at


def check_text(field: str, text: str, longest: int) -> None:
    """Raise `ConfigError` for what is not one printable line."""
    if not text.strip() or len(text) > longest or not text.isprintable():
        raise ConfigError(f"{field}: write one line of 1 to {longest} printable characters")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ban(_Signed):
    """Everything of the target is refused."""

    action: Action = Action.REJECT

    def __post_init__(self) -> None:
        _Signed.__post_init__(self)
        if self.action not in REFUSING:
            raise ConfigError(f"action: {self.action} refuses nothing; use one of {', '.join(REFUSING)}")

    @property
    def id(self) -> str:
        """``ban|TARGET``."""
        return f"ban|{spelled(self.target)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override(_Signed):
    """While it lasts, the rule's limits are these for the target, or for each address in it."""

    rule: str
    limits: tuple[Limit, ...]

    def __post_init__(self) -> None:
        _Signed.__post_init__(self)
        if not _RULE_NAME.fullmatch(self.rule):
            raise ConfigError("rule: name the rule whose limits are others, in lower-case words with hyphens")
        if not 1 <= len({limit.window for limit in self.limits}) == len(self.limits) <= MAX_OVERRIDE_LIMITS:
            raise ConfigError(f"limits: name 1 to {MAX_OVERRIDE_LIMITS} limits, and each window once")
        if isinstance(self.target, IPv6Network) and self.target.prefixlen > NARROWEST_COUNTED_V6:
            counted = self.target.supernet(new_prefix=NARROWEST_COUNTED_V6)
            raise ConfigError(f'target: IPv6 clients are counted by their /64; type "{spelled(counted)}"')

    @property
    def id(self) -> str:
        """``override|RULE|TARGET``."""
        return f"{OVERRIDE}{self.rule}|{spelled(self.target)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing(_Signed):
    """The target is on a list: `ALLOW`, `BLOCK`, or one that rules ask for."""

    list: str

    def __post_init__(self) -> None:
        _Signed.__post_init__(self)
        if not _LIST_NAME.fullmatch(self.list):
            raise ConfigError("list: a name has 1 to 40 lower-case letters, digits and hyphens")

    @property
    def id(self) -> str:
        """``list|NAME|TARGET``."""
        return f"list|{self.list}|{spelled(self.target)}"


Entry = Ban | Override | Listing
Judging = Ban | Listing
"""The entries that say how a target stands."""


def refuses(entry: Entry) -> bool:
    """Whether the entry turns its target away."""
    return isinstance(entry, Ban) or (isinstance(entry, Listing) and entry.list == BLOCK)


# Entries as text


def to_json(entry: Entry) -> str:
    """What the id does not say yet, as one JSON object; `entry_of` reads it back."""
    body: dict[str, object] = {
        "author": entry.author,
        "reason": entry.reason,
        "created_at": entry.created_at,
        "expires_at": entry.expires_at,
    }
    match entry:
        case Ban():
            body["action"] = entry.action
        case Override():
            body["limits"] = [str(limit) for limit in entry.limits]
        case Listing():
            pass
    return json.dumps(body, ensure_ascii=False)


def entry_of(json_text: str, id: str) -> Entry:
    """The entry of that id. Skips keys that it does not know; raises `ConfigError` for all else that it cannot read.

    >>> text = '{"author": "eve", "reason": "spam run", "created_at": 1e9, "expires_at": null, "action": "reject"}'
    >>> entry_of(text, "ban|ip:192.0.2.7").target
    IPv4Network('192.0.2.7/32')
    """
    try:
        if len(id) + len(json_text) > MAX_ENTRY_LENGTH:
            raise ConfigError(f"longer than {MAX_ENTRY_LENGTH} characters")
        entry = _read(json_text, id)
        if entry.id != id:
            raise ConfigError(f'the id of this entry is "{entry.id}"')
    except ConfigError as error:
        raise ConfigError(f'"{id:.300}" in the register: {error}') from None
    return entry


class _Signature(TypedDict):
    target: Target
    author: str
    reason: str
    created_at: float
    expires_at: float | None


def _read(json_text: str, id: str) -> Entry:
    kind, _, rest = id.partition("|")
    if kind not in {"ban", "override", "list"}:
        raise ConfigError("this release knows no such kind of entry")
    # A target may have a bar in it, a name may not.
    name, _, target = ("", "", rest) if kind == "ban" else rest.partition("|")
    dimension, _, value = target.partition(":")
    try:
        body = json.loads(json_text)
    except (ValueError, RecursionError):
        raise ConfigError("no JSON") from None
    if not isinstance(body, dict):
        raise ConfigError("no JSON object")
    signature = _Signature(
        target=target_of(Entity(dimension, value)),
        author=_value(body, "author", str),
        reason=_value(body, "reason", str),
        created_at=_value(body, "created_at", float),
        expires_at=None if body.get("expires_at", "") is None else _value(body, "expires_at", float),
    )
    if kind == "ban":
        return Ban(action=_action(_value(body, "action", str)), **signature)
    if kind == "list":
        return Listing(list=name, **signature)
    limits = _value(body, "limits", list)[: MAX_OVERRIDE_LIMITS + 1]
    return Override(rule=name, limits=tuple(Limit.parse(str(limit)) for limit in limits), **signature)


def _value(body: Mapping[str, object], key: str, kind: type[T]) -> T:
    value = body.get(key)
    if type(value) not in ((int, float) if kind is float else (kind,)):
        raise ConfigError(f"{key}: missing, or no {kind.__name__}")
    return cast(T, value)


def _action(word: str) -> Action:
    try:
        return Action(word)
    except ValueError:
        raise ConfigError("action: this release knows no such action") from None


# What must not be banned


def check_ban(entry: Entry, never_ban: Sequence[Target], *, wide: bool = False) -> None:
    """Raise `ConfigError` that says what to do when `entry` refuses what must not be, or does more than a slip should.

    What is joined in a target counts as a target. `wide` says that so much is meant: a large network, or a whole class,
    to be refused or exempted from all rules. Entries that do neither pass.
    """
    if refuses(entry):
        _check_protected(entry.target, never_ban)
    elif not (isinstance(entry, Listing) and entry.list == ALLOW):
        return
    if not wide:
        _check_width(entry)


def _check_protected(target: Target, never_ban: Sequence[Target]) -> None:
    aims = [target, *map(target_of, parts_of(target))] if isinstance(target, Entity) else [target]
    for protected in map(target_of, never_ban):
        if any(_overlap(aim, protected) for aim in aims):
            raise ConfigError(
                f'"{spelled(target)}" touches "{spelled(protected)}", which is never banned: '
                f"name a target beside it, or take it off the never-ban list first"
            )


def _check_width(entry: Entry) -> None:
    """Raise `ConfigError` for what is much at once."""
    target, allows = entry.target, not refuses(entry)
    meant = 'say that so much is meant: --wide on the command line, "wide": true to the API'
    if isinstance(target, Entity):
        names = set(target.dimension.split("+"))
        narrow = names - WHOLE_CLASSES.keys() or (allows and names & HARMLESS_TO_ALLOW)
        if not narrow:
            what = ", ".join(WHOLE_CLASSES[name] for name in target.dimension.split("+"))
            raise ConfigError(f'"{spelled(target)}" is {what}: name somebody in it, or {meant}')
    elif target.prefixlen < WIDEST_BAN[target.version]:
        raise ConfigError(
            f'"{spelled(target)}" has {target.num_addresses} addresses: type a prefix of /{WIDEST_BAN[target.version]} '
            f"or longer, or {meant}"
        )


def _overlap(one: Target, other: Target) -> bool:
    if isinstance(one, Entity) or isinstance(other, Entity):
        return one == other or domain_of(one) == other or one == domain_of(other)
    return one.version == other.version and one.overlaps(other)


def domain_of(target: Target) -> Target | None:
    """The entity of an address's domain; None for what has none."""
    if isinstance(target, Entity) and target.dimension in DOMAIN_OF and "@" in target.id:
        return Entity(DOMAIN_OF[target.dimension], organisational_domain(target.id.rpartition("@")[2]))
    return None
