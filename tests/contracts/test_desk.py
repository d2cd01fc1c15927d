"""The abuse desk: over an engine of this process, and over the API of another one, it is the same."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

import pytest

from reputation.access import parse_token
from reputation.desk.contract import Desk, Wanted
from reputation.desk.documents import NewEntry, NewToken, OutcomeReport, VerdictLine, WouldDo
from reputation.desk.local import EngineDesk, watching
from reputation.desk.remote import RemoteDesk
from reputation.engine import Engine
from reputation.errors import ConfigError, NothingThere
from reputation.events import Event, Mail, Rcpt, Session
from reputation.upkeep import OFFERED_EVERY
from reputation.verdict import Action, Verdict
from tests.api.conftest import Api, Process, api_running, api_seen

T = TypeVar("T")

RULES = """
[[rule]]
name = "by-sender"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["3/1h"]
action = "tempfail"

[[rule]]
name = "shy"
stage = "mail"
mode = "shadow"
key = ["sender"]
count = "messages"
limits = ["1/1h"]
action = "reject"

[[rule]]
name = "hijacked"
stage = "mail"
key = ["user"]
count = "messages"
limits = ["2/1h"]
action = "reject"
hold_seconds = 3600
"""


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with api_running(tmp_path_factory.mktemp("desk"), "", RULES) as running:
        yield running


@pytest.fixture
async def api(process: Process) -> AsyncIterator[Api]:
    async with api_seen(process) as api:
        yield api


@pytest.fixture(params=["local", "watching", "remote"])
async def desk(request: pytest.FixtureRequest, api: Api) -> AsyncIterator[Desk]:
    """The desk that is asked; `api.engine` is a mail server beside it."""
    if request.param == "remote":
        remote = RemoteDesk(api.url, await api.token("admin"))
        yield remote
        await remote.close()
    elif request.param == "local":
        yield EngineDesk(api.engine, "tests", settings=api.settings, path=api.program.config)
    else:
        async with watching(api.engine) as watch:
            yield EngineDesk(api.engine, "tests", settings=api.settings, path=api.program.config, watch=watch)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A name that no other test uses."""
    return "".join(letter if letter.isalnum() else "-" for letter in request.node.name.lower()).strip("-")[-60:]


def session(client: str = "192.0.2.1", user: str = "") -> Session:
    return Session(id="s1", client=ip_address(client), helo="mail.example.com", user=user)


async def mails(engine: Engine, sender: str, n: int = 1, **options: str) -> list[Verdict]:
    return [await engine.judge(Mail(session=session(**options), sender=sender)) for _ in range(n)]


async def told(engine: Engine, event: Event | None = None) -> None:
    """Have what waits told at once."""
    if event is not None:
        await engine.judge(event)
    await engine.upkeep.stream.tell()
    await engine.upkeep.tallies.tell()
    for _ in range(OFFERED_EVERY[-1]):
        await engine.upkeep.offer()


async def eventually(asked: Callable[[], Awaitable[T]], wanted: Callable[[T], bool]) -> None:
    """Ask until it is so: what one process does is in force in the other within a second."""
    async with asyncio.timeout(5):
        while not wanted(await asked()):
            await asyncio.sleep(0.02)


# Looking


async def test_who_has_the_most(desk: Desk, api: Api, name: str) -> None:
    sender = f"{name}@top.example"
    await mails(api.engine, sender, 3)
    await told(api.engine)
    top = await desk.top("sender", "messages", "1h", 1_000)
    assert (top.dimension, top.metric, top.window, top.at) == ("sender", "messages", "1h", None)
    assert {row.entity: row.count for row in top.rows}[f"sender:{sender}"] == 3
    assert [row.count for row in top.rows] == sorted((row.count for row in top.rows), reverse=True)
    past = await desk.top("sender", "messages", "1h", 5, at=api.engine.now - 40 * 3_600)
    assert past.rows == ()


