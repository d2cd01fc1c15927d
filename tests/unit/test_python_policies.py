"""Policies in Python: what functions see and say, what goes wrong with them, and what is wrong with their files."""

import asyncio
import logging
import os
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from reputation.assemble import open_engine, policy_of, settings_of
from reputation.clock import ManualClock
from reputation.config import PythonSettings, Settings
from reputation.contracts import Lookups
from reputation.engine import Engine
from reputation.errors import ConfigError, UnknownFact
from reputation.events import ClientAddress, Event, Outcome, OutcomeKind, Stage
from reputation.facts import Known, LookedUp, Lookup, Network, Score
from reputation.inquiry import Inquiry
from reputation.keys import Dimension, entities_of
from reputation.opinions import PolicyFunction
from reputation.policy import Policy
from reputation.python_facts import Needed
from reputation.python_policies import (
    MAX_TAGS,
    STAGES,
    Facts,
    accept,
    load_functions,
    reject,
    tag,
    tarpit,
    tempfail,
)
from reputation.rule_settings import MAX_REPLY_LENGTH
from reputation.rules import Mode
from reputation.spelling import Spelling
from reputation.store.memory import MemoryStore
from reputation.verdict import Action, Reason, Verdict
from reputation.vocabulary import FACTS, Moment
from tests.builders import EVENTS, connect, data, mail, rcpt, rule, session

HEADER = """
from asyncio import CancelledError, Event, sleep
from dataclasses import dataclass, replace
from reputation.python_policies import Facts, accept, at, discard, reject, tag, tarpit, tempfail
from reputation.verdict import Action, Reason, Verdict
"""
HEADER_LINES = HEADER.count("\n")
AGES_AGO = 1_000_000_000
SHORT_SECONDS = 0.02


class FixedLookups:
    """Everybody's reverse name is confirmed, and nobody may send. Remembers what was asked."""

    possible = frozenset(Lookup)

    def __init__(self) -> None:
        self.asked: list[frozenset[Lookup]] = []

    def network(self, client: ClientAddress) -> Network:
        return Network(asn=64_500, country="DE")

    async def look_up(self, event: Event, wanted: frozenset[Lookup], network: Network) -> LookedUp:
        self.asked.append(wanted)
        return LookedUp(
            network=network,
            iprev="pass" if Lookup.IPREV in wanted else "",
            rdns="mx.example.com" if Lookup.IPREV in wanted else "",
            spf="fail" if Lookup.SPF in wanted else "",
        )

    async def close(self) -> None:
        """Nothing to let go of."""


Loading = Callable[..., tuple[PolicyFunction, ...]]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``site.py``, in the directory that reputon was started in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "site.py"


@pytest.fixture
def loaded(file: Path) -> Loading:
    """Load a file with this text, behind the usual imports."""

    def load(text: str, mode: Mode = Mode.ENFORCE, deadline_seconds: float = 5.0) -> tuple[PolicyFunction, ...]:
        file.write_text(HEADER + text, encoding="utf-8")
        return load_functions([PythonSettings(file="site.py", mode=mode, deadline_seconds=deadline_seconds)])

    return load


def engine_of(*functions: PolicyFunction, lookups: Lookups | None = None) -> Engine:
    policy = Policy(functions=functions)
    return Engine(policy=policy, store=MemoryStore(), clock=ManualClock(), lookups=lookups)


def asking(stage: str, *lines: str, needs: str = "", name: str = "site_policy") -> str:
    """A policy of these lines."""
    body = "\n".join(f"    {line}" for line in lines)
    return f'\n@at("{stage}", needs=[{needs}])\nasync def {name}(event, facts):\n{body}\n'


def failures(engine: Engine, error: str, name: str = "site-policy") -> float:
    registry = engine.metrics.registry
    return registry.get_sample_value("reputon_function_failures_total", {"rule": name, "error": error}) or 0.0


