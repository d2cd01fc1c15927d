"""What the tests of the front end share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.smtp.front_end_for_tests import FrontEnd, front_end, self_signed
from tests.smtp.next_hops_for_tests import ScriptedHop


@pytest.fixture
async def hop() -> AsyncIterator[ScriptedHop]:
    """A next hop that takes all mail."""
    async with ScriptedHop() as hop:
        yield hop


@pytest.fixture
async def mx(hop: ScriptedHop) -> AsyncIterator[FrontEnd]:
    """The front end without rules, before `hop`. No session may leave a traceback."""
    async with front_end(next_hop=hop.url) as mx:
        yield mx
    assert not mx.log.traces, mx.log.traces


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(certificate, key) of the front end."""
    return self_signed(tmp_path_factory.mktemp("tls"))
