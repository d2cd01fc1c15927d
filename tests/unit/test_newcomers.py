"""How many new names a network may bring that are remembered."""

from reputation.keys import Dimension, Entities, Entity
from reputation.newcomers import MAX_NETWORKS, MOST, SECONDS, Newcomers


def of(network: str) -> Entities:
    return {Dimension.PREFIX: Entity("prefix", network)}


def test_a_network_brings_so_many_in_an_hour_and_others_are_not_concerned() -> None:
    newcomers = Newcomers()
    newcomers.of(of("192.0.2.0/24"), 10.0).count += MOST
    assert not newcomers.of(of("192.0.2.0/24"), SECONDS - 1).welcome
    assert newcomers.of(of("198.51.100.0/24"), 10.0).welcome
    assert newcomers.of(of("192.0.2.0/24"), SECONDS).welcome


def test_networks_without_number_are_not_remembered_for_ever() -> None:
    newcomers = Newcomers()
    for number in range(MAX_NETWORKS + 1):
        newcomers.of(of(str(number)), 10.0)
    assert len(newcomers._networks) <= MAX_NETWORKS
