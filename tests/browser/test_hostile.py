"""What strangers send is shown, on every page, and does nothing there."""

import pytest

from api.console.wording import place
from tests.browser.conftest import Desks
from tests.browser.fake_desk import HOSTILE, FakeDesk

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = ("", "top?n=100", "entries", "rules", "rule?name=user-messages", "suspects", "live", "audit", "search?q=alice")
VIOLATIONS = """
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective + event.blockedURI));
"""
OURS = "^='/console/assets/'"
INTRUDERS = f"""() => [...document.querySelectorAll("*")].filter((each) =>
    each.matches("script:not([src{OURS}]), img:not([src{OURS}]), link:not([href{OURS}])")
    || each.matches("iframe, object, embed, base, style")
    || each.getAttributeNames().some((name) => name.startsWith("on") || name === "style")
    || /^(javascript|data|vbscript):/i.test(each.getAttribute("href") ?? "")
    || (each.matches("a") && new URL(each.href).origin !== location.origin)
).map((each) => each.outerHTML)"""
ODD = r"""() => new RegExp(
    "[\\0-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u200b-\\u200f\\u202a-\\u202e\\u2028\\u2029\\u2066-\\u2069\\ufeff]"
).test(document.body.innerText)"""


async def test_it_is_harmless_and_readable_on_every_page(desks: Desks) -> None:
    desk = FakeDesk(names=HOSTILE)
    desk.top_rows = len(HOSTILE)
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("admin")) as somebody:
        page = somebody.page
        await page.add_init_script(VIOLATIONS)
        entities = [place("entity", of=f"sender:{value}").removeprefix("/console/") for value in HOSTILE]
        cases = [place("case", of=f"user:{value}").removeprefix("/console/") for value in HOSTILE[:6]]
        bans = [place("ban", target=f"sender:{value}", reason=value).removeprefix("/console/") for value in HOSTILE]
        forgets = [place("forget", of=f"user:{value}").removeprefix("/console/") for value in HOSTILE[:6]]
        searches = [place("search", q=value).removeprefix("/console/") for value in HOSTILE]
        for path in (*PAGES, *entities, *cases, *bans, *forgets, *searches):
            answer = await page.goto(console.place(path))
            assert answer is not None and answer.status in (200, 400), path
            assert await page.evaluate(INTRUDERS) == [], path
            assert not await page.evaluate(ODD), path
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
            assert await page.evaluate("violations") == [], path
            assert "set-cookie" not in answer.headers, path
        await page.goto(console.place("top?n=100"))
        await desks.keep(page, "hostile-top-light")
        text = await page.locator("main").inner_text()
        for shown in (
            "<script>alert(1)</script>",
            "U+202E",
            "nulNULandESC[31mbellBEL",
            "lineCRLFSet-Cookie: a=b",
            "\\xFF",
            "U+D800",
        ):
            assert shown in text, shown
        await page.goto(console.place(entities[5]))
        await desks.keep(page, "hostile-entity-light", whole=False)


async def test_the_name_that_is_shown_is_the_one_that_is_acted_upon(desks: Desks) -> None:
    desk = FakeDesk(names=HOSTILE)
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        for value in (HOSTILE[0], HOSTILE[1], HOSTILE[3], HOSTILE[11]):
            await page.goto(console.place(place("ban", target=f"helo:{value}").removeprefix("/console/")))
            await page.get_by_label("Why").fill("looked at")
            await page.get_by_role("button", name="Ban", exact=True).click()
            await page.get_by_text("Banned.").wait_for()
            assert desk.done[-1] == ("put", f"ban|helo:{value}", "looked at")


async def test_what_comes_in_the_stream_is_harmless_too(desks: Desks) -> None:
    desk = FakeDesk(names=HOSTILE)
    lines, desk.lines = desk.lines, []
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.add_init_script(VIOLATIONS)
        await page.goto(console.place("live"))
        await page.get_by_text("Live", exact=True).last.wait_for()
        desk.lines = lines
        await page.locator("#verdicts tbody tr").nth(len(lines) - 1).wait_for()
        assert await page.evaluate(INTRUDERS) == []
        assert not await page.evaluate(ODD)
        assert await page.evaluate("violations") == []
        await desks.keep(page, "hostile-live-light", whole=False)


async def test_on_a_phone_it_stays_in_its_window(desks: Desks) -> None:
    desk = FakeDesk(names=HOSTILE)
    async with (
        desks.console(desk) as console,
        desks.somebody(console.url, console.token("admin"), phone=True) as somebody,
    ):
        for path in (*PAGES, place("entity", of=f"sender:{HOSTILE[12]}").removeprefix("/console/")):
            await somebody.page.goto(console.place(path))
            assert await somebody.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        await desks.keep(somebody.page, "hostile-phone", whole=False)
