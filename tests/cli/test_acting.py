"""What people do: it is in force at an engine beside within a second, is signed, and can be taken back."""

import asyncio
import getpass
import time
from collections.abc import Callable

import pytest

from reputation.engine import Engine
from reputation.remarks import RELOAD
from reputation.verdict import Reason
from tests.builders import mail
from tests.cli.site_for_tests import Site, cells, send, working

SECONDS = 5.0


async def becomes(condition: Callable[[], bool], what: str) -> float:
    """Wait until it is so; how long that took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < SECONDS, what
        await asyncio.sleep(0.01)
    return time.monotonic() - begun


def number(site: Site) -> int:
    """Another one for each way of asking, so that no test meets what another has put down."""
    return 1 + bool(site.environment)


async def test_somebody_is_banned_and_let_go(site: Site) -> None:
    target = f"ip:198.51.100.{number(site)}"
    event = mail("anna@example.org", client=target[3:])
    async with working(site) as engine:
        assert not (await engine.judge(event)).denied
        told = await asyncio.to_thread(site.run, "ban", target, "--for", "1h", "--reason", "spam run")
        assert (told.status, told.err) == (0, "")
        assert told.lines[0].startswith(f"banned: {target}, reject; until ")
        assert told.lines[1] == f"take it back: reputon unban {target}"
        await becomes(lambda: is_banned(engine, target), "the ban is heard of")
        assert (await engine.judge(event)).reason is Reason.BANNED
        (ban,) = (await asyncio.to_thread(site.run, "bans", "--matching", target, "--json")).json["entries"]
        assert (ban["id"], ban["reason"], ban["author"]) == (f"ban|{target}", "spam run", who(site))
        assert 3_590 < ban["expires_at"] - ban["created_at"] <= 3_600
        told = await asyncio.to_thread(site.run, "unban", target, "--reason", "a mistake")
        assert told.lines == [f"lifted: ban|{target}, put down by {who(site)} because spam run"]
        await becomes(lambda: not is_banned(engine, target), "the ban is over")
    told = await asyncio.to_thread(site.run, "unban", target)
    assert told.status == 1
    assert f"ban|{target}" in told.err


def who(site: Site) -> str:
    return "tests" if site.environment else getpass.getuser()


def is_banned(engine: Engine, target: str) -> bool:
    return any(entry.id == f"ban|{target}" for entry in engine.registrar.register.entries)


def test_a_ban_says_how_and_for_how_long(site: Site) -> None:
    target = f"sender:long-{number(site)}@example.org"
    made = site.run_here("ban", target, "--for", "ever", "--reason", "x", "--action", "tempfail", "--json").json
    assert (made["action"], made["expires_at"]) == ("tempfail", None)
    assert cells(site.run_here("bans").lines, target, "tempfail no end")
    assert site.run_here("unban", target, "--json").json["id"] == f"ban|{target}"


def test_what_may_not_be_banned_is_not(site: Site) -> None:
    for target, word in (("ip:127.0.0.1", "never banned"), ("ip:10.0.0.0/8", "16777216 addresses")):
        told = site.run_here("ban", target, "--for", "1h", "--reason", "x")
        assert (told.status, told.out) == (1, "")
        assert word in told.err
    assert site.run_here("ban", "ip:10.0.0.0/8", "--for", "1h", "--reason", "x", "--wide").status == 0
    assert site.run_here("unban", "ip:10.0.0.0/8").status == 0


@pytest.mark.parametrize("lasting", ["soon", "0h", "-1h", "1", ""])
def test_how_long_must_be_a_time(store_site: Site, lasting: str) -> None:
    told = store_site.run_here("ban", "ip:192.0.2.99", f"--for={lasting}", "--reason", "x")
    assert (told.status, told.out) == (1, "")
    assert "write 30m, 1h, 7d, or ever" in told.err


async def test_limits_are_others_for_somebody_and_the_rule_s_own_again(site: Site) -> None:
    sender = f"over|ride/{number(site)}@example.org"
    async with working(site) as engine:
        await send(engine, sender, 20)
        assert (await engine.judge(mail(sender))).denied
        put = ("override", "sender-messages", f"sender:{sender}", "500/1h", "--for", "7d", "--reason", "newsletter")
        told = await asyncio.to_thread(site.run, *put)
        assert told.status == 0, told.err
        assert told.lines[0].startswith(f"sender-messages allows sender:{sender} 500/1h; until ")
        await becomes(lambda: any("over|ride" in it.id for it in engine.registrar.register.entries), "it is heard of")
        assert not (await engine.judge(mail(sender))).denied
    assert cells(site.run("overrides").lines, sender, "sender-messages: 500/1h")
    assert site.run("override", "sender-messages", f"sender:{sender}", "--lift").status == 0
    assert not cells(site.run("overrides").lines, sender)


def test_an_override_of_no_rule_is_a_mistake(site: Site) -> None:
    told = site.run_here("override", "nonsense", "ip:192.0.2.1", "5/1h", "--for", "1h", "--reason", "x")
    assert (told.status, told.out) == (1, "")
    assert "nonsense" in told.err


def test_lists_are_kept(site: Site) -> None:
    name, target = f"vip-{number(site)}", "user:a|b/c"
    assert site.run_here("list", "show", name).lines == ["There is none."]
    put = site.run_here("list", "add", name, target, "--for", "ever", "--reason", "a partner")
    assert put.lines == [
        f"on the list {name}: {target}; no end",
        f"take it back: reputon list remove {name} '{target}'",
    ]
    assert [entry["target"] for entry in site.run_here("list", "show", name, "--json").json["entries"]] == [target]
    assert cells(site.run_here("list", "all").lines, target, f"list {name}", "a partner")
    assert site.run_here("list", "remove", name, target).status == 0
    assert site.run_here("list", "show", name, "--json").json["total"] == 0


async def test_whom_a_rule_holds_is_released_with_a_fresh_allowance(site: Site) -> None:
    user = f"held-{number(site)}"
    async with working(site) as engine:
        await send(engine, f"{user}@example.org", 6, user=user)
        await becomes(lambda: is_banned(engine, f"user:{user}"), "he is held")
        told = await asyncio.to_thread(site.run, "release", f"user:{user}", "--reason", "it was a newsletter")
        assert (told.status, told.err) == (0, "")
        assert told.lines[0].startswith(f"released: ban|user:{user}, put down by rule user-messages because ")
        await becomes(lambda: not is_banned(engine, f"user:{user}"), "he is free")
        assert not (await engine.judge(mail(f"{user}@example.org", user=user))).denied
    told = site.run("release", f"user:{user}")
    assert (told.status, told.out) == (1, "")
    assert f"`reputon explain user:{user}`" in told.err


def test_an_outcome_is_counted_once_by_its_key(site: Site) -> None:
    user = f"reported-{number(site)}"
    report = ("outcome", "spam", "--user", user, "--client", "203.0.113.9", "--key", user)
    (result,) = site.run(*report, "--json").json["results"]
    assert (result["status"], f"user:{user}" in result["entities"]) == ("counted", True)
    assert site.run(*report).lines == ["counted before: nothing was done"]
    counts = site.run("explain", f"user:{user}", "--json").json["counts"]
    assert {"metric": "spam", "window": "1h", "count": 1, "rule": ""} in counts


async def test_somebody_is_forgotten_when_that_is_meant(site: Site) -> None:
    sender = f"gone-{number(site)}@example.org"
    async with working(site) as engine:
        await send(engine, sender, 2)
    told = site.run("forget", f"sender:{sender}", "--reason", "asked for it")
    assert (told.status, told.out) == (1, "")
    assert "--yes" in told.err
    assert site.run("explain", f"sender:{sender}", "--json").json["counts"]
    told = site.run("forget", f"sender:{sender}", "--reason", "asked for it", "--yes")
    assert (told.status, told.err) == (0, "")
    assert told.lines[0].startswith("forgotten: ")
    assert not site.run("explain", f"sender:{sender}", "--json").json["counts"]
    assert not cells(site.run("audit").lines, sender)


async def test_all_processes_read_their_rules_anew(site: Site) -> None:
    heard: list[bool] = []
    async with working(site) as engine:
        engine.registrar.listeners.add(RELOAD, lambda: heard.append(True))
        told = await asyncio.to_thread(site.run, "reload", "--reason", "another limit")
        assert told.lines == ["all processes read 3 rules anew, within a second or two"]
        await becomes(lambda: bool(heard), "it is heard of")
