"""Who wins when entries disagree, and that a register is the same however it came about."""

from ipaddress import IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.entries import (
    Ban,
    Entry,
    Judging,
    Listing,
    Network,
    Target,
    check_ban,
    refuses,
    spelled,
    target_of,
)
from reputation.errors import ConfigError
from reputation.events import ClientAddress, Stage
from reputation.keys import Dimension, Entities, Entity, composite, parse_entity
from reputation.register import UNKNOWN, Register, Standing
from reputation.spelling import network_id
from reputation.verdict import Action, Reason, Verdict
from reputation.windows import Limit
from tests.entries_for_tests import RULE, SPELLING, ban, listing, networks, override, target

CLIENT = ip_address("192.0.2.7")
NOW = 1_000.0


def entities(*texts: str) -> Entities:
    parsed = [parse_entity(text, SPELLING) for text in texts]
    return {Dimension(entity.dimension): entity for entity in parsed}


ALICE = entities("sender:alice@example.com", "sender_domain:example.com", "user:alice", "recipient:bob@example.net")


def standing(*entries: Entry, client: ClientAddress = CLIENT, of: Entities = ALICE, now: float = NOW) -> Standing:
    return Register.of(entries).standing(of, client, now)


# Standing


def test_nothing_is_known_of_who_is_not_in_the_register() -> None:
    assert standing() is UNKNOWN
    assert standing(ban("user:mallory"), ban("ip:198.51.100.0/24"), override("user:alice")) is UNKNOWN
    assert Standing() == UNKNOWN


@pytest.mark.parametrize(
    "text",
    [
        *("ip:192.0.2.7", "ip:192.0.2.0/24", "ip:192.0.0.0/22", "ip:0.0.0.0/0"),
        *("sender:alice@example.com", "sender_domain:example.com", "user:alice", "recipient:bob@example.net"),
        *("user+recipient:alice,bob@example.net", "sender+ip:alice@example.com,192.0.2.7"),
    ],
)
def test_a_ban_of_anything_about_the_event_refuses_it(text: str) -> None:
    about = {**ALICE, Dimension.IP: Entity("ip", "192.0.2.7"), Dimension.PREFIX: Entity("prefix", "192.0.2.0/24")}
    assert standing(ban(text), of=about) == Standing(ban=ban(text))
    assert standing(listing("block", text), of=about).ban == listing("block", text)
    allow = listing("allow", text)
    assert standing(allow, of=about) == Standing(allow=allow, lists=frozenset({"allow"}))


def test_a_client_is_looked_up_by_its_own_address() -> None:
    for client in ("192.0.2.7", "::ffff:192.0.2.7"):
        assert standing(ban("ip:192.0.2.7"), client=ip_address(client)).ban
    assert standing(ban("ip:2001:db8::7"), client=ip_address("2001:db8::7")).ban
    assert standing(ban("ip:2001:db8::7"), client=ip_address("2001:db8::8")) is UNKNOWN
    assert standing(ban("ip:::/0"), client=CLIENT) is UNKNOWN, "an IPv4 client is in no IPv6 network"


def test_the_longest_prefix_wins() -> None:
    lifted: list[Judging] = [ban("ip:192.0.2.0/24"), listing("allow", "ip:192.0.2.7")]
    assert standing(*lifted) == Standing(allow=lifted[1], lists=frozenset({"allow"}))
    assert standing(*lifted, client=ip_address("192.0.2.8")).ban == lifted[0]
    picked: list[Judging] = [listing("allow", "ip:192.0.2.0/24"), ban("ip:192.0.2.7")]
    assert standing(*picked) == Standing(ban=picked[1], lists=frozenset({"allow"}))
    assert standing(*picked, client=ip_address("192.0.2.8")).allow == picked[0]


def test_at_the_same_length_a_ban_wins() -> None:
    for target_text in ("ip:192.0.2.0/24", "user:alice"):
        both: list[Judging] = [listing("allow", target_text), listing("block", target_text)]
        assert standing(*both).ban == both[1]
        assert not standing(*both).allow
        assert standing(*both, ban(target_text)).ban == ban(target_text), "it says what to do"