def facts_of(event: Event, needed: Needed | None = None, known: Known | None = None) -> Facts:
    moment = Moment(event, entities_of(event, Spelling()), now=AGES_AGO, known=known or Known())
    return Facts(moment, needed or Needed(event.stage, frozenset(Lookup), Inquiry(first_time=True)))


# What a function sees


@pytest.mark.parametrize("event", EVENTS[:-1], ids=lambda event: event.stage)
def test_a_function_sees_what_conditions_see(event: Event) -> None:
    facts = facts_of(event)
    moment = Moment(event, entities_of(event, Spelling()), now=AGES_AGO)
    for name, fact in FACTS.items():
        attribute = "class_" if name == "class" else name
        if event.stage not in fact.stages:
            with pytest.raises(UnknownFact, match=f"facts: {name} is not known at stage {event.stage}, but at "):
                getattr(facts, attribute)
        elif name != "header":
            assert getattr(facts, attribute) == fact.value(moment)
            assert type(getattr(facts, attribute)) is type(fact.example)


def test_the_header_is_that_of_the_event_and_cannot_be_written() -> None:
    facts = facts_of(replace(data("bob@example.net"), header={"list-id": "<news.example.com>"}))
    assert facts.header["list-id"] == "<news.example.com>"
    assert facts.header.get("x-none", "") == ""
    with pytest.raises(TypeError, match="does not support item assignment"):
        facts.header["list-id"] = ""  # type: ignore[index]  # that is what is tried
    with pytest.raises(AttributeError):
        facts.subject = ""  # type: ignore[misc]  # that is what is tried


def test_what_the_store_knows() -> None:
    score = Score(score=0.9, confidence=0.5, active_now=0.0, repeat_offender=0.0, base=0.5, volume=7.0)
    inquiry = Inquiry(
        frozenset({"sender", "message"}), frozenset({("last_1h", "ip", "messages")}), frozenset({"sender", "ip"})
    )
    known = Known(
        scores={"sender": score, "message": score}, counts={("last_1h", "ip", "messages"): 5}, ages={"sender": 1.5}
    )
    facts = facts_of(mail(), Needed(Stage.MAIL, frozenset(), inquiry), known)
    assert facts.score("sender").volume == facts.score(Dimension.SENDER).volume == facts.score("message").volume == 7.0
    assert facts.count("last_1h", "ip", "messages") == 5
    assert (facts.age("sender"), facts.age("ip")) == (1.5, 0.0)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (lambda facts: facts.spf, 'spf is found out for those who need it: add "spf" to needs'),
        (lambda facts: facts.rdns, 'rdns is found out for those who need it: add "rdns" to needs'),
        (lambda facts: facts.first_time, 'first_time is found out for those who need it: add "first_time" to needs'),
        (lambda facts: facts.score("ip"), "reputation.ip.score is found out * add *"),
        (
            lambda facts: facts.count("last_1h", "ip", "messages"),
            'last_1h.ip.messages is * add "last_1h.ip.messages" *',
        ),
        (lambda facts: facts.age("ip"), 'age.ip is found out for those who need it: add "age.ip" to needs'),
        (lambda facts: facts.subject, "subject is not known at stage rcpt, but at data"),
        (lambda facts: facts.header, "header is not known at stage rcpt, but at data"),
        (lambda facts: facts.score("author"), "there is no reputation.author at stage rcpt, but: *"),
        (lambda facts: facts.count("last_1y", "ip", "x"), 'there is no "last_1y.ip.x"; at stage rcpt there are: *'),
        (lambda facts: facts.count("last_1h", "ip", "x"), 'there is no "last_1h.ip.x"; last_1h.ip has: *'),
        (lambda facts: facts.age("helo"), "there is no age.helo at stage rcpt, but: *"),
    ],
)
def test_what_was_not_found_out_is_no_fact_but_an_error(asked: Callable[[Facts], object], told: str) -> None:
    facts = facts_of(rcpt("bob@example.net"), Needed(Stage.RCPT, frozenset(), Inquiry()))
    with pytest.raises(LookupError) as raised:
        asked(facts)
    assert re.fullmatch(".*".join(map(re.escape, f"facts: {told}".split("*"))), str(raised.value)), raised.value


