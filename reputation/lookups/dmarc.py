"""Whether SPF or DKIM speaks for the author's domain, and what that domain wants otherwise: DMARC, RFC 7489.

    author's domain -> record at _dmarc.DOMAIN, or else at _dmarc.ORGANISATIONAL-DOMAIN (section 6.6.3)
    record, SPF, signatures -> pass: one of them passes, and its domain is aligned with the author's (section 3.1)

========== =====================================================================================
none       the author's domain has no record (or several, or one without a usable policy)
pass       the sender's domain (SPF) or a signature's (DKIM) passes and is aligned
fail       neither; a signature or sender that is not aligned changes nothing
temperror  no answer about the record, or about what is aligned and might have passed
permerror  there is no author, more than `MAX_AUTHORS` domains of authors, or several From fields
========== =====================================================================================

Of several authors each domain is asked about, and the worst word counts, with the strictest policy (section 6.6.1).
Whoever has several From fields or too many authors never passes, and still fails where one of them does: nobody gets
around the policy of a domain by naming another one beside it.

The policy is what the record says: p=, and sp= of the organisational domain's record for domains below it. With pct=0
no message is meant, and it is the next milder one (section 6.6.4); any other pct= is taken as 100, so that the same
message always gets the same word.

authheaders is not used for this; tests hold it beside ours, where it can be. Its version 0.16.3 reads a sender's domain
only as far as its first hyphen, so that bank.example-evil.net speaks for bank.example; applies sp= to the very domain
that has the record; takes a top-level domain that is not on its list for the owner of all names below it; reads that
list anew for each comparison, which takes 30 ms; hears of one signature only; and takes a record with one broken tag
for none, where section 6.3 has the rest hold.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from reputation.facts import PASS, TEMPERROR, Lookup, Signature
from reputation.lookups import answers
from reputation.lookups.answers import Answer
from reputation.lookups.names import askable
from reputation.lookups.resolver import Resolver
from reputation.spelling import canonical_domain, organisational_domain

NONE, FAIL, PERMERROR = "none", "fail", "permerror"
WORDS = (FAIL, TEMPERROR, PERMERROR, NONE, PASS)
"""The worst first."""
POLICIES = ("none", "quarantine", "reject")
"""Section 6.3, the mildest first."""
MAX_AUTHORS = 3
MAX_RECORD_OCTETS = 4_096
_VERSION = re.compile(rb"v[ \t]*=[ \t]*DMARC1[ \t]*(?:;|\Z)")
"""Section 6.3: at the very beginning, case-sensitive."""
_REPORTS = re.compile(r"mailto:[^@\s,]+@[^@\s,]+")


class Record(NamedTuple):
    """What a domain wants."""

    policy: str
    policy_below: str
    is_strict_spf: bool
    is_strict_dkim: bool


class Wanted(NamedTuple):
    """What is wanted of mail of one author's domain."""

    domain: str
    policy: str
    """Of a domain without a record empty."""
    is_strict_spf: bool = False
    is_strict_dkim: bool = False
    has_failed: bool = False
    """Whether there was no answer."""


class Authors(NamedTuple):
    """The domains of a message's authors."""

    domains: tuple[str, ...]
    is_lawful: bool
    """Whether there is one From field, and not too many of them."""


class Found(NamedTuple):
    """What DMARC says about a message."""

    word: str
    policy: str = ""
    domain: str = ""


def authors_of(addresses: Sequence[str], fields: int, author: str) -> Authors:
    """Whom to ask about. `author` is whom the rest of the program takes for the author, who must not be another one.

    >>> authors_of(["alice@Example.org"], 1, "alice@Example.org")
    Authors(domains=('example.org',), is_lawful=True)
    """
    named = [address.rpartition("@")[2] for address in (*addresses, author) if "@" in address]
    domains = tuple(dict.fromkeys(askable(canonical_domain(text)) for text in named))
    usable = tuple(domain for domain in domains if domain and not domain.startswith("["))
    return Authors(usable[:MAX_AUTHORS], fields == 1 and 0 < len(domains) <= MAX_AUTHORS and usable == domains)