def test_across_dimensions_whatever_refuses_wins() -> None:
    forged = standing(ban("ip:192.0.2.0/24"), listing("allow", "sender:alice@example.com"))
    assert (forged.ban, forged.allow) == (ban("ip:192.0.2.0/24"), None)
    stolen = standing(listing("allow", "ip:192.0.2.7"), listing("block", "user:alice"))
    assert (stolen.ban, stolen.allow) == (listing("block", "user:alice"), None)
    assert standing(ban("sender_domain:example.com"), listing("allow", "sender:alice@example.com")).ban


def test_the_strictest_of_several_refusals_wins() -> None:
    mild, strict = ban("ip:192.0.2.7", Action.TEMPFAIL), ban("user:alice", Action.DISCARD)
    assert standing(mild, strict).ban == strict
    assert standing(mild, strict, listing("block", "sender:alice@example.com")).ban != strict


def test_all_lists_are_told_and_those_of_rules_decide_nothing() -> None:
    several = [listing("vip", "ip:192.0.2.7"), listing("partners", "ip:192.0.0.0/16"), listing("slow", "user:alice")]
    assert standing(*several) == Standing(lists=frozenset({"vip", "partners", "slow"}))
    assert standing(*several, ban("ip:192.0.2.0/24")).ban == ban("ip:192.0.2.0/24")
    assert standing(*several, listing("vip", "user:mallory")).lists == {"vip", "partners", "slow"}


def test_what_is_over_counts_as_absent() -> None:
    stored: list[Judging] = [
        ban("ip:192.0.2.0/24"),
        listing("allow", "ip:192.0.2.7", expires_at=NOW),
        ban("user:x", expires_at=1.0),
    ]
    assert standing(*stored, now=NOW - 0.001).allow == stored[1]
    assert standing(*stored, now=NOW) == Standing(ban=stored[0])
    assert standing(ban("user:alice", expires_at=NOW), listing("vip", "user:alice", expires_at=NOW), now=NOW) is UNKNOWN


@pytest.mark.parametrize(
    ("never", "stored"),
    [
        ("ip:192.0.2.7", "ip:192.0.2.7"),
        ("ip:192.0.2.7", "ip:192.0.0.0/16"),
        ("ip:192.0.0.0/16", "ip:192.0.2.7"),
        ("user:alice", "user:alice"),
        ("sender:alice@example.com", "sender:alice@example.com"),
        ("sender_domain:example.com", "sender:alice@example.com"),
        ("sender:alice@example.com", "sender_domain:example.com"),
        ("recipient:bob@example.net", "recipient:bob@example.net"),
    ],
)
def test_a_stored_ban_of_what_is_never_banned_is_void(never: str, stored: str) -> None:
    void: list[Judging] = [ban(stored), listing("block", stored)]
    assert Register.of(void, [target(never)]).standing(ALICE, CLIENT, NOW) is UNKNOWN
    allow = listing("allow", stored)
    both = Register.of([*void, allow, ban("user:mallory")], [target(never)])
    assert both.standing(ALICE, CLIENT, NOW) == Standing(allow=allow, lists=frozenset({"allow"}))


def test_never_ban_protects_in_its_own_dimension() -> None:
    register = Register.of([ban("user:alice"), ban("ip:192.0.2.0/24")], [target("ip:192.0.2.7")])
    assert register.standing(ALICE, CLIENT, NOW).ban == ban("user:alice")
    assert register.standing({}, ip_address("192.0.2.8"), NOW).ban == ban("ip:192.0.2.0/24")


RELAYED = entities(
    *(
        "ip:192.0.2.7",
        "prefix:192.0.2.0/24",
        "asn:64500",
        "country:DE",
        "rdns_domain:example.org",
        "helo:mx.example.org",
    ),
    *("sender:alice@example.com", "sender_domain:example.com", "recipient:bob@example.net", "user:alice"),
    "class:inbound",
)


