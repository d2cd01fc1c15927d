"""A client that insists on legal answers."""

import asyncio
import re
import socket
import ssl
import struct
from dataclasses import dataclass

from smtp_frontend.rehearsal import expectations
from smtp_frontend.rehearsal.expectations import Surprise
from smtp_frontend.reply import MAX_LINE_OCTETS

LEGAL_LINE = re.compile(rb"[2-5][0-9]{2}[ -][\x20-\x7e]*\r\n")
"""RFC 5321 section 4.2: code, mark, printable text, CRLF."""


@dataclass(frozen=True)
class Reply:
    """One answer of the server, all of its lines, without their ends."""

    lines: tuple[str, ...]

    @property
    def code(self) -> int:
        return int(self.lines[0][:3])

    def __str__(self) -> str:
        return " / ".join(self.lines)


class Client:
    """One connection to the front end. Every answer is checked to be a legal one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, octets: bytes) -> None:
        """Put octets on the wire as they are."""
        self.writer.write(octets)
        await self.writer.drain()

    async def say(self, line: str) -> None:
        await self.send(line.encode() + b"\r\n")

    async def line(self) -> str:
        """The next line of an answer; empty when the connection is closed."""
        try:
            async with asyncio.timeout(expectations.PATIENCE_SECONDS):
                octets = await self.reader.readline()
        except TimeoutError:
            raise Surprise(f"nothing within {expectations.PATIENCE_SECONDS:g} s") from None
        except ConnectionError:
            return ""
        if not octets:
            return ""
        if not LEGAL_LINE.fullmatch(octets) or len(octets) > MAX_LINE_OCTETS:
            raise Surprise(f"not a legal reply line: {octets!r}")
        return octets[:-2].decode("ascii")

    async def reply(self) -> Reply:
        """The next answer, whole."""
        lines = [await self.line()]
        if not lines[0]:
            raise Surprise("closed, and not answered")
        while lines[-1][3] == "-":
            lines.append(await self.line())
            if lines[-1][:3] != lines[0][:3]:
                raise Surprise(f"codes differ: {lines}")
        return Reply(tuple(lines))

    async def ask(self, line: str) -> Reply:
        """Send one command and read its answer."""
        await self.say(line)
        return await self.reply()

    async def greeting(self) -> Reply:
        return await self.reply()

    async def begin(self, *recipients: str, sender: str = "alice@example.com") -> list[Reply]:
        """From the greeting to the recipients."""
        await self.greeting()
        await self.ask("EHLO client.example.com")
        return await self.transaction(*recipients, sender=sender)

    async def transaction(self, *recipients: str, sender: str = "alice@example.com") -> list[Reply]:
        """MAIL and RCPT."""
        return [await self.ask(f"MAIL FROM:<{sender}>"), *[await self.ask(f"RCPT TO:<{r}>") for r in recipients]]

    async def message(self, content: bytes = b"Subject: hello\r\n\r\nhello\r\n") -> Reply:
        """DATA, and the message; `content` ends in CRLF and is stuffed here."""
        if (ready := await self.ask("DATA")).code != 354:
            raise Surprise(f"{ready}")
        await self.send(content.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return await self.reply()

    async def closed(self) -> bool:
        """Whether the server closes the connection and says nothing more; then the client closes it, too."""
        if await self.line():
            return False
        await self.hang_up()
        return True

    async def start_tls(self) -> None:
        """The handshake, after the server's 220."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with asyncio.timeout(expectations.PATIENCE_SECONDS):
            await self.writer.start_tls(context)

    def half_close(self) -> None:
        """Say that nothing more will be sent (a FIN), and go on reading."""
        self.writer.write_eof()

    def reset(self) -> None:
        """Hang up with a TCP RST."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang_up(self) -> None:
        self.writer.close()
        try:
            async with asyncio.timeout(expectations.PATIENCE_SECONDS):
                await self.writer.wait_closed()
        except OSError:
            pass
