"""A site for each module, asked in two ways: by its store, and by its API. Tests keep to targets of their own."""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.api.conftest import api_program
from tests.cli.site_for_tests import Site, fed, site_in
from tests.servers import RedisServer, free_port
from tests.smtp.programs import running

FROM_THE_STORE, BY_THE_API = "store", "api"


@pytest.fixture(scope="module")
def store_site(valkey: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site, asked by its store."""
    directory = tmp_path_factory.mktemp("site")
    site = site_in(directory, valkey, directory.name, f'\n[api]\nlisten = ["127.0.0.1:{free_port()}"]\n')
    asyncio.run(fed(site))
    return site


@pytest.fixture(scope="module")
def api_site(store_site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same site, asked by its API."""
    made = store_site.run("token", "create", "--name", "tests", "--scope", "admin", "--for", "1h", "--json")
    directory: Path = tmp_path_factory.mktemp("api")
    with running(api_program(directory, store_site.config.read_text(encoding="utf-8"))) as program:
        found = {"REPUTON_API": f"http://127.0.0.1:{program.port}", "REPUTON_TOKEN": json.loads(made.out)["token"]}
        yield replace(store_site, environment=found)


@pytest.fixture(params=[FROM_THE_STORE, BY_THE_API])
def site(request: pytest.FixtureRequest) -> Site:
    """The site, asked in both ways."""
    found: Site = request.getfixturevalue(f"{request.param}_site")
    return found
