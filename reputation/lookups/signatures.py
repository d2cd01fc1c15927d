"""The signatures of a message: DKIM, RFC 6376, by dkimpy (`reputation.lookups.seals`).

Of many signatures `MAX_SIGNATURES` are looked at (section 8.4): those of the author's own domain first, then those that
stand first. Each has a word of its own (RFC 8601 section 2.7.1):

========== =================================================================================
pass       it holds
fail       the body or the signed fields are not those that were signed
policy     it is not accepted: SHA-1, a key below 1024 or beyond 4096 bits (RFC 8301), l= that
           leaves a part of the body unsigned, sizes beyond ours
neutral    it cannot be read, or the header cannot
temperror  no answer about the key
permerror  it lacks what it must have, has expired, or has no key (any more) that fits
========== =================================================================================

Bugs: a key that is being tested (t=y) counts like any other.
"""

from collections.abc import Sequence

from reputation.facts import PASS, Lookup, Signature
from reputation.lookups.message import Field, Message
from reputation.lookups.resolver import Resolver
from reputation.lookups.seals import (
    FAIL,
    NONE,
    WORDS,
    Tags,
    Unacceptable,
    check,
    check_body,
    domain_of,
    holds,
    identity_of,
    key_name,
    key_of,
    mark_of,
    selector_of,
    signed_names,
    tags_of,
    way_of,
)
from reputation.spelling import organisational_domain

MAX_SIGNATURES = 5
MAX_LISTED = 20
"""Signature fields among which those are chosen."""
MANDATORY = (b"v", b"a", b"b", b"bh", b"d", b"h", b"s")


class Candidate:
    """A signature that is looked at."""

    __slots__ = ("field", "refusal", "tags")

    def __init__(self, field: Field) -> None:
        self.field = field
        self.tags: Tags = {}
        self.refusal = ""
        """The word for one that cannot be looked at."""
        try:
            self.tags = tags_of(field)
        except Unacceptable as error:
            self.refusal = error.word

    def found(self, word: str) -> Signature:
        """What became of it."""
        tags = self.tags
        return Signature(
            result=word,
            domain=domain_of(tags),
            selector=selector_of(tags),
            identity=identity_of(tags),
            mark=mark_of(tags),
        )


def candidates_of(message: Message, author_domains: Sequence[str]) -> list[Candidate]:
    """The signatures of a message that are looked at, in the order of the header."""
    listed = [Candidate(field) for field in message.named(b"dkim-signature")[:MAX_LISTED]]
    own = {organisational_domain(domain) for domain in author_domains}
    by_rank = sorted(range(len(listed)), key=lambda at: organisational_domain(domain_of(listed[at].tags)) not in own)
    return [listed[at] for at in sorted(by_rank[:MAX_SIGNATURES])]


async def verified(resolver: Resolver, message: Message, candidate: Candidate) -> Signature:
    """Whether a signature holds. Raises `ValueError` when the content is closed meanwhile."""
    if candidate.refusal:
        return candidate.found(candidate.refusal)
    try:
        return candidate.found(await _word(resolver, message, candidate))
    except Unacceptable as error:
        return candidate.found(error.word)


async def _word(resolver: Resolver, message: Message, candidate: Candidate) -> str:
    tags, field = candidate.tags, candidate.field
    check(tags, MANDATORY)
    way = way_of(tags)
    key = key_of(await resolver.ask(key_name(tags), "TXT", Lookup.DKIM), tags)
    try:
        check_body(tags, await message.digest(way))
        partial = ""
    except Unacceptable as error:
        partial = error.word
    if partial == FAIL:
        return FAIL
    has_held = await message.computed(lambda: holds(field, tags, key, message.fields, signed_names(tags)))
    return (partial or PASS) if has_held else FAIL


def best_of(signatures: Sequence[Signature]) -> str:
    """What DKIM says in one word: the best of all; none without signatures."""
    return min((each.result for each in signatures), key=WORDS.index, default=NONE)
