"""Which kind of mail an event is about."""

from dataclasses import replace

import pytest

from reputation.classes import MailClass, class_of
from reputation.events import NULL_SENDER, Data
from reputation.keys import Dimension, entities_of
from reputation.policy import Policy
from reputation.spelling import Spelling
from reputation.vocabulary import Moment
from tests.builders import data, mail, rcpt, rule

PERSON = "alice@example.com"


def with_header(sender: str = PERSON, *, user: str = "", **fields: str) -> Data:
    event = data("bob@example.net", sender=sender)
    header = {name.replace("_", "-"): text for name, text in fields.items()}
    return replace(event, header=header, session=replace(event.session, user=user))


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        (PERSON, "inbound"),
        ("", "bounce"),
        ("SRS0=HHH=TT=orig.example=alice@fwd.example", "forward"),
        ("srs0+HHH=TT=orig.example=alice@fwd.example", "forward"),
        ("srs1=HHH=other.example==HHH=TT=orig.example=alice@fwd.example", "forward"),
        ("SRS1-HHH=other.example==HHH=TT=orig.example=alice@fwd.example", "forward"),
        ("srs@example.com", "inbound"),
        ("srs2=x@example.com", "inbound"),
        ("alice+caf_=bob=example.net@gmail.com", "forward"),
        ("alice+caf@gmail.com", "inbound"),
        ("dev-bounces@lists.example.org", "list"),
        ("dev-bounces+bob=example.net@lists.example.org", "list"),
        ("Dev-Bounces@LISTS.example.org", "list"),
        ("dev-return-17-bob=example.net@lists.example.org", "list"),
        ("dev-owner@lists.example.org", "list"),
        ("dev-request@lists.example.org", "inbound"),
        ("owner-dev@lists.example.org", "list"),
        ("owner@example.org", "inbound"),
        ("bounces+123-abc@mail.example.org", "list"),
        ("bounce-7-html@news.example.org", "list"),
        ("bounce@example.org", "inbound"),
        ("debounces@example.org", "inbound"),
        ("alice-returned@example.com", "inbound"),
        ("alice@owner-bounces.example", "inbound"),
        ("alice@dev-bounces@example.org", "inbound"),
    ],
)
def test_a_sender_tells_the_class(sender: str, expected: str) -> None:
    assert class_of(mail(sender)) == expected
    assert class_of(rcpt("bob@example.net", sender)) == expected
    assert class_of(with_header(sender)) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"auto_submitted": "auto-replied"}, "autoreply"),
        ({"auto_submitted": " Auto-Replied; owner-email=x@example.com"}, "autoreply"),
        ({"auto_submitted": "no"}, "inbound"),
        ({"auto_submitted": "auto-generated"}, "inbound"),
        ({"content_type": 'multipart/report; report-type=delivery-status; boundary="b"'}, "bounce"),
        ({"content_type": ' Multipart/Report; boundary="b"; Report-Type="Delivery-Status"'}, "bounce"),
        ({"content_type": 'multipart/report;\r\n\tboundary="b";\r\n report-type = "delivery-status"'}, "bounce"),
        ({"content_type": "multipart/report; report-type=disposition-notification"}, "inbound"),
        ({"content_type": "multipart/report; report-type=feedback-report"}, "inbound"),
        ({"content_type": "multipart/mixed; report-type=delivery-status"}, "inbound"),
        ({"content_type": "text/plain; x=multipart/report; report-type=delivery-status"}, "inbound"),
        ({"list_id": "Developers <dev.lists.example.org>"}, "list"),
        ({"list_post": "<mailto:dev@lists.example.org>"}, "list"),
        ({"precedence": " List "}, "list"),
        ({"precedence": "bulk"}, "inbound"),
        ({"list_unsubscribe": "<mailto:x@example.org>"}, "inbound"),
        ({"auto_submitted": "auto-replied", "list_id": "<dev.example.org>"}, "autoreply"),
        ({"content_type": "multipart/report; report-type=delivery-status", "list_id": "<dev.example.org>"}, "bounce"),
    ],
)
def test_a_header_tells_the_class(fields: dict[str, str], expected: str) -> None:
    assert class_of(with_header(**fields)) == expected


def test_an_autoreply_with_the_null_sender_is_an_autoreply() -> None:
    """RFC 3834 section 3.3: that is how they are to be sent."""
    assert class_of(with_header(NULL_SENDER, auto_submitted="auto-replied")) is MailClass.AUTOREPLY
    assert class_of(mail(NULL_SENDER)) is MailClass.BOUNCE, "before the header is known"


def test_a_forwarded_message_of_a_list_is_a_forward() -> None:
    assert class_of(with_header("srs0=a=b=c.example=d@fwd.example", list_id="<dev.example.org>")) is MailClass.FORWARD


@pytest.mark.parametrize("sender", ["", "dev-bounces@lists.example.org", "srs0=a=b=c.example=d@f.example"])
def test_whoever_has_logged_in_submits_whatever_it_looks_like(sender: str) -> None:
    assert class_of(mail(sender, user="alice")) is MailClass.SUBMISSION
    event = with_header(sender, user="alice", auto_submitted="auto-replied", list_id="<x>")
    assert class_of(event) is MailClass.SUBMISSION


@pytest.mark.parametrize("sender", ["", "SRS0=h=t=example.com=alice@fwd.example", "dev-bounces@lists.example.org"])
def test_pitfall_17_what_a_machine_sends_is_not_counted_as_if_its_sender_had_written_it(sender: str) -> None:
    """A rule for what people send is not about it, though alice is the author of what was forwarded or posted."""
    policy = Policy(rules=(rule("people", when='class == "inbound"'),), tracked=frozenset())
    counted = {
        each: policy.charges_for(Moment(mail(each), entities_of(mail(each), Spelling()), 0.0))
        for each in (PERSON, sender)
    }
    assert [str(charge.key.entity) for charge in counted[PERSON]] == [f"sender:{PERSON}"]
    assert counted[sender] == ()


def test_the_class_is_a_dimension_from_mail_on() -> None:
    assert entities_of(mail("dev-bounces@lists.example.org"), Spelling())[Dimension.CLASS].id == "list"
    assert entities_of(with_header(list_id="<x>"), Spelling())[Dimension.CLASS].id == "list"


@pytest.mark.parametrize("text", ["-bounces" * 1_000, "a" * 100_000, "-return-" * 1_000, "srs0" * 9_000])
def test_a_long_sender_is_classified_at_once(text: str) -> None:
    """What takes the square of its length would take minutes."""
    assert class_of(mail(text)) in MailClass
    assert class_of(with_header(content_type=f"multipart/report; {'report-type ' * 9_000}")) is MailClass.INBOUND
