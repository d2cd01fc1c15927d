"""What conditions ask of the store: which names they have, what is asked for them, and what the answer says."""

import math
from dataclasses import replace

import pytest

from reputation.bookkeeping import CONTACT, LOOKING, MEETING, MEMORY, SEEING, SEEN, SITE, TRACKED_WINDOWS, WEIGHING
from reputation.charges import Answer, Charge, Charging, Kind, Meter, Plan
from reputation.errors import ConfigError
from reputation.events import Event, Stage
from reputation.facts import Known, LookedUp, Network
from reputation.inquiry import (
    AGED,
    COUNTED,
    JUDGED,
    NOTHING,
    ROOTS,
    SCORE_FIELDS,
    UNTOLD_AGE,
    Inquiry,
    Path,
    base_of,
    charges_of,
    contact_of,
    known_of,
    levels_to,
    paths_in,
)
from reputation.keys import EVIDENCE, Dimension, Entities, Entity, Key, composite, entities_of
from reputation.score import KINDS, EvidenceKind
from reputation.spelling import Spelling
from reputation.standing import LEVELS
from reputation.store.memory import MemoryStore
from tests.builders import data, evidence, mail, rcpt, us

IP, PREFIX, ASN = Entity("ip", "192.0.2.1"), Entity("prefix", "192.0.2.0/24"), Entity("asn", "64500")
DAY = 86_400.0
NETWORK = LookedUp(network=Network(asn=64_500, country="DE"))


def entities(event: Event | None = None) -> Entities:
    return entities_of(event or mail(), Spelling(subject_key=b"secret"), NETWORK)


def user_writes(recipient: str = "bob@example.net") -> Entities:
    event = rcpt(recipient)
    return entities(replace(event, session=replace(event.session, user="alice")))


def inquiry(condition: str, stage: Stage = Stage.MAIL) -> Inquiry:
    return Inquiry.of(list(paths_in(condition, stage)))


# --- names in conditions


@pytest.mark.parametrize(
    ("condition", "paths"),
    [
        ("reputation.ip.score > 0.9", [("reputation", "ip", "score")]),
        (
            "reputation.ip.score>0.9&&reputation.message.confidence>0.8",
            [("reputation", "ip", "score"), ("reputation", "message", "confidence")],
        ),
        (
            "last_1h.sender.messages * 2 > last_1d.prefix.spam",
            [("last_1h", "sender", "messages"), ("last_1d", "prefix", "spam")],
        ),
        ("(age.sender_domain < 1.0)", [("age", "sender_domain")]),
        ("reputation . ip\n.score > 0.9", [("reputation", "ip", "score")]),
        ("sender == \"reputation.ip.nonsense\" && user == 'age'", []),
        (r'sender == "\"age.nobody" || age.ip < 1.0', [("age", "ip")]),
        ("user == '' // no matter what age or last_5m say\n && !tls", []),
        ('["a"].exists(agent, agent == user) || coverage.age == ""', []),
        ('user.reputation == ""', []),
        ("hour < 6", []),
    ],
)
def test_names_with_dots_are_found_outside_of_texts(condition: str, paths: list[Path]) -> None:
    assert list(paths_in(condition, Stage.MAIL)) == paths