async def test_what_is_needed_is_looked_up_before(loaded: Loading) -> None:
    lookups = FixedLookups()
    text = asking("mail", "return tag(facts.rdns.replace('.', '-'), facts.spf)", needs="'spf', 'iprev'")
    engine = engine_of(*loaded(text), lookups=lookups)
    verdict = await engine.judge(mail())
    assert verdict.tags == ("mx-example-com", "fail")
    assert lookups.asked == [{Lookup.SPF, Lookup.IPREV}]
    await engine.judge(rcpt("bob@example.net"))
    assert len(lookups.asked) == 1, "the other stages need nothing"


async def test_what_is_needed_is_asked_of_the_store_before(loaded: Loading) -> None:
    needs = "'reputation.sender.score', 'last_1h.sender.messages', 'age.sender', 'first_time', 'hour'"
    text = asking(
        "rcpt",
        "seen = facts.count('last_1h', 'sender', 'messages')",
        "bad, new = facts.score('sender').score > 0.5, facts.first_time",
        "return tag(f'seen-{seen}-{bad}-{facts.age(\"sender\") > 0}-{new}'.lower())",
        needs=needs,
    )
    functions = loaded(text)
    engine = engine_of(*functions)
    assert functions[0].inquiry == Inquiry(
        frozenset({"sender"}), frozenset({("last_1h", "sender", "messages")}), frozenset({"sender"}), first_time=True
    )
    event = replace(rcpt("bob@example.net"), session=session(user="alice"))
    tags = [(await engine.judge(event)).tags]
    for _ in range(3):
        await engine.judge(mail())
        await engine.learn(Outcome(kind=OutcomeKind.SPAM, event=mail()))
    tags.append((await engine.judge(event)).tags)
    assert tags == [("seen-0-false-true-true",), ("seen-3-true-true-false",)], "on the first day of all nobody is new"


# What a function says


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("None", Verdict(action=Action.ACCEPT, reason=Reason.NO_RULE)),
        ("accept()", accept()),
        ("accept(service='vip')", accept(service="vip")),
        ("tag()", tag("site-policy")),
        ("tag('a', 'b-2', service='uce')", tag("a", "b-2", service="uce")),
        ("tarpit()", tarpit(5.0)),
        ("tarpit(2.5, service='dirty')", tarpit(2.5, service="dirty")),
        ("tempfail()", tempfail("Refused by policy (matched, site-policy)")),
        ("tempfail('451 4.7.1 {later}')", tempfail("451 4.7.1 {later}")),
        ("reject()", reject("Refused by policy (matched, site-policy)")),
        ("reject(f'550 5.7.1 {facts.sender}')", reject("550 5.7.1 alice@example.com")),
        ("discard()", Verdict(action=Action.DISCARD, reason=Reason.MATCHED)),
        ("Verdict(action=Action.TAG, reason=Reason.BANNED, rule='x', would=('y',))", tag("site-policy")),
        ("Verdict(action=Action.REJECT, reason=Reason.MATCHED, reply='no', delay_seconds=9)", reject("no")),
        ("Verdict(action=Action.TARPIT, reason=Reason.MATCHED, delay_seconds=9)", tarpit(9)),
        ("replace(reject('550 no'), tags=('a',))", replace(reject("550 no"), tags=("a",))),
    ],
)
async def test_the_verdict_of_a_function(loaded: Loading, answer: str, expected: Verdict) -> None:
    verdict = await engine_of(*loaded(asking("mail", f"return {answer}"))).judge(mail())
    name = "" if answer == "None" else "site-policy"
    fired = () if answer == "None" else (name,)
    expected = replace(expected, rule=name, fired=fired, answer=verdict.answer)
    assert verdict == expected


