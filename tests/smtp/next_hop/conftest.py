"""One peer of each kind: what a next hop needs to deliver to, and what has arrived there."""

import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from smtp_frontend.next_hop import NextHop, open_next_hop
from smtp_frontend.rehearsal.next_hop import Message, ScriptedHop

HOSTNAME = "mx.example.net"
PATIENT_SECONDS = 5.0
"""For tests in which nothing hangs: never reached."""
HASTY_SECONDS = 0.2
"""For tests in which something hangs for ever."""


def open_patiently(url: str) -> NextHop:
    return open_next_hop(url, hostname=HOSTNAME, timeout_seconds=PATIENT_SECONDS, pause_seconds=0)


def open_hastily(url: str) -> NextHop:
    return open_next_hop(url, hostname=HOSTNAME, timeout_seconds=HASTY_SECONDS, pause_seconds=0)


@dataclass(frozen=True)
class Peer:
    """A next hop of some kind, and a look at what it has taken over."""

    next_hop: NextHop
    messages: Callable[[], list[Message]]


def messages_in(maildir: Path) -> list[Message]:
    """The new messages of a Maildir, as the SMTP ones are recorded."""
    return [read_message(path.read_bytes()) for path in sorted((maildir / "new").glob("*"))]


def read_message(content: bytes) -> Message:
    fields, rest = [], content
    while rest.startswith((b"Return-Path: ", b"Delivered-To: ")):
        line, _, rest = rest.partition(b"\n")
        fields.append(line.decode().split(": ", 1)[1])
    assert b"\r" not in rest
    return Message(
        sender=fields[0][1:-1],
        parameters=(),
        recipients=tuple(fields[1:]),
        content=rest.replace(b"\n", b"\r\n"),
    )


EXTENSIONS = ("SIZE 10000000", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


@pytest.fixture(
    params=["smtp-tcp", "smtp-unix", "smtp-pipelining", "lmtp-tcp", "lmtp-pipelining", "lmtp-unix", "maildir"]
)
async def peer(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Peer]:
    """Each kind of next hop, ready to take mail."""
    if request.param == "maildir":
        yield Peer(open_patiently(f"maildir:{tmp_path / 'mail'}"), lambda: messages_in(tmp_path / "mail"))
        return
    scheme, transport = request.param.split("-")
    with tempfile.TemporaryDirectory(prefix="hop") as directory:  # tmp_path may be too long for a socket
        path = Path(directory) / "s" if transport == "unix" else None
        extensions = [*EXTENSIONS, *["PIPELINING"] * (transport == "pipelining")]
        async with ScriptedHop(lmtp=scheme == "lmtp", socket_path=path, extensions=extensions) as hop:
            yield Peer(open_patiently(hop.url), lambda: hop.messages)
