"""What is found out before an event is judged: only what is wanted, at the same time, and never in the way of mail."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from reputation.bookkeeping import MEMORY, SEEN, SITE
from reputation.briefing import BASE_SECONDS, Briefing
from reputation.charges import Answer, Charge
from reputation.clock import ManualClock
from reputation.errors import ConfigError
from reputation.events import Event, Stage
from reputation.facts import NOTHING_KNOWN, LookedUp, Lookup, Signature
from reputation.inquiry import UNKNOWN_BASE, Inquiry
from reputation.keys import EVIDENCE, Dimension, Entity, Key, Metric, entities_of
from reputation.metrics import Metrics
from reputation.newcomers import MOST
from reputation.opinions import PolicyFunction
from reputation.policy import Policy
from reputation.rules import Mode, Rule
from reputation.score import EvidenceKind
from reputation.spelling import Spelling
from reputation.verdict import Action, Reason, Verdict
from reputation.vocabulary import Moment
from tests.builders import connect, data, evidence, mail, rcpt, rule
from tests.clocked_store import MIDNIGHT, ClockedStore
from tests.known_lookups import NETWORK, KnownLookups

PATIENCE_SECONDS = 5.0
MESSAGE = data("bob@example.net")
REJECTED = Verdict(action=Action.REJECT, reason=Reason.MATCHED, rule="python")
BAD_REPUTATION = "reputation.ip.score > 0.9 && reputation.ip.confidence > 0.8"


class Desk:
    """A briefing, with all that it talks to."""

    def __init__(self, found: LookedUp | None = None) -> None:
        self.clock = ManualClock(MIDNIGHT)
        self.store = ClockedStore(self.clock)
        self.lookups = KnownLookups(found)
        self.metrics = Metrics()
        self.away = False
        self.briefing = Briefing(
            lookups=self.lookups,
            read=self.read,
            spelling=Spelling(),
            metrics=self.metrics,
            clock=self.clock,
        )

    async def remembers(self) -> None:
        """The site has known people for a month."""
        await self.store.decide([Charge(Key(SITE, SEEN), MEMORY)])
        self.clock.advance(30 * 86_400)
        self.store.asked.clear()

    async def read(self, charges: Sequence[Charge]) -> Answer | None:
        answer = await self.store.decide(charges)
        return None if self.away else answer

    async def moment(self, policy: Policy, event: Event | None = None) -> Moment:
        event = event or mail()
        looked_up = LookedUp(network=NETWORK)
        moment = Moment(event, entities_of(event, Spelling(), looked_up), self.clock.now(), looked_up)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.briefing.completed(policy, moment)

    @property
    def sites_asked(self) -> int:
        return sum(charge.key.entity == SITE for charges in self.store.asked for charge in charges)


def about(when: str, *, name: str = "odd", event: Event | None = None, **more: object) -> Rule:
    """A rule without limits."""
    return rule(name, event, key=(), count="", limits=(), when=when, action=Action.REJECT, **more)


def policy_of(*rules: Rule, functions: tuple[PolicyFunction, ...] = ()) -> Policy:
    return Policy(rules=rules, tracked=frozenset(), functions=functions)


# --- only what is wanted


async def test_where_nothing_is_named_nothing_is_asked() -> None:
    desk = Desk()
    policy = policy_of(
        rule(), about("hour < 25 && !tls"), about('iprev == ""', name="later", event=rcpt("b@example.net"))
    )
    moment = await desk.moment(policy)
    assert (desk.lookups.asked, desk.store.asked) == ([], [])
    assert (moment.known, moment.looked_up.network) == (NOTHING_KNOWN, NETWORK)


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (policy_of(about('iprev == "pass"')), {Lookup.IPREV}),
        (policy_of(about('rdns == ""', name="a"), about("size(dnsbl) > 1", name="b")), {Lookup.IPREV, Lookup.DNSBL}),
        (policy_of(about('spf == "fail"')), {Lookup.SPF}),
        (policy_of(rule("names", key=(Dimension.RDNS_DOMAIN,))), {Lookup.IPREV}),
        (policy_of(rule("names", count="distinct(spf_domain)", key=(Dimension.IP,))), {Lookup.SPF}),
        (policy_of(about('asn == 64500 || country == "DE"')), set()),
        (policy_of(about("dnsbl_temperror == []", mode=Mode.SHADOW)), {Lookup.DNSBL}),
    ],
)
async def test_what_rules_name_is_looked_up_and_the_store_is_left_alone(policy: Policy, wanted: set[Lookup]) -> None:
    desk = Desk(LookedUp(iprev="pass", rdns="mx.mail.example"))
    await desk.moment(policy)
    assert [asked for _, asked in desk.lookups.asked] == ([wanted] if wanted else [])
    assert desk.store.asked == []


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (policy_of(about('dmarc == "fail"', event=MESSAGE)), {Lookup.DMARC}),
        (policy_of(about('dkim == "pass" && malware == ""', event=MESSAGE)), {Lookup.DKIM, Lookup.FILTER}),
        (policy_of(about('arc_domain == "lists.example"', event=MESSAGE)), {Lookup.ARC}),
        (policy_of(rule("signers", MESSAGE, key=(Dimension.DKIM_DOMAIN,))), {Lookup.DKIM}),
        (Policy(always={Stage.DATA: frozenset({Lookup.FILTER})}, tracked=frozenset()), {Lookup.FILTER}),
    ],
)
async def test_what_is_about_a_message_is_looked_up_at_its_stage(policy: Policy, wanted: set[Lookup]) -> None:
    desk = Desk(LookedUp(signatures=(Signature(result="pass", domain="mx.example.org"),)))
    await desk.moment(policy)
    assert desk.lookups.asked == []
    moment = await desk.moment(policy, MESSAGE)
    assert [asked for _, asked in desk.lookups.asked] == [wanted]
    assert moment.entities[Dimension.DKIM_DOMAIN] == Entity("dkim_domain", "example.org")


async def test_what_rules_ask_the_store_is_asked_at_once_and_nothing_is_looked_up() -> None:
    desk = Desk()
    await desk.remembers()
    policy = policy_of(
        about(BAD_REPUTATION), about("last_1h.sender.messages > 9", name="b"), about("age.ip < 1.0", name="c")
    )
    moment = await desk.moment(policy)
    assert len(desk.store.asked) == 1
    assert desk.lookups.asked == []
    assert moment.known.scores.keys() == {"ip"}
    assert moment.known.ages == {"ip": 0.0}


async def test_what_is_found_makes_entities() -> None:
    desk = Desk(LookedUp(iprev="pass", rdns="mx.mail.example", spf="pass"))
    policy = policy_of(about('iprev == "fail" || spf == "fail"'))
    entities = (await desk.moment(policy)).entities
    assert entities[Dimension.RDNS_DOMAIN] == Entity("rdns_domain", "mail.example")
    assert entities[Dimension.SPF_DOMAIN] == Entity("spf_domain", "example.com")
    assert entities[Dimension.ASN] == Entity("asn", "64500")


# --- at the same time


async def test_the_dns_and_the_store_are_asked_at_the_same_time() -> None:
    desk = Desk(LookedUp(iprev="fail"))
    desk.lookups.gate = asyncio.Event()
    policy = policy_of(about(f'iprev == "fail" && {BAD_REPUTATION}'))
    task = asyncio.create_task(desk.moment(policy))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (desk.lookups.asked and desk.store.asked):
            await asyncio.sleep(0)  # neither has been answered yet
    assert not task.done()
    desk.lookups.gate.set()
    moment = await task
    assert moment.looked_up.iprev == "fail"
    assert "ip" in moment.known.scores


# --- the store's part


async def learned(desk: Desk, entity: Entity, kind: EvidenceKind, amount: float) -> None:
    await desk.store.decide([evidence(kind, amount, key=Key(entity, EVIDENCE))])
    desk.store.asked.clear()


async def test_the_base_rate_is_believed_for_a_while() -> None:
    desk, policy = Desk(), policy_of(about(BAD_REPUTATION))
    await learned(desk, SITE, EvidenceKind.SPAM, 8)
    assert (await desk.moment(policy)).known.scores["ip"].base == pytest.approx(0.9)
    await learned(desk, SITE, EvidenceKind.HAM, 1_000)
    desk.clock.advance(BASE_SECONDS - 1)
    assert (await desk.moment(policy)).known.scores["ip"].base == pytest.approx(0.9)
    assert desk.sites_asked == 0
    desk.clock.advance(1)
    assert (await desk.moment(policy)).known.scores["ip"].base < 0.1
    assert desk.sites_asked == 1
    await desk.moment(policy)
    assert desk.sites_asked == 1


async def test_counts_alone_need_no_base_rate() -> None:
    desk = Desk()
    await desk.moment(policy_of(about("last_1h.ip.messages > 9")))
    assert (len(desk.store.asked), desk.sites_asked) == (1, 0)


async def test_without_the_store_a_reputation_is_unknown() -> None:
    desk, policy = Desk(), policy_of(about(BAD_REPUTATION))
    await learned(desk, Entity("ip", "192.0.2.1"), EvidenceKind.SPAM, 100)
    desk.away = True
    score = (await desk.moment(policy)).known.scores["ip"]
    assert (score.score, score.confidence, score.volume) == (UNKNOWN_BASE, 0.0, 0.0)
    assert policy.opinions_on(await desk.moment(policy)) == ()
    desk.away = False
    assert policy.opinions_on(await desk.moment(policy)) != (), "and known again, when it is back"


async def test_the_base_rate_that_was_last_known_holds_while_the_store_is_away() -> None:
    desk, policy = Desk(), policy_of(about(BAD_REPUTATION))
    await learned(desk, SITE, EvidenceKind.HAM, 8)
    await desk.moment(policy)
    desk.away = True
    desk.clock.advance(2 * BASE_SECONDS)
    assert (await desk.moment(policy)).known.scores["ip"].base == pytest.approx(0.1)
    assert (await desk.moment(policy)).known.scores["ip"].base == pytest.approx(0.1)
    assert desk.sites_asked == 3, "it is asked for again until there is an answer"


@pytest.mark.parametrize("condition", ["age.ip < 1.0", "first_time"])
async def test_nobody_is_new_while_the_store_is_away(condition: str) -> None:
    desk = Desk()
    await desk.remembers()
    event = rcpt("bob@example.net")
    written = replace(event, session=replace(event.session, user="alice"))
    policy = policy_of(about(condition, event=event))
    assert policy.opinions_on(await desk.moment(policy, written)) != ()
    desk.away = True
    assert policy.opinions_on(await desk.moment(policy, written)) == ()


async def test_a_network_that_makes_names_up_does_not_fill_the_store_with_them() -> None:
    desk, policy = Desk(), policy_of(about("age.sender < 1.0"))
    await desk.remembers()
    for number in range(2 * MOST):
        await desk.moment(policy, mail(f"made-up-{number}@example.com"))
    assert len(desk.store._states) == MOST + 1, "and the site itself"
    assert policy.opinions_on(await desk.moment(policy, mail("one-more@example.com"))) != (), "it is new all the same"
    await desk.moment(policy, mail("other@example.com", client="198.51.100.1"))
    assert len(desk.store._states) == MOST + 2


async def test_an_entity_that_the_event_has_not_is_not_asked_about() -> None:
    desk = Desk()
    moment = await desk.moment(policy_of(about("last_1h.user.messages > 9 || age.user < 1.0")))
    assert desk.store.asked == []
    assert moment.known.counts == {}


# --- policies in Python


def function(
    call: Callable[[Moment], Awaitable[Verdict | None]],
    *,
    name: str = "python",
    stage: Stage = Stage.MAIL,
    mode: Mode = Mode.ENFORCE,
    deadline_seconds: float = PATIENCE_SECONDS,
    lookups: frozenset[Lookup] = frozenset(),
    inquiry: Inquiry = Inquiry(),  # noqa: B008 - it is immutable
) -> PolicyFunction:
    return PolicyFunction(
        name=name,
        stage=stage,
        mode=mode,
        deadline_seconds=deadline_seconds,
        lookups=lookups,
        inquiry=inquiry,
        call=call,
    )


async def rejects(_moment: Moment) -> Verdict | None:
    return REJECTED


async def has_none(_moment: Moment) -> Verdict | None:
    return None


async def fails(_moment: Moment) -> Verdict | None:
    raise RuntimeError("somebody else's code")


async def hangs(_moment: Moment) -> Verdict | None:
    await asyncio.Event().wait()
    return REJECTED


async def opinions(desk: Desk, policy: Policy, event: Event | None = None) -> list[tuple[str, Mode, Action]]:
    moment = await desk.moment(policy, event)
    async with asyncio.timeout(PATIENCE_SECONDS):
        found = await desk.briefing.opinions(policy, moment)
    return [(opinion.name, opinion.mode, opinion.verdict.action) for opinion in found]


async def test_functions_are_heard_after_rules_each_at_its_stage() -> None:
    policy = policy_of(
        about("!tls"),
        functions=(
            function(rejects, mode=Mode.SHADOW),
            function(has_none, name="none"),
            function(rejects, name="later", stage=Stage.RCPT),
            function(rejects, name="last"),
        ),
    )
    assert await opinions(Desk(), policy) == [
        ("odd", Mode.ENFORCE, Action.REJECT),
        ("python", Mode.SHADOW, Action.REJECT),
        ("last", Mode.ENFORCE, Action.REJECT),
    ]
    assert await opinions(Desk(), policy, connect()) == []


async def test_a_function_sees_what_it_wants_to_be_found_out() -> None:
    seen: list[Moment] = []

    async def looks(moment: Moment) -> Verdict | None:
        seen.append(moment)
        return None

    wanting = function(
        looks, lookups=frozenset({Lookup.IPREV}), inquiry=Inquiry(counts=frozenset({("last_1h", "ip", Metric.SPAM)}))
    )
    await opinions(Desk(LookedUp(iprev="fail")), policy_of(functions=(wanting,)))
    [moment] = seen
    assert moment.looked_up.iprev == "fail"
    assert moment.known.counts["last_1h", "ip", "spam"] == 0


async def test_a_function_that_fails_has_no_opinion_and_the_others_have(caplog: pytest.LogCaptureFixture) -> None:
    desk = Desk()
    policy = policy_of(functions=(function(fails, name="broken"), function(rejects)))
    with caplog.at_level(logging.INFO, "reputon.engine"):
        for _ in range(3):
            assert await opinions(desk, policy) == [("python", Mode.ENFORCE, Action.REJECT)]
    labels = {"rule": "broken", "error": "RuntimeError"}
    assert desk.metrics.registry.get_sample_value("reputon_function_failures_total", labels) == 3
    assert [record.message for record in caplog.records] == ["the policy broken failed and has no opinion; said once"]


async def test_a_function_that_takes_too_long_has_no_opinion() -> None:
    desk = Desk()
    policy = policy_of(functions=(function(hangs, name="slow", deadline_seconds=0.001), function(rejects)))
    assert await opinions(desk, policy) == [("python", Mode.ENFORCE, Action.REJECT)]
    labels = {"rule": "slow", "error": "TimeoutError"}
    assert desk.metrics.registry.get_sample_value("reputon_function_failures_total", labels) == 1


async def test_a_caller_that_gives_up_is_no_failure_of_a_function() -> None:
    desk = Desk()
    policy = policy_of(functions=(function(hangs, name="slow"),))
    moment = await desk.moment(policy)
    task = asyncio.create_task(desk.briefing.opinions(policy, moment))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    labels = {"rule": "slow", "error": "CancelledError"}
    assert desk.metrics.registry.get_sample_value("reputon_function_failures_total", labels) is None


def test_a_function_and_a_rule_of_one_name_would_be_told_as_one_and_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rule names must differ.*: odd"):
        policy_of(about("!tls"), functions=(function(rejects, name="odd"),))


async def test_on_its_first_day_nobody_is_new_to_a_site_and_whoever_was_there_then_never_is() -> None:
    desk, policy = Desk(), policy_of(about("age.sender < 7.0"))
    assert policy.opinions_on(await desk.moment(policy, mail("old@example.com"))) == ()
    desk.clock.advance(2 * 86_400)
    assert policy.opinions_on(await desk.moment(policy, mail("old@example.com"))) == ()
    assert policy.opinions_on(await desk.moment(policy, mail("new@example.com"))) != ()