@pytest.mark.parametrize(
    ("dimension", "metric", "window", "n"),
    [
        ("planet", "messages", "1h", 5),
        ("sender", "planets", "1h", 5),
        ("recipient", "auth_failures", "1h", 5),
        ("sender", "messages", "2h", 5),
        ("sender", "messages", "1h", 0),
        ("sender", "messages", "1h", 1_001),
        ("sender\x00", "<script>", "\u202e", -1),
    ],
)
async def test_what_nobody_counts(desk: Desk, dimension: str, metric: str, window: str, n: int) -> None:
    with pytest.raises(ConfigError):
        await desk.top(dimension, metric, window, n)


async def test_all_about_one(desk: Desk, api: Api, name: str) -> None:
    sender = f"{name}@page.example"
    verdicts = await mails(api.engine, sender, 4)
    assert verdicts[-1].action is Action.TEMPFAIL
    await told(api.engine)
    await eventually(lambda: desk.page(f"sender:{sender}"), lambda page: len(page.recent) == 3)
    page = await desk.page(f"sender:{sender}")
    assert page.entity == f"sender:{sender}"
    assert (page.next.action, page.next.rule, page.next.would) == ("tempfail", "by-sender", ("shy",))
    assert page.next.retry_after_seconds > 0
    assert ("messages", "1h", 3) in [
        (count.metric, count.window, count.count) for count in page.counts if not count.rule
    ]
    by_sender = next(reading for reading in page.rules if reading.rule == "by-sender")
    assert (by_sender.count, by_sender.limit, by_sender.remaining) == (3, "3/1h", 0)
    assert (by_sender.mode, by_sender.action) == ("enforce", "tempfail")
    assert page.reputation is not None
    assert [line.action for line in page.recent] == ["tempfail", "accept", "accept"], "the first had nothing to tell"
    explained = await desk.explain(f"sender:{sender}")
    assert (explained.entity, explained.next.rule, explained.counts) == (page.entity, "by-sender", page.counts)


async def test_nobody_has_an_empty_page(desk: Desk, name: str) -> None:
    page = await desk.page(f"sender:{name}@nobody.example")
    assert (page.counts, page.recent, page.register, page.next.action) == ((), (), (), "accept")


async def test_a_user_has_different_recipients(desk: Desk, api: Api, name: str) -> None:
    for number in range(5):
        event = Rcpt(session=session(user=name), sender="a@example.com", recipient=f"r{number}@example.net")
        await api.engine.judge(event)
    await api.engine.upkeep.sketch()
    page = await desk.page(f"user:{name}")
    assert {each.of: each.last_hour for each in page.distinct}["recipient"] == 5


async def test_counts_over_time(desk: Desk, api: Api, name: str) -> None:
    sender = f"{name}@series.example"
    await mails(api.engine, sender, 2)
    found = await desk.series(f"sender:{sender}")
    own = {(row.metric, row.window): row for row in found.series if not row.rule}
    hour = own["messages", "1h"]
    assert (hour.count, sum(bucket.count for bucket in hour.buckets), hour.bucket_seconds) == (2, 2, 300.0)
    assert hour.buckets[-1].start <= api.engine.now
    assert set(own) == {("messages", window) for window in ("5m", "1h", "1d")}


@pytest.mark.parametrize("text", ["", "sender", "planet:x", "sender:", "ip:x", "ip:192.0.2.7\x00"])
async def test_what_names_nobody(desk: Desk, text: str) -> None:
    for ask in (desk.page, desk.explain, desk.series):
        with pytest.raises(ConfigError):
            await ask(text)


async def test_the_site_at_a_glance(desk: Desk, api: Api, name: str) -> None:
    await mails(api.engine, f"{name}@glance.example", 5)
    await told(api.engine)
    overview = await desk.overview()
    assert overview.store.up
    assert overview.store.whole
    assert overview.store.answer_ms is not None
    assert abs(overview.at - api.engine.now) < 5
    counts = {each.action: each for each in overview.actions}
    assert list(counts) == [str(action) for action in Action]
    assert counts["accept"].last_5m >= 3
    assert counts["tempfail"].last_1h >= 2
    assert sum(bucket.count for bucket in counts["tempfail"].buckets) == counts["tempfail"].last_1h
    assert {"by-sender", "shy"} <= {row.rule for row in overview.rules}


