"""Steps through the real engine, over counters in memory at the log's time: what would have happened?

A rule in force acts: what it refuses is not counted further, and a message that was refused at MAIL has no recipients.
A rule in shadow mode is counted as it would be. What the logged server refused is given back; recipients that it did
not know, bounces and failed log-ins are learned, as behind the SMTP front end.

Bans, lists and overrides lie in a store and are unknown here, nothing is looked up in the DNS, and the log begins
without anybody's reputation. Rules that ask for such things are not judged but named in `Figures.unjudged`. What is
counted besides rules is left out where no condition looks at it.

Bugs: a throttled client is not made to wait, it counts as refused. `hold_seconds` bans nobody: the rule goes on
refusing whoever is over its limit. Limits that follow reputation stand as they are written. Policies in Python are not
asked. In a log with very many different senders counters are forgotten (`judging`), and `Figures.forgotten` says so.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from reputation.events import Auth, Data, Disconnect, Event, Mail, OutcomeKind, Rcpt, Stage
from reputation.keys import Dimension, Entities, Entity, Metric, counted_dimension
from reputation.policy import Policy
from reputation.replay.figures import Figures, Tally, Watched
from reputation.replay.judging import Judging
from reputation.replay.records import Turned
from reputation.replay.steps import Bounced, GivenBack, Judge, LogIn, Message, Over, Timed
from reputation.rules import Rule
from reputation.spelling import Spelling
from reputation.verdict import Action, Verdict
from reputation.vocabulary import FACTS

MAX_SHUT = 100_000
"""Sessions that a rule would have refused as a whole, and whose end has not come."""
WHOM = (Dimension.USER, Dimension.SENDER, Dimension.IP)
"""On whose account a rule without a key is told, the first that there is."""

IN_NO_LOG = frozenset(
    {
        *("asn", "country", "rdns_domain", "spf_domain", "dkim_domain", "subject", "author", "author_domain"),
        *("declared_bytes", "header", "lists", "early", "reputation", "age", "first_time"),
        *(name for name, fact in FACTS.items() if fact.lookup is not None),
    }
)
"""Dimensions, and names in conditions, that no log tells."""
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(slots=True)
class _Trial:
    """One message on its way through the policy."""

    verdicts: list[Verdict] = field(default_factory=list)
    hit: dict[str, Entity] = field(default_factory=dict)
    """Rules that would have acted on it, or on its session, and on whose account."""
    recipients: list[str] = field(default_factory=list)
    """Those that the policy let pass and the server took."""
    stopped: bool = False
    """Whether the policy refused it, or its session, so that the rest did not take place."""
    bad: bool = False
    watched: set[Entity] = field(default_factory=set)


@dataclass(slots=True)
class _Shut:
    """A session that rules would have refused."""

    hit: dict[str, Entity] = field(default_factory=dict)
    for_good: bool = False
    """Whether one of them is in force."""


class Replay:
    """Takes steps in order of time; `figures` says what came of it."""

    def __init__(
        self,
        policy: Policy,
        spelling: Spelling,
        *,
        known_bad: Collection[Entity] = (),
        watched: Collection[Entity] = (),
    ) -> None:
        unjudged = {rule.name: reason for rule in policy.rules if (reason := unknowable(rule))}
        rules = tuple(
            replace(rule, hold_seconds=0.0, adaptive=1.0) for rule in policy.rules if rule.name not in unjudged
        )
        tallies = {rule.name: Tally() for rule in policy.rules}
        self.figures = Figures(rules=tallies, unjudged=unjudged, watched={entity: Watched() for entity in watched})
        self._rules = rules
        self._actions = {rule.name: rule.action for rule in rules}
        self._judging = Judging(replace(policy, rules=rules, functions=()), spelling)
        self._bad = frozenset(known_bad)
        self._trials: dict[Message, _Trial] = {}
        self._shut: dict[str, _Shut] = {}
        self._saw = {"helo": False, "tls": False}

    async def take(self, timed: Timed) -> None:
        """Carry out a step."""
        figures, at_us = self.figures, timed.at_us
        figures.first_us = figures.first_us or at_us
        figures.last_us = max(figures.last_us, at_us)
        match timed.step:
            case Judge(event, None):
                await self._session(event, at_us)
            case Judge(event, Message() as message, turned):
                await self._message(event, message, turned, at_us)
            case LogIn(event):
                await self._log_in(event, at_us)
            case GivenBack(message):
                await self._give_back(message)
            case Bounced(message):
                await self._bounced(message, at_us)
            case Over(message):
                await self._over(message)

    # Sessions

    async def _session(self, event: Event, at_us: int) -> bool:
        """Judge what is about the session as a whole; says whether it goes on."""
        id = event.session.id
        shut = self._shut.get(id)
        if isinstance(event, Disconnect):
            await self._judging.judge(event, at_us)
            self._shut.pop(id, None)
            return False
        if shut is not None and shut.for_good:
            return False
        verdict, hit = await self._judged(event, at_us)
        if hit:
            shut = self._shut.setdefault(id, _Shut())
            shut.hit |= hit
            shut.for_good = verdict.denied
            if len(self._shut) > MAX_SHUT:
                del self._shut[next(iter(self._shut))]
        return not verdict.denied

    async def _log_in(self, event: Auth, at_us: int) -> None:
        if await self._session(event, at_us) and not event.success:
            self.figures.outcomes += 1
            await self._judging.learn(OutcomeKind.AUTH_FAILED, event, at_us)

    async def _judged(
        self, event: Event, at_us: int, trial: _Trial | None = None
    ) -> tuple[Verdict, Mapping[str, Entity]]:
        """The verdict, and the rules that acted or would have, on whose account; both are noted."""
        verdict = await self._judging.judge(event, at_us)
        entities = self._judging.entities(event)
        figures = self.figures
        figures.events += 1
        self._saw["helo"] |= bool(event.session.helo)
        self._saw["tls"] |= event.session.tls
        for name in {finding.rule: None for finding in verdict.findings}:
            figures.rules[name].judged += 1
        hit: dict[str, Entity] = {}
        if verdict.fired or verdict.would:
            whose = {finding.rule: finding.entity for finding in verdict.findings}
            somebody = next(entities[dimension] for dimension in WHOM if dimension in entities)
            for name in (*verdict.fired, *verdict.would):
                tally, hit[name] = figures.rules[name], whose.get(name, somebody)
                tally.judged += name not in whose
                tally.hit(hit[name], entities, at_us)
        if trial is not None:
            trial.hit |= hit
        self._mark(entities, trial, hit, at_us)
        return verdict, hit

    def _mark(self, entities: Entities, trial: _Trial | None, over: Collection[str], at_us: int) -> None:
        """Note whether anybody takes part who is known to be bad, or watched."""
        if not self._bad and not self.figures.watched:
            return
        for entity in entities.values():
            if trial is not None and entity in self._bad:
                trial.bad = True
            if (watched := self.figures.watched.get(entity)) is not None:
                if trial is not None:
                    trial.watched.add(entity)
                for name in over:
                    watched.of(name).add(at_us)

    # Messages

    async def _message(self, event: Event, message: Message, turned: Turned | None, at_us: int) -> None:
        if isinstance(event, Mail):
            self._begin(event, message)
        trial = self._trials[message]
        if isinstance(event, Data) and message.recipients and not trial.recipients:
            await self._stop(trial)  # nobody is left whom it could go to
        if trial.stopped:
            return
        if isinstance(event, Data) and len(trial.recipients) < len(event.recipients):
            event = replace(event, recipients=tuple(trial.recipients))
        verdict, _ = await self._judged(event, at_us, trial)
        if verdict.denied and verdict.action is not Action.DISCARD:
            if not isinstance(event, Rcpt):
                await self._stop(trial)
        elif turned is not None:
            await self._turned_away(event, verdict, turned, at_us)
        else:
            trial.verdicts.append(verdict)
            if isinstance(event, Rcpt):
                trial.recipients.append(event.recipient)

    async def _turned_away(self, event: Event, verdict: Verdict, turned: Turned, at_us: int) -> None:
        """The logged server refused a recipient that the policy would have let pass."""
        await self._judging.give_back(verdict)
        if turned is Turned.UNKNOWN_RECIPIENT:
            self.figures.outcomes += 1
            await self._judging.learn(OutcomeKind.UNKNOWN_RECIPIENT, event, at_us)

    def _begin(self, event: Mail, message: Message) -> None:
        trial = self._trials[message] = _Trial()
        shut = self._shut.get(event.session.id)
        if shut is not None:
            trial.hit |= shut.hit
            trial.stopped = shut.for_good
            self._mark(self._judging.entities(event), trial, (), 0)

    async def _stop(self, trial: _Trial) -> None:
        """The rest of the message does not take place, and what it was charged is given back."""
        trial.stopped = True
        await self._judging.give_back(*trial.verdicts)
        trial.verdicts.clear()

    async def _give_back(self, message: Message) -> None:
        self.figures.given_back += 1
        if (trial := self._trials.get(message)) is not None:
            await self._judging.give_back(*trial.verdicts)
            trial.verdicts.clear()

    async def _bounced(self, message: Message, at_us: int) -> None:
        trial = self._trials.get(message)
        if trial is not None and not trial.stopped and message.sender is not None:
            self.figures.outcomes += 1
            event = Mail(session=message.session, sender=message.sender)
            await self._judging.learn(OutcomeKind.BOUNCE, event, at_us)

    async def _over(self, message: Message) -> None:
        trial = self._trials.pop(message, None)
        if trial is None:
            return
        if message.recipients and not trial.recipients:
            await self._stop(trial)
        self.figures.messages += 1
        self.figures.delivered += message.delivered
        for name, entity in trial.hit.items():
            costs_mail = self._actions[name] is not Action.ACCEPT
            self.figures.rules[name].message(entity, delivered=message.delivered, bad=trial.bad, costs_mail=costs_mail)
        for entity in trial.watched:
            watched = self.figures.watched[entity]
            watched.messages += 1
            watched.delivered += message.delivered

    def close(self, *, connections: int, disconnects: int) -> Figures:
        """The figures, now that the log is over; rules that the log told nothing about are named in them."""
        for rule in self._rules:
            if not self.figures.rules[rule.name].judged:
                reason = self._not_told(rule, connections)
            elif rule.count == Metric.CONCURRENT and not disconnects:
                reason = "the log does not tell when a session ends"
            else:
                reason = next((f"the log tells no {it}" for it in ("helo", "tls") if self._lacks(rule, it)), "")
            if reason:
                self.figures.unjudged[rule.name] = reason
        self.figures.forgotten = self._judging.forgotten
        return self.figures

    def _not_told(self, rule: Rule, connections: int) -> str:
        if rule.stage is Stage.CONNECT and not connections:
            return "the log tells no connections"
        whom = "+".join(rule.key) or "what its condition asks for"
        return f"no event of the log at stage {rule.stage} was about {whom}"

    def _lacks(self, rule: Rule, name: str) -> bool:
        return not self._saw[name] and name in _asked(rule)


def unknowable(rule: Rule) -> str:
    """Why no log can say what a rule would do; empty when one can."""
    missing = sorted(_asked(rule) & IN_NO_LOG)
    return f"it asks for {', '.join(missing)}, which no log tells" if missing else ""


def _asked(rule: Rule) -> set[str]:
    """The names that a rule asks for: its key, what it counts, and its condition."""
    counted = counted_dimension(rule.count)
    return {*rule.key, *((counted,) if counted else ()), *_NAME.findall(_QUOTED.sub("", rule.when))}