async def test_what_is_refused_is_counted_nowhere(loaded: Loading) -> None:
    engine = engine_of(*loaded(asking("mail", "return reject()")))
    assert (await engine.judge(mail())).answer is None


async def test_in_shadow_mode_it_is_only_counted(loaded: Loading) -> None:
    engine = engine_of(*loaded(asking("mail", "return reject()"), mode=Mode.SHADOW))
    verdict = await engine.judge(mail())
    assert (verdict.action, verdict.would, verdict.fired) == (Action.ACCEPT, ("site-policy",), ())
    labels = {"rule": "site-policy", "mode": "shadow"}
    assert engine.metrics.registry.get_sample_value("reputon_rule_over_total", labels) == 1


async def test_functions_are_asked_in_turn_and_the_strictest_decides(loaded: Loading) -> None:
    text = (
        asking("mail", "return tag()", name="first")
        + asking("mail", "return tempfail()", name="second")
        + asking("mail", "return reject()", name="third_and_last")
        + asking("rcpt", "return reject()", name="elsewhere")
    )
    functions = loaded(text)
    assert [function.name for function in functions] == ["first", "second", "third-and-last", "elsewhere"]
    verdict = await engine_of(*functions).judge(mail())
    assert (verdict.action, verdict.rule) == (Action.REJECT, "third-and-last")
    assert verdict.fired == ("first", "second", "third-and-last")


