"""What policies in Python see of an event: the facts of conditions (`reputation.vocabulary`), with their types.

    facts.sender, facts.hour, facts.header["list-id"]        what is there anyway
    facts.spf, facts.first_time                              what has to be found out before, so that it is needed
    facts.score("sender").confidence                         reputation.sender.FIELD in a condition
    facts.count("last_1h", "user", "recipients")             last_1h.user.recipients
    facts.age("sender")                                      age.sender

What is not known at the stage, and what was not named as needed, is an error and never an empty value: a policy that
compared with it would quietly never apply. That somebody else has had it looked up does not matter.
"""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Generic, NamedTuple, TypeVar, overload

from reputation.errors import ConfigError, UnknownFact
from reputation.events import Data, Stage
from reputation.facts import Lookup, Score
from reputation.inquiry import AGE, FIRST_TIME, REPUTATION, ROOTS, Inquiry, paths_in
from reputation.vocabulary import FACTS, Moment


class Needed(NamedTuple):
    """What is found out for a function besides what is there anyway."""

    stage: Stage
    lookups: frozenset[Lookup]
    inquiry: Inquiry


def needed_for(stage: Stage, names: Iterable[str], setting: str) -> Needed:
    """What these names ask for; raises `ConfigError`, which begins with the setting."""
    lookups, paths = set[Lookup](), list[tuple[str, ...]]()
    for name in names:
        fact = FACTS.get(name)
        if name.partition(".")[0] in ROOTS and re.fullmatch(r"\w+(?:\.\w+)*", name):
            paths += paths_in(name, stage, setting)
        elif fact is None:
            known = sorted([name for name, fact in FACTS.items() if stage in fact.stages] + list(ROOTS))
            raise ConfigError(f'{setting}: there is no "{name}"; at stage {stage} there are: {", ".join(known)}')
        elif stage not in fact.stages:
            raise ConfigError(f"{setting}: {name} is not known at stage {stage}, but at {', '.join(fact.stages)}")
        elif fact.lookup is not None:
            lookups.add(fact.lookup)
        elif name == FIRST_TIME:
            paths.append((name,))
    return Needed(stage, frozenset(lookups), Inquiry.of(paths))


V = TypeVar("V")


class Told(Generic[V]):
    """A property of `Facts`: the fact of that name, or of another one where that is no name in Python."""

    def __init__(self, kind: type[V], name: str = "") -> None:
        self.kind = kind
        self.name = name

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = self.name or name

    @overload
    def __get__(self, facts: None, owner: type) -> "Told[V]": ...
    @overload
    def __get__(self, facts: "Facts", owner: type) -> V: ...
    def __get__(self, facts: "Facts | None", owner: type) -> Any:
        return self if facts is None else facts._told(self.name)


