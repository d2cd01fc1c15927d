"""Mail from many clients at once, as a process: no benchmark, but what `benchmarks.smtp` and `.sessions` send.

    python -m benchmarks.smtp_load --port PORT --messages N [--sessions N] [--per-connection N] [--octets N] [--first N]

prints one JSON object: ``seconds`` from the first connection to the last answer, and ``cpu_seconds`` of this process.
An answer other than the expected one ends it with an error: what is refused is fast.

Why not Postfix' smtp-source: all its sessions come from one address with one sender, so they would meet the rules
about a client that has many connections, and be held back. Here each connection comes from another address of
127.0.0.0/8, each in a network of its own; a message has one of many senders and of many recipients. Commands are not
pipelined, as smtp-source does not either. It is as lean as asyncio can be: one callback for each answer, no task, no
timer.
"""

import argparse
import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import ClassVar

CLIENTS = 12_500
SENDERS, RECIPIENTS, DOMAINS = 20_000, 5_000, 997
LINE = b"the quick brown fox jumps over the lazy dog, and again it does so \r\n"


def client_of(number: int) -> str:
    """The address of the n-th client, each in a /24 of its own.

    >>> client_of(0), client_of(251), client_of(12_500)
    ('127.1.0.7', '127.2.1.7', '127.1.0.7')
    """
    number %= CLIENTS
    return f"127.{1 + number % 250}.{number // 250}.7"


def envelopes(seed: int) -> Iterator[tuple[str, str]]:
    """Senders and recipients without end, the same for a seed."""
    random = Random(seed)
    while True:
        sender, recipient = random.randrange(SENDERS), random.randrange(RECIPIENTS)
        yield f"user{sender}@example{sender % DOMAINS}.com", f"user{recipient}@example{recipient % DOMAINS}.net"


def message(sender: str, recipient: str, number: int, octets: int) -> bytes:
    """A message of `octets` octets, and its end."""
    fields = (
        f"From: <{sender}>\r\nTo: <{recipient}>\r\nSubject: message {number}\r\n"
        f"Message-ID: <{number}@example.com>\r\nDate: Tue, 24 Nov 2026 12:00:00 +0000\r\n\r\n"
    ).encode()
    lines, rest = divmod(max(octets - len(fields), 2), len(LINE))
    return b"".join((fields, LINE * lines, b"x" * (rest - 2), b"\r\n.\r\n"))


class Refused(Exception):
    """An answer that was not expected."""


class Client(asyncio.Protocol):
    """One session: greeting, EHLO, as many messages as it is given, QUIT."""

    EXPECTED: ClassVar = {
        "EHLO": b"220",
        "MAIL": b"250",
        "RCPT": b"250",
        "DATA": b"250",
        "TEXT": b"354",
        "NEXT": b"250",
    }
    """What is said next -> the answer that must have come before."""

    def __init__(self, messages: Iterator[tuple[str, str, bytes]], ended: Callable[[Exception | None], None]) -> None:
        self._messages = messages
        self._ended = ended
        self._answer = b""
        self._next = "EHLO"
        self._recipient, self._text = "", b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if not self._answer.endswith(b"\r\n"):
            return
        last = self._answer[self._answer.rfind(b"\r\n", 0, -2) + 1 :].lstrip(b"\n")
        if last[3:4] == b"-":
            return
        self._answer = b""
        if self._next != "END" and not last.startswith(self.EXPECTED[self._next]):
            self._end(Refused(f"before {self._next}: {last.decode(errors='replace').strip()}"))
            return
        self._go_on()

    def _go_on(self) -> None:
        match self._next:
            case "EHLO":
                self._say(b"EHLO client.example.com\r\n", "MAIL")
            case "MAIL" | "NEXT":
                self._begin()
            case "RCPT":
                self._say(f"RCPT TO:<{self._recipient}>\r\n".encode(), "DATA")
            case "DATA":
                self._say(b"DATA\r\n", "TEXT")
            case "TEXT":
                self._say(self._text, "NEXT")
            case "END":
                self._end(None)

    def _begin(self) -> None:
        given = next(self._messages, None)
        if given is None:
            self._say(b"QUIT\r\n", "END")
            return
        sender, self._recipient, self._text = given
        self._say(f"MAIL FROM:<{sender}>\r\n".encode(), "RCPT")

    def _say(self, octets: bytes, then: str) -> None:
        self._next = then
        self._transport.write(octets)

    def _end(self, error: Exception | None) -> None:
        self._transport.close()
        self._ended(error)
        self._ended = lambda _: None

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or Refused(f"hung up before {self._next}"))


async def connect(port: int, client: int, protocol: Callable[[], asyncio.Protocol]) -> None:
    """Open a connection from the address of a client."""
    loop = asyncio.get_running_loop()
    connection = socket.socket()
    connection.setblocking(False)
    connection.bind((client_of(client), 0))
    await loop.sock_connect(connection, ("127.0.0.1", port))
    await loop.create_connection(protocol, sock=connection)


async def session(port: int, client: int, messages: Iterator[tuple[str, str, bytes]]) -> None:
    """One whole session. Raises `Refused`, or OSError."""
    over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ended(error: Exception | None) -> None:
        if not over.done():
            over.set_result(None) if error is None else over.set_exception(error)

    await connect(port, client, lambda: Client(messages, ended))
    await over


def made(count: int, first: int, octets: int) -> list[tuple[str, str, bytes]]:
    """Messages with their envelopes, made before the clock runs."""
    named = enumerate(zip(range(count), envelopes(first), strict=False), first)
    return [(sender, to, message(sender, to, number, octets)) for number, (_, (sender, to)) in named]


async def load(
    port: int, messages: list[tuple[str, str, bytes]], sessions: int, per_connection: int, first: int
) -> None:
    """Send all of them, so many sessions at once."""
    parts = iter(
        enumerate([messages[at : at + per_connection] for at in range(0, len(messages), per_connection)], first)
    )

    async def one_after_another() -> None:
        for number, part in parts:
            await session(port, number, iter(part))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(sessions):
            tasks.create_task(one_after_another())


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.smtp_load")
    for name, default in {"port": None, "messages": None, "sessions": 20, "per-connection": 1, "octets": 2_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default, required=default is None)
    parser.add_argument("--first", type=int, default=0, help="number of the first client")
    parser.add_argument("--within", type=float, default=120.0, help="seconds that it may take")
    return parser.parse_args()


def main() -> None:
    """Run as a command."""
    given = _arguments()
    messages = made(given.messages, given.first, given.octets)
    sending = load(given.port, messages, given.sessions, given.per_connection, given.first)
    begun, cpu = time.perf_counter(), time.process_time()
    asyncio.run(asyncio.wait_for(sending, given.within))
    seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu}))


if __name__ == "__main__":
    main()