def test_what_an_event_brings_into_a_reply_is_no_mistake() -> None:
    """Or else whoever is to be refused could see to it that the policy fails."""
    assert reject("550 no: \r\n\x00{öäü}").reply == "550 no: ???{???}"
    assert len(reject("x" * 1_000).reply) == MAX_REPLY_LENGTH


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (lambda: reject("450 4.7.1 Later"), "reply: action reject needs a code that begins with 5, not 450"),
        (lambda: tempfail("5.7.1 No"), "reply: action tempfail needs a code that begins with 4, not 5"),
        (lambda: tarpit(-1), "delay_seconds: write 0 to 240"),
        (lambda: tarpit(float("nan")), "delay_seconds: write 0 to 240"),
        (lambda: tag("two words"), "tags: write up to 10, each of lower-case words"),
        (lambda: tag(*map(str, range(MAX_TAGS + 1))), "tags: write up to 10"),
        (lambda: accept(service="a b"), "service: write a lower-case word"),
    ],
)
def test_a_verdict_that_no_rule_could_give_is_a_mistake(answer: Callable[[], Verdict], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        answer()


# What goes wrong while it is asked


@pytest.mark.parametrize(
    ("stage", "line", "error", "told"),
    [
        ("mail", "return 1 / 0", "ZeroDivisionError", "division by zero"),
        ("mail", "return 'reject'", "TypeError", "answers with a Verdict or None, and not with str"),
        ("mail", "return True", "TypeError", "and not with bool"),
        ("mail", "return Action.REJECT", "TypeError", "and not with Action"),
        ("mail", "return reject(None)", "TypeError", "NoneType"),
        ("mail", "return facts.spf == 'fail'", "UnknownFact", 'add "spf" to needs'),
        ("mail", "return facts.nobody", "AttributeError", "nobody"),
        ("mail", "raise SystemExit(1)", "RuntimeError", "a policy cannot end the program"),
        ("mail", "raise CancelledError", "RuntimeError", "it waited for something that was cancelled"),
        ("connect", "return discard()", "ConfigError", "discard at stage connect: there is no message yet"),
        (
            "mail",
            "return Verdict(action=Action.THROTTLE, reason=Reason.MATCHED)",
            "ConfigError",
            "throttle waits until there is room in a limit",
        ),
        ("mail", "return Verdict(action='ban', reason='x')", "ValueError", "'ban' is not a valid Action"),
        (
            "mail",
            "return Verdict(action=Action.TAG, reason=Reason.MATCHED, tags=('a\\r\\nX: y',))",
            "ConfigError",
            "tags: write up to 10",
        ),
        (
            "mail",
            "return Verdict(action=Action.TAG, reason=Reason.MATCHED, reply='no')",
            "ConfigError",
            "reply: action tag sends no reply of its own",
        ),
    ],
)
async def test_what_goes_wrong_is_no_opinion_counted_and_said_once(
    loaded: Loading, caplog: pytest.LogCaptureFixture, stage: str, line: str, error: str, told: str
) -> None:
    engine = engine_of(*loaded(asking(stage, line)))
    event = connect() if stage == "connect" else mail()
    with caplog.at_level(logging.ERROR):
        verdicts = [await engine.judge(event) for _ in range(3)]
    assert [(verdict.action, verdict.fired) for verdict in verdicts] == [(Action.ACCEPT, ())] * 3
    assert failures(engine, error) == 3
    (record,) = caplog.records
    assert "the policy site-policy failed" in record.getMessage()
    assert told in caplog.text
    assert f"line {HEADER_LINES + 4}" in caplog.text or "_said_by" in caplog.text, "whoever reads it finds the place"


async def test_one_that_takes_too_long_has_no_opinion(loaded: Loading, caplog: pytest.LogCaptureFixture) -> None:
    text = asking("mail", "await Event().wait()", name="sleeper") + asking("mail", "return tag()", name="other")
    engine = engine_of(*loaded(text, deadline_seconds=SHORT_SECONDS))
    async with asyncio.timeout(10):
        verdicts = [await engine.judge(mail()) for _ in range(2)]
    assert [verdict.tags for verdict in verdicts] == [("other",)] * 2, "the others are asked all the same"
    assert failures(engine, "TimeoutError", "sleeper") == 2
    assert [record.getMessage() for record in caplog.records] == [
        "the policy sleeper failed and has no opinion; said once"
    ]


async def test_who_leaves_while_it_is_asked_is_let_go(loaded: Loading) -> None:
    engine = engine_of(*loaded(asking("mail", "await Event().wait()"), deadline_seconds=30))
    judging = asyncio.create_task(engine.judge(mail()))
    async with asyncio.timeout(10):
        while not judging.get_coro().cr_await:  # type: ignore[union-attr]  # a coroutine, not a generator
            await asyncio.sleep(0)
        judging.cancel()
        with pytest.raises(asyncio.CancelledError):
            await judging
    assert not failures(engine, "RuntimeError")


# Files


def test_a_file_is_run_anew_each_time(loaded: Loading, file: Path) -> None:
    """Even if it has the same size and was written in the same second."""
    before = set(sys.modules)
    names = []
    for name in ("policy_one", "policy_two"):
        (function,) = loaded(asking("mail", "return None", name=name))
        os.utime(file, (AGES_AGO, AGES_AGO))
        names.append(function.name)
    assert names == ["policy-one", "policy-two"]
    assert not [name for name in set(sys.modules) - before if "policy" in name or "site" in name]
    assert [path.name for path in file.parent.iterdir()] == ["site.py"]


async def test_what_was_loaded_before_goes_on_as_it_was(loaded: Loading) -> None:
    text = "WORD = 'old'\n" + asking("mail", "return tag(WORD)")
    engine = engine_of(*loaded(text))
    fresh = Policy(functions=loaded(text.replace("old", "new")))
    assert (await engine.judge(mail())).tags == ("old",)
    engine.use(fresh)
    assert (await engine.judge(mail())).tags == ("new",)


def test_a_file_may_hold_what_other_modules_hold(file: Path) -> None:
    """Dataclasses look for the module that they are in."""
    lines = ["from __future__ import annotations", HEADER, "@dataclass", "class Boss:", "    name: str"]
    file.write_text("\n".join(lines) + asking("mail", "return tag(Boss('a').name)"), encoding="utf-8")
    assert len(load_functions([PythonSettings(file=str(file))])) == 1


def test_settings_are_passed_on(loaded: Loading) -> None:
    (function,) = loaded(asking("data", "return None"), mode=Mode.SHADOW, deadline_seconds=0.25)
    assert (function.stage, function.mode, function.deadline_seconds) == (Stage.DATA, Mode.SHADOW, 0.25)


def test_the_function_itself_stays_a_function(loaded: Loading, file: Path) -> None:
    text = asking("mail", "return 7") + "\nfrom asyncio import run\nassert run(site_policy(None, None)) == 7\n"
    assert len(loaded(text)) == 1


def at_line(number: int, text: str) -> str:
    """What is said of a mistake in that line behind the usual imports."""
    return f"site.py, line {HEADER_LINES + number}: {text}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", 'site.py: no function is marked: write @at("rcpt"), or another stage, above one'),
        ("async def free(event, facts): ...", "site.py: no function is marked: *"),
        ("x = 1\ny = = 2", at_line(2, "invalid syntax")),
        ("def f(:\n  pass", at_line(1, "*")),
        ("\n\nimport nowhere_to_be_found", at_line(3, "ModuleNotFoundError: No module named 'nowhere_to_be_found'")),
        ("def f():\n    return 1 / 0\nf()", at_line(2, "ZeroDivisionError: division by zero")),
        ("raise ValueError('two\\nlines')", at_line(1, "ValueError: two")),
        ("raise SystemExit(3)", at_line(1, "SystemExit: 3")),
        ("x = '\0'", "site.py*null byte*"),
        ('@at("rcpt")\ndef f(event, facts): ...', at_line(1, "f is no async function: write async def")),
        ('@at("rcpt")\nclass F: ...', at_line(1, "F is no async function: write async def")),
        (
            '\n@at("rcpt")\nasync def f(event): ...',
            at_line(2, "f does not take two arguments: write async def f(event, facts)"),
        ),
        ('@at("rcpt")\nasync def f(event, facts, more): ...', at_line(1, "f does not take two arguments: *")),
        ('@at("rcpt")\nasync def f(event, *, facts): ...', at_line(1, "f does not take two arguments: *")),
        ('@at("rcpt")\nasync def NoBoss(event, facts): ...', at_line(1, "NoBoss cannot name a policy: write lower-*")),
        ('@at("rcpt")\nasync def _f(event, facts): ...', at_line(1, "_f cannot name a policy: *")),
        (
            '@at("rctp")\nasync def f(event, facts): ...',
            at_line(1, 'at: name a stage, such as @at("rcpt"); there are: connect, helo, auth, mail, rcpt, data'),
        ),
        ("@at\nasync def f(event, facts): ...", at_line(1, "at: name a stage, *")),
        ('@at("disconnect")\nasync def f(event, facts): ...', at_line(1, "at: name a stage, *")),
        ('@at("rcpt", "spf")\nasync def f(event, facts): ...', at_line(1, "needs: write a list of names, such as *")),
        ('@at("rcpt", [1])\nasync def f(event, facts): ...', at_line(1, "needs: write a list of names, such as *")),
        *(
            (f'@at("mail", needs=["{name}"])\nasync def f(event, facts): ...', at_line(1, f"needs: {told}"))
            for name, told in (
                ("nobody", 'there is no "nobody"; at stage mail there are: age, asn, class, *'),
                ("spf.x", 'there is no "spf.x"; at stage mail *'),
                ("ages", 'there is no "ages"; at stage mail *'),
                ("subject", "subject is not known at stage mail, but at data"),
                ("first_time", "first_time is not known at stage mail, but at rcpt"),
                ("reputation.ip", 'write reputation with 2 names behind it, such as "reputation.ip.score"'),
                ("reputation.ip.shame", 'there is no "reputation.ip.shame"; reputation.ip has: score, *'),
                ("reputation.recipient.score", "there is no reputation.recipient at stage mail, but: *"),
                ("age.sender > 5", 'there is no "age.sender > 5"; *'),
                ("last_1h.ip.fun", 'there is no "last_1h.ip.fun"; last_1h.ip has: *'),
            )
        ),
    ],
)
def test_a_mistake_in_a_file_is_told_with_its_line(loaded: Loading, text: str, told: str) -> None:
    before = set(sys.modules)
    with pytest.raises(ConfigError) as raised:
        loaded(text)
    assert re.fullmatch(".*".join(map(re.escape, told.split("*"))), str(raised.value)), raised.value
    assert not [name for name in set(sys.modules) - before if "reputon" in name]


