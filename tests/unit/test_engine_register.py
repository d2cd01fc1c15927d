"""What operators have put down, on the main path: refused without a round trip, exempt, with other limits."""

from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from reputation.charges import Answer, Charge, Charging
from reputation.engine import Engine
from reputation.entries import Entry
from reputation.errors import StoreUnavailable
from reputation.events import Event, Outcome, OutcomeKind, Stage
from reputation.keys import Dimension, Entity, Metric, entities_of
from reputation.overrides import COUNTED_BY
from reputation.policy import Policy
from reputation.rules import OnStoreFailure, Rule
from reputation.spelling import Spelling
from reputation.store.memory import MemoryStore
from reputation.verdict import Action, Reason
from tests.builders import EVENTS, connect, disconnect, mail, rcpt, rule
from tests.entries_for_tests import ban, listing, override

ALICE = Entity("sender", "alice@example.com")
HOURLY = rule("hourly", limits=("2/1h",))


class CountedStore(MemoryStore):
    """One that counts the decisions, and fails while it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.decisions = 0
        self.down = False

    async def decide(self, charges: Sequence[Charge], *, token: str = "", now_us: int | None = None) -> Answer:
        self.decisions += 1
        if self.down:
            raise StoreUnavailable("it is down")
        return await super().decide(charges, token=token, now_us=now_us)


@pytest.fixture
def store() -> CountedStore:
    return CountedStore()


async def engine_of(store: CountedStore, *rules: Rule, entries: tuple[Entry, ...] = ()) -> Engine:
    engine = Engine(policy=Policy(rules=rules, tracked=frozenset(Dimension)), store=store)
    for entry in entries:
        await engine.registrar.put(entry)
    return engine


# Refused


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.stage)
async def test_a_banned_client_is_refused_everywhere_without_a_round_trip(store: CountedStore, event: Event) -> None:
    engine = await engine_of(store, HOURLY, entries=(ban("ip:192.0.2.0/24"),))
    verdict = await engine.judge(event)
    if event.stage is Stage.DISCONNECT:
        assert verdict.action is Action.ACCEPT
        return
    assert (verdict.action, verdict.reason, verdict.entry) == (Action.REJECT, Reason.BANNED, "ban|ip:192.0.2.0/24")
    assert (verdict.rule, verdict.findings, verdict.receipt, store.decisions) == ("", (), (), 0)
    labels = {"stage": event.stage, "action": "reject", "reason": "banned"}
    assert engine.metrics.registry.get_sample_value("reputon_verdicts_total", labels) == 1


async def test_what_is_to_be_discarded_is_judged_by_rules_until_there_is_something_to_discard(
    store: CountedStore,
) -> None:
    busy = rule("busy", connect(), key=(Dimension.IP,), count=Metric.CONNECTIONS, limits=("1/1h",))
    engine = await engine_of(store, busy, entries=(ban("ip:192.0.2.1", Action.DISCARD),))
    verdicts = [await engine.judge(event) for event in (connect(), mail(), rcpt("bob@example.net"), connect())]
    assert [verdict.action for verdict in verdicts] == ["accept", "discard", "discard", "tempfail"]


async def test_leases_come_back_at_the_end_also_of_who_was_banned_meanwhile(store: CountedStore) -> None:
    sessions = rule("sessions", connect(), key=(Dimension.IP,), count=Metric.CONCURRENT, limits=("1/1m",))
    engine = await engine_of(store, sessions)
    assert (await engine.judge(connect())).action is Action.ACCEPT
    await engine.registrar.put(ban("ip:192.0.2.1"))
    assert (await engine.judge(mail())).reason is Reason.BANNED
    await engine.judge(disconnect())
    await engine.registrar.lift("ban|ip:192.0.2.1", author="bob", reason="over")
    assert (await engine.judge(connect())).action is Action.ACCEPT


# Exempt


async def test_pitfall_20_who_is_on_the_allow_list_is_asked_no_rule_and_counted_all_the_same(
    store: CountedStore,
) -> None:
    sessions = rule("sessions", key=(Dimension.IP,), count=Metric.CONCURRENT, limits=("1/1m",))
    strangers = rule("strangers", key=(Dimension.SENDER,), count="distinct(ip)", limits=("1/1h",))
    engine = await engine_of(store, HOURLY, sessions, strangers, entries=(listing("allow", "ip:192.0.2.0/24"),))
    for _ in range(5):
        verdict = await engine.judge(mail())
        assert (verdict.action, verdict.reason) == (Action.ACCEPT, Reason.ALLOWLISTED)
        assert (verdict.entry, verdict.findings) == ("list|allow|ip:192.0.2.0/24", ())
    assert {(row.scope, row.count) for row in await store.series(ALICE)} == {("", 5)}
    await engine.refund(verdict)
    assert {(row.scope, row.count) for row in await store.series(ALICE)} == {("", 4)}


async def test_without_the_store_he_passes_even_where_rules_would_refuse(store: CountedStore) -> None:
    careful = rule("careful", on_store_failure=OnStoreFailure.TEMPFAIL)
    engine = await engine_of(store, careful, entries=(listing("allow", "sender:alice@example.com"),))
    store.down = True
    assert (await engine.judge(mail())).reason is Reason.ALLOWLISTED
    assert (await engine.judge(mail("bob@example.com"))).action is Action.TEMPFAIL


# Other limits


async def test_an_override_takes_the_place_of_the_limits_for_one_and_the_count_goes_on(store: CountedStore) -> None:
    engine = await engine_of(store, HOURLY)
    for _ in range(2):
        assert (await engine.judge(mail())).action is Action.ACCEPT
    refused = await engine.judge(mail())
    assert refused.deciding is not None
    assert str(refused.deciding) == "hourly sender:alice@example.com messages 2 of 2/1h"
    await engine.registrar.put(override("sender:alice@example.com", "3/1h", rule="hourly"))
    verdicts = [await engine.judge(mail()) for _ in range(2)]
    assert [verdict.action for verdict in verdicts] == [Action.ACCEPT, Action.TEMPFAIL]
    assert str(verdicts[1].deciding) == "hourly sender:alice@example.com messages 3 of 3/1h"
    bob = [(await engine.judge(mail("bob@example.com"))).action for _ in range(3)]
    assert bob == [Action.ACCEPT, Action.ACCEPT, Action.TEMPFAIL], "others keep the rule's"


async def test_a_remembered_refusal_does_not_outlive_an_override_nor_its_end(store: CountedStore) -> None:
    engine = await engine_of(store, rule("one", limits=("1/1h",)))
    await engine.judge(mail())
    for _ in range(2):
        assert (await engine.judge(mail())).denied
    asked = store.decisions
    assert (await engine.judge(mail())).denied
    assert store.decisions == asked, "from memory"
    await engine.registrar.put(override("sender:alice@example.com", "9/1h", rule="one"))
    assert not (await engine.judge(mail())).denied
    await engine.registrar.put(override("sender:alice@example.com", "1/1h", rule="one"))
    assert (await engine.judge(mail())).denied
    await engine.registrar.put(listing("allow", "sender:alice@example.com"))
    assert not (await engine.judge(mail())).denied


async def test_an_override_of_a_network_is_for_each_address_and_network_in_it(store: CountedStore) -> None:
    by_ip = rule("by-ip", key=(Dimension.IP,), limits=("1/1h",))
    engine = await engine_of(store, by_ip, entries=(override("ip:192.0.2.0/24", "2/1h", rule="by-ip"),))
    for client, most in (("192.0.2.1", 2), ("192.0.2.2", 2), ("198.51.100.1", 1)):
        verdicts = [await engine.judge(mail(client=client)) for _ in range(3)]
        assert sum(not verdict.denied for verdict in verdicts) == most


async def test_what_is_learned_is_counted_in_the_windows_of_the_override(store: CountedStore) -> None:
    spammer = rule("spammer", count=Metric.SPAM, limits=("1/1h",), action=Action.REJECT)
    engine = await engine_of(store, spammer, entries=(override("sender:alice@example.com", "1/24h", rule="spammer"),))
    assert not (await engine.judge(mail())).denied
    await engine.learn(Outcome(kind=OutcomeKind.SPAM, event=mail()))
    verdict = await engine.judge(mail())
    assert (verdict.action, str(verdict.deciding)) == (
        Action.REJECT,
        "spammer sender:alice@example.com spam 1 of 1/24h",
    )


async def test_attempts_are_charged_to_an_override_s_windows_as_the_rule_says(store: CountedStore) -> None:
    stubborn = rule("stubborn", limits=("1/1h",), charge=Charging.ALWAYS)
    engine = await engine_of(store, stubborn, entries=(override("sender:alice@example.com", "2/1m", rule="stubborn"),))
    verdicts = [await engine.judge(mail()) for _ in range(4)]
    assert [verdict.denied for verdict in verdicts] == [False, False, True, True]
    assert verdicts[3].findings[0].reading.count == 4


@pytest.mark.parametrize(("client", "version"), [("192.0.2.1", 4), ("2001:db8:1:2:3::1", 6)])
def test_networks_are_counted_by_what_the_table_says(client: str, version: int) -> None:
    entities = entities_of(connect(client), Spelling())
    for (dimension,), lengths in COUNTED_BY.items():
        assert ip_network(entities[dimension].id).prefixlen == lengths[version]


# Explained


async def test_an_operator_is_told_what_is_put_down_and_what_comes_of_it(store: CountedStore) -> None:
    entries = (
        listing("vip", "sender:alice@example.com"),
        override("sender:alice@example.com", "7/1h", rule="hourly"),
        ban("sender_domain:example.com"),
    )
    engine = await engine_of(store, HOURLY, entries=entries)
    explained = await engine.explain(ALICE)
    assert {entry.id for entry in explained.entries} == {entry.id for entry in entries}
    assert (explained.verdict.reason, explained.verdict.entry) == (Reason.BANNED, "ban|sender_domain:example.com")
    assert str(explained.verdict.deciding) == "hourly sender:alice@example.com messages 0 of 7/1h"
    await engine.registrar.lift("ban|sender_domain:example.com", author="bob", reason="over")
    assert (await engine.explain(ALICE)).verdict.reason is Reason.WITHIN_LIMITS
    await engine.registrar.put(listing("allow", "sender:alice@example.com"))
    assert (await engine.explain(ALICE)).verdict.reason is Reason.ALLOWLISTED
