"""Lists under a register: it makes no difference where an entry comes from, but for who wins where both have one."""

from ipaddress import IPv6Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.entries import MAX_AUTHOR_LENGTH, Entry, Judging, Listing, Network, spelled
from reputation.events import ClientAddress
from reputation.keys import Dimension, Entities, Entity, parse_entity
from reputation.list_lines import Reader
from reputation.lists import NO_LISTS, Lists, Reading, Source
from reputation.register import UNKNOWN, Register
from reputation.spelling import network_id
from tests.entries_for_tests import SPELLING, ban, listing, networks, target

CLIENT = ip_address("192.0.2.7")
NOW = 1_000.0
IDS = ("sender:alice@example.com", "sender_domain:example.com", "user:alice", "recipient:bob@example.net")
COMBINED = "recipient+sender:bob@example.net,alice@example.com"


def entities(*texts: str) -> Entities:
    parsed = [parse_entity(text, SPELLING) for text in texts]
    return {Dimension(entity.dimension): entity for entity in parsed}


ALICE = entities(*IDS)


def reading(name: str, *lines: str, file: str = "lists/some.txt") -> Reading:
    reader = Reader(Source(list=name, of="ip", file=file), SPELLING)
    for number, line in enumerate(lines, 1):
        reader.take(line, number)
    assert reader.mistakes == []
    return reader.reading(60.0)


def register(*readings: Reading, entries: tuple[Entry, ...] = (), never_ban: tuple[str, ...] = ()) -> Register:
    return Register.of(entries, [target(text) for text in never_ban]).over(Lists(readings))


def ids(*entries: Judging | None) -> list[str]:
    return [entry.id for entry in entries if entry is not None]


# Alone


def test_what_is_on_a_list_is_an_entry_that_says_where_it_comes_from() -> None:
    lists = register(reading("vip", "192.0.2.0/24  # the branch in Turin", "user:alice"))
    assert lists.standing(ALICE, CLIENT, NOW).lists == {"vip"}
    (entry,) = lists.about(Entity("ip", "192.0.2.7"), NOW)
    assert entry == Listing(
        target=target("ip:192.0.2.0/24"),
        list="vip",
        author="lists/some.txt",
        reason="the branch in Turin",
        created_at=60.0,
        expires_at=None,
    )
    assert [each.id for each in lists.about(Entity("user", "alice"), NOW)] == ["list|vip|user:alice"]
    assert lists.standing_of(Entity("user", "alice"), NOW).lists == {"vip"}


def test_allow_and_block_act_by_themselves() -> None:
    blocked = register(reading("block", "192.0.2.0/24"), reading("allow", "user:alice")).standing(ALICE, CLIENT, NOW)
    assert ids(blocked.ban, blocked.allow) == ["list|block|ip:192.0.2.0/24"]
    allowed = register(reading("allow", "192.0.2.0/24"), reading("vip", "user:alice")).standing(ALICE, CLIENT, NOW)
    assert ids(allowed.ban, allowed.allow) == ["list|allow|ip:192.0.2.0/24"]
    assert allowed.lists == {"allow", "vip"}


def test_a_combination_is_found_by_all_its_parts() -> None:
    refused = register(reading("refused", COMBINED))
    assert refused.standing(ALICE, CLIENT, NOW).lists == {"refused"}
    other = {**ALICE, Dimension.SENDER: Entity("sender", "carol@example.com")}
    assert refused.standing(other, CLIENT, NOW) is UNKNOWN
    assert refused.standing({Dimension.SENDER: ALICE[Dimension.SENDER]}, CLIENT, NOW) is UNKNOWN


def test_of_two_sources_of_one_list_the_first_signs() -> None:
    lists = register(reading("vip", "192.0.2.7", file="a"), reading("vip", "192.0.2.7", "192.0.2.8", file="b"))
    (entry,) = lists.about(Entity("ip", "192.0.2.7"), NOW)
    assert entry.author == "a"


def test_without_lists_nothing_is_asked() -> None:
    assert (NO_LISTS.empty, NO_LISTS.size, Lists([reading("vip")]).empty) == (True, 0, True)
    assert register(reading("vip")).standing(ALICE, CLIENT, NOW) is UNKNOWN


@pytest.mark.parametrize("path", ["a.txt", "lists/" + "x" * 200 + "/vip.txt", "lists/\x07.txt", "y" * 100, "z" * 101])
def test_every_path_can_sign(path: str) -> None:
    (entry,) = register(reading("vip", "192.0.2.7", file=path)).about(Entity("ip", "192.0.2.7"), NOW)
    assert len(entry.author) <= MAX_AUTHOR_LENGTH
    assert entry.author[-3:] == path[-3:]


