"""Servers that are of no use: those that say nothing, and those that say the wrong thing."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager


class BadServer:
    """What it has heard, and how often it was connected to."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.connections = 0
        self.heard = b""


@asynccontextmanager
async def bad_server(
    says: Sequence[bytes] = (), *, after_lines: Sequence[int] = range(99), port: int = 0, hangs_up: bool = False
) -> AsyncIterator[BadServer]:
    """A server that says each of `says` when it has heard so many lines; then nothing, or hangs up."""
    seen = BadServer(port)
    open_writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections += 1
        open_writers.add(writer)
        try:
            lines = 0
            for wanted, each in zip(after_lines, says, strict=False):
                while lines < wanted:
                    heard = await reader.readline()
                    seen.heard += heard
                    lines += 1
                writer.write(each)
            while not hangs_up and (more := await reader.read(65_536)):
                seen.heard += more
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for writer in open_writers:
            writer.close()
        await server.wait_closed()
