"""What operators can put down by hand, what survives as text, and what must not be banned."""

import json
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reputation.entries import (
    DEFAULT_NEVER_BAN,
    LATEST,
    MAX_AUTHOR_LENGTH,
    MAX_ENTRY_LENGTH,
    MAX_OVERRIDE_LIMITS,
    MAX_REASON_LENGTH,
    Ban,
    Entry,
    Listing,
    Override,
    Target,
    check_ban,
    entry_of,
    spelled,
    target_of,
    to_json,
)
from reputation.errors import ConfigError, EntityError
from reputation.keys import Dimension, Entity
from reputation.spelling import MAX_ID_LENGTH
from reputation.verdict import REFUSING, Action
from reputation.windows import MAX_WINDOW_SECONDS, Limit, Window
from tests.entries_for_tests import RULE, ban, listing, networks, override, target

# Targets as text


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("ip:192.0.2.7", "ip:192.0.2.7"),
        ("ip:192.0.2.7/32", "ip:192.0.2.7"),
        ("ip:192.0.2.0/23", "ip:192.0.2.0/23"),
        ("prefix:192.0.2.0/24", "ip:192.0.2.0/24"),
        ("prefix:2001:db8::/32", "ip:2001:db8::/32"),
        ("ip:2001:DB8:0::7", "ip:2001:db8::7"),
        ("ip:::ffff:192.0.2.7", "ip:192.0.2.7"),
        ("ip:::ffff:192.0.2.0/120", "ip:192.0.2.0/24"),
        ("ip:::/0", "ip:::/0"),
        ("sender:Alice+x@Example.COM", "sender:alice@example.com"),
        ("sender_domain:mail.example.co.uk", "sender_domain:example.co.uk"),
        ("user+ip:bob,192.0.2.7", "user+ip:bob,192.0.2.7"),
        ("sender:a|b@example.com", "sender:a|b@example.com"),
    ],
)
def test_a_target_is_read_and_has_one_spelling(text: str, printed: str) -> None:
    assert spelled(target(text)) == printed
    assert target(printed) == target(text)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("ip:192.0.2.7/24", 'type "ip:192.0.2.0/24" or "ip:192.0.2.7"'),
        ("prefix:2001:db8::1/32", 'type "ip:2001:db8::/32" or "ip:2001:db8::1"'),
        ("ip:::ffff:192.0.2.7/120", 'type "ip:192.0.2.0/24" or "ip:192.0.2.7"'),
    ],
)
def test_bits_beyond_the_prefix_are_refused_with_both_things_that_can_be_meant(text: str, advice: str) -> None:
    with pytest.raises(EntityError) as refused:
        target(text)
    assert advice in str(refused.value)
    for meant in advice.split('"')[1::2]:
        assert spelled(target(meant)) == meant


@pytest.mark.parametrize(
    "text",
    [
        "ip:",
        "ip:mail.example.com",
        "ip:192.0.2.7/33",
        "ip:192.0.2",
        "ip:fe80::1%eth0",
        "ip:fe80::%1/64",
        "ip: 192.0.2.7",
    ],
)
def test_what_is_no_network_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(EntityError, match=r'type one such as "ip:192\.0\.2\.7"'):
        target(text)


@pytest.mark.parametrize("text", ["", "alice@example.com", "sender:", "colour:red", "user+ip:bob"])
def test_what_is_no_entity_is_refused_as_everywhere(text: str) -> None:
    with pytest.raises(EntityError):
        target(text)


def test_an_entity_that_is_an_address_or_a_prefix_is_its_network() -> None:
    assert target_of(Entity("ip", "192.0.2.7")) == IPv4Network("192.0.2.7/32")
    assert target_of(Entity("prefix", "2001:db8::/48")) == IPv6Network("2001:db8::/48")
    assert target_of(IPv6Network("::ffff:192.0.2.0/120")) == IPv4Network("192.0.2.0/24")
    assert replace(ban("user:bob"), target=Entity(Dimension.IP, "192.0.2.7")) == ban("ip:192.0.2.7")