@pytest.mark.parametrize(
    "stored",
    [
        *("ip:192.0.2.7", "asn:64500", "country:DE", "rdns_domain:example.org", "helo:mx.example.org"),
        *("ip+sender:192.0.2.7,alice@example.com", "sender+helo:alice@example.com,mx.example.org"),
        *("user+asn:alice,64500", "country+class:DE,inbound"),
    ],
)
def test_a_client_that_is_never_banned_is_refused_for_nothing_that_says_who_he_is(stored: str) -> None:
    refusals: list[Judging] = [ban(stored), listing("block", stored)]
    assert Register.of(refusals, [target("ip:192.0.2.7")]).standing(RELAYED, CLIENT, NOW) is UNKNOWN
    assert Register.of(refusals, [target("ip:192.0.2.8")]).standing(RELAYED, CLIENT, NOW).ban == ban(stored)


def test_a_client_that_is_never_banned_is_not_refused_by_a_combination_of_which_only_a_hash_is_left() -> None:
    long = entities("helo:" + "x" * 200, "sender:" + "y" * 250 + "@example.com")
    both = composite(long, [Dimension.HELO, Dimension.SENDER])
    assert both is not None
    assert both.id.startswith("~")
    refused = ban(str(both))
    assert Register.of([refused]).standing(long, CLIENT, NOW).ban == refused
    assert Register.of([refused], [target("ip:192.0.2.7")]).standing(long, CLIENT, NOW) is UNKNOWN


@pytest.mark.parametrize(
    "stored",
    [
        *("sender:alice@example.com", "sender_domain:example.com", "user:alice", "recipient:bob@example.net"),
        *("user+recipient:alice,bob@example.net", "class:inbound"),
    ],
)
def test_who_sends_through_a_relay_of_ours_is_refused_by_his_own_name(stored: str) -> None:
    register = Register.of([ban(stored)], [target("ip:192.0.2.7")])
    assert register.standing(RELAYED, CLIENT, NOW).ban == ban(stored)


@pytest.mark.parametrize(
    ("never", "stored"),
    [
        ("user:alice", "user+recipient:alice,bob@example.net"),
        ("sender_domain:example.com", "sender+recipient:alice@example.com,bob@example.net"),
        ("sender:alice@example.com", "ip+sender_domain:192.0.2.7,example.com"),
        ("user+recipient:alice,bob@example.net", "user+recipient:alice,bob@example.net"),
    ],
)
def test_what_is_never_banned_protects_what_it_is_joined_in(never: str, stored: str) -> None:
    assert Register.of([ban(stored)], [target(never)]).standing(RELAYED, CLIENT, NOW) is UNKNOWN
    assert Register.of([ban(stored)]).standing(RELAYED, CLIENT, NOW).ban == ban(stored)


def test_what_is_never_banned_protects_what_it_is_joined_in_for_whoever_asks() -> None:
    stored = parse_entity("ip+sender:192.0.2.7,alice@example.com", SPELLING)
    for never in ("ip:192.0.2.0/24", "sender:alice@example.com", "sender_domain:example.com"):
        assert Register.of([ban(str(stored))], [target(never)]).standing_of(stored, NOW) is UNKNOWN
    assert Register.of([ban(str(stored))]).standing_of(stored, NOW).ban == ban(str(stored))


def test_an_exemption_of_a_client_that_is_never_banned_counts() -> None:
    allow = listing("allow", "helo:mx.example.org")
    register = Register.of([allow, ban("asn:64500")], [target("ip:192.0.2.7")])
    assert register.standing(RELAYED, CLIENT, NOW).allow == allow


def test_loopback_is_never_refused() -> None:
    everything = [ban("ip:0.0.0.0/0"), ban("ip:::/0")]
    for client in ("127.0.0.1", "127.8.8.8", "::1"):
        assert standing(*everything, client=ip_address(client)) is UNKNOWN
    assert standing(*everything, client=ip_address("2001:db8::1")).ban == everything[1]


