"""From an event to its entities: canonical addresses, networks instead of addresses, ids that are safe anywhere."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address, ip_address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from redis.crc import key_slot

from reputation.errors import EntityError
from reputation.events import NULL_SENDER, ClientAddress, Event
from reputation.facts import LookedUp, Network, Signature
from reputation.keys import Dimension, Entity, Key, Metric, composite, entities_of, parse_entity
from reputation.spelling import (
    MAX_ID_LENGTH,
    MAX_SUBJECT_LENGTH,
    Spelling,
    canonical_address,
    canonical_domain,
    escaped,
    network_id,
    organisational_domain,
    subject_id,
)
from tests.builders import auth, connect, data, disconnect, helo, mail, rcpt

SPELLING = Spelling(subject_key=b"a secret of the site")


def ids_of(event: Event, spelling: Spelling = SPELLING) -> dict[str, str]:
    return {str(dimension): entity.id for dimension, entity in entities_of(event, spelling).items()}


# --- which entities an event has


def test_a_connection_is_known_by_its_address_and_network() -> None:
    expected = {"ip": "192.0.2.77", "prefix": "192.0.2.0/24"}
    assert ids_of(connect("192.0.2.77")) == expected
    assert ids_of(disconnect("192.0.2.77")) == expected


def test_helo_adds_the_name_given() -> None:
    assert ids_of(helo("MAIL.Example.COM."))["helo"] == "mail.example.com"
    assert "helo" not in ids_of(helo(""))


def test_mail_adds_the_sender_and_its_domain() -> None:
    ids = ids_of(mail("Alice+News@Mail.Example.CO.UK"))
    assert ids["sender"] == "alice@mail.example.co.uk"
    assert ids["sender_domain"] == "example.co.uk"


def test_rcpt_adds_the_recipient_and_its_domain() -> None:
    ids = ids_of(rcpt("Bob@lists.example.org", sender="alice@example.com"))
    assert (ids["sender"], ids["recipient"], ids["recipient_domain"]) == (
        "alice@example.com",
        "bob@lists.example.org",
        "example.org",
    )


def test_data_adds_the_subject_and_no_single_recipient() -> None:
    ids = ids_of(data("bob@example.net", "carol@example.net", subject="Hello"))
    assert len(ids["subject"]) == 32
    assert not {"recipient", "recipient_domain"} & ids.keys()


def test_pitfall_17_the_null_sender_is_no_entity() -> None:
    for event in (mail(NULL_SENDER), rcpt("bob@example.net", sender=NULL_SENDER), data(sender=NULL_SENDER)):
        assert not {"sender", "sender_domain"} & ids_of(event).keys()


def test_pitfall_16_only_who_has_logged_in_is_a_user() -> None:
    assert "user" not in ids_of(mail("victim@example.com"))
    assert "user" not in ids_of(auth("victim", success=False))
    assert ids_of(auth("Alice@Example.com", success=True))["user"] == "alice@example.com"
    assert ids_of(mail("other@example.com", user="alice"))["user"] == "alice"


def test_a_login_keeps_its_plus() -> None:
    """alice+test may be an account of its own, unlike a mailbox' subaddress."""
    assert ids_of(mail(user="alice+test@example.com"))["user"] == "alice+test@example.com"


def test_an_address_without_a_domain_has_no_domain() -> None:
    ids = ids_of(mail("postmaster"))
    assert ids["sender"] == "postmaster"
    assert "sender_domain" not in ids


def test_mail_has_a_class_from_mail_on() -> None:
    assert "class" not in ids_of(connect())
    assert ids_of(mail())["class"] == ids_of(rcpt("bob@example.net"))["class"] == ids_of(data())["class"] == "inbound"


# --- what is looked up

FOUND = LookedUp(
    network=Network(asn=64_500, country="DE", prefix="192.0.2.0/22"),
    iprev="pass",
    rdns="Mx7.Mail.Example.CO.UK.",
    spf="pass",
)


def looked_up(event: Event, found: LookedUp) -> dict[str, str]:
    return {str(dimension): entity.id for dimension, entity in entities_of(event, SPELLING, found).items()}


def test_a_client_has_the_network_and_the_name_that_were_found() -> None:
    ids = looked_up(connect(), FOUND)
    assert (ids["asn"], ids["country"], ids["rdns_domain"]) == ("64500", "DE", "example.co.uk")
    assert "spf_domain" not in ids, "there is no sender yet"