# Under operators


def test_an_operator_s_entry_of_the_same_id_wins_while_it_lasts() -> None:
    lists = Lists([reading("vip", "192.0.2.7")])
    mine = listing("vip", "ip:192.0.2.7", expires_at=NOW)
    over = Register.of([mine]).over(lists)
    assert over.about(Entity("ip", "192.0.2.7"), NOW - 1) == (mine,)
    for after in (
        over.about(Entity("ip", "192.0.2.7"), NOW),
        over.changed({mine.id: None}).about(Entity("ip", "192.0.2.7"), 0.0),
    ):
        assert [entry.author for entry in after] == ["lists/some.txt"]


def test_the_longest_prefix_wins_whoever_has_put_it_down() -> None:
    over = register(reading("allow", "192.0.2.7"), entries=(ban("ip:192.0.2.0/24"),))
    assert ids(over.standing({}, CLIENT, NOW).allow) == ["list|allow|ip:192.0.2.7"]
    over = register(reading("allow", "192.0.2.0/24"), entries=(ban("ip:192.0.2.7"),))
    assert ids(over.standing({}, CLIENT, NOW).ban) == ["ban|ip:192.0.2.7"]
    over = register(reading("allow", "192.0.2.7"), reading("block", "192.0.2.0/25"), entries=(ban("ip:192.0.2.7"),))
    assert ids(over.standing({}, CLIENT, NOW).ban) == ["ban|ip:192.0.2.7"], "at the same length a ban"


def test_a_list_blocks_nothing_that_is_never_banned() -> None:
    blocked = reading("block", "192.0.2.0/24", "sender:alice@example.com")
    over = register(blocked, never_ban=("ip:192.0.2.7", "sender_domain:example.com"))
    assert over.standing(ALICE, CLIENT, NOW).ban is None
    assert ids(over.standing(ALICE, ip_address("192.0.2.8"), NOW).ban) == ["list|block|ip:192.0.2.0/24"]


def test_changes_of_the_register_leave_the_lists_and_the_other_way_round() -> None:
    over = register(reading("vip", "192.0.2.7"), entries=(ban("user:bob"),)).changed({"x": ban("user:eve")})
    assert over.standing({}, CLIENT, NOW).lists == {"vip"}
    assert over.over(NO_LISTS).standing({}, CLIENT, NOW) is UNKNOWN
    assert len(over) == len(over.over(NO_LISTS)) == 2
    assert over.has_overrides is False


# It makes no difference where an entry comes from

LISTINGS = st.builds(
    listing,
    st.sampled_from(["allow", "block", "vip", "other"]),
    st.sampled_from([*IDS, COMBINED]) | networks().map(spelled),
)
ENTRIES = st.one_of(
    LISTINGS,
    st.builds(ban, st.sampled_from([*IDS, COMBINED]) | networks().map(spelled)),
    st.builds(lambda text: ban(text, expires_at=NOW - 1), networks().map(spelled)),
)
PROTECTED = st.lists(st.sampled_from(IDS) | networks().map(spelled), max_size=2)


@given(
    st.lists(LISTINGS, max_size=8),
    st.lists(ENTRIES, max_size=4, unique_by=lambda entry: entry.id),
    PROTECTED,
    networks().map(lambda network: network.network_address),
)
def test_lists_under_a_register_decide_as_if_operators_had_put_them_down(
    listed: list[Listing], entries: list[Judging], protected: list[str], client: ClientAddress
) -> None:
    never_ban = [target(text) for text in protected]
    readings = [reading(each.list, spelled(each.target)) for each in listed if _may_be_listed(each)]
    listed = [each for each in listed if _may_be_listed(each)]
    over = Register.of(entries, never_ban).over(Lists(readings))
    alike = Register.of([*listed, *(each for each in entries if each.in_force(NOW))], never_ban)
    one, other = over.standing(ALICE, client, NOW), alike.standing(ALICE, client, NOW)
    assert (ids(one.ban, one.allow), one.lists) == (ids(other.ban, other.allow), other.lists)
    for entity in (*ALICE.values(), Entity("ip", network_id(client, v4=32, v6=64))):
        assert {each.id for each in over.about(entity, NOW)} == {each.id for each in alike.about(entity, NOW)}
        assert over.standing_of(entity, NOW).lists == alike.standing_of(entity, NOW).lists


def _may_be_listed(entry: Listing) -> bool:
    """Whether no reader takes it for a slip."""
    if entry.list != "block" or isinstance(entry.target, Entity):
        return True
    network: Network = entry.target
    return network.prefixlen >= (16 if isinstance(network, IPv6Network) else 8)
