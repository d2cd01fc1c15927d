"""What `reputon explain` shows of the register, and that whoever only asks is no process of the fleet."""

import asyncio
import io
from dataclasses import asdict

import pytest
from rich.console import Console

from reputation import assemble
from reputation.assemble import open_engine
from reputation.cli import explain
from reputation.config import Settings, StoreSettings
from reputation.desk.describing import explained as explained_by
from reputation.desk.documents import Explained
from reputation.engine import Engine
from reputation.errors import StoreUnavailable
from reputation.events import Outcome, OutcomeKind
from reputation.keys import Dimension, Entity
from reputation.policy import Policy
from reputation.registrar import Registrar
from reputation.standing import PRIOR_LONG, PRIOR_SHORT
from reputation.store.memory import MemoryStore
from reputation.verdict import Action, Reason
from tests.builders import connect, mail, rule
from tests.entries_for_tests import ban, listing, override

ADDRESS = Entity("ip", "192.0.2.7")


async def explained(when: str = "") -> Explained:
    by_ip = rule("by-ip", key=(Dimension.IP,), limits=("5/1h",), when=when)
    engine = Engine(policy=Policy(rules=(by_ip,)), store=MemoryStore())
    for entry in (
        ban("ip:192.0.2.0/24", Action.TEMPFAIL, expires_at=4_000_000_000.0),
        listing("vip", "ip:192.0.2.7"),
        override("ip:192.0.2.7", "9/1h", rule="by-ip"),
    ):
        await engine.registrar.put(entry)
    return await explained_by(engine, ADDRESS)


def printed(document: Explained, width: int = 200) -> list[str]:
    """What a person sees, line by line."""
    console = Console(file=io.StringIO(), width=width)
    explain.show(console, document, now=4_000_000_000.0 - 86_400.0)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def words(lines: list[str]) -> list[str]:
    """The lines, with one blank between their words."""
    return [" ".join(line.split()) for line in lines]


async def test_json_has_every_entry_and_what_comes_of_them() -> None:
    told = asdict(await explained())
    assert [entry["id"] for entry in told["register"]] == [
        "list|vip|ip:192.0.2.7",
        "ban|ip:192.0.2.0/24",
        "override|by-ip|ip:192.0.2.7",
    ]
    documented = {
        "id": "ban|ip:192.0.2.0/24",
        "author": "eve",
        "reason": "spam run",
        "created_at": 0.0,
        "expires_at": 4_000_000_000.0,
        "action": "tempfail",
    }
    assert documented.items() <= told["register"][1].items()
    assert (told["next"]["reason"], told["next"]["entry"]) == ("banned", "ban|ip:192.0.2.0/24")
    assert told["rules"][0]["limit"] == "9/1h"


async def test_a_person_sees_them_in_a_table() -> None:
    lines = words(printed(await explained()))
    assert "ip:192.0.2.0/24 tempfail 2096-10-02 07:06 24 h eve spam run" in lines
    assert "ip:192.0.2.7 by-ip: 9/1h no end eve newsletter" in lines
    assert lines[1] == "next event: action=tempfail reason=banned entry=ban|ip:192.0.2.0/24"


async def test_a_rule_that_is_not_about_all_events_says_so() -> None:
    document = await explained('class == "bounce"')
    assert 'by-ip: only when class == "bounce"' in words(printed(document))
    assert document.rules[0].when == 'class == "bounce"'


