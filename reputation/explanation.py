"""What an operator is told about one entity: counts, rules, what is put down, and its reputation with its inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from reputation.contracts import Lookups, Series, Store
from reputation.entries import Entry, domain_of
from reputation.inquiry import JUDGED, UNKNOWN_BASE, Inquiry, base_of, charges_of, evidence_in, standing_of_entity
from reputation.keys import Dimension, Entities, Entity
from reputation.spelling import network_id
from reputation.standing import Standing
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


async def reputation_of(entity: Entity, store: Store, lookups: Lookups) -> Standing | None:
    """The standing of an entity, through the levels around it. Raises `StoreError`."""
    if entity.dimension not in JUDGED:
        return None
    dimension, around = Dimension(entity.dimension), _around(entity, lookups)
    answer = await store.decide(charges_of(Inquiry(scores=frozenset({dimension})), around, with_site=True))
    base = base_of(answer)
    return standing_of_entity(dimension, around, evidence_in(answer), UNKNOWN_BASE if base is None else base)


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
