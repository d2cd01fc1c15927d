"""Runs every ``*.smtp`` script of this folder against the real server, over the memory store and over Valkey.

`script` says how scripts are written. Each line of each answer must be in the script, nothing may be left
unread at the end, and no session may have left a traceback.
"""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from string import Template
from typing import Any

import pytest

from reputation.config import Settings
from reputation.contracts import Store
from reputation.entries import Ban, Listing, parse_target
from reputation.errors import ConfigError, StoreUnavailable
from reputation.events import Stage
from reputation.store.memory import MemoryStore
from reputation.store.redis_store import RedisStore
from reputation.verdict import Action
from reputation.windows import MICROSECONDS
from tests.dialogs.script import CLOSED, Scene, ScriptError, Step, matches, parse
from tests.servers import RedisServer
from tests.smtp.front_end_for_tests import Client, FrontEnd, front_end, self_signed, until
from tests.smtp.next_hops_for_tests import ScriptedHop

FOLDER = Path(__file__).parent
SCRIPTS = sorted(FOLDER.rglob("*.smtp"))
STAGES = (Stage.CONNECT, Stage.HELO, Stage.MAIL, Stage.RCPT, Stage.DATA)
"""Those that the front end asks about. AUTH comes with AUTH."""
IMPOSSIBLE = {(Stage.CONNECT, Action.DISCARD), (Stage.HELO, Action.DISCARD), (Stage.AUTH, Action.DISCARD)}
"""There is no mail yet that could be dropped."""


class DialogFailure(AssertionError):
    """The server did not keep to the script."""


class Performance:
    """One scene on the stage: a server, a next hop, a client at a time."""

    def __init__(self, mx: FrontEnd, hop: ScriptedHop, exits: AsyncExitStack) -> None:
        self.mx = mx
        self.hop = hop
        self._exits = exits
        self._client: Client
        self.transcript: list[str] = []

    async def connect(self, source: str = "127.0.0.1") -> None:
        await self._exits.aclose()
        self._client = await self._exits.enter_async_context(self.mx.client(source))

    async def play(self, step: Step) -> None:
        """Raises AssertionError with what came instead."""
        match step.kind:
            case "C":
                self.transcript.append(str(step))
                octets = [text.encode() + b"\r\n" for text in step.texts] if step.octets is None else [step.octets]
                await self._client.send(b"".join(octets))
            case "S":
                for text in step.texts:
                    await self._hear(text)
            case "N":
                await self._seen(step, self._seen_by_next_hop)
            case "L":
                await self._seen(step, lambda: self.mx.log.lines)
            case _:
                self.transcript.append(str(step))
                await self._direct(*step.text.split())

    async def end(self) -> None:
        """The client leaves, and must not hear anything more."""
        if not self._client.writer.is_closing():
            self._client.half_close()
            assert (line := await self._client.line()) == "", f"S: {line}"
        await self.mx.nobody_left()
        assert not self.mx.log.traces, self.mx.log.traces

    async def _hear(self, pattern: str) -> None:
        line = await self._client.line() or CLOSED
        self.transcript.append(f"S: {line}")
        assert matches(pattern, line), f"S: {line}"

    async def _seen(self, step: Step, lines: Callable[[], Sequence[str]]) -> None:
        def found() -> int:
            return sum(matches(step.text, line) for line in lines())

        try:
            await until(lambda: found() == step.count if step.count is not None else found() > 0, str(step))
        except AssertionError:
            raise AssertionError("\n            ".join(lines()) or "nothing") from None

    def _seen_by_next_hop(self) -> list[str]:
        commands = [command for session in self.hop.sessions for command in session.commands]
        messages = [message.content.decode("utf-8", "replace") for message in self.hop.received]
        return [*commands, *(line for message in messages for line in message.split("\r\n"))]

    async def _direct(self, word: str, *words: str) -> None:
        match word, words:
            case "connect", ("from", source):
                await self.connect(source)
            case "connect", ():
                await self.connect()
            case "hello", ():
                await self._hear("220 mx.example.net ESMTP reputon")
                await self._say("HELO client.example.com", "250 mx.example.net")
            case "deliver", (sender, recipient):
                await self._say(f"MAIL FROM:<{sender}>", "250 2.1.0 *")
                await self._say(f"RCPT TO:<{recipient}>", "250 2.1.*")
                await self._say("DATA", "354 *")
                await self._say("Subject: delivered before\r\n\r\nhello\r\n.", "250 2.0.0 *")
            case "tls", ():
                await self._client.start_tls()
            case "later", (seconds,):
                self.mx.store.advance(float(seconds))
            case "ban" | "list" | "lift", _:
                await self._operate(word, *words)
            case "store", ("down" | "up" as state,):
                self.mx.store.trouble = {"down": StoreUnavailable("it is down"), "up": None}[state]
            case "hang", ("up",):
                await self._client.hang_up()
            case _:
                raise ScriptError(f"! {word} {' '.join(words)}: no such stage direction")

    async def _operate(self, word: str, *words: str) -> None:
        """What an operator does with the register."""
        registrar = self.mx.engine.registrar
        match word, words:
            case "ban", (target, action):
                await registrar.put(Ban(action=Action(action), **self._signed(target)))
            case "list", (name, target):
                await registrar.put(Listing(list=name, **self._signed(target)))
            case "lift", (id,):
                assert await registrar.lift(id, author="eve", reason="it is over"), f"no entry {id}"
            case _:
                raise ScriptError(f"! {word} {' '.join(words)}: no such stage direction")

    def _signed(self, target: str) -> dict[str, Any]:
        aim = parse_target(target, self.mx.engine.spelling)
        now = self.mx.store.now_us / MICROSECONDS
        return {"target": aim, "author": "eve", "reason": "a secret of ours", "created_at": now, "expires_at": None}

    async def _say(self, line: str, answer: str) -> None:
        await self._client.say(line)
        await self._hear(answer)


