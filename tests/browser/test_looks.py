"""Each page, as it looks: on a desk and on a phone, light and dark, full and empty."""

import pytest

from tests.browser.conftest import DESKTOP, PHONE, Desks
from tests.browser.fake_desk import FakeDesk

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGES = {
    "overview": "",
    "top": "top?dimension=sender&metric=messages&window=1h",
    "entity": "entity?of=sender:bulk00000@spam.example",
    "entity-free": "entity?of=user:newsletter",
    "entries": "entries",
    "rules": "rules",
    "rule-shadow": "rule?name=user-messages",
    "rule": "rule?name=sender-rate",
    "suspects": "suspects",
    "case": "case?of=user:staff0",
    "live": "live",
    "audit": "audit",
    "search": "search?q=alice@example.com",
    "ban": "ban?target=user:bob&reason=612+messages",
    "override": "override?target=user:bob",
    "list": "list",
    "lift": "lift?id=ban|sender:bulk00000@spam.example",
    "release": "release?target=user:staff0",
    "forget": "forget?of=user:staff0",
    "reload": "reload",
}
FITS = "document.documentElement.scrollWidth <= innerWidth"


async def test_every_page_fits_its_window(desks: Desks) -> None:
    """On a desk and on a phone, in light and in dark; of each a screenshot is kept."""
    async with (
        desks.console(FakeDesk()) as console,
        desks.somebody(console.url, console.token("admin", name="mona")) as somebody,
    ):
        page = somebody.page
        for name, path in PAGES.items():
            answer = await page.goto(console.place(path))
            assert answer is not None and answer.status == 200, name
            assert await page.evaluate(FITS), name
            await desks.keep(page, f"{name}-light")
            await page.emulate_media(color_scheme="dark")
            await desks.keep(page, f"{name}-dark")
            await page.emulate_media(color_scheme="light")
            await page.set_viewport_size(PHONE)
            assert await page.evaluate(FITS), name
            await desks.keep(page, f"{name}-phone")
            await page.set_viewport_size(DESKTOP)


@pytest.mark.parametrize("wide", [320, 700, 1_024, 2_560])
async def test_windows_of_other_sizes_are_fitted_as_well(desks: Desks, wide: int) -> None:
    async with desks.console(FakeDesk()) as console, desks.somebody(console.url, console.token("admin")) as somebody:
        await somebody.page.set_viewport_size({"width": wide, "height": 800})
        for path in ("", PAGES["top"], PAGES["entity"], PAGES["entries"], PAGES["live"]):
            await somebody.page.goto(console.place(path))
            assert await somebody.page.evaluate(FITS), path
