"""More suspects than fit on one page are on several, and each leads to the next."""

from dataclasses import replace

import pytest

from reputation.desk.documents import Suspects
from tests.browser.conftest import Desks
from tests.browser.fake_desk import FakeDesk

pytestmark = pytest.mark.asyncio(loop_scope="session")


class TwoPages(FakeDesk):
    """A desk with three suspects on the first page and two on the second."""

    async def suspects(self, *, after: str = "", n: int = 100) -> Suspects:
        told = await super().suspects(n=n)
        rows = told.suspects[3:] if after == "1.5 ban|user:x y&z" else told.suspects[:3]
        return replace(told, suspects=rows, total=5, next=None if after else "1.5 ban|user:x y&z")


async def test_a_page_of_suspects_leads_to_the_next_and_back(desks: Desks) -> None:
    async with desks.console(TwoPages()) as console, desks.somebody(console.url, console.token("read")) as somebody:
        page = somebody.page
        await page.goto(console.place("suspects"))
        assert await page.locator("table.suspects tbody tr").count() == 3
        assert "3 of 5" in await page.locator("nav.pager").inner_text()
        await page.get_by_role("link", name="Next page").click()
        await page.get_by_role("link", name="To the beginning").wait_for()
        assert await page.locator("table.suspects tbody tr").count() == 2
        assert await page.get_by_role("link", name="Next page").count() == 0
        await page.get_by_role("link", name="To the beginning").click()
        await page.get_by_role("link", name="Next page").wait_for()