@pytest.mark.parametrize(("spf", "known"), [("pass", True), ("softfail", False), ("temperror", False), ("", False)])
def test_a_sender_s_domain_is_vouched_for_by_spf_alone(spf: str, known: bool) -> None:
    ids = looked_up(mail("alice@mail.example.com"), replace(FOUND, spf=spf))
    assert ids.get("spf_domain") == ("example.com" if known else None)
    assert "spf_domain" not in looked_up(mail(NULL_SENDER), FOUND)


@pytest.mark.parametrize(
    ("signatures", "id"),
    [
        ([], None),
        ([("pass", "mail.example.net")], "example.net"),
        ([("fail", "example.com"), ("pass", "example.net")], "example.net"),
        ([("pass", "example.net"), ("pass", "other.example")], "example.net"),
        ([("pass", "example.net"), ("pass", "mail.example.com")], "example.com"),
        ([("temperror", "example.com"), ("permerror", "")], None),
    ],
)
def test_who_has_signed_is_the_author_s_domain_or_the_first(signatures: list[tuple[str, str]], id: str | None) -> None:
    found = LookedUp(signatures=tuple(Signature(result=result, domain=domain) for result, domain in signatures))
    event = replace(data("bob@example.net"), author="alice@news.example.com")
    assert looked_up(event, found).get("dkim_domain") == id
    nobody = looked_up(replace(event, author=""), found).get("dkim_domain")
    assert (nobody is None) == (id is None)


def test_what_was_not_found_is_no_entity() -> None:
    assert looked_up(mail(), LookedUp()) == looked_up(mail(), replace(FOUND, network=Network(), rdns="", spf="fail"))
    assert not {"asn", "country", "rdns_domain", "spf_domain"} & looked_up(mail(), LookedUp()).keys()


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("asn:AS64500", "asn:64500"),
        ("asn:64500", "asn:64500"),
        ("country:de", "country:DE"),
        ("rdns_domain:MX7.mail.example.co.uk", "rdns_domain:example.co.uk"),
        ("spf_domain:mail.example.com.", "spf_domain:example.com"),
        ("dkim_domain:mail.Example.com.", "dkim_domain:example.com"),
        ("author:Alice+x@Example.COM", "author:alice@example.com"),
        ("author_domain:mail.example.com", "author_domain:example.com"),
    ],
)
def test_what_was_found_is_typed_as_it_is_counted(text: str, entity: str) -> None:
    """A ban of another spelling would never be met."""
    assert str(parse_entity(text, SPELLING)) == entity


# --- the author


def test_the_author_is_an_entity_of_its_own() -> None:
    ids = ids_of(replace(data(sender="bounces@list.example"), author="Alice+news@Mail.Example.COM"))
    assert (ids["author"], ids["author_domain"]) == ("alice@mail.example.com", "example.com")
    assert ids["sender"] == "bounces@list.example"
    assert "author" not in ids_of(data())


# --- canonical spelling


@pytest.mark.parametrize(
    "spelling",
    [
        "alice@example.com",
        "ALICE@EXAMPLE.COM",
        "alice+tag@example.com",
        "Alice+a+b@example.com.",
        '"alice"@example.com',
        '"al\\ice"@example.com',
    ],
)
def test_pitfall_24_one_mailbox_has_one_spelling(spelling: str) -> None:
    assert canonical_address(spelling) == "alice@example.com"


@pytest.mark.parametrize(
    "spelling", ["bücher.example", "BÜCHER.Example.", "xn--bcher-kva.example", "bu\u0308cher.example"]
)
def test_pitfall_24_one_international_domain_has_one_spelling(spelling: str) -> None:
    assert canonical_domain(spelling) == "xn--bcher-kva.example"


def test_composed_and_decomposed_local_parts_are_one() -> None:
    assert canonical_address("Jose\u0301@example.com") == canonical_address("JOSÉ@example.com")


def test_a_local_part_that_begins_with_the_separator_keeps_its_name() -> None:
    assert canonical_address("+alice+x@example.com") == "+alice@example.com"
    assert canonical_address("+@example.com") == "+@example.com"


def test_the_separator_is_the_site_s_choice() -> None:
    assert canonical_address("a-b+c@example.com", "-") == "a@example.com"
    assert canonical_address("a+b@example.com", "") == "a+b@example.com"