async def test_rules_have_their_counts(desk: Desk, api: Api, name: str) -> None:
    before = {row.rule: row for row in (await desk.rules()).rules}
    await mails(api.engine, f"{name}@rules.example", 5)
    await told(api.engine)
    rows = {row.rule: row for row in (await desk.rules()).rules}
    assert rows["by-sender"].hits.last_1h == before["by-sender"].hits.last_1h + 2
    assert rows["shy"].would_hit.last_1h == before["shy"].would_hit.last_1h + 4
    assert rows["shy"].would_hit.last_at is not None
    assert (rows["shy"].mode, rows["shy"].key, rows["shy"].limits, rows["shy"].action) == (
        "shadow",
        ("sender",),
        ("1/1h",),
        "reject",
    )


async def test_what_enforcing_would_change(desk: Desk, api: Api, name: str) -> None:
    sender = f"{name}@would.example"
    await mails(api.engine, sender, 5)
    await told(api.engine)

    def is_there(found: WouldDo) -> bool:
        return any(row.entity == f"sender:{sender}" for row in found.rows)

    await eventually(lambda: desk.would_do("shy"), is_there)
    found = await desk.would_do("shy")
    row = next(row for row in found.rows if row.entity == f"sender:{sender}")
    assert (row.verdicts, row.accepted) == (4, 2), "two of the four are tempfailed anyway"
    assert found.changed <= found.verdicts
    assert found.since is not None
    assert found.recent[0].sender == sender
    assert (await desk.would_do("hijacked")).verdicts == 0
    with pytest.raises(NothingThere):
        await desk.would_do("no-such-rule")


# What is put down


async def test_a_ban_is_put_down_seen_and_lifted(desk: Desk, api: Api, name: str) -> None:
    sender = f"{name}@ban.example"
    put = await desk.put(NewEntry(kind="ban", target=f"sender:{sender}", reason="spam run", expires_in_seconds=3_600))
    assert (put.id, put.kind, put.action, put.reason) == (f"ban|sender:{sender}", "ban", "reject", "spam run")
    assert put.expires_at is not None
    assert put.expires_at == pytest.approx(put.created_at + 3_600)
    await eventually(lambda: mails(api.engine, sender), lambda verdicts: verdicts[0].action is Action.REJECT)
    assert await desk.entry(put.id) == put
    assert put in (await desk.entries(kind="ban", matching=sender)).entries
    assert (await desk.page(f"sender:{sender}")).register == (put,)
    assert await desk.lift(put.id, reason="a mistake") == put
    await eventually(lambda: mails(api.engine, sender), lambda verdicts: verdicts[0].action is not Action.REJECT)
    for gone in (desk.entry(put.id), desk.lift(put.id, reason="again")):
        with pytest.raises(NothingThere):
            await gone
    lines = [
        (line.what, line.id, line.reason, line.author) for line in (await desk.audit(50)).lines if line.id == put.id
    ]
    assert [line[:3] for line in lines] == [("lift", put.id, "a mistake"), ("put", put.id, "spam run")]
    assert {line[3] for line in lines} == {put.author}


async def test_an_override_and_a_list(desk: Desk, name: str) -> None:
    target = f"sender:{name}@override.example"
    override = await desk.put(
        NewEntry(kind="override", target=target, rule="by-sender", limits=("100/1h",), reason="newsletter")
    )
    listing = await desk.put(NewEntry(kind="list", target=target, list="vip", reason="a partner"))
    assert (override.rule, override.limits, listing.list) == ("by-sender", ("100/1h",), "vip")
    assert (await desk.entries(kind="override", matching=name)).entries == (override,)
    assert (await desk.entries(kind="list", matching=name)).entries == (listing,)
    assert {entry.id for entry in (await desk.entries(matching=name)).entries} == {override.id, listing.id}
    page = await desk.page(target)
    assert next(reading.limit for reading in page.rules if reading.rule == "by-sender") == "100/1h"
    for entry in (override, listing):
        assert await desk.lift(entry.id, reason="over") == entry