@pytest.mark.parametrize(
    "entity",
    [
        Entity("", "x"),
        Entity("colour", "red"),
        Entity("ip", "x"),
        *(Entity("user", id) for id in ("", "a b", "a}b", "x\n", "\ud800", "x" * (MAX_ID_LENGTH + 1))),
    ],
)
def test_an_entity_that_no_event_could_have_is_no_target(entity: Entity) -> None:
    with pytest.raises(EntityError):
        target_of(entity)


# Entries


def test_an_entry_has_an_id_that_says_what_it_is() -> None:
    assert ban("prefix:192.0.2.0/24").id == "ban|ip:192.0.2.0/24"
    assert override("user:bob").id == f"override|{RULE}|user:bob"
    assert listing("allow", "sender_domain:example.org").id == "list|allow|sender_domain:example.org"


@pytest.mark.parametrize("text", ["", "  ", "two\nlines", "bell\a", "\ud800", "x" * (MAX_REASON_LENGTH + 1)])
def test_every_entry_is_signed_in_one_printable_line(text: str) -> None:
    for entry in (ban("user:bob"), override("user:bob"), listing("vip", "user:bob")):
        with pytest.raises(ConfigError, match=f"author: write one line of 1 to {MAX_AUTHOR_LENGTH}"):
            replace(entry, author=text)
        with pytest.raises(ConfigError, match=f"reason: write one line of 1 to {MAX_REASON_LENGTH}"):
            replace(entry, reason=text)


@pytest.mark.parametrize("moment", [-1.0, float("nan"), float("inf"), LATEST])
def test_times_are_seconds_since_the_epoch(moment: float) -> None:
    with pytest.raises(ConfigError, match="created_at"):
        replace(ban("user:bob"), created_at=moment)
    with pytest.raises(ConfigError, match="expires_at"):
        replace(ban("user:bob"), expires_at=moment)


def test_an_entry_ends_after_it_begins() -> None:
    with pytest.raises(ConfigError, match="later than created_at"):
        replace(ban("user:bob"), created_at=60.0, expires_at=60.0)


@pytest.mark.parametrize("action", sorted(set(Action) - {Action.REJECT, Action.TEMPFAIL, Action.DISCARD}))
def test_a_ban_refuses(action: Action) -> None:
    with pytest.raises(ConfigError, match=f"action: {action} refuses nothing; use one of reject, tempfail, discard"):
        ban("user:bob", action)


@pytest.mark.parametrize("name", ["", "Allow", "a b", "a|b", "x" * 41, "b\u00fccher", "allow\n"])
def test_a_list_has_a_plain_name(name: str) -> None:
    with pytest.raises(ConfigError, match="list: a name has"):
        listing(name, "user:bob")


@pytest.mark.parametrize("name", ["", "-x", "A", "a|b", "x" * 65, "rule\n"])
def test_an_override_names_its_rule(name: str) -> None:
    with pytest.raises(ConfigError, match="rule: name the rule"):
        override("user:bob", rule=name)


@pytest.mark.parametrize(
    "limits", [(), ("1/1h", "2/60m"), tuple(f"1/{seconds}s" for seconds in range(1, MAX_OVERRIDE_LIMITS + 2))]
)
def test_an_override_has_some_limits_with_a_window_each(limits: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=f"limits: name 1 to {MAX_OVERRIDE_LIMITS} limits"):
        replace(override("user:bob"), limits=tuple(Limit.parse(limit) for limit in limits))


def test_an_override_that_could_never_apply_is_refused_with_the_one_that_can() -> None:
    with pytest.raises(ConfigError, match='type "ip:2001:db8:0:1::/64"'):
        override("ip:2001:db8:0:1::7")
    override("ip:2001:db8:0:1::/64")


# Entries as JSON


