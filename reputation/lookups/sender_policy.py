"""Whether a client may send for a domain: SPF, RFC 7208, by pyspf.

pyspf asks the DNS in the middle of its work and waits. Here it does not: its one method that asks looks into a table of
answers, and where an answer is missing the work is given up, the question is asked like any other, and the work is done
anew with the answer in the table::

    check   TXT example.com?        missing: given up, asked       answers {TXT example.com}
    check   v=spf1 mx -all
            MX example.com?         missing: given up, asked       answers {TXT, MX}
            A of all exchanges?     missing, all together
    check   ... pass

No thread is needed, nothing blocks, and the answers come out of the cache that all look-ups share. One round takes
some 40 us; there are at most about twenty, since pyspf stops after ten terms that ask (RFC 7208 section 4.6.4).

The identity is the reverse-path; for the null reverse-path, postmaster at the HELO name (section 2.4). Where no
question can be asked, "none" (section 4.3): no domain, one without a dot, an address literal, a label that is too long.

What differs from pyspf as it is: no explanations are fetched, since they would be shown to nobody; a PTR or its names
that give no answer do not match instead of making everything a temperror (section 5.5); records and terms have a length
that they may not exceed (`MAX_RECORD_OCTETS`, `MAX_TERM_OCTETS`), beyond it is a permerror.

The "mx" terms of a check may have `MAX_EXCHANGES` exchanges together, beyond it is a permerror as well. Section 4.6.4
allows ten for each of ten terms, so that one MAIL would make us put a hundred questions to a third party; for that very
attack section 11.1 wants limits to be low. It is a permerror, as section 4.6.4 has it for its limits: the record is at
fault, today and tomorrow, and a temperror would be a way around "fail" (section 11.1). The names of "ptr" come from the
client's network and not from the record: its ten are counted by themselves, and those beyond are passed over, or the
client could make an error of anybody's policy.

Bugs: a round over the worst record that fits these bounds takes 5 ms. A local part that is not ASCII is not expanded
into a name, and the term does not match (RFC 8616 section 4).
"""

import logging
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import spf  # type: ignore[import-untyped]  # it ships no types

from reputation.events import ClientAddress
from reputation.facts import TEMPERROR, Lookup
from reputation.lookups import answers
from reputation.lookups.answers import Answer
from reputation.lookups.names import MAX_NAME_LENGTH, askable
from reputation.lookups.resolver import Resolver
from reputation.spelling import canonical_domain

NONE = "none"
WORDS = frozenset({NONE, "neutral", "pass", "fail", "softfail", TEMPERROR, "permerror"})
MAX_RECORD_OCTETS = 4_096
MAX_TERM_OCTETS = 256
MAX_EXCHANGES = 20
"""Different names, of all "mx" terms of a check."""
MAX_ROUNDS = 64
MAX_LOCAL_LENGTH = 64
"""RFC 5321 section 4.5.3.1.1."""
UNKNOWN_HELO = "unknown"

log = logging.getLogger("reputon.lookups")

_Question = tuple[str, str]
"""Name and kind."""


class Identity(NamedTuple):
    """For whom a client wants to send."""

    domain: str
    local: str
    helo: str


class Found(NamedTuple):
    """What came of a check."""

    word: str
    is_personal: bool
    """Whether a record looked at more than the domain, so that it is not for others of the same domain."""
    expires: float


def identity_of(sender: str, helo: str) -> Identity | None:
    """Whom to ask about; None where there is nobody, so that the result is "none": RFC 7208 section 4.3.

    >>> identity_of("Alice@Example.COM", "mx.example.net")
    Identity(domain='example.com', local='Alice', helo='mx.example.net')
    >>> identity_of("", "mx.example.net"), identity_of("", "[192.0.2.7]"), identity_of("root@localhost", "")
    (Identity(domain='mx.example.net', local='postmaster', helo='mx.example.net'), None, None)
    """
    spoken = _domain_of(helo)
    if not sender:
        return Identity(spoken, "postmaster", spoken) if spoken else None
    local, at, text = sender.rpartition("@")
    domain = _domain_of(text) if at else ""
    # Section 4.3: where there is no local part, it is postmaster.
    return Identity(domain, local[:MAX_LOCAL_LENGTH] or "postmaster", spoken or UNKNOWN_HELO) if domain else None


def _domain_of(text: str) -> str:
    """A domain that can be asked about, in A-labels; empty for anything else."""
    if len(text) > MAX_NAME_LENGTH or text.startswith("["):
        return ""
    name = askable(canonical_domain(text))
    return name if "." in name else ""


