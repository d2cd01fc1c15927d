"""Holds: whoever a rule refuses, when the rule says so, is banned for a while, on every process of the fleet.

The ban is an entry of the register like an operator's, signed by the rule; its reason is the evidence, the counts that
the rule saw. Whoever is released is judged anew. Bursts cost nothing from then on: bans are looked up in memory.
"""

import asyncio
import logging
import re

from reputation.contracts import MAX_REGISTERED
from reputation.entries import MAX_REASON_LENGTH, Ban
from reputation.errors import ConfigError, StoreError
from reputation.events import Stage
from reputation.keys import Entity
from reputation.metrics import Metrics
from reputation.policy import Policy
from reputation.registrar import Registrar
from reputation.rules import Rule
from reputation.verdict import Finding, Reason, Verdict

HELD_BY = "rule "
"""How the author of a hold begins; the rule's name follows."""
_CODES = re.compile(r"^(?:\d{3}\s+)?(?:\d\.\d{1,3}\.\d{1,3}\s+)?")
MOST_AT_ONCE = 100
"""Bans that are being put down; whoever comes beside that is refused by the rule alone."""
WAIT_SECONDS = 0.05
"""How long a refusal waits for its ban; it goes on by itself."""

log = logging.getLogger("reputon.engine")


class Holds:
    """Puts down the bans of rules."""

    def __init__(self, registrar: Registrar, metrics: Metrics) -> None:
        self._registrar = registrar
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._under_way: set[Entity] = set()
        """Whose bans are being put down: of a hundred sessions that are refused at once, one does it."""

    async def consider(self, policy: Policy, verdict: Verdict, now: float) -> None:
        """Ban whoever a verdict refuses, if its rule says so; `now` is the store's time in seconds since the epoch."""
        finding = verdict.deciding
        if verdict.reason is not Reason.OVER_LIMIT or finding is None or not policy.rule(verdict.rule).hold_seconds:
            return
        if verdict.action is not policy.rule(verdict.rule).action:
            return  # milder than the rule, because what it rests on is not sure
        if verdict.local or finding.entity in self._under_way or self._is_banned(finding.entity, now):
            return  # a share of the limit is a guess; and an operator's ban stays as it is
        if len(self._registrar.register) >= MAX_REGISTERED // 2:
            self._metrics.holds.labels(verdict.rule, "refused").inc()
            return  # the other half is for operators
        if len(self._tasks) < MOST_AT_ONCE:
            self._under_way.add(finding.entity)
            task = asyncio.create_task(self._hold(policy.rule(verdict.rule), finding, now), name="hold")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await asyncio.wait({task}, timeout=WAIT_SECONDS)

    async def _hold(self, rule: Rule, finding: Finding, now: float) -> None:
        try:
            ban = held(rule, finding, now)
            await self._registrar.put(ban, wide=True)  # who wrote the rule has said whom it counts
        except ConfigError as error:
            self._metrics.holds.labels(rule.name, "refused").inc()
            log.debug("not held by %s: %s", rule.name, error)
        except StoreError as error:  # the rule refuses him meanwhile, and tries again
            self._metrics.store_failures.labels("hold", type(error).__name__).inc()
        else:
            self._metrics.holds.labels(rule.name, "held").inc()
            who = finding.entity
            log.warning("held for %.0f s: %s; to let go: reputon release %s", rule.hold_seconds, ban.reason, who)
        finally:
            self._under_way.discard(finding.entity)

    def _is_banned(self, entity: Entity, now: float) -> bool:
        return any(isinstance(entry, Ban) for entry in self._registrar.register.about(entity, now))


def words_of_hold(policy: Policy, ban: Ban, stage: Stage) -> str:
    """What the rule that holds somebody says, as far as that can be said again; empty where there is nothing to say.

    Before the greeting a client hears no other code than that stage's.
    """
    rule = policy.named.get(ban.author.removeprefix(HELD_BY)) if ban.author.startswith(HELD_BY) else None
    if rule is None or "{" in rule.reply:
        return ""
    return _CODES.sub("", rule.reply) if stage is Stage.CONNECT else rule.reply


def held(rule: Rule, finding: Finding, now: float) -> Ban:
    """The ban of whom a finding is about, from `now` on, in seconds since the epoch of the store.

    Raises `ConfigError` for what cannot be banned.
    """
    reason = f"{finding.entity} has {finding.reading.count} {finding.metric} of {finding.limit} allowed by {rule.name}"
    return Ban(
        target=finding.entity,
        action=rule.action,
        author=HELD_BY + rule.name,
        reason=reason[:MAX_REASON_LENGTH],
        created_at=now,
        expires_at=now + rule.hold_seconds,
    )
