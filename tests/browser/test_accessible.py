"""Pages for everybody: by keyboard only, and for those who are told what is on them."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.conftest import Desks
from tests.browser.fake_desk import FakeDesk
from tests.browser.test_looks import PAGES

pytestmark = pytest.mark.asyncio(loop_scope="session")

MISTAKES = r"""() => {
    const wrong = [];
    const all = (wanted) => [...document.querySelectorAll(wanted)];
    const is = (what, holds) => { if (!holds) wrong.push(what); };
    is("the language", document.documentElement.lang === "en");
    is("a title", document.title.length > 10);
    is("one h1", all("h1").length === 1);
    for (const landmark of ["main", "header", "nav[aria-label]", "a.skip[href='#main']", "[role=search]"])
        is(landmark, all(landmark).length >= 1);
    let level = 1;
    for (const heading of all("main h1, main h2, main h3")) {
        const next = Number(heading.tagName[1]);
        is(`heading after a level ${level}: ${heading.outerHTML}`, next <= level + 1);
        level = next;
    }
    const named = (each) => each.getAttribute("aria-label") || each.labels?.[0]?.innerText.trim()
        || each.getAttribute("aria-labelledby") || each.textContent.trim();
    for (const field of all("input:not([type=hidden]), select, textarea, button, a[href], summary"))
        is(`a name: ${field.outerHTML}`, named(field));
    for (const picture of all("img")) is(`alt: ${picture.outerHTML}`, picture.hasAttribute("alt"));
    for (const picture of all("svg"))
        is(picture.outerHTML.slice(0, 80), picture.matches("[aria-hidden], [aria-label]"));
    for (const group of all("fieldset")) is("a legend", group.querySelector("legend")?.innerText.trim());
    for (const table of all("table")) is("a header", table.querySelector("thead th"));
    for (const cell of all("thead th")) is(`scope: ${cell.outerHTML}`, cell.scope === "col");
    const ids = all("[id]").map((each) => each.id);
    is(`ids: ${ids.filter((id, at) => ids.indexOf(id) !== at)}`, new Set(ids).size === ids.length);
    for (const each of all("[aria-labelledby], [aria-describedby]"))
        for (const id of (each.getAttribute("aria-labelledby") ?? each.getAttribute("aria-describedby")).split(" "))
            is(`aria names ${id}`, document.getElementById(id));
    return wrong;
}"""
FOCUS_IS_SEEN = """() => {
    const style = getComputedStyle(document.activeElement);
    const next = document.activeElement.nextElementSibling;
    const seen = (each) => each && each.outlineStyle !== "none" && parseFloat(each.outlineWidth) >= 2;
    return seen(style) || seen(next && getComputedStyle(next));
}"""


async def test_every_page_can_be_told(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("admin")) as somebody:
        for name, path in {**PAGES, "wrong": "nothing", "away": "entity?of=x"}.items():
            await somebody.page.goto(console.place(path))
            assert await somebody.page.evaluate(MISTAKES) == [], name


async def pressed(page: Page, *keys: str) -> None:
    for key in keys:
        await page.keyboard.press(key)


async def test_somebody_is_found_and_banned_by_keyboard_alone(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, "") as somebody:
        page = somebody.page
        await page.keyboard.type(console.token("write"))  # the field has the focus
        await pressed(page, "Enter")
        await page.get_by_role("heading", name="Overview").wait_for()
        await pressed(page, "Tab")
        await expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
        assert await page.evaluate(FOCUS_IS_SEEN)
        await pressed(page, "Enter", "Tab")
        assert await page.evaluate("document.activeElement.closest('main') !== null")
        await pressed(page, "?")
        await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        await pressed(page, "Escape", "/")
        await expect(page.get_by_role("searchbox").first).to_be_focused()
        await page.keyboard.type("bulk00002@spam.example")
        await pressed(page, "Enter")
        await page.get_by_role("heading", name="What is bulk00002").wait_for()
        await pressed(page, "j", "j", "k")
        assert await page.evaluate(FOCUS_IS_SEEN)
        await pressed(page, "Enter")
        await page.get_by_role("heading", name="bulk00002@spam.example").wait_for()
        await tabbed_to(page, "Ban")
        await pressed(page, "Enter")
        dialog = page.get_by_role("dialog", name="Ban")
        await expect(dialog.get_by_label("Why")).to_be_focused()
        await page.keyboard.type("by keyboard")
        await pressed(page, "Shift+Tab", "Shift+Tab", "ArrowRight")
        await expect(dialog.get_by_label("24 hours")).to_be_checked()
        assert await page.evaluate(FOCUS_IS_SEEN)
        await pressed(page, "Tab", "Tab", "Enter")
        await page.get_by_text("Banned. In force").wait_for()
        assert desk.done == [("put", "ban|sender:bulk00002@spam.example", "by keyboard")]


async def tabbed_to(page: Page, name: str, most: int = 40) -> None:
    """Press Tab until the element of that name has the focus."""
    for _ in range(most):
        await pressed(page, "Tab")
        if await page.evaluate("document.activeElement.innerText?.trim()") == name:
            assert await page.evaluate(FOCUS_IS_SEEN)
            return
    raise AssertionError(f"{name} cannot be reached by Tab")


async def test_looking_again_leaves_the_focus_where_it_was(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.clock.install()
        await page.goto(console.place("top"))
        await pressed(page, "j", "j", "j")
        link = page.get_by_role("link", name="bulk00002@spam.example")
        await expect(link).to_be_focused()
        await page.evaluate("document.activeElement.old = true")
        await page.clock.run_for(6_000)
        await page.get_by_text("Up to date").wait_for()
        await expect(link).to_be_focused()
        assert await page.evaluate("document.activeElement.old ?? false") is False
