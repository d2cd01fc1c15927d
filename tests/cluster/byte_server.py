"""A server that speaks bytes: for what no real one does when it is asked to, such as nonsense and half replies."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import hiredis

HANDSHAKE = {b"PING": b"+PONG\r\n", b"FUNCTION": b"+reputon\r\n", b"FCALL": b"*0\r\n"}
"""What lets a client in."""

Replies = Callable[[list[bytes]], bytes | None]
"""What a command is answered, as it goes over the wire; None hangs up."""


class ByteServer:
    """Answers each command with what it is told to."""

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.accepted = 0
        self.asked = 0
        """How many decisions were asked for."""
        self.port = 0
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.accepted += 1
        self._writers.add(writer)
        commands = hiredis.Reader()
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    self.asked += is_decision(command)
                    answer = self.replies(command)
                    if answer is None:
                        writer.close()
                        return
                    writer.write(answer)
        writer.close()

    def hang_up(self) -> None:
        """End all connections."""
        for writer in self._writers:
            writer.transport.abort()


@asynccontextmanager
async def byte_server(replies: Replies) -> AsyncIterator[ByteServer]:
    """Such a server on a free port."""
    speaking = ByteServer(replies)
    server = await asyncio.start_server(speaking.serve, "127.0.0.1", 0)
    speaking.port = server.sockets[0].getsockname()[1]
    yield speaking
    server.close()
    speaking.hang_up()
    await server.wait_closed()
    for _ in range(5):  # those who serve end
        await asyncio.sleep(0)


def is_decision(command: list[bytes]) -> bool:
    """Whether it is more than the hand-shake."""
    return command[0] == b"FCALL" and command[2] != b"0"


def polite(command: list[bytes]) -> bytes:
    """A server that lets everybody in, and allows whatever it is asked."""
    if is_decision(command):
        return b"*5\r\n:1\r\n:1700000000000000\r\n:0\r\n:1\r\n:0\r\n"
    return HANDSHAKE[command[0]]