# What a ban means


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ip:192.0.2.7", "Client host rejected: "),
        ("sender_domain:example.com", "Sender address rejected: "),
        ("recipient:bob@example.net", "Recipient address rejected: "),
        ("helo:mx.example.com", "Helo command rejected: "),
        ("user:alice", ""),
        ("user+ip:alice,192.0.2.7", ""),
    ],
)
def test_the_client_hears_what_is_refused_and_never_why(text: str, words: str) -> None:
    for action, answer in ((Action.REJECT, "Access denied"), (Action.TEMPFAIL, "Try again later")):
        verdict = Standing(ban=ban(text, action)).refusal_at(Stage.RCPT)
        assert verdict == Verdict(
            action=action, reason=Reason.BANNED, entry=f"ban|{spelled(target(text))}", reply=words + answer
        )


def test_the_blocklist_rejects_and_says_so() -> None:
    verdict = Standing(ban=listing("block", "user:alice")).refusal_at(Stage.MAIL)
    assert verdict is not None
    assert (verdict.action, verdict.reason) == (Action.REJECT, Reason.BLOCKLISTED)
    assert verdict.entry == "list|block|user:alice"


@pytest.mark.parametrize("stage", Stage)
def test_each_ban_at_each_stage(stage: Stage) -> None:
    for action in (Action.REJECT, Action.TEMPFAIL, Action.DISCARD):
        verdict = Standing(ban=ban("ip:192.0.2.7", action)).refusal_at(stage)
        nothing_yet = action is Action.DISCARD and stage in (Stage.CONNECT, Stage.HELO, Stage.AUTH)
        passes = stage is Stage.DISCONNECT or nothing_yet
        assert (verdict.action if verdict else None) == (None if passes else action)


def test_who_is_not_banned_is_not_refused() -> None:
    assert UNKNOWN.refusal_at(Stage.MAIL) is None
    assert Standing(allow=listing("allow", "user:alice")).refusal_at(Stage.MAIL) is None


# One entity


def test_all_that_is_in_force_about_an_entity_is_told() -> None:
    own, domain, of_rule = (
        ban("sender:alice@example.com"),
        listing("vip", "sender_domain:example.com"),
        override("user:bob"),
    )
    wide, narrow = ban("ip:192.0.0.0/16"), listing("allow", "ip:192.0.2.7")
    ended, other = ban("ip:192.0.2.7", expires_at=NOW), override("ip:192.0.2.0/24", rule="other")
    register = Register.of([own, domain, of_rule, wide, narrow, ended, other])
    assert register.about(Entity("sender", "alice@example.com"), NOW) == (own, domain)
    assert register.about(Entity("ip", "192.0.2.7"), NOW) == (narrow, wide, other)
    assert register.about(Entity("prefix", "192.0.2.0/24"), NOW) == (wide, other)
    assert register.about(Entity("user", "bob"), NOW) == (of_rule,)
    assert register.about(Entity("user", "carol"), NOW) == ()
    assert register.standing_of(Entity("ip", "192.0.2.7"), NOW).allow == narrow
    assert register.standing_of(Entity("prefix", "192.0.2.0/24"), NOW).ban == wide
    assert Register.of([ban("sender_domain:example.com")]).standing_of(own.target, NOW).ban  # type: ignore[arg-type]  # an entity
    assert Register.of([ban("user+ip:bob,192.0.2.7")]).standing_of(Entity("user+ip", "bob,192.0.2.7"), NOW).ban


# Overrides


def test_an_override_is_for_one_rule_and_one_entity() -> None:
    register = Register.of([override("user:alice", "5/1h"), override("user:alice", "9/1h", rule="other")])
    assert register.has_overrides
    found = register.override_of(RULE, Entity("user", "alice"), NOW)
    assert found is not None
    assert found.limits == (Limit.parse("5/1h"),)
    assert register.override_of(RULE, Entity("user", "bob"), NOW) is None
    assert register.override_of(RULE, Entity("sender", "alice"), NOW) is None
    assert register.override_of("third", Entity("user", "alice"), NOW) is None
    assert register.standing(ALICE, CLIENT, NOW) is UNKNOWN


