"""Logging in and out, what a weaker token may, and forms that are not ours."""

import re

import pytest
from playwright.async_api import APIResponse, Page

from tests.browser.conftest import Console, Desks
from tests.browser.fake_desk import FakeDesk

pytestmark = pytest.mark.asyncio(loop_scope="session")

TARGET = "sender:bulk00001@spam.example"
BAN = {"target": "user:bob", "reason": "a test", "lasting": "1h", "action": "reject"}


async def form_token(page: Page) -> str:
    return await page.locator("input[name=form_token]").first.input_value()


async def sent(page: Page, place: str, form: dict[str, str], **headers: str) -> APIResponse:
    """A form, sent with the cookies of the page's browser, as a script elsewhere would if it had them."""
    return await page.request.post(place, form={**form}, headers=headers, max_redirects=0)


async def test_somebody_logs_in_and_out(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, "") as somebody:
        page = somebody.page
        await desks.keep(page, "login-light")
        await page.get_by_label("Token").fill("rpt_00000000_" + "x" * 43)
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("alert").get_by_text("not in force").wait_for()
        await desks.keep(page, "login-wrong-light")
        await page.get_by_label("Token").fill(console.token("read", name="mona"))
        await page.keyboard.press("Enter")
        await page.get_by_role("heading", name="Overview", level=1).wait_for()
        (cookie,) = [each for each in await somebody.context.cookies() if each["name"] == "reputon"]
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert cookie["path"] == "/console"
        await page.get_by_label("Account: mona").click()
        await page.get_by_role("button", name="Log out").click()
        await page.get_by_text("You are logged out.").wait_for()
        assert [each["name"] for each in await somebody.context.cookies() if each["name"] == "reputon"] == []
        await page.goto(console.place("rules"))
        await page.get_by_role("heading", name="Log in").wait_for()


async def test_one_is_brought_to_the_page_that_was_asked_for(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, "") as somebody:
        page = somebody.page
        await page.goto(console.place("entity?of=user:a%26b%2F%3C"))
        await page.get_by_label("Token").fill(console.token("read"))
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("heading", name="a&b/<").wait_for()


async def test_nobody_is_brought_elsewhere_by_logging_in(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, "") as somebody:
        page = somebody.page
        await page.goto(console.place("login?next=https%3A%2F%2Fevil.example%2F"))
        await page.get_by_label("Token").fill(console.token("read"))
        await page.get_by_role("button", name="Log in").click()
        await page.get_by_role("heading", name="Overview", level=1).wait_for()


async def test_a_token_for_mail_servers_is_told_that_it_may_not_look(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, "") as somebody:
        await somebody.page.get_by_label("Token").fill(console.token("check"))
        await somebody.page.get_by_role("button", name="Log in").click()
        await somebody.page.get_by_role("alert").get_by_text("may not read").wait_for()


async def test_too_many_wrong_tokens_are_told_to_wait(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, "") as somebody:
        page, told = somebody.page, ""
        door = await form_token(page)
        for _ in range(25):
            form = {"form_token": door, "token": "rpt_00000000_" + "x" * 43}
            answer = await sent(page, console.place("login"), form)
            told = await answer.text()
            if answer.status == 429:
                break
        assert "try again in" in told
        form["token"] = console.token("read")  # nobody is locked out by others
        assert (await sent(page, console.place("login"), form)).status == 303


async def test_nobody_is_logged_in_by_another_page(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, "") as somebody:
        page, token = somebody.page, console.token("read")
        good = {"form_token": await form_token(page), "token": token}
        for form, headers in (
            ({**good, "form_token": "x" * 43}, {}),
            ({"token": token}, {}),
            (good, {"origin": "https://evil.example"}),
            (good, {"origin": "null"}),
            (good, {"sec-fetch-site": "cross-site"}),
            (good, {"sec-fetch-site": "same-site"}),
        ):
            answer = await sent(page, console.place("login"), form, **headers)
            assert answer.status == 403, (form, headers)
            assert "reputon=" not in answer.headers.get("set-cookie", "")
        assert (await sent(page, console.place("login"), good)).status == 303


async def test_over_tls_the_cookie_is_for_tls_only(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, "") as somebody:
        page = somebody.page
        form = {"form_token": await form_token(page), "token": console.token("read")}
        answer = await sent(page, console.place("login"), form, **{"x-forwarded-proto": "https"})
        (cookie,) = [each["value"] for each in answer.headers_array if each["value"].startswith("__Secure-reputon=")]
        assert {"Secure", "HttpOnly", "SameSite=strict", "Path=/console"} <= {
            part.strip() for part in cookie.split(";")
        }