@pytest.mark.parametrize(
    ("domain", "organisation"),
    [
        ("a.b.example.com", "example.com"),
        ("example.co.uk", "example.co.uk"),
        ("co.uk", "co.uk"),
        ("localhost", "localhost"),
        ("[192.0.2.1]", "[192.0.2.1]"),
        ("192.0.2.1", "192.0.2.1"),
        ("", ""),
    ],
)
def test_the_organisational_domain_is_the_one_registered(domain: str, organisation: str) -> None:
    assert organisational_domain(domain) == organisation


# --- networks


def test_pitfall_13_an_ipv6_client_is_counted_by_its_network() -> None:
    assert ids_of(connect("2001:db8:1:2:3:4:5:6")) == {"ip": "2001:db8:1:2::/64", "prefix": "2001:db8:1::/48"}
    assert ids_of(connect("2001:db8:1:2::1"))["ip"] == ids_of(connect("2001:db8:1:2:ffff::"))["ip"]


def test_pitfall_13_an_ipv4_client_is_counted_by_itself_and_its_24() -> None:
    assert ids_of(connect("10.1.2.3")) == {"ip": "10.1.2.3", "prefix": "10.1.2.0/24"}


def test_an_ipv4_client_on_a_dual_stack_socket_is_an_ipv4_client() -> None:
    assert ids_of(connect("::ffff:192.0.2.1")) == ids_of(connect("192.0.2.1"))


@given(st.ip_addresses())
def test_a_network_holds_its_client_and_is_no_larger_than_asked(client: ClientAddress) -> None:
    for v4, v6 in ((32, 64), (24, 48)):
        network = network_id(client, v4=v4, v6=v6)
        if isinstance(client, IPv6Address) and client.ipv4_mapped is None:
            assert network.endswith(f"/{v6}")
            assert parse_entity(f"ip:{client}", SPELLING).id == network_id(client, v4=32, v6=64)
        else:
            assert IPv4Network(network).prefixlen == v4


def test_a_zone_does_not_make_another_client() -> None:
    assert network_id(ip_address("fe80::1%eth0"), v4=32, v6=64) == "fe80::/64"


# --- ids

FORBIDDEN = set("{}, \t\r\n\x00")


def is_safe(id: str) -> bool:
    return id.isprintable() and not FORBIDDEN & set(id) and len(id) <= MAX_ID_LENGTH


@given(st.text(st.characters(), max_size=300))
@example("x" * 5_000)
@example("\udcff\ud800{}")
def test_pitfall_14_every_id_is_safe(text: str) -> None:
    assert is_safe(escaped(text))


@given(st.text(max_size=MAX_ID_LENGTH), st.text(max_size=MAX_ID_LENGTH))
@example("a b", "a%20b")
@example("%", "%25")
def test_pitfall_14_different_texts_have_different_ids(one: str, other: str) -> None:
    assert (escaped(one) == escaped(other)) is (one == other)


any_text = st.text(st.characters(), max_size=80)


@given(any_text, any_text, any_text, any_text)
def test_any_bytes_a_client_sends_make_safe_entities(name: str, user: str, sender: str, recipient: str) -> None:
    session_events = (helo(name), mail(sender, user=user), rcpt(recipient, sender), data(sender=sender, subject=name))
    for event in session_events:
        for dimension, entity in entities_of(event, SPELLING).items():
            assert entity.dimension == dimension
            assert entity.id
            assert is_safe(entity.id)


@given(st.text(st.characters(exclude_characters='"'), max_size=120), st.text(max_size=40))
@example("john doe@example.com", "")
@example("x" * 300 + "@example.com", "{é}")
@example("\udcff%\ud800@b\u00fccher.example", "a,b")
def test_an_entity_that_was_printed_reads_as_itself(sender: str, user: str) -> None:
    entities = entities_of(rcpt("bob@example.net", sender), SPELLING) | entities_of(mail(sender, user=user), SPELLING)
    pair = composite(entities, (Dimension.SENDER, Dimension.USER))
    for entity in [*entities.values(), *([pair] if pair else [])]:
        assert parse_entity(str(entity), SPELLING) == entity


def test_a_key_is_spelled_with_one_hash_tag_around_its_entity() -> None:
    assert (
        Key(Entity("sender", "alice@example.com"), Metric.BYTES).spelled("rp") == "rp:{sender:alice@example.com}:bytes"
    )


