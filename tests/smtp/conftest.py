"""What the tests of the front end share."""

import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from smtp_frontend.rehearsal.front_end import HOSTNAME, FrontEnd, front_end
from smtp_frontend.rehearsal.next_hop import ScriptedHop


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


def self_signed(directory: Path) -> tuple[Path, Path]:
    """(certificate, key) for `HOSTNAME`, PEM files, made by openssl."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN={HOSTNAME}"
    command = ["openssl", *words.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key
