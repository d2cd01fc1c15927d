"""The chain of seals that a message carries: ARC, RFC 8617, over the primitives of dkimpy (`reputation.lookups.seals`).

Each server that seals adds a set of three fields with a number: what it has found (ARC-Authentication-Results), a
signature over the message as it was (ARC-Message-Signature), and a seal over all sets up to its own (ARC-Seal)::

    i=1   results, signature, seal cv=none      the seal is over   i=1
    i=2   results, signature, seal cv=pass                         i=1 i=2
    i=3   results, signature, seal cv=pass                         i=1 i=2 i=3

The chain passes (section 5.2) when the sets are complete, numbered 1 to n, the last signature holds, all seals hold,
and none says that it had failed before. Sets are put in order by their numbers, wherever they stand in the header.

A chain says that the servers on the way are those that they say they are; whether to believe them is another question,
so the last one is named.

dkimpy's own class for this is not used: it wants the sets in the order of the header and a certain spacing in them,
verifies the signatures of all sets, which takes long for fifty of them, and asks the DNS in the middle of its work.

Bugs: seals with more than `MAX_KEYS` different keys fail, so that one message makes us ask others little.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import NamedTuple

from reputation.facts import PASS, TEMPERROR, Lookup
from reputation.lookups.message import Field, Message
from reputation.lookups.resolver import Resolver
from reputation.lookups.seals import (
    FAIL,
    NONE,
    Key,
    Tags,
    Unacceptable,
    check,
    check_body,
    domain_of,
    holds,
    key_name,
    key_of,
    signed_names,
    tags_of,
    way_of,
)

MAX_SETS = 50
"""Section 4.2.1."""
MAX_KEYS = 10
RESULTS, SIGNATURE, SEAL = b"arc-authentication-results", b"arc-message-signature", b"arc-seal"
KINDS = (RESULTS, SIGNATURE, SEAL)
"""In the order in which a seal covers them (section 5.1.1)."""
OF_SIGNATURES = (b"i", b"a", b"b", b"bh", b"d", b"h", b"s")
OF_SEALS = (b"i", b"a", b"b", b"cv", b"d", b"s")
_RELAXED = {b"c": b"relaxed/relaxed"}


class Chain(NamedTuple):
    """What became of a chain."""

    word: str
    domain: str = ""
    """Who has sealed last; only with a pass."""


class Sealed(NamedTuple):
    """The sets of a message, the first one first, with what their signatures say."""

    sets: tuple[Mapping[bytes, Field], ...]
    seals: tuple[Tags, ...]
    signature: Tags
    """The last one."""

    @property
    def key_names(self) -> list[str]:
        """Where the keys are, the last signature's first."""
        return list(dict.fromkeys(key_name(tags) for tags in (self.signature, *self.seals)))


async def chain_of(resolver: Resolver, message: Message) -> Chain:
    """Validate. Raises `ValueError` when the content is closed meanwhile."""
    if not message.is_readable:
        return Chain(FAIL if message.seems_sealed else NONE)
    try:
        sealed = sealed_in(message)
        if sealed is None:
            return Chain(NONE)
        names = sealed.key_names
        answers = await resolver.ask_all([(name, "TXT") for name in names], Lookup.ARC)
        by_name = dict(zip(names, answers, strict=True))
        keys = [key_of(by_name[key_name(tags)], tags) for tags in (sealed.signature, *sealed.seals)]
        check_body(sealed.signature, await message.digest(way_of(sealed.signature)))
        is_whole = await message.computed(lambda: _holds(message, sealed, keys))
    except Unacceptable as error:
        return Chain(TEMPERROR if error.word == TEMPERROR else FAIL)
    return Chain(PASS, domain_of(sealed.seals[-1])) if is_whole else Chain(FAIL)


def sealed_in(message: Message) -> Sealed | None:
    """The sets of a message, None without any. Raises `Unacceptable` for what is no chain."""
    found: dict[int, dict[bytes, Field]] = defaultdict(dict)
    tags: dict[tuple[int, bytes], Tags] = {}
    for field in message.fields:
        if field.key in KINDS:
            told = tags_of(field) if field.key != RESULTS else {b"i": _number_of_results(field)}
            number = _number(told)
            if field.key in found[number]:
                raise Unacceptable(FAIL)
            found[number][field.key] = field
            tags[number, field.key] = told
    if not found:
        return None
    sets = tuple(found[number] for number in sorted(found))
    if sorted(found) != list(range(1, len(sets) + 1)) or any(len(each) < len(KINDS) for each in sets):
        raise Unacceptable(FAIL)
    sealed = Sealed(sets, tuple(tags[number, SEAL] for number in sorted(found)), tags[len(sets), SIGNATURE])
    _check(sealed)
    return sealed


def _number(tags: Tags) -> int:
    text = tags.get(b"i", b"")
    if not text.isdigit() or len(text) > 2 or not 1 <= int(text) <= MAX_SETS:
        raise Unacceptable(FAIL)
    return int(text)


def _number_of_results(field: Field) -> bytes:
    """The number of a field of results, which has no other tags: section 4.1.1."""
    name, _, text = field.value.partition(b";")[0].partition(b"=")
    return text.strip() if name.strip().lower() == b"i" else b""


def _check(sealed: Sealed) -> None:
    """Raise `Unacceptable` for a chain that cannot hold, whatever the keys say."""
    check(sealed.signature, OF_SIGNATURES, is_arc=True)
    if SEAL in signed_names(sealed.signature):  # section 4.1.2
        raise Unacceptable(FAIL)
    for number, seal in enumerate(sealed.seals, 1):
        check(seal, OF_SEALS, is_arc=True)
        if b"h" in seal or seal[b"cv"] != (b"none" if number == 1 else b"pass"):  # sections 4.1.3 and 5.2
            raise Unacceptable(FAIL)
    if len(sealed.key_names) > MAX_KEYS:
        raise Unacceptable(FAIL)


def _holds(message: Message, sealed: Sealed, keys: list[Key]) -> bool:
    """Whether the last signature and all seals hold, the last one first: it is the most likely not to."""
    signature = sealed.sets[-1][SIGNATURE]
    if not holds(signature, sealed.signature, keys[0], message.fields, signed_names(sealed.signature)):
        return False
    return all(_seal_holds(sealed, number, keys[number]) for number in range(len(sealed.seals), 0, -1))


def _seal_holds(sealed: Sealed, number: int, key: Key) -> bool:
    """Whether a seal holds: section 5.1.1, always relaxed."""
    covered = [each[kind] for each in sealed.sets[:number] for kind in KINDS][:-1]
    names = [field.key for field in covered]
    tags = {**sealed.seals[number - 1], **_RELAXED}
    # Of several fields of a name the last one is taken first.
    return holds(sealed.sets[number - 1][SEAL], tags, key, covered[::-1], names)