def test_an_override_may_be_for_a_combination() -> None:
    text = "user+ip:alice,192.0.2.7"
    register = Register.of([override(text)])
    assert register.override_of(RULE, parse_entity(text, SPELLING), NOW) == override(text)
    assert register.override_of(RULE, Entity("user", "alice"), NOW) is None


def test_an_override_of_a_network_is_for_each_of_its_addresses() -> None:
    wide, narrow = override("ip:192.0.0.0/16"), override("ip:192.0.2.0/24", expires_at=NOW)
    register = Register.of([wide, narrow, override("ip:2001:db8::/32")])
    for text in ("ip:192.0.2.7", "prefix:192.0.2.0/24"):
        assert register.override_of(RULE, parse_entity(text, SPELLING), NOW - 1) == narrow
        assert register.override_of(RULE, parse_entity(text, SPELLING), NOW) == wide
    assert register.override_of(RULE, parse_entity("ip:2001:db8::7", SPELLING), NOW) == override("ip:2001:db8::/32")
    assert register.override_of(RULE, parse_entity("ip:198.51.100.7", SPELLING), NOW) is None


def test_an_override_of_an_address_is_not_for_its_prefix() -> None:
    register = Register.of([override("ip:192.0.2.0")])
    assert register.override_of(RULE, Entity("prefix", "192.0.2.0/24"), NOW) is None
    assert register.override_of(RULE, Entity("ip", "192.0.2.0"), NOW) == override("ip:192.0.2.0")


def test_an_override_that_is_over_counts_as_absent() -> None:
    register = Register.of([override("user:alice", expires_at=NOW)])
    assert register.override_of(RULE, Entity("user", "alice"), NOW - 0.001)
    assert register.override_of(RULE, Entity("user", "alice"), NOW) is None


# The register as a whole


def test_the_later_of_two_with_one_id_stays_and_all_are_shown_in_order() -> None:
    old, new = ban("user:bob", Action.TEMPFAIL), ban("user:bob")
    register = Register.of([listing("vip", "user:bob"), old, override("user:bob"), new])
    assert register.entries == (new, listing("vip", "user:bob"), override("user:bob"))
    assert len(register) == 3
    assert not Register.of([new]).has_overrides


# Properties


@st.composite
def judgings(draw: st.DrawFn) -> Judging:
    network = spelled(target_of(draw(networks())))
    expires_at = draw(st.sampled_from([None, None, NOW, NOW + 1]))
    name = draw(st.sampled_from(["ban", "block", "allow", "vip"]))
    return ban(network, expires_at=expires_at) if name == "ban" else listing(name, network, expires_at=expires_at)


clients = st.one_of(
    st.sampled_from(
        ["192.0.2.7", "192.0.2.6", "192.0.3.7", "2001:db8::", "2001:db8::1", "::ffff:192.0.2.7", "127.0.0.1"]
    ).map(ip_address),
    st.ip_addresses(),
)


def naive(stored: list[Judging], client: ClientAddress, never: list[Network]) -> Standing:
    """One entry after the other, as the manual page says it."""
    address = getattr(client, "ipv4_mapped", None) or client
    protected = any(address in network for network in never)
    best: tuple[int, int] = (-1, 0)
    winner: Judging | None = None
    lists = set()
    for entry in {entry.id: entry for entry in stored}.values():
        assert not isinstance(entry.target, Entity)
        over = entry.expires_at is not None and entry.expires_at <= NOW
        if over or address not in entry.target or (protected and refuses(entry)):
            continue
        if isinstance(entry, Listing):
            lists.add(entry.list)
            if entry.list == "vip":
                continue
        strength = 2 if isinstance(entry, Ban) else int(entry.list == "block")
        if (entry.target.prefixlen, strength) > best:
            best, winner = (entry.target.prefixlen, strength), entry
    if winner is None:
        return Standing(lists=frozenset(lists))
    refused = refuses(winner)
    return Standing(ban=winner if refused else None, allow=None if refused else winner, lists=frozenset(lists))


