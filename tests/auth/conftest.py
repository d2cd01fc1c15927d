"""What the tests of log-ins share: the settings, and one server of each kind for the whole run."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from reputation.front_end_settings import AuthSettings
from smtp_frontend.auth import Verifier, open_verifier
from tests.auth.directory_for_tests import DirectoryServer, directory_server
from tests.auth.dovecot_for_tests import Dovecot, dovecot

PATIENT_SECONDS = 20.0
"""For tests in which nothing hangs: never reached."""
Opening = Callable[..., Verifier]


@pytest.fixture(scope="session")
def directory() -> Iterator[DirectoryServer]:
    """Debian's slapd. Tests share it, and never kill it."""
    with directory_server() as server:
        yield server


@pytest.fixture(scope="session")
def dovecot_service() -> Iterator[Dovecot]:
    """Debian's Dovecot, shared likewise."""
    with dovecot() as server:
        yield server


@pytest_asyncio.fixture
async def opened() -> AsyncIterator[Opening]:
    """Opens verifiers by their settings, and closes them in the end."""
    async with AsyncExitStack() as stack:

        def open_one(url: str, *, deadline_seconds: float = PATIENT_SECONDS, **settings: Any) -> Verifier:
            given = AuthSettings(url=url, deadline_seconds=deadline_seconds, **settings)
            verifier = open_verifier(given, "mx.example.net")
            stack.push_async_callback(verifier.close)
            return verifier

        yield open_one
