"""What a reputation query asks, how one is made, and how reputons are written: without a server."""

import itertools
import json
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.repute.access import BURST, PER_SECOND, Strangers
from api.repute.asking import WHOSE, Asked, Identity, Shape, question_of
from api.repute.reputons import EXAMPLE, Statement, document_of, encoded
from api.repute.template import template_of
from reputation.errors import ConfigError
from reputation.inquiry import JUDGED
from reputation.keys import Entity
from reputation.ratings import NOT_HEARD, Assertion, Rating
from reputation.spelling import Spelling
from tests.api.reputons_for_tests import (
    EMAIL_EXAMPLE,
    FIRST_EXAMPLE,
    IDENTITIES,
    THIRD_EXAMPLE,
    NoReputons,
    expanded,
    read,
)

SPELLING = Spelling()
KNOWN = Rating(rating=0.9604, normal=0.25, confidence=0.92593, sample_size=25)
BY_ADDRESS = Asked(identity=Identity.IPV4, entity=Entity("ip", "192.0.2.7"))
SPAM = Statement(assertion="spam", asked=BY_ADDRESS, rating=KNOWN)


def whose(subject: str, identity: str = "") -> dict[str, str]:
    """Each identity that is answered for, and whose evidence answers; empty for nobody's."""
    question = question_of(subject, "", identity, SPELLING)
    return {str(each.identity): str(each.entity or "") for each in question.asked}


# The examples of the RFCs


def test_the_rfc_s_own_examples_are_read() -> None:
    """RFC 7071 section 6.3. Its second example is no JSON: a quotation mark stands behind the colon."""
    assert read(FIRST_EXAMPLE) == (
        "baseball",
        [
            {
                "rater": "RatingsRUs.example.com",
                "assertion": "is-good",
                "rated": "Alex Rodriguez",
                "rating": 0.99,
                "sample-size": 50_000,
            }
        ],
    )
    assert read(THIRD_EXAMPLE)[1][0]["confidence"] == 0.2
    application, reputons = read(EMAIL_EXAMPLE)
    assert (application, [each["identity"] for each in reputons]) == ("email-id", ["dkim", "spf"])


def test_ours_has_what_the_rfc_s_example_of_this_application_has() -> None:
    (theirs, _), (ours,) = read(EMAIL_EXAMPLE)[1], read(json.dumps(EXAMPLE))[1]
    extension = "updated"  # shown there, and defined nowhere: "generated" is what the RFC defines
    assert theirs.keys() - {extension} <= ours.keys()
    assert all(type(ours[name]) is type(theirs[name]) for name in theirs.keys() - {extension})


@pytest.mark.parametrize(
    "broken",
    [
        "[]",
        '{"application": "email-id"}',
        '{"application": 1, "reputons": []}',
        '{"application": "email-id", "reputons": {}}',
        '{"application": "email-id", "reputons": [{}]}',
        FIRST_EXAMPLE.replace("0.99", "1.01"),
        FIRST_EXAMPLE.replace("0.99", "0.9901"),
        FIRST_EXAMPLE.replace("0.99", '"0.99"'),
        FIRST_EXAMPLE.replace("0.99", "NaN"),
        FIRST_EXAMPLE.replace("0.99", "true"),
        FIRST_EXAMPLE.replace("50000", "50000.0"),
        FIRST_EXAMPLE.replace("50000", "-1"),
        FIRST_EXAMPLE.replace("50000", str(2**64)),
        FIRST_EXAMPLE.replace('"rated"', '"rater"'),
    ],
)
def test_the_reader_of_these_tests_is_strict(broken: str) -> None:
    with pytest.raises(NoReputons):
        read(broken)


def test_the_rfc_s_template_is_filled_in_as_it_shows() -> None:
    """RFC 7072 section 3.2; ours is of the same form, below a path of its own."""
    asked = {"service": "example.com", "application": "email-id", "subject": "example.org", "assertion": "spam"}
    theirs = "http://{service}/{application}/{subject}/{assertion}"
    assert expanded(theirs, asked) == "http://example.com/email-id/example.org/spam"
    ours = template_of(is_secure=False, host="example.com")
    assert expanded(ours, asked) == "http://example.com/repute/email-id/example.org/spam"
    assert expanded(ours, {**asked, "identity": "spf"}).endswith("/email-id/example.org/spam?identity=spf")


def test_what_is_not_given_leaves_the_query_unambiguous() -> None:
    """RFC 7072 section 3.3."""
    asked = {"service": "example.com", "application": "email-id", "subject": "a/b?c=d#e f@example.org"}
    found = urlsplit(expanded(template_of(is_secure=True, host="example.com:8443"), asked))
    assert (found.scheme, found.netloc, found.query) == ("https", "example.com:8443", "")
    assert found.path == "/repute/email-id/a%2Fb%3Fc%3Dd%23e%20f%40example.org/"