class Facts:
    """What is known about an event; asking for anything else raises `UnknownFact`."""

    __slots__ = ("_moment", "_needed")

    def __init__(self, moment: Moment, needed: Needed) -> None:
        self._moment = moment
        self._needed = needed

    ip = Told(str)
    """Address of the client."""
    prefix = Told(str)
    """Its /24, or /48 of IPv6."""
    asn = Told(int)
    """Number of the client's network operator; 0 when unknown."""
    country = Told(str)
    """Its country, two letters; "" when unknown."""
    iprev = Told(str)
    """The reverse name: pass, fail, permerror (none) or temperror."""
    rdns = Told(str)
    """The confirmed reverse name, or ""."""
    dnsbl = Told[list[str]](list)
    """The DNS lists that the client is on."""
    dnsbl_temperror = Told[list[str]](list)
    """Those that gave no answer."""
    lists = Told[list[str]](list)
    """The lists that something of the event is on."""
    tls = Told(bool)
    """Whether the session is encrypted."""
    early = Told(bool)
    """Whether the client has spoken before it was greeted."""
    hour = Told(int)
    """0 to 23, by the local clock."""
    weekday = Told(int)
    """1 for Monday to 7."""
    helo = Told(str)
    """Name given with HELO."""
    user = Told(str)
    """Who has logged in; "" for nobody."""
    class_ = Told(str, "class")
    """Kind of mail (`reputation.classes`)."""
    sender = Told(str)
    """Envelope sender, as it is counted; "" for bounces."""
    sender_domain = Told(str)
    """Its registered domain."""
    spf = Told(str)
    """none, neutral, pass, fail, softfail, permerror or temperror."""
    declared_bytes = Told(int)
    """Size that the client has announced; 0 for none."""
    recipient = Told(str)
    """This recipient, as it is counted."""
    recipient_domain = Told(str)
    """Its registered domain."""
    first_time = Told(bool)
    """Whether a user who has logged in writes to this recipient for the first time."""
    recipients = Told(int)
    """Number of recipients."""
    message_bytes = Told(int)
    """Size of the message."""
    author = Told(str)
    """Address in the From field."""
    author_domain = Told(str)
    """Its registered domain."""
    subject = Told(str)
    """Subject, as it was written."""
    dkim = Told(str)
    """The best of its signatures: none, pass, fail, policy, neutral, permerror or temperror."""
    dkim_domains = Told[list[str]](list)
    """Whose signatures pass."""
    dmarc = Told(str)
    """Whether SPF or DKIM speaks for the author's domain: none, pass, fail, permerror or temperror."""
    dmarc_policy = Told(str)
    """What that domain wants done otherwise: none, quarantine or reject; "" without a record."""
    arc = Told(str)
    """The chain of seals of servers before us: none, pass, fail or temperror."""
    arc_domain = Told(str)
    """Who has sealed last, with a pass, or ""."""
    filter_verdict = Told(str)
    """What content filters say: ham, unsure, defer, spam, malware or temperror; "" when none was asked."""
    filter_action = Told(str)
    """The filter's own word, such as "greylist"."""
    filter_score = Told(float)
    """Its score."""
    filter_symbols = Told[list[str]](list)
    """The names of its tests that hit."""
    malware = Told(str)
    """The name of malware that was found, or ""."""

    @property
    def header(self) -> Mapping[str, str]:
        """The first of each field that was read, by its name in lower case: `facts.header.get("list-id", "")`."""
        event = self._moment.event
        if not isinstance(event, Data):
            raise self._unknown("header")
        return MappingProxyType(event.header)

    def score(self, dimension: str) -> Score:
        """What is to be expected of a dimension's entity, or of the "message"."""
        if dimension not in self._needed.inquiry.scores:
            raise self._unknown(f"{REPUTATION}.{dimension}.score")
        return self._moment.known.scores[dimension]

    def count(self, window: str, dimension: str, metric: str) -> int:
        """What is counted of a dimension's entity, as in `count("last_1h", "user", "recipients")`."""
        path = (window, dimension, metric)
        if path not in self._needed.inquiry.counts:
            raise self._unknown(".".join(path))
        return self._moment.known.counts.get(path, 0)

    def age(self, dimension: str) -> float:
        """Days since a dimension's entity was first seen; 0 for who is new."""
        if dimension not in self._needed.inquiry.ages:
            raise self._unknown(f"{AGE}.{dimension}")
        return self._moment.known.ages.get(dimension, 0.0)

    def _told(self, name: str) -> Any:
        fact, (stage, lookups, inquiry) = FACTS[name], self._needed
        is_found = fact.lookup in lookups if fact.lookup is not None else name != FIRST_TIME or inquiry.first_time
        if stage not in fact.stages or not is_found:
            raise self._unknown(name)
        return fact.value(self._moment)

    def _unknown(self, name: str) -> UnknownFact:
        try:
            needed_for(self._needed.stage, (name,), "facts")
        except ConfigError as error:
            return UnknownFact(str(error))
        return UnknownFact(f'facts: {name} is found out for those who need it: add "{name}" to needs')


_TOLD = {told.name: told.kind for told in vars(Facts).values() if isinstance(told, Told)}
assert _TOLD.keys() == FACTS.keys() - {"header"}
assert all(kind is type(FACTS[name].example) for name, kind in _TOLD.items())
