"""What a shell proposes, without asking any server."""

import subprocess
import sys

import pytest

from reputation.cli.options import with_seconds
from tests.cli.site_for_tests import SECONDS, Site, site_in
from tests.servers import free_port

PROPOSED = (
    ("su", {"suspects"}),
    ("top sender_", {"sender_domain"}),
    ("top ip --metric c", {"connections", "complaints"}),
    ("top recipient --metric ", {"messages"}),
    ("series recipient:x --metric ", {"messages"}),
    ("top --window ", {"5m", "1h", "1d"}),
    ("show recipient_", {"recipient_domain:"}),
    ("override few", {"few-clients"}),
    ("tail --rule ", {"sender-messages", "few-clients", "user-messages"}),
    ("tail --action t", {"tag", "tarpit", "throttle", "tempfail"}),
    ("tail --stage m", {"mail"}),
    ("ban ip:192.0.2.1 --for ", {"30m", "1h", "6h", "1d", "7d", "30d", "ever"}),
    ("ban ip:192.0.2.1 --action ", {"reject", "tempfail", "discard"}),
    ("list add ", {"allow", "block", "partners"}),
    ("token create --scope ", {"read", "check", "write", "admin"}),
    ("outcome s", {"spam"}),
    ("export entries --kind ", {"ban", "override", "list"}),
)


@pytest.fixture(scope="module")
def away(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """A site whose store is not there."""
    directory = tmp_path_factory.mktemp("away")
    return site_in(
        directory,
        f"redis://127.0.0.1:{free_port()}",
        "x",
        '\n[[list]]\nname = "partners"\nof = "sender_domain"\nvalues = []\n',
    )


@pytest.mark.parametrize(("typed", "proposed"), PROPOSED, ids=[typed for typed, _ in PROPOSED])
def test_a_shell_proposes(away: Site, typed: str, proposed: set[str]) -> None:
    words = f"reputon {typed}"
    told = away.run(_REPUTON_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1))
    assert (set(told.out.split()), told.err) == (proposed, "")


def test_a_configuration_that_cannot_be_read_proposes_nothing(away: Site) -> None:
    told = away.run(
        _REPUTON_COMPLETE="complete_bash", COMP_WORDS="reputon override x", COMP_CWORD="2", REPUTON_CONFIG="/nowhere"
    )
    assert (told.out.split(), told.err) == ([], "")


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ([], []),
        (["--watch"], ["--watch=2"]),
        (["-w"], ["--watch=2"]),
        (["--watch", "5"], ["--watch", "5"]),
        (["--watch", ".5", "ip"], ["--watch", ".5", "ip"]),
        (["--watch", "--json"], ["--watch=2", "--json"]),
        (["--watch", "ip:192.0.2.7"], ["--watch=2", "ip:192.0.2.7"]),
        (["--watch=3"], ["--watch=3"]),
    ],
)
def test_a_number_of_seconds_may_be_left_out(typed: list[str], read: list[str]) -> None:
    assert with_seconds(typed) == read


def test_what_few_commands_need_is_loaded_by_them_alone() -> None:
    loaded = "import sys, reputation.cli; print(*sorted({'aiohttp', 'pyarrow', 'fastapi'} & sys.modules.keys()))"
    told = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=SECONDS, check=True)
    assert told.stdout == "\n"