@pytest.mark.parametrize(
    "entry",
    [
        NewEntry(kind="ban", target="ip:127.0.0.1", reason="ourselves"),
        NewEntry(kind="ban", target="ip:10.0.0.0/8", reason="wide"),
        NewEntry(kind="ban", target="ip:192.0.2.7/24", reason="unclear"),
        NewEntry(kind="ban", target="planet:earth", reason="none"),
        NewEntry(kind="ban", target="ip:192.0.2.7", reason=""),
        NewEntry(kind="ban", target="ip:192.0.2.7", reason="a\nb"),
        NewEntry(kind="ban", target="ip:192.0.2.7", reason="x", action="accept"),
        NewEntry(kind="ban", target="ip:192.0.2.7", reason="x", action="explode"),
        NewEntry(kind="ban", target="ip:192.0.2.7", reason="x", expires_in_seconds=0),
        NewEntry(kind="ban", target="ip:192.0.2.7", reason="x", expires_in_seconds=1e300),
        NewEntry(kind="override", target="sender:a@example.com", rule="no-such", limits=("1/1h",), reason="x"),
        NewEntry(kind="override", target="sender:a@example.com", rule="by-sender", reason="x"),
        NewEntry(kind="override", target="sender:a@example.com", rule="by-sender", limits=("lots",), reason="x"),
        NewEntry(kind="list", target="sender:a@example.com", list="", reason="x"),
        NewEntry(kind="list", target="sender:a@example.com", list="A b", reason="x"),
    ],
)
async def test_what_cannot_be_put_down(desk: Desk, entry: NewEntry) -> None:
    with pytest.raises(ConfigError) as caught:
        await desk.put(entry)
    assert not isinstance(caught.value, NothingThere)


async def test_so_wide_a_ban_must_be_meant(desk: Desk) -> None:
    wide = NewEntry(kind="ban", target="ip:100.64.0.0/10", reason="carrier NAT of a botnet", wide=True)
    put = await desk.put(wide)
    assert await desk.lift(put.id, reason="a test") == put


async def test_entries_come_in_pages(desk: Desk, name: str) -> None:
    for number in range(7):
        await desk.put(NewEntry(kind="list", target=f"sender:{number}-{name}@pages.example", list="many", reason="x"))
    found, after, pages = [], "", 0
    while True:
        page = await desk.entries(kind="list", matching=f"{name}@pages", after=after, n=3)
        assert page.total == 7
        found += [entry.id for entry in page.entries]
        pages += 1
        if page.next is None:
            break
        after = page.next
    assert (pages, len(found), found) == (3, 7, sorted(found))
    for id in found:
        await desk.lift(id, reason="a test")


# Letting go, suspects


async def test_somebody_whom_a_rule_holds(desk: Desk, api: Api, name: str) -> None:
    verdicts = await mails(api.engine, f"{name}@x.example", 4, user=name, client="198.51.100.7")
    assert verdicts[-1].action is Action.REJECT
    await told(api.engine)

    async def held() -> list[str]:
        return [suspect.entity for suspect in (await desk.suspects()).suspects]

    await eventually(held, lambda entities: f"user:{name}" in entities)
    suspect = next(each for each in (await desk.suspects()).suspects if each.entity == f"user:{name}")
    assert suspect.rule == "hijacked"
    assert suspect.until == pytest.approx(suspect.since + 3_600, abs=1)
    await eventually(lambda: desk.case_file(f"user:{name}"), lambda file: "reject" in file.actions)
    file = await desk.case_file(f"user:{name}")
    assert file.suspect == suspect
    assert file.clients == {"198.51.100.7": len(file.page.recent)}
    assert file.first_seen is not None
    assert file.last_seen is not None
    assert file.first_seen <= file.last_seen
    assert file.advice
    released = await desk.release(f"user:{name}", reason="it was a newsletter")
    assert [entry.id for entry in released.lifted] == [f"ban|user:{name}"]
    await eventually(
        lambda: mails(api.engine, f"free-{name}@x.example", user=name),
        lambda verdicts: verdicts[0].action is Action.ACCEPT,
    )
    assert f"user:{name}" not in await held()
    with pytest.raises(NothingThere):
        await desk.release(f"user:{name}", reason="again")


