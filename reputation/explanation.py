"""What an operator is told about one entity: counts, rules, what is put down, and its reputation with its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from reputation.bookkeeping import SITE
from reputation.contracts import Lookups, Series, Store
from reputation.entries import Entry, domain_of
from reputation.errors import StoreUnavailable
from reputation.inquiry import JUDGED, UNKNOWN_BASE, Inquiry, charges_of, evidence_in, levels_to
from reputation.keys import Dimension, Entities, Entity
from reputation.score import Evidence
from reputation.spelling import network_id
from reputation.standing import Standing, base_rate, standing_of
from reputation.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known about an entity, and what its next event would get."""

    entity: Entity
    verdict: Verdict
    series: tuple[Series, ...]
    reputation: Standing | None = None
    """With all levels that it rests on; None for who has none, such as recipients."""
    entries: tuple[Entry, ...] = ()
    """Of the register: about the entity, the networks around it, and its domain."""
    conditions: Mapping[str, str] = field(default_factory=dict)
    """Rule -> which events it is about, of those that are not about all; asked as if it were about the next one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grounds:
    """What a reputation rests on."""

    levels: tuple[tuple[Entity, Evidence], ...]
    """Those that contain the entity, the broadest first, and itself; as far as they are known."""
    site: Evidence | None
    """Of all mail; None where the store did not say."""
    missing: int = 0
    """Of how many the store did not say anything, as a cluster of which a part is away."""


async def grounds_of(entity: Entity, store: Store, lookups: Lookups) -> Grounds | None:
    """What the reputation of an entity rests on; None for who has none, such as recipients.

    Raises `StoreError` when the store does not answer about all of it: what is not told is not nothing.
    """
    grounds = await _told(entity, store, lookups)
    if grounds is not None and grounds.missing:
        raise StoreUnavailable(f"no answer about the evidence of {grounds.missing} of those around {entity}")
    return grounds


async def _told(entity: Entity, store: Store, lookups: Lookups) -> Grounds | None:
    """As much of the grounds as the store tells."""
    if entity.dimension not in JUDGED:
        return None
    dimension, around = Dimension(entity.dimension), _around(entity, lookups)
    answer = await store.decide(charges_of(Inquiry(scores=frozenset({dimension})), around, with_site=True))
    told = evidence_in(answer)
    found = [around.get(Dimension(name)) for name in levels_to(dimension)]
    return Grounds(
        levels=tuple((each, told[each]) for each in found if each is not None and each in told),
        site=told.get(SITE),
        missing=len(answer.missing),
    )


async def reputation_of(entity: Entity, store: Store, lookups: Lookups) -> Standing | None:
    """The standing of an entity, through the levels around it. Raises `StoreError`."""
    grounds = await _told(entity, store, lookups)
    if grounds is None:
        return None
    return standing_of(grounds.levels, UNKNOWN_BASE if grounds.site is None else base_rate(grounds.site))


def _around(entity: Entity, lookups: Lookups) -> Entities:
    """The entity, and those that contain it."""
    dimension = Dimension(entity.dimension)
    found = {dimension: entity}
    if dimension in (Dimension.IP, Dimension.PREFIX):
        client = ip_network(entity.id).network_address
        found[Dimension.PREFIX] = Entity(Dimension.PREFIX, network_id(client, v4=24, v6=48))
        if (network := lookups.network(client)).asn:
            found[Dimension.ASN] = Entity(Dimension.ASN, str(network.asn))
    if isinstance(domain := domain_of(entity), Entity):
        found[Dimension(domain.dimension)] = domain
    return found
