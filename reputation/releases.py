"""Letting go of somebody whom a rule holds, or an operator has banned, so that he stays free.

The ban is lifted. The counts that led to it would still be full, and the next message would be held again; so whoever
was held by a rule gets a fresh allowance on top of them: an override of that rule's limits, until its longest window is
over::

    rule 50/1h, 200/24h     held with 50 in the hour and 80 in the day
    released                100/1h, 280/24h for a day

Where an operator has given him other limits for that rule, those stay as they are, and nothing is put on top.
"""

from collections.abc import Sequence
from contextlib import suppress

from reputation.charges import Kind
from reputation.engine import Engine
from reputation.entries import Ban, Override, Target, spelled, target_of
from reputation.errors import ConfigError, NothingThere
from reputation.holds import HELD_BY
from reputation.keys import Dimension, Entity
from reputation.rules import MAX_DISTINCT, Rule
from reputation.spelling import network_id
from reputation.verdict import Finding
from reputation.windows import Limit


async def released(engine: Engine, target: Target, *, author: str, reason: str, now: float) -> list[Ban]:
    """Lift the bans of exactly this target, and give a fresh allowance; the bans that were lifted.

    `now` is the store's time in seconds since the epoch. Raises `NothingThere` where nothing bans it, `StoreError` when
    the store does not answer.
    """
    target, registrar = target_of(target), engine.registrar
    entity = _counted(target)
    bans = [each for each in registrar.register.entries if isinstance(each, Ban) and each.target == target]
    bans = [ban for ban in bans if ban.in_force(now)]
    if not bans:
        raise NothingThere(f"{spelled(target)} is not banned; `reputon explain {spelled(target)}` shows how it stands")
    for ban in bans:
        # The allowance first: a message between the two would be over the limit, and hold him again.
        for rule in engine.policy.rules:
            if not rule.limited:  # it has none any more that somebody could be over
                continue
            if ban.author == HELD_BY + rule.name and registrar.register.override_of(rule.name, entity, now) is None:
                with suppress(ConfigError):  # the rule counts something else now, so there is no need for it
                    await registrar.put(await _allowance(engine, rule, target, author=author, reason=reason, now=now))
        await registrar.lift(ban.id, author=author, reason=reason)
    return bans


async def _allowance(engine: Engine, rule: Rule, target: Target, *, author: str, reason: str, now: float) -> Override:
    findings = (await engine.explain(_counted(target))).verdict.findings
    limits = fresh_limits(rule, [found for found in findings if found.rule == rule.name])
    return Override(
        target=target,
        author=author,
        reason=reason,
        created_at=now,
        expires_at=now + max(limit.window.seconds for limit in limits),
        rule=rule.name,
        limits=limits,
    )


def fresh_limits(rule: Rule, findings: Sequence[Finding]) -> tuple[Limit, ...]:
    """The limits of a rule on top of what is counted now."""
    counted = {found.reading.window: found.reading.count for found in findings}
    most = MAX_DISTINCT if rule.kind is Kind.DISTINCT else None
    limits = []
    for limit in rule.limits:
        count = limit.count + counted.get(limit.window, 0)
        limits.append(Limit(min(count, most) if most else count, limit.window))
    return tuple(limits)


def _counted(target: Target) -> Entity:
    """The entity that rules count for a target."""
    if isinstance(target, Entity):
        return target
    wide = target.prefixlen in (24, 48)
    v4, v6 = (24, 48) if wide else (32, 64)
    return Entity(Dimension.PREFIX if wide else Dimension.IP, network_id(target.network_address, v4=v4, v6=v6))
