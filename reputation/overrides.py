"""Overrides of a rule's limits: whether one can apply, and what the store is asked where it does. Pure.

The override takes the place of the rule's limits, and leaves all else of the rule. The count goes on where both have a
limit for the same window. A window that only one of them has is counted while that one is in force, so it begins empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

from reputation.charges import Charge, Kind, Meter, Plan
from reputation.entries import Override, Target, spelled
from reputation.errors import ConfigError
from reputation.keys import Dimension, Entity
from reputation.policy import Policy
from reputation.register import Register
from reputation.rules import LEASE, Rule
from reputation.windows import Limit

COUNTED_BY: Mapping[tuple[Dimension, ...], Mapping[int, int]] = {
    (Dimension.IP,): {4: 32, 6: 64},
    (Dimension.PREFIX,): {4: 24, 6: 48},
}
"""Key of a rule -> IP version -> length of the prefix that it counts (`reputation.keys.entities_of`)."""

CACHED_PLANS = 4_096


def check_override(override: Override, policy: Policy) -> None:
    """Raise `ConfigError` for an override that could never apply, or whose limits its rule could not have."""
    try:
        rule = policy.rule(override.rule)
    except KeyError:
        known = ", ".join(rule.name for rule in policy.rules) or "none"
        raise ConfigError(f'rule: there is no rule "{override.rule}"; there are: {known}') from None
    _check_target(override.target, rule)
    if rule.kind is Kind.LEASES and any(limit.window != LEASE for limit in override.limits):
        raise ConfigError(f'limits: rule "{rule.name}" counts sessions that are open now: one limit, of {LEASE}')
    try:
        replace(rule, limits=override.limits)
    except ConfigError as error:
        raise ConfigError(f'rule "{rule.name}": {error}') from None


def _check_target(target: Target, rule: Rule) -> None:
    counted = "+".join(rule.key)
    if isinstance(target, Entity):
        if target.dimension != counted:
            raise ConfigError(f'target: rule "{rule.name}" counts by {counted}, not by {target.dimension}')
        return
    if rule.key not in COUNTED_BY:
        raise ConfigError(f'target: rule "{rule.name}" counts by {counted}, not by networks')
    longest = COUNTED_BY[rule.key][target.version]
    if target.prefixlen > longest:
        counted_in = spelled(target.supernet(new_prefix=longest))
        raise ConfigError(f'target: rule "{rule.name}" counts by /{longest}: type "{counted_in}"')


def overridden(charges: Sequence[Charge], register: Register, now: float) -> tuple[Charge, ...]:
    """The charges with the limits that are in force for each of them."""
    return tuple(_overridden(charge, register, now) if charge.plan.scoped else charge for charge in charges)


def _overridden(charge: Charge, register: Register, now: float) -> Charge:
    entity = charge.key.entity
    found = [register.override_of(meter.scope, entity, now) for meter in charge.plan.meters if meter.scope]
    limits = tuple((override.rule, override.limits) for override in found if override is not None)
    return charge._replace(plan=_plan(charge.plan, limits)) if limits else charge


@lru_cache(maxsize=CACHED_PLANS)
def _plan(plan: Plan, overrides: tuple[tuple[str, tuple[Limit, ...]], ...]) -> Plan:
    limits = dict(overrides)
    meters = [_meter(meter, limits[meter.scope]) if meter.scope in limits else meter for meter in plan.meters]
    return Plan(tuple(meters), plan.kind)


def _meter(meter: Meter, limits: tuple[Limit, ...]) -> Meter:
    """Outcomes are charged to meters without limits; what was learned must be in the windows that are read."""
    windows = tuple(limit.window for limit in limits)
    return replace(meter, windows=windows, limits=limits if meter.limits else ())