async def policy_of(resolver: Resolver, client: ClientAddress, identity: Identity, now: float) -> Found:
    """Check. Raises nothing."""
    known: dict[_Question, Answer] = {}
    is_personal = False
    for _ in range(MAX_ROUNDS):
        check = _Check(client, identity, known)
        try:
            word = str(check.check()[0])
        except _Missing as missing:
            asked = await resolver.ask_all(missing.questions, Lookup.SPF)
            known.update(zip(missing.questions, asked, strict=True))
            continue
        except Exception:  # the top of a job: a stranger's record that pyspf trips over is no reason to lose an event
            log.exception("pyspf cannot check %s", identity.domain)
            break
        finally:
            is_personal |= check.is_personal
        if word not in WORDS:
            break
        expires = min((answer.expires for answer in known.values()), default=now + answers.LEAST_SECONDS)
        return Found(word, is_personal, expires)
    return Found(TEMPERROR, is_personal, now + answers.FAILED_SECONDS)


class _Missing(Exception):
    """Answers that the check needs to go on."""

    def __init__(self, questions: Iterable[_Question]) -> None:
        super().__init__()
        self.questions = tuple(dict.fromkeys(questions))


_PERSONAL = re.compile(r"%\{[lsh]", re.IGNORECASE)
"""Macros that stand for the local part, the whole sender and the HELO name."""


class _Check(spf.query):  # type: ignore[misc]  # the class is untyped, see above
    """One round of a check, over the answers that are known."""

    def __init__(self, client: ClientAddress, identity: Identity, known: Mapping[_Question, Answer]) -> None:
        super().__init__(i=str(client), s=f"postmaster@{identity.domain}", h=identity.helo)
        # Given by themselves, because pyspf would take the domain from behind the first "@" of a quoted local part.
        self.l = identity.local
        self.s = f"{identity.local}@{identity.domain}"
        self.is_personal = False
        self._known = known
        self._exchanges: set[str] = set()

    def dns(self, name: str, qtype: str, cnames: Any = None, ignore_void: bool = False) -> list[Any]:  # noqa: ARG002 - of pyspf's method
        """The door through which all questions of pyspf go: see the module."""
        question = (askable(name), qtype)
        if not question[0]:
            return []
        answer = self._known.get(question)
        if answer is None:
            raise _Missing([question])
        if answer.status == answers.TEMPERROR:
            raise spf.TempError(f"no answer about {question[0]}")
        if answer.status != answers.FOUND and not ignore_void:
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:  # RFC 7208 section 4.6.4
                raise spf.PermError("too many void look-ups")
        # pyspf takes a TXT record as its strings; here they are joined already.
        return [(record,) if isinstance(record, bytes) else record for record in answer.records]

    def _want(self, names: Iterable[str]) -> None:
        """Give up for the addresses of all these names at once, unless they are known."""
        questions = [(name, self.A) for text in names if (name := askable(text))]
        if missing := [question for question in questions if question not in self._known]:
            raise _Missing(missing)

    def dns_mx(self, domainname: str) -> list[str]:
        exchanges = self.dns(domainname, "MX", ignore_void=True)  # pyspf is about to ask again, and to count
        if len(exchanges) <= spf.MAX_MX:
            self._exchanges.update(name for _, name in exchanges)
            if len(self._exchanges) > MAX_EXCHANGES:
                raise spf.PermError("too many exchanges")
            self._want(name for _, name in exchanges)
        return list(super().dns_mx(domainname))

    def validated_ptrs(self) -> list[str]:
        """RFC 7208 section 5.5: what gives no answer does not match, and only the first ten names are tried.

        Names without an address are not counted as void: whoever owns the address could make a permerror of any policy.
        """
        try:
            names = self.dns_ptr(self.i)[: spf.MAX_PTR]
        except spf.TempError:
            return []
        self._want(names)
        return [name for name in names if self._is_confirmed(name)]

    def _is_confirmed(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns(name, self.A, ignore_void=True), self.cidrmax))
        except spf.TempError:
            return False

    def dns_spf(self, domain: str) -> str | None:
        record: str | None = super().dns_spf(domain)
        if record is not None and len(record) > MAX_RECORD_OCTETS:
            raise spf.PermError("a record that is too long")
        return record

    def expand(self, s: str, stripdot: bool = True) -> str:
        if len(s) > MAX_TERM_OCTETS:
            raise spf.PermError("a term that is too long")
        if _PERSONAL.search(s):
            self.is_personal = True
        return str(super().expand(s, stripdot))

    def get_explanation(self, spec: str) -> None:
        """Nobody would see it."""