@pytest.mark.parametrize(
    ("condition", "stage", "said"),
    [
        ("reputation > 1", Stage.MAIL, 'when: write reputation with 2 names behind it, such as "reputation.ip.score"'),
        ("reputation.ip", Stage.MAIL, 'when: write reputation with 2 names behind it, such as "reputation.ip.score"'),
        ("reputation.ip.score.x", Stage.MAIL, "when: write reputation with 2 names behind it"),
        ("last_5m.ip", Stage.MAIL, 'when: write last_5m with 2 names behind it, such as "last_5m.ip.messages"'),
        ("age < 1", Stage.MAIL, 'when: write age with 1 names behind it, such as "age.sender"'),
        ("age.sender.days", Stage.MAIL, 'when: write age with 1 names behind it, such as "age.sender"'),
        ('age["sender"] < 1', Stage.MAIL, 'when: write age with 1 names behind it, such as "age.sender"'),
        (
            "reputation.sender.score",
            Stage.CONNECT,
            "when: there is no reputation.sender at stage connect, but: asn, prefix, ip, m",
        ),
        ("reputation.country.score", Stage.MAIL, "when: there is no reputation.country at stage mail, but: asn, p"),
        ("age.country < 1", Stage.MAIL, "when: there is no age.country at stage mail, but: ip, prefix, user, sender"),
        ("age.message < 1", Stage.DATA, "when: there is no age.message at stage data, but: ip"),
        ("last_1h.message.spam", Stage.DATA, "when: there is no last_1h.message at stage data, but: ip"),
        ("last_1h.recipient.messages", Stage.DATA, "when: there is no last_1h.recipient at stage data, but: ip"),
        ("last_1h.helo.messages", Stage.DATA, "when: there is no last_1h.helo at stage data"),
        ("reputation.ip.scores", Stage.MAIL, 'when: there is no "reputation.ip.scores"; reputation.ip has: score, c'),
        ("last_1d.ip.mails", Stage.MAIL, 'when: there is no "last_1d.ip.mails"; last_1d.ip has: auth_failures, b'),
        ("last_1d.recipient.spam", Stage.RCPT, 'when: there is no "last_1d.recipient.spam"; last_1d.recipient has: m'),
    ],
)
def test_a_name_that_says_nothing_is_refused_with_what_could_be_meant(condition: str, stage: Stage, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        list(paths_in(condition, stage))
    assert str(raised.value).startswith(said)


def test_all_that_is_counted_judged_or_aged_can_be_asked_for() -> None:
    """What an error offers is accepted."""
    for dimension in AGED:
        assert list(paths_in(f"age.{dimension}", Stage.DATA)) == [("age", dimension)]
    for name in (*JUDGED, "message"):
        for field in SCORE_FIELDS:
            assert list(paths_in(f"reputation.{name}.{field}", Stage.DATA)) == [("reputation", name, field)]
    for window in COUNTED:
        assert list(paths_in(f"{window}.recipient.messages", Stage.RCPT)) == [(window, "recipient", "messages")]
    assert {"reputation", "age", *COUNTED} == set(ROOTS)


def test_inquiries_add_up() -> None:
    one = inquiry("reputation.ip.score > 0.9 && last_5m.ip.spam > 1")
    other = inquiry("reputation.asn.volume > 9.0 && age.sender < 1.0 && last_1d.ip.spam > 1")
    both = one | other
    assert both.scores == {"ip", "asn"}
    assert both.counts == {("last_5m", "ip", "spam"), ("last_1d", "ip", "spam")}
    assert both.ages == {"sender"}
    assert not both.first_time
    assert (Inquiry(first_time=True) | NOTHING).first_time
    assert both and not NOTHING and not inquiry("hour < 6") | NOTHING


def test_first_time_is_asked_for_by_its_bare_name() -> None:
    assert Inquiry.of([("first_time",)]) == Inquiry(first_time=True)


# --- what the store is asked


def asked(condition: str, of: Entities, *, with_site: bool = False) -> list[str]:
    stage = Stage.DATA if Dimension.AUTHOR in of or Dimension.SUBJECT in of else Stage.MAIL
    charges = charges_of(inquiry(condition, stage), of, with_site=with_site)
    return [f"{charge.key.entity} {charge.key.metric}" for charge in charges]


def test_a_score_rests_on_the_evidence_of_its_levels_and_of_no_others() -> None:
    assert asked("reputation.ip.score > 0.9", entities()) == [
        *("asn:64500 evidence", "prefix:192.0.2.0/24 evidence", "ip:192.0.2.1 evidence"),
    ]
    assert asked("reputation.prefix.score > 0.9", entities()) == ["asn:64500 evidence", "prefix:192.0.2.0/24 evidence"]
    assert asked("reputation.user.score > 0.9", entities(mail(user="alice"))) == ["user:alice evidence"]
    assert asked("reputation.user.score > 0.9", entities()) == [], "nobody has logged in"


def test_a_message_s_score_rests_on_all_levels_that_the_event_has() -> None:
    event = replace(data("bob@example.net"), author="alice@example.com")
    found = asked("reputation.message.score > 0.9", entities(event))
    dimensions = [line.partition(":")[0] for line in found]
    assert sorted(dimensions) == sorted(dimension for levels in LEVELS.values() for dimension in levels)
    assert "ip+class:192.0.2.1,inbound evidence" in found


def test_what_several_ask_for_is_asked_once() -> None:
    found = asked(
        "reputation.ip.score > 0.9 && reputation.prefix.score > 0.9 && reputation.ip.volume > 1.0", entities()
    )
    assert len(found) == len(set(found)) == 3
    found = asked("last_5m.ip.spam > 1 && last_1h.ip.spam > 9", entities())
    assert found == ["ip:192.0.2.1 spam"], "one counter has all three windows"


def test_the_site_is_asked_for_only_when_wanted_and_where_it_matters() -> None:
    assert asked("reputation.user.score > 0.9", entities(), with_site=True) == [], "nobody has logged in"
    assert asked("reputation.sender.score > 0.9", entities(), with_site=True)[-1] == "site:all evidence"
    assert asked("last_1h.ip.messages > 9", entities(), with_site=True) == ["ip:192.0.2.1 messages"]
    assert asked("age.ip < 1.0", entities(), with_site=True) == ["ip:192.0.2.1 seen", "site:all seen"]
    assert asked("age.ip < 1.0", entities(), with_site=False) == ["ip:192.0.2.1 seen"]


def test_asking_counts_nothing_but_who_is_asked_for_his_age_is_known_from_then_on() -> None:
    condition = "reputation.ip.score > 0.9 && last_1h.ip.spam > 1 && age.sender < 1.0"
    charges = charges_of(inquiry(condition) | Inquiry(first_time=True), user_writes(), with_site=True)
    assert {charge.plan.kind for charge in charges} == {Kind.EVIDENCE, Kind.RINGS, Kind.SEEN}
    charged = {(charge.key.entity.dimension, charge.key.metric) for charge in charges if charge.plan == MEETING}
    assert charged == {("sender", SEEN)}
    others = [meter for charge in charges if charge.plan not in (MEETING, MEMORY) for meter in charge.plan.meters]
    assert {meter.charging for meter in others} == {Charging.NEVER}
    assert {charge.member for charge in charges if charge.plan.kind is Kind.EVIDENCE} == {""}, "only read"


def test_only_of_users_is_it_asked_whether_they_write_for_the_first_time() -> None:
    wanted = Inquiry(first_time=True)
    assert charges_of(wanted, entities(rcpt("bob@example.net")), with_site=False) == ()
    [contact] = charges_of(wanted, user_writes(), with_site=False)
    assert str(contact.key.entity) == "sender+recipient:alice@example.com,bob@example.net"
    assert (contact.key.metric, contact.plan) == (SEEN, LOOKING)
    assert contact.plan.meters[0].windows == SEEING.meters[0].windows


@pytest.mark.parametrize("dimension", [*JUDGED])
def test_levels_end_with_the_dimension_itself(dimension: str) -> None:
    assert levels_to(dimension)[-1] == dimension


# --- what the answer says


async def learned(store: MemoryStore, entity: Entity, *, good: float = 0, bad: float = 0) -> None:
    for kind, amount in ((EvidenceKind.HAM, good), (EvidenceKind.SPAM, bad)):
        if amount:
            await store.decide([evidence(kind, amount, key=Key(entity, EVIDENCE))], now_us=us(0))


async def known(
    store: MemoryStore,
    wanted: Inquiry,
    of: Entities,
    *,
    base: float = 0.2,
    at: float = 0,
    missing: frozenset[int] = frozenset(),
) -> Known:
    charges = charges_of(wanted, of, with_site=True)
    answer = await store.decide(charges, now_us=us(at))
    return known_of(wanted, of, answer._replace(missing=missing), base)


async def test_a_score_says_what_the_evidence_says() -> None:
    store = MemoryStore()
    await learned(store, IP, bad=30)
    await learned(store, PREFIX, good=10)
    found = (await known(store, inquiry("reputation.ip.score > 0.9"), entities())).scores["ip"]
    assert found.score > 0.9 and found.active_now > 0.9 and found.repeat_offender > 0.9
    assert found.confidence > 0.9
    assert (found.volume, found.base) == (30.0, 0.2)


async def test_the_network_speaks_for_an_address_that_is_unknown_but_lends_it_no_volume() -> None:
    store = MemoryStore()
    await learned(store, PREFIX, bad=20)
    found = (await known(store, inquiry("reputation.ip.score > 0.9"), entities())).scores["ip"]
    assert found.score > 0.8
    assert found.volume == 0.0
    assert found.confidence < 0.6


async def test_of_whom_nothing_is_known_the_base_rate_is_expected() -> None:
    wanted = inquiry("reputation.user.score > 0.5 && reputation.ip.score > 0.5 && reputation.message.score > 0.5")
    found = (await known(MemoryStore(), wanted, entities(), base=0.3)).scores
    assert {name: round(score.score, 9) for name, score in found.items()} == {"user": 0.3, "ip": 0.3, "message": 0.3}
    assert {score.confidence for score in found.values()} == {0.0}
    for name, score in found.items():
        assert {type(getattr(score, field)) for field in SCORE_FIELDS} == {float}, f"{name}: no whole numbers, for CEL"


async def test_a_message_s_volume_is_that_of_its_narrowest_levels() -> None:
    store = MemoryStore()
    await learned(store, Entity("asn", "64500"), good=100)
    await learned(store, Entity("ip+class", "192.0.2.1,inbound"), good=7)
    await learned(store, Entity("sender", "alice@example.com"), bad=5)
    found = (await known(store, inquiry("reputation.message.score > 0.9"), entities())).scores["message"]
    assert found.volume == 12.0


async def test_counts_are_those_of_their_window() -> None:
    store, wanted = MemoryStore(), inquiry("last_5m.ip.spam + last_1h.ip.spam + last_1d.ip.spam > 3")
    plan = Plan((Meter(windows=TRACKED_WINDOWS, charging=Charging.ALWAYS),))
    for at, amount in ((-10 * 3_600, 4), (-1_800, 2), (0, 1)):
        await store.decide([Charge(Key(IP, "spam"), plan, amount)], now_us=us(at))
    found = await known(store, wanted, entities())
    assert found.counts == {
        ("last_5m", "ip", "spam"): 1,
        ("last_1h", "ip", "spam"): 3,
        ("last_1d", "ip", "spam"): 7,
    }


async def seen_first(store: MemoryStore, entity: Entity, at: float) -> None:
    await store.decide([Charge(Key(entity, SEEN), SEEING)], now_us=us(at))


async def test_an_age_is_told_in_days() -> None:
    store, wanted = MemoryStore(), inquiry("age.ip < 1.0 && age.sender < 1.0")
    await seen_first(store, IP, -2.5 * DAY)
    await seen_first(store, IP, -0.5 * DAY)
    found = await known(store, wanted, entities())
    assert found.ages == {"ip": 2.5, "sender": 0.0}, "since he was first seen; 0 for who is new"


async def test_who_was_forgotten_is_new() -> None:
    store, wanted = MemoryStore(), inquiry("age.ip < 1.0")
    await seen_first(store, IP, -91 * DAY)
    assert (await known(store, wanted, entities())).ages == {"ip": 0.0}


async def test_a_user_writes_for_the_first_time_once() -> None:
    store, wanted = MemoryStore(), Inquiry(first_time=True)
    assert (await known(store, wanted, user_writes())).first_time
    contact = contact_of(user_writes())
    assert contact == composite(user_writes(), CONTACT)
    assert contact is not None
    await seen_first(store, contact, 0)
    assert not (await known(store, wanted, user_writes(), at=1)).first_time
    assert (await known(store, wanted, user_writes("carol@example.net"), at=1)).first_time
    assert not (await known(store, wanted, entities(rcpt("dave@example.net")))).first_time, "nobody has logged in"


async def test_a_contact_says_nothing_unless_it_was_asked_for() -> None:
    assert not (await known(MemoryStore(), inquiry("age.sender < 1.0"), user_writes())).first_time


async def test_what_a_server_did_not_tell_is_not_known_and_what_others_told_is() -> None:
    store = MemoryStore()
    await learned(store, ASN, good=50)
    await learned(store, PREFIX, bad=50)
    await learned(store, IP, bad=50)
    wanted = inquiry("reputation.ip.score > 0.9 && last_1h.sender.messages > 1")
    whole = (await known(store, wanted, entities())).scores["ip"]
    partly = await known(store, wanted, entities(), missing=frozenset({1, 2, 3}))
    assert whole.score > 0.9
    assert partly.scores["ip"].score < 0.1, "by the provider alone"
    assert partly.scores["ip"].volume == 0.0
    assert partly.counts == {}


async def test_the_numbers_behind_a_missing_answer_stay_in_their_places() -> None:
    store, wanted = MemoryStore(), inquiry("last_1h.ip.spam > 0 && last_1h.sender.spam > 0 && age.ip < 1.0")
    plan = Plan((Meter(windows=TRACKED_WINDOWS, charging=Charging.ALWAYS),))
    await store.decide([Charge(Key(Entity("sender", "alice@example.com"), "spam"), plan, 3)], now_us=us(0))
    await seen_first(store, IP, -DAY)
    found = await known(store, wanted, entities(), missing=frozenset({0}))
    assert found.counts["last_1h", "sender", "spam"] == 3
    assert found.ages == {"ip": 1.0}


@pytest.mark.parametrize("answered", [True, False], ids=["a server is away", "the store is away"])
async def test_nobody_is_new_because_the_store_did_not_tell(answered: bool) -> None:
    """A rule against newcomers must not refuse everybody during an outage."""
    wanted, of = inquiry("age.ip < 1.0") | Inquiry(first_time=True), user_writes()
    if answered:
        found = await known(MemoryStore(), wanted, of, missing=frozenset({0, 1}))
    else:
        found = known_of(wanted, of, Answer(), 0.5)
    assert found.ages == {"ip": UNTOLD_AGE} == {"ip": math.inf}
    assert not found.first_time


def test_without_an_answer_every_score_is_there_and_unknown() -> None:
    found = known_of(inquiry("reputation.ip.score > 0.9"), entities(), Answer(), 0.5).scores["ip"]
    assert (found.score, found.confidence, found.volume) == (0.5, 0.0, 0.0)


async def test_the_base_rate_is_that_of_the_site_and_of_no_other() -> None:
    store = MemoryStore()
    await learned(store, SITE, good=7, bad=1)
    await learned(store, IP, bad=100)
    wanted = inquiry("reputation.ip.score > 0.9 && last_1h.ip.spam > 1")
    answer = await store.decide(charges_of(wanted, entities(), with_site=True), now_us=us(0))
    assert base_of(answer) == pytest.approx(0.2)
    site = [charge.key.entity for charge in answer.charges].index(SITE)
    assert base_of(answer._replace(missing=frozenset({site}))) is None
    assert base_of(await store.decide(charges_of(wanted, entities(), with_site=False), now_us=us(0))) is None


def test_evidence_is_read_and_written_by_one_plan() -> None:
    assert WEIGHING.size == 2 * len(KINDS)
