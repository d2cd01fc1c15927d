"""What pages do: forms and dialogs, the time slider, looking again, the live stream, ten thousand rows, trouble."""

import asyncio
import re
import time
from dataclasses import replace

import pytest
from playwright.async_api import expect

from tests.browser.conftest import Desks
from tests.browser.fake_desk import NOW, FakeDesk

pytestmark = pytest.mark.asyncio(loop_scope="session")

BANNED = "sender:bulk00001@spam.example"
FREE = "sender:bulk00000@spam.example"
ASKING = ("top", f"entity?of={FREE}", "rules", "rule?name=sender-rate", "case?of=user:staff0", "audit", "live")


# Forms and dialogs


async def test_somebody_is_banned_in_a_dialog(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        await page.goto(console.place("top"))
        button = page.get_by_role("button", name="Ban bulk00002@spam.example")
        await button.or_(page.get_by_role("button", name="Ban sender:bulk00002@spam.example")).click()
        dialog = page.get_by_role("dialog", name="Ban")
        await expect(dialog.get_by_label("Why")).to_be_focused()
        await expect(dialog.get_by_label("Why")).to_have_value("3,740 messages in 1 hour")
        await desks.keep(page, "dialog-light", whole=False)
        await dialog.get_by_label("24 hours").check()
        await dialog.get_by_label("What its mail gets").select_option("tempfail")
        await dialog.get_by_role("button", name="Ban", exact=True).click()
        await page.get_by_text("Banned. In force on every process within a second.").wait_for()
        assert "said" not in page.url
        assert desk.done == [("put", "ban|sender:bulk00002@spam.example", "3,740 messages in 1 hour")]
        row = desk.entries_now["ban|sender:bulk00002@spam.example"]
        assert (row.action, row.expires_at) == ("tempfail", NOW + 86_400)


async def test_escape_does_nothing_and_leads_back(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        await page.goto(console.place("entries"))
        link = page.get_by_role("button", name="Ban somebody")
        await link.focus()
        await page.keyboard.press("Space")
        await expect(page.get_by_role("dialog").get_by_label("Whom")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
        await expect(link).to_be_focused()
        assert desk.done == []


async def test_a_form_that_cannot_be_met_is_shown_again(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        await page.goto(console.place("override?target=nonsense"))
        await page.get_by_label("Limits instead").fill("5/1h, 9/24h")
        await page.get_by_label("Why").fill("a newsletter")
        await page.get_by_label("7 days").check()
        await page.get_by_role("button", name="Put it down").click()
        await page.get_by_role("alert").get_by_text("names no entity").wait_for()
        await expect(page.get_by_label("Limits instead")).to_have_value("5/1h, 9/24h")
        await expect(page.get_by_label("7 days")).to_be_checked()
        await page.get_by_label("Whom").fill("user:newsletter")
        desk.is_away = True
        await page.get_by_role("button", name="Put it down").click()
        await page.get_by_role("alert").get_by_text("the store does not answer").wait_for()
        desk.is_away = False
        await page.goto(console.place("override?target=user:newsletter"))
        await page.get_by_label("Rule", exact=True).select_option("user-messages")
        await page.get_by_label("Limits instead").fill("5/1h, 9/24h")
        await page.get_by_label("Why").fill("a newsletter")
        await page.get_by_role("button", name="Put it down").click()
        await page.get_by_text("The override is put down.").wait_for()
        assert desk.entries_now["override|user-messages|user:newsletter"].limits == ("5/1h", "9/24h")


async def test_somebody_is_put_on_a_list_and_lifted(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        await page.goto(console.place("entity?of=user:newsletter"))
        await page.get_by_role("button", name="Put on a list").click()
        await page.get_by_role("dialog").get_by_label("List").fill("vip")
        await page.get_by_role("dialog").get_by_label("Why").fill("our own")
        await page.get_by_role("dialog").get_by_label("For ever").check()
        await page.get_by_role("button", name="Put on the list").click()
        await page.get_by_text("Put on the list.").wait_for()
        assert desk.entries_now["list|vip|user:newsletter"].expires_at is None
        await page.get_by_role("button", name=re.compile("Lift list")).click()
        await page.get_by_role("dialog").get_by_role("button", name="Lift", exact=True).click()
        await page.get_by_text("Lifted, on every process").wait_for()
        assert "list|vip|user:newsletter" not in desk.entries_now


async def test_a_suspect_is_released_from_his_case_file(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        await page.goto(console.place("suspects"))
        await page.get_by_role("link", name="Case file of user:staff1").click()
        await page.get_by_text("Ask the owner by another way").wait_for()
        await page.get_by_role("button", name="Release").click()
        await page.get_by_role("dialog").get_by_role("button", name="Release").click()
        await page.get_by_text("Released, with a fresh allowance. Bans lifted: 1.").wait_for()
        assert desk.done == [("release", "user:staff1", "looked into it")]


async def test_nobody_is_forgotten_by_a_slip(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("admin")) as somebody:
        page = somebody.page
        await page.goto(console.place(f"entity?of={FREE}"))
        await page.get_by_role("button", name="Forget").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Type its name").fill("bulk00001@spam.example")
        await dialog.get_by_label("Why").fill("asked by its owner")
        await dialog.get_by_role("button", name="Forget for ever").click()
        await page.get_by_role("alert").get_by_text("as it stands above").wait_for()
        assert desk.done == []
        await page.get_by_label("Type its name").fill("bulk00000@spam.example")
        await page.get_by_role("button", name="Forget for ever").click()
        await page.get_by_text("Forgotten: 12 counters and 30 verdicts erased.").wait_for()
        assert desk.done == [("forget", FREE, "asked by its owner")]
        assert "bulk00000" not in page.url


# Looking


async def test_the_slider_asks_for_another_time(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.goto(console.place("top?dimension=ip&metric=connections&window=5m"))
        slider = page.get_by_label("Time")
        await slider.focus()
        await page.keyboard.press("Home")
        await page.wait_for_url("**at=*")
        assert f"at={int((NOW - 172_800) // 60 * 60)}" in page.url
        assert {"dimension=ip", "metric=connections", "window=5m"} <= set(re.split("[?&]", page.url))
        await page.get_by_text("up to 2026-11-16 11:06:00 UTC").wait_for()
        await desks.keep(page, "top-past-light")
        await page.get_by_role("link", name="Now").click()
        await expect(page.get_by_label("Time")).to_have_value("0")


async def test_choices_are_followed_at_once(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.goto(console.place("top?metric=recipients"))
        await page.get_by_label("Who").select_option("ip")
        await page.wait_for_url("**dimension=ip*")
        await expect(page.get_by_label("By")).to_have_value("recipients")
        await page.get_by_label("1 day").check()
        await page.wait_for_url("**window=1d*")
        await page.get_by_label("Who").select_option("recipient")
        await page.wait_for_url("**dimension=recipient&*")
        await expect(page.get_by_label("By")).to_have_value("messages")


async def test_a_page_looks_again_but_not_under_somebodys_hands(desks: Desks) -> None:
    desk = FakeDesk(bans=0)
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        await page.clock.install()
        await page.goto(console.place(f"entity?of={FREE}"))
        await page.get_by_text("No ban, no override").wait_for()
        await page.evaluate("window.same = true")
        await page.locator("summary").filter(has_text="nothing counted").click()
        await page.get_by_role("button", name="Ban", exact=True).click()
        await page.get_by_role("dialog").get_by_label("Why").fill("half a sent")
        desk.entries_now["ban|x"] = replace(FakeDesk(bans=1).entries_now[f"ban|{FREE}"], reason="by somebody else")
        await page.clock.run_for(11_000)
        await expect(page.get_by_label("Why")).to_have_value("half a sent")
        await expect(page.get_by_text("by somebody else")).to_have_count(0)
        await page.keyboard.press("Escape")
        await page.clock.run_for(6_000)
        await page.get_by_text("by somebody else").wait_for()
        await page.get_by_text("Up to date").wait_for()
        await expect(page.locator("details[open] summary").filter(has_text="nothing counted")).to_have_count(1)
        assert await page.evaluate("window.same") is True
        await page.get_by_role("button", name="Pause").click()
        desk.entries_now.clear()
        await page.clock.run_for(11_000)
        await expect(page.get_by_text("by somebody else")).to_be_visible()
        await page.get_by_role("button", name="Go on").click()
        await page.get_by_text("No ban, no override").wait_for()


EMPTY = {
    "": "No verdicts yet",
    "top": "Nobody",
    "entity?of=user:bob": "Nothing counts against it",
    "entries": "Nothing is put down",
    "rules": "No rules",
    "suspects": "Nobody is held",
    "case?of=user:bob": "Nothing is remembered",
    "live": "Nothing in the last 5 minutes",
    "audit": "Nothing was done yet",
    "search?q=%3F": "It may be",
}


async def test_where_nothing_is_yet_a_page_says_so(desks: Desks) -> None:
    desk = FakeDesk(is_empty=True)
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        for path, text in EMPTY.items():
            await somebody.page.goto(console.place(path))
            await expect(somebody.page.get_by_text(text).first).to_be_visible()
            await desks.keep(somebody.page, f"empty-{path.partition('?')[0] or 'overview'}-light")


async def test_while_the_store_is_away_pages_say_so_and_come_back(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        desk.is_away = True
        for path in ASKING:
            answer = await page.goto(console.place(path))
            assert answer is not None
            assert answer.status == 503, path
            await expect(page.get_by_role("heading", name="The store is away")).to_be_visible()
        await desks.keep(page, "away-light")
        await page.goto(console.place())
        await expect(page.get_by_text("Mail flows on as each rule's on_store_failure says")).to_be_visible()
        await desks.keep(page, "away-overview-light")
        await page.goto(console.place("entries"))
        await expect(page.get_by_text("1 to 40 of 40")).to_be_visible()
        await page.clock.install()
        await page.goto(console.place("rules"))
        desk.is_away = False
        await page.clock.run_for(3_000)
        await page.get_by_role("heading", name="Rules").wait_for()
        desk.is_away = True
        await page.clock.run_for(11_000)
        await page.get_by_role("heading", name="The store is away").wait_for()


async def test_what_names_nothing_is_told_so(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        for path, status, text in (
            ("entity?of=nonsense", 400, "write DIMENSION:VALUE"),
            ("rule?name=nonsense", 404, "there is no rule"),
            ("lift?id=nonsense", 404, "there is no entry"),
            ("nonsense", 404, "Follow one of the links"),
            ("live?entity=nonsense", 400, "names no entity"),
        ):
            answer = await page.goto(console.place(path))
            assert answer is not None
            assert answer.status == status, path
            await expect(page.get_by_role("alert").get_by_text(text)).to_be_visible()
            await expect(page.get_by_role("navigation", name="Pages")).to_be_visible()
        await desks.keep(page, "wrong-light")


async def test_search_knows_what_something_may_be(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.keyboard.press("/")
        await page.keyboard.type("bulk00001@spam.example")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="What is bulk00001@spam.example?").wait_for()
        await expect(page.get_by_role("link", name="recipient bulk00001@spam.example")).to_be_visible()
        await expect(page.get_by_role("heading", name="Bans, overrides and lists with this text")).to_be_visible()
        await page.get_by_role("link", name="sender bulk00001@spam.example").first.click()
        await page.get_by_text("Its next event is refused").wait_for()
        await page.keyboard.press("/")
        await page.keyboard.type("user:bob")
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="user bob").wait_for()


# Many rows


async def test_a_thousand_are_ranked(desks: Desks) -> None:
    async with (
        desks.console(FakeDesk(top_rows=1_000)) as console,
        desks.somebody(console.url, console.token("write")) as somebody,
    ):
        begun = time.monotonic()
        await somebody.page.goto(console.place("top?n=1000"))
        await expect(somebody.page.locator(".ranks tbody tr")).to_have_count(1_000)
        assert time.monotonic() - begun < 5


async def test_ten_thousand_bans_are_paged_and_found(desks: Desks) -> None:
    desk = FakeDesk(bans=10_000)
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        begun = time.monotonic()
        await page.goto(console.place("entries?kind=ban"))
        await page.get_by_text("1 to 100 of 10,000").wait_for()
        assert time.monotonic() - begun < 5
        await page.get_by_role("link", name="Next page").click()
        await page.get_by_text("101 to 200 of 10,000").wait_for()
        await expect(page.locator(".register tbody tr").first).to_contain_text("bulk00100@")
        await page.get_by_role("link", name="To the beginning").click()
        await page.get_by_text("1 to 100 of 10,000").wait_for()
        await page.get_by_label("Text in it").fill("bulk07777")
        await page.keyboard.press("Enter")
        await page.get_by_text("1 to 1 of 1 that fit").wait_for()
        await page.get_by_role("button", name=re.compile("^Lift")).click()
        await page.get_by_role("dialog").get_by_role("button", name="Lift", exact=True).click()
        await page.get_by_text("Lifted, on every process").wait_for()
        await page.get_by_text("None fits").wait_for()
        assert len(desk.entries_now) == 9_999


# The live stream


async def test_verdicts_come_by_themselves_and_stop_when_told(desks: Desks) -> None:
    desk = FakeDesk()
    some, desk.lines = desk.lines, []
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.goto(console.place("live"))
        await expect(page.get_by_text("Nothing in the last 5 minutes")).to_be_visible()
        await expect(page.locator("#stream [data-fresh-text]")).to_have_text("Live")
        rows = page.locator("#verdicts tbody tr")
        desk.lines.extend(some[:10])
        await expect(rows).to_have_count(10)
        await expect(rows.first).to_contain_text(time.strftime("%H:%M:%S", time.gmtime(some[9].at)))
        await page.get_by_role("button", name="Pause").click()
        desk.lines.extend(some[10:15])
        await page.get_by_text("Stopped; 5 waiting").wait_for()
        await expect(rows).to_have_count(10)
        await page.get_by_role("button", name="Go on").click()
        await expect(rows).to_have_count(15)
        desk.lines.extend(replace(some[0], id=f"{int(NOW * 1_000) + at}-0", at=NOW + at / 1_000) for at in range(700))
        await expect(rows.first).to_contain_text("11:06:40")
        await expect(rows).to_have_count(500)
        desk.is_away = True
        await page.get_by_text("The store does not answer; verdicts go on when it does").wait_for()
        desk.is_away = False
        await expect(page.locator("#stream [data-fresh-text]")).to_have_text("Live")


async def test_the_stream_is_filtered(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.goto(console.place("live"))
        await page.get_by_label("reject").check()
        await page.wait_for_url("**action=reject*")
        rows = page.locator("#verdicts tbody tr")
        wanted = sum(line.action == "reject" for line in desk.lines)
        await expect(rows).to_have_count(wanted)
        await page.get_by_label("mail", exact=True).check()
        await page.wait_for_url("**stage=mail*")
        await expect(rows).to_have_count(sum(line.action == "reject" and line.stage == "mail" for line in desk.lines))
        await expect(page.locator("#stream [data-fresh-text]")).to_have_text("Live")
        before = await rows.count()
        new = [replace(line, id=f"{int(NOW * 1_000) + at}-0") for at, line in enumerate(desk.lines)]
        desk.lines.extend(new)
        await expect(rows).to_have_count(before * 2)
        await page.get_by_role("link", name="All", exact=True).click()
        await expect(rows).to_have_count(100)


async def test_there_are_only_so_many_streams(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        pages = [somebody.page, *[await somebody.context.new_page() for _ in range(3)]]
        for page in pages[:3]:
            await page.goto(console.place("live"))
            await expect(page.locator("#stream [data-fresh-text]")).to_have_text("Live")
        answer = await pages[3].request.get(console.place("stream"))
        assert answer.status == 503
        assert answer.headers["retry-after"] == "10"
        await pages[0].close()
        async with asyncio.timeout(10):
            await pages[3].goto(console.place("live"))
            await expect(pages[3].locator("#stream [data-fresh-text]")).to_have_text("Live")


# Looks


async def test_light_and_dark_are_chosen_and_kept(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        ground = "getComputedStyle(document.body).backgroundColor"
        light = await page.evaluate(ground)
        await page.get_by_label("Account").click()
        await page.get_by_role("button", name="Dark").click()
        dark = await page.evaluate(ground)
        assert dark != light
        await page.goto(console.place("rules"))
        assert await page.evaluate(ground) == dark
        await page.get_by_label("Account").click()
        await page.get_by_role("button", name="Auto").click()
        assert await page.evaluate(ground) == light


async def test_without_a_script_everything_can_be_done(desks: Desks) -> None:
    desk = FakeDesk()
    async with (
        desks.console(desk) as console,
        desks.somebody(console.url, console.token("write"), scripted=False) as somebody,
    ):
        page = somebody.page
        await page.get_by_role("link", name="Top abusers").click()
        await page.get_by_label("Who").select_option("ip")
        await page.get_by_role("button", name="Show").click()
        await page.get_by_role("link", name="192.0.2.1", exact=True).click()
        await page.get_by_role("button", name="Ban", exact=True).click()
        await page.get_by_label("Why").fill("looked at")
        await page.get_by_role("button", name="Ban", exact=True).click()
        await page.get_by_text("Banned. In force").wait_for()
        await page.get_by_text("Its next event is refused").wait_for()
        await page.get_by_role("link", name="Live", exact=True).click()
        await expect(page.get_by_text("Without JavaScript this page stands still")).to_be_visible()
        await expect(page.locator("#verdicts tbody tr")).to_have_count(60)
        await page.get_by_label("Account").click()
        await page.get_by_role("button", name="Dark").click()
        assert await page.locator("html").get_attribute("data-theme") == "dark"
        await page.get_by_label("Account").click()
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_text("You are logged out.").wait_for()