async def perform(scene: Scene, store: Store, name: str) -> None:
    """One scene; raises `DialogFailure`."""
    hop_settings = {**scene.hop, "script": {key: _action(value) for key, value in scene.hop.get("script", {}).items()}}
    async with AsyncExitStack() as exits:
        hop = await exits.enter_async_context(ScriptedHop(**hop_settings))
        mx = await exits.enter_async_context(
            front_end(toml_of(scene.tables), next_hop=hop.url, store=store, instant=True)
        )
        connections = await exits.enter_async_context(AsyncExitStack())
        performance = Performance(mx, hop, connections)
        await performance.connect()
        step = scene.steps[0]
        try:
            for step in scene.steps:
                await performance.play(step)
            await performance.end()
        except AssertionError as failure:
            raise DialogFailure(_told(name, scene, step, failure, performance.transcript)) from None


def _action(value: object) -> object:
    """TOML has no tuples: a list of texts in a list is one, a list is one action a time."""
    return [tuple(each) if isinstance(each, list) else each for each in value] if isinstance(value, list) else value


def _told(name: str, scene: Scene, step: Step, failure: AssertionError, transcript: Sequence[str]) -> str:
    title = f" ({scene.title})" if scene.title else ""
    said = "".join(f"\n            {line}" for line in transcript)
    return f"{name}:{step.line}{title}\n  expected: {step}\n  came:     {failure}\n  said:{said}"


def toml_of(tables: dict[str, Any]) -> str:
    """Tables of scalars, and arrays of such tables, as TOML (JSON's values are TOML's, too)."""
    lines = []
    for name, table in tables.items():
        for each in table if isinstance(table, list) else [table]:
            lines.append(f"[[{name}]]" if isinstance(table, list) else f"[{name}]")
            nested = {key: value for key, value in each.items() if isinstance(value, dict)}
            lines += [f"{key} = {json.dumps(value)}" for key, value in each.items() if key not in nested]
            for key, inner in nested.items():
                lines.append(f"[{name}.{key}]")
                lines += [f"{inner_key} = {json.dumps(value)}" for inner_key, value in inner.items()]
    return "\n".join(lines)


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
        await perform(scene, store_of_scene(number), path.relative_to(FOLDER.parent.parent).as_posix())


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
    monkeypatch.setattr("tests.smtp.front_end_for_tests.PATIENCE_SECONDS", 1.0)
    with pytest.raises(DialogFailure) as failure:
        await perform(script(dialogue), MemoryStore(), "name.smtp")
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