@pytest.mark.parametrize("width", [20, 40, 80])
async def test_a_narrow_terminal_cuts_nothing_off(width: int) -> None:
    lines = printed(await explained(), width)
    assert lines[1] == "next event: action=tempfail reason=banned entry=ban|ip:192.0.2.0/24"
    begin = lines.index("Put down") + 2
    rows = lines[begin : lines.index("", begin)]
    shown = sorted("".join(rows).replace(" ", ""))
    everything = (
        "ip:192.0.2.7 list vip no end eve a partner "
        "ip:192.0.2.0/24 tempfail 2096-10-02 07:06 24 h eve spam run "
        "ip:192.0.2.7 by-ip: 9/1h no end eve newsletter"
    )
    missing = {each: everything.count(each) - shown.count(each) for each in set(everything.replace(" ", ""))}
    assert all(count <= 0 for count in missing.values()), missing
    assert "…" not in "".join(lines)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> MemoryStore:
    """The store that engines are opened over."""
    shared = MemoryStore()

    async def opened(settings: StoreSettings) -> MemoryStore:
        return shared

    monkeypatch.setattr(assemble, "open_store", opened)
    return shared


async def test_whoever_only_asks_knows_the_register_and_is_no_process_of_the_fleet(store: MemoryStore) -> None:
    settings = Settings(store=StoreSettings(url="memory:"))
    async with open_engine(settings) as serving:
        await serving.registrar.put(ban("ip:192.0.2.0/24"))
        async with open_engine(settings, serving=False) as asking:
            assert (await asking.judge(connect())).reason is Reason.BANNED
            await asyncio.sleep(0.01)
            assert await store.beat("test", 15.0) == 2, "the one that serves, and this test"


async def test_a_store_that_is_away_stops_only_whoever_asks(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(known_version: int, *, now_us: int | None = None) -> object:
        raise StoreUnavailable("it is down")

    monkeypatch.setattr(store, "entries", away)
    settings = Settings(store=StoreSettings(url="memory:"))
    async with open_engine(settings) as serving:
        assert not (await serving.judge(connect())).denied
    with pytest.raises(StoreUnavailable):
        async with open_engine(settings, serving=False):
            pass


async def test_a_job_that_ends_by_itself_is_reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(registrar: Registrar) -> None:
        raise ValueError("a bug")

    monkeypatch.setattr(Registrar, "run", broken)
    async with open_engine(Settings(store=StoreSettings(url="memory:"))), asyncio.timeout(5):
        while "Registrar has ended" not in caplog.messages:
            await asyncio.sleep(0.001)


async def test_pitfall_28_a_score_can_be_worked_out_from_what_is_shown() -> None:
    """From the site's base rate down: what each level has seen, what it began with and what it comes to."""
    engine = Engine(policy=Policy(), store=MemoryStore())
    for kind, client, times in (
        (OutcomeKind.HAM, "198.51.100.1", 20),
        (OutcomeKind.SPAM, "192.0.2.9", 10),
        (OutcomeKind.SPAM, "192.0.2.7", 1),
        (OutcomeKind.HAM, "192.0.2.7", 2),
    ):
        for _ in range(times):
            await engine.learn(Outcome(kind=kind, event=mail(client=client)))
    document = await explained_by(engine, ADDRESS)
    told = asdict(document)["reputation"]
    assert [(level["entity"], level["good"], level["bad"]) for level in told["levels"]] == [
        ("prefix:192.0.2.0/24", 2.0, 11.0),
        ("ip:192.0.2.7", 2.0, 1.0),
    ]
    so_far = told["base"]
    for level in told["levels"]:
        assert level["prior"] == pytest.approx(so_far, abs=1e-3)
        for good, bad, weight in (("good", "bad", PRIOR_LONG), ("good_lately", "bad_lately", PRIOR_SHORT)):
            so_far = (level[bad] + weight * so_far) / (level[good] + level[bad] + weight)
        assert level["posterior"] == pytest.approx(so_far, abs=1e-3)
    assert told["score"] == pytest.approx(so_far, abs=1e-3)
    lines = words(printed(document))
    assert any(line.startswith(f"Reputation, 0 good to 1 bad: score {told['score']:.2f}, ") for line in lines)
    for level in told["levels"]:
        sums = " ".join(f"{level[name]:.1f}" for name in ("good", "bad", "good_lately", "bad_lately"))
        assert f"{level['entity']} {sums} {level['prior']:.2f} {level['posterior']:.2f}" in lines
