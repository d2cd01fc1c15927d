"""A scene is played: the real front end, a next hop, one client at a time. What comes must be what the script says.

Each line of each answer must be in the script, nothing may be left unread at the end, and no session may have left a
traceback.
"""

from base64 import b64encode
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NoReturn

from reputation.config import Settings
from reputation.config_files import settings_in
from reputation.contracts import Store
from reputation.entries import Ban, Listing, parse_target
from reputation.errors import ReputonError, StoreUnavailable
from reputation.events import Outcome, OutcomeKind
from reputation.releases import released
from reputation.verdict import Action
from reputation.windows import MICROSECONDS
from smtp_frontend.listeners import Kind
from smtp_frontend.rehearsal.client import Client
from smtp_frontend.rehearsal.expectations import Surprise, until
from smtp_frontend.rehearsal.front_end import HOSTNAME, FrontEnd, front_end
from smtp_frontend.rehearsal.logins import PASSWORD, OnePassword
from smtp_frontend.rehearsal.next_hop import ScriptedHop
from smtp_frontend.rehearsal.script import CLOSED, Scene, ScriptError, Step, matches

LOOPBACK = "127.0.0.0/8"
"""Where clients of a rehearsal are; some of them speak for others."""


class DialogFailure(AssertionError):
    """The server did not keep to the script."""

    def __init__(self, name: str, scene: Scene, step: Step, came: str, transcript: Sequence[str]) -> None:
        title = f" ({scene.title})" if scene.title else ""
        said = "".join(f"\n            {line}" for line in transcript)
        super().__init__(f"{name}:{step.line}{title}\n  expected: {step}\n  came:     {came}\n  said:{said}")


class Performance:
    """One scene on the stage: a server, a next hop, a client at a time."""

    def __init__(self, mx: FrontEnd, hop: ScriptedHop, exits: AsyncExitStack) -> None:
        self.mx = mx
        self.hop = hop
        self._exits = exits
        self._client: Client
        self._address = ""
        """From where the client seems to come, when that is not from here."""
        self._source = ""
        """From where it comes."""
        self.transcript: list[str] = []

    async def connect(self, source: str = "127.0.0.1", *, kind: Kind = Kind.SMTP) -> None:
        self._source = source
        await self._exits.aclose()
        self._client = await self._exits.enter_async_context(self.mx.client(source, kind=kind))

    async def _submit(self, user: str = "") -> None:
        """Connect where users send, and log in there."""
        await self.connect(kind=Kind.SUBMISSIONS)
        if not user:
            return
        await self._hear(f"220 {HOSTNAME} ESMTP reputon")
        await self._client.say("EHLO client.example.com")
        while (await self._client.line()).startswith("250-"):
            pass
        secret = b64encode(f"\0{user}\0{PASSWORD}".encode()).decode("ascii")
        await self._say(f"AUTH PLAIN {secret}", "235 2.7.0 *")

    async def play(self, step: Step) -> None:
        """Raises `Surprise` with what came instead, `ScriptError` for a direction that makes no sense."""
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
            if line := await self._client.line():
                raise Surprise(f"S: {line}")
        await self._exits.aclose()
        await self.mx.nobody_left()
        if self.mx.log.traces:
            raise Surprise("\n            ".join(record.getMessage() for record in self.mx.log.traces))

    async def _hear(self, pattern: str) -> None:
        line = await self._client.line() or CLOSED
        self.transcript.append(f"S: {line}")
        if not matches(pattern, line):
            raise Surprise(f"S: {line}")

    async def _seen(self, step: Step, lines: Callable[[], Sequence[str]]) -> None:
        def found() -> int:
            return sum(matches(step.text, line) for line in lines())

        try:
            await until(lambda: found() == step.count if step.count is not None else found() > 0, str(step))
        except Surprise:
            raise Surprise("\n            ".join(lines()) or "nothing") from None

    def _seen_by_next_hop(self) -> list[str]:
        commands = [command for session in self.hop.sessions for command in session.commands]
        messages = [message.content.decode("utf-8", "replace") for message in self.hop.received]
        return [*commands, *(line for message in messages for line in message.split("\r\n"))]

    async def _direct(self, word: str, *words: str) -> None:
        """Do what a stage direction says, as often as it says."""
        if word.isdecimal() and words[:1] == ("times",) and words[1:]:
            for number in range(1, int(word) + 1):
                await self._follow(*(each.replace("{n}", str(number)) for each in words[1:]))
        else:
            await self._follow(word, *words)

    async def _follow(self, word: str, *words: str) -> None:
        match word, words:
            case "connect", () | ("from", _):
                self._address = ""
                await self.connect(*words[1:])
            case "submit", () | ("as", _):
                await self._submit(*words[1:])
            case "client" | "user", _:
                await self._speak_for(word, *words)
            case "hello" | "deliver" | "visit" | "others" | "tls" | "hang", _:
                await self._act(word, *words)
            case "later", (seconds,):
                self.mx.store.advance(float(seconds))
            case "store", ("down" | "up" as state,):
                self.mx.store.trouble = {"down": StoreUnavailable("it is down"), "up": None}[state]
            case "known", _:
                self.mx.lookups.know(words)
            case "outcome", (kind,):
                await self._report(OutcomeKind(kind))
            case "ban" | "list" | "lift" | "release", _:
                await self._operate(word, *words)
            case _:
                _no_such(word, *words)

    async def _act(self, word: str, *words: str) -> None:
        """What the client does."""
        match word, words:
            case "hello", ():
                await self._hear(f"220 {HOSTNAME} ESMTP reputon")
                await self._say("HELO client.example.com", f"250 {HOSTNAME}")
            case "deliver", (sender, recipient):
                await self._say(f"MAIL FROM:<{sender}>", "250 2.1.0 *")
                await self._say(f"RCPT TO:<{recipient}>", "250 2.1.*")
                await self._say("DATA", "354 *")
                await self._say("Subject: delivered before\r\n\r\nhello\r\n.", "250 2.0.0 *")
            case "others", (count,):
                await self._crowd(int(count))
            case "visit", ():
                await (self._speak_for("client", self._address) if self._address else self.connect(self._source))
                await self._client.line()
            case "tls", ():
                await self._client.start_tls()
            case "hang", ("up",):
                await self._client.hang_up()
            case _:
                _no_such(word, *words)

    async def _crowd(self, count: int) -> None:
        """Others come from the same place, are greeted, and stay until the client hangs up."""
        for _ in range(count):
            other = await self._exits.enter_async_context(self.mx.client(self._source))
            await other.line()
            if self._address:
                await other.say(self._for_whom(""))
                await other.line()

    def _for_whom(self, user: str) -> str:
        prefix = "IPV6:" if ":" in self._address else ""
        address = f" ADDR={prefix}{self._address}" if self._address else ""
        return f"XCLIENT{address}{f' LOGIN={xtext(user)}' if user else ''}"

    async def _say(self, line: str, answer: str) -> None:
        await self._client.say(line)
        await self._hear(answer)

    async def _speak_for(self, word: str, *words: str) -> None:
        """Connect as somebody else does; his greeting is the next that the script hears."""
        match word, words:
            case "client", (address,):
                self._address, user = address, ""
            case "client", (address, "as", user):
                self._address = address
            case "user", (user,):
                pass
            case _:
                _no_such(word, *words)
        await self.connect()
        if not (greeting := await self._client.line()).startswith("220 "):
            raise Surprise(f"S: {greeting}")
        await self._client.say(self._for_whom(user))

    async def _report(self, kind: OutcomeKind) -> None:
        """Somebody says what the last message was."""
        message = self.mx.engine.last_message
        if message is None:
            raise Surprise("no message was taken")
        await self.mx.engine.learn(Outcome(kind=kind, event=message))

    async def _operate(self, word: str, *words: str) -> None:
        """What an operator does with the register."""
        registrar = self.mx.engine.registrar
        match word, words:
            case "ban", (target, action):
                await registrar.put(Ban(action=Action(action), **self._signed(target)))
            case "list", (name, target):
                await registrar.put(Listing(list=name, **self._signed(target)))
            case "release", (target,):
                aim, now = parse_target(target, self.mx.engine.spelling), self.mx.store.now_us / MICROSECONDS
                await released(self.mx.engine, aim, author="eve", reason="it was her", now=now)
            case "lift", (id,):
                if not await registrar.lift(id, author="eve", reason="it is over"):
                    raise Surprise(f"no entry {id}")
            case _:
                _no_such(word, *words)

    def _signed(self, target: str) -> dict[str, Any]:
        aim = parse_target(target, self.mx.engine.spelling)
        now = self.mx.store.now_us / MICROSECONDS
        return {"target": aim, "author": "eve", "reason": "a secret of ours", "created_at": now, "expires_at": None}