async def test_a_case_file_of_who_is_not_held(desk: Desk, name: str) -> None:
    file = await desk.case_file(f"user:{name}")
    assert (file.suspect, file.first_seen, file.actions) == (None, None, {})


# Outcomes


async def test_outcomes_are_counted_once_a_key(desk: Desk, api: Api, name: str) -> None:
    sender = f"{name}@outcome.example"
    report = OutcomeReport(
        kind="spam", client="203.0.113.9", sender=sender, sender_proven=True, key=f"report of {name}"
    )
    first, again = (await desk.learn([report, report])).results
    assert (first.status, again.status, again.key) == ("counted", "duplicate", report.key)
    assert f"sender:{sender}" in first.entities
    (late,) = (await desk.learn([report])).results
    assert late.status == "duplicate"
    page = await desk.page(f"sender:{sender}")
    assert ("spam", 1) in {(count.metric, count.count) for count in page.counts}
    assert page.reputation is not None
    assert page.reputation.levels[-1].bad == pytest.approx(1, abs=0.01)
    without_key = OutcomeReport(kind="spam", sender=sender, sender_proven=True)
    await desk.learn([without_key, without_key])
    page = await desk.page(f"sender:{sender}")
    assert ("spam", 3) in {(count.metric, count.count) for count in page.counts}


async def test_a_forged_sender_is_not_blamed(desk: Desk, name: str) -> None:
    sender = f"{name}@forged.example"
    (result,) = (await desk.learn([OutcomeReport(kind="trap", client="203.0.113.10", sender=sender)])).results
    assert f"sender:{sender}" not in result.entities
    assert "ip:203.0.113.10" in result.entities


async def test_who_has_no_address_is_not_an_address(desk: Desk, name: str) -> None:
    (result,) = (await desk.learn([OutcomeReport(kind="junk", user=name, sender=f"{name}@x.example")])).results
    assert f"user:{name}" in result.entities
    assert not [entity for entity in result.entities if entity.startswith(("ip:", "prefix:"))]


@pytest.mark.parametrize(
    "report",
    [
        OutcomeReport(kind="sunshine", client="192.0.2.7"),
        OutcomeReport(kind="spam"),
        OutcomeReport(kind="spam", client="not an address"),
        OutcomeReport(kind="spam", sender="x" * 10_000),
    ],
)
async def test_what_is_no_report_counts_nothing(desk: Desk, report: OutcomeReport, name: str) -> None:
    sender = f"{name}@good.example"
    good = OutcomeReport(kind="spam", sender=sender, sender_proven=True)
    with pytest.raises(ConfigError):
        await desk.learn([good, report])
    assert (await desk.page(f"sender:{sender}")).counts == ()


# Forgetting


async def test_somebody_is_forgotten(desk: Desk, api: Api, name: str) -> None:
    sender, other = f"{name}@forget.example", f"other-{name}@forget.example"
    await mails(api.engine, sender, 5)
    await mails(api.engine, other, 5)
    await told(api.engine)
    ban = await desk.put(NewEntry(kind="ban", target=f"sender:{sender}", reason="spam"))
    await eventually(lambda: desk.page(f"sender:{sender}"), lambda page: len(page.recent) == 4)
    forgotten = await desk.forget(f"sender:{sender}", reason="asked for it")
    assert forgotten.counters >= 2, "counts, and a place on the leaderboards"
    assert (forgotten.verdicts, forgotten.entries) == (4, (ban.id,))
    page = await desk.page(f"sender:{sender}")
    assert (page.counts, [line for line in page.recent if line.reason != "banned"]) == ((), [])
    assert f"sender:{sender}" not in {row.entity for row in (await desk.top("sender", "messages", "1h", 1_000)).rows}
    await eventually(lambda: desk.page(f"sender:{other}"), lambda page: len(page.recent) == 4)
    assert (await desk.page(f"sender:{other}")).counts
    line = next(line for line in (await desk.audit(20)).lines if line.what == "forget")
    assert (line.reason, sender in line.id, line.id.startswith("sender:#")) == ("asked for it", False, True)
    await desk.lift(ban.id, reason="a test")