@given(st.text(st.characters(), min_size=1, max_size=80))
def test_all_counters_of_an_entity_share_one_slot_of_a_cluster(sender: str) -> None:
    entity = Entity("sender", escaped(sender))
    spelled = [Key(entity, metric).spelled("rp") for metric in Metric]
    assert {key_slot(key.encode()) for key in spelled} == {key_slot(str(entity).encode())}
    assert len(set(spelled)) == len(Metric)


# --- several dimensions at once


def test_a_composite_needs_all_its_dimensions() -> None:
    entities = entities_of(mail("alice@example.com"), SPELLING)
    assert composite(entities, (Dimension.SENDER, Dimension.USER)) is None
    assert composite(entities, (Dimension.SENDER,)) == entities[Dimension.SENDER]
    assert composite(entities, (Dimension.IP, Dimension.SENDER)) == Entity("ip+sender", "192.0.2.1,alice@example.com")


def test_a_composite_of_long_ids_is_bounded() -> None:
    entities = entities_of(rcpt("b" * 180 + "@example.net", "a" * 180 + "@example.com"), SPELLING)
    pair = composite(entities, (Dimension.SENDER, Dimension.RECIPIENT))
    assert pair is not None
    assert len(pair.id) == 33


# --- subjects


@pytest.mark.parametrize(
    "subject",
    ["Invoice 4711", "RE: Invoice 4712", "Fwd: AW: re[2]: invoice  1234", "[list] Invoice\t9999", "  INVOICE 0000 "],
)
def test_copies_of_a_campaign_are_one_subject(subject: str) -> None:
    assert subject_id(subject, b"k") == subject_id("invoice 1111", b"k")


def test_pitfall_29_a_subject_cannot_be_guessed_without_the_key() -> None:
    assert subject_id("Hello", b"one key") != subject_id("Hello", b"another")
    assert subject_id("Hello", b"") == ""
    assert subject_id("Re: ", b"k") == ""
    assert "subject" not in ids_of(data(subject="Hello"), Spelling())


def test_a_subject_of_prefixes_without_end_takes_no_time() -> None:
    """Only the first MAX_SUBJECT_LENGTH characters are looked at: stripping was quadratic in what a client sends."""
    assert subject_id("re:" * 1_000_000, b"k") == subject_id("re:" * MAX_SUBJECT_LENGTH, b"k")
    assert subject_id("x" * MAX_SUBJECT_LENGTH + "y", b"k") == subject_id("x" * MAX_SUBJECT_LENGTH, b"k")


# --- what an operator types


@pytest.mark.parametrize(
    ("text", "entity"),
    [
        ("sender:Alice+x@Example.COM", "sender:alice@example.com"),
        ("sender:john doe@example.com", "sender:john%20doe@example.com"),
        ("sender_domain:mail.example.co.uk", "sender_domain:example.co.uk"),
        ("ip:2001:db8::1", "ip:2001:db8::/64"),
        ("ip:2001:db8::/64", "ip:2001:db8::/64"),
        ("prefix:192.0.2.77", "prefix:192.0.2.0/24"),
        ("user:Alice", "user:alice"),
        ("helo:MAIL.example.com.", "helo:mail.example.com"),
        ("ip+user:192.0.2.1,Alice", "ip+user:192.0.2.1,alice"),
    ],
)
def test_an_entity_is_read_as_an_event_s_would_be(text: str, entity: str) -> None:
    assert str(parse_entity(text, SPELLING)) == entity


def test_a_subject_is_read_as_text_or_as_its_hash() -> None:
    hashed = parse_entity("subject:Re: Hello", SPELLING)
    assert hashed.id == subject_id("hello", SPELLING.subject_key)
    assert parse_entity(str(hashed), SPELLING) == hashed
    with pytest.raises(EntityError, match=r"set keys\.subject_key"):
        parse_entity("subject:Hello", Spelling())


@pytest.mark.parametrize(
    "text",
    [
        *("", "alice@example.com", "sender", "sender:", "nonsense:x", "ip:example.com", "helo:..", "sender_domain:."),
        *("subject: ", "ip+user:192.0.2.1", "ip+ip:192.0.2.1,192.0.2.1", "ip+nonsense:1,2", "ip+user:192.0.2.1,"),
    ],
)
def test_what_names_no_entity_is_refused(text: str) -> None:
    with pytest.raises(EntityError):
        parse_entity(text, SPELLING)
