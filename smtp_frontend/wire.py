"""The bytes to and from one client: lines and messages in, replies out, TLS in between. Knows no command."""

import asyncio
import ssl
from contextlib import suppress

from smtp_frontend.inbox import Inbox, Message
from smtp_frontend.reply import Reply

READ_BYTES = 65_536
LINGER_SECONDS = 1.0
CLOSE_SECONDS = 5.0


class ClientGone(Exception):
    """The client has hung up, or the connection is broken."""


class Wire:
    """One client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, send_seconds: float) -> None:
        self._reader = reader
        self._writer = writer
        self._send_seconds = send_seconds
        self._inbox = Inbox()
        self.gone = asyncio.Event()
        """Set when the connection is lost, so that nobody sleeps for a client that has left."""

    async def line(self, timeout_seconds: float) -> bytes:
        """The next command. Raises `BadLine`, `ClientGone`, or TimeoutError when it does not come in time."""
        async with asyncio.timeout(timeout_seconds):
            while (line := self._inbox.line()) is None:
                await self._read()
        return line

    async def message(self, max_bytes: int, timeout_seconds: float) -> Message:
        """The text of a message, after 354. Raises `ClientGone`, or TimeoutError for the whole of it."""
        self._inbox.begin_message()
        async with asyncio.timeout(timeout_seconds):
            while (message := self._inbox.message(max_bytes)) is None:
                await self._read()
        return message

    async def _read(self) -> None:
        try:
            data = await self._reader.read(READ_BYTES)
        except OSError as error:
            raise ClientGone from error
        if not data:
            raise ClientGone
        self._inbox.feed(data)

    async def send(self, reply: Reply) -> None:
        """Write a reply. Raises `ClientGone`, also when the client does not read what it is told."""
        try:
            async with asyncio.timeout(self._send_seconds):
                self._writer.write(b"".join(reply.lines()))
                await self._writer.drain()
        except OSError as error:  # TimeoutError is one
            self._writer.transport.abort()
            raise ClientGone from error

    async def start_tls(self, context: ssl.SSLContext, timeout_seconds: float) -> None:
        """Take the connection into TLS. Raises `ClientGone` when the handshake fails.

        What the client sent in the clear behind STARTTLS is forgotten, or it would be taken for commands
        that came encrypted (RFC 3207 section 4.2).
        """
        self._inbox.clear()
        self._reader._buffer.clear()  # type: ignore[attr-defined] # bytes read off the socket, not yet by us
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._writer.start_tls(context)
        except (OSError, ssl.SSLError, TimeoutError) as error:
            raise ClientGone from error

    def hang_up(self) -> None:
        """Close after what was written has been sent; whoever reads hears that the client has gone."""
        self._writer.close()

    async def close(self) -> None:
        """Close after what was written has been sent, or after a few seconds.

        What the client still sends is thrown away for a moment: a socket that is closed with octets unread
        resets the connection, and our last answer may be lost with it.
        """
        with suppress(OSError):  # TimeoutError is one
            async with asyncio.timeout(LINGER_SECONDS):
                if self._writer.can_write_eof():
                    self._writer.write_eof()
                    while await self._reader.read(READ_BYTES):
                        pass
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()
