"""A browser for all tests here, and two consoles for it: one over a desk of the test's, one of a running API.

    async def test_it_is_shown(desks: Desks) -> None:
        async with desks.console(FakeDesk()) as console, desks.somebody(console, "write") as page:
            await page.goto(console.place("top"))

Everybody who is given to a test is logged in, and is watched: what a page says on the console, throws, shows in a
dialog of the browser, or violates of its policy fails the test (`Somebody.trouble`). Screenshots go to the directory
that REPUTON_ARTEFACTS names.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Locator,
    Page,
    ViewportSize,
    async_playwright,
)

from api.app import application
from api.console.pages.entrance import DOOR
from api.console.visits import FORM_FIELD
from api.gate import Gate
from api.server import Server, config_of
from api.surroundings import Surroundings
from reputation.access import Token
from reputation.assemble import open_engine
from reputation.config import Settings
from reputation.desk.contract import Desk
from reputation.engine import Engine
from tests.api.conftest import new_token
from tests.browser.fake_desk import NOW
from tests.servers import require_binary

DESKTOP = ViewportSize(width=1360, height=900)
PHONE = ViewportSize(width=360, height=740)
PATIENCE_MS = 10_000
HEADLESS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--font-render-hinting=none")
QUIET = ("Failed to load resource: the server responded with a status of",)
"""What a browser says of an answer that a test has asked for."""


@dataclass
class Somebody:
    """A person at a page."""

    page: Page
    context: BrowserContext
    trouble: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note whatever must not happen."""
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.trouble.append(f"thrown: {error}"))
        self.page.on("dialog", self._dialog)

    async def looks_until(self, wanted: Locator) -> None:
        """Let time pass at the page, whose clock is the test's, until it shows something."""
        for _ in range(100):
            if await wanted.count():
                return
            await self.page.clock.run_for(6_000)
            await asyncio.sleep(0.05)
        raise AssertionError(f"{wanted} is not shown")

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(QUIET):
            self.trouble.append(message.text)

    async def _dialog(self, dialog: Dialog) -> None:
        self.trouble.append(f"dialog: {dialog.message}")
        await dialog.dismiss()


@dataclass(frozen=True, kw_only=True)
class Console:
    """A console that is served."""

    url: str
    engine: Engine

    def place(self, path: str = "") -> str:
        return f"{self.url}/console/{path}"

    def token(self, *scopes: str, **options: object) -> str:
        """A token that is in force at once; of a console of the test's own process."""
        text, token = new_token(*scopes, now=self.engine.now, **options)
        self.engine.registrar.tokens[token.token_id] = token
        return text


@dataclass(frozen=True)
class Desks:
    """The browser, and how to get consoles and people for it."""

    browser: Browser
    artefacts: Path

    @asynccontextmanager
    async def console(self, desk: Desk) -> AsyncIterator[Console]:
        """A console over a desk of the test's, served in this process."""
        settings = Settings.model_validate({"store": {"url": "memory:"}, "api": {"max_streams": 3}})
        listener = socket.create_server(("127.0.0.1", 0))
        async with open_engine(settings, serving=False) as real:
            engine = cast(Engine, _Clocked(real))
            around = Surroundings(
                engine=engine,
                settings=settings,
                path=Path("reputon.toml"),
                gate=Gate(engine, 1e6),
                desk_of=lambda _: desk,
            )
            server = Server(config_of(application(around), None))
            serving = asyncio.create_task(server.serve([listener]))
            await server.has_started.wait()
            try:
                yield Console(url=f"http://127.0.0.1:{listener.getsockname()[1]}", engine=engine)
            finally:
                around.stopping.set()
                server.should_exit = True
                await serving

    @asynccontextmanager
    async def somebody(
        self, url: str, token: str, *, phone: bool = False, scripted: bool = True
    ) -> AsyncIterator[Somebody]:
        """Somebody who has logged in by a token; without one he stands at the door."""
        context = await self.browser.new_context(
            viewport=PHONE if phone else DESKTOP,
            color_scheme="light",
            java_script_enabled=scripted,
            reduced_motion="reduce",
        )
        context.set_default_timeout(PATIENCE_MS)
        somebody = Somebody(await context.new_page(), context)
        somebody.watch()
        try:
            if token:
                await _logged_in(context, url, token)
            await somebody.page.goto(f"{url}/console/{'' if token else 'login'}")
            yield somebody
        finally:
            await context.close()
        assert somebody.trouble == []

    async def keep(self, page: Page, name: str, *, whole: bool = True) -> None:
        """A screenshot, for who wants to see it."""
        await page.screenshot(path=self.artefacts / f"{name}.png", full_page=whole)


async def _logged_in(context: BrowserContext, url: str, token: str) -> None:
    """What the form of the log-in does; tests/browser/test_entrance.py fills it in by hand."""
    await context.request.get(f"{url}/console/login")
    (door,) = [each["value"] for each in await context.cookies() if each["name"] == DOOR]
    form: dict[str, str | float | bool] = {FORM_FIELD: door, "token": token}
    answer = await context.request.post(f"{url}/console/login", form=form, max_redirects=0)
    assert answer.status == 303, await answer.text()


class _Clocked:
    """An engine whose time stands still, at that of the desk."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def now(self) -> float:
        return NOW

    def __getattr__(self, name: str) -> object:
        return getattr(self._engine, name)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Debian's Chromium."""
    path = require_binary("chromium", "chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=HEADLESS)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go."""
    named = os.environ.get("REPUTON_ARTEFACTS")
    path = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def desks(browser: Browser, artefacts: Path) -> Desks:
    """All that a test needs."""
    return Desks(browser, artefacts)


__all__ = ("Console", "Desks", "Somebody", "Token")