# The stream


async def test_verdicts_as_they_are_given(desk: Desk, api: Api, name: str) -> None:
    sender = f"{name}@stream.example"
    await mails(api.engine, sender, 4)
    await told(api.engine)
    lines = await collected(desk, Wanted(entity=f"sender:{sender}"), 3, after="0")
    assert [line.action for line in lines] == ["accept", "accept", "tempfail"]
    assert len({line.id for line in lines}) == 3
    (last,) = await collected(desk, Wanted(entity=f"sender:{sender}"), 1, after=lines[1].id)
    assert last == lines[2]
    (refused,) = await collected(desk, Wanted(actions=frozenset({"tempfail"}), entity=f"sender:{sender}"), 1, after="0")
    assert refused == last
    (shy, *_) = await collected(desk, Wanted(rule="shy", entity=f"sender:{sender}"), 1, after="0")
    assert shy == lines[0]


async def collected(desk: Desk, wanted: Wanted, n: int, after: str | None = None) -> list[VerdictLine]:
    found: list[VerdictLine] = []
    async with asyncio.timeout(10), aclosing(desk.verdicts(wanted, after=after)) as verdicts:
        async for line in verdicts:
            if line is not None:
                found.append(line)
            if len(found) == n:
                break
    return found


# Tokens


async def test_a_token_is_made_told_once_and_taken_back(desk: Desk, api: Api, name: str) -> None:
    made = await desk.make_token(NewToken(name=name[-40:].strip("-"), scopes=("read", "check"), expires_in_seconds=60))
    assert parse_token(made.token) is not None
    assert made.row.scopes == ("read", "check")
    tokens = (await desk.tokens()).tokens
    assert made.row in tokens
    assert made.token not in repr(tokens)
    await eventually(lambda: opens(api, made.token), lambda status: status == 200)
    with pytest.raises(ConfigError):
        await desk.make_token(NewToken(name=made.row.name, scopes=("read",)))
    assert await desk.revoke_token(made.row.name, reason="a test") == made.row
    await eventually(lambda: opens(api, made.token), lambda status: status == 401)
    assert made.row not in (await desk.tokens()).tokens
    with pytest.raises(NothingThere):
        await desk.revoke_token(made.row.token_id, reason="again")


async def opens(api: Api, token: str) -> int:
    async with api.client(token) as asked, asked.get("/v1/tokens") as answer:
        status = answer.status
    async with api.client(token) as asked, asked.get("/v1/rules") as answer:
        return answer.status if status == 403 or answer.status == 401 else status


@pytest.mark.parametrize(
    "new", [NewToken(name="", scopes=("read",)), NewToken(name="a", scopes=()), NewToken(name="a", scopes=("root",))]
)
async def test_what_is_no_token(desk: Desk, new: NewToken) -> None:
    with pytest.raises(ConfigError):
        await desk.make_token(new)


# Reloading


async def test_rules_are_read_anew(desk: Desk, api: Api) -> None:
    reloaded = await desk.reload(reason="a new limit")
    assert reloaded.rules == len(api.settings.rule)
    path: Path = api.program.config
    text = path.read_text()
    try:
        path.write_text(text + "\n[[rule]]\nname = 'broken'\n")
        with pytest.raises(ConfigError, match="broken"):
            await desk.reload(reason="a mistake")
    finally:
        path.write_text(text)
    assert "reload" in [line.what for line in (await desk.audit(10)).lines]