async def test_a_token_that_is_taken_back_is_out_at_once(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console:
        token = console.token("admin")
        async with desks.somebody(console.url, token) as somebody:
            await somebody.page.clock.install()
            await somebody.page.reload()
            del console.engine.registrar.tokens[token.split("_")[1]]
            await somebody.page.clock.run_for(6_000)  # the page that is open notices by itself
            await (
                somebody.page.get_by_text("Your log-in is over")
                .or_(somebody.page.get_by_role("heading", name="Log in"))
                .first.wait_for()
            )
            answer = await somebody.page.request.get(console.place("entries"), max_redirects=0)
            assert answer.status == 303


# What a weaker token may


async def test_whoever_may_only_read_sees_no_buttons_and_cannot_do_without(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        for path in ("top", f"entity?of={TARGET}", "entries", "suspects", "case?of=user:staff0", "rules"):
            await page.goto(console.place(path))
            assert await page.locator("a[data-dialog]").count() == 0, path
        token = await form_token(page)
        for name in ("ban", "override", "list", "lift", "release", "forget", "reload"):
            assert (await page.request.get(console.place(name))).status == 403, name
            answer = await sent(page, console.place(name), {**BAN, "form_token": token, "id": f"ban|{TARGET}"})
            assert answer.status == 403, name
            assert "takes a token with the scope" in await answer.text()
        assert desk.done == []


async def test_only_an_admin_forgets(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("write")) as somebody:
        page = somebody.page
        await page.goto(console.place(f"entity?of={TARGET}"))
        assert await page.get_by_role("button", name="Forget").count() == 0
        form = {"form_token": await form_token(page), "of": TARGET, "typed": TARGET, "reason": "asked for"}
        assert (await sent(page, console.place("forget"), form)).status == 403
        assert desk.done == []


# Forms that are not ours


async def test_a_form_that_is_not_of_this_log_in_does_nothing(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("admin")) as somebody:
        page = somebody.page
        own = await form_token(page)
        other = await _somebody_elses_form_token(desks, console)
        for form, headers in (
            (BAN, {}),
            ({**BAN, "form_token": ""}, {}),
            ({**BAN, "form_token": "0" * 64}, {}),
            ({**BAN, "form_token": other}, {}),
            ({**BAN, "form_token": own}, {"origin": "https://evil.example"}),
            ({**BAN, "form_token": own}, {"origin": "null"}),
            ({**BAN, "form_token": own}, {"sec-fetch-site": "cross-site"}),
        ):
            answer = await sent(page, console.place("ban"), form, **headers)
            assert answer.status == 403, (form, headers)
        assert desk.done == []
        assert (await sent(page, console.place("ban"), {**BAN, "form_token": own})).status == 303
        assert desk.done == [("put", "ban|user:bob", "a test")]


async def _somebody_elses_form_token(desks: Desks, console: Console) -> str:
    async with desks.somebody(console.url, console.token("admin")) as other:
        return await form_token(other.page)


async def test_nothing_is_done_by_following_a_link(desks: Desks) -> None:
    desk = FakeDesk()
    async with desks.console(desk) as console, desks.somebody(console.url, console.token("admin")) as somebody:
        token = await form_token(somebody.page)
        query = "&".join(f"{name}={value}" for name, value in {**BAN, "form_token": token}.items())
        for name in ("ban", "logout", "theme"):
            await somebody.page.request.get(console.place(f"{name}?{query}"))
        assert desk.done == []
        await somebody.page.reload()
        await somebody.page.get_by_role("heading", name="Overview", level=1).wait_for()


async def test_every_answer_says_what_a_browser_may_do_with_it(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        for path in ("", "login", "nothing", "entity?of=what", "assets/console.css", "assets/nothing", "ban"):
            headers = (await somebody.page.request.get(console.place(path))).headers
            assert headers["content-security-policy"] == (
                "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
            )
            assert headers["x-content-type-options"] == "nosniff"
            is_asset = path.startswith("assets/console")
            assert ("immutable" in headers["cache-control"]) is is_asset
            assert is_asset or headers["cache-control"] == "no-store"


async def test_nothing_is_loaded_from_elsewhere(desks: Desks) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("admin")) as somebody:
        asked: list[str] = []
        somebody.page.on("request", lambda request: asked.append(request.url))
        for path in ("", "top", "live", f"entity?of={TARGET}"):
            await somebody.page.goto(console.place(path))
        assert asked
        assert [url for url in asked if not url.startswith((console.url, "data:"))] == []
        html = await somebody.page.content()
        assert re.search(r"<[^>]+\s(?:style|on[a-z]+)=", html) is None
        assert re.search(r"<style|<script(?![^>]*src=)", html) is None