@pytest.mark.parametrize(
    ("host", "port"),
    [
        ("rep.example.net", ""),
        ("rep.example.net:8025", ":8025"),
        ("[2001:db8::7]:8025", ":8025"),
        ("[2001:db8::7]", ""),
        ("2001:db8::7", ""),
        ("", ""),
        ("x:0", ""),
        ("x:65536", ""),
        ("x:99999999", ""),
        ("x:80}{evil", ""),
        ("x:80/../..", ""),
        ("x:٣", ""),
    ],
)
def test_the_template_names_the_port_that_the_client_came_to_and_nothing_else_of_what_he_sent(
    host: str, port: str
) -> None:
    whole = "/repute/{application}/{subject}/{assertion}{?identity}"
    assert template_of(is_secure=False, host=host) == f"http://{{service}}{port}{whole}"


# Whom a query asks about


def test_there_is_evidence_of_whoever_is_asked_for() -> None:
    assert set(WHOSE) == set(map(Identity, IDENTITIES))
    held = {dimension for shapes in WHOSE.values() for dimension in shapes.values() if dimension is not None}
    assert held <= set(JUDGED)


@pytest.mark.parametrize(
    ("subject", "identity", "found"),
    [
        ("192.0.2.7", "", {"ipv4": "ip:192.0.2.7"}),
        ("192.0.2.7", "ipv4", {"ipv4": "ip:192.0.2.7"}),
        ("::ffff:192.0.2.7", "", {"ipv4": "ip:192.0.2.7"}),
        ("2001:DB8:1:2::99", "", {"ipv6": "ip:2001:db8:1:2::/64"}),
        ("2001:db8:1:2::99", "IPv6", {"ipv6": "ip:2001:db8:1:2::/64"}),
        (
            "mail.Example.co.uk.",
            "",
            {"rfc5321.mailfrom": "sender_domain:example.co.uk", "rfc5322.from": "author_domain:example.co.uk"},
        ),
        ("bücher.example", "spf", {"spf": "sender_domain:xn--bcher-kva.example"}),
        ("example.com", "dkim", {"dkim": ""}),
        ("mx.example.com", "rfc5321.helo", {"rfc5321.helo": ""}),
        ("192.0.2.7", "rfc5321.helo", {"rfc5321.helo": ""}),
        ("[192.0.2.7]", "rfc5321.helo", {"rfc5321.helo": ""}),
        (
            "Alice+news@Mail.Example.COM",
            "",
            {"rfc5321.mailfrom": "sender:alice@mail.example.com", "rfc5322.from": "author:alice@mail.example.com"},
        ),
        ("alice@mail.example.com", "rfc5322.FROM", {"rfc5322.from": "author:alice@mail.example.com"}),
        ("alice@mail.example.com", "spf", {"spf": "sender_domain:example.com"}),
        ("100%25@example.com", "rfc5321.mailfrom", {"rfc5321.mailfrom": "sender:100%2525@example.com"}),
    ],
)
def test_a_subject_is_found_as_whom_it_is_asked_for(subject: str, identity: str, found: dict[str, str]) -> None:
    assert whose(subject, identity) == found


@pytest.mark.parametrize(
    ("subject", "identity"),
    [
        ("192.0.2.7", "ipv6"),
        ("2001:db8::7", "ipv4"),
        ("::ffff:192.0.2.7", "ipv6"),
        ("192.0.2.7", "rfc5321.mailfrom"),
        ("192.0.2.7", "spf"),
        ("example.com", "ipv4"),
        ("alice@example.com", "dkim"),
        ("alice@example.com", "rfc5321.helo"),
    ],
)
def test_a_subject_that_is_no_such_identity_is_a_mistake(subject: str, identity: str) -> None:
    with pytest.raises(ConfigError, match=r"^identity: .+ is an? .+, and the subject is an? "):
        whose(subject, identity)


@pytest.mark.parametrize(
    "subject",
    [
        *("", " ", ".", "@", "a@", "@example.com", "a b.example", "<script>alert(1)</script>", "192.0.2.0/24"),
        *("192.0.2.300", "192.0.2", "1", "fe80::1%eth0", "2001:db8::/64", "ex\x00ample.com", "a\x00@example.com"),
        *("\u202egpj.example", "a\u202e@example.com", "caf\udce9.example", "a\udce9@example.com", "-x.example"),
        *("a..example", "x" * 64 + ".example", "a." * 127 + "example", "x" * 400 + "@example.com", "{ip}", "a\r\nb"),
    ],
)
def test_what_no_message_could_have_is_a_mistake(subject: str) -> None:
    with pytest.raises(ConfigError, match=r"^subject: write "):
        whose(subject)


