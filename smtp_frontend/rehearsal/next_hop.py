"""A real SMTP or LMTP server that does what a script says.

    async with ScriptedHop({"RCPT": "450 4.2.1 Later", "dave@example.com": CLOSE}) as hop:
        next_hop = open_next_hop(hop.url, hostname="mx.example.net", timeout_seconds=5)
        ...
        assert hop.messages[0].recipients == ("carol@example.com",)

It listens on a free port of 127.0.0.1, or on a Unix-domain socket, and shares no code with the front end.

A script maps *steps* to *actions*. Steps: "connect", the verbs "EHLO" "HELO" "LHLO" "STARTTLS" "MAIL" "RCPT"
"DATA" "RSET" "QUIT" (and any other verb), "message" (the first octets after 354 have come), "end" (the final
dot has come); or an address, for the MAIL or RCPT that names it; or "end ADDRESS", for LMTP. Actions:

* text: the answer, lines separated by ``\\n``, each with its code: "550-5.1.1 No\\n550 5.1.1 such user";
* octets: sent as they are, whatever they are;
* `CLOSE` hangs up, `RESET` does so with a TCP RST, `HANG` reads on and never answers, `STALL` does not even read;
* an `asyncio.Event`: read no more until it is set, then go on as if the step were not scripted;
* `Endless` octets, sent until the client hangs up;
* a tuple of actions, done in turn; a list of actions, one for each time, and then the normal one.

The script may be changed while the server runs. `UNKNOWN` and `BUSY` are refused by every server.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from smtp_frontend.rehearsal.expectations import Surprise

UNKNOWN = "unknown@example.com"
BUSY = "busy@example.com"

MAX_MESSAGE_OCTETS = 64 * 2**20


class Do(Enum):
    """Actions that are not words."""

    CLOSE = auto()
    RESET = auto()
    HANG = auto()
    STALL = auto()


CLOSE, RESET, HANG, STALL = Do.CLOSE, Do.RESET, Do.HANG, Do.STALL


@dataclass(frozen=True)
class Endless:
    """Octets that never end."""

    octets: bytes


Single = str | bytes | Do | Endless | asyncio.Event
Action = Single | tuple[Single, ...] | list[Single]


@dataclass(frozen=True, kw_only=True)
class Message:
    """What a server has taken over."""

    sender: str
    parameters: tuple[str, ...]
    """Of MAIL."""
    recipients: tuple[str, ...]
    content: bytes
    """As it was before dot-stuffing, octet for octet."""


class _Over(Exception):
    """The session ends here."""


@dataclass(eq=False)
class Session:
    """One connection, as the server saw it."""

    hop: "ScriptedHop"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    commands: list[str] = field(default_factory=list)
    tls: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the connection is closed, from either side."""
    sender: str = ""
    parameters: tuple[str, ...] = ()
    recipients: list[str] = field(default_factory=list)

    @property
    def verbs(self) -> list[str]:
        return [command.split(" ")[0].upper() for command in self.commands]

    def say(self, octets: bytes) -> None:
        """Say something that nobody asked for."""
        self.writer.write(octets)

    def hang_up(self) -> None:
        self.writer.close()

    async def run(self) -> None:
        try:
            await self.answer("connect", "220 hop.example.com ready")
            while line := await self.reader.readline():
                await self.command(line.decode().rstrip("\r\n"))
        except (_Over, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.writer.close()  # no wait_closed: Python 3.11 never ends it after a failed TLS handshake
            self.ended.set()
            self.hop.progress.set()

    async def command(self, line: str) -> None:
        self.commands.append(line)
        self.hop.progress.set()
        verb = line.split(" ", 1)[0].upper()
        known: Mapping[str, Callable[[str], object]] = {"MAIL": self.mail, "RCPT": self.rcpt}
        if verb in {"EHLO", "LHLO", "HELO"}:
            await self.hello(verb)
        elif verb in known:
            address = line.split("<", 1)[1].rsplit(">", 1)[0]
            if (await self.answer(verb, "250 2.1.0 OK", address)).startswith("2"):
                known[verb](line)
        elif verb == "STARTTLS" and self.hop.tls:
            await self.start_tls(self.hop.tls)
        elif verb == "DATA":
            await self.data()
        elif verb in {"RSET", "NOOP", "QUIT"}:
            self.sender, self.parameters, self.recipients = "", (), []
            await self.answer(verb, "250 2.0.0 OK" if verb != "QUIT" else "221 2.0.0 Bye")
            if verb == "QUIT":
                raise _Over
        else:
            await self.answer(verb, "500 5.5.1 Unknown command")

    async def hello(self, verb: str) -> None:
        if (verb == "LHLO") != self.hop.lmtp:
            await self.answer(verb, "500 5.5.1 Unknown command")
            return
        offered = [] if verb == "HELO" else [*self.hop.extensions, *["STARTTLS"] * (self.hop.tls is not None)]
        lines = ["hop.example.com", *offered]
        marks = ["-"] * (len(lines) - 1) + [" "]
        await self.answer(verb, "\n".join(f"250{mark}{line}" for mark, line in zip(marks, lines, strict=True)))

    def mail(self, line: str) -> None:
        self.sender = line.split("<", 1)[1].rsplit(">", 1)[0]
        self.parameters = tuple(line.rsplit(">", 1)[1].split())
        self.recipients = []

    def rcpt(self, line: str) -> None:
        self.recipients.append(line.split("<", 1)[1].rsplit(">", 1)[0])

    async def start_tls(self, context: ssl.SSLContext) -> None:
        if (await self.answer("STARTTLS", "220 2.0.0 Go ahead")).startswith("220"):
            await self.writer.start_tls(context)
            self.tls = True

    async def data(self) -> None:
        if not self.recipients:
            await self.answer("DATA", "503 5.5.1 No valid recipients")
            return
        if not (await self.answer("DATA", "354 Go ahead")).startswith("354"):
            return
        lines = [await self.reader.readuntil(b"\r\n")]
        await self.answer("message", "")
        while lines[-1] != b".\r\n":
            lines.append(await self.reader.readuntil(b"\r\n"))
        message = Message(
            sender=self.sender,
            parameters=self.parameters,
            recipients=tuple(self.recipients),
            content=unstuffed(b"".join(lines)),
        )
        self.hop.received.append(message)
        self.hop.progress.set()
        if all([await self.taken(address) for address in (self.recipients if self.hop.lmtp else [""])]):
            self.hop.messages.append(message)
        self.sender, self.parameters, self.recipients = "", (), []

    async def taken(self, address: str) -> bool:
        """One final answer, and whether it was a good one."""
        return (await self.answer("end", "250 2.0.0 Queued", f"end {address}")).startswith("2")

    async def answer(self, step: str, normal: str, address: str = "") -> str:
        """Do what the script says at this step, and give back what was said last."""
        action: Action = normal
        for key in (address, step):
            if key in self.hop.script:
                scripted = self.hop.script[key]
                action = scripted.pop(0) if isinstance(scripted, list) and scripted else scripted
                action = normal if isinstance(action, list) else action
                break
        said = ""
        for single in action if isinstance(action, tuple) else (action,):
            said = await self.do(single) if not isinstance(single, asyncio.Event) else await self.pause(single, normal)
        return said

    async def pause(self, event: asyncio.Event, normal: str) -> str:
        transport = cast("asyncio.Transport", self.writer.transport)
        transport.pause_reading()
        await event.wait()
        transport.resume_reading()
        return await self.do(normal)

    async def do(self, action: Single | list[Single]) -> str:
        assert not isinstance(action, list)
        match action:
            case str() | bytes():
                octets = action if isinstance(action, bytes) else wire_lines(action)
                self.writer.write(octets)
                await self.writer.drain()
                return octets.decode("latin-1")
            case Endless():
                while not self.reader.at_eof():
                    self.writer.write(action.octets * 1_000)
                    await self.writer.drain()
            case Do.HANG:
                while await self.reader.read(65_536):
                    pass
            case Do.STALL:
                await self.pause(asyncio.Event(), "")
            case Do.RESET:
                connection: socket.socket = self.writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.writer.transport.abort()
        raise _Over


class ScriptedHop:
    """The server, an async context manager."""

    def __init__(
        self,
        script: Mapping[str, Action] | None = None,
        *,
        lmtp: bool = False,
        socket_path: Path | None = None,
        extensions: Iterable[str] = ("SIZE 10000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.script: dict[str, Action] = {UNKNOWN: "550 5.1.1 User unknown", BUSY: "450 4.2.1 Mailbox busy"}
        self.script.update((step, list(do) if isinstance(do, list) else do) for step, do in (script or {}).items())
        self.lmtp = lmtp
        self.socket_path = socket_path
        self.extensions = list(extensions)
        self.tls = tls
        self.port = 0
        self.sessions: list[Session] = []
        self.messages: list[Message] = []
        """Those that were answered 2xx (by LMTP: for every recipient)."""
        self.received: list[Message] = []
        """Those whose final dot has come, whatever was answered."""
        self.progress = asyncio.Event()
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """What `open_next_hop` takes."""
        scheme = "lmtp" if self.lmtp else "smtp"
        return f"{scheme}://{self.socket_path}" if self.socket_path else f"{scheme}://127.0.0.1:{self.port}"

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for `condition`, which is looked at whenever a session has heard something or is over."""
        while not condition():
            self.progress.clear()
            await self.progress.wait()

    def stop_listening(self) -> None:
        """From now on connections are refused; those that are open stay open."""
        self._server.close()

    async def __aenter__(self) -> Self:
        if self.socket_path:
            self._server = await asyncio.start_unix_server(self._serve, self.socket_path, limit=MAX_MESSAGE_OCTETS)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MAX_MESSAGE_OCTETS)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for session in self.sessions:
            session.writer.transport.abort()
        for task in self._tasks:
            task.cancel()
        results = await asyncio.gather(*self._tasks, return_exceptions=True)
        if failed := [each for each in results if each and not isinstance(each, asyncio.CancelledError)]:
            raise Surprise(f"the next hop: {failed}")
        await self._server.wait_closed()

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = Session(self, reader, writer)
        self.sessions.append(session)
        task = asyncio.get_running_loop().create_task(session.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def wire_lines(text: str) -> bytes:
    """An answer on the wire; nothing for no text."""
    return "".join(f"{line}\r\n" for line in text.splitlines()).encode()


def unstuffed(content: bytes) -> bytes:
    """What was meant by the octets after 354, up to the final dot: RFC 5321 section 4.5.2, line by line.

    >>> unstuffed(b"..a\\r\\n.\\r\\n")
    b'.a\\r\\n'
    """
    lines = content.split(b"\r\n")
    if lines[-2:] != [b".", b""] or b"." in lines[:-2]:
        raise Surprise("no final dot, or one in the middle")
    return b"".join(line.removeprefix(b".") + b"\r\n" for line in lines[:-2])