async def perform(
    scene: Scene, name: str, settings: Settings | None = None, store: Store | None = None
) -> tuple[str, ...]:
    """Play one scene; what was said. Raises `DialogFailure`, `ScriptError` (they name the line) and `ConfigError`."""
    settings = settings_in(dict(scene.tables), Path(name)) if settings is None else settings
    settings = settings.model_copy(update={"smtp": settings.smtp.model_copy(update=_played(scene, settings))})
    async with AsyncExitStack() as exits:
        hop = await exits.enter_async_context(ScriptedHop(**_hop_settings(scene)))
        mx = await exits.enter_async_context(
            front_end(settings, next_hop=hop.url, store=store, instant=True, verifier=OnePassword())
        )
        connections = await exits.enter_async_context(AsyncExitStack())
        performance = Performance(mx, hop, connections)
        await performance.connect()
        step = scene.steps[0]
        try:
            for step in scene.steps:
                await performance.play(step)
            await performance.end()
        except (Surprise, OSError) as surprise:
            raise DialogFailure(name, scene, step, str(surprise), performance.transcript) from None
        except (ScriptError, ValueError, ReputonError) as error:
            raise ScriptError(f"{name}:{step.line}: {step}: {error}") from None
    return tuple(performance.transcript)


def _played(scene: Scene, settings: Settings) -> dict[str, Any]:
    """What a scene needs of the front end besides."""
    changed: dict[str, Any] = {}
    if scene.speaks_for_others:
        changed["xclient_from"] = (*settings.smtp.xclient_from, LOOPBACK)
    if scene.submits:  # without TLS, which would only be in the way here
        changed["listen_submissions"] = ("127.0.0.1:0",)
    return changed


def _no_such(*words: str) -> NoReturn:
    raise ScriptError(f"! {' '.join(words)}: no such stage direction")


def xtext(text: str) -> str:
    """RFC 3461 section 4.

    >>> xtext("al+ice=x")
    'al+2Bice+3Dx'
    """
    return "".join(chr(o) if 33 <= o <= 126 and o not in b"+=" else f"+{o:02X}" for o in text.encode())


def _hop_settings(scene: Scene) -> dict[str, Any]:
    script = {key: _action(value) for key, value in scene.hop.get("script", {}).items()}
    return {**scene.hop, "script": script}


def _action(value: object) -> object:
    """TOML has no tuples: a list of texts in a list is one, a list is one action a time."""
    return [tuple(each) if isinstance(each, list) else each for each in value] if isinstance(value, list) else value
