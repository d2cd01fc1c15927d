"""One question to a server that answers and hangs up: over TCP or a unix socket.

What it says is heard while we still speak, and is the answer even where the connection breaks: a scanner that has heard
enough says so, hangs up, and hears no more. (So these are bare sockets: a transport of asyncio whose write fails throws
away what has come, and every twentieth word of clamd's that a message is too long was lost.) The question comes in
pieces and is not joined; pieces are copies, so that nobody holds on to a message that is a mapped file.
"""

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress

from reputation.events import Content
from reputation.lookups.filters.address import Address

PIECE_OCTETS = 65_536
MAX_ANSWER_OCTETS = 65_536
"""What is beyond is not read: spamd names the tests that hit, clamd one signature."""


def pieces_of(content: Content) -> Iterator[bytes]:
    """A message, piece by piece."""
    for start in range(0, len(content), PIECE_OCTETS):
        yield content[start : start + PIECE_OCTETS]


async def converse(address: Address, question: Iterable[bytes]) -> bytes:
    """What the server says until it hangs up. Raises OSError where there is none; waits for as long as it takes."""
    with await _connected(address) as connection:
        saying = asyncio.create_task(_say(connection, question), name="content filter: question")
        try:
            return await _hear(connection)
        finally:
            saying.cancel()
            await asyncio.wait([saying])


async def _connected(address: Address) -> socket.socket:
    loop = asyncio.get_running_loop()
    if address.path:
        return await _connection(socket.AF_UNIX, address.path)
    failure = OSError("no such host")
    for family, _, _, _, place in await loop.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM):
        try:
            return await _connection(family, place)
        except OSError as error:
            failure = error
    raise failure


async def _connection(family: int, place: str | tuple[str | int | bytes, ...]) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    connection.setblocking(False)
    # What was not sent when we give up is thrown away: the kernel would hold it for a server that does not read.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    try:
        await asyncio.get_running_loop().sock_connect(connection, place)
    except BaseException:
        connection.close()
        raise
    return connection


async def _say(connection: socket.socket, question: Iterable[bytes]) -> None:
    # Who hears no more may have answered. A mapped file that is closed (ValueError) is of somebody who has given up.
    with suppress(OSError, ValueError):
        for piece in question:
            await asyncio.get_running_loop().sock_sendall(connection, piece)
            await asyncio.sleep(0)  # let others do something: there was no need to wait


async def _hear(connection: socket.socket) -> bytes:
    heard = bytearray()
    with suppress(ConnectionError):  # broken off: what it has said counts
        while len(heard) <= MAX_ANSWER_OCTETS:
            octets = await asyncio.get_running_loop().sock_recv(connection, PIECE_OCTETS)
            if not octets:
                break
            heard += octets
    return bytes(heard)