@given(st.lists(judgings(), max_size=12), clients, st.lists(networks().map(target_of), max_size=2))
def test_networks_are_matched_as_by_trying_each(
    stored: list[Judging], client: ClientAddress, never: list[Target]
) -> None:
    plain = [network for network in never if not isinstance(network, Entity)]
    assert Register.of(stored, never).standing(ALICE, client, NOW) == naive(stored, client, plain)


@given(st.lists(networks().map(target_of), max_size=12), clients, st.sampled_from([(32, 64), (24, 48)]))
def test_overrides_are_matched_as_by_trying_each(
    aims: list[Target], client: ClientAddress, lengths: tuple[int, int]
) -> None:
    counted = ip_network(network_id(client, v4=lengths[0], v6=lengths[1]))
    able = [aim for aim in aims if not (isinstance(aim, IPv6Network) and aim.prefixlen > 64)]
    around = [
        aim
        for aim in able
        if not isinstance(aim, Entity)
        if aim.version == counted.version and aim.prefixlen <= counted.prefixlen and counted.network_address in aim
    ]
    found = Register.of([override(spelled(aim)) for aim in able]).override_of(
        RULE, Entity("ip" if lengths[0] == 32 else "prefix", network_id(client, v4=lengths[0], v6=lengths[1])), NOW
    )
    expected = max(around, key=lambda network: network.prefixlen, default=None)
    assert (found.target if found else None) == expected


@given(st.lists(networks().map(target_of), max_size=4), networks().map(target_of))
def test_what_passes_the_check_refuses_nobody_who_is_protected(never: list[Target], aim: Target) -> None:
    entry = ban(spelled(aim))
    assert not isinstance(aim, Entity)
    try:
        check_ban(entry, never, wide=True)
    except ConfigError:
        return
    for network in never:
        assert not isinstance(network, Entity)
        for client in (network.network_address, network.broadcast_address, aim.network_address):
            if client in network:
                assert Register.of([entry], []).standing({}, client, NOW) is UNKNOWN


ALL_ENTRIES: list[Entry] = [
    *(ban(text) for text in ("ip:192.0.2.7", "ip:192.0.2.0/24", "user:alice", "user+sender:alice,alice@example.com")),
    ban("ip:192.0.2.7", Action.TEMPFAIL),
    *(listing(name, "ip:192.0.2.7") for name in ("allow", "block", "vip")),
    *(override("user:alice", limit) for limit in ("5/1h", "9/1h")),
    override("ip:192.0.2.0/24", rule="other"),
]


@given(st.lists(st.lists(st.tuples(st.sampled_from(ALL_ENTRIES), st.booleans()), max_size=4), max_size=6))
def test_a_register_that_was_changed_is_as_one_made_of_what_is_left(rounds: list[list[tuple[Entry, bool]]]) -> None:
    register, left = Register.of([]), dict[str, Entry]()
    for changes in rounds:
        told: dict[str, Entry | None] = {entry.id: entry if stays else None for entry, stays in changes}
        before, register = register, register.changed(told)
        assert before.entries == tuple(sorted(left.values(), key=lambda entry: entry.id)), "a snapshot stays as it is"
        left = {id: entry for id, entry in {**left, **told}.items() if entry is not None}
    fresh = Register.of(left.values())
    assert register.entries == fresh.entries
    assert register.index.rows == fresh.index.rows
    assert register.has_overrides == fresh.has_overrides
    for entity in (
        Entity("ip", "192.0.2.7"),
        Entity("user", "alice"),
        Entity("user+sender", "alice,alice@example.com"),
    ):
        assert register.about(entity, NOW) == fresh.about(entity, NOW)
        assert register.standing(ALICE, CLIENT, NOW) == fresh.standing(ALICE, CLIENT, NOW)