def test_the_json_says_what_the_id_does_not() -> None:
    assert json.loads(to_json(ban("ip:192.0.2.7", Action.TEMPFAIL, expires_at=60.0))) == {
        "author": "eve",
        "reason": "spam run",
        "created_at": 0.0,
        "expires_at": 60.0,
        "action": "tempfail",
    }
    assert json.loads(to_json(override("user:bob", "100/1h", "500/24h")))["limits"] == ["100/1h", "500/24h"]
    assert set(json.loads(to_json(listing("vip", "user:bob")))) == {"author", "reason", "created_at", "expires_at"}


def altered(entry: Entry, **changes: object) -> str:
    """The entry's JSON with some keys changed, or without them where the change is `...`."""
    body = json.loads(to_json(entry)) | changes
    return json.dumps({key: value for key, value in body.items() if value is not ...})


def test_keys_of_a_newer_release_are_skipped() -> None:
    entry = ban("user:bob")
    assert entry_of(altered(entry, ticket=4711), entry.id) == entry


def test_an_entry_has_a_largest_size() -> None:
    entry = ban("user:bob")
    padding = MAX_ENTRY_LENGTH - len(entry.id) - len(to_json(entry))
    assert entry_of(to_json(entry) + " " * padding, entry.id) == entry
    with pytest.raises(ConfigError, match=f"longer than {MAX_ENTRY_LENGTH} characters"):
        entry_of(to_json(entry) + " " * (padding + 1), entry.id)


@pytest.mark.parametrize("id", ["", "ban", "grudge|user:bob", "BAN|user:bob"])
def test_an_unknown_kind_is_refused(id: str) -> None:
    with pytest.raises(ConfigError):
        entry_of(to_json(ban("user:bob")), id)


@pytest.mark.parametrize(
    "id",
    [
        *("ban|user:", "ban|bob", "ban|colour:red"),
        *("ban|prefix:192.0.2.0/24", "ban|ip:192.0.2.7/32", "ban|ip:192.0.2.7/24", "ban|ip:::ffff:192.0.2.7"),
        *("list|user:bob", "list|A|user:bob", "list||user:bob", "override|user:bob", "override|A|user:bob"),
    ],
)
def test_an_id_that_is_not_the_entry_s_own_is_refused_by_name(id: str) -> None:
    with pytest.raises(ConfigError) as refused:
        entry_of(altered(ban("user:bob"), limits=["1/1h"]), id)
    assert str(refused.value).startswith(f'"{id}" in the register: ')


@pytest.mark.parametrize(
    "changes",
    [{key: ...} for key in ("author", "reason", "created_at", "expires_at", "action")]
    + [{"author": 7}, {"reason": None}, {"reason": "two\nlines"}, {"author": ["eve"]}]
    + [{"created_at": moment} for moment in ("0", None, True, float("nan"), float("inf"), 10**400, -1)]
    + [{"expires_at": moment} for moment in ("1", False, 0.0, 10**400)]
    + [{"action": action} for action in ("greylist", "accept", None, 4)],
    ids=str,
)
def test_a_ban_that_cannot_be_read_is_refused_by_name_and_key(changes: dict[str, object]) -> None:
    entry = ban("user:bob")
    with pytest.raises(ConfigError, match=rf'^"ban\|user:bob" in the register: {next(iter(changes))}: '):
        entry_of(altered(entry, **changes), entry.id)


@pytest.mark.parametrize("limits", [..., [], "1/1h", [1], ["ten"], ["0/1h"], ["1/1h"] * 200, {"1/1h": 1}], ids=str)
def test_an_override_with_limits_that_cannot_be_read_is_refused(limits: object) -> None:
    entry = override("user:bob")
    with pytest.raises(ConfigError):
        entry_of(altered(entry, limits=limits), entry.id)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"x"', "[" * 5_000, "[" * 100_000, " " * MAX_ENTRY_LENGTH])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r'^"ban\|user:bob" in the register: '):
        entry_of(text, "ban|user:bob")


# What must not be banned