async def wanted_of(resolver: Resolver, domain: str) -> Wanted:
    """What a domain of an author wants. Raises nothing."""
    organisation = organisational_domain(domain)
    names = dict.fromkeys((domain, organisation))
    found = await resolver.ask_all([(f"_dmarc.{name}", "TXT") for name in names], Lookup.DMARC)
    for name, answer in zip(names, found, strict=True):
        if answer.status == answers.TEMPERROR:
            return Wanted(domain, "", has_failed=True)
        records = _records(answer)
        if len(records) == 1:
            record = record_of(records[0])
            if record is None:
                break
            policy = record.policy if name == domain else record.policy_below
            return Wanted(domain, policy, record.is_strict_spf, record.is_strict_dkim)
        if records:  # section 6.6.3: then there is none
            break
    return Wanted(domain, "")


def _records(answer: Answer) -> list[bytes]:
    return [record for record in answer.records if isinstance(record, bytes) and _VERSION.match(record)]


def record_of(octets: bytes) -> Record | None:
    """Read a record; None where it says nothing that can be applied. What is broken in it is passed over: section 6.3.

    >>> record_of(b"v=DMARC1; p=reject; sp=none; adkim=s; oops")
    Record(policy='reject', policy_below='none', is_strict_spf=False, is_strict_dkim=True)
    """
    text = octets[:MAX_RECORD_OCTETS].decode("ascii", "replace")
    pairs = [part.partition("=") for part in text.split(";")]
    tags: dict[str, str] = {}
    for name, equals, value in pairs:
        if equals:
            tags.setdefault(name.strip().lower(), value.strip())
    policy, policy_below = (tags.get(name, "").lower() for name in ("p", "sp"))
    if policy not in POLICIES or (policy_below and policy_below not in POLICIES):
        if not _REPORTS.search(tags.get("rua", "")):
            return None
        policy = policy_below = "none"  # section 6.6.3: who wants reports wants nothing else done
    lessened = (_milder if tags.get("pct") == "0" else str)(policy)
    lessened_below = (_milder if tags.get("pct") == "0" else str)(policy_below or policy)
    strict = {name: tags.get(name, "r").lower() == "s" for name in ("aspf", "adkim")}
    return Record(lessened, lessened_below, strict["aspf"], strict["adkim"])


def _milder(policy: str) -> str:
    return POLICIES[max(0, POLICIES.index(policy) - 1)]


def is_aligned(domain: str, author_domain: str, *, is_strict: bool) -> bool:
    """Whether a domain speaks for an author's: section 3.1.

    >>> is_aligned("mail.example.org", "example.org", is_strict=False)
    True
    """
    if is_strict or not domain:
        return domain == author_domain and bool(domain)
    return organisational_domain(domain) == organisational_domain(author_domain)


def judged(wanted: Wanted, spf: str, spf_domain: str, signatures: Sequence[Signature]) -> Found:
    """What is so of one author's domain."""
    if wanted.has_failed:
        return Found(TEMPERROR, "", wanted.domain)
    if not wanted.policy:
        return Found(NONE, "", wanted.domain)
    words = {each.result for each in signatures if _is_of(each.domain, wanted, is_strict=wanted.is_strict_dkim)}
    if _is_of(spf_domain, wanted, is_strict=wanted.is_strict_spf):
        words.add(spf)
    # Section 6.6.2: a failure to find out is no failure; what is not aligned could have changed nothing.
    word = PASS if PASS in words else TEMPERROR if TEMPERROR in words else FAIL
    return Found(word, wanted.policy, wanted.domain)


def _is_of(domain: str, wanted: Wanted, *, is_strict: bool) -> bool:
    return is_aligned(domain, wanted.domain, is_strict=is_strict)


def worst_of(authors: Authors, found: Sequence[Found]) -> Found:
    """What is so of the message: the worst word about its authors, with the strictest policy."""
    unlawful = [] if authors.is_lawful else [Found(PERMERROR, "", authors.domains[0] if authors.domains else "")]
    return min((*found, *unlawful), key=lambda each: (WORDS.index(each.word), -_STRICTNESS[each.policy]))


_STRICTNESS: Mapping[str, int] = {"": -1, **{policy: rank for rank, policy in enumerate(POLICIES)}}
