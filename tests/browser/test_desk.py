"""The whole way, with real processes: mail comes in by SMTP, is judged and counted, is seen by somebody and stopped.

One API, one front end, one store between them, and Chromium.
"""

import asyncio
import re
import smtplib
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
import pytest_asyncio
import redis
from playwright.async_api import expect

from reputation.keys import Entity
from reputation.windows import Window
from tests.api.conftest import Api, Process, api_running, api_seen
from tests.browser.conftest import Desks
from tests.smtp.programs import Program, front_end, running

pytestmark = pytest.mark.asyncio(loop_scope="session")

WORST, OTHER = "worst@bulk.example", "friend@example.org"
RULE = """
[[rule]]
name = "many-messages"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["15/1h"]
action = "tempfail"

[[rule]]
name = "some-messages"
stage = "mail"
key = ["sender"]
count = "messages"
limits = ["5/1h"]
action = "tempfail"
mode = "shadow"
"""
PATIENCE_SECONDS = 10.0


class Site:
    """An API and a front end over one store."""

    def __init__(self, api: Api, mta: Program) -> None:
        self.api = api
        self.mta = mta

    def send(self, sender: str, count: int = 1) -> str:
        """Hand in messages; what was said to the last one: its code and text, or 250."""
        said = ""
        with smtplib.SMTP("127.0.0.1", self.mta.port, timeout=PATIENCE_SECONDS) as client:
            for at in range(count):
                try:
                    client.sendmail(sender, ["bob@example.net"], f"Subject: number {at}\n\nhello\n")
                    said = "250"
                except smtplib.SMTPSenderRefused as refused:
                    said = f"{refused.smtp_code} {refused.smtp_error!r}"
                except smtplib.SMTPRecipientsRefused as refused:
                    ((code, text),) = refused.recipients.values()
                    said = f"{code} {text!r}"
                except smtplib.SMTPServerDisconnected:
                    return "gone"
        return said

    async def until_ranked(self, sender: str, count: int) -> None:
        """Wait until the leaderboard has heard of a sender: processes tell it once a second."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (f"sender:{sender}", count) not in [(str(entity), n) for entity, n in await self._top()]:
                await asyncio.sleep(0.05)

    async def _top(self) -> Sequence[tuple[Entity, int]]:
        return await self.api.engine.top("sender", "messages", Window(3_600), 20)

    async def until_said(self, sender: str, code: str, seconds: float) -> str:
        """Hand in a message again and again until it is answered so."""
        deadline, said = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            said = await asyncio.to_thread(self.send, sender)
            if said.startswith(code):
                return said
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{sender} is answered {said}, and not {code}")


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Process, Program]]:
    """An API and a front end over one store."""
    directory = tmp_path_factory.mktemp("site")
    with api_running(directory / "api", "", RULE) as process:
        config = process.program.config.read_text(encoding="utf-8")
        with running(front_end(directory / "mta", config)) as mta:
            yield process, mta


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(processes: tuple[Process, Program]) -> AsyncIterator[Site]:
    """They, as the tests of this module see them."""
    process, mta = processes
    async with api_seen(process) as api:
        yield Site(api, mta)


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Process]:
    """An API whose store may be killed."""
    with api_running(tmp_path / "api", "", RULE) as process:
        yield process


async def test_the_worst_sender_is_found_understood_banned_and_let_go(desks: Desks, site: Site) -> None:
    await asyncio.to_thread(site.send, OTHER, 3)
    await asyncio.to_thread(site.send, WORST, 12)
    await site.until_ranked(WORST, 12)
    token = await site.api.token("write", name="mona")
    async with desks.somebody(site.api.url, token) as somebody:
        page = somebody.page
        await page.clock.install()
        # Who is the worst of the last hour?
        await page.get_by_role("link", name="Top abusers").click()
        await expect(page.locator(".ranks tbody tr").first).to_contain_text(WORST)
        await desks.keep(page, "real-top")
        await page.locator(".ranks tbody tr").first.get_by_role("link", name=WORST).click()
        # Why?
        await page.get_by_role("heading", name=WORST).wait_for()
        await expect(page.locator(".next")).to_contain_text("Its next event passes")
        readings = page.get_by_role("region", name="Counts against limits")
        await expect(readings.get_by_role("row", name=re.compile("many-messages"))).to_contain_text("12 of 15/1h")
        await expect(readings.get_by_role("row", name=re.compile("some-messages"))).to_contain_text("full")
        await expect(page.get_by_role("region", name="Latest verdicts")).to_contain_text("some-messages")
        await desks.keep(page, "real-entity")
        # Ban it for an hour
        await page.get_by_role("button", name="Ban", exact=True).click()
        dialog = page.get_by_role("dialog", name="Ban")
        await dialog.get_by_label("1 hour").check()
        await dialog.get_by_label("Why").fill("12 messages in 1 hour, all the same")
        await dialog.get_by_role("button", name="Ban", exact=True).click()
        await page.get_by_text("Banned. In force").wait_for()
        await expect(page.locator(".next")).to_contain_text("Its next event is refused")
        await expect(page.locator(".next")).to_contain_text("it is banned")
        # The next message is refused, on another process, within a second
        said = await site.until_said(WORST, "5", 1.0)
        assert said.startswith("550")
        assert await asyncio.to_thread(site.send, OTHER) == "250"
        await somebody.looks_until(page.get_by_role("region", name="Latest verdicts").get_by_text("reject").first)
        await desks.keep(page, "real-entity-banned")
        await page.get_by_role("link", name="Bans and lists").click()
        row = page.locator(".register tbody tr", has_text=WORST)
        await expect(row).to_contain_text("mona")
        await expect(row).to_contain_text("in 5")  # in 59 min
        # Lift it, and the next one passes
        await row.get_by_role("button", name="Lift").click()
        await page.get_by_role("dialog").get_by_role("button", name="Lift", exact=True).click()
        await page.get_by_text("Lifted, on every process").wait_for()
        await site.until_said(WORST, "250", 1.0)
        await page.get_by_role("link", name="Audit").click()
        rows = page.locator(".audit tbody tr", has_text=WORST)
        await expect(rows.nth(0)).to_contain_text("lift")
        await expect(rows.nth(1)).to_contain_text("12 messages in 1 hour, all the same")
        # What would the rule in shadow mode do?
        await page.get_by_role("link", name="Rules").click()
        await page.get_by_role("link", name="some-messages").click()
        await expect(page.get_by_role("region", name="What enforcing it would do")).to_contain_text(WORST)
        await desks.keep(page, "real-rule")
        await page.get_by_role("link", name="Overview").first.click()
        await expect(page.get_by_role("region", name="Verdicts of the last hour")).to_contain_text("accept")
        await desks.keep(page, "real-overview")


async def test_verdicts_are_seen_as_they_are_given(desks: Desks, site: Site) -> None:
    async with desks.somebody(site.api.url, await site.api.token("read")) as somebody:
        page = somebody.page
        await page.goto(f"{site.api.url}/console/live?entity=sender:seen@bulk.example")
        await expect(page.locator("#stream [data-fresh-text]")).to_have_text("Live")
        await asyncio.to_thread(site.send, "seen@bulk.example", 2)
        await expect(page.locator("#verdicts tbody tr").first).to_contain_text("bob@example.net", timeout=10_000)
        await desks.keep(page, "real-live")


async def test_every_page_of_a_real_desk_is_shown(desks: Desks, site: Site) -> None:
    async with desks.somebody(site.api.url, await site.api.token("admin")) as somebody:
        for path in (
            "",
            "top?dimension=ip&metric=connections",
            "top?dimension=sender&window=5m&ago=-60",
            "top?dimension=asn",
            "entity?of=ip:127.0.0.1",
            "entity?of=prefix:127.0.0.0%2F24",
            "entity?of=user:nobody",
            "entity?of=asn:64500",
            "entity?of=user%2Bip:bob,192.0.2.7",
            "case?of=user:nobody",
            "rules",
            "rule?name=many-messages",
            "suspects",
            "live",
            "entries?kind=override",
            "audit",
            "search?q=127.0.0.1",
            "search?q=example.com",
            "ban?target=ip:192.0.2.7",
            "override",
            "list",
            "reload",
        ):
            answer = await somebody.page.goto(f"{site.api.url}/console/{path}")
            assert answer is not None
            assert answer.status == 200, (path, await somebody.page.locator("main").inner_text())
        assert await asyncio.to_thread(site.api.program.lines, "Traceback") == []


async def test_somebody_is_forgotten(desks: Desks, site: Site) -> None:
    await asyncio.to_thread(site.send, "gone@bulk.example", 2)
    async with desks.somebody(site.api.url, await site.api.token("admin")) as somebody:
        page = somebody.page
        await page.goto(f"{site.api.url}/console/entity?of=sender:gone@bulk.example")
        await expect(page.get_by_role("region", name="Counts", exact=True)).to_contain_text("messages")
        await page.get_by_role("button", name="Forget").click()
        await page.get_by_role("dialog").get_by_label("Type its name").fill("gone@bulk.example")
        await page.get_by_role("dialog").get_by_label("Why").fill("asked by its owner")
        await page.get_by_role("dialog").get_by_role("button", name="Forget for ever").click()
        await page.get_by_text(re.compile("Forgotten: .* erased")).wait_for()
        await page.goto(f"{site.api.url}/console/entity?of=sender:gone@bulk.example")
        await page.get_by_text("Nothing of it was counted").wait_for()


async def test_a_store_that_dies_is_told_and_comes_back(desks: Desks, mortal: Process) -> None:
    async with api_seen(mortal) as api, desks.somebody(api.url, await api.token("write")) as somebody:
        page = somebody.page
        await page.clock.install()
        await page.goto(f"{api.url}/console/top")
        await page.get_by_role("heading", name="Top abusers", level=1).wait_for()
        await asyncio.to_thread(
            _saved, mortal.store.url
        )  # who is logged in by a token that is lost is logged in no more
        mortal.store.kill()
        await somebody.looks_until(page.get_by_role("heading", name="The store is away"))
        await page.goto(f"{api.url}/console/")
        await expect(page.locator(".tile", has_text="Store")).to_contain_text("away")
        await page.goto(f"{api.url}/console/entity?of=user:bob")
        await page.get_by_role("heading", name="The store is away").wait_for()
        await asyncio.to_thread(mortal.store.start)
        await somebody.looks_until(page.get_by_role("heading", name="bob"))


def _saved(url: str) -> None:
    """Have the store write to its disk what it knows."""
    with redis.Redis.from_url(url) as server:
        server.save()