@given(st.text(max_size=400), st.text(max_size=80), st.sampled_from(["", *Identity]))
def test_whatever_is_asked_is_a_question_or_a_mistake(subject: str, assertion: str, identity: str) -> None:
    try:
        question = question_of(subject, assertion, identity, SPELLING)
    except ConfigError:
        return
    assert question.subject == subject and question.asked and question.assertions


def test_without_an_assertion_all_are_asked_for() -> None:
    assert question_of("example.com", "", "", SPELLING).assertions == tuple(Assertion)


def test_words_are_read_in_any_case_and_those_that_the_application_has_not_are_no_mistake() -> None:
    assert question_of("example.com", "SPAM", "", SPELLING).assertions == ("spam",)
    assert question_of("example.com", "sends-spam", "", SPELLING).assertions == ("sends-spam",)


@pytest.mark.parametrize("assertion", ["a b", "<b>", "a/b", "ü", "x" * 65, "a,b", "\x00"])
def test_an_assertion_is_a_token(assertion: str) -> None:
    with pytest.raises(ConfigError, match=r"^assertion: "):
        question_of("example.com", assertion, "", SPELLING)


@pytest.mark.parametrize("identity", ["rfc5321.rcptto", "ip", "dkim ", "<b>"])
def test_an_identity_is_one_of_the_rfc_s(identity: str) -> None:
    with pytest.raises(ConfigError, match=r"^identity: write one of dkim, ipv4"):
        question_of("example.com", "", identity, SPELLING)


# Reputons


def test_all_that_is_said_is_written_within_the_grammar() -> None:
    text = encoded(document_of([SPAM], rater="rep.example.net", rated="192.0.2.7", generated=100, expires=200))
    assert read(text) == (
        "email-id",
        [
            {
                "rater": "rep.example.net",
                "assertion": "spam",
                "rated": "192.0.2.7",
                "rating": 0.96,
                "confidence": 0.926,
                "normal-rating": 0.25,
                "sample-size": 25,
                "generated": 100,
                "expires": 200,
                "identity": "ipv4",
                "email-id-identity": "ipv4",
                "evidence-of": "ip:192.0.2.7",
            }
        ],
    )


def test_of_what_nothing_is_known_is_said_that_it_rests_on_nothing() -> None:
    """RFC 7071 section 6.1: an empty reputon means the same, but its members are required."""
    nobody = Statement(assertion="spam", asked=Asked(identity=Identity.DKIM, entity=None), rating=NOT_HEARD)
    text = encoded(document_of([nobody], rater="r", rated="example.com", generated=1, expires=2))
    (reputon,) = read(text)[1]
    assert (reputon["rating"], reputon["confidence"], reputon["sample-size"]) == (0.0, 0.0, 0)
    assert not {"normal-rating", "evidence-of"} & reputon.keys()


@given(st.text(), st.text(), st.floats(0, 1), st.integers(0, 2**63))
def test_whatever_is_said_is_ascii_and_within_the_grammar(rated: str, rater: str, share: float, size: int) -> None:
    rating = Rating(rating=share, normal=share, confidence=share, sample_size=size)
    text = encoded(document_of([replace(SPAM, rating=rating)], rater=rater, rated=rated, generated=1, expires=2))
    assert text.isascii()
    assert read(text)[1][0]["rated"] == rated


# Strangers


def asked_at_once(strangers: Strangers, *clients: str) -> int:
    """How many questions of these clients, in turn, are let through before one is not."""
    turns = itertools.islice(itertools.cycle(clients), 10 * BURST)
    return sum(1 for _ in itertools.takewhile(lambda client: not strangers.wait_seconds(client), turns))


def test_whoever_has_no_token_is_bounded_by_his_network() -> None:
    now = [1_000.0]
    strangers = Strangers(monotonic=lambda: now[0])
    assert asked_at_once(strangers, "192.0.2.7") == pytest.approx(BURST, abs=1)
    assert asked_at_once(strangers, "192.0.2.8") == pytest.approx(BURST, abs=1), "of another address nobody has asked"
    of_one_network = [f"2001:db8::{number:x}" for number in range(500)]
    assert asked_at_once(strangers, *of_one_network) == pytest.approx(BURST, abs=1)
    assert asked_at_once(strangers, "") == pytest.approx(BURST, abs=1), "of a unix-domain socket"
    now[0] += 1
    assert asked_at_once(strangers, "192.0.2.7") == pytest.approx(PER_SECOND, abs=1)


def test_every_shape_has_somebody_to_ask_for() -> None:
    assert {shape for shapes in WHOSE.values() for shape in shapes} == set(Shape)
