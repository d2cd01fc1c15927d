"""What went wrong once under failure and concurrency."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from reputation.assemble import settings_of
from reputation.clock import ManualClock
from reputation.config import ListSettings
from reputation.engine import Engine
from reputation.entries import Override
from reputation.errors import ConfigError
from reputation.events import Data, Rcpt, Stage
from reputation.facts import Filtered, LookedUp, Signature
from reputation.keys import Dimension, Entity
from reputation.policy import Policy
from reputation.releases import released
from reputation.rules import Rule
from reputation.store.memory import MemoryStore
from reputation.verdict import Action
from reputation.windows import Limit
from smtp_frontend import dsn, headers
from tests.builders import data, mail, rule, session
from tests.clocked_store import MIDNIGHT, ClockedStore
from tests.known_lookups import KnownLookups

CLIENT = Entity("ip", "192.0.2.1")
HOLDING = rule("burst", key=(Dimension.IP,), limits=("5/1h",), action=Action.REJECT, hold_seconds=3_600.0)
STRANGERS = Rule(name="strangers", stage=Stage.MAIL, action=Action.REJECT, when='!("partners" in lists)')


def engine_of(*rules: Rule) -> Engine:
    clock = ManualClock(MIDNIGHT)
    return Engine(policy=Policy(rules=rules), store=ClockedStore(clock), clock=clock, never_ban=())


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """One whose register and lists are kept."""
    made = Engine(policy=Policy(), store=MemoryStore())
    await made.registrar.start()
    keeping = asyncio.create_task(made.registrar.run())
    yield made
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_release_leaves_an_operators_override_in_force() -> None:
    engine = engine_of(HOLDING)
    limits = (Limit.parse("20/1h"),)
    given = Override(
        target=CLIENT,
        author="op",
        reason="newsletter",
        created_at=MIDNIGHT,
        expires_at=None,
        rule="burst",
        limits=limits,
    )
    await engine.registrar.put(given)
    for _ in range(21):
        await engine.judge(mail())
    await released(engine, CLIENT, author="op", reason="ok", now=MIDNIGHT)
    assert engine.registrar.register.entries == (given,)


async def test_whoever_is_held_can_be_released_after_the_rule_counts_by_something_else() -> None:
    engine = engine_of(HOLDING)
    for _ in range(6):
        await engine.judge(mail())
    engine.use(Policy(rules=(rule("burst", key=(Dimension.SENDER,), limits=("5/1h",)),)))
    await released(engine, CLIENT, author="op", reason="ok", now=MIDNIGHT)
    assert not (await engine.judge(mail())).denied


async def test_a_rule_is_not_in_force_before_the_list_that_it_asks_for(engine: Engine) -> None:
    engine.use(Policy(rules=(STRANGERS,)))
    partners = ListSettings(name="partners", of="sender_domain", values=("example.com",))
    engine.registrar.lists.use((partners,), engine.spelling)
    assert not (await engine.judge(mail())).denied


@pytest.mark.parametrize("octets", [b"buy pills", b"buy pills \xe9"])
async def test_an_octet_that_is_no_text_takes_no_rule_away(octets: bytes) -> None:
    pills = Rule(name="pills", stage=Stage.DATA, action=Action.REJECT, when='subject.contains("pills")')
    texts = headers.split(b"Subject: " + octets + b"\r\n\r\n").texts()
    event = Data(
        session=session(), sender="a@b.example", recipients=("c@d.example",), message_bytes=9,
        subject=texts["subject"], header=texts,
    )  # fmt: skip
    assert (await engine_of(pills).judge(event)).action is Action.REJECT


async def test_a_decision_of_the_policy_before_leaves_no_refusal_behind() -> None:
    class Slow(MemoryStore):
        gate: asyncio.Event | None = None

        async def decide(self, *arguments, **more):  # type: ignore[no-untyped-def]  # passed on
            answer = await super().decide(*arguments, **more)
            if self.gate is not None:
                await self.gate.wait()
            return answer

    store = Slow()
    engine = Engine(policy=Policy(rules=(rule("x", limits=("1/1h",)),)), store=store)
    await engine.judge(mail())
    store.gate = asyncio.Event()
    under_way = asyncio.create_task(engine.judge(mail()))
    await asyncio.sleep(0)
    engine.use(Policy(rules=(rule("x", limits=("100/1h",), action=Action.REJECT),)))
    store.gate.set()
    await under_way
    assert (await engine.judge(mail())).action is Action.ACCEPT


async def test_a_hold_that_the_store_does_not_take_keeps_nobody_waiting() -> None:
    engine = engine_of(rule("burst", key=(Dimension.IP,), action=Action.REJECT, hold_seconds=3_600.0))

    async def enter(*_arguments: object, **_more: object) -> int:
        await asyncio.Event().wait()
        return 0

    engine.registrar._store.enter = enter  # type: ignore[method-assign]  # a store that hangs
    await engine.judge(mail())
    async with asyncio.timeout(0.5):
        assert (await engine.judge(mail())).denied


async def test_a_contact_stays_known_when_another_message_to_him_comes_to_nothing() -> None:
    clock = ManualClock(MIDNIGHT)
    rules = (Rule(name="new", stage=Stage.RCPT, action=Action.TAG, when="first_time"),)
    engine = Engine(policy=Policy(rules=rules), store=ClockedStore(clock), clock=clock)
    event = Rcpt(session=session(user="alice"), sender="alice@example.com", recipient="bob@example.net")
    refused = await engine.judge(event)
    clock.advance(1)
    await engine.judge(event)
    await engine.refund(refused)
    assert (await engine.judge(event)).action is Action.ACCEPT


def test_a_report_with_parameters_of_two_kinds_raises_nothing() -> None:
    odd = "multipart/report; report-type=delivery-status; boundary*=x; boundary*0=y"
    assert dsn.failed_recipients(odd, b"") == ()


@pytest.mark.parametrize("status", ["5.7.1"])
def test_a_refusal_by_policy_is_no_bounce(status: str) -> None:
    """It may be ours: a submission server that we refuse reports it to its user, through us."""
    report = (
        '--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; submission.example.com\n\n'
        f"Final-Recipient: rfc822; friend@example.org\nAction: failed\nStatus: {status}\n\n--b--\n"
    )  # fmt: skip
    content = ("Subject: x\n\n" + report).replace("\n", "\r\n").encode()
    assert dsn.failed_recipients('multipart/report; report-type=delivery-status; boundary="b"', content) == ()


@pytest.mark.parametrize(
    ("extra", "python"),
    [
        ("[x]\na = " + "[" * 5_000 + "]" * 5_000, ""),
        ("", "x = " + "-" * 200_000 + "1"),
        ("", "import asyncio\nraise asyncio.CancelledError"),
        ('[lookups]\nasn_table = "a\\u0000b"', ""),
    ],
    ids=["deep-toml", "deep-python", "cancelled", "nul"],
)
def test_whatever_is_wrong_with_a_file_is_a_mistake_of_the_configuration(
    extra: str, python: str, tmp_path: Path
) -> None:
    """Anything else ends the task that reads files at SIGHUP, without a word and for good."""
    (tmp_path / "p.py").write_text(python)
    text = '[store]\nurl = "memory:"\n[smtp]\nlisten = ["127.0.0.1:0"]\nnext_hop = "smtp://127.0.0.1:25"\n' + extra
    text += f'\n[[python]]\nfile = "{tmp_path}/p.py"\n' if python else ""
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ConfigError):
        settings_of(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("answer", "action", "is_held"), [("fail", Action.REJECT, True), ("temperror", Action.TEMPFAIL, False)]
)
async def test_who_is_refused_because_a_look_up_had_no_answer_comes_back_and_is_not_held(
    answer: str, action: Action, *, is_held: bool
) -> None:
    limit = rule("forged", key=(Dimension.IP,), action=Action.REJECT, when='spf != "pass"', hold_seconds=3_600.0)
    engine = Engine(
        policy=Policy(rules=(limit,)),
        store=MemoryStore(),
        lookups=KnownLookups(LookedUp(spf=answer)),
        never_ban=(),
    )
    await engine.judge(mail())
    verdict = await engine.judge(mail())
    assert (verdict.action, verdict.rule) == (action, "forged")
    assert bool(engine.registrar.register.entries) == is_held


@pytest.mark.parametrize(
    ("when", "found"),
    [
        ('dmarc != "pass"', LookedUp(dmarc="temperror")),
        ('dmarc_policy != "none"', LookedUp(dmarc="temperror")),
        ('dkim != "pass"', LookedUp(dkim="temperror")),
        ('!("example.org" in dkim_domains)', LookedUp(dkim="pass", signatures=(Signature(result="temperror"),))),
        ('arc != "pass"', LookedUp(arc="temperror")),
        ('filter_verdict != "ham"', LookedUp(filtered=Filtered(verdict="temperror"))),
    ],
)
async def test_a_message_is_never_refused_for_good_for_want_of_an_answer(when: str, found: LookedUp) -> None:
    event = data("bob@example.net")
    engine = Engine(
        policy=Policy(rules=(Rule(name="forged", stage=Stage.DATA, action=Action.REJECT, when=when),)),
        store=MemoryStore(),
        lookups=(lookups := KnownLookups(found)),
    )
    assert (await engine.judge(event)).action is Action.TEMPFAIL
    lookups.found = LookedUp(dmarc="fail", dkim="fail", arc="fail", filtered=Filtered(verdict="spam"))
    verdict = await engine.judge(event)
    assert (verdict.action, verdict.looked_up.dmarc) == (Action.REJECT, "fail")
