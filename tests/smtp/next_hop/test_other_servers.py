"""Against servers that others wrote, so that our client and our test server cannot share a misunderstanding."""

import asyncio
import contextlib
import os
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope
from aiosmtpd.smtp import Session as PeerSession

from smtp_frontend.next_hop import MailOptions
from tests.smtp.next_hop.conftest import open_patiently

ALICE, BOB = "alice@example.org", "bob@example.com"
CONTENT = b"Subject: dots\r\n\r\n.\r\n..\r\n.a\r\n\r\n" + b"." * 900 + b"\r\n" + b"8-bit \xc3\xa9\r\n.\r\n"
SMTP_SINK = shutil.which("smtp-sink", path="/usr/sbin:/usr/lib/postfix/sbin:/usr/bin")


class Recorder:
    """An aiosmtpd handler."""

    def __init__(self) -> None:
        self.envelopes: list[Envelope] = []

    async def handle_DATA(self, server: SMTP, session: PeerSession, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's name
        self.envelopes.append(envelope)
        return "250 2.0.0 Queued"


@pytest.mark.parametrize(("scheme", "peer"), [("smtp", SMTP), ("lmtp", LMTP)])
async def test_aiosmtpd(scheme: str, peer: type[SMTP]) -> None:
    recorder = Recorder()
    loop = asyncio.get_running_loop()
    servers: list[SMTP] = []

    def serve() -> SMTP:
        servers.append(peer(recorder, hostname="peer.example", enable_SMTPUTF8=True, loop=loop))
        return servers[-1]

    server = await loop.create_server(serve, "127.0.0.1", 0)
    connection = open_patiently(f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}").connect()
    options = MailOptions(declared_bytes=len(CONTENT), eight_bit=True, smtputf8=True)
    for sender in (ALICE, "", "jörg@example.org"):
        assert (await connection.mail(sender, options)).positive
        assert (await connection.rcpt(BOB)).positive
        assert (await connection.data([CONTENT])).positive
    await connection.close()
    server.close()
    await server.wait_closed()
    assert [(envelope.mail_from, envelope.rcpt_tos) for envelope in recorder.envelopes] == [
        (ALICE, [BOB]),
        ("<>", [BOB]),  # how aiosmtpd spells the null path
        ("jörg@example.org", [BOB]),
    ]
    assert all(envelope.content == CONTENT for envelope in recorder.envelopes)


@contextlib.asynccontextmanager
async def smtp_sink(directory: Path, *options: str) -> AsyncIterator[str]:
    """Postfix' test server, writing each message to a file; gives HOST:PORT."""
    assert SMTP_SINK
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    user = ["-u", "root"] * (os.getuid() == 0)  # it will not run as root without being told so
    process = await asyncio.create_subprocess_exec(
        SMTP_SINK, *options, *user, "-d", f"{directory}/message.", f"127.0.0.1:{port}", "10"
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                break
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        await process.wait()


def contents(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.iterdir()]


@pytest.mark.skipif(not SMTP_SINK, reason="not installed: apt-get install -y postfix")
@pytest.mark.parametrize(("scheme", "options"), [("smtp", []), ("lmtp", ["-L"]), ("smtp", ["-e"])])
async def test_smtp_sink(scheme: str, options: list[str], tmp_path: Path) -> None:
    async with smtp_sink(tmp_path, *options) as where:
        connection = open_patiently(f"{scheme}://{where}").connect()
        for _ in range(3):
            assert (await connection.mail(ALICE)).positive
            assert (await connection.rcpt(BOB)).positive
            assert (await connection.data([CONTENT])).positive
        await connection.close()
    written = contents(tmp_path)
    assert len(written) == 3
    assert all(content.rstrip(b"\n").endswith(CONTENT.replace(b"\r\n", b"\n").rstrip(b"\n")) for content in written)