def refusal(entry: Entry, *never_ban: str, wide: bool = False) -> str:
    """Why the entry is refused; empty when it is not."""
    try:
        check_ban(entry, [*DEFAULT_NEVER_BAN, *(target(text) for text in never_ban)], wide=wide)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("banned", "never"),
    [
        ("ip:127.0.0.1", "ip:127.0.0.0/8"),
        ("ip:::1", "ip:::1"),
        ("ip:192.0.2.0/24", "ip:192.0.2.7"),
        ("ip:192.0.2.7", "ip:192.0.2.0/24"),
        ("ip:2001:db8::/32", "ip:2001:db8:1::/48"),
        ("user:bob", "user:bob"),
        ("sender:bob@mail.example.com", "sender_domain:example.com"),
        ("sender_domain:example.com", "sender:bob@mail.example.com"),
        ("recipient:postmaster@example.com", "recipient_domain:example.com"),
        ("ip+sender:127.0.0.1,a@example.com", "ip:127.0.0.0/8"),
        ("prefix+user:192.0.2.0/24,bob", "ip:192.0.2.7"),
        ("sender+recipient:a@example.com,b@example.net", "sender:a@example.com"),
        ("ip+sender_domain:198.51.100.7,example.com", "sender:a@example.com"),
        ("user+ip:bob,192.0.2.7", "user+ip:bob,192.0.2.7"),
    ],
)
def test_what_touches_a_never_ban_target_is_refused_by_name(banned: str, never: str) -> None:
    for entry in (ban(banned), listing("block", banned)):
        assert f'"{banned}" touches "{never}", which is never banned: name a target beside it' in refusal(entry, never)
        assert refusal(entry, never, wide=True)
    for harmless in (listing("allow", banned), listing("vip", banned)):
        assert not refusal(harmless, never)


@pytest.mark.parametrize(
    ("banned", "never"),
    [
        ("ip:192.0.2.8", "ip:192.0.2.7"),
        ("ip:2001:db8::/32", "ip:32.1.13.184"),
        ("sender:bob@example.org", "sender_domain:example.com"),
        ("sender:bob", "sender_domain:bob"),
        ("sender_domain:example.com", "recipient_domain:example.com"),
        ("user:192.0.2.7", "ip:192.0.2.7"),
        ("sender+recipient:a@example.com,b@example.net", "sender:b@example.net"),
        ("ip+sender:192.0.2.8,a@example.com", "ip:192.0.2.7"),
        ("ip+sender:~00112233445566778899aabbccddeeff", "ip:192.0.2.7"),
    ],
)
def test_what_only_resembles_a_never_ban_target_is_not(banned: str, never: str) -> None:
    assert not refusal(ban(banned), never)


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("ip:10.0.0.0/8", "has 16777216 addresses: type a prefix of /16 or longer"),
        ("ip:10.0.0.0/15", "type a prefix of /16 or longer"),
        ("ip:2001:d00::/24", "type a prefix of /32 or longer"),
    ],
)
def test_a_wide_ban_is_made_only_when_it_is_meant(text: str, advice: str) -> None:
    for entry in (ban(text), listing("block", text), listing("allow", text)):
        assert advice in refusal(entry)
        assert not refusal(entry, wide=True)
    assert not refusal(listing("vip", text))
    assert not refusal(override(text))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("class:outbound", "all mail of a kind"),
        ("country:DE", "a whole country"),
        ("asn:64500", "all networks of an operator"),
        ("country+class:DE,inbound", "a whole country, all mail of a kind"),
    ],
)
def test_a_whole_class_is_banned_or_exempted_only_when_it_is_meant(text: str, what: str) -> None:
    for entry in (ban(text), listing("block", text), listing("allow", text)):
        assert f'"{text}" is {what}: name somebody in it, or say that so much is meant: --wide' in refusal(entry)
        assert not refusal(entry, wide=True)
    assert not refusal(listing("vip", text))
    assert not refusal(override(text))


def test_mail_to_a_whole_domain_is_exempted_without_more_and_refused_only_when_it_is_meant() -> None:
    text = "recipient_domain:example.net"
    assert "all mail to a domain" in refusal(ban(text))
    assert not refusal(ban(text), wide=True)
    assert not refusal(listing("allow", text))


