"""The bytes to and from one client: lines and messages in, replies out, TLS in between. Knows no command.

A large message goes into a file of the `Spool` while it comes in. A message has a time limit as a whole, and another
for each block of it, so that nobody waits for a client that is gone as long as for a slow one.
"""

import asyncio
import ssl
from contextlib import suppress

from smtp_frontend.inbox import MAX_LINE_LENGTH, Inbox, Message
from smtp_frontend.reply import Reply
from smtp_frontend.spool import Spool
from smtp_frontend.time_limit import TimeLimit

READ_BYTES = 65_536
DATA_BLOCK_SECONDS = 180.0
"""RFC 5321 section 4.5.3.2.5: between two blocks of a message."""
LINGER_SECONDS = 1.0
CLOSE_SECONDS = 5.0


class ClientGone(Exception):
    """The client has hung up, or the connection is broken."""


class _Late(OSError):
    """A command has not come in time; whoever reads is told so."""


class Wire:
    """One client's connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        send_seconds: float,
        *,
        spool: Spool | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._send_seconds = send_seconds
        self._spool = spool or Spool()
        self._inbox = Inbox()
        self._limit = TimeLimit(lambda: self._reader.set_exception(_Late()))
        self.gone = asyncio.Event()
        """Set when the connection is lost, so that nobody sleeps for a client that has left."""

    @property
    def has_unread(self) -> bool:
        """Whether the client has said something that was not read yet."""
        return len(self._inbox) > 0 or bool(self._reader._buffer)  # type: ignore[attr-defined] # off the socket, not by us

    async def line(self, timeout_seconds: float, max_length: int = MAX_LINE_LENGTH) -> bytes:
        """The next command. Raises `BadLine`, `ClientGone`, or TimeoutError when it does not come in time."""
        if (line := self._inbox.line(max_length)) is not None:
            return line
        with self._limit.of(timeout_seconds):
            while (line := self._inbox.line(max_length)) is None:
                await self._read()
        return line

    async def message(self, max_bytes: int, timeout_seconds: float) -> Message:
        """The text of a message, after 354. Raises `ClientGone`, or TimeoutError for the whole of it or a block."""
        loop, inbox, file = asyncio.get_running_loop(), self._inbox, self._spool.file()
        inbox.begin_message()
        end = loop.time() + timeout_seconds
        async with asyncio.timeout_at(end) as limit:
            while (message := inbox.message(max_bytes)) is None:
                if file.wants(inbox.collected) and not await file.write(inbox.take()):
                    inbox.give_up()
                limit.reschedule(min(end, loop.time() + DATA_BLOCK_SECONDS))
                await self._read()
            limit.reschedule(end)
            return await file.whole(message)

    async def _read(self) -> None:
        try:
            data = await self._reader.read(READ_BYTES)
        except _Late:
            raise TimeoutError from None
        except OSError as error:
            raise ClientGone from error
        if not data:
            raise ClientGone
        self._inbox.feed(data)

    async def send(self, reply: Reply) -> None:
        """Write a reply. Raises `ClientGone`, also when the client does not read what it is told."""
        transport = self._writer.transport
        self._writer.write(b"".join(reply.lines()))
        if not transport.get_write_buffer_size() and not transport.is_closing():
            return  # the machine has taken all of it
        try:
            async with asyncio.timeout(self._send_seconds):
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
            self._writer.transport.abort()
            raise ClientGone from error

    def hang_up(self) -> None:
        """Close after what was written has been sent; whoever reads hears that the client has gone."""
        self._writer.close()

    async def close(self) -> None:
        """Close after what was written has been sent, or after a few seconds.

        What the client still sends is thrown away for a moment: a socket that is closed with octets unread
        resets the connection, and our last answer may be lost with it.
        """
        self._limit.close()
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
