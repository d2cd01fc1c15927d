"""Runs every ``*.smtp`` script of this folder against the real server, over the memory store and over Valkey.

`smtp_frontend.rehearsal.script` says how scripts are written.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from string import Template

import pytest

from reputation.config import Settings
from reputation.contracts import Store
from reputation.errors import ConfigError
from reputation.events import Stage
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
from smtp_frontend.rehearsal.script import Scene, ScriptError, matches, parse
from smtp_frontend.rehearsal.stage import DialogFailure, perform
from tests.servers import RedisServer
from tests.smtp.conftest import self_signed

FOLDER = Path(__file__).parent
SCRIPTS = sorted(FOLDER.rglob("*.smtp"))
STAGES = tuple(stage for stage in Stage if stage is not Stage.DISCONNECT)
"""Those that the front end asks about."""
IMPOSSIBLE = {(Stage.CONNECT, Action.DISCARD), (Stage.HELO, Action.DISCARD), (Stage.AUTH, Action.DISCARD)}
"""There is no mail yet that could be dropped."""


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What $CERTIFICATE and $KEY stand for in scripts."""
    certificate, key = self_signed(tmp_path_factory.mktemp("tls"))
    return {"CERTIFICATE": str(certificate), "KEY": str(key)}


@pytest.fixture(params=["memory", "valkey"])
async def store_of_scene(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[Callable[[int], Store]]:
    """A fresh store for each scene of a script."""
    stores: list[Store] = []

    def fresh(number: int) -> Store:
        if request.param == "memory":
            return MemoryStore()
        server: RedisServer = request.getfixturevalue("valkey")
        stores.append(RedisStore(server.unix_url, prefix=f"{prefix}.{number}", deadline_seconds=10.0))
        return stores[-1]

    yield fresh
    for store in stores:
        await store.close()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(FOLDER).as_posix())
async def test_dialog(path: Path, store_of_scene: Callable[[int], Store], certificate: dict[str, str]) -> None:
    text = Template(path.read_text(encoding="utf-8")).safe_substitute(certificate)
    for number, scene in enumerate(parse(text)):
        await perform(scene, path.relative_to(FOLDER.parent.parent).as_posix(), store=store_of_scene(number))


# Nothing is forgotten


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_and_action_has_a_dialogue_or_is_a_mistake(stage: Stage, action: Action) -> None:
    path = FOLDER / stage / f"{action}.smtp"
    assert path.exists() == ((stage, action) not in IMPOSSIBLE)
    if path.exists():
        scenes = parse(path.read_text(encoding="utf-8"))
        modes = {rule.get("mode", "enforce") for scene in scenes for rule in scene.tables["rule"]}
        assert modes == {"enforce", "shadow"}
        assert {(rule["stage"], rule["action"]) for scene in scenes for rule in scene.tables["rule"]} == {
            (stage, action)
        }


@pytest.mark.parametrize(("stage", "action"), sorted(IMPOSSIBLE))
def test_an_action_that_cannot_be_is_a_mistake_in_the_configuration(stage: Stage, action: Action) -> None:
    rule = {"name": "r", "stage": stage, "key": ["ip"], "count": "spam", "limits": ["1/1m"], "action": action}
    with pytest.raises(ConfigError, match=f'"r" action: {action} .*{stage}'):
        Settings.model_validate({"rule": [rule]}).policy()


def test_counting_subjects_needs_a_key() -> None:
    """A hash that everybody can compute would tell the subjects of other people's mail."""
    rule = {"name": "r", "stage": "data", "key": ["subject"], "count": "messages", "limits": ["1/1m"], "action": "tag"}
    with pytest.raises(ConfigError, match=r'"r" key: counting subjects needs keys\.subject_key'):
        Settings.model_validate({"rule": [rule]}).policy()


def test_no_rule_can_stand_where_nothing_can_be_done_any_more() -> None:
    rule = {"name": "r", "stage": "disconnect", "key": ["ip"], "count": "spam", "limits": ["1/1m"], "action": "reject"}
    with pytest.raises(ConfigError, match=r'"r" stage: .*disconnect'):
        Settings.model_validate({"rule": [rule]}).policy()


# The runner itself


def script(dialogue: str) -> Scene:
    (scene,) = parse(f"---\n{dialogue}")
    return scene


@pytest.mark.parametrize(
    ("dialogue", "expected", "came"),
    [
        ("S: 220 *\nC: NOOP\nS: 251 *", "S: 251 *", "S: 250 2.0.0 OK"),
        ("S: 220 *\nC: QUIT\nS: 221 *\nS: 250 *", "S: 250 *", "S: <closed>"),
        ("S: 220 *\nC: EHLO x\nS: 250-mx.example.net", "S: 250-mx.example.net", "S: 250-PIPELINING"),
        ("! hello\nN*1: EHLO *", "N*1: EHLO *", "nothing"),
        ("! hello\nL*0: verdict stage=helo *", "L*0: verdict *", "verdict stage=helo action=accept*"),
    ],
)
async def test_a_server_that_leaves_the_script_is_found(
    dialogue: str, expected: str, came: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("smtp_frontend.rehearsal.expectations.PATIENCE_SECONDS", 1.0)
    with pytest.raises(DialogFailure) as failure:
        await perform(script(dialogue), "name.smtp")
    told = str(failure.value)
    line = dialogue.count("\n") + 2
    assert matches(f"name.smtp:{line}\n  expected: {expected}\n  came: *{came}*", told), told


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("[smtp\n---\nC: x", "configuration of scene 1"),
        ("---\n", "without a dialogue"),
        ("---\nX: hello", "line 2 is no step"),
        ("---\n! dance", "line 2: unknown stage direction"),
        ('---\nC> "a" * 3', "line 2: write C>"),
    ],
)
def test_a_script_that_cannot_be_read_is_a_mistake(text: str, error: str) -> None:
    with pytest.raises(ScriptError, match=error):
        parse(text)