@pytest.mark.parametrize("text", ["sender+asn:a@example.com,64500", "ip+class:192.0.2.7,inbound", "helo:localhost"])
def test_who_is_one_of_a_whole_class_is_not_wide(text: str) -> None:
    assert not refusal(ban(text))
    assert not refusal(listing("allow", text))


@pytest.mark.parametrize("text", ["ip:10.0.0.0/16", "ip:2001:db8::/32"])
def test_the_widest_ban_that_nobody_asks_about(text: str) -> None:
    assert not refusal(ban(text))


# Properties

people = st.sampled_from(["alice", "bob", "x|y", "a{b", "~", "m\u00fcller", "a%b", "a,b", "+x"])
domains = st.sampled_from(["example.com", "mail.example.co.uk", "b\u00fccher.example", "[192.0.2.7]"])
addresses = st.builds("{}@{}".format, people, domains) | st.text(min_size=1, max_size=300)


entity_texts = st.one_of(
    st.builds("{}:{}".format, st.sampled_from(["sender", "recipient", "user", "helo", "country"]), addresses),
    st.builds("{}:{}".format, st.sampled_from(["sender_domain", "recipient_domain"]), domains),
    st.builds(
        "user+sender:{},{}".format, st.sampled_from(["alice", "b%2Cc"]), st.builds("{}@{}".format, people, domains)
    ),
)


@st.composite
def targets(draw: st.DrawFn) -> Target:
    if draw(st.booleans()):
        return target_of(draw(networks()))
    text = draw(entity_texts)
    try:
        return target(text)
    except EntityError:
        return Entity("user", "alice")


@given(targets())
@example(Entity("user+sender", "~" + "0" * 32))
def test_a_target_prints_what_reads_as_itself(aim: Target) -> None:
    assert target(spelled(aim)) == aim


lines = st.text(min_size=1, max_size=100).filter(lambda text: text.isprintable() and bool(text.strip()))
limits = st.builds(Limit, st.integers(1, 2**48), st.builds(Window, st.integers(1, MAX_WINDOW_SECONDS)))


signed: dict[str, st.SearchStrategy[object]] = {
    "author": lines,
    "reason": lines,
    "created_at": st.floats(0, 2e9) | st.integers(0, 2_000_000_000),
    "expires_at": st.none() | st.floats(2.1e9, 3e9),
}
entries: st.SearchStrategy[Entry] = st.one_of(
    st.builds(Ban, target=targets(), action=st.sampled_from(REFUSING), **signed),
    st.builds(
        Override,
        target=targets().filter(lambda aim: not isinstance(aim, IPv6Network) or aim.prefixlen <= 64),
        rule=st.from_regex(r"[a-z0-9][a-z0-9-]{0,63}", fullmatch=True),
        limits=st.lists(limits, min_size=1, max_size=4, unique_by=lambda limit: limit.window).map(tuple),
        **signed,
    ),
    st.builds(Listing, target=targets(), list=st.from_regex(r"[a-z0-9-]{1,40}", fullmatch=True), **signed),
)


@given(entries)
def test_an_entry_reads_back_from_its_json(entry: Entry) -> None:
    assert entry_of(to_json(entry), entry.id) == entry
    assert to_json(entry).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("1/1h"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
bodies = st.dictionaries(
    st.sampled_from(["author", "reason", "created_at", "expires_at", "action", "limits"]), json_values, max_size=6
).map(json.dumps)
ids = st.sampled_from(["ban|user:a", "list|allow|ip:192.0.2.0/24", "override|r|user:b"]) | st.text(max_size=40)


@given(st.text(max_size=40) | bodies, ids)
def test_what_cannot_be_read_is_always_told_the_same_way(text: str, id: str) -> None:
    try:
        entry = entry_of(text, id)
    except ConfigError as error:
        assert "in the register: " in str(error)
    else:
        assert entry.id == id
