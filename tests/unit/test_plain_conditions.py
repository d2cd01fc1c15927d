"""What plain parts of a condition say is what CEL says."""

from ipaddress import ip_address

import cel
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reputation.conditions import Condition
from reputation.events import Rcpt, Session, Stage
from reputation.facts import Known, Score
from reputation.keys import entities_of
from reputation.plain_conditions import parts_of
from reputation.spelling import Spelling
from reputation.vocabulary import Moment

PARTS = (
    'class == "inbound"',
    "class != 'submission'",
    'user == ""',
    "tls",
    "!tls",
    '"vip" in lists',
    "last_1h.ip.recipients >= 5",
    "last_1h.ip.invalid_recipients >= last_1h.ip.recipients",
    "reputation.ip.score > 0.5",
    "age.sender_domain < 7.0",
    '(tls || class == "list")',
    'sender.endsWith("&&")',
    "last_1h.ip.recipients * 2 > 7",
    'helo == "a && b"',
)


def moment(*, tls: bool, user: str, listed: bool, counts: tuple[int, int], score: float, age: float) -> Moment:
    session = Session(id="s", client=ip_address("192.0.2.7"), helo="mx.example.com", user=user, tls=tls)
    event = Rcpt(session=session, sender="alice@example.com", recipient="bob@example.net")
    known = Known(
        scores={"ip": Score(score=score, confidence=0, active_now=0, repeat_offender=0, base=0.5, volume=0)},
        counts=dict(
            zip((("last_1h", "ip", "recipients"), ("last_1h", "ip", "invalid_recipients")), counts, strict=True)
        ),
        ages={"sender_domain": age},
    )
    lists = frozenset({"vip"} if listed else ())
    return Moment(event, entities_of(event, Spelling()), 0.0, known=known, lists=lists)


MOMENTS = st.builds(
    moment,
    tls=st.booleans(),
    user=st.sampled_from(["", "alice"]),
    listed=st.booleans(),
    counts=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    score=st.sampled_from([0.0, 0.5, 0.51]),
    age=st.sampled_from([0.0, 7.0, float("inf")]),
)


def by_cel_alone(text: str, it: Moment) -> bool:
    recipients = it.known.counts["last_1h", "ip", "recipients"]
    invalid = it.known.counts["last_1h", "ip", "invalid_recipients"]
    answer = cel.evaluate(
        text,
        {
            "class": "submission" if it.event.session.user else "inbound",
            "user": it.event.session.user or "",
            "tls": it.event.session.tls,
            "helo": "mx.example.com",
            "sender": "alice@example.com",
            "lists": sorted(it.lists or ()),
            "last_1h": {"ip": {"recipients": recipients, "invalid_recipients": invalid}},
            "reputation": {"ip": {"score": it.known.scores["ip"].score}},
            "age": {"sender_domain": it.known.ages["sender_domain"]},
        },
    )
    assert isinstance(answer, bool)
    return answer


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4), MOMENTS)
def test_a_condition_holds_as_cel_says(parts: list[str], it: Moment) -> None:
    text = " && ".join(parts)
    assert Condition(text, Stage.RCPT).holds(it) is by_cel_alone(text, it)


@given(st.lists(st.sampled_from(PARTS), min_size=1, max_size=4), MOMENTS)
def test_what_could_not_hold_does_not_hold(parts: list[str], it: Moment) -> None:
    condition = Condition(" && ".join(parts), Stage.RCPT)
    assert condition.could_hold(it.event, it.entities) or not condition.holds(it)


@pytest.mark.parametrize(
    ("text", "plain", "rest"),
    [
        ('class != "submission" && first_time', 2, ""),
        ('class == "list" && sender.endsWith("x") && hour > 3', 1, '(sender.endsWith("x")) && (hour > 3)'),
        ('tls || class == "list" && early', 0, 'tls || class == "list" && early'),
        ('tls ? early : class == "a" && tls', 0, 'tls ? early : class == "a" && tls'),
        (r'class == "a\"" && tls', 0, r'class == "a\"" && tls'),
        ('helo == "a && b"', 1, ""),
        ("tls // && early", 0, "tls // && early"),
    ],
)
def test_what_is_not_surely_plain_is_left_to_cel(text: str, plain: int, rest: str) -> None:
    parts, left = parts_of(text, lambda _: None)
    assert (len(parts), left) == (plain, rest)


def test_what_is_known_later_says_nothing_before() -> None:
    it = moment(tls=False, user="alice", listed=False, counts=(0, 0), score=0.0, age=0.0)
    assert Condition('"vip" in lists && first_time', Stage.RCPT).could_hold(it.event, it.entities)
    assert not Condition("tls && first_time", Stage.RCPT).could_hold(it.event, it.entities)
