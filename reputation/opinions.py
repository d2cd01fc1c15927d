"""What rules without limits, and policies in Python, say about an event: opinions, and how they join the verdict.

An opinion in force that refuses is heard before the counters are asked: what it refuses is not counted. Of several the
strictest one decides, and among equals the first. The others go along with what the counters say: tags add up, the
longest delay holds, the strictest action decides, and a class of service is the counters' if they have one.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import or_
from typing import NamedTuple

from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.facts import NOTHING_LOOKED_UP, LookedUp, Lookup
from reputation.inquiry import Inquiry
from reputation.rules import Mode, Rule, rendered_match
from reputation.verdict import Action, Reason, Verdict
from reputation.vocabulary import Moment


class Opinion(NamedTuple):
    """What one of them says."""

    name: str
    mode: Mode
    verdict: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFunction:
    """A policy in Python: a function that is asked at a stage, and may have no opinion."""

    name: str
    stage: Stage
    mode: Mode
    deadline_seconds: float
    lookups: frozenset[Lookup]
    inquiry: Inquiry
    call: Callable[[Moment], Awaitable[Verdict | None]]
    """Asks it. May raise anything: that is no opinion."""


Asking = Sequence[Rule | PolicyFunction]


def check_names(asking: Asking) -> None:
    """Raise `ConfigError` where two have the same name: each names a counter."""
    names = [each.name for each in asking]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        what = "to change a rule of an included file, write [change.NAME]"
        raise ConfigError(f"rule names must differ, because each names a counter: {', '.join(doubled)}; {what}")


def looked_up_at(stage: Stage, asking: Asking) -> frozenset[Lookup]:
    """What has to be looked up at a stage, for all of these."""
    return frozenset(lookup for each in asking if each.stage is stage for lookup in each.lookups)


def asked_at(stage: Stage, asking: Asking) -> Inquiry:
    """What the store has to be asked at a stage, for all of these."""
    return reduce(or_, (each.inquiry for each in asking if each.stage is stage), Inquiry())


def opinion_of(rule: Rule) -> Opinion:
    """The opinion of a rule without limits about an event that its condition is about."""
    denying = rule.action in (Action.TEMPFAIL, Action.REJECT)
    verdict = Verdict(
        action=rule.action,
        reason=Reason.MATCHED,
        rule=rule.name,
        reply=rendered_match(rule) if denying else "",
        delay_seconds=rule.delay_seconds if rule.action is Action.TARPIT else 0.0,
        tags=(rule.name,) if rule.action is Action.TAG else (),
        subject_prefixes=(rule.subject_prefix,) if rule.subject_prefix else (),
        service=rule.service,
    )
    return Opinion(rule.name, rule.mode, verdict)


def refusal_among(opinions: Iterable[Opinion]) -> Verdict | None:
    """The refusal that decides, where there is one in force."""
    refusals = [each.verdict for each in opinions if each.mode is Mode.ENFORCE and each.verdict.denied]
    return max(refusals, key=lambda verdict: verdict.action.severity, default=None)


def with_opinions(verdict: Verdict, opinions: Sequence[Opinion]) -> Verdict:
    """The verdict, and what all of these say besides."""
    if not opinions:
        return verdict
    acting = [each for each in opinions if each.mode is Mode.ENFORCE]
    decided = max([verdict, *(each.verdict for each in acting)], key=lambda one: one.action.severity)
    if decided is verdict and verdict.reason in (Reason.NO_RULE, Reason.WITHIN_LIMITS) and acting:
        decided = acting[0].verdict  # what accepts by a rule says so
    return replace(
        decided,
        delay_seconds=max([verdict.delay_seconds, *(each.verdict.delay_seconds for each in acting)]),
        tags=tuple(dict.fromkeys((*verdict.tags, *(tag for each in acting for tag in each.verdict.tags)))),
        subject_prefixes=(*verdict.subject_prefixes, *(it for each in acting for it in each.verdict.subject_prefixes)),
        service=verdict.service or next((each.verdict.service for each in acting if each.verdict.service), ""),
        fired=(*verdict.fired, *(each.name for each in acting)),
        would=(*verdict.would, *(each.name for each in opinions if each.mode is Mode.SHADOW)),
        findings=verdict.findings,
        answer=verdict.answer,
        local=verdict.local,
    )


def softened(verdict: Verdict, rule: Rule | None, looked_up: LookedUp) -> Verdict:
    """The verdict with what was found out for it, never for good where its rule rests on a look-up that had no answer.

    That is our trouble.
    """
    for_good = verdict.action in (Action.REJECT, Action.DISCARD)
    if rule is not None and for_good and not looked_up.failed.isdisjoint(rule.lookups):
        verdict = replace(verdict, action=Action.TEMPFAIL, reply="")
    return verdict if looked_up is NOTHING_LOOKED_UP else replace(verdict, looked_up=looked_up)