@pytest.mark.parametrize(("name", "told"), [("nowhere.py", "No such file or directory"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_told(file: Path, name: str, told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(name)}: cannot be read: {told}$"):
        load_functions([PythonSettings(file=name)])


def test_nothing_is_known_about_a_stage_without_facts() -> None:
    assert set(STAGES) == {stage for fact in FACTS.values() for stage in fact.stages}


# The configuration


def settings_with(directory: Path, more: str = "") -> Settings:
    config = directory / "reputon.toml"
    config.write_text(f'[[python]]\nfile = "site.py"\ndeadline_seconds = 5.0\n{more}[store]\nurl = "memory:"\n')
    return settings_of(config)


def test_check_config_finds_mistakes_in_files(file: Path) -> None:
    file.write_text("import", encoding="utf-8")
    with pytest.raises(ConfigError) as raised:
        settings_with(file.parent)
    config = re.escape(str(file.parent / "reputon.toml"))
    assert re.fullmatch(rf"{config}: \[\[python\]\] site\.py, line 1: .*", str(raised.value))


@pytest.mark.parametrize(
    "more",
    [
        '[[rule]]\nname = "site-policy"\nstage = "mail"\nwhen = "tls"\naction = "tag"\n',
        '[[python]]\nfile = "site.py"\n',
    ],
)
def test_two_of_one_name_are_a_mistake(file: Path, more: str) -> None:
    file.write_text(HEADER + asking("mail", "return None"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"reputon\.toml: \[\[python\]\] rule names must differ, .*: site-policy;"):
        settings_with(file.parent, more)


def test_two_functions_of_one_name_are_a_mistake(loaded: Loading) -> None:
    """Python itself would forget the first one."""
    with pytest.raises(ConfigError, match="must differ"):
        Policy(functions=loaded(asking("mail", "return reject()") + asking("mail", "return None")))


async def test_an_engine_asks_the_functions_of_its_configuration(file: Path) -> None:
    file.write_text(HEADER + asking("mail", "return reject('550 No')"), encoding="utf-8")
    settings = settings_with(file.parent)
    async with open_engine(settings) as engine:
        assert (await engine.judge(mail())).reply == "550 No"
    assert [each.name for each in policy_of(settings).functions] == ["site-policy"]
    assert policy_of(Settings(rule=settings.rule)).functions == ()


async def test_whoever_is_exempt_from_rules_is_exempt_from_functions(loaded: Loading) -> None:
    policy = Policy(rules=(rule(limits=("9/1h",)),), functions=loaded(asking("mail", "return reject()")))
    assert policy.exempt.functions == ()


def test_a_file_that_everybody_may_write_is_not_run(tmp_path: Path) -> None:
    file = tmp_path / "site.py"
    file.write_text("raise SystemExit", encoding="utf-8")
    file.chmod(0o666)
    with pytest.raises(ConfigError, match="everybody may write it, and it would run with reputon's rights: chmod o-w"):
        load_functions([PythonSettings(file=str(file))])


def test_a_file_of_another_user_is_not_run(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can give a file away: run the tests as root")
    file = tmp_path / "site.py"
    file.write_text("raise SystemExit", encoding="utf-8")
    os.chown(file, 65_534, 65_534)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load_functions([PythonSettings(file=str(file))])
